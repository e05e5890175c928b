"""Whose turn it is, where an energy and a player of the objective's are trained against each other."""

import torch
from torch import Tensor, nn

from energeia.core.errors import InputError, check_count


class Turns(nn.Module):
    """Updates of the energy and of the other player, jointly or in alternation; counted in a checkpoint.

    Args:
        who: the objective.
        turns: (updates of the energy, updates of the other), in alternation; None moves both at every update.
    """

    updates: Tensor

    def __init__(self, who: str, turns: tuple[int, int] | None) -> None:
        super().__init__()
        if turns is not None:
            if not isinstance(turns, tuple | list) or len(turns) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InputError(f"{who}: turns is (updates of the energy, updates of the other player), got {turns!r}")
            check_count(who, **{"turns[0]": turns[0], "turns[1]": turns[1]})
        self._turns = turns
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self) -> tuple[bool, bool]:
        """Whether the energy and whether the other moves at this update; in eval mode none is counted."""
        if self._turns is None:
            return True, True
        place = int(self.updates) % sum(self._turns)
        if self.training:
            self.updates += 1
        return place < self._turns[0], place >= self._turns[0]
