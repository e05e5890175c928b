"""log p(x) = -E(x) - log Z, with the interval that the estimate of log Z leaves."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.record import LogZ
from energeia.partition.choose import log_z
from energeia.partition.schedule import Levels


class LogLikelihood(NamedTuple):
    """log p of rows, in nats.

    values: -E(x) - log Z for each row, `[B]`, float64, log Z at its estimate.
    mean: of the rows. low, high: the mean with log Z at the ends of its interval; equal where it is exact.
    log_z: what is known of log Z, and how that was got.
    """

    values: Tensor
    mean: float
    low: float
    high: float
    log_z: LogZ


def log_likelihood(
    energy: Energy,
    x: Tensor,
    *,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> LogLikelihood:
    """log p(x) of rows under a model, with log Z exact where it can be had, else bracketed.

    Args:
        energy: the model.
        x: rows `[B, *event]`, held out from training.
        num_chains, levels: effort of annealing (`ais`, `reverse_ais`), where log Z is not exact.
        num_steps: of the chains whose ends the annealing from above starts from; they begin at x.
        generator: random numbers, or a seed for them.

    Returns:
        `LogLikelihood`. Where log Z is estimated, the lower estimate is that of `ais` and the
        upper one that of `reverse_ais`, whose draws are chains begun at rows of x: an upper
        bound only as far as those chains have mixed.

    >>> import torch, energeia as en
    >>> rbm = en.RBM(6, 4)
    >>> found = en.log_likelihood(rbm, torch.ones(2, 6))
    >>> found.log_z.method, round(found.mean)
    ('enumeration of the hidden units', -4)
    """
    energy.space.check(x)
    with torch.no_grad():
        minus = torch.cat([energy(part).double() for part in x.split(10_000)])
    return with_log_z(
        minus, log_z(energy, x, num_chains=num_chains, levels=levels, num_steps=num_steps, generator=generator)
    )


def with_log_z(energies: Tensor, found: LogZ) -> LogLikelihood:
    """The log-likelihood of rows with energies `[B]`, float64."""
    mean, low, high = (float(-energies.mean() - log_z) for log_z in (found.value, found.high, found.low))
    return LogLikelihood(-energies - found.value, mean, low, high, found)
