"""What objectives on real x ask of their rows."""

from torch import Tensor

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
    energy.space.check(batch.x, f"{who}: x")
    if len(batch.x) < least:
        raise InputError(f"{who}: needs at least {least} rows in a batch, got {len(batch.x)}; raise batch_size")
    return batch.x
