"""Hidden units behind a switch: what the subspace and the spike-and-slab machine share."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import check_count, check_finite, check_positive
from energeia.core.space import Space
from energeia.core.units import Units


@dataclass(frozen=True, eq=False)
class Switched:
    """Bits h_j, each with K units s_jk that count only where it is 1; held as (h_j, h_j s_j1, ..., h_j s_jK).

    With natural parameters n_j = (c_j, a_j1, ..., a_jK), p(h, s) is proportional to
    exp(sum_j h_j (c_j + sum_k a_jk s_jk)) m(s), and both are drawn at once:

        log p(h_j = 1) / p(h_j = 0) = c_j + sum_k [A(a_jk) - A(0)]    (bits s: A(a) = softplus(a), A(0) = log 2)
        s_jk given h_j = 1 has the natural parameter a_jk, given h_j = 0 the parameter 0.

    Args:
        behind: the K units s of one switch, in the shape [K]: bits or `Normal`.

    Where h_j = 0 the s_jk touch nothing, are summed out, and stand as zeros.
    """

    behind: Units

    def _odds(self, natural: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log odds of the switches `[B, J]`, parameters of the units behind `[B J, K]`, A(0) of one switch."""
        inner = natural[..., 1:].flatten(0, 1)
        shut = self.behind.log_partition(torch.zeros_like(inner[:1]))
        opened = self.behind.log_partition(inner).view(natural.shape[:2])
        return natural[..., 0] + opened - shut, inner, shut

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """(h_j, h_j s_j) `[B, J, 1 + K]` from natural parameters and uniforms of the same shape."""
        odds, inner, _ = self._odds(natural)
        switch = odds.sigmoid().gt(uniform[..., 0]).to(natural.dtype).unsqueeze(-1)
        drawn = self.behind.from_natural(inner, uniform[..., 1:].flatten(0, 1)).view_as(natural[..., 1:])
        return torch.cat([switch, switch * drawn], -1)

    def log_partition(self, natural: Tensor) -> Tensor:
        """sum_j [K A(0) + softplus(log odds of h_j)], `[B]`."""
        odds, _, shut = self._odds(natural)
        return (nn.functional.softplus(odds, threshold=40) + shut).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """(P(h_j = 1), E[h_j s_j])."""
        odds, inner, _ = self._odds(natural)
        opened = odds.sigmoid().unsqueeze(-1)
        return torch.cat([opened, opened * self.behind.mean(inner).view_as(natural[..., 1:])], -1)


class SwitchedMachine(Energy):
    """Base of energies E(x, h, s) = E(x) - sum_ijk W_ijk x_i h_j s_jk - sum_j h_j (c_j + sum_k d_jk s_jk) - log m(s).

    Linear in the statistics (h_j, h_j s_jk) of `Switched` units, so all of `Bipartite` is two products with W.
    """

    def __init__(
        self, who: str, space: Space, num_switches: int, num_behind: int, *, weight_scale: float, hidden_bias: float
    ) -> None:
        check_count(who, num_hidden=num_switches, num_behind=num_behind)
        check_positive(who, weight_scale=weight_scale)
        check_finite(who, hidden_bias=hidden_bias)
        super().__init__(space)
        self.weight = nn.Parameter(weight_scale * torch.randn(space.num_dims, num_switches, num_behind))
        self.hidden_bias = nn.Parameter(torch.full((num_switches,), float(hidden_bias)))
        self.inner_bias = nn.Parameter(torch.zeros(num_switches, num_behind))

    @property
    @abstractmethod
    def hidden(self) -> Switched:
        """Units of (h, h s)."""

    @abstractmethod
    def visible_energy(self, x: Tensor) -> Tensor:
        """The part of E(x, h, s) without h and s, `[B]`."""

    @abstractmethod
    def visible_parameters(self, h: Tensor) -> Tensor:
        """Natural parameters of x given (h, h s) `[B, J, 1 + K]`."""

    @abstractmethod
    def _visible_gradient(self, x: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        """sum over the rows of share times the gradient of visible_energy(x), for the parameters of it."""

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`, h and s summed out."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """(c_j, d_jk + sum_i W_ijk x_i), `[B, J, 1 + K]`."""
        inner = torch.addmm(self.inner_bias.flatten(), x.flatten(1), self.weight.flatten(1))
        outer = self.hidden_bias.expand(len(x), -1).unsqueeze(-1)
        return torch.cat([outer, inner.view(len(x), *self.inner_bias.shape)], -1)

    def _input(self, h: Tensor) -> Tensor:
        """sum_jk W_ijk h_j s_jk, `[B, visible]`."""
        return h[..., 1:].flatten(1) @ self.weight.flatten(1).T

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means."""
        with torch.no_grad():
            x = torch.cat([data, negatives])
            share = x.new_full((len(x),), 1 / len(data))
            share[len(data) :] = -1 / len(negatives)
            natural = self.hidden_parameters(x)
            energies = self.visible_energy(x) - self.hidden.log_partition(natural)
            active = self.hidden.mean(natural) * share.view(-1, 1, 1)
            for_weight = -(x.flatten(1).T @ active[..., 1:].flatten(1)).view_as(self.weight)
            for_hidden = (-active[..., 0].sum(0), -active[..., 1:].sum(0))
            gradients = (for_weight, *for_hidden, *self._visible_gradient(x, share))
        return energies[: len(data)], energies[len(data) :], gradients

    def transform(self, x: Tensor) -> Tensor:
        """P(h_j = 1|x) `[B, J]`: features for another model."""
        self.space.check(x)
        with torch.no_grad():
            return self.hidden.mean(self.hidden_parameters(x))[..., 0]

    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x | E[h, h s|x]], `[B, *event]`: a monitor, not a measure of the model."""
        with torch.no_grad():
            return self._visible_units().mean(self.visible_parameters(self.hidden.mean(self.hidden_parameters(x))))

    @abstractmethod
    def _visible_units(self) -> Units:
        """Units of x."""

    @property
    def visible(self) -> Units:
        """Units of x."""
        return self._visible_units()
