"""Discrete sites one after the other: tractable, trainable, and far closer to data than independent sites."""

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Binary, Categorical, Spin


class Autoregressive(Energy):
    """p(x) = prod_i p(x_i | x_1 ... x_(i-1)), each site by logistic regression on those before it: log Z = 0.

    The natural parameters of site i are b_i + sum_(j < i) W_ij x_j, in the order of the flattened event.

    Args:
        space: `Binary`, `Spin` or `Categorical`.

    Has the capabilities `Tractable` and `Explicit`, and trainable parameters, all zero at first. As noise for models
    of bits it is trained first, by maximum likelihood, which is convex:
    `en.fit(noise, en.ExactLikelihood(), data)`. Cost: one product with a matrix for an energy, and one for each site
    for a draw.

    Reference: Frey, Hinton & Dayan (1996), Does the wake-sleep algorithm produce good density estimators?,
    https://papers.nips.cc/paper/1153

    >>> import torch, energeia as en
    >>> en.Autoregressive(en.Binary(3))(torch.ones(1, 3)).exp()
    tensor([8.], grad_fn=<ExpBackward0>)
    """

    mask: Tensor

    def __init__(self, space: Binary | Spin | Categorical) -> None:
        if not isinstance(space, Binary | Spin | Categorical):
            raise InputError(f"Autoregressive: needs a Binary, Spin or Categorical space, got {space}")
        super().__init__(space)
        self.discrete = space
        self._states = space.num_categories if isinstance(space, Categorical) else 1
        size = space.num_dims
        self.weight, self.bias = nn.Parameter(torch.zeros(size, size)), nn.Parameter(torch.zeros(space.event_shape))
        site = torch.arange(size) // self._states
        self.register_buffer("mask", (site[:, None] > site).to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """-log p(x) `[B]`."""
        natural = self._natural(x)
        return self.discrete.log_partition(natural) - (natural * x).flatten(1).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) `[B]`."""
        return -self(x)

    def log_z(self) -> LogZ:
        """0."""
        return LogZ.exact(torch.zeros((), device=self.bias.device), "a product of conditionals")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`, site by site."""
        shape = (num_chains, *self.space.event_shape)
        uniform = torch.rand(shape, generator=generator, dtype=self.bias.dtype, device=self.bias.device)
        x = torch.zeros(num_chains, self.space.num_dims, dtype=self.bias.dtype, device=self.bias.device)
        with torch.no_grad():
            weight, bias, uniform = self.weight * self.mask, self.bias.flatten(), uniform.flatten(1)
            for first in range(0, self.space.num_dims, self._states):
                site = slice(first, first + self._states)
                # Sites that are not drawn yet are zeros, which the mask keeps out as well.
                natural = torch.addmm(bias[site], x, weight[site].T)
                x[:, site] = self.discrete.from_natural(natural, uniform[:, site].contiguous())
        return x.view(shape)

    def _natural(self, x: Tensor) -> Tensor:
        return self.bias + (x.flatten(1) @ (self.weight * self.mask).T).view_as(x)
