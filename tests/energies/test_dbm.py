"""Deep Boltzmann machines against enumeration of all their layers."""

import itertools
import math

import pytest
import torch

import energeia as en
from energeia import testing


def _machine(sizes=(3, 4, 2, 3), scale=1.0, seed=0, **options):
    """An asymmetric machine: all parameters random."""
    torch.manual_seed(seed)
    machine = en.DBM(sizes[0], sizes[1:], **options).double()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return machine


def _bits(size):
    return en.Binary(size).enumerate(0, 2**size, dtype=torch.float64, device=torch.device("cpu"))


def _table(machine):
    """-E of all states of all layers `[2^n_0, 2^n_1, ...]`, written out by hand."""
    joint = machine.joint
    table = torch.zeros([2**size for size in joint.sizes], dtype=torch.float64)
    for states in itertools.product(*[range(2**size) for size in joint.sizes]):
        layers = [_bits(size)[state] for size, state in zip(joint.sizes, states, strict=True)]
        own = sum((bias @ layer for bias, layer in zip(joint.biases, layers, strict=True)), torch.zeros(()))
        pairs = zip(layers, joint.weights, layers[1:], strict=False)
        table[states] = own + sum(below @ weight @ above for below, weight, above in pairs)
    return table.detach()


SIZES = [(3, 2), (3, 2, 3), (3, 4, 2), (2, 3, 2, 2)]


