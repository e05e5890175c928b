"""Training of p(rest | context), by an objective of the rest."""

import torch

from energeia.core.answers import Answering
from energeia.core.energy import Contextual, Energy, require
from energeia.core.errors import InputError
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.objectives.contrastive import PersistentCD
from energeia.objectives.likelihood import ExactLikelihood
from energeia.objectives.margin import posed


class Conditioned(Objective):
    """An objective of p(rest | context): each row's context is held fast, the rest goes to the objective.

    Args:
        objective: what is minimised for the rest, row by row, such as
            `ContrastiveDivergence(BlockGibbs(), 1)`.

    Needs an energy with `Contextual` (x holds the context and the rest) or `Answering` (the context is x and the rest
    the answer y). With `ContrastiveDivergence` its gradient is
    d/dt mean [E(x|c) - E_{p(x|c)} E(x|c)] but for the bias of k steps. `PersistentCD` is refused: its chains would
    live on in the contexts of other rows. Objectives that evaluate other rows than those of the batch raise
    `InputError`, for they would meet the wrong contexts.

    Reference: Mnih, Larochelle & Hinton (2011), Conditional restricted Boltzmann machines for structured output
    prediction, https://arxiv.org/abs/1202.3748

    >>> import torch, energeia as en
    >>> machine = en.ConditionalRBM(3, 2, order=1)
    >>> objective = en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1))
    >>> windows = en.windows(torch.ones(1, 5, 3), 1)
    >>> loss = objective(machine, en.Batch(windows), torch.Generator().manual_seed(0))
    >>> loss.value.shape
    torch.Size([])
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        if isinstance(objective, PersistentCD):
            raise InputError(
                "Conditioned: the chains of PersistentCD would go on in the contexts of other rows; use "
                "en.ContrastiveDivergence, whose chains start at the rows"
            )
        if isinstance(objective, ExactLikelihood):
            raise InputError(
                "Conditioned: ExactLikelihood lists states, which are not rows and have no contexts; use it without "
                "Conditioned for an energy that knows log p(rest | context), as en.ConditionalRBM does, and "
                "en.ConditionalLikelihood for energies of inputs and answers"
            )
        self.objective = objective

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss of the rest of each row, given its context."""
        if energy.capability(Answering) is not None:
            case = posed(energy, batch, "Conditioned")
            return self.objective(case.field, Batch(case.y), generator)
        contextual = require(
            energy, Contextual, who="Conditioned", instead="use en.ConditionalRBM, en.from_pair, or the objective alone"
        )
        rest, context = contextual.divide(batch.x)
        return self.objective(contextual.within(context), Batch(rest, batch.y), generator)
