"""Reading sequences of sites: .npz files, and the letters of handwritten words as they were published."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from energeia.core.errors import InputError
from energeia.data.read import arrays_of, pick

_LENGTHS = ("lengths", "word_len")
_LETTER_COLUMNS = ("id", "letter", "next_id", "word_id", "position", "fold")
_PIXELS = (16, 8)


class RawSequences(NamedTuple):
    """Sites of all sequences, one after another.

    x: float32 `[sites, *features]`. labels: `[sites]`, whole numbers or text; None where there are none.
    lengths: int64 `[N]`, at least 1. folds: int64 `[N]`, or None.
    """

    x: np.ndarray
    labels: np.ndarray | None
    lengths: np.ndarray
    folds: np.ndarray | None


def read_sequences(path: Path) -> RawSequences:
    """An .npz file; see `Sequences` for the arrays."""
    arrays = arrays_of(path)
    x, lengths = arrays.get("x"), pick(arrays, _LENGTHS, path)
    if x is None or lengths is None:
        raise InputError(
            f"{path}: holds the arrays {', '.join(arrays) or '(none)'}; sequences need x [sites, *features], lengths "
            "[N] and, to train on, y [sites]"
        )
    if x.ndim < 2 or len(x) == 0 or x.dtype.kind not in "biuf":
        raise InputError(f"{path}: x is {x.shape} {x.dtype}; expected numbers [sites, *features]")
    if "n_features" in arrays:
        x = _unpacked(x, arrays["n_features"], path)
    lengths = _whole(lengths, "lengths", None, path)
    if bool((lengths < 1).any()):
        raise InputError(f"{path}: sequence {int((lengths < 1).argmax())} is empty; leave empty sequences out")
    if int(lengths.sum()) != len(x):
        raise InputError(f"{path}: x has {len(x)} sites, but the lengths add up to {int(lengths.sum())}")
    labels = arrays.get("y")
    if labels is not None and labels.dtype.kind != "U":
        labels = _whole(labels, "y", len(x), path)
    if labels is not None and labels.shape != (len(x),):
        raise InputError(f"{path}: y has shape {labels.shape}, expected one label for every site [{len(x)}]")
    folds = None if "fold" not in arrays else _whole(arrays["fold"], "fold", len(lengths), path)
    return RawSequences(x.astype(np.float32), labels, lengths, folds)


def _unpacked(x: np.ndarray, number: np.ndarray, path: Path) -> np.ndarray:
    """Bits, of which every byte of x holds eight."""
    told = f"{path}: n_features says that x holds bits, eight to a byte"
    if x.dtype != np.uint8 or x.ndim != 2 or number.shape != () or number.dtype.kind not in "iu":
        raise InputError(
            f"{told}; then x is uint8 [sites, bytes] and n_features a whole number, got {x.dtype} {x.shape}"
        )
    if not 0 <= 8 * x.shape[1] - int(number) < 8:
        raise InputError(f"{told}, but {int(number)} bits do not fill {x.shape[1]} bytes")
    return np.unpackbits(x, axis=1)[:, : int(number)]


def _whole(values: np.ndarray, name: str, length: int | None, path: Path) -> np.ndarray:
    """Whole numbers int64 of one axis."""
    if values.ndim != 1 or len(values) == 0 or (length is not None and len(values) != length):
        raise InputError(f"{path}: {name} has shape {values.shape}, expected [{'N' if length is None else length}]")
    if values.dtype.kind not in "biu" and not (values.dtype.kind == "f" and bool((values == np.floor(values)).all())):
        raise InputError(f"{path}: {name} has dtype {values.dtype}; expected whole numbers")
    return values.astype(np.int64)


def read_letters(path: Path) -> RawSequences:
    """A file of letters, one a line; see `Sequences` for the columns."""
    pixels, labels, lengths, folds = bytearray(), [], [0], []
    try:
        with gzip.open(path, "rt", encoding="ascii") if path.suffix == ".gz" else path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                letter, is_last, fold, bits = _letter(line, f"{path}: line {number}")
                labels.append(letter)
                pixels += bits
                lengths[-1] += 1
                if is_last:
                    folds.append(fold)
                    lengths.append(0)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); expected letters, one a line") from error
    if lengths.pop():
        raise InputError(f"{path}: ends within a word: the last line has no next_id of -1, so lines are missing")
    if not labels:
        raise InputError(f"{path}: holds no letters")
    x = (np.frombuffer(pixels, dtype=np.uint8) - ord("0")).reshape(len(labels), *_PIXELS)
    return RawSequences(x.astype(np.float32), np.array(labels), np.array(lengths), np.array(folds))


def _letter(line: str, where: str) -> tuple[str, bool, int, bytes]:
    """Letter, whether it is the last of its word, fold, and pixels as characters 0 and 1."""
    num_pixels = _PIXELS[0] * _PIXELS[1]
    cells = line.rstrip().split("\t")
    if len(cells) != len(_LETTER_COLUMNS) + num_pixels:
        raise InputError(
            f"{where}: has {len(cells)} columns separated by tabs, expected {', '.join(_LETTER_COLUMNS)} and "
            f"{num_pixels} pixels"
        )
    pixels = "".join(cells[len(_LETTER_COLUMNS) :])
    if len(pixels) != num_pixels or pixels.strip("01"):
        raise InputError(f"{where}: pixels must be 0 or 1")
    try:
        following, fold = int(cells[2]), int(cells[5])
    except ValueError:
        raise InputError(
            f"{where}: next_id and fold must be whole numbers, got {cells[2]!r} and {cells[5]!r}"
        ) from None
    return cells[1], following == -1, fold, pixels.encode("ascii")
