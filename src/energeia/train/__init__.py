"""Training: the loop, its guard, checkpoints that survive; and sampling on several processes."""

from energeia.train.fit import Result, fit
from energeia.train.guard import Guard
from energeia.train.measure import HeldOutLikelihood, HiddenUnits, Measure
from energeia.train.parallel import log_z_parallel, sample_parallel
from energeia.train.pretrain import pretrain

__all__ = [
    "Guard",
    "HeldOutLikelihood",
    "HiddenUnits",
    "Measure",
    "Result",
    "fit",
    "log_z_parallel",
    "pretrain",
    "sample_parallel",
]
