"""Subspace restricted Boltzmann machines: gates, each before several subspace units."""

import torch
from torch import Tensor, nn

from energeia.core.errors import InputError
from energeia.core.space import Binary, Categorical, Space, Spin
from energeia.core.units import Units
from energeia.energies.layers import checked_statistic, counting_units, first_bias, units_space
from energeia.energies.switched import Switched, SwitchedMachine


class SubspaceRBM(SwitchedMachine):
    """E(x, h, S) = -sum_ijk W_ijk x_i h_j s_jk - b'x - c'h - sum_jk d_jk h_j s_jk, all units bits.

    A gate h_j says that a feature is there, its K subspace units s_jk which variation of it. With
    a_jk = d_jk + sum_i W_ijk x_i all sums over h and S are closed:

        p(x_i = 1|h, S) = sigmoid(b_i + sum_jk W_ijk h_j s_jk)
        p(s_jk = 1|x, h) = sigmoid(h_j a_jk)
        p(h_j = 1|x) = sigmoid(c_j - K log 2 + sum_k softplus(a_jk))
        E(x) = -b'x - sum_j [K log 2 + softplus(c_j - K log 2 + sum_k softplus(a_jk))]

    The term -K log 2 stands for the 2^K states of units behind a shut gate. Block Gibbs sampling
    draws h and then S given h, as one side.

    Args:
        visible: space of x, `Binary`, `Spin` or `Categorical`; an int is that many bits.
        num_gates: J >= 1. num_subspace: K >= 1 units behind each.
        mean: mean of the data `[*event]`, to which the first b is set.
        weight_scale: standard deviation of the first W, > 0.
        hidden_bias: the first c; below 0 gates begin mostly shut.

    Parameters: weight `[visible, J, K]`, hidden_bias c `[J]`, inner_bias d `[J, K]`, bias b `[visible]`.
    Capabilities: `Bipartite`, whose hidden units are (h_j, h_j s_jk) `[J, 1 + K]`, and `Contrastable`. log Z
    is exact where x has at most 2^22 states (`en.exact_log_z`), else `en.ais`.
    Cost: that of an `RBM` with J K hidden bits. What it is not: centred.

    Reference: Tomczak & Gonczarek (2017), Learning invariant features using subspace restricted
    Boltzmann machine. https://doi.org/10.1007/s11063-016-9519-9

    >>> import torch, energeia as en
    >>> machine = en.SubspaceRBM(6, num_gates=2, num_subspace=3)
    >>> machine.transform(torch.ones(1, 6)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        visible: int | Space,
        num_gates: int,
        num_subspace: int,
        *,
        mean: Tensor | None = None,
        weight_scale: float = 0.01,
        hidden_bias: float = 0.0,
    ) -> None:
        space = units_space("SubspaceRBM", "visible", visible)
        if not isinstance(space, Binary | Spin | Categorical):
            raise InputError(
                f"SubspaceRBM: visible must be a number of bits or a Binary, Spin or Categorical space, got {space}; "
                "for real x take en.SpikeAndSlabRBM"
            )
        super().__init__(
            "SubspaceRBM", space, num_gates, num_subspace, weight_scale=weight_scale, hidden_bias=hidden_bias
        )
        first = torch.zeros(space.num_dims)
        if mean is not None:
            first = first_bias(space, checked_statistic("mean", mean, space)).to(first)
        self.bias = nn.Parameter(first)

    def _visible_units(self) -> Units:
        return counting_units(self.space)

    @property
    def hidden(self) -> Switched:
        """Gates with bits behind them."""
        return Switched(Binary(self.inner_bias.shape[1]))

    def visible_energy(self, x: Tensor) -> Tensor:
        """-b'x, `[B]`."""
        return -(x.flatten(1) @ self.bias)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b_i + sum_jk W_ijk h_j s_jk, `[B, *event]`."""
        return (self.bias + self._input(h)).view(len(h), *self.space.event_shape)

    def _visible_gradient(self, x: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        return (-(share @ x.flatten(1)),)