@pytest.mark.parametrize("sizes", SIZES)
def test_energies_are_sums_over_layers(sizes):
    machine = _machine(sizes)
    table = _table(machine)
    hidden = tuple(range(1, len(sizes)))
    torch.testing.assert_close(-machine(_bits(sizes[0])), table.logsumexp(hidden), rtol=1e-10, atol=1e-10)
    odd = tuple(range(1, len(sizes), 2))
    even = [sizes[layer] for layer in range(0, len(sizes), 2)]
    rows = torch.stack(
        [torch.cat([_bits(n)[s] for n, s in zip(even, states, strict=True)])
         for states in itertools.product(*[range(2**n) for n in even])]
    )  # fmt: skip
    torch.testing.assert_close(-machine.joint(rows), table.logsumexp(odd).flatten(), rtol=1e-10, atol=1e-10)
    for energy in (machine, machine.joint, machine.joint.as_rbm()):
        log_z = table.flatten().logsumexp(0)
        torch.testing.assert_close(en.exact_log_z(energy).value, log_z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(machine.joint.as_rbm()(rows), machine.joint(rows), rtol=1e-10, atol=1e-10)


def test_conditionals_of_both_sides():
    machine = _machine((2, 3, 2, 2))
    joint, p = machine.joint, _table(machine).exp()
    # Given h_1 = state 5 and h_3 = state 1, the bits of v and of h_2 are independent.
    odd = torch.cat([_bits(3)[5], _bits(2)[1]]).unsqueeze(0)
    given = p[:, 5, :, 1] / p[:, 5, :, 1].sum()
    expected = torch.cat([given.sum(1) @ _bits(2), given.sum(0) @ _bits(2)])
    torch.testing.assert_close(joint.visible_parameters(odd)[0].sigmoid(), expected, rtol=1e-10, atol=1e-10)
    even = torch.cat([_bits(2)[2], _bits(2)[3]]).unsqueeze(0)
    given = p[2, :, 3, :] / p[2, :, 3, :].sum()
    expected = torch.cat([given.sum(1) @ _bits(3), given.sum(0) @ _bits(2)])
    torch.testing.assert_close(joint.hidden_parameters(even)[0].sigmoid(), expected, rtol=1e-10, atol=1e-10)


def _free_energy(table, layers):
    """E_q[E] - H(q) of given means, by the sum over all states."""
    states = [_bits(mean.numel()) for mean in layers]
    weights = [(bits * mean + (1 - bits) * (1 - mean)).prod(1) for bits, mean in zip(states, layers, strict=True)]
    q = weights[0]
    for weight in weights[1:]:
        q = q.unsqueeze(-1) * weight
    return -(q * table).sum() + torch.special.xlogy(q, q).sum()


@pytest.mark.parametrize("sizes", SIZES)
def test_bound_is_the_free_energy_of_mean_field_at_a_minimum(sizes):
    machine = _machine(sizes)
    x = _bits(sizes[0])
    found = machine.mean_field(x)
    assert found.change <= 1e-12
    assert bool((machine.bound(x) >= machine(x) - 1e-12).all())
    means, table = machine.transform(x), _table(machine)
    for row in (1, 2):
        layers = [x[row], *means[row].split(sizes[1:])]
        lowest = _free_energy(table, layers)
        torch.testing.assert_close(machine.bound(x)[row], lowest, rtol=1e-10, atol=1e-10)
        for layer in range(1, len(sizes)):
            moved = list(layers)
            moved[layer] = (moved[layer] + 0.01 * torch.randn(sizes[layer], dtype=torch.float64)).clamp(0, 1)
            assert _free_energy(table, moved) > lowest


def test_every_sweep_lowers_the_bound():
    machine = _machine((3, 4, 3, 2), scale=1.5)
    x = _bits(3)
    levels = torch.stack([en.energies.MeanFieldBound(machine, sweeps)(x) for sweeps in range(1, 12)])
    assert bool((levels.diff(dim=0) <= 1e-12).all())
    assert bool((levels[0] > levels[-1] + 1e-4).any())
    assert bool((levels >= machine(x)).all())


def test_bound_is_tight_where_the_posterior_is_independent():
    one_layer = _machine((4, 3))
    torch.testing.assert_close(one_layer.bound(_bits(4)), one_layer(_bits(4)), rtol=1e-12, atol=1e-12)
    machine = _machine((4, 3, 2))
    gaps = []
    for scale in (1.0, 0.1, 0.0):
        with torch.no_grad():
            machine.joint.weights[1].mul_(0).add_(scale)
        gaps.append(float((machine.bound(_bits(4)) - machine(_bits(4))).max().detach()))
    assert gaps[0] > 1e-2
    assert 0 < gaps[1] < gaps[0] / 50
    assert abs(gaps[2]) < 1e-12


@pytest.mark.parametrize("centred", [False, True])
def test_gradient_with_exact_posterior_and_negatives_is_that_of_the_likelihood(centred):
    """`contrast` of one row with one, weighted by p(h_2|v) and by the model, against autograd of E(v) + log Z."""
    sizes = (3, 4, 2)
    machine = _machine(sizes, centred=centred)
    with torch.no_grad():
        machine.joint.offset.copy_(torch.linspace(0.1, 0.8, sum(sizes)))
    joint, data = machine.joint, _bits(3)[[1, 6]]
    negatives = joint.space.enumerate(0, 2**5, dtype=torch.float64, device=torch.device("cpu"))
    p = (-joint(negatives)).detach().softmax(0)
    likelihood = machine(data).mean() + (-joint(negatives)).logsumexp(0)
    expected = torch.autograd.grad(likelihood, list(machine.parameters()))
    total = [torch.zeros_like(parameter) for parameter in machine.parameters()]
    for v in data:
        rows = torch.cat([v.expand(4, 3), _bits(2)], 1)
        posterior = (-joint(rows).detach()).softmax(0)
        for h in range(4):
            for state in range(len(negatives)):
                parts = joint.contrast(rows[h : h + 1], negatives[state : state + 1])[2]
                for sum_, part in zip(total, parts, strict=True):
                    sum_ += posterior[h] * p[state] * part / len(data)
    for found, wanted in zip(total, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_centring_is_a_change_of_coordinates():
    """Centred gradients are J J'g, J being the way from centred parameters to plain ones."""
    plain, centred = _machine((3, 4, 2), centred=False), _machine((3, 4, 2), centred=True)
    offsets = torch.linspace(0.1, 0.8, 9, dtype=torch.float64).split((3, 4, 2))
    with torch.no_grad():
        centred.joint.offset.copy_(torch.cat(offsets))
    x, y = _bits(3)[[1, 3]], _bits(3)[[2, 4]]

    def to_plain(*parameters):
        weights, biases = parameters[:2], parameters[2:]
        b = [biases[0] - weights[0] @ offsets[1], biases[1] - weights[0].T @ offsets[0] - weights[1] @ offsets[2]]
        return *weights, *b, biases[2] - weights[1].T @ offsets[1]

    gradient = torch.autograd.grad(plain(x).mean() - plain(y).mean(), list(plain.parameters()))
    start = tuple(torch.zeros_like(parameter) for parameter in plain.parameters())
    pulled = torch.func.vjp(to_plain, *start)[1](gradient)
    expected = torch.func.jvp(to_plain, start, pulled)[1]
    found = torch.autograd.grad(centred(x).mean() - centred(y).mean(), list(centred.parameters()))
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(centred(x), plain(x), rtol=0, atol=0)


def test_offsets_follow_the_means_and_leave_the_model():
    machine = _machine((3, 4, 2))
    rows = torch.cat([_bits(3), torch.full((8, 2), 0.3, dtype=torch.float64)], 1)
    before = machine(_bits(3))
    machine.joint.recentre(rows, rate=1.0)
    h = machine.joint.hidden_parameters(rows[::8]).sigmoid().mean(0)
    expected = torch.cat([rows[:, :3].mean(0), h, rows[:, 3:].mean(0)])
    torch.testing.assert_close(machine.joint.offset, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(machine(_bits(3)), before, rtol=0, atol=0)


def test_block_gibbs_leaves_the_joint():
    testing.check_sampler(en.BlockGibbs(), _machine((2, 3, 2, 2)).joint)


def test_a_restricted_machine_is_one_of_two_layers():
    machine = _machine((4, 3))
    rbm = en.RBM(4, 3).double()
    with torch.no_grad():
        rbm.weight.copy_(machine.joint.weights[0])
        rbm.bias.copy_(machine.joint.biases[0])
        rbm.hidden_bias.copy_(machine.joint.biases[1])
    torch.testing.assert_close(machine(_bits(4)), rbm(_bits(4)), rtol=1e-12, atol=1e-12)


def test_annealing_and_tempering_of_the_joint():
    machine = _machine((4, 3, 2), scale=1.5)
    exact = en.exact_log_z(machine.joint).value
    lower = en.ais(machine.joint, num_chains=1000, levels=300)
    assert (lower.value - exact).abs() < 5 * lower.standard_error < 0.1
    sampler = en.ParallelTempering(en.BlockGibbs(), (1.0, 2.0, 4.0))
    draws = en.sample(machine.joint, sampler, num_chains=4000, num_steps=60).x
    p = (-machine(_bits(4))).softmax(0).detach()
    places = (draws[:, :4] @ torch.tensor([1.0, 2, 4, 8], dtype=torch.float64)).long()
    counts = torch.bincount(places, minlength=16) / 4000
    assert bool(((counts - p).abs() < 5 * (p * (1 - p) / 4000).sqrt() + 1e-12).all())


def test_samples_have_the_distribution():
    machine = _machine((3, 3, 2))
    p = (-machine(_bits(3))).softmax(0).detach()
    exact = machine.sample_exact(4000, torch.Generator().manual_seed(0))
    for draws in (machine.sample(4000, num_steps=60), exact):
        places = (draws @ torch.tensor([1.0, 2, 4], dtype=torch.float64)).long()
        counts = torch.bincount(places, minlength=8) / 4000
        assert bool(((counts - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all())


def test_what_cannot_be_done_is_said():
    with pytest.raises(en.InputError, match="bound"):
        en.DBM(784, (500, 1000))(torch.zeros(2, 784))
    with pytest.raises(en.InputError, match="at least one layer"):
        en.DBM(4, ())
    with pytest.raises(en.InputError, match="bits"):
        en.DBM(en.Spin(4), (3,))
    with pytest.raises(en.InputError, match=r"sizes\[1\]"):
        en.DBM(4, (0, 3))


def test_events_of_any_shape():
    flat, square = _machine((4, 3, 2)), _machine((en.Binary((2, 2)), 3, 2))
    x = _bits(4)
    torch.testing.assert_close(square(x.view(-1, 2, 2)), flat(x))
    torch.testing.assert_close(square.bound(x.view(-1, 2, 2)), flat.bound(x))
    assert square.sample(3, num_steps=2).shape == (3, 2, 2)
    assert math.isclose(float(en.exact_log_z(square).value), float(en.exact_log_z(flat).value))
