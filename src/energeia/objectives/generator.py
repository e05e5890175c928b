"""A network that draws x from latent noise, and an estimate of the gradient of its density, which it does not know."""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from energeia.core.energy import dtype_and_device
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import frozen
from energeia.core.space import Real


class Drawn(NamedTuple):
    """Rows of a generator: x `[N, *event]` with its graph, and the latent z `[N, latent]` it came from."""

    x: Tensor
    z: Tensor


class Generator(nn.Module):
    """x = g(z) + noise_scale xi with z and xi normal: draws at the cost of one pass, without a density.

    Its density q(x) = E_z N(x; g(z), noise_scale^2) has no closed form. d log q / dx, which is all that the gradient of
    its entropy needs, is the mean of d log N(x; g(z), noise_scale^2) / dx over the posterior of z given x. That is
    estimated by self-normalised importance sampling from normals around the z that x came from, whose
    spread is learned by maximising the evidence lower bound.

    Args:
        network: g, from z `[N, latent]` to `[N, *event]`.
        space: `Real`, where x lives.
        num_latent: numbers in z.
        noise_scale: standard deviation of the noise on x, > 0, in the units of x. Draws carry it.
        num_samples: of z for each x in the estimate.
        spread: of these at first, > 0.

    The estimate is biased, less the more samples there are; all is well only while the posterior of z
    has one mode, near the z that was drawn.

    Reference: Grathwohl, Kelly, Hashemi, Norouzi, Swersky & Duvenaud (2021), No MCMC for me: amortized sampling for
    fast and stable training of energy-based models, https://arxiv.org/abs/2010.04230
    """

    def __init__(
        self,
        network: nn.Module,
        space: Real,
        num_latent: int,
        *,
        noise_scale: float = 0.1,
        num_samples: int = 20,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        check_count("Generator", num_latent=num_latent, num_samples=num_samples)
        check_positive("Generator", noise_scale=noise_scale, spread=spread)
        if not isinstance(space, Real):
            raise InputError(f"Generator: adds normal noise and needs a Real space, got {space}")
        self.network, self.space, self.num_latent = network, space, num_latent
        self.noise_scale, self.num_samples = float(noise_scale), num_samples
        dtype, device = dtype_and_device(network)
        self.log_spread = nn.Parameter(torch.full((num_latent,), math.log(spread), dtype=dtype, device=device))
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
        clean = cast(Callable[[Tensor], Tensor], self.network)(z)
        return Drawn(clean + self.noise_scale * self._normals(tuple(clean.shape), generator), z)

    def score(self, drawn: Drawn, generator: torch.Generator) -> Tensor:
        """An estimate of d log q(x) / dx at its own draws, `[N, *event]`, detached."""
        x = drawn.x.detach()
        with torch.no_grad():
            log_weight, clean = self._weighed(self.network, x, self._near(drawn.z, generator), drawn.z)
            share = log_weight.softmax(0).view(*log_weight.shape, *[1] * (x.dim() - 1))
            return ((clean - x) * share).sum(0) / self.noise_scale**2

    def bound(self, drawn: Drawn, generator: torch.Generator) -> Tensor:
        """mean of log p(z, x) - log r(z) over z of r(z | x), a lower bound of log q(x), for the spread."""
        z = self._near(drawn.z, generator)
        return self._weighed(frozen(self.network), drawn.x.detach(), z, drawn.z)[0].mean()

    def _near(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """num_samples of z around each: `[S, N, latent]`."""
        return z + self.log_spread.exp() * self._normals((self.num_samples, *z.shape), generator)

    def _weighed(
        self, network: Callable[[Tensor], Tensor], x: Tensor, z: Tensor, middle: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log p(z, x) - log r(z) `[S, N]` of z around the middle, and g(z) `[S, N, *event]`."""
        clean = network(z.flatten(0, 1)).view(*z.shape[:2], *x.shape[1:])
        off = ((x - clean) / self.noise_scale).flatten(2)
        log_joint = -z.square().sum(2) / 2 - off.square().sum(2) / 2 - off.shape[2] * math.log(self.noise_scale)
        white = (z - middle) / self.log_spread.exp()
        # Both have the normalising constant of a normal z; that of x is what remains.
        log_r = -white.square().sum(2) / 2 - self.log_spread.sum()
        return log_joint - log_r - off.shape[2] * math.log(2 * math.pi) / 2, clean

    def _normals(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        like = self.log_spread
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
