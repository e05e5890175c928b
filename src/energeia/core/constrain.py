"""Boxes, positive numbers and simplices without their walls: the same density on unbounded coordinates."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from energeia.core.energy import CLOSED, Capability, Energy, Tractable
from energeia.core.errors import InputError
from energeia.core.positive import Positive, Simplex
from energeia.core.record import LogZ
from energeia.core.space import Box, Enumerable, Real, Space


def unconstrained(energy: Energy) -> "Unconstrained":
    """The density of an energy on unbounded coordinates, where every sampler of `Real` can move.

    E_y(y) = E(x(y)) - log |det dx/dy|, with log Z unchanged. Draw y with any sampler
    and map the draws: `energy.constrain(draws.kept)` has the density of the original.

    Args:
        energy: on `Box`: x = low + (high - low) sigmoid(y); on `Positive`:
            x = start_scale log(1 + exp(y)); on `Simplex`: stick breaking, K - 1 coordinates a
            site, y = 0 the uniform distribution; on `Real`: x = y.

    Raises:
        InputError: the space is discrete, or none of these.

    Example:
        >>> import torch, energeia as en
        >>> from energeia.core.constrain import unconstrained
        >>> beta = en.from_module(lambda x: -(x.log() + 2 * (1 - x).log()).sum(1), en.Box(1, low=0.0, high=1.0))
        >>> draws = en.sample(unconstrained(beta), en.MALA(step_size=1.0), num_chains=1_000, num_steps=50)
        >>> unconstrained(beta).constrain(draws.kept).shape
        torch.Size([1, 1000, 1])
    """
    return Unconstrained(energy)


class Unconstrained(Energy):
    """What `unconstrained` returns: E_y(y) = E(x(y)) - log |det dx/dy| on `Real`.

    Keeps `Tractable` and drops the other capabilities. Beside one evaluation of E it
    costs a few operations on y.

    Far out in y, x is held where its logarithm, and that of its distance to a wall, is
    finite: one rounding step inside the walls of a box, the smallest normal number
    above zero. There E no longer changes with y; the log determinant, which is never
    held, still does. Near a wall other than 0 the density of a pole such as
    (1 - x)^(-1/2) is resolved to the rounding of x: give it in float64.

    `Positive` is mapped by the softplus and not by the exponential: its slope is below
    start_scale, so gradients are never steeper than those of E. With an exponential a
    chain that starts far out meets gradients that grow as exp(y), and MALA stays there.
    For x well below start_scale the two agree. A tail heavier than exponential, of a
    half-Cauchy scale say, stays as heavy in y: there make the logarithm the coordinate.
    """

    def __init__(self, energy: Energy) -> None:
        self.bijection = _bijection(energy.space)
        super().__init__(self.bijection.domain())
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """E_y `[B]` of y `[B, *event]`."""
        inside, log_determinant = self.bijection.forward(x)
        return self.energy(inside) - log_determinant.flatten(1).sum(1)

    def constrain(self, y: Tensor) -> Tensor:
        """x(y) `[..., *event of the energy]` of y `[..., *event]`, with any leading shape."""
        self._check(y, self.space.event_shape, "constrain")
        return self.bijection.forward(y)[0]

    def unconstrain(self, x: Tensor) -> Tensor:
        """y(x), the inverse of constrain. Points on a wall get the outermost finite y."""
        self._check(x, self.energy.space.event_shape, "unconstrain")
        return self.bijection.inverse(x)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable` if the energy has it."""
        part = self.energy.capability(Tractable) if kind in CLOSED else None
        view = cast(object, None if part is None else _MappedTractable(part, self.bijection))
        return view if isinstance(view, kind) else None

    def _check(self, values: Tensor, event: tuple[int, ...], who: str) -> None:
        if tuple(values.shape[values.dim() - len(event) :]) != event or values.dim() < len(event):
            raise InputError(
                f"{who}(): expected a shape that ends with {list(event)}, got {list(values.shape)}; "
                f"the energy lives on {self.energy.space}, its coordinates on {self.space}"
            )


