"""Weight decay and sparsity of some parameters, not of all."""

from collections.abc import Sequence

import torch

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss


class Penalised(Objective):
    """A loss + l1 sum |w| + l2 sum w^2, over the parameters w that are named.

    Args:
        objective: the loss.
        names: names of parameters of the energy as `named_parameters` gives them, or their
            last parts: "weight" is meant by "weight" and by "energy.weight".
        l1, l2: >= 0, of every number of w. l2 is a Gaussian prior of variance 1 / (2 l2 N) for N
            rows; couplings of a `BoltzmannMachine` stand in W twice.

    The weight decay of an optimizer shrinks biases and fields too, which says that bits are even and is seldom
    meant. L1 pulls small weights to around zero; a gradient method leaves them near zero, not at it.
    """

    def __init__(self, objective: Objective, names: Sequence[str], *, l1: float = 0.0, l2: float = 0.0) -> None:
        super().__init__()
        if isinstance(names, str) or not names:
            raise InputError(f'Penalised: names is a list of parameter names, such as ["weight"], got {names!r}')
        if min(l1, l2) < 0 or max(l1, l2) == 0:
            raise InputError(f"Penalised: l1 and l2 are at least 0, and one of them above, got l1={l1}, l2={l2}")
        self.objective, self.names, self.l1, self.l2 = objective, tuple(names), l1, l2

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss with its penalty, which is in the metrics by itself too."""
        loss = self.objective(energy, batch, generator)
        penalty = torch.zeros_like(loss.value)
        named = dict(energy.named_parameters())
        for name in self.names:
            meant = [w for full, w in named.items() if full == name or full.endswith(f".{name}")]
            if not meant:
                raise InputError(
                    f"Penalised: {type(energy).__name__} has no parameter {name!r}; it has {', '.join(named)}"
                )
            penalty = penalty + sum(self.l1 * w.abs().sum() + self.l2 * w.square().sum() for w in meant)
        value = loss.value + penalty
        return Loss(value, {**loss.metrics, "loss": value.detach(), "penalty": penalty.detach()})
