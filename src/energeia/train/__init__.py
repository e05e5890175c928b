"""Training: the loop, its guard, checkpoints that survive; and sampling on several processes."""

from energeia.train.fit import Result, fit
from energeia.train.guard import Guard
from energeia.train.parallel import sample_parallel

__all__ = ["Guard", "Result", "fit", "sample_parallel"]
