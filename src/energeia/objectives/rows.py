"""What objectives ask of their rows, and of the energies of these."""

import torch
from torch import Tensor

from energeia.core.answers import Rowwise, sites_there, tiled
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError
from energeia.core.record import Batch
from energeia.core.space import Real


def real_rows(energy: Energy, batch: Batch, who: str, *, why: str, instead: str, least: int = 1) -> Tensor:
    """The rows of the batch, all finite and of a `Real` space.

    Args:
        energy, batch: what the objective was given.
        who, why, instead: the objective, what it does with x, and what to use on another space.
        least: how many rows it cannot do without.

    Raises:
        CapabilityError: another space. InputError: a wrong shape, NaN, too few rows.
    """
    if not isinstance(energy.space, Real):
        raise CapabilityError(f"{who} {why} and needs a Real space, but the energy lives on {energy.space}; {instead}")
    return rows_of(energy, batch, who, least=least)


def rows_of(energy: Energy, batch: Batch, who: str, *, least: int = 1) -> Tensor:
    """The rows of the batch, all of the energy's space, whichever it is.

    Raises:
        InputError: a wrong shape, whole numbers by dtype, NaN, values outside the space, too few rows.
    """
    energy.space.check(_filled(energy, batch.x), f"{who}: x")
    if len(batch.x) < least:
        raise InputError(
            f"{who}: needs at least {least} rows in a batch, got {len(batch.x)}; give more rows, or raise batch_size"
        )
    return batch.x


def _filled(energy: Energy, x: Tensor) -> Tensor:
    """x, with the first label at sites that its rows lack, where zeros stand for none."""
    there = sites_there(energy)
    if there is None or there.shape != x.shape[:-1]:
        return x
    first = torch.zeros_like(x)
    first[..., 0] = 1
    return torch.where(there.unsqueeze(-1), x, first)


def energies_of(energy: Energy, x: Tensor) -> Tensor:
    """E(x), which must be `[B]`: of shape [B, 1] it would become [B, B] beside another `[B]`, in silence."""
    values = energy(x)
    if values.shape != x.shape[:1]:
        raise InputError(
            f"{type(energy).__name__} returned shape {tuple(values.shape)} for x of shape {tuple(x.shape)}; an energy "
            f"returns [B] = [{len(x)}]: end the network with .squeeze(-1), or use en.Neural"
        )
    return values


def beside(energy: Energy, x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """E of the rows x `[B, *event]` and of others `[k B, *event]`, k times a partner for each row in their order.

    In one pass: `[B]` and `[k B]`. Where each row has an energy of its own (`Rowwise`) its partners meet the same one.
    """
    every = torch.cat([x, others])
    rowwise = energy.capability(Rowwise)
    if rowwise is None:
        energies = energies_of(energy, every)
    else:
        if len(others) % len(x):
            raise InputError(
                f"{type(energy).__name__} has an energy for each of {len(x)} rows, and {len(others)} others cannot be "
                "shared out among them; take an objective whose negatives are made of the rows"
            )
        energies = energies_of(tiled(energy, len(every) // len(x)), every)
    return energies[: len(x)], energies[len(x) :]
