"""Subspace machines against sums of the joint energy over all x, h and S."""

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.gradient import value_and_gradient

J, K = 2, 2
SPACES = {"bits": en.Binary(4), "spins": en.Spin((2, 2)), "categories": en.Categorical(2, num_categories=3)}


def _machine(kind="bits", scale=0.8):
    torch.manual_seed(1)
    machine = en.SubspaceRBM(SPACES[kind], J, K).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64) - 0.2)
    return machine


def _states(space):
    return space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))


def _hidden():
    """Every (h, S): h `[N, J]`, S `[N, J, K]`."""
    both = _states(en.Binary(J + J * K))
    return both[:, :J], both[:, J:].view(-1, J, K)


def _joint(machine, x, h, s):
    """E(x, h, S) `[X, N]` as in the paper."""
    x = x.flatten(1)
    third = torch.einsum("xi,ijk,nj,njk->xn", x, machine.weight, h, s)
    return (
        -third
        - (x @ machine.bias)[:, None]
        - h @ machine.hidden_bias
        - torch.einsum("jk,nj,njk->n", machine.inner_bias, h, s)
    )


@pytest.mark.parametrize("kind", SPACES)
def test_gates_and_subspace_units_are_summed_out(kind):
    machine, (h, s) = _machine(kind), _hidden()
    x = _states(machine.space)
    with torch.no_grad():
        joint = _joint(machine, x, h, s)
        torch.testing.assert_close(machine(x), -(-joint).logsumexp(1), rtol=1e-12, atol=1e-12)
        given_x = (-joint).softmax(1)
        torch.testing.assert_close(machine.transform(x), given_x @ h, rtol=1e-11, atol=1e-12)
        mean = machine.hidden.mean(machine.hidden_parameters(x))
        torch.testing.assert_close(mean[..., 1:].flatten(1), given_x @ (h[:, :, None] * s).flatten(1))
        back = machine.visible.mean(machine.visible_parameters(torch.cat([h.unsqueeze(-1), h.unsqueeze(-1) * s], -1)))
        torch.testing.assert_close(back.flatten(1), (-joint).softmax(0).T @ x.flatten(1), rtol=1e-11, atol=1e-12)
        log_z = (-joint).flatten().logsumexp(0)
    torch.testing.assert_close(en.exact_log_z(machine).value, log_z, rtol=1e-12, atol=0)


def test_formulas_of_the_paper():
    machine, x = _machine(), _states(SPACES["bits"])
    with torch.no_grad():
        a = torch.einsum("xi,ijk->xjk", x, machine.weight) + machine.inner_bias
        two = torch.tensor(2.0).double().log()
        odds = machine.hidden_bias - K * two + torch.nn.functional.softplus(a).sum(2)
        torch.testing.assert_close(machine.transform(x), odds.sigmoid())
        expected = -x @ machine.bias - (K * two + torch.nn.functional.softplus(odds)).sum(1)
        torch.testing.assert_close(machine(x), expected)


