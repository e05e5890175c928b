"""Unbiased contrastive divergence: its mean gradient is the likelihood's, that of CD-1 is not."""

import math

import pytest
import torch

import energeia as en
from energeia.core.nodes import integration_nodes


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _rbm(centred=False):
    torch.manual_seed(1)
    rbm = en.RBM(4, 3, weight_scale=2.5, centred=centred).double()
    with torch.no_grad():
        rbm.bias += torch.linspace(-1, 1, 4)
        rbm.hidden_bias += torch.linspace(-0.5, 1, 3)
    return rbm


def _mrf():
    return en.PairwiseMRF(
        3, [(0, 1), (1, 2)], num_categories=3, site_tables=_random(3, 3), edge_tables=_random(2, 3, 3, seed=1)
    )


def _ising():
    edges = [(0, 1), (1, 2), (2, 0), (3, 2)]
    return en.Ising(4, edges, couplings=_random(4) / 2, fields=_random(4, seed=1) / 2)


def _pair():
    weight = torch.tensor([[0.0, 0.5], [0.5, 0.0]], dtype=torch.float64)
    return en.BoltzmannMachine(2, weight=weight, bias=torch.tensor([1.2, -1.5], dtype=torch.float64))


# The model, the sampler, and (k, m, repetitions): samplers of which chains meet late need steps to be little noisy.
CASES = {
    "rbm": (_rbm, en.BlockGibbs(), [(0, 1, 80), (1, 3, 40)]),
    "rbm, centred": (lambda: _rbm(True), en.BlockGibbs(), [(0, 1, 80)]),
    "categories": (_mrf, en.Gibbs(), [(0, 1, 40), (1, 3, 40)]),
    "spins, Gibbs": (_ising, en.Gibbs(), [(0, 1, 40), (2, 4, 40)]),
    "bits, Metropolis": (_pair, en.Metropolis(), [(8, 20, 30)]),
    "bits, gradients": (_pair, en.GibbsWithGradients(), [(8, 20, 30)]),
}


def _rows(energy, copies=40):
    """Rows far from the model: some states only."""
    states, _ = integration_nodes(energy.space)
    return states[[0, 1, len(states) // 2, len(states) // 2, len(states) - 1]].repeat(copies, *[1] * (states.dim() - 1))


def _gradient(objective, energy, rows, generator):
    value = objective(energy, en.Batch(rows), generator).value
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(energy.parameters()))])


def _mean_and_error(objective, energy, rows, repeats):
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([_gradient(objective, energy, rows, generator) for _ in range(repeats)])
    return found.mean(0), found.std(0) / math.sqrt(repeats)


@pytest.mark.parametrize("name", CASES)
def test_mean_gradient_is_that_of_the_likelihood(name):
    make, sampler, plans = CASES[name]
    energy = make()
    rows = _rows(energy, 40 if len(plans) > 1 or "rbm" in name else 15)
    exact = _gradient(en.ExactLikelihood(), energy, rows, torch.Generator())
    for burn_in, num_steps, repeats in plans:
        objective = en.UnbiasedCD(sampler, burn_in=burn_in, num_steps=num_steps).eval()
        mean, error = _mean_and_error(objective, energy, rows, repeats)
        assert bool(((mean - exact).abs() < 5 * error + 1e-12).all())
        assert error.norm() < 0.12 * exact.norm()


@pytest.mark.parametrize("name", CASES)
def test_the_same_test_sees_the_bias_of_cd_1(name):
    make, sampler, _ = CASES[name]
    energy = make()
    rows = _rows(energy)
    exact = _gradient(en.ExactLikelihood(), energy, rows, torch.Generator())
    mean, error = _mean_and_error(en.ContrastiveDivergence(sampler, 1).eval(), energy, rows, 80)
    assert ((mean - exact).abs() / error)[error > 1e-9].max() > 10


def test_start_from_noise_is_unbiased_too():
    energy = _rbm()
    rows = _rows(energy)
    exact = _gradient(en.ExactLikelihood(), energy, rows, torch.Generator())
    mean, error = _mean_and_error(en.UnbiasedCD(en.BlockGibbs(), start="noise"), energy, rows, 60)
    assert bool(((mean - exact).abs() < 5 * error).all())


