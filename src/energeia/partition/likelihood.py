"""log p(x) = -E(x) - log Z, with the interval that the estimate of log Z leaves."""

import math
from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.partition.bracket import Effort
from energeia.partition.choose import log_z


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


def log_likelihood(energy: Energy, x: Tensor, **effort: Unpack[Effort]) -> LogLikelihood:
    """log p(x) of rows under a model, with log Z exact where it can be had, else bracketed.

    Args:
        energy: the model.
        x: rows `[B, *event]`, held out from training.
        effort: as of `log_z`, for the annealing of log Z where it is not exact; chains from whose ends the annealing
            from above starts begin at x.

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
    return with_log_z(minus, log_z(energy, x, **effort))


def with_log_z(energies: Tensor, found: LogZ) -> LogLikelihood:
    """The log-likelihood of rows with energies `[B]`, float64."""
    mean, low, high = (float(-energies.mean() - log_z) for log_z in (found.value, found.high, found.low))
    return LogLikelihood(-energies - found.value, mean, low, high, found)


class BitsPerDimension(NamedTuple):
    """-log2 p(x) / D: value for the mean of the rows, low and high where log Z is at the ends of its interval."""

    value: float
    low: float
    high: float


def bits_per_dimension(found: LogLikelihood, space: Space, *, bin_width: float | None = None) -> BitsPerDimension:
    """Bits per dimension, as image models are compared by: the lower, the better.

    On `Binary`, `Spin` and `Categorical` -log2 p(x) / D, D the number of sites. On `Real` and `Box` x is a level of a
    picture, spread over its bin of width w by uniform noise (dequantisation, `energeia.data.Dequantize`):
    P(level) >= exp E log(p(x) w^D), so that -(log p(x) + D log w) / (D log 2) bounds the bits of the levels from above.

    Args:
        found: from `log_likelihood` of x that was dequantised, where the space is continuous.
        space: of x.
        bin_width: w, the spacing of levels in units of x: 1/256 for bytes on [0, 1]; only on continuous spaces.

    Levels that are not dequantised make the density at them, and these bits, as good as one likes: a model may put
    all its mass on them.

    Reference: Theis, van den Oord & Bethge (2016), A note on the evaluation of generative models.
    https://arxiv.org/abs/1511.01844

    >>> import torch, energeia as en
    >>> bits = en.Independent(en.Binary(4), torch.zeros(4))
    >>> en.bits_per_dimension(en.log_likelihood(bits, torch.ones(3, 4)), bits.space).value
    1.0
    """
    if isinstance(space, Real | Box):
        if bin_width is None:
            raise InputError(
                f"bits_per_dimension: on {space} give bin_width, the spacing of levels in units of x: 1/256 for bytes "
                "on [0, 1], with x dequantised by uniform noise of that width"
            )
        check_positive("bits_per_dimension", bin_width=bin_width)
        number, shift = space.num_dims, math.log(bin_width)
    elif isinstance(space, Binary | Spin | Categorical):
        if bin_width is not None:
            raise InputError(f"bits_per_dimension: x on {space} has no bins; leave bin_width out")
        number = space.num_dims // (space.num_categories if isinstance(space, Categorical) else 1)
        shift = 0.0
    else:
        raise InputError(f"bits_per_dimension: not defined on {space}")

    def bits(log_p: float) -> float:
        return -(log_p / number + shift) / math.log(2)

    return BitsPerDimension(bits(found.mean), bits(found.high), bits(found.low))
