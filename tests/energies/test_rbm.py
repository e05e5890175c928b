"""Restricted Boltzmann machines against sums over all states, and gradients against their own closed forms."""

import math

import pytest
import torch

import energeia as en
from energeia import testing
from energeia.core.nodes import integration_nodes
from energeia.core.space import Enumerable

KINDS = {
    "bits": (en.Binary(4), en.Binary(3)),
    "spins and bits": (en.Spin((2, 2)), en.Binary(3)),
    "categories and spins": (en.Categorical(3, num_categories=3), en.Spin(2)),
    "bits and categories": (en.Binary(4), en.Categorical(2, num_categories=3)),
    "real and bits": (en.Real(2, start_scale=2.0), en.Binary(3)),
    "positive and bits": (en.Positive(1), en.Binary(3)),
    "bits and real": (en.Binary(4), en.Real(2)),
    "bits and positive": (en.Binary(4), en.Positive(2)),
}


def _machine(kind, *, centred=False):
    visible, hidden = KINDS[kind]
    machine = en.RBM(visible, hidden, centred=centred).double()
    generator = torch.Generator().manual_seed(len(kind))
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for offset in (machine.visible_offset, machine.hidden_offset):
            offset.copy_(torch.rand(offset.shape, generator=generator, dtype=torch.float64))
    return machine


def _nodes(space):
    """States or quadrature nodes of a side, with log weights."""
    if isinstance(space, en.Positive):
        # x = t / (1 - t): tensor Gauss-Legendre on (0, 1)
        box, log_weight = integration_nodes(en.Box(space.shape, 0.0, 1.0), 120)
        return box / (1 - box), log_weight - 2 * torch.log1p(-box).flatten(1).sum(1)
    return integration_nodes(space, 120)


