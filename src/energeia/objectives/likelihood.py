"""The exact likelihood, where it can be had: the oracle of the other objectives."""

import torch

from energeia.core.energy import Energy, Explicit
from energeia.core.nodes import integration_nodes
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss


class ExactLikelihood(Objective):
    """mean -log p(x) = mean E(x) + log Z: maximum likelihood.

    Args:
        num_nodes: quadrature nodes per real dimension, where quadrature is needed.

    Energies with `Explicit` say log p(x) themselves: flows and autoregressive models, on any space, at the cost of one
    evaluation of the rows. For others Z is summed or integrated over the whole space: discrete spaces of at most 2^22
    states (exact), `Box` and `Real` of one to three dimensions (Gauss-Legendre; exact to rounding once the nodes
    resolve the energy). Cost: one evaluation of every state or node an update. Value in nats.

    >>> import torch, energeia as en
    >>> bits = en.Autoregressive(en.Binary(3))
    >>> loss = en.ExactLikelihood()(bits, en.Batch(torch.zeros(4, 3)), torch.Generator())
    >>> round(float(loss.metrics["loss"]), 4)  # 3 log 2
    2.0794
    """

    def __init__(self, *, num_nodes: int = 200) -> None:
        super().__init__()
        self.num_nodes = num_nodes

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The negative log-likelihood per row, in nats; nothing is random."""
        explicit = energy.capability(Explicit)
        if explicit is not None:
            value = -explicit.log_prob(batch.x).mean()
            return Loss(value, {"loss": value.detach()})
        x, log_weight = integration_nodes(energy.space, self.num_nodes, dtype=batch.x.dtype, device=batch.x.device)
        log_z = (log_weight - energy(x)).logsumexp(0)
        energy_data = energy(batch.x).mean()
        value = energy_data + log_z
        metrics = {"loss": value.detach(), "energy_data": energy_data.detach(), "log_z": log_z.detach()}
        return Loss(value, metrics)
