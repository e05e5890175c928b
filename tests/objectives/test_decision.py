"""Losses with a cost, against enumeration; the direct loss against the gradient of the expected cost."""

import math
from dataclasses import dataclass

import pytest
import torch
from answered import LISTED, assert_same, chain, classes, gradients, grid, loss_of, waves
from small_truths import parameter, random
from torch import nn

import energeia as en
from energeia.core.answers import Found, Search


def hamming(other, right):
    return sum(a != b for a, b in zip(other, right, strict=True))


def odd(other, right):
    """A cost that no sum over sites gives, and that is not symmetric."""
    return abs(sum(other) - sum(right)) + 2.0 * (other[0] > right[0]) + 0.3 * (other != right)


def odd_of_events(other, right):
    """The same cost of one-hot answers, as the energies see them."""
    numbers = torch.arange(other.shape[-1], dtype=other.dtype)
    first, second = ((events * numbers).sum(-1).reshape(len(events), -1) for events in (other, right))
    above = (first[:, 0] > second[:, 0]).to(other.dtype)
    return (first.sum(1) - second.sum(1)).abs() + 2 * above + 0.3 * (first != second).any(1).to(other.dtype)


COSTS = {"hamming": ("hamming", hamming), "odd": (odd_of_events, odd)}


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("which", COSTS)
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_structured_hinge_by_enumeration(name, which, scale):
    case, (cost, by_hand) = LISTED[name](), COSTS[which]
    loss = loss_of(en.StructuredHinge(cost, scale=scale), case.energy, case.batch())
    table, paid = case.table(), case.cost(by_hand)
    right = table.gather(1, case.right().unsqueeze(1))
    worst = (scale * paid + right - table).max(1)
    assert_same(loss.value, worst.values.mean(), case.energy)
    torch.testing.assert_close(loss.metrics["cost_of_worst"], paid.gather(1, worst.indices.unsqueeze(1)).mean())
    assert loss.value > 0


@pytest.mark.parametrize("search", [en.MinimumCut(), en.Elimination(), en.Enumeration()])
def test_hamming_costs_leave_cuts_and_elimination_exact(search):
    case = grid()
    loss = loss_of(en.StructuredHinge(search=search), case.energy, case.batch())
    table = case.table()
    right = table.gather(1, case.right().unsqueeze(1))
    assert_same(loss.value, (case.cost(hamming) + right - table).max(1).values.mean(), case.energy)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("which", COSTS)
def test_structured_hinge_is_above_the_cost_of_the_best_answer(name, which):
    case, (cost, by_hand) = LISTED[name](), COSTS[which]
    paid, best = case.cost(by_hand), case.table().argmin(1)
    for row in range(len(case.x)):
        loss = loss_of(en.StructuredHinge(cost), case.energy, en.Batch(case.x[row : row + 1], case.y[row : row + 1]))
        assert loss.value >= paid[row, best[row]] - 1e-12
    assert paid.gather(1, best.unsqueeze(1)).sum() > 1


