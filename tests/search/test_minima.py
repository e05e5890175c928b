"""The runner-up of real answers is another minimum, not the same one met again."""

import pytest
import torch

import energeia as en


def _wells(x, y):
    """Minima near -1 and +1 of a quartic, tilted by x."""
    return ((y.square() - 1).square() + 0.3 * x * y).sum(1)


def test_the_gap_of_two_wells_is_that_of_their_minima():
    energy = en.from_pair(_wells, en.Real(1), en.Real(1))
    x = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
    found = en.predict(energy, x, en.Descent(num_starts=20, num_steps=300), num_best=2)
    line = torch.linspace(-2, 2, 400_001, dtype=torch.float64)
    for row, (first, second) in enumerate(found.best.flatten(1).tolist()):
        level = (line.square() - 1).square() + 0.3 * x[row] * line
        left, right = level[line < 0].min(), level[line > 0].min()
        assert first * second < 0
        torch.testing.assert_close(found.gap[row], (left - right).abs(), rtol=1e-4, atol=1e-6)


def test_one_minimum_has_no_runner_up():
    energy = en.from_pair(lambda x, y: (y - x).square().sum(1), en.Real(2), en.Real(2))
    found = en.predict(energy, torch.ones(3, 2), en.Descent(num_starts=8), num_best=2)
    assert bool(found.gap.isinf().all())


def test_inputs_of_another_dtype_are_told():
    energy = en.Classifier(torch.nn.Linear(2, 3), en.Real(2))
    for x in (torch.ones(4, 2, dtype=torch.float64), torch.ones(4, 2, dtype=torch.int64), [[1.0, 2.0]]):
        with pytest.raises(en.InputError, match=r"predict: x is .* and the energy torch\.float32"):
            en.predict(energy, x)
