"""The most offending answer outside the ball around the right one, against a fine grid of the ball's surface."""

import math

import pytest
import torch

import energeia as en
from energeia.objectives.margin import most_offending, posed


def _least_outside(weights, right, radius, low, high):
    """The least of sum w y^2 outside the ball, which is on its surface if zero lies within."""
    angle = torch.linspace(0, 2 * math.pi, 200_001, dtype=torch.float64)
    points = right + radius * torch.stack([angle.cos(), angle.sin()], 1)
    points = points[((points >= low) & (points <= high)).all(1)]
    return (weights * points.square()).sum(1).min()


@pytest.mark.parametrize("radius", [0.5, 3.0])
@pytest.mark.parametrize("right", [[0.3, 0.2], [0.0, 0.0], [-0.1, 0.3]])
@pytest.mark.parametrize("space", [en.Real(2), en.Box(2, -2.8, 10.0)])
def test_descent_goes_on_along_the_ball(space, right, radius):
    """E = y_1^2 + 3 y_2^2 around zero; the right answer is near it, so that the minimum lies within the ball."""
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    energy = en.from_pair(lambda x, y: (y - x).square() @ weights.to(y), en.Real(2), space)
    y = torch.tensor([right], dtype=torch.float64)
    case = posed(energy, en.Batch(torch.zeros(1, 2, dtype=torch.float64), y), "Margin")
    search = en.Descent(num_steps=300, num_starts=20)
    wrong, known = most_offending(case, search, torch.Generator().manual_seed(0), radius=radius)
    low, high = (space.low, space.high) if isinstance(space, en.Box) else (-math.inf, math.inf)
    assert bool(known.all())
    assert bool(space.contains(wrong).all())
    assert float((wrong - y).norm()) > radius - 1e-9
    torch.testing.assert_close(
        case.field(wrong)[0], _least_outside(weights, y, radius, low, high), rtol=2e-3, atol=1e-6
    )