def test_structured_hinge_of_bits_and_of_real_answers():
    """Bits by listing four of them; real answers at the nodes of a grid."""
    theta = parameter(0.7, -0.4)

    class Bits(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = theta

        def forward(self, x, y):
            return -(y * (x * self.theta)).sum(1) + 1.1 * y[:, 0] * y[:, 1]

    energy = en.from_pair(Bits(), en.Real(2), en.Binary(2))
    x, y = random(5, 2, seed=3), torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [1, 1]])
    total = 0.0
    for row, right in zip(x, y.tolist(), strict=True):
        levels = {
            (a, b): -(a * row[0] * theta[0] + b * row[1] * theta[1]) + 1.1 * a * b for a in (0, 1) for b in (0, 1)
        }
        total = (
            total
            + torch.stack([hamming(other, right) + levels[tuple(right)] - levels[other] for other in levels]).max()
        )
    assert_same(loss_of(en.StructuredHinge(), energy, en.Batch(x, y)).value, total / 5, energy)

    energy, function, x, y = waves()
    loss = loss_of(
        en.StructuredHinge(lambda a, b: (a - b).abs().sum(1), search=en.Enumeration(num_nodes=41)),
        energy,
        en.Batch(x, y),
    )
    line = en.core.nodes.integration_nodes(en.Box(1, low=-3.0, high=3.0), 41)[0]
    worst = torch.stack(
        [
            ((line - b).abs()[:, 0] + function(a[None], b[None]) - function(a.expand(41, 1), line)).max()
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert_same(loss.value, worst.mean(), energy)


@dataclass(frozen=True)
class Worst(Search):
    """A search as bad as can be."""

    def find(self, energy, generator, *, num_best=1):
        found = en.Enumeration().find(energy, generator, num_best=4)
        return Found(found.answers[:, -1:], found.energies[:, -1:], False, "the worst")


def test_a_bad_search_does_not_make_the_hinge_negative():
    case = classes()
    right = case.table().argmin(1)
    loss = loss_of(en.StructuredHinge(search=Worst(), scale=1e-3), case.energy, en.Batch(case.x, right))
    assert loss.value == 0


# The direct loss.


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("which", COSTS)
@pytest.mark.parametrize("epsilon", [1.5, -0.8])
def test_direct_gradient_by_its_definition(name, which, epsilon):
    case, (cost, by_hand) = LISTED[name](), COSTS[which]
    loss = loss_of(en.DirectLoss(cost, epsilon=epsilon), case.energy, case.batch())
    table, paid = case.table(), case.cost(by_hand)
    best, pulled = table.argmin(1, keepdim=True), (table + epsilon * paid).argmin(1, keepdim=True)
    assert_same(loss.value, ((table.gather(1, pulled) - table.gather(1, best)) / epsilon).mean(), case.energy)
    torch.testing.assert_close(loss.metrics["cost"], paid.gather(1, best).mean())
    assert any(gradient.abs().max() > 0 for gradient in gradients(loss.value, case.energy))


class Lines(nn.Module):
    """Logits theta_k + x_k: the best class of a Gaussian x is random, with chances that are integrals."""

    def __init__(self):
        super().__init__()
        self.theta = parameter(0.5, -0.2, 0.1)

    def forward(self, x):
        return x + self.theta


PAID = torch.tensor([[0.0, 1.0, 3.0], [0.5, 0.0, 2.0], [1.0, 0.4, 0.0]]).double()
RIGHT = 1


def matrix_cost(other, right):
    """PAID[right, other]."""
    return ((right @ PAID) * other).sum(1)


def chances(theta):
    """P(argmax_k theta_k + x_k = k), x normal, by quadrature over the largest of them."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64).unsqueeze(1)
    below = torch.special.ndtr(z - theta)
    density = torch.exp(-((z - theta) ** 2) / 2) / math.sqrt(2 * math.pi)
    others = torch.stack([below[:, [j for j in range(3) if j != k]].prod(1) for k in range(3)], 1)
    return (density * others).sum(0) * (z[1] - z[0])


def expected_slope(theta):
    """d/dtheta of the expected cost."""
    theta = theta.detach().requires_grad_(True)
    return torch.autograd.grad(chances(theta) @ PAID[RIGHT], theta)[0]


def mean_direct(theta, epsilon):
    """The mean of the direct loss's gradient over x, exactly: dE_k/dtheta = -1 at k."""
    theta = theta.detach()
    return -(chances(theta - epsilon * PAID[RIGHT]) - chances(theta)) / epsilon


def test_direct_gradient_tends_to_that_of_the_expected_cost():
    theta = Lines().theta
    slope = expected_slope(theta)
    step = 1e-4 * torch.eye(3).double()
    finite = [(chances(theta + d) - chances(theta - d)).detach() @ PAID[RIGHT] / 2e-4 for d in step]
    torch.testing.assert_close(slope, torch.stack(finite), rtol=0, atol=1e-8)
    errors = [(mean_direct(theta, epsilon) - slope).abs().max() for epsilon in (0.2, 0.1, 0.05)]
    # The bias is of order epsilon.
    assert errors[0] < 0.05
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2
    # From both sides, of order epsilon squared.
    both = [((mean_direct(theta, e) + mean_direct(theta, -e)) / 2 - slope).abs().max() for e in (0.2, 0.1)]
    assert both[0] < 0.01
    assert 3.8 < both[0] / both[1] < 4.2


@pytest.mark.parametrize("epsilon", [0.1, -0.1])
def test_direct_gradient_over_many_draws(epsilon):
    network = Lines()
    energy = en.Classifier(network, en.Real(3))
    x = torch.randn(200_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    objective = en.DirectLoss(matrix_cost, epsilon=epsilon)
    loss = loss_of(objective, energy, en.Batch(x, torch.full((len(x),), RIGHT)))
    found, expected = gradients(loss.value, energy)[0], mean_direct(network.theta, epsilon)
    # Each row's gradient is -1, 0 or 1 over epsilon, and not zero with the chance that the answer moves.
    error = math.sqrt(float(expected.abs().max()) / abs(epsilon) / len(x))
    assert (found - expected).abs().max() < 5 * error
    slope = expected_slope(network.theta)
    assert (found - slope).abs().max() < 5 * error + (expected - slope).abs().max()
    assert slope.abs().max() > 20 * error
    torch.testing.assert_close(
        loss.metrics["cost"], (chances(network.theta) @ PAID[RIGHT]).detach(), rtol=0, atol=5 * 3 / math.sqrt(len(x))
    )


# Bad input.


def test_bad_settings_are_told():
    with pytest.raises(en.InputError, match=r"StructuredHinge: cost is .hamming. or a function .* got 'haming'"):
        en.StructuredHinge("haming")
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(en.InputError, match="StructuredHinge: scale must be a positive finite number"):
            en.StructuredHinge(scale=scale)
    with pytest.raises(en.InputError, match="DirectLoss: epsilon must not be zero"):
        en.DirectLoss(epsilon=0.0)
    with pytest.raises(en.InputError, match="DirectLoss: epsilon must be a finite number, got nan"):
        en.DirectLoss(epsilon=math.nan)


@pytest.mark.parametrize("objective", [en.StructuredHinge, en.DirectLoss])
def test_costs_that_are_none_are_told(objective):
    case = chain()
    with pytest.raises(en.InputError, match=r"cost\(y', y\) returned shape \[\d+, 3\] for answers of shape"):
        loss_of(objective(lambda a, b: (a != b).any(2).double()), case.energy, case.batch())
    with pytest.raises(en.InputError, match=r"cost.* must be zero at y' = y and never negative: .* the right one 1"):
        loss_of(objective(lambda a, b: (a != b).flatten(1).sum(1) + 1.0), case.energy, case.batch())
    with pytest.raises(en.InputError, match="never negative: an answer found costs -"):
        loss_of(objective(lambda a, b: (a - b)[:, 0, 0] - (a != b).flatten(1).sum(1)), case.energy, case.batch())
    energy, _, x, y = waves()
    with pytest.raises(en.InputError, match="hamming cost is for labels and bits, got answers on Box"):
        loss_of(objective(), energy, en.Batch(x, y))
