"""Mean-field CD, perturb-and-MAP, penalties and mean-field inversion."""

import math

import pytest
import torch

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.energies import pulled_maxima


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _machine(space):
    size = space.num_dims
    weight = _random(size, size)
    return en.BoltzmannMachine(
        space, weight=(weight + weight.T).fill_diagonal_(0.0) / 4, bias=_random(size, seed=1) / 2
    )


def _negatives(objective, energy, x):
    return objective.negatives(energy, en.Batch(x), torch.Generator().manual_seed(0))[0]


def test_one_sweep_by_hand():
    """Spin after spin to tanh of its field, the earlier ones being means already."""
    machine = _machine(en.Spin(3))
    x = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]], dtype=torch.float64)
    q, coupling = x.clone(), machine.couplings().detach()
    for site in range(3):
        q[:, site] = (q @ coupling[site] + machine.bias[site].detach()).tanh()
    torch.testing.assert_close(_negatives(en.MeanFieldCD(), machine, x), q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", [en.Spin(5), en.Binary(5)])
def test_many_sweeps_end_at_a_stationary_point_of_the_mean_field_free_energy(space):
    machine = _machine(space)
    x = space.start(4, torch.Generator().manual_seed(2), dtype=torch.float64)
    q = _negatives(en.MeanFieldCD(300), machine, x).requires_grad_()
    up = (q + 1) / 2 if isinstance(space, en.Spin) else q
    free = machine(q) + (up * up.log() + (1 - up) * (1 - up).log()).sum(1)
    (slope,) = torch.autograd.grad(free.sum(), q)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_the_energy_at_means_is_the_mean_energy_of_independent_sites():
    machine = _machine(en.Binary(4))
    q = torch.tensor([[0.2, 0.7, 0.5, 0.9]], dtype=torch.float64)
    states, _ = integration_nodes(machine.space)
    chances = torch.where(states == 1, q, 1 - q).prod(1)
    torch.testing.assert_close(machine(q)[0], (chances * machine(states)).sum(), rtol=1e-12, atol=1e-12)


def test_its_gradient_is_the_difference_of_moments():
    machine = _machine(en.Spin(4))
    x = en.Spin(4).start(6, torch.Generator().manual_seed(2), dtype=torch.float64)
    objective = en.MeanFieldCD(2)
    q = _negatives(objective, machine, x)
    objective(machine, en.Batch(x), torch.Generator()).value.backward()
    difference = (x.T @ x - q.T @ q).fill_diagonal_(0.0) / 6
    torch.testing.assert_close(machine.weight.grad, -difference, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(machine.bias.grad, -(x - q).mean(0), rtol=1e-12, atol=1e-12)


def test_without_couplings_it_is_exact():
    """Mean field is exact for independent sites: at the fields of the data the gradient is zero."""
    x = en.Spin(3).start(50, torch.Generator().manual_seed(2), dtype=torch.float64)
    machine = en.BoltzmannMachine(en.Spin(3), bias=x.mean(0).atanh())
    en.MeanFieldCD()(machine, en.Batch(x), torch.Generator()).value.backward()
    torch.testing.assert_close(machine.bias.grad, torch.zeros(3).double(), rtol=0, atol=1e-12)


def test_hidden_units_and_categories():
    torch.manual_seed(0)
    rbm = en.RBM(4, en.Spin(3), weight_scale=0.8).double()
    x = en.Binary(4).start(5, torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = x
    for _ in range(2):
        hidden = (rbm.hidden_bias + expected @ rbm.weight).tanh()
        expected = (rbm.bias + hidden @ rbm.weight.T).sigmoid()
    torch.testing.assert_close(_negatives(en.MeanFieldCD(2), rbm, x), expected.detach(), rtol=1e-12, atol=1e-12)
    potts = en.Potts(2, [(0, 1)], num_categories=3, couplings=torch.tensor(0.7).double(), fields=_random(2, 3))
    one = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 2]])]
    q = _negatives(en.MeanFieldCD(), potts, one)[0]
    first = (potts.fields[0] + 0.7 * one[0, 1]).softmax(0)
    torch.testing.assert_close(q[0], first.detach(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(q[1], (potts.fields[1] + 0.7 * first).softmax(0).detach(), rtol=1e-7, atol=1e-7)


def test_mean_field_needs_what_it_needs():
    with pytest.raises(en.CapabilityError, match="MeanFieldCD needs an energy with Conditional"):
        _negatives(en.MeanFieldCD(), en.from_module(lambda x: x.sum(1), en.Spin(2)), torch.ones(1, 2))
    with pytest.raises(en.InputError, match="num_sweeps"):
        en.MeanFieldCD(0)


# Most likely states.


def _ferromagnet(space=None):
    edges = [(0, 1), (2, 1), (2, 3), (3, 0), (4, 2), (0, 2)]
    couplings = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    return en.Ising(6, edges, couplings=couplings, fields=_random(6) / 2)


def _bits():
    weight = _random(6, 6).abs()
    return en.BoltzmannMachine(6, weight=(weight + weight.T).fill_diagonal_(0.0) / 4, bias=-1 + _random(6, seed=1))


@pytest.mark.parametrize("make", [_ferromagnet, _bits])
def test_the_cut_is_the_maximum_over_all_states(make):
    energy = make()
    states, _ = integration_nodes(energy.space)
    pull = 2 * _random(200, 6, 2, seed=4)
    up = (states > 0).long()
    level = torch.stack([one[torch.arange(6), up].sum(1) for one in pull]) - energy(states).detach()
    expected = states[level.argmax(1)]
    assert len(expected.unique(dim=0)) > 10
    for solver in ("enumeration", "cut"):
        assert torch.equal(pulled_maxima(energy, pull, solver=solver), expected)


def test_categories_are_listed():
    mrf = en.PairwiseMRF(3, [(0, 1), (1, 2)], num_categories=3, edge_tables=_random(2, 3, 3))
    states, _ = integration_nodes(mrf.space)
    pull = _random(20, 3, 3, seed=2)
    level = (states.unsqueeze(0) * pull.unsqueeze(1)).flatten(2).sum(2) - mrf(states).detach()
    assert torch.equal(pulled_maxima(mrf, pull), states[level.argmax(1)])


def test_what_no_cut_finds_is_refused():
    frustrated = en.Ising(20, [(i, i + 1) for i in range(19)], couplings=torch.tensor([1.0, -1.0, -0.5] + 16 * [0.3]))
    with pytest.raises(en.CapabilityError, match="favour agreement, but 2 of 19"):
        pulled_maxima(frustrated, torch.zeros(1, 20, 2), solver="cut")
    with pytest.raises(en.InputError, match="at most 2\\^16"):
        pulled_maxima(frustrated, torch.zeros(1, 20, 2), solver="enumeration")
    potts = en.Potts(20, [(0, 1)], num_categories=3, couplings=0.1)
    with pytest.raises(en.CapabilityError, match="has categories"):
        pulled_maxima(potts, torch.zeros(1, 20, 3), solver="cut")
    with pytest.raises(en.InputError, match="solver must be one of auto, enumeration, cut, elimination"):
        pulled_maxima(potts, torch.zeros(1, 20, 3), solver="guess")
    wide = en.BoltzmannMachine(en.Binary(40), weight=torch.eye(40) - torch.ones(40, 40))
    with pytest.raises(en.InputError, match="width 39"):
        pulled_maxima(wide, torch.zeros(1, 40, 2))
    with pytest.raises(en.InputError, match="pull has shape"):
        pulled_maxima(potts, torch.zeros(1, 20, 2))
    with pytest.raises(en.CapabilityError, match="minimum cut needs an energy with Pairwise"):
        pulled_maxima(en.from_module(lambda x: x.sum(1), en.Spin(20)), torch.zeros(1, 20, 2))


def test_perturbed_maxima_of_independent_sites_are_exact_draws():
    natural = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
    for space, mean in ((en.Binary(3), natural.sigmoid()), (en.Spin(3), natural.tanh())):
        x = _negatives(en.PerturbAndMAP(40_000), en.Independent(space, natural), torch.zeros(1, 3).double())
        error = x.std(0) / math.sqrt(len(x))
        assert bool(((x.mean(0) - mean).abs() < 4 * error).all())
        assert bool((torch.corrcoef(x.T) - torch.eye(3)).abs().max() < 0.02)


def test_perturbed_maxima_of_two_spins():
    """s s' of the maximum of J s s' + (d s + d' s') / 2, d and d' logistic: not tanh J but its own integral."""
    coupling = 0.8
    pair = en.Ising(2, [(0, 1)], couplings=torch.tensor(coupling, dtype=torch.float64))
    x = _negatives(en.PerturbAndMAP(40_000), pair, torch.zeros(1, 2).double())
    product = x.prod(1)
    quantile = torch.linspace(0.5 / 2000, 1 - 0.5 / 2000, 2000, dtype=torch.float64).logit()
    first, second = quantile.unsqueeze(0) / 2, quantile.unsqueeze(1) / 2
    agrees = coupling + (first + second).abs() > (first - second).abs() - coupling
    expected = 2 * agrees.double().mean() - 1
    assert abs(float(expected) - math.tanh(coupling)) > 0.05
    assert abs(float(product.mean() - expected)) < 4 * float(product.std()) / math.sqrt(len(x))


def test_penalties_are_added_for_the_named_parameters_alone():
    machine, batch = _machine(en.Spin(4)), en.Batch(torch.ones(1, 4).double())
    plain = en.PseudoLikelihood()(machine, batch, torch.Generator())
    loss = en.Penalised(en.PseudoLikelihood(), ["weight"], l1=0.3, l2=0.7)(machine, batch, torch.Generator())
    expected = 0.3 * machine.weight.abs().sum() + 0.7 * machine.weight.square().sum()
    torch.testing.assert_close(loss.value - plain.value, expected)
    torch.testing.assert_close(loss.metrics["penalty"], expected.detach())
    torch.testing.assert_close(loss.metrics["loss"], loss.value.detach())
    both = en.Penalised(en.PseudoLikelihood(), ["couplings"], l2=1.0)
    pair = en.Ising(2, [(0, 1)], couplings=2.0) + en.Ising(2, [(0, 1)], couplings=1.0)
    assert float(both(pair, en.Batch(torch.ones(1, 2)), torch.Generator()).metrics["penalty"]) == 5.0
    with pytest.raises(en.InputError, match="no parameter 'wait'; it has weight, bias"):
        en.Penalised(en.PseudoLikelihood(), ["wait"], l2=1.0)(machine, batch, torch.Generator())
    for wrong in ({"names": "weight", "l2": 1.0}, {"names": ["weight"]}, {"names": ["weight"], "l1": -1.0, "l2": 1.0}):
        with pytest.raises(en.InputError, match="Penalised"):
            en.Penalised(en.PseudoLikelihood(), **wrong)


@pytest.mark.parametrize(("method", "order"), [("naive", 2), ("tap", 3)])
@pytest.mark.parametrize("space", [en.Spin(4), en.Binary(4)])
def test_inversion_is_right_to_its_order(method, order, space):
    """With the exact correlations: errors of the couplings fall as their second or third power."""
    states, _ = integration_nodes(en.Spin(4))
    pattern, errors = _random(6), []
    for scale in (0.01, 0.005):
        edges = torch.combinations(torch.arange(4))
        truth = en.Ising(4, edges, couplings=scale * pattern, fields=torch.tensor([0.5, -0.3, 0.8, 0.1]).double())
        chances = (-truth(states)).softmax(0).detach()
        x = states if isinstance(space, en.Spin) else (states + 1) / 2
        found = en.mean_field_inversion(x, space, weights=chances, method=method)
        couplings = found.couplings().detach()[tuple(edges.T)] / (1 if isinstance(space, en.Spin) else 4)
        errors.append(float((couplings - scale * pattern).abs().max()))
        # And the energy of bits is that of the spins, but for a constant.
        spins = en.mean_field_inversion(states, en.Spin(4), weights=chances, method=method)
        gap = (found(x) - spins(states)).detach()
        torch.testing.assert_close(gap, gap[:1].expand_as(gap), rtol=0, atol=1e-10)
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_inversion_of_data_that_cannot_be_inverted():
    x = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    with pytest.raises(en.InputError, match="1 of 3 columns never vary, the first is 0"):
        en.mean_field_inversion(x, en.Spin(3))
    with pytest.raises(en.InputError, match="some columns determine others"):
        en.mean_field_inversion(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), en.Spin(2))
    with pytest.raises(en.InputError, match="lie outside Spin"):
        en.mean_field_inversion(torch.zeros(3, 2), en.Spin(2))
