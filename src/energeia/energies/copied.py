"""A restricted Boltzmann machine with copies of its layers: what layers of a deep one are pretrained as."""

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.space import Binary
from energeia.core.units import Units
from energeia.energies.rbm import RBM


class Copied(Energy):
    """E(v_1, ..., v_k) = n E_rbm(v_1 + ... + v_k): k copies of v and n of h, all pairs joined by the same W.

    Given k copies of the data, a unit of h is driven by k W'v: as strongly as it will be in a deep machine
    that drives it from k sides.

    Args:
        machine: of bits, whose parameters are trained: W and c are those of this energy, and n times b is its b.
        below: k. above: n.

    Rows are copies side by side, `[B, k visible]`. Capabilities: `Bipartite`, `Contrastable`, `Centred`.

    Reference: Salakhutdinov & Hinton (2009), Deep Boltzmann machines, section 3.1.
    """

    def __init__(self, machine: RBM, *, below: int = 1, above: int = 1) -> None:
        check_count("Copied", below=below, above=above)
        if not (isinstance(machine.space, Binary) and isinstance(machine.hidden_space, Binary)):
            raise InputError(f"Copied: needs a machine of bits, got {machine.space} and {machine.hidden_space}")
        super().__init__(Binary(below * machine.space.num_dims))
        self.machine, self.below, self.above = machine, below, above

    def _summed(self, x: Tensor, copies: int) -> Tensor:
        return x.view(len(x), copies, -1).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """E `[B]`."""
        return self.above * self.machine(self._summed(x, self.below))

    @property
    def visible(self) -> Units:
        """All copies of v."""
        return Binary(self.space.num_dims)

    @property
    def hidden(self) -> Units:
        """All copies of h."""
        return Binary(self.above * self.machine.hidden_space.num_dims)

    def visible_energy(self, x: Tensor) -> Tensor:
        """-n b'(v_1 + ... + v_k), `[B]`."""
        return self.above * self.machine.visible_energy(self._summed(x, self.below))

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """c + W'(v_1 + ... + v_k) for each copy of h, `[B, n hidden]`."""
        return self.machine.hidden_parameters(self._summed(x, self.below)).repeat(1, self.above)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """n b + W(h_1 + ... + h_n) for each copy of v, `[B, k visible]`."""
        natural = self.machine.visible_parameters(self._summed(h, self.above)) + (self.above - 1) * self.machine.bias
        return natural.repeat(1, self.below)

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means."""
        found = self.machine.contrast(self._summed(data, self.below), self._summed(negatives, self.below))
        gradients = tuple(self.above * gradient for gradient in found[2])
        return self.above * found[0], self.above * found[1], gradients

    def recentre(self, x: Tensor) -> None:
        """Move the offsets of the machine towards the means at rows x; that of v is k times its mean."""
        self.machine.recentre(self._summed(x, self.below))

    def draw_hidden(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One copy of h `[B, hidden]`, drawn for k copies of each row x `[B, visible]`."""
        with torch.no_grad():
            on = self.machine.hidden_parameters(self.below * x).sigmoid()
        return on.gt(torch.rand(on.shape, generator=generator, dtype=on.dtype, device=on.device)).to(on)
