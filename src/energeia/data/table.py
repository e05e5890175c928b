"""A table, or an array of pictures, in one file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.record import Batch
from energeia.core.warn import warn
from energeia.data.check import check_batch, column_label
from energeia.data.foreign import foreign_sets
from energeia.data.image import scale_bytes
from energeia.data.labels import class_numbers
from energeia.data.read import NoSuchLabelError, Raw, read_npz, read_parquet
from energeia.data.read_csv import read_csv
from energeia.data.source import Contents, Source, Splits
from energeia.data.split import check_fractions, split_rows, take, take_rows

TABLE_SUFFIXES = (".npz", ".csv", ".parquet")


class Table(Source):
    """Rows of numbers from a .npz, .csv or .parquet file.

    A .npz file holds x (or X, data, images) `[N, *event]` and may hold labels y (or
    labels, target); or ready-made splits x_train, y_train, x_test, y_test,
    x_validation (or x_val), y_validation. A part that is missing is cut from the
    training rows, by the fractions. Files are never unpickled.

    Arrays of bytes (uint8) with 3 or 4 axes are pictures: `[N, H, W]`,
    `[N, H, W, C]` or `[N, C, H, W]` with C of 1 or 3 become `[N, C, H, W]` in
    [-1, 1]. Floating arrays `[N, C, H, W]` with C of 1 or 3 are pictures too, in the
    range they have. Everything else is taken as it is.

    `low` and `high` are -1 and 1 for pictures of bytes and infinite otherwise:
    rows that come later may well lie outside the range of those seen.

    Foreign sets: "shuffled columns", the test rows with every column permuted over
    the rows; of pictures "shuffled pixels" likewise, and "photographs" from 8 by 8 on.

    Args:
        path: the file.
        label: the label column, by name or number (from 0; -1 is the last); of a .npz
            file the name of the array of labels, or the number of a column of x.
        validation_fraction, test_fraction: shares of the rows held out, drawn at random.
        split_seed: which random split.
        standardize: subtract the mean and divide by the standard deviation of the
            training rows, column by column. Constant columns are divided by 1, with a warning.
        header: of a .csv file, whether the first line holds names; None finds out.

    Raises:
        InputError: the file is missing, not a table, holds text, NaN or infinite
            values, or labels that are not classes; the message says where.

    Example:
        >>> source = Table("wine.csv", label="quality", standardize=True)  # reads nothing yet
    """

    def __init__(
        self,
        path: str,
        *,
        label: int | str | None = None,
        validation_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 0,
        standardize: bool = False,
        header: bool | None = None,
    ) -> None:
        super().__init__()
        if Path(path).suffix.lower() not in TABLE_SUFFIXES:
            raise InputError(f"{path}: is not a table; expected a file that ends in {', '.join(TABLE_SUFFIXES)}")
        check_fractions("Table", validation_fraction, test_fraction)
        self.path, self.label, self.header = path, label, header
        self.validation_fraction, self.test_fraction, self.split_seed = validation_fraction, test_fraction, split_seed
        self.standardize = standardize

    def load(self) -> Contents:
        """Read the file."""
        raw = self._read(self.path, self.label)
        parts, num_classes, class_names = self._batches(raw)
        first = next(iter(raw.parts.values())).x
        from_bytes = first.dtype == np.uint8 and first.ndim > 2
        event_shape = tuple(parts["train" if "train" in parts else "all"].x.shape[1:])
        as_images = len(event_shape) == 3 and event_shape[0] in (1, 3)
        if self.standardize and as_images:
            raise InputError(f"{self.path}: holds pictures, which share one scale; leave standardize off")
        train, validation, test = self._split(parts)
        if self.standardize:
            scale = _scale_of(train, raw.column_names, self.path)
            train, validation, test = (None if part is None else scale(part) for part in (train, validation, test))
        train, *others = (None if part is None else _to_float32(part) for part in (train, validation, test))
        assert train is not None
        low, high = (-1.0, 1.0) if from_bytes else (float("-inf"), float("inf"))
        black, white = (low, high) if from_bytes else (float(train.x.min()), float(train.x.max()))
        foreign = foreign_sets(others[1], as_images=as_images, low=black, high=white)
        splits = Splits(train, others[0], others[1], foreign)
        return Contents(splits, event_shape, num_classes, low, high, as_images, class_names)

    def read(self, path: str, event_shape: tuple[int, ...]) -> Batch:
        """The rows of another file, scaled by the training rows of this one if `standardize` says so; see `Reading`."""
        batch = self._rows_of(path, event_shape)
        if self.standardize:
            raw = self._read(self.path, self.label)
            batch = _scale_of(self._split(self._batches(raw)[0])[0], raw.column_names, self.path)(batch)
        return _to_float32(batch)

    def _rows_of(self, path: str, event_shape: tuple[int, ...]) -> Batch:
        """x of another file, with or without a column or array of labels beside it."""
        shape: tuple[int, ...] = ()
        for label in dict.fromkeys((self.label, None)):
            try:
                raw = self._read(path, label)
            except NoSuchLabelError:
                continue
            if "all" not in raw.parts:
                raise InputError(f"{path}: holds {', '.join(raw.parts)} parts; to predict, give one array x")
            x = _as_tensor(raw.parts["all"].x, path)
            shape = tuple(x.shape[1:])
            if shape == event_shape:
                check_batch(x if self.standardize else x.float(), None, None, path, raw.column_names)
                return Batch(x)
        raise InputError(f"{path}: rows have shape {shape}, the model takes {event_shape}")

    def _read(self, file: str, label: int | str | None) -> Raw:
        path = Path(file)
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise InputError(f"{path}: is not a table; expected a file that ends in {', '.join(TABLE_SUFFIXES)}")
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
        suffix = path.suffix.lower()
        if self.header is not None and suffix != ".csv":
            raise InputError(f"{path}: header is for .csv files; leave it out")
        if suffix == ".csv":
            return read_csv(path, label, self.header)
        return read_npz(path, label) if suffix == ".npz" else read_parquet(path, label)

    def _batches(self, raw: Raw) -> tuple[dict[str, Batch], int | None, tuple[str, ...] | None]:
        """Checked batches of the parts of the file, floats still in their own precision."""
        where = {name: self.path if name == "all" else f"{self.path}: {name}" for name in raw.parts}
        if len({part.x.dtype == np.uint8 for part in raw.parts.values()}) > 1:
            raise InputError(f"{self.path}: some parts are bytes (uint8) and some are not; save all in one dtype")
        labels = {name: part.y for name, part in raw.parts.items() if part.y is not None}
        numbers: dict[str, np.ndarray] = {}
        num_classes, class_names = None, None
        if labels:
            listed, num_classes, class_names = class_numbers(list(labels.values()), [where[name] for name in labels])
            numbers = dict(zip(labels, listed, strict=True))
        batches: dict[str, Batch] = {}
        for name, part in raw.parts.items():
            x = _as_tensor(part.x, where[name])
            y = torch.from_numpy(numbers[name]) if name in numbers else None
            # Values beyond float32 would become infinite later, where no message could say which they were.
            check_batch(x if self.standardize else x.float(), y, num_classes, where[name], raw.column_names)
            batches[name] = Batch(x, y)
        shapes = {name: tuple(batch.x.shape[1:]) for name, batch in batches.items()}
        if len(set(shapes.values())) > 1:
            raise InputError(f"{self.path}: the parts have different event shapes: {shapes}; make them alike")
        return batches, num_classes, class_names

    def _split(self, parts: dict[str, Batch]) -> tuple[Batch, Batch | None, Batch | None]:
        whole = parts.get("all", parts.get("train"))
        assert whole is not None
        rows = split_rows(
            len(whole.x),
            validation_fraction=0.0 if "validation" in parts else self.validation_fraction,
            test_fraction=0.0 if "test" in parts else self.test_fraction,
            split_seed=self.split_seed,
            name=self.path,
        )
        validation = parts.get("validation", take(whole, rows.validation))
        return take_rows(whole, rows.train), validation, parts.get("test", take(whole, rows.test))


def _as_tensor(x: np.ndarray, name: str) -> Tensor:
    """The events of a part: pictures `[N, C, H, W]` in [-1, 1], or floats as they are."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name}: x has dtype {x.dtype}, expected numbers; save it as float32")
    if x.dtype != np.uint8 or x.ndim < 3:
        return torch.from_numpy(x.astype(np.float32 if x.dtype in (np.float16, np.float32) else np.float64))
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(
            f"{name}: bytes of shape {x.shape} are not pictures; expected [N, H, W], [N, H, W, C] or [N, C, H, W] with "
            "C of 1 or 3, or save the array as float32"
        )
    if x.size and x.max() <= 1:
        raise InputError(
            f"{name}: the pictures are bytes up to {x.max()}, expected 0..255; save bits as float32 (kept as they are)"
        )
    return scale_bytes(torch.from_numpy(np.ascontiguousarray(x)))


def _scale_of(train: Batch, column_names: tuple[str, ...] | None, path: str) -> Callable[[Batch], Batch]:
    """What gives the columns of the training rows mean 0 and standard deviation 1."""
    rows = train.x.double()
    mean = rows.mean(0)
    constant = (rows == rows[:1]).all(0)
    deviation = rows.std(0, correction=0).where(~constant, torch.ones_like(mean))
    if bool(constant.any()):
        flat = constant.flatten().nonzero().flatten().tolist()
        listed = ", ".join(column_label(column_names[n] if column_names else str(n)) for n in flat[:5])
        more = f" and {len(flat) - 5} more" if len(flat) > 5 else ""
        warn(f"{path}: {listed}{more}: constant in the training rows, so not scaled")
        mean = mean.where(~constant, rows[0])  # the mean of equal numbers can miss them by rounding
    return lambda part: Batch((part.x.double() - mean) / deviation, part.y)


def _to_float32(batch: Batch) -> Batch:
    return Batch(batch.x.float(), batch.y)
