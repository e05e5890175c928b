"""Training: the loop, its guard, and checkpoints that survive."""

from energeia.train.fit import Result, fit
from energeia.train.guard import Guard

__all__ = ["Guard", "Result", "fit"]
