"""What an objective is."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from energeia.core.energy import Energy
from energeia.core.record import Batch, Loss


class Objective(nn.Module, ABC):
    """A loss of an energy on a batch. It owns what must survive beside the energy: chains, log Z, noise models.

    In training mode `forward` may move its persistent chains; in eval mode
    (validation) it leaves all it owns as it was.
    """

    @abstractmethod
    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss of the batch, a scalar with its graph, and scalars to log.

        Args:
            energy: the model; gradients reach its parameters.
            batch: x `[B, *event]` and, for labelled objectives, y `[B]`.
            generator: source of all random numbers.
        """