def test_estimate_is_the_mean_of_telescoping_sums():
    """Weights against the definition H_k = E(x_k) + sum_(k < t < T) [E(x_t) - E(y_(t-1))], from the same chains."""
    energy, sampler = _rbm(), en.BlockGibbs()
    rows = _rows(energy, 4)
    first, last, most = 1, 4, 200
    objective = en.UnbiasedCD(sampler, burn_in=first, num_steps=last)
    states, weights, meeting = objective.couple(energy, rows, torch.Generator().manual_seed(3))
    assert weights.sum().item() == pytest.approx(len(rows))
    generator = torch.Generator().manual_seed(3)
    x, y = [rows], [rows]
    ahead = behind = sampler.init(energy, rows)
    for step in range(1, most):
        noise = sampler.draw(ahead, generator)
        ahead = sampler.step(energy, ahead, noise)[0]
        x.append(ahead.x)
        if step > 1:
            behind = sampler.step(energy, behind, noise)[0]
            y.append(behind.x)
    with torch.no_grad():
        of_x, of_y = torch.stack([energy(one) for one in x]), torch.stack([energy(one) for one in y])
    met = torch.stack([(one == other).all(1) for one, other in zip(x[1:], y, strict=True)])
    assert bool(met[-1].all())
    total = torch.zeros(len(rows), dtype=torch.float64)
    for start in range(first, last + 1):
        total += of_x[start] + (of_x[start + 1 :] - of_y[start:]).sum(0)
    with torch.no_grad():
        found = (weights * energy(states)).sum()
    assert found.item() == pytest.approx((total / (last - first + 1)).sum().item(), rel=1e-12)
    # They stay together.
    assert torch.equal(meeting, met.int().argmax(0) + 1)
    assert all(bool(met[int(step) - 1 :, row].all()) for row, step in enumerate(meeting))


def test_chains_meet_as_often_as_two_distributions_of_a_bit_allow():
    """Common uniforms: one bit with probabilities p and q differs with probability |p - q|."""
    coins = torch.tensor([[0.2], [1.5]], dtype=torch.float64)
    uniform = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = (en.Binary(1).from_natural(natural.expand(200_000, 1), uniform) for natural in coins)
    wanted = (coins[0].sigmoid() - coins[1].sigmoid()).abs().item()
    share = (one != other).double().mean().item()
    assert share == pytest.approx(wanted, abs=5 * math.sqrt(wanted * (1 - wanted) / 200_000))


def test_independent_sites_meet_at_once():
    """Gibbs sampling of them forgets the state in one step: T = 2, when y has made its first step."""
    energy = en.Independent(en.Categorical(2, num_categories=3), _random(2, 3))
    rows = energy.space.start(50, torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = en.UnbiasedCD(en.Gibbs())(
        energy + en.Independent(energy.space, _random(2, 3)), en.Batch(rows), torch.Generator()
    )
    assert loss.metrics["meeting_most"].item() <= 2
    assert loss.metrics["unmet"].item() == 0


def test_chains_that_do_not_meet_are_never_passed_over():
    """Spins without couplings and fields: every change is made, in both chains, and they stay one change apart."""
    energy = en.Ising(4, [(0, 1)], couplings=torch.zeros(1).double(), fields=torch.zeros(4).double())
    rows = torch.ones(2, 4).double()
    with pytest.raises(en.DivergenceError, match="2 of 2 pairs of chains have not met after max_steps=7"):
        en.UnbiasedCD(en.Metropolis(), max_steps=7)(energy, en.Batch(rows), torch.Generator().manual_seed(0))
    told = en.UnbiasedCD(en.Metropolis(), max_steps=7, unmet="report")
    loss = told(energy, en.Batch(rows), torch.Generator().manual_seed(0))
    assert loss.metrics["unmet"].item() == 1
    assert loss.metrics["meeting_most"].item() == 8


def test_wrong_arguments():
    with pytest.raises(en.CapabilityError, match="use PersistentCD there"):
        en.UnbiasedCD(en.Langevin(step_size=0.1))(en.Gaussian(2), en.Batch(torch.zeros(2, 2)), torch.Generator())
    with pytest.raises(en.InputError, match="burn_in <= num_steps <= max_steps"):
        en.UnbiasedCD(en.Gibbs(), burn_in=6)
    with pytest.raises(en.InputError, match="replicas beside x"):
        en.UnbiasedCD(en.ParallelTempering(en.Gibbs(), (1.0, 2.0)))
    with pytest.raises(en.InputError, match="unmet"):
        en.UnbiasedCD(en.Gibbs(), unmet="ignore")
    with pytest.raises(en.InputError, match="these look like spins"):
        en.UnbiasedCD(en.BlockGibbs())(_rbm(), en.Batch(-torch.ones(2, 4).double()), torch.Generator())
