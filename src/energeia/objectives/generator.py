"""A network that draws x from latent noise, and an estimate of the gradient of its density, which it does not know."""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from energeia.core.energy import dtype_and_device
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import jacobian
from energeia.core.space import Real


class Drawn(NamedTuple):
    """Rows of a generator: x `[N, *event]` with its graph, and the latent z `[N, latent]` it came from."""

    x: Tensor
    z: Tensor


class Generator(nn.Module):
    """x = g(z) + noise_scale xi with z and xi normal: draws at the cost of one pass, without a density.

    Its density q(x) = E_z N(x; g(z), noise_scale^2) has no closed form. d log q / dx, which is all that the gradient of
    its entropy needs, is the mean of (g(z) - x) / noise_scale^2 over the posterior of z given x. That is estimated
    by self-normalised importance sampling from the posterior that g would have were it linear around the z that x
    came from, in pairs on both sides of its mean: exact for a linear g, and biased else, less the more pairs there are.

    Args:
        network: g, from z `[N, latent]` to `[N, *event]`, row by row.
        space: `Real`, where x lives.
        num_latent: numbers in z.
        noise_scale: standard deviation of the noise on x, > 0, in the units of x. Draws carry it.
        num_pairs: pairs of z for each x in the estimate, >= 1.

    Cost of an estimate: num_latent + 2 num_pairs passes, and a Cholesky factor of num_latent^2 numbers for each row.

    It differs in that from VERA (Grathwohl et al. 2021), which samples from a normal of one learned spread around that
    z: its samples keep what x knows of its own z, and its entropy gradient is too small even for linear generators.

    >>> import torch, energeia as en
    >>> generator = en.Generator(torch.nn.Linear(2, 3), en.Real(3), 2)
    >>> drawn = generator.rsample(5, torch.Generator().manual_seed(0))
    >>> log_q, score = generator.density(drawn, torch.Generator().manual_seed(1))
    >>> log_q.shape, score.shape
    (torch.Size([5]), torch.Size([5, 3]))
    """

    def __init__(
        self, network: nn.Module, space: Real, num_latent: int, *, noise_scale: float = 0.1, num_pairs: int = 10
    ) -> None:
        super().__init__()
        check_count("Generator", num_latent=num_latent, num_pairs=num_pairs)
        check_positive("Generator", noise_scale=noise_scale)
        if not isinstance(space, Real):
            raise InputError(f"Generator: adds normal noise and needs a Real space, got {space}")
        self.network, self.space, self.num_latent = network, space, num_latent
        self.noise_scale, self.num_pairs = float(noise_scale), num_pairs
        dtype, device = dtype_and_device(network)
        with torch.no_grad():
            shape = tuple(network(torch.zeros(2, num_latent, dtype=dtype, device=device)).shape)
        if shape != (2, *space.event_shape):
            raise InputError(
                f"Generator: the network maps [2, {num_latent}] to {list(shape)}, but {space} needs "
                f"{[2, *space.event_shape]}; end it with nn.Unflatten, or change its last layer"
            )

    def rsample(self, num_chains: int, generator: torch.Generator) -> Drawn:
        """Draws, with their graph to the network's parameters."""
        z = self._normals((num_chains, self.num_latent), generator)
        clean = self._clean(z)
        return Drawn(clean + self.noise_scale * self._normals(tuple(clean.shape), generator), z)

    def density(self, drawn: Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """log q(x) `[N]`, low on average, and d log q(x) / dx `[N, *event]`, estimated at its own draws; detached."""
        x, middle = drawn.x.detach().flatten(1), drawn.z
        with torch.no_grad():
            # The posterior of a linear g: precision 1 + A'A, with A = J / noise_scale.
            slope = jacobian(lambda z: self._clean(z).flatten(1), middle) / self.noise_scale
            off = (x - self._clean(middle).flatten(1)) / self.noise_scale
            precision = torch.eye(self.num_latent, dtype=x.dtype, device=x.device) + slope.mT @ slope
            factor = torch.linalg.cholesky(precision)
            pull = slope.mT @ (off.unsqueeze(2) + slope @ middle.unsqueeze(2))
            mean = torch.cholesky_solve(pull, factor).squeeze(2)
            half = self._normals((self.num_pairs, *middle.shape), generator)
            # The same way to the other side of the mean makes what is linear in z cancel.
            white = torch.cat([half, -half])
            z = mean + torch.linalg.solve_triangular(factor.mT, white.unsqueeze(3), upper=True).squeeze(3)
            clean = self._clean(z.flatten(0, 1)).reshape(*z.shape[:2], -1)
            left = (x - clean) / self.noise_scale
            log_joint = -z.square().sum(2) / 2 - left.square().sum(2) / 2
            log_r = factor.diagonal(dim1=1, dim2=2).log().sum(1) - white.square().sum(2) / 2
            log_weight = log_joint - log_r
            score = -(log_weight.softmax(0).unsqueeze(2) * left).sum(0) / self.noise_scale
            constant = x.shape[1] * math.log(self.noise_scale * math.sqrt(2 * math.pi))
            log_q = log_weight.logsumexp(0) - math.log(len(z)) - constant
        return log_q, score.view_as(drawn.x)

    def _clean(self, z: Tensor) -> Tensor:
        return cast(Callable[[Tensor], Tensor], self.network)(z)

    def _normals(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        dtype, device = dtype_and_device(self.network)
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)