@pytest.mark.parametrize("kind", SPACES)
def test_gradient_of_the_exact_likelihood(kind):
    """Three ways: the closed form with exact negatives, autograd of the joint sum, and -log p by enumeration."""
    machine, (h, s) = _machine(kind), _hidden()
    x = _states(machine.space)
    data = x[torch.tensor([0, 3, 3, 5, 7])]
    with torch.no_grad():
        p = (-machine(x)).softmax(0)
    joint = _joint(machine, x, h, s)
    rows = _joint(machine, data, h, s)
    likelihood = (-rows).logsumexp(1).mean() - (-joint).flatten().logsumexp(0)
    wanted = [-gradient for gradient in torch.autograd.grad(likelihood, list(machine.parameters()))]
    # All states as negatives, each weighted with its probability through the difference of two contrasts.
    parts = [machine.contrast(data, x[number : number + 1])[2] for number in range(len(x))]
    found = [sum(p[n] * part[index] for n, part in enumerate(parts)) for index in range(len(wanted))]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    loss = en.ExactLikelihood()(machine, en.Batch(data), torch.Generator()).value
    torch.testing.assert_close(loss.detach(), -likelihood.detach(), rtol=1e-12, atol=0)
    for one, other in zip(torch.autograd.grad(loss, list(machine.parameters())), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradient_in_x_is_minus_the_expected_field():
    machine, x = _machine(), torch.rand(5, 4, generator=torch.Generator().manual_seed(0)).double()
    _, gradient = value_and_gradient(machine, x)
    with torch.no_grad():
        field = machine.visible_parameters(machine.hidden.mean(machine.hidden_parameters(x)))
    torch.testing.assert_close(gradient, -field)


def test_draws_of_the_hidden_side():
    """Gates and the units behind open ones against their joint distribution."""
    machine, (h, s) = _machine(), _hidden()
    x = _states(machine.space)[5:6]
    with torch.no_grad():
        joint = (-_joint(machine, x, h, s)).softmax(1)[0]
        natural = machine.hidden_parameters(x).expand(40_000, -1, -1)
    uniform = torch.rand(natural.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    drawn = machine.hidden.from_natural(natural, uniform)
    statistic = torch.cat([h.unsqueeze(-1), h.unsqueeze(-1) * s], -1)
    code = 2.0 ** torch.arange(J * (1 + K)).double()
    codes, place = (statistic.flatten(1) @ code).unique(return_inverse=True)
    p = torch.zeros(len(codes)).double().index_add_(0, place, joint)
    counts = torch.bincount(torch.searchsorted(codes, drawn.flatten(1) @ code), minlength=len(codes))
    assert len(codes) == (1 + 2**K) ** J
    assert stats.chisquare(counts.numpy(), (40_000 * p).numpy()).pvalue > 3e-7


def test_annealing_finds_log_z():
    machine = _machine(scale=1.2)
    exact = en.exact_log_z(machine).value
    lower = en.ais(machine, num_chains=400, levels=200, generator=1)
    assert lower.standard_error < 0.02
    assert (lower.value - exact).abs() < 5 * lower.standard_error
    draws = en.Enumerated(machine).sample_exact(400, torch.Generator().manual_seed(4))
    upper = en.reverse_ais(machine, draws, levels=200, generator=1)
    assert (upper.value - exact).abs() < 5 * upper.standard_error


@pytest.mark.slow
def test_training_reaches_the_exact_optimum_of_its_own_data():
    """Persistent chains learn a distribution that the machine can hold: KL below a hundredth of a nat."""
    teacher = _machine(scale=1.5)
    data = en.Enumerated(teacher).sample_exact(4000, torch.Generator().manual_seed(0)).float()
    torch.manual_seed(0)
    machine = en.SubspaceRBM(4, J, K, mean=data.mean(0), weight_scale=0.1)
    objective = en.PersistentCD(en.BlockGibbs(), 2, num_chains=200)
    en.fit(
        machine, objective, data, num_steps=600, batch_size=200, average_decay=0.99,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.02), progress=False,
    )  # fmt: skip
    x = _states(machine.space)
    with torch.no_grad():
        p, q = (-teacher(x)).log_softmax(0), (-machine(x.float())).double().log_softmax(0)
        start = data.mean(0).double()
        independent = (x * start.log() + (1 - x) * (1 - start).log()).sum(1)
    assert float((p.exp() * (p - q)).sum()) < 0.01
    assert float((p.exp() * (p - independent)).sum()) > 0.05


def test_wrong_arguments_say_what_would_be_right():
    with pytest.raises(en.InputError, match="SpikeAndSlabRBM"):
        en.SubspaceRBM(en.Real(3), 2, 2)
    with pytest.raises(en.InputError, match="num_behind must be an integer of at least 1"):
        en.SubspaceRBM(3, 2, 0)