class _Bijection(ABC):
    """A smooth map of unbounded coordinates onto a space."""

    @abstractmethod
    def domain(self) -> Real:
        """Where y lives, with start points about as wide as those of the space."""

    @abstractmethod
    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x, and parts of the log determinant that sum to it over the event."""

    @abstractmethod
    def inverse(self, x: Tensor) -> Tensor:
        """y of x."""


@dataclass(frozen=True)
class _Identity(_Bijection):
    space: Real

    def domain(self) -> Real:
        return self.space

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, torch.zeros_like(y)

    def inverse(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class _Interval(_Bijection):
    """x = low + width sigmoid(y), measured from the nearer wall, so that small distances keep their digits."""

    space: Box

    def domain(self) -> Real:
        # The standard deviation of the logit of a uniform variable, which is how chains start in a box.
        return Real(self.space.event_shape, math.pi / math.sqrt(3))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.space.low, self.space.high
        width = high - low
        x = torch.where(y < 0, low + width * y.sigmoid(), high - width * (-y).sigmoid())
        return x.clamp(*self._edges(x.dtype)), math.log(width) + logsigmoid(y) + logsigmoid(-y)

    def inverse(self, x: Tensor) -> Tensor:
        inside = x.clamp(*self._edges(x.dtype))
        return (inside - self.space.low).log() - (self.space.high - inside).log()

    def _edges(self, dtype: torch.dtype) -> tuple[float, float]:
        """The first numbers of the dtype inside the walls, or a rounding step away from them."""
        limits = torch.finfo(dtype)
        low, high = self.space.low, self.space.high
        return low + max(limits.tiny, limits.eps * abs(low)), high - max(limits.tiny, limits.eps * abs(high))


@dataclass(frozen=True)
class _Softplus(_Bijection):
    """x = scale log(1 + exp(y))."""

    space: Positive

    def domain(self) -> Real:
        return Real(self.space.event_shape)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.space.start_scale
        x = (scale * softplus(y)).clamp_min(torch.finfo(y.dtype).tiny)
        return x, math.log(scale) + logsigmoid(y)

    def inverse(self, x: Tensor) -> Tensor:
        ratio = x.clamp_min(torch.finfo(x.dtype).tiny) / self.space.start_scale
        return ratio + (-torch.expm1(-ratio)).log()


@dataclass(frozen=True)
class _StickBreaking(_Bijection):
    """x_k = sigmoid(u_k) prod_j<k (1 - sigmoid(u_j)), u_k = y_k - log(K - k), k = 1..K-1; x_K is what is left.

    All in logarithms: torch's own transform takes the logarithm of products that
    have been rounded to zero, and its log determinant is wrong beyond |y| = 17.
    """

    space: Simplex

    def domain(self) -> Real:
        *sites, num_categories = self.space.event_shape
        # The standard deviation of the last break of a uniform simplex; the earlier ones have .7 of it or more.
        return Real((*sites, num_categories - 1), math.pi / math.sqrt(3))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        left = self._left(y)
        u = y - left.log()
        log_taken, log_kept = logsigmoid(u), logsigmoid(-u)
        log_rest = log_kept.cumsum(-1)
        log_x = torch.cat([log_taken[..., :1], log_taken[..., 1:] + log_rest[..., :-1], log_rest[..., -1:]], -1)
        # dx_k/dy_k = sigmoid(u_k) (1 - sigmoid(u_k)) times the stick left, to which each earlier break contributes.
        return log_x.exp().clamp_min(torch.finfo(y.dtype).tiny), log_taken + left * log_kept

    def inverse(self, x: Tensor) -> Tensor:
        safe = x.clamp_min(torch.finfo(x.dtype).tiny)
        rest = safe.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        left = self._left(rest)
        return safe[..., :-1].log() - rest.log() + left.log()

    def _left(self, like: Tensor) -> Tensor:
        """K - k for k = 1..K-1: how many parts are still to come."""
        return torch.arange(self.space.num_categories - 1, 0, -1, dtype=like.dtype, device=like.device)


class _MappedTractable:
    """`Tractable` on the unbounded coordinates."""

    def __init__(self, part: Tractable, bijection: _Bijection) -> None:
        self._part, self._bijection = part, bijection

    def log_z(self) -> LogZ:
        return self._part.log_z()

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        return self._bijection.inverse(self._part.sample_exact(num_chains, generator))


def _bijection(space: Space) -> _Bijection:
    if isinstance(space, Real):
        return _Identity(space)
    if isinstance(space, Box):
        return _Interval(space)
    if isinstance(space, Positive):
        return _Softplus(space)
    if isinstance(space, Simplex):
        return _StickBreaking(space)
    if isinstance(space, Enumerable):
        raise InputError(
            f"unconstrained(): {space} is discrete and has no unbounded coordinates; sample it as it is, with Gibbs, "
            "GibbsWithGradients or Metropolis"
        )
    raise InputError(f"unconstrained(): {space} is not known; it takes Box, Positive, Simplex and Real")
