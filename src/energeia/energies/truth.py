"""What is known of a target: moments, and one-dimensional densities as tables; and what such targets share."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.space import Real


class Moments(NamedTuple):
    """Mean and variance of every coordinate, `[*event]`, float64."""

    mean: Tensor
    variance: Tensor


@runtime_checkable
class KnownMoments(Protocol):
    """Capability: the mean and the variance of every coordinate are known, so a sampler's bias can be measured.

    Only energies that know them to rounding offer this: no reference here comes from a chain.

    >>> from energeia.energies import Banana, KnownMoments
    >>> Banana().capability(KnownMoments).truth().variance.sqrt()
    tensor([10.0000,  4.3589], dtype=torch.float64)
    """

    def truth(self) -> Moments:
        """The moments."""
        ...


class Target(Energy):
    """Base of targets that are given by numbers alone."""

    zero: Tensor

    def __init__(self, shape: int | tuple[int, ...], start_scale: float = 1.0) -> None:
        super().__init__(Real(shape, start_scale))
        # Carries dtype and device, so that .double() and .to(device) mean something.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def _normals(self, num_chains: int, generator: torch.Generator) -> Tensor:
        shape = (num_chains, *self.space.event_shape)
        return torch.randn(shape, generator=generator, dtype=self.zero.dtype, device=self.zero.device)

    def _doubles(self, *values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.zero.device)


class Table(NamedTuple):
    """A density on a line, on an even grid: nodes, unnormalised log density, cumulative probability; each `[N]`."""

    grid: Tensor
    log_density: Tensor
    cumulative: Tensor

    def log_z(self) -> Tensor:
        """log of the integral, by the trapezoid rule: exact to rounding for smooth densities, zero at the ends."""
        return self.log_density.logsumexp(0) + (self.grid[1] - self.grid[0]).log()

    def mean(self, values: Tensor) -> Tensor:
        """Expectation of a function given at the nodes, `[N, ...]` to `[...]`."""
        return torch.tensordot(self.log_density.softmax(0), values, 1)

    def quantile(self, uniform: Tensor) -> Tensor:
        """The inverse of the cumulative probability, linear between nodes."""
        right = torch.searchsorted(self.cumulative, uniform).clamp(1, len(self.grid) - 1)
        low, high = self.cumulative[right - 1], self.cumulative[right]
        part = ((uniform - low) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)).clamp(0, 1)
        return torch.lerp(self.grid[right - 1], self.grid[right], part)


def tabulate(grid: Tensor, log_density: Tensor) -> Table:
    """A table of a density that vanishes at both ends of an even float64 grid.

    With N nodes over some 20 standard deviations the quantiles' probabilities are off
    by (20 / N)^2 at most: 4e-7 for 2^15, which 10^9 draws would not show.
    """
    density = (log_density - log_density.max()).exp()
    area = torch.cat([density.new_zeros(1), (density[1:] + density[:-1]).cumsum(0)])
    return Table(grid, log_density, area / area[-1])
