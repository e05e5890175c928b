"""Hidden units that are active seldom."""

import torch

from energeia.core.energy import Bipartite, Energy, require
from energeia.core.errors import InputError, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss


class Sparse(Objective):
    """A loss + strength sum_j (target - mean over the batch of E[h_j | v])^2.

    Args:
        objective: the loss.
        target: mean that each hidden unit should have, such as 0.05 for bits; between 0 and 1 for bits.
        strength: of the penalty, > 0.

    Needs an energy with `Bipartite`. The gradient goes to the weights and the hidden biases; Lee et al. move the
    biases alone. It makes filters local and hidden units seldom active; the likelihood is usually worse for it.

    Reference: Lee, Ekanadham & Ng (2008), Sparse deep belief net model for visual area V2,
    https://papers.nips.cc/paper/3313-sparse-deep-belief-net-model-for-visual-area-v2

    >>> import energeia as en
    >>> objective = en.Sparse(en.PersistentCD(en.BlockGibbs(), 1), target=0.1, strength=0.5)
    """

    def __init__(self, objective: Objective, *, target: float = 0.05, strength: float = 0.1) -> None:
        super().__init__()
        check_positive("Sparse", strength=strength)
        if not -float("inf") < target < float("inf"):
            raise InputError(f"Sparse: target must be a finite number, got {target}")
        self.objective, self.target, self.strength = objective, target, strength

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss with its penalty; the mean activity and the penalty are in the metrics too."""
        loss = self.objective(energy, batch, generator)
        bipartite = require(energy, Bipartite, who="Sparse", instead="leave it out, or use Penalised on weights")
        active = bipartite.hidden.mean(bipartite.hidden_parameters(batch.x)).flatten(1).mean(0)
        penalty = self.strength * (active - self.target).square().sum()
        value = loss.value + penalty
        told = {"loss": value.detach(), "sparsity_penalty": penalty.detach(), "hidden_activity": active.detach().mean()}
        return Loss(value, {**loss.metrics, **told})
