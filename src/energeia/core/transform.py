"""What a random change of a batch is."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Transform(ABC):
    """A random change of x. Subclasses are frozen dataclasses of its strengths; at zero strength x comes back."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x `[B, *event]` changed, each row on its own; x itself is not written to.

        All random numbers come from the generator, drawn on its device.
        """
