"""What `fit` is given, checked before anything is trained or written."""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from energeia.core.answers import Answering, encoded
from energeia.core.energy import Classes, Energy, Variational, dtype_and_device, validate
from energeia.core.errors import InputError, check_positive
from energeia.core.record import Batch
from energeia.core.space import Enumerable
from energeia.core.warn import warn
from energeia.train.loader import Data, Loader, as_batch

# Rows whose answers are looked at together.
_AT_ONCE = 1024


def check_settings(
    *, gradient_clip: float | None, average_decay: float | None, patience: int | None, select: str, validated: bool
) -> None:
    """Raise `InputError` unless the settings are in range and go together."""
    if gradient_clip is not None:
        check_positive("fit()", gradient_clip=gradient_clip)
    if average_decay is not None and not 0 < average_decay < 1:
        raise InputError(f"fit(): average_decay must lie between 0 and 1, got {average_decay}")
    if select not in ("best", "last"):
        raise InputError(f'fit(): select must be "best" or "last", got {select!r}')
    if patience is not None and (isinstance(patience, bool) or not isinstance(patience, int) or patience < 0):
        raise InputError(f"fit(): patience must be an integer of at least 0, or None, got {patience!r}")
    if not validated and (patience is not None or select == "best"):
        raise InputError("fit(): patience and select='best' need validation data: give validation=...")


def check_data(energy: Energy, batch: Batch, name: str) -> None:
    """Raise `InputError` unless the energy can be trained on the rows."""
    dtype, device = dtype_and_device(energy)
    if batch.x.dtype != dtype:
        raise InputError(
            f"{name} is {batch.x.dtype} and the energy is {dtype}; make them equal: data.to({dtype}) or "
            f"energy.to({batch.x.dtype})"
        )
    if not bool(batch.x.isfinite().all()):
        place = [int(i) for i in (~batch.x.isfinite()).nonzero()[0]]
        raise InputError(
            f"{name} has {int((~batch.x.isfinite()).sum())} values that are NaN or infinite; the first is in row "
            f"{place[0]}, column {place[1:] if len(place) > 2 else place[-1]}; remove or fill them"
        )
    energy.space.check(batch.x, name)
    answering = energy.capability(Answering)
    if answering is not None:
        _check_answers(energy, answering, batch, name)
        return
    classes = energy.capability(Classes)
    if batch.y is not None and classes is not None:
        _check_classes(energy, classes, batch.y, name)
    # Where hidden layers cannot be summed out, no objective evaluates E(x).
    if len(batch.x) > 1 and energy.capability(Variational) is None:
        validate(energy, batch.x[:8].to(device))


def _check_classes(energy: Energy, classes: Classes, y: Tensor, name: str) -> None:
    if y.is_floating_point() or y.dim() != 1:
        raise InputError(
            f"{name}: y is {tuple(y.shape)} {y.dtype}; expected class numbers (int64) of shape [{len(y)}] for the "
            f"classes of {type(energy).__name__}"
        )
    outside = (y < 0) | (y >= classes.num_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise InputError(
            f"{name} has labels outside 0..{classes.num_classes - 1}, the classes of {type(energy).__name__}: row "
            f"{row} has {int(y[row])} ({int(outside.sum())} rows in all); number the classes from 0, or give "
            "the network more outputs"
        )


def _check_answers(energy: Energy, answering: Answering, batch: Batch, name: str) -> None:
    if batch.y is None:
        raise InputError(
            f"{name} has no answers y, and {type(energy).__name__} is an energy of x and y: give (x, y), y on "
            f"{answering.answers}"
        )
    dtype, device = dtype_and_device(energy)
    if batch.y.is_floating_point() and not bool(batch.y.isfinite().all()):
        row = int((~batch.y.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"{name} has answers that are NaN or infinite; the first is in row {row}")
    few = batch.x[:8].to(device)
    for x, y in zip(batch.x.split(_AT_ONCE), batch.y.split(_AT_ONCE), strict=True):
        encoded(answering.answers, y, dtype, answering.present(x))
    if len(few) > 1:
        y = encoded(answering.answers, batch.y[:8], dtype, answering.present(batch.x[:8]))
        validate(answering.within(few), y.to(device))


def warn_of_constants(energy: Energy, data: Data) -> None:
    """A warning where bits, spins or categories never vary: some objectives have no finite optimum then."""
    if not isinstance(energy.space, Enumerable) or not isinstance(data, Tensor | tuple | list):
        return
    rows = as_batch(data).x.flatten(1)
    same = (rows == rows[:1]).all(0)
    if len(rows) > 1 and bool(same.any()):
        first = int(same.int().argmax())
        warn(
            f"fit(): {int(same.sum())} of {len(same)} columns of the data never vary; the first is {first}, always "
            f"{rows[0, first].item():g}. The likelihood, pseudo-likelihood and the like grow for ever with the bias of "
            "such a column: leave it out, or hold the weights back: en.Penalised(objective, [...], l2=...)",
        )


def held_out_rows(energy: Energy, data: Data | None) -> Batch | None:
    """The validation data as one checked batch."""
    if data is None:
        return None
    if isinstance(data, Tensor | tuple | list):
        whole = as_batch(data)
    else:
        whole = Loader(data, batch_size=2**62, generator=torch.Generator().manual_seed(0)).next()
    if len(whole.x) == 0:
        raise InputError("fit(): the validation data has no rows")
    check_data(energy, whole, "validation data")
    return whole


def trainable(energy: Energy, objective: nn.Module) -> list[nn.Parameter]:
    """The parameters to train, those of the energy first."""
    parameters = [p for p in (*energy.parameters(), *objective.parameters()) if p.requires_grad]
    if not parameters:
        raise InputError(f"fit(): {type(energy).__name__} has no trainable parameters")
    return parameters


def check_schedule(scheduler: LRScheduler | None, num_steps: int) -> None:
    """Raise `InputError` if the schedule ends before the run does: torch's would raise in mid-run."""
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < num_steps:
        raise InputError(
            f"fit(): the schedule OneCycleLR ends after total_steps={scheduler.total_steps} and the run has "
            f"num_steps={num_steps}; make them equal: --scheduler.total_steps {num_steps}"
        )
