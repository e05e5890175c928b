"""The exact likelihood, where it can be had: the oracle of the other objectives."""

import torch

from energeia.core.energy import Energy
from energeia.core.nodes import integration_nodes
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss


class ExactLikelihood(Objective):
    """mean -log p(x) = mean E(x) + log Z, with Z summed or integrated over the whole space.

    Args:
        num_nodes: quadrature nodes per real dimension.

    For discrete spaces of at most 2^22 states (exact), `Box` and `Real` of one or two
    dimensions (Gauss-Legendre; exact to rounding once the nodes resolve the energy).
    Cost: one evaluation of every state or node an update. Value in nats.
    """

    def __init__(self, *, num_nodes: int = 200) -> None:
        super().__init__()
        self.num_nodes = num_nodes

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The negative log-likelihood per row, in nats; nothing is random."""
        x, log_weight = integration_nodes(energy.space, self.num_nodes, dtype=batch.x.dtype, device=batch.x.device)
        log_z = (log_weight - energy(x)).logsumexp(0)
        energy_data = energy(batch.x).mean()
        value = energy_data + log_z
        metrics = {"loss": value.detach(), "energy_data": energy_data.detach(), "log_z": log_z.detach()}
        return Loss(value, metrics)
