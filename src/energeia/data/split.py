"""Which rows are for training, validation and testing."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.random import seed_of
from energeia.core.record import Batch


class SplitRows(NamedTuple):
    """Row numbers of each part, int64, ascending; None where the fraction is 0."""

    train: Tensor
    validation: Tensor | None
    test: Tensor | None


def check_fractions(who: str, validation_fraction: float, test_fraction: float) -> None:
    """Raise `InputError` unless both fractions are at least 0 and leave rows for training."""
    for name, value in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 <= value < 1:
            raise InputError(f"{who}: {name} must be at least 0 and below 1, got {value}")
    if validation_fraction + test_fraction >= 1:
        raise InputError(
            f"{who}: validation_fraction {validation_fraction} and test_fraction {test_fraction} leave no rows "
            "for training; their sum must be below 1"
        )


def split_rows(
    num_rows: int, *, validation_fraction: float, test_fraction: float, split_seed: int, name: str
) -> SplitRows:
    """Deal the rows out at random; the same arguments give the same parts.

    Args:
        num_rows: number N of rows.
        validation_fraction, test_fraction: shares of N, rounded to whole rows; 0 for none.
        split_seed: any integer.
        name: what the data is called in messages.

    Raises:
        InputError: a part that was asked for would be empty.
    """
    num_validation, num_test = round(num_rows * validation_fraction), round(num_rows * test_fraction)
    num_train = num_rows - num_validation - num_test
    asked = (1.0, validation_fraction, test_fraction)
    if any(share > 0 and size < 1 for share, size in zip(asked, (num_train, num_validation, num_test), strict=True)):
        raise InputError(
            f"{name}: {num_rows} rows are too few for validation_fraction {validation_fraction} and test_fraction "
            f"{test_fraction}: the parts would have {num_train}, {num_validation} and {num_test} rows; give more rows, "
            "or set a fraction to 0"
        )
    generator = torch.Generator().manual_seed(seed_of(split_seed, "data"))
    order = torch.randperm(num_rows, generator=generator)
    held_out = num_validation + num_test
    return SplitRows(
        train=order[held_out:].sort().values,
        validation=order[:num_validation].sort().values if num_validation else None,
        test=order[num_validation:held_out].sort().values if num_test else None,
    )


def take(batch: Batch, rows: Tensor | None) -> Batch | None:
    """The given rows of a batch; None for None."""
    return None if rows is None else take_rows(batch, rows)


def take_rows(batch: Batch, rows: Tensor) -> Batch:
    """The given rows of a batch."""
    return Batch(batch.x[rows], None if batch.y is None else batch.y[rows])
