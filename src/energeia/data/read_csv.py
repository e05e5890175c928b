"""Reading tables of text: .csv files."""

import csv
import itertools
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from energeia.core.errors import InputError
from energeia.data.check import column_label
from energeia.data.read import Part, Raw, as_numbers, find_label, is_number

Line = tuple[int, list[str]]


def read_csv(path: Path, label: int | str | None, header: bool | None) -> Raw:
    """Numbers separated by commas, with one label column at most.

    Args:
        path: the file, UTF-8.
        label: name or number (from 0; -1 is the last) of the label column.
        header: whether the first line holds the names of the columns; None finds out.

    Raises:
        InputError: naming the line, the column and what stands there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            filled = ((reader.line_num, row) for row in reader if len(row) > 1 or any(cell.strip() for cell in row))
            return _parse_csv(filled, path, label, header)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}: is not a csv file ({error})") from error


def _parse_csv(lines: Iterator[Line], path: Path, label: int | str | None, header: bool | None) -> Raw:
    start = list(itertools.islice(lines, 2))
    if not start:
        raise InputError(f"{path}: is empty; expected rows of numbers separated by commas")
    first = [cell.strip() for cell in start[0][1]]
    has_header = _has_header(first, start[1][1] if len(start) > 1 else None, label, path) if header is None else header
    names = first if has_header else [str(number) for number in range(len(first))]
    if "" in names:
        raise InputError(
            f"{path}: column {names.index('')} has no name; pandas writes row numbers like that, save with "
            "to_csv(..., index=False), or name the column"
        )
    label_column = find_label(label, names, path)
    values, labels = array("d"), []
    num_rows = 0
    for line, cells in itertools.chain(start[1:] if has_header else start, lines):
        _append_row(cells, values, labels, names, label_column, f"{path}: row {num_rows} (line {line})")
        num_rows += 1
    if num_rows == 0:
        raise InputError(f"{path}: has column names but no rows")
    kept = tuple(name for number, name in enumerate(names) if number != label_column)
    if not kept:
        raise InputError(f"{path}: has no column beside the label; expected at least one column of numbers")
    x = np.frombuffer(values, dtype=np.float64).reshape(num_rows, len(kept))
    return Raw({"all": Part(x, None if label_column is None else as_numbers(labels))}, kept)


def _append_row(
    cells: list[str], values: array, labels: list[str], names: Sequence[str], label_column: int | None, where: str
) -> None:
    if len(cells) != len(names):
        raise InputError(f"{where} has {len(cells)} cells, expected {len(names)}; separate the cells by commas")
    if label_column is not None:
        text = cells[label_column].strip()
        if not text:
            raise InputError(f"{where}, {column_label(names[label_column])}: the label is empty; give every row one")
        labels.append(text)
        cells = cells[:label_column] + cells[label_column + 1 :]
    try:
        row = list(map(float, cells))
    except ValueError:
        row = None
    if row is not None and "_" not in "".join(cells):  # float() reads 1_000 as a number; here it is text
        values.extend(row)
        return
    kept = [name for number, name in enumerate(names) if number != label_column]
    name, cell = next((n, c) for n, c in zip(kept, cells, strict=True) if not is_number(c))
    given = f"{cell!r} is not a number" if cell.strip() else "the cell is empty"
    advice = f"fix or drop the row; if the column holds the classes, give label={name!r}"
    raise InputError(f"{where}, {column_label(name)}: {given}; {advice}")


def _has_header(first: list[str], second: list[str] | None, label: int | str | None, path: Path) -> bool:
    """Whether the first line holds names; asks where it may be either."""
    text = [number for number, cell in enumerate(first) if not is_number(cell)]
    if len(text) == len(first) or (isinstance(label, str) and label in first and not is_number(label)):
        return True
    if text and not any(first[n] for n in text):
        return False  # a missing number, and no name
    # 0,1,2 are the names that pandas gives columns without one.
    counted = len(first) > 1 and all(cell == str(n) for n, cell in enumerate(first) if n not in text)
    same_text = second is not None and all(n < len(second) and not is_number(second[n]) for n in text)
    if not counted and (not text or same_text):
        return False
    where = f"{column_label(str(text[0]))}, holds the text {first[text[0]]!r} beside numbers" if text else "holds 0,1,2"
    raise InputError(
        f"{path}: row 0 (line 1), {where}, so it may be column names or data; "
        "give header=True if it holds names, header=False if it is data"
    )
