"""The objective on held-out data."""

import torch

from energeia.core.energy import Energy
from energeia.core.objective import Objective
from energeia.core.record import Batch


def validate_objective(
    energy: Energy, objective: Objective, batches: list[Batch], generator: torch.Generator
) -> dict[str, float]:
    """Mean metrics of the objective in eval mode over batches, weighted by their rows.

    The energy is judged in eval mode too; both are left in the mode they had. No
    persistent chain is moved. The generator is the only source of random numbers.
    """
    modes = [(module, module.training) for module in (energy, objective)]
    energy.eval()
    objective.eval()
    device = generator.device
    sums: dict[str, torch.Tensor] = {}
    for batch in batches:
        there = Batch(batch.x.to(device), None if batch.y is None else batch.y.to(device))
        for name, value in objective(energy, there, generator).metrics.items():
            weighted = value.double() * len(batch.x)
            sums[name] = sums[name] + weighted if name in sums else weighted
    for module, mode in modes:
        module.train(mode)
    total = sum(len(batch.x) for batch in batches)
    return {name: value.item() / total for name, value in sums.items()}


def split_batches(batch: Batch, batch_size: int) -> list[Batch]:
    """The rows in order, batch_size at a time."""
    if batch.y is None:
        return [Batch(x) for x in batch.x.split(batch_size)]
    return [Batch(x, y) for x, y in zip(batch.x.split(batch_size), batch.y.split(batch_size), strict=True)]
