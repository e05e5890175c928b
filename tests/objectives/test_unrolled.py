"""End-to-end training of a descent: by hand, by differences, and through fit."""

import functools
import math

import pytest
import torch
from torch import nn

import energeia as en


class Local(nn.Module):
    """E = -sum_i (w_i x_i y_i) + c (sum_i y_i)^2 / 2, of answers y and inputs x of the same size."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.5, -0.8], dtype=torch.float64))
        self.c = nn.Parameter(torch.tensor(0.6, dtype=torch.float64))

    def forward(self, x, y):
        return -(self.w * x * y).sum(1) + self.c * y.sum(1).square() / 2


def _pair(box=True):
    return en.from_pair(Local(), en.Real(2), en.Box(2, 0.0, 1.0) if box else en.Real(2))


X = torch.tensor([[0.7, 1.2], [-0.4, 2.0], [1.1, -0.3]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


def _sigmoid(value):
    return 1 / (1 + math.exp(-value))


def _value(numbers, cost, momentum, mirror, num_steps=5):
    """The mean cost in plain numbers: w_1, w_2, c and the logarithm of the step."""
    w, c, step = numbers[:2], numbers[2], math.exp(numbers[3])
    total = 0.0
    for x, right in zip(X.tolist(), Y.tolist(), strict=True):
        y, place, v = [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]
        for _ in range(num_steps):
            slope = [c * sum(y) - w[i] * x[i] for i in range(2)]
            v = [momentum * v[i] - step * slope[i] for i in range(2)]
            place = [place[i] + v[i] for i in range(2)]
            y = [_sigmoid(place[i]) if mirror else min(max(y[i] + v[i], 0.0), 1.0) for i in range(2)]
        if cost == "square":
            total += sum((a - b) ** 2 for a, b in zip(y, right, strict=True))
        else:
            total -= sum(math.log(a if b else 1 - a) for a, b in zip(y, right, strict=True))
    return total / len(X)


@pytest.mark.parametrize(
    ("cost", "momentum", "mirror"),
    [("square", 0.0, False), ("square", 0.5, True), ("cross entropy", 0.0, True), ("cross entropy", 0.3, True)],
)
def test_value_and_gradient_by_hand(cost, momentum, mirror):
    energy = _pair()
    objective = en.Unrolled(
        cost, num_steps=5, step_size=0.12, momentum=momentum, mirror=mirror, learn_step=True
    ).double()
    numbers = [1.5, -0.8, 0.6, float(objective.log_step.detach())]
    loss = objective(energy, en.Batch(X, Y), torch.Generator())
    assert float(loss.value.detach()) == pytest.approx(_value(numbers, cost, momentum, mirror), rel=1e-12)
    assert float(loss.metrics["step_size"]) == pytest.approx(0.12, rel=1e-6)
    found = torch.autograd.grad(loss.value, [*energy.parameters(), objective.log_step])
    for place, slope in enumerate(torch.cat([part.reshape(-1) for part in found]).tolist()):
        ends = []
        for change in (1e-5, -1e-5):
            moved = list(numbers)
            moved[place] += change
            ends.append(_value(moved, cost, momentum, mirror))
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_a_cost_of_your_own():
    energy = _pair()
    square = en.Unrolled("square", num_steps=3)(energy, en.Batch(X, Y), torch.Generator()).value
    own = en.Unrolled(lambda end, right: 3 * (end - right).square().sum(1), num_steps=3)
    torch.testing.assert_close(own(energy, en.Batch(X, Y), torch.Generator()).value, 3 * square)


def test_answers_are_the_end_of_the_descent():
    """Of real answers from zero: E = (y - x)^2 / 2 brings y to (1 - (1 - s)^T) x."""
    energy = en.from_pair(lambda x, y: (y - x).square().sum(1) / 2, en.Real(2), en.Real(2))
    objective = en.Unrolled(num_steps=4, step_size=0.3)
    found = objective.answers(energy, X.float())
    torch.testing.assert_close(found, (1 - 0.7**4) * X.float())
    assert not found.requires_grad
    loss = objective(energy, en.Batch(X.float(), Y.float()), torch.Generator()).value
    torch.testing.assert_close(loss, (found - Y.float()).square().sum(1).mean())


def test_mirror_steps_of_local_terms_are_a_logistic_regression():
    """E = -f . y: after T steps y = sigmoid(T s f), and the cross entropy is that of the logits T s f."""
    energy = _pair()
    with torch.no_grad():
        energy.function.c.zero_()
    objective = en.Unrolled("cross entropy", num_steps=5, step_size=0.2, mirror=True).double()
    loss = objective(energy, en.Batch(X, Y), torch.Generator()).value
    logits = energy.function.w * X
    expected = nn.functional.binary_cross_entropy_with_logits(logits, Y, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_fit_learns_where_the_descent_ends_and_its_step():
    """Five steps of descent on a E of the wrong scale are made to end at the right answers."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=generator)
    y = 1.7 * x - 0.4

    class Affine(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)

        def forward(self, x, y):
            return (y - self.line(x)).square().sum(1) / 2

    torch.manual_seed(0)
    energy = en.from_pair(Affine(), en.Real(1), en.Real(1))
    objective = en.Unrolled(num_steps=5, step_size=0.05, learn_step=True)
    adam = functools.partial(torch.optim.Adam, lr=0.05)
    en.fit(energy, objective, (x, y), num_steps=400, batch_size=100, optimizer=adam, progress=False)
    assert float(objective.log_step.detach().exp()) > 0.1
    torch.testing.assert_close(objective.answers(energy, x[:20]), y[:20], rtol=0, atol=0.01)


def test_bad_input():
    for wrong in ({"num_steps": 0}, {"step_size": 0.0}, {"cost": "hinge"}):
        with pytest.raises(en.InputError, match=next(iter(wrong))):
            en.Unrolled(**wrong)
    batch, generator = en.Batch(X, Y), torch.Generator()
    with pytest.raises(en.InputError, match="chances"):
        en.Unrolled("cross entropy")(_pair(box=False), batch, generator)
    with pytest.raises(en.InputError, match="Box"):
        en.Unrolled(mirror=True)(_pair(box=False), batch, generator)
    with pytest.raises(en.InputError, match="momentum"):
        en.Unrolled(momentum=1.0)(_pair(), batch, generator)
    with pytest.raises(en.InputError, match="lie outside"):
        en.Unrolled()(_pair(), en.Batch(X, 2 * Y), generator)
    with pytest.raises(en.InputError, match="strictly inside"):
        en.unrolled(en.given(_pair(), context=X), Y, num_steps=1, step_size=0.1, mirror=True)
    labels = en.from_pair(lambda x, y: (x * y).sum(1), en.Real(3), en.Categorical((), 3))
    with pytest.raises(en.InputError, match="relax"):
        en.Unrolled()(labels, en.Batch(torch.zeros(2, 3), torch.tensor([0, 2])), generator)
    with pytest.raises(en.CapabilityError, match="from_pair"):
        en.Unrolled().answers(en.Gaussian(2), X)