def _joint_energy(machine, x, h):
    """E(v, h) `[V, H]`, written down once more."""
    v, t = x.flatten(1), h.flatten(1)
    energy = torch.zeros(len(v), len(t), dtype=torch.float64)
    seen = v
    if machine.log_variance is not None:
        variance = machine.log_variance.exp()
        seen = v / variance
        energy = energy + ((v - machine.bias).square() / (2 * variance)).sum(1, keepdim=True)
        # The square above holds -s(v)'b.
        energy = energy - seen @ machine.weight @ t.T
    else:
        energy = energy - seen @ machine.weight @ t.T - (seen @ machine.bias).unsqueeze(1)
    if not isinstance(machine.hidden_space, Enumerable):
        energy = energy + t.square().sum(1) / 2
    return energy - t @ machine.hidden_bias


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_units_are_summed_out(kind):
    machine = _machine(kind)
    (x, _), (h, log_h) = _nodes(machine.space), _nodes(machine.hidden_space)
    x = x[:: max(1, len(x) // 60)]
    with torch.no_grad():
        joint = _joint_energy(machine, x, h)
        expected = -(log_h - joint).logsumexp(1)
        torch.testing.assert_close(machine(x), expected, rtol=1e-9, atol=1e-9)
        hidden = (log_h - joint).softmax(1) @ h.flatten(1)
        torch.testing.assert_close(machine.transform(x).flatten(1), hidden, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_visible_units_given_hidden_ones(kind):
    machine = _machine(kind)
    (x, log_x), (h, _) = _nodes(machine.space), _nodes(machine.hidden_space)
    h = h[:: max(1, len(h) // 20)]
    with torch.no_grad():
        log_weight = log_x.unsqueeze(1) - _joint_energy(machine, x, h)
        expected = log_weight.softmax(0).T @ x.flatten(1)
        found = machine.visible.mean(machine.visible_parameters(h)).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "positive and bits"])
def test_log_z_is_the_sum_over_everything(kind):
    machine = _machine(kind)
    x, log_x = _nodes(machine.space)
    with torch.no_grad():
        expected = (log_x - machine(x)).logsumexp(0)
    torch.testing.assert_close(en.exact_log_z(machine).value, expected, rtol=1e-9, atol=1e-9)


def test_the_smaller_side_is_listed():
    assert en.exact_log_z(en.RBM(40, 5)).method == "enumeration of the hidden units"
    assert en.exact_log_z(en.RBM(5, 40)).method == "enumeration of the visible units"
    large = en.RBM(40, 30)
    assert large.capability(en.Tractable) is None
    with pytest.raises(en.InputError, match=r"neither side.*en\.log_z"):
        large.log_z()


@pytest.mark.parametrize("visible", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)])
@pytest.mark.parametrize("num_hidden", [2, 12])
def test_exact_draws(visible, num_hidden):
    torch.manual_seed(0)
    machine = en.RBM(visible, num_hidden, weight_scale=0.8).double()
    x, _ = _nodes(visible)
    draws = machine.sample_exact(20_000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        p = (-machine(x)).softmax(0)
    counts = (draws.flatten(1).unsqueeze(1) == x.flatten(1)).all(2).double().sum(0)
    assert ((counts - 20_000 * p).abs() < 5 * (20_000 * p * (1 - p)).sqrt()).all()


def _sides(machine):
    generator = torch.Generator().manual_seed(5)
    return tuple(machine.space.start(number, generator, dtype=torch.float64) for number in (7, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centred", [False, True])
def test_the_closed_form_is_the_gradient(kind, centred):
    machine = _machine(kind, centred=centred)
    data, negatives = _sides(machine)
    of_data, of_negatives, gradients = machine.contrast(data, negatives)
    value = machine(data).mean() - machine(negatives).mean()
    value.backward()
    torch.testing.assert_close(of_data, machine(data).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_negatives, machine(negatives).detach(), rtol=1e-12, atol=1e-12)
    for parameter, gradient in zip(machine.parameters(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-10, atol=1e-10)


def test_centred_gradients_are_those_of_centred_parameters():
    """E = -(v - m)'W(h - l) - (v - m)'b' - (h - l)'c', moved in W, b', c' and told in W, b, c."""
    machine = _machine("bits", centred=True)
    data, negatives = _sides(machine)
    _, _, (for_weight, for_bias, for_hidden) = machine.contrast(data, negatives)
    m, offset = machine.visible_offset, machine.hidden_offset
    weight = machine.weight.detach().clone().requires_grad_()
    bias = (machine.bias + weight.detach() @ offset).detach().requires_grad_()
    hidden_bias = (machine.hidden_bias + m @ weight.detach()).detach().requires_grad_()

    def energy(x):
        natural = hidden_bias + (x - m) @ weight
        return -(x - m) @ bias + natural @ offset - torch.nn.functional.softplus(natural).sum(1)

    with torch.no_grad():
        shift = energy(data) - machine(data)
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    (energy(data).mean() - energy(negatives).mean()).backward()
    torch.testing.assert_close(for_weight, weight.grad)
    # A step of eta in W, b', c' moves b = b' - W l and c = c' - W'm by:
    torch.testing.assert_close(for_bias, bias.grad - weight.grad @ offset)
    torch.testing.assert_close(for_hidden, hidden_bias.grad - m @ weight.grad)


def test_the_gradient_of_the_likelihood_vanishes_at_the_data_of_the_model():
    machine = _machine("bits")
    x, _ = _nodes(machine.space)
    with torch.no_grad():
        p = (-machine(x)).softmax(0)
    value = (p * machine(x)).sum() + (-machine(x)).logsumexp(0)
    value.backward()
    for parameter in machine.parameters():
        assert parameter.grad.abs().max() < 1e-12


def test_recentring_leaves_the_model_and_follows_the_data():
    machine = _machine("bits", centred=True)
    data = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64).expand(64, 4)
    before = machine(data[:1]).item()
    for _ in range(2000):
        machine.recentre(data)
    assert machine(data[:1]).item() == before
    torch.testing.assert_close(machine.visible_offset, data[0])
    torch.testing.assert_close(machine.hidden_offset, machine.transform(data[:1])[0])
    plain = _machine("bits")
    offset = plain.visible_offset.clone()
    plain.recentre(data)
    assert torch.equal(plain.visible_offset, offset)


def test_the_mean_of_the_data_is_where_units_begin():
    mean = torch.tensor([0.2, 0.9, 0.0, 1.0])
    machine = en.RBM(4, 3, mean=mean, weight_scale=1e-6)
    expected = mean.clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(machine.bias.detach().sigmoid(), expected)
    torch.testing.assert_close(machine.visible_offset, mean)
    real = en.RBM(en.Real(2), 3, mean=torch.tensor([1.0, -2.0]), variance=torch.tensor([4.0, 0.25]), weight_scale=1e-6)
    draws = real.sample(20_000, num_steps=1)
    assert ((draws.mean(0) - torch.tensor([1.0, -2.0])).abs() < 5 * draws.std(0) / math.sqrt(20_000)).all()
    torch.testing.assert_close(draws.var(0), torch.tensor([4.0, 0.25]), rtol=0.06, atol=0)


@pytest.mark.parametrize(
    "kind", ["bits", "categories and spins", "real and bits", "bits and real", "bits and positive"]
)
def test_block_gibbs_leaves_it_unchanged(kind):
    """Exact draws, eight steps, and the mean and variance of every coordinate and of E as in other exact draws."""
    testing.check_sampler(en.BlockGibbs(), _machine(kind), num_chains=4000, num_steps=8)


def test_sample_is_block_gibbs_sampling():
    machine = _machine("bits")
    x, _ = _nodes(machine.space)
    draws = machine.sample(20_000, num_steps=40, generator=3)
    with torch.no_grad():
        p = (-machine(x)).softmax(0)
    counts = (draws.unsqueeze(1) == x).all(2).double().sum(0)
    assert ((counts - 20_000 * p).abs() < 5 * (20_000 * p).sqrt()).all()


def test_persistent_chains_learn_a_small_distribution():
    """Exact negatives would give the maximum of the likelihood; the chains must come near it."""
    rows = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    data = rows[torch.tensor([0] * 5 + [1] * 3 + [2] * 2)].repeat(20, 1)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    torch.manual_seed(0)
    machine = en.RBM(4, 4, mean=data.mean(0))
    en.fit(
        machine,
        en.PersistentCD(en.BlockGibbs(), 2, num_chains=200),
        data,
        num_steps=1500,
        batch_size=200,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.2),
    )
    assert -en.log_likelihood(machine, data).mean < entropy + 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: en.RBM(en.Box(3), 2), "one of the spaces Binary"),
        (lambda: en.RBM(3, 0), "at least 1"),
        (lambda: en.RBM(3, 2, mean=torch.zeros(4)), r"event shape \(3,\)"),
        (lambda: en.RBM(3, 2, mean=torch.full((3,), float("nan"))), "finite"),
        (lambda: en.RBM(3, 2, variance=torch.ones(3)), "Real and Positive"),
        (lambda: en.RBM(3, 2, weight_scale=0.0), "weight_scale"),
        (lambda: en.RBM(3, 2).transform(torch.full((1, 3), 7.0)), "lie outside Binary"),
        (lambda: en.RBM(3, 2).recentre(torch.zeros(1, 3), rate=2.0), "between 0 and 1"),
        (lambda: en.RBM(3, 2).sample(0), "at least 1"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(make, message):
    with pytest.raises(en.InputError, match=message):
        make()
