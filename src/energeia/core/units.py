"""Units: sites that are independent given their natural parameters, discrete or real."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

_LOG_ROOT_TWO_PI = math.log(2 * math.pi) / 2
_special: Any = cast(Any, torch.special)
_ndtr: Callable[[Tensor], Tensor] = _special.ndtr
_log_ndtr: Callable[[Tensor], Tensor] = _special.log_ndtr
_ndtri: Callable[[Tensor], Tensor] = _special.ndtri


@runtime_checkable
class Units(Protocol):
    """Sites with p(x) = exp(n . x - A(n)) m(x), natural parameters n and a base measure m.

    `Binary`, `Spin` and `Categorical` spaces are units whose measure counts.
    """

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """x drawn from natural parameters `[B, *sites]` with uniforms in [0, 1) of the same shape."""
        ...

    def log_partition(self, natural: Tensor) -> Tensor:
        """A(n) summed over the sites, `[B]`."""
        ...

    def mean(self, natural: Tensor) -> Tensor:
        """E[x] given n, in the shape of n."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """Units whose measure is Gaussian and not a count: it takes part in annealing."""

    precision: Tensor

    def with_precision(self, precision: Tensor) -> Units:
        """The same kind of units with another measure."""
        ...


@dataclass(frozen=True, eq=False)
class Normal:
    """Real units, m(x) = exp(-precision x^2 / 2): N(n / precision, 1 / precision).

    Args:
        precision: `[*sites]`, or `[B, *sites]` with one for each chain; > 0.
    """

    precision: Tensor

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """The quantile of each uniform; the tails end where the uniforms do, at 5.4 (float32) or 8.3 sd."""
        return natural / self.precision + _ndtri(_inside(uniform)) * self.precision.rsqrt()

    def log_partition(self, natural: Tensor) -> Tensor:
        """n^2 / (2 precision) + log sqrt(2 pi / precision), summed."""
        sites = natural.square() / (2 * self.precision) - self.precision.log() / 2 + _LOG_ROOT_TWO_PI
        return sites.flatten(1).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """n / precision."""
        return natural / self.precision

    def with_precision(self, precision: Tensor) -> "Normal":
        """Normal units of another precision."""
        return Normal(precision)


@dataclass(frozen=True, eq=False)
class Rectified:
    """Positive units, m(x) = exp(-precision x^2 / 2) for x > 0: a normal cut off at zero.

    Args:
        precision: `[*sites]`, or `[B, *sites]` with one for each chain; > 0.

    The unit of Nair & Hinton (2010) is max(0, N(n, .)), which has no energy; this one has.
    """

    precision: Tensor

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """The quantile of each uniform, > 0; computed in float64."""
        place = (natural * self.precision.rsqrt()).double()
        share = _inside(uniform).double()
        # P(z > t) = Phi(place - t) / Phi(place). Far below zero Phi is too small a number, and the tail exponential.
        near = place.clamp_min(_TAIL)
        quantile = near - _ndtri(share * _ndtr(near))
        drawn = torch.where(place > _TAIL, quantile, share.log() / place)
        tiny = torch.finfo(natural.dtype).tiny
        return (drawn * self.precision.rsqrt().double()).to(natural.dtype).clamp_min(tiny)

    def log_partition(self, natural: Tensor) -> Tensor:
        """place^2 / 2 + log Phi(place) + log sqrt(2 pi / precision), place = n / sqrt(precision), summed."""
        place = natural * self.precision.rsqrt()
        sites = place.square() / 2 + _log_ndtr(place) - self.precision.log() / 2 + _LOG_ROOT_TWO_PI
        return sites.flatten(1).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """(place + phi(place) / Phi(place)) / sqrt(precision)."""
        place = natural * self.precision.rsqrt()
        ratio = (-place.square() / 2 - _LOG_ROOT_TWO_PI - _log_ndtr(place)).exp()
        return (place + ratio) * self.precision.rsqrt()

    def with_precision(self, precision: Tensor) -> "Rectified":
        """Rectified units of another precision."""
        return Rectified(precision)


_TAIL = -35.0


def _inside(uniform: Tensor) -> Tensor:
    """Uniforms in the open interval: 0 becomes half of the least step above it."""
    return uniform.clamp_min(torch.finfo(uniform.dtype).eps / 8)
