"""What independent estimates of Z say together: their mean, its error, and how few of them carry it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.record import LogZ

_RESAMPLES = 1000
_AT_ONCE = 2**22


class Pooled(NamedTuple):
    """log mean w of weights w, float64.

    value: the estimate. standard_error: by the delta method. low, high: the middle 95 % of bootstrap means.
    effective_sample_size: (sum w)^2 / sum w^2, between 1 and their number.
    """

    value: Tensor
    standard_error: Tensor
    low: Tensor
    high: Tensor
    effective_sample_size: float


class Mean(NamedTuple):
    """log mean w of weights w, float64; its standard error by the delta method; (sum w)^2 / sum w^2."""

    value: Tensor
    standard_error: Tensor
    effective_sample_size: float


def mean_of(log_weights: Tensor) -> Mean:
    """The log of the mean of weights, from their logs `[n]`, without the resamples of `pooled`; one has no error."""
    log_weights = log_weights.double()
    value = log_weights.logsumexp(0) - math.log(len(log_weights))
    relative = (log_weights - value).exp()
    size = float(relative.sum().square() / relative.square().sum())
    if len(log_weights) == 1:
        return Mean(value, torch.full_like(value, math.inf), size)
    return Mean(value, relative.std() / math.sqrt(len(log_weights)), size)


def pooled(log_weights: Tensor) -> Pooled:
    """The log of the mean of weights, from their logs `[n]`.

    The interval is the percentile bootstrap of 1,000 resamples, with random numbers of its own, the same each
    time. With few effective weights it knows nothing of the large weights that were not drawn.

    Reference: Efron & Tibshirani (1993), An introduction to the bootstrap.
    """
    value, error, size = mean_of(log_weights)
    number = len(log_weights)
    if number == 1:
        return Pooled(value, error, -error, error, size)
    relative = (log_weights.double() - value).exp()
    generator = torch.Generator(log_weights.device).manual_seed(0)
    means: list[Tensor] = []
    rows = max(1, _AT_ONCE // number)
    for first in range(0, _RESAMPLES, rows):
        shape = (min(rows, _RESAMPLES - first), number)
        index = torch.randint(number, shape, generator=generator, device=log_weights.device)
        means.append(relative[index].mean(1))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64, device=value.device)
    # Nearest: a resample without the one weight that counts has a log of minus infinity, which nothing interpolates.
    shift = torch.cat(means).log().quantile(ends, interpolation="nearest")
    return Pooled(value, error, value + shift[0], value + shift[1], size)


def together(estimates: Sequence[LogZ]) -> LogZ:
    """Independent runs of one annealed estimate as a single one: all their weights."""
    first = estimates[0]
    logs = torch.cat([estimate.details["log_estimates"] for estimate in estimates])
    details = {**first.details, "num_chains": sum(estimate.details["num_chains"] for estimate in estimates)}
    method = f"{first.method}, {len(estimates)} times" if len(estimates) > 1 else first.method
    return one_sided(first.kind == "lower", logs, method, details)


def one_sided(below: bool, log_estimates: Tensor, method: str, details: dict[str, object]) -> LogZ:
    """`LogZ` of kind "lower" from logs `[n]` of independent unbiased estimates of Z, or "upper" from those of 1 / Z."""
    sign = 1 if below else -1
    found = pooled(sign * log_estimates)
    value = sign * found.value
    ends = sorted((sign * found.low, sign * found.high), key=float)
    nothing = torch.full_like(value, math.inf)
    low, high = (ends[0], nothing) if below else (-nothing, ends[1])
    details = {
        **details,
        "effective_sample_size": found.effective_sample_size,
        "interval": tuple(ends),
        "log_estimates": log_estimates,
    }
    return LogZ(value, found.standard_error, "lower" if below else "upper", low, high, method, details)
