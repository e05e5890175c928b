"""Searches among real answers: known minima, sides of a box, and gradients through the descent."""

import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.gradient import value_and_gradient
from energeia.search import descend

# Wells at these places, of these depths and widths, no two alike; row b's are shifted by its x.
PLACES, DEPTHS, WIDTHS = (-1.6, 0.1, 1.3), (1.0, 1.4, 1.9), (0.5, 0.35, 0.25)


class Wells(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.05, dtype=torch.float64))

    def forward(self, x, y):
        gap = y - x
        total = 0.02 * gap.square() + self.slope * gap
        for place, depth, width in zip(PLACES, DEPTHS, WIDTHS, strict=True):
            total = total - depth * torch.exp(-((gap - place) ** 2) / (2 * width**2))
        return total.sum(1)


def _minima():
    """Of the wells at x = 0: Newton's method in plain numbers, from the places."""
    found = []
    for start in PLACES:
        y = start
        for _ in range(50):
            first, second = 0.04 * y + 0.05, 0.04
            for place, depth, width in zip(PLACES, DEPTHS, WIDTHS, strict=True):
                bump = depth * math.exp(-((y - place) ** 2) / (2 * width**2))
                first += bump * (y - place) / width**2
                second += bump * (1 / width**2 - (y - place) ** 2 / width**4)
            y -= first / second
        found.append(y)
    return found


def _level(y):
    wells = zip(PLACES, DEPTHS, WIDTHS, strict=True)
    return 0.02 * y * y + 0.05 * y - sum(d * math.exp(-((y - p) ** 2) / (2 * w * w)) for p, d, w in wells)


X = torch.tensor([[0.0], [0.4], [-0.3]], dtype=torch.float64)


def _pair(answers=None):
    return en.from_pair(Wells(), en.Real(1), en.Real(1, start_scale=1.5) if answers is None else answers)


def test_restarts_find_the_deepest_of_several_wells():
    search = en.Descent(num_steps=200, num_starts=30)
    found = en.predict(_pair(), X, search, num_best=1)
    best = min(_minima(), key=_level)
    torch.testing.assert_close(found.answers, X + best, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.energies, torch.full((3,), _level(best), dtype=torch.float64), rtol=0, atol=1e-12)
    assert not found.exact
    assert found.gap is None
    # It is what is chosen for real answers when nothing is said.
    assert "descent" in en.predict(_pair(), X).method


def test_one_start_may_end_in_another_well():
    """The restarts are needed: from -1.6 the descent stays where it is shallow."""
    energy = en.given(_pair(), context=X)
    y, level = descend(energy, X - 1.6, num_steps=300, step_size=0.1)
    torch.testing.assert_close(y, X + _minima()[0], rtol=0, atol=1e-6)
    assert float(level[0]) > min(map(_level, _minima())) + 0.5


def test_num_best_are_different_and_in_order():
    field = en.given(_pair(), context=X)
    found = en.Descent(num_steps=300, num_starts=40).find(field, torch.Generator().manual_seed(0), num_best=20)
    assert found.answers.shape == (3, 20, 1)
    for row in range(3):
        levels = found.energies[row]
        known = levels.isfinite()
        # Chains that end in one minimum are one answer; the rest is told to be missing.
        assert int(known.sum()) == len(_minima())
        assert bool((levels[known].diff() >= 0).all())
        assert bool(known[: int(known.sum())].all())
        answers = found.answers[row, known, 0] - X[row]
        assert len(answers.unique()) == len(answers)
        torch.testing.assert_close(
            levels[known],
            torch.tensor([_level(float(answer)) for answer in answers], dtype=torch.float64),
            rtol=1e-12,
            atol=1e-12,
        )
        # Each ends in one of the three, and all three are met.
        ends = [min(range(3), key=lambda well, at=float(answer): abs(at - _minima()[well])) for answer in answers]
        assert set(ends) == {0, 1, 2}


def test_a_box_stops_at_its_sides():
    """E = (y_1 - 2)^2 + (y_2 + .3)^2 + y_1 y_2 on [-1, 1]^2: y_1 = 1 at the side, then y_2 = -.8 inside."""

    def bowl(x, y):
        return (y[:, 0] - 2).square() + (y[:, 1] + 0.3).square() + y[:, 0] * y[:, 1] + 0 * x[:, 0]

    energy = en.from_pair(bowl, en.Real(1), en.Box(2, -1.0, 1.0))
    found = en.predict(energy, torch.zeros(2, 1), en.Descent(num_steps=200, num_starts=3))
    torch.testing.assert_close(found.answers, torch.tensor([[1.0, -0.8]] * 2), rtol=0, atol=1e-3)
    assert float(found.answers[:, 0].max()) == 1.0


