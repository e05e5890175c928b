"""Spaces with walls that curve or open: positive numbers and probabilities."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.space import Space, all_events, as_shape, uniform_numbers


@dataclass(frozen=True)
class Positive(Space):
    """Each number of x above zero. Chains start log-normally: start_scale exp(N(0, 1)).

    Args:
        shape: event shape.
        start_scale: median of the start points, > 0, in units of x.

    Samplers that move x freely leave this set: run them on `unconstrained(energy)`.
    """

    start_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_scale < math.inf:
            raise InputError(f"Positive: start_scale must be a positive finite number, got {self.start_scale}")

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Log-normal start points."""
        shape = (num_chains, *self.event_shape)
        normal = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
        return self.start_scale * normal.exp()

    def same_set(self, other: Space) -> bool:
        """Whether the same x belong to both; where chains start does not matter."""
        return isinstance(other, Positive) and self.event_shape == other.event_shape

    def contains(self, x: Tensor) -> Tensor:
        """True where every entry is finite and above zero."""
        return all_events((x > 0) & x.isfinite())


@dataclass(frozen=True)
class Simplex(Space):
    """At every site K probabilities that sum to one. Chains start uniformly over the simplex.

    The event shape is `(*sites, K)`. Densities are over the first K - 1 probabilities
    of each site, as is usual for the Dirichlet: log Z is the integral over those.

    Args:
        shape: shape of the sites, without the axis of probabilities.
        num_categories: K, at least 2.

    Samplers that move x freely leave this set: run them on `unconstrained(energy)`.
    """

    num_categories: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_categories < 2:
            raise InputError(f"Simplex: num_categories must be at least 2, got {self.num_categories}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(*sites, K)`."""
        return (*as_shape(self.shape, "Simplex"), self.num_categories)

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform over the simplex: exponential variables over their sum."""
        uniform = uniform_numbers((num_chains, *self.event_shape), generator, dtype)
        # 1 - u lies in (0, 1]; a zero would put a start on the wall.
        exponential = (-torch.log1p(-uniform)).clamp_min(torch.finfo(uniform.dtype).tiny)
        return exponential / exponential.sum(-1, keepdim=True)

    def contains(self, x: Tensor) -> Tensor:
        """True where no entry is negative and every site sums to one, to rounding."""
        tolerance = (16 + self.num_categories) * torch.finfo(x.dtype).eps
        return all_events(x >= 0) & all_events((x.sum(-1) - 1).abs() <= tolerance)
