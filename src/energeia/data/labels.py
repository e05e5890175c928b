"""Class numbers 0..K-1 from the labels of a file."""

from collections.abc import Sequence

import numpy as np

from energeia.core.errors import InputError


def class_numbers(
    labels: Sequence[np.ndarray], names: Sequence[str]
) -> tuple[list[np.ndarray], int, tuple[str, ...] | None]:
    """Number the classes of several parts alike.

    Labels 0..K-1 stay as they are. Whole numbers with gaps and texts are numbered
    in ascending order, and their names are kept.

    Args:
        labels: of every part `[N]` or `[N, 1]`, whole numbers from 0 or text.
        names: what the parts are called in messages.

    Returns:
        class numbers int64 of every part, K, and the names of the classes or None.

    Raises:
        InputError: labels with fractions, negative, missing, one-hot or of another type.
    """
    columns = [_as_column(part, name) for part, name in zip(labels, names, strict=True)]
    values, inverse = np.unique(np.concatenate(columns), return_inverse=True)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    numbers = [part.astype(np.int64) for part in np.split(inverse.reshape(-1), ends)]
    if values.dtype.kind != "U" and values[0] == 0 and values[-1] == len(values) - 1:
        return numbers, len(values), None
    return numbers, len(values), tuple(str(value) for value in values.tolist())


def _as_column(part: np.ndarray, name: str) -> np.ndarray:
    column = part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part
    if column.ndim != 1:
        raise InputError(f"{name}: labels have shape {part.shape}, expected [N]; for one-hot labels use y.argmax(1)")
    if len(column) == 0:
        raise InputError(f"{name}: there are no labels; give one for every row")
    if column.dtype.kind == "U":
        return column
    if column.dtype.kind not in "biuf":
        raise InputError(f"{name}: labels have dtype {column.dtype}; expected whole numbers from 0, or text")
    bad = ~np.isfinite(column) | (column < 0) | (column != np.floor(column))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{name}: row {row} has label {column[row]}, but labels are classes: whole numbers from 0, or text "
            f"({int(bad.sum())} rows are affected). Number the classes from 0; a quantity is no label, leave it out"
        )
    return column.astype(np.int64)
