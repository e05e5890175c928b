"""A Gaussian on every row: a kernel density as an energy."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Real

# Numbers in one table of distances.
_AT_ONCE = 2**22


class KernelDensity(Energy):
    """E(x) = -log (1/N) sum_n exp(-|(x - x_n) / h|^2 / 2) on `Real`: a Gaussian of width h around each of N rows.

    Args:
        x: rows `[N, *event]`, N >= 1; their dtype is the energy's.
        bandwidth: h, a number or a tensor of the event shape, > 0, in the units of x; None is Scott's rule, the
            standard deviation of each number times N^(-1 / (d + 4)), which needs two rows.

    log Z = sum log h + d / 2 log 2 pi. Has the capabilities `Tractable` and `Explicit`. Rows of a training set are far
    more likely under its own kernels than other rows are: choose h by held-out rows.

    Cost: N d multiplications for each x. Rows are taken in parts of 2^22 distances, and memory does not grow with N
    beyond that, with a gradient to x neither, whose parts are computed twice.

    Reference: Scott (1992), Multivariate density estimation, https://doi.org/10.1002/9780470316849

    >>> import torch, energeia as en
    >>> energy = en.KernelDensity(torch.tensor([[0.0], [2.0]]), 1.0)
    >>> energy(torch.tensor([[1.0]]))
    tensor([0.5000])
    """

    rows: Tensor
    bandwidth: Tensor
    centre: Tensor

    def __init__(self, x: Tensor, bandwidth: float | Tensor | None = None) -> None:
        if x.dim() < 2 or len(x) == 0 or not x.is_floating_point():
            raise InputError(
                f"KernelDensity: x must be floating rows [N, *event], N >= 1, got {list(x.shape)} {x.dtype}"
            )
        space = Real(tuple(x.shape[1:]))
        space.check(x)
        if bandwidth is None:
            if len(x) < 2:
                raise InputError("KernelDensity: Scott's rule needs two rows; give a bandwidth")
            bandwidth = x.double().std(0) * len(x) ** (-1 / (space.num_dims + 4))
        elif not isinstance(bandwidth, Tensor):
            check_positive("KernelDensity", bandwidth=bandwidth)
        width = torch.as_tensor(bandwidth, dtype=torch.float64, device=x.device).expand(space.event_shape).clone()
        if not bool(((width > 0) & width.isfinite()).all()):
            raise InputError(
                "KernelDensity: the bandwidth must be positive and finite everywhere, its least is "
                f"{width.min().item():g}; by Scott's rule a column that never varies has none"
            )
        super().__init__(Real(tuple(x.shape[1:]), max(float(x.double().std(correction=0)), float(width.mean()))))
        # Around their mean, squares of distances lose the fewest digits.
        centre = x.double().mean(0)
        self.register_buffer("bandwidth", width.to(x.dtype))
        self.register_buffer("centre", centre.to(x.dtype))
        self.register_buffer("rows", ((x.double() - centre) / width).flatten(1).to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        size = max(1, _AT_ONCE // len(self.rows))
        parts = [self._part(part) for part in x.split(size)] if len(x) > size else [self._part(x)]
        return torch.cat(parts)

    def _part(self, x: Tensor) -> Tensor:
        white = ((x - self.centre) / self.bandwidth).flatten(1)
        found: list[Tensor] = []
        for rows in self.rows.split(_AT_ONCE):
            if torch.is_grad_enabled() and white.requires_grad:
                again: Any = checkpoint(_log_kernels, white, rows, use_reentrant=False)
                found.append(again)
            else:
                found.append(_log_kernels(white, rows))
        return math.log(len(self.rows)) - torch.stack(found).logsumexp(0)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) `[B]`."""
        return -self(x) - self.log_z().value.to(x.dtype)

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        value = self.bandwidth.double().log().sum() + self.space.num_dims * math.log(2 * math.pi) / 2
        return LogZ.exact(value, "Gaussian integrals")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`: a row, and a step of the kernel away from it."""
        which = torch.randint(len(self.rows), (num_chains,), generator=generator, device=self.rows.device)
        shape = (num_chains, self.rows.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=self.rows.dtype, device=self.rows.device)
        return self.centre + self.bandwidth * (self.rows[which] + noise).view(-1, *self.space.event_shape)


def _log_kernels(white: Tensor, rows: Tensor) -> Tensor:
    """log sum_n exp(-|x - x_n|^2 / 2) `[B]`."""
    inner = white @ rows.T - rows.square().sum(1) / 2
    return inner.logsumexp(1) - white.square().sum(1) / 2
