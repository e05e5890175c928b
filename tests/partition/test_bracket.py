"""log Z between two estimates: what the interval covers and what is said."""

import math

import pytest
import torch

import energeia as en
from energeia.partition import enclosing


def _estimate(value, error, kind):
    value, error = torch.tensor(value), torch.tensor(error)
    ends, nothing = (value - 2 * error, value + 2 * error), torch.tensor(math.inf)
    low, high = (ends[0], nothing) if kind == "lower" else (-nothing, ends[1])
    return en.LogZ(value, error, kind, low, high, kind, {"interval": ends})


@pytest.mark.parametrize(
    ("lower", "upper", "low", "high"),
    [
        ((1.0, 0.1), (2.0, 0.3), 0.8, 2.6),
        ((2.0, 0.1), (1.0, 0.1), 0.8, 2.2),
        # The wide one lies inside out on both sides of the narrow one.
        ((1.0, 0.01), (1.1, 1.0), -0.9, 3.1),
    ],
)
def test_the_interval_covers_both_estimates(lower, upper, low, high):
    found = enclosing(_estimate(*lower, "lower"), _estimate(*upper, "upper"))
    assert float(found.low) == pytest.approx(low)
    assert float(found.high) == pytest.approx(high)


def test_sides_that_contradict_are_told():
    apart = enclosing(_estimate(2.0, 0.1, "lower"), _estimate(1.0, 0.1, "upper"))
    assert apart.details["contradicted"]
    assert "1 nats below" in apart.method
    assert "not mixed" in apart.method
    crossed = enclosing(_estimate(2.0, 0.1, "lower"), _estimate(1.9, 0.1, "upper"))
    assert not crossed.details["contradicted"]
    assert "mixed" not in crossed.method


def test_an_energy_without_parameters():
    """The volume of hidden units needs a dtype, which parameters need not give."""
    machine = en.RBM(5, 4).double()
    exact = en.exact_log_z(machine).value
    for name in [name for name, _ in machine.named_parameters()]:
        value = getattr(machine, name).detach().clone()
        delattr(machine, name)
        machine.register_buffer(name, value)
    assert not list(machine.parameters())
    base = en.Independent(machine.space, torch.zeros(5, dtype=torch.float64))
    assert (en.ais(machine, base=base, levels=200).value - exact).abs() < 0.1
