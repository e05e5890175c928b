"""Which estimate of log Z an energy gets."""

import torch
from torch import Tensor

from energeia.core.energy import Energy, Normalised
from energeia.core.record import LogZ
from energeia.partition.ais import Levels
from energeia.partition.bracket import bracket
from energeia.partition.exact import exact_log_z


def log_z(
    energy: Energy,
    rows: Tensor,
    *,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> LogZ:
    """log Z, exact where it can be had, else annealed from below and from above."""
    if energy.capability(Normalised) is not None:
        return exact_log_z(energy)
    return bracket(energy, rows, num_chains=num_chains, levels=levels, num_steps=num_steps, generator=generator)
