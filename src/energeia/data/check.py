"""The check of data at the door: finite, of one length, with labels in range."""

from collections.abc import Sequence

import torch
from torch import Tensor

from energeia.core.errors import InputError


def check_batch(
    x: Tensor,
    y: Tensor | None,
    num_classes: int | None,
    name: str,
    column_names: Sequence[str] | None = None,
) -> None:
    """Raise unless x and y can be trained on.

    Args:
        x: rows `[N, *event]` of a floating dtype.
        y: labels `[N]`, int64, in 0..num_classes-1; or None.
        num_classes: K; None checks only that labels are not negative.
        name: what the data is called in messages, such as a file name.
        column_names: names of the columns of a table `[N, D]`.

    Raises:
        InputError: no rows, wrong dtype or shape, different lengths, NaN or infinite
            values (names the first row and column and says how many), labels out of range.

    Example:
        >>> check_batch(torch.tensor([[0.0, 1.0]]), torch.tensor([3]), 2, "data")
        Traceback (most recent call last):
        energeia.core.errors.InputError: data: row 0 has label 3, but labels must lie in 0..1; ...
    """
    if x.dim() < 2:
        raise InputError(f"{name}: x has shape {tuple(x.shape)}, expected [N, *event]; for one column use x[:, None]")
    if x.numel() == 0:
        raise InputError(f"{name}: x has shape {tuple(x.shape)} and is empty; give at least one row and one column")
    if not x.is_floating_point():
        raise InputError(f"{name}: x has dtype {x.dtype}, expected a floating dtype; use x.float()")
    if column_names is not None and (x.dim() != 2 or len(column_names) != x.shape[1]):
        raise InputError(f"{name}: {len(column_names)} column names were given for x of shape {tuple(x.shape)}")
    _check_finite(x, name, column_names)
    if y is not None:
        _check_labels(y, len(x), num_classes, name)


def column_label(column: str) -> str:
    """How messages write a column: a number bare, a name in quotes."""
    return f"column {column}" if column.isdecimal() else f"column {column!r}"


def _check_finite(x: Tensor, name: str, column_names: Sequence[str] | None) -> None:
    bad = ~x.isfinite()
    if not bool(bad.any()):
        return
    first: list[int] = bad.nonzero()[0].tolist()
    row, place = first[0], first[1:]
    if column_names is not None:
        where = f"row {row}, {column_label(str(column_names[place[0]]))}"
    elif len(place) == 1:
        where = f"row {row}, column {place[0]}"
    elif len(place) == 3:
        where = f"picture {row} at channel {place[0]}, row {place[1]}, column {place[2]}"
    else:
        where = f"row {row} at index {tuple(place)}"
    count = int(bad.sum())
    raise InputError(
        f"{name}: {count} of {x.numel()} values {'is' if count == 1 else 'are'} NaN or infinite in {x.dtype}; "
        f"the first is {x[tuple(first)].item()} in {where}. Drop such rows, or fill in or rescale the values"
    )


def _check_labels(y: Tensor, num_rows: int, num_classes: int | None, name: str) -> None:
    if y.dim() != 1:
        raise InputError(f"{name}: y has shape {tuple(y.shape)}, expected [N]; for one-hot labels use y.argmax(1)")
    if len(y) != num_rows:
        raise InputError(f"{name}: x has {num_rows} rows but y has {len(y)}; give one label for every row")
    if y.dtype != torch.int64:
        raise InputError(f"{name}: y has dtype {y.dtype}, expected class numbers of dtype torch.int64; use y.long()")
    bad = y < 0 if num_classes is None else (y < 0) | (y >= num_classes)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        expected = "be 0 or more" if num_classes is None else f"lie in 0..{num_classes - 1}"
        raise InputError(
            f"{name}: row {row} has label {int(y[row])}, but labels must {expected}; "
            f"number the classes from 0 ({int(bad.sum())} rows are affected)"
        )
