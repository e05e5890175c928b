"""Gated machines against sums of the third-order energy over all y and h."""

import pytest
import torch

import energeia as en
from energeia.core.nodes import integration_nodes

SPACES = {"bits": en.Binary(4), "spins": en.Spin((2, 2)), "real": en.Real(2, start_scale=1.5)}
HIDDEN, FACTORS = 3, 4


def _machine(kind="bits"):
    machine = en.GatedRBM(SPACES[kind], FACTORS, HIDDEN).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(0.8 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64) + 0.1)
    return machine


def _bits(number=HIDDEN):
    return en.Binary(number).enumerate(0, 2**number, dtype=torch.float64, device=torch.device("cpu"))


def _joint(machine, x, y, h):
    """E(y, h | x) `[Y, H]` of one x, with the third-order weights written out."""
    weight = torch.einsum("if,jf,uf->iju", machine.before, machine.after, machine.hidden_factors)
    y, x = y.flatten(1), x.flatten()
    energy = -torch.einsum("i,yj,hu,iju->yh", x, y, h, weight) - h @ machine.hidden_bias
    if isinstance(machine.picture, en.Real):
        return energy + ((y - machine.bias).square().sum(1) / 2)[:, None]
    return energy - (y @ machine.bias)[:, None]


def _contexts(machine, number, seed=0):
    return machine.picture.start(number, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", SPACES)
def test_distribution_conditionals_and_log_z(kind):
    machine, h = _machine(kind), _bits()
    y, log_y = integration_nodes(machine.picture, 100)
    for x in _contexts(machine, 3):
        energy = en.given(machine, context=x[None])
        with torch.no_grad():
            joint = _joint(machine, x, y, h)
            # Outer nodes of quadrature lie so far out that their energies are differences of huge numbers.
            near = y.abs().flatten(1).amax(1) < 20
            torch.testing.assert_close(energy(y)[near], -(-joint[near]).logsumexp(1), rtol=1e-11, atol=1e-11)
            pairs = torch.stack([x.expand_as(y), y], 1)
            torch.testing.assert_close(machine(pairs), energy(y))
            torch.testing.assert_close(energy.hidden.mean(energy.hidden_parameters(y)), (-joint).softmax(1) @ h)
            back = energy.visible.mean(energy.visible_parameters(h)).flatten(1)
            wanted = (log_y[:, None] - joint).softmax(0).T @ y.flatten(1)
            torch.testing.assert_close(back, wanted, rtol=1e-8, atol=1e-8)
            log_z = (log_y[:, None] - joint).flatten().logsumexp(0)
        torch.testing.assert_close(en.exact_log_z(energy, num_nodes=100).value, log_z, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("kind", SPACES)
def test_gradient_of_the_exact_conditional_likelihood(kind):
    machine, h = _machine(kind), _bits()
    y, log_y = integration_nodes(machine.picture, 40)
    contexts, data = _contexts(machine, 3), _contexts(machine, 3, seed=9)
    loss = torch.zeros(()).double()
    found = [torch.zeros_like(parameter) for parameter in machine.parameters()]
    for x, row in zip(contexts, data, strict=True):
        loss = loss + (log_y[:, None] - _joint(machine, x, y, h)).flatten().logsumexp(0) / 3
        loss = loss - (-_joint(machine, x, row[None], h)).logsumexp(1)[0] / 3
        energy = en.given(machine, context=x[None])
        with torch.no_grad():
            p = (log_y - energy(y)).softmax(0)
        for node, share in zip(y[p > 1e-16], p[p > 1e-16], strict=True):
            for total, part in zip(found, energy.contrast(row[None], node[None])[2], strict=True):
                total += share * part / 3
    for one, other in zip(found, torch.autograd.grad(loss, list(machine.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", SPACES)
def test_rows_go_with_their_contexts(kind):
    machine = _machine(kind)
    contexts, data, negatives = _contexts(machine, 5), _contexts(machine, 5, 1), _contexts(machine, 5, 2)
    energy = en.given(machine, context=contexts)
    of_data, of_negatives, gradients = energy.contrast(data, negatives)
    singly = [en.given(machine, context=c[None]) for c in contexts]
    for values, rows in ((of_data, data), (of_negatives, negatives)):
        expected = torch.cat([one(row[None]) for one, row in zip(singly, rows, strict=True)])
        torch.testing.assert_close(values, expected.detach(), rtol=1e-12, atol=1e-12)
    gap = energy(data).mean() - energy(negatives).mean()
    for found, wanted in zip(gradients, torch.autograd.grad(gap, list(machine.parameters())), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert [id(one) for one in energy.parameters()] == [id(one) for one in machine.parameters()]
    with pytest.raises(en.InputError, match="4 rows, but 5 contexts"):
        energy(data[:4])
    with pytest.raises(en.InputError, match="the pictures before"):
        en.given(machine, context=contexts.flatten())


def test_block_gibbs_leaves_every_conditional_unchanged():
    """Chains of three contexts side by side, each begun with exact draws of its own conditional."""
    machine, each = _machine(), 4000
    y = _bits(4)
    contexts = _contexts(machine, 3)
    with torch.no_grad():
        p = torch.stack([(-en.given(machine, context=x[None])(y)).softmax(0) for x in contexts])
    assert (p[0] - p[1]).abs().max() > 0.05
    number = torch.multinomial(p, each, replacement=True, generator=torch.Generator().manual_seed(0)).flatten()
    energy = en.given(machine, context=contexts.repeat_interleave(each, 0))
    draws = en.sample(energy, en.BlockGibbs(), start=y[number], num_steps=5, generator=3).x
    code = (draws @ 2.0 ** torch.arange(4).double()).long().view(3, each)
    for row in range(3):
        counts = torch.bincount(code[row], minlength=16)
        error = (each * p[row] * (1 - p[row])).sqrt()
        assert ((counts - each * p[row]).abs() < 5 * error + 1).all()


def test_annealing_finds_log_z():
    energy = en.given(_machine(), context=_contexts(_machine(), 1))
    exact = en.exact_log_z(energy).value
    lower = en.ais(energy, num_chains=400, levels=200, generator=1)
    assert lower.standard_error < 0.02
    assert (lower.value - exact).abs() < 5 * lower.standard_error


STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def _moved(x, kind):
    """Pictures `[N, 25]` moved by one place around the border, each in its direction."""
    each = [one.view(5, 5).roll(STEPS[k], (0, 1)).flatten() for one, k in zip(x, kind.tolist(), strict=True)]
    return torch.stack(each)


@pytest.mark.slow
def test_hidden_units_know_which_way_random_dots_moved():
    """Trained without labels; what is recognised in one pair moves other dots the same way."""
    generator = torch.Generator().manual_seed(0)
    x, other = (en.Spin(25).start(number, generator) for number in (6000, 1000))
    kind = torch.randint(4, (6000,), generator=generator)
    pairs = torch.stack([x, _moved(x, kind)], 1)
    torch.manual_seed(0)
    machine = en.GatedRBM(en.Spin(25), num_factors=60, num_hidden=20)
    en.fit(
        machine, en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1)), pairs[:5000], num_steps=1000,
        batch_size=100, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3), progress=False,
    )  # fmt: skip
    h = machine.transform(pairs)
    centres = torch.stack([h[:5000][kind[:5000] == k].mean(0) for k in range(4)])
    named = torch.cdist(h[5000:], centres).argmin(1)
    assert (named == kind[5000:]).float().mean() > 0.95
    found = machine.analogy(pairs[5000:], other).sign()
    assert (found == _moved(other, kind[5000:])).float().mean() > 0.95