@pytest.mark.parametrize("step_size", [1e-3, 1.0, 1e3])
def test_never_above_its_start(step_size):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    start = x + 3 * torch.randn(200, 1, generator=generator, dtype=torch.float64)
    energy = en.given(_pair(), context=x)
    y, level = descend(energy, start, num_steps=30, step_size=step_size)
    before = energy(start).detach()
    assert bool((level <= before).all())
    assert float((level < before - 1e-6).double().mean()) > 0.95
    torch.testing.assert_close(energy(y).detach(), level)


def test_where_the_energy_is_not_a_number_no_chain_goes():
    def far_left(x, y):
        return ((y + 10).log() - 2).square().sum(1) + 0 * x[:, 0]

    energy = en.given(en.from_pair(far_left, en.Real(1), en.Real(1)), context=torch.zeros(1, 1))
    assert bool(energy(torch.tensor([[-11.0]])).isnan())
    y, _ = descend(energy, torch.tensor([[3.0]]), num_steps=200, step_size=1e3)
    torch.testing.assert_close(y, torch.tensor([[math.exp(2) - 10]]), rtol=0, atol=1e-3)


def test_one_step_unrolled_is_the_step_of_the_descent():
    """Both go along -dE/dy; the descent takes the same first step where it leads down."""
    energy, start = en.given(_pair(), context=X), X + 0.6
    once = en.unrolled(energy, start, num_steps=1, step_size=0.01)
    other, _ = descend(energy, start, num_steps=1, step_size=0.01)
    torch.testing.assert_close(once.detach(), other, rtol=0, atol=0)
    assert not torch.equal(other, start)
    _, gradient = value_and_gradient(energy, start)
    torch.testing.assert_close(once.detach(), start - 0.01 * gradient, rtol=0, atol=0)


