"""Any energy of a small discrete space, with the log Z and the exact draws that listing all states gives."""

import torch
from torch import Tensor

from energeia.core.energy import CLOSED, Capability, Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.nodes import integration_nodes
from energeia.core.record import LogZ
from energeia.core.space import Enumerable


class Enumerated(Energy):
    """The same energy with `Tractable`, by listing every state.

    Args:
        energy: an energy on a `Binary`, `Spin` or `Categorical` space of at most 2^22 states.

    Keeps the other capabilities of the energy. Cost: log_z and sample_exact evaluate all states
    each time, so that they follow the weights. For truth in tests, such as
    `testing.check_sampler` on an energy of your own.

    >>> import torch, energeia as en
    >>> from energeia.energies import Enumerated, Ising
    >>> pair = Enumerated(Ising(2, [(0, 1)], couplings=1.0))
    >>> draws = pair.sample_exact(10_000, torch.Generator().manual_seed(0))
    >>> round(float(draws.prod(1).mean()), 1)  # tanh(1) = .76
    0.8
    """

    def __init__(self, energy: Energy) -> None:
        if not isinstance(energy.space, Enumerable):
            raise InputError(f"Enumerated: needs a Binary, Spin or Categorical space, got {energy.space}")
        super().__init__(energy.space)
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.energy(x)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable`, and what the energy has."""
        return super().capability(kind) if kind in CLOSED else self.energy.capability(kind)

    def log_z(self) -> LogZ:
        """log of the sum over all states, float64."""
        value = (-self._energies()[1]).logsumexp(0)
        return LogZ.exact(value, "enumeration")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        states, energies = self._energies()
        cumulative = (-energies).softmax(0).cumsum(0)
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64, device=states.device)
        number = torch.searchsorted(cumulative, uniform).clamp(max=len(states) - 1)
        return states[number]

    def _energies(self) -> tuple[Tensor, Tensor]:
        """All states, and their energies in float64."""
        dtype, device = dtype_and_device(self)
        states, _ = integration_nodes(self.space, dtype=dtype, device=device)
        with torch.no_grad():
            return states, torch.cat([self.energy(part).double() for part in states.split(2**16)])
