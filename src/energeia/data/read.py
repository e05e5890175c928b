"""Reading arrays and tables from .npz and .parquet files, without executing anything in them."""

import difflib
import importlib.util
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from energeia.core.errors import InputError
from energeia.data.check import column_label


class Part(NamedTuple):
    """Rows as they are in the file: x `[N, *event]` of a numeric dtype, y `[N]` of numbers or text."""

    x: np.ndarray
    y: np.ndarray | None


class NoSuchLabelError(InputError):
    """The file has no labels of that name or number."""


class Raw(NamedTuple):
    """A file. parts: "all", or "train" and any of "validation" and "test"; column_names of a csv or parquet table."""

    parts: dict[str, Part]
    column_names: tuple[str, ...] | None


def is_number(cell: str) -> bool:
    """Whether a cell is a number; 1_000 is not, though float() reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def find_label(label: int | str | None, names: Sequence[str], path: Path) -> int | None:
    """The number of the label column, from its name or number."""
    if isinstance(label, str) and label in names:
        if list(names).count(label) > 1:
            raise InputError(f"{path}: {names.count(label)} columns are called {label!r}; give the label's number")
        return names.index(label)
    if isinstance(label, str) and label.removeprefix("-").isdecimal():
        label = int(label)
    if label is None or (isinstance(label, int) and -len(names) <= label < len(names)):
        return None if label is None else label % len(names)
    close = difflib.get_close_matches(str(label), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise NoSuchLabelError(f"{path}: there is no label column {label!r}; {hint}the {len(names)} columns are {listed}")


def as_numbers(labels: Iterable[str]) -> np.ndarray:
    """Labels as float64 if every one is a number, else as text."""
    texts = list(labels)
    if all(is_number(text) for text in texts):
        return np.array([float(text) for text in texts])
    return np.array(texts)


def read_parquet(path: Path, label: int | str | None) -> Raw:
    """Columns of numbers, with one label column at most.

    Raises:
        InputError: pandas or pyarrow is missing, or a column does not hold numbers.
    """
    for needed in ("pandas", "pyarrow"):
        if importlib.util.find_spec(needed) is None:
            raise InputError(f"{path}: reading parquet needs {needed}; pip install 'energeia[table]'")
    import pandas

    try:
        frame = pandas.read_parquet(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as parquet ({error})") from error
    names = [str(name) for name in frame.columns]
    label_column = find_label(label, names, path)
    columns: list[np.ndarray] = []
    labels: np.ndarray | None = None
    for number, name in enumerate(names):
        column = frame.iloc[:, number]
        numeric = pandas.api.types.is_numeric_dtype(column.dtype)
        if numeric:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        elif number == label_column and not column.isna().any():
            values = as_numbers(str(value) for value in column)
        else:
            row = int(column.isna().to_numpy().argmax()) if number == label_column else 0
            raise InputError(
                f"{path}: row {row}, {column_label(name)}: {column.iloc[row]!r} is not a number (the column has type "
                f"{column.dtype}); convert or drop it, or give label={name!r} if it holds the classes"
            )
        if number == label_column:
            labels = values
        else:
            columns.append(values)
    if not columns or len(frame) == 0:
        raise InputError(f"{path}: has {len(frame)} rows and {len(columns)} columns beside the label; both are needed")
    kept = tuple(name for number, name in enumerate(names) if number != label_column)
    return Raw({"all": Part(np.stack(columns, axis=1), labels)}, kept)


_X_NAMES = ("x", "X", "data", "images")
_Y_NAMES = ("y", "Y", "labels", "label", "target", "targets")
_PART_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


def read_npz(path: Path, label: int | str | None) -> Raw:
    """Arrays saved by `numpy.savez`; see `Table` for their names. Pickled objects are refused, never loaded."""
    arrays = arrays_of(path)
    parts: dict[str, Part] = {}
    whole_x = pick(arrays, _X_NAMES, path)
    y_names = (label,) if isinstance(label, str) and label in arrays else _Y_NAMES
    if whole_x is not None:
        parts["all"] = Part(whole_x, None if isinstance(label, int) else pick(arrays, y_names, path))
    elif y_names is not _Y_NAMES:
        raise InputError(f"{path}: ready-made splits are labelled by y_train, y_test, ...; leave label={label!r} out")
    for part, aliases in _PART_NAMES.items():
        x_part = pick(arrays, [n for a in aliases for x in _X_NAMES for n in (f"{x}_{a}", f"{a}_{x}")], path)
        y_part = pick(arrays, [n for a in aliases for y in _Y_NAMES for n in (f"{y}_{a}", f"{a}_{y}")], path)
        if x_part is not None:
            parts[part] = Part(x_part, None if isinstance(label, int) else y_part)
    _check_parts(parts, arrays, label, path)
    if isinstance(label, int) or (isinstance(label, str) and label not in arrays):
        parts = {name: _cut_label(part, label, f"{path}: {name}") for name, part in parts.items()}
    return Raw(parts, None)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Pickled objects are refused, never loaded."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: is a single array; save it as numpy.savez({path.name!r}, x=..., y=...)")
            return {name: _read_array(archive, name, path) for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as .npz ({error}); save it again with numpy.savez") from error


def _read_array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as error:
        raise InputError(
            f"{path}: array {name!r} holds Python objects, which can run code when loaded and are refused ({error}); "
            "save it with a numeric dtype, as numpy.asarray(values, dtype='float32')"
        ) from error


def pick(arrays: dict[str, np.ndarray], names: Sequence[str], path: Path) -> np.ndarray | None:
    """The array that goes by one of these names; None where there is none."""
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise InputError(f"{path}: holds {' and '.join(found)}, which mean the same; keep one of them")
    return arrays[found[0]] if found else None


def _check_parts(parts: dict[str, Part], arrays: dict[str, np.ndarray], label: int | str | None, path: Path) -> None:
    if not parts or ("all" in parts and len(parts) > 1) or ("all" not in parts and "train" not in parts):
        raise InputError(
            f"{path}: holds the arrays {', '.join(arrays) or '(none)'}; expected x with an optional y, or x_train with "
            "optional y_train, x_validation, y_validation, x_test, y_test (and not both)"
        )
    labelled = [name for name, part in parts.items() if part.y is not None]
    if labelled and len(labelled) < len(parts):
        bare = next(name for name in parts if name not in labelled)
        raise InputError(f"{path}: the {labelled[0]} part has labels but the {bare} part has none; give all or none")
    if isinstance(label, str) and label not in arrays and not label.removeprefix("-").isdecimal():
        raise NoSuchLabelError(f"{path}: there is no array {label!r} of labels; the arrays are {', '.join(arrays)}")


def _cut_label(part: Part, label: int | str, where: str) -> Part:
    if part.x.ndim != 2 or part.x.shape[1] < 2:
        raise InputError(f"{where}: label={label} is a column of x, so x must be [N, 2 or more], got {part.x.shape}")
    names = [str(number) for number in range(part.x.shape[1])]
    column = find_label(label, names, Path(where))
    assert column is not None
    return Part(np.delete(part.x, column, axis=1), part.x[:, column])