class Bowl(nn.Module):
    """E = a (y - b x)^2 / 2 + c y^4 / 4."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.3, 0.7, 0.2], dtype=torch.float64))

    def forward(self, x, y):
        a, b, c = self.weights
        return (a * (y - b * x).square() / 2 + c * y**4 / 4).sum(1)


def _by_hand(weights, x, y, step_size, momentum, num_steps, low=-math.inf, high=math.inf):
    a, b, c = weights
    velocity = 0.0
    for _ in range(num_steps):
        velocity = momentum * velocity - step_size * (a * (y - b * x) + c * y**3)
        y = min(max(y + velocity, low), high)
    return y


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_unrolled_by_hand_and_its_gradient_by_differences(momentum):
    energy, x = en.from_pair(Bowl(), en.Real(1), en.Real(1)), torch.tensor([[0.8], [-1.5]], dtype=torch.float64)
    start = torch.tensor([[-0.4], [1.1]], dtype=torch.float64)
    step_size = nn.Parameter(torch.tensor(0.15, dtype=torch.float64))
    (weights,) = energy.parameters()

    def value(w, s):
        ends = [_by_hand(w, float(a), float(b), s, momentum, 6) for a, b in zip(x[:, 0], start[:, 0], strict=True)]
        return ends, (ends[0] - 1) ** 2 + (ends[1] + 2) ** 2

    # Under no_grad, as a prediction is: the graph is made all the same.
    with torch.no_grad():
        y = en.unrolled(en.given(energy, context=x), start, num_steps=6, step_size=step_size, momentum=momentum)
    ends, _ = value(weights.tolist(), 0.15)
    torch.testing.assert_close(y.detach()[:, 0], torch.tensor(ends, dtype=torch.float64), rtol=1e-13, atol=1e-13)
    loss = (y[0, 0] - 1) ** 2 + (y[1, 0] + 2) ** 2
    found = [*torch.autograd.grad(loss, [weights, step_size])]
    assert start.grad is None
    for place in range(4):
        numbers = [*weights.tolist(), 0.15]
        ends = []
        for change in (1e-5, -1e-5):
            moved = list(numbers)
            moved[place] += change
            ends.append(value(moved[:3], moved[3])[1])
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(torch.cat([found[0], found[1].view(1)])[place]) == pytest.approx(slope, rel=1e-6)


def test_unrolled_starts_may_carry_a_graph():
    energy = en.given(en.from_pair(Bowl(), en.Real(1), en.Real(1)), context=torch.tensor([[0.8]], dtype=torch.float64))
    start = torch.tensor([[-0.4]], dtype=torch.float64, requires_grad=True)
    y = en.unrolled(energy, start, num_steps=4, step_size=0.15)
    (slope,) = torch.autograd.grad(y.sum(), start)
    weights = [1.3, 0.7, 0.2]
    ends = [_by_hand(weights, 0.8, -0.4 + change, 0.15, 0.0, 4) for change in (1e-5, -1e-5)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_unrolled_stops_at_the_side_of_a_box():
    energy = en.from_pair(Bowl(), en.Real(1), en.Box(1, 0.0, 0.5))
    x, start = (torch.tensor([[a], [b]], dtype=torch.float64) for a, b in ((2.0, 0.3), (0.2, 0.45)))
    y = en.unrolled(en.given(energy, context=x), start, num_steps=5, step_size=0.2, momentum=0.5)
    expected = [_by_hand([1.3, 0.7, 0.2], a, b, 0.2, 0.5, 5, 0.0, 0.5) for a, b in ((2.0, 0.2), (0.3, 0.45))]
    torch.testing.assert_close(y.detach()[:, 0], torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-13)
    assert expected[0] == 0.5
    # At the side nothing moves, so nothing is learnt from that row.
    (slope,) = torch.autograd.grad(y[0, 0], list(energy.parameters()))
    assert not bool(slope.any())


def test_enumeration_of_real_answers():
    """On a grid that is as fine as it was asked to be, in one dimension and in two."""
    found = en.predict(_pair(en.Box(1, -3.0, 3.0)), X, en.Enumeration(num_nodes=2000))
    best = min(_minima(), key=_level)
    torch.testing.assert_close(found.answers, X + best, rtol=0, atol=0.003)
    # A grid is no proof.
    assert not found.exact

    a = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("a", a)

        def forward(self, x, y):
            return ((y @ self.a) * y).sum(1) / 2 - (x * y).sum(1)

    energy = en.from_pair(Quadratic(), en.Real(2), en.Real(2))
    x = torch.tensor([[0.5, -0.2], [-1.0, 0.4]], dtype=torch.float64)
    found = en.predict(energy, x, en.Enumeration(num_nodes=250), num_best=3)
    minimum = torch.linalg.solve(a, x.T).T
    torch.testing.assert_close(found.answers, minimum, rtol=0, atol=0.05)
    # The energy of the best node is above the least by no more than half a cell's worth of curvature.
    least = -(x * minimum).sum(1) / 2
    assert bool(((found.energies - least) >= 0).all())
    assert bool(((found.energies - least) < 2e-3).all())
    assert bool((found.best_energies.diff(dim=1) >= 0).all())


def test_log_partition_of_real_answers():
    """-log p(y | x) of the quadratic is that of a normal: mean A^-1 x, precision A."""
    a = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(a)

        def forward(self, x, y):
            return ((y @ self.a) * y).sum(1) / 2 - (x * y).sum(1)

    x = torch.tensor([[0.5, -0.2], [-1.0, 0.4]], dtype=torch.float64)
    y = torch.tensor([[0.1, 0.3], [1.0, -2.0]], dtype=torch.float64)
    energy = en.from_pair(Quadratic(), en.Real(2), en.Real(2))
    found = en.ConditionalLikelihood(num_nodes=120)(energy, en.Batch(x, y), torch.Generator()).value
    normal = torch.distributions.MultivariateNormal(torch.linalg.solve(a, x.T).T, precision_matrix=a)
    torch.testing.assert_close(found.detach(), -normal.log_prob(y).mean(), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "sampler", [en.Langevin(step_size=0.02), en.MALA(step_size=0.1), en.HMC(step_size=0.2, num_leapfrog=5)]
)
def test_annealing_finds_the_deepest_well(sampler):
    search = en.Annealing(sampler, num_steps=600, num_starts=4, coldest=1e-3)
    found = en.predict(_pair(), X, search)
    best = min(_minima(), key=_level)
    # As near as the last temperature and the best of the steps leave it.
    torch.testing.assert_close(found.answers, X + best, rtol=0, atol=0.05)
    assert type(sampler).__name__ in found.method


def test_bad_input():
    for wrong in ({"num_steps": 0}, {"num_starts": 0}, {"step_size": 0.0}, {"step_size": math.nan}):
        with pytest.raises(en.InputError, match=next(iter(wrong))):
            en.Descent(**wrong)
    bits = en.from_module(lambda y: y.sum(1), en.Binary(3))
    generator = torch.Generator()
    with pytest.raises(en.InputError, match="IteratedModes"):
        en.Descent().find(bits, generator)
    with pytest.raises(en.InputError, match="num_best"):
        en.Descent().find(en.given(_pair(), context=X), generator, num_best=0)
    with pytest.raises(en.InputError, match="Box"):
        en.unrolled(bits, torch.zeros(1, 3), num_steps=1, step_size=0.1)
    energy = en.given(_pair(), context=X)
    with pytest.raises(en.InputError, match="momentum"):
        en.unrolled(energy, X, num_steps=1, step_size=0.1, momentum=1.0)
    with pytest.raises(en.InputError, match="num_steps"):
        en.unrolled(energy, X, num_steps=0, step_size=0.1)
    with pytest.raises(en.InputError, match="Descent"):
        en.Enumeration(num_nodes=200).find(en.from_module(lambda y: y.square().sum(1), en.Real(4)), generator)
