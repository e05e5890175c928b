"""Units: sites that are independent given their natural parameters, discrete or real."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

_LOG_ROOT_TWO_PI = math.log(2 * math.pi) / 2
_ROOT_TWO_BY_PI = math.sqrt(2 / math.pi)
_ROOT_HALF = math.sqrt(0.5)
_special: Any = cast(Any, torch.special)
_erfcx: Callable[[Tensor], Tensor] = _special.erfcx
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


@runtime_checkable
class Conserving(Protocol):
    """Units of which a chain keeps something: the number of words of a document."""

    def keeping(self, x: Tensor) -> Units:
        """The units that share what must be kept with x `[B, *sites]`, row by row."""
        ...


def keeping(units: Units, x: Tensor) -> Units:
    """The units that chains at x are drawn anew from: themselves, unless they keep something of x."""
    return units.keeping(x) if isinstance(units, Conserving) else units


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
        place, share = self._place(natural), _inside(uniform).double()
        # P(z > t) = Phi(place - t) / Phi(place), or, where that is too small a number, a formula of its logarithm.
        near = place.clamp_min(_TAIL)
        quantile = near - _ndtri(share * torch.erfc(-near * _ROOT_HALF) / 2)
        drawn = torch.where(place > _TAIL, quantile, _far_quantile(-place.clamp_max(_TAIL), share))
        tiny = torch.finfo(natural.dtype).tiny
        return (drawn * self.precision.rsqrt().double()).to(natural.dtype).clamp_min(tiny)

    def log_partition(self, natural: Tensor) -> Tensor:
        """place^2 / 2 + log Phi(place) + log sqrt(2 pi / precision), place = n / sqrt(precision), summed."""
        place = self._place(natural)
        # Below zero the first two terms would cancel. Both branches are finite everywhere, and so their gradients.
        low, high = place.clamp_max(0), place.clamp_min(0)
        above = high.square() / 2 + torch.log1p(-torch.erfc(high * _ROOT_HALF) / 2)
        sites = torch.where(place < 0, (_erfcx(-low * _ROOT_HALF) / 2).log(), above)
        sites = sites - self.precision.double().log() / 2 + _LOG_ROOT_TWO_PI
        return sites.flatten(1).sum(1).to(natural.dtype)

    def mean(self, natural: Tensor) -> Tensor:
        """(place + phi(place) / Phi(place)) / sqrt(precision); in float64."""
        place = self._place(natural)
        near = place + _ROOT_TWO_BY_PI / _erfcx(-place * _ROOT_HALF)
        # Far below zero the two terms cancel; there a series in 1 / place^2 has 13 digits.
        far = -place.clamp_max(-_SERIES)
        square = far.square().reciprocal()
        series = (1 - square * (2 - 10 * square)) / far
        found = torch.where(place < -_SERIES, series, near) * self.precision.rsqrt().double()
        return found.to(natural.dtype)

    def _place(self, natural: Tensor) -> Tensor:
        return natural.double() * self.precision.double().rsqrt()

    def with_precision(self, precision: Tensor) -> "Rectified":
        """Rectified units of another precision."""
        return Rectified(precision)


_TAIL = -5.0
_SERIES = 200.0


def _far_quantile(start: Tensor, share: Tensor) -> Tensor:
    """x with P(z > start + x) = share P(z > start) for a normal z, start >= 5: Newton's method on log P."""
    wanted = -share.log()
    # As if the hazard were z. It is a little more, so this is too far, and, log P being concave, steps come nearer.
    x = 2 * wanted / (start + (start.square() + 2 * wanted).sqrt())
    at_start = _erfcx(start * _ROOT_HALF).log()
    for _ in range(4):
        scaled = _erfcx((start + x) * _ROOT_HALF)
        x = x - (x * (x / 2 + start) + at_start - scaled.log() - wanted) * scaled / _ROOT_TWO_BY_PI
    return x


def _inside(uniform: Tensor) -> Tensor:
    """Uniforms in the open interval: 0 becomes half of the least step above it."""
    return uniform.clamp_min(torch.finfo(uniform.dtype).eps / 8)
