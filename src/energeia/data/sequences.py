"""Sequences of labelled sites, such as words of handwritten letters, in one file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.record import Batch
from energeia.data.check import check_batch
from energeia.data.read_sequences import RawSequences, read_letters, read_sequences
from energeia.data.source import Contents, Source, Splits
from energeia.data.split import check_fractions, split_rows, take, take_rows

SEQUENCE_SUFFIXES = (".npz", ".data", ".data.gz")


class Sequences(Source):
    """Sequences of sites, each with its features and its label; padded to the longest.

    x `[N, T, *site_shape]` float32, all `padding` after the end of a sequence; y `[N, T]` int64, -1 there. Give the
    same padding to the energy: `LinearChain(..., padding=-1.0)`.

    Two formats are read:

    - .npz: x `[sites, *features]`, the sites of all sequences one after another; y `[sites]`, labels 0..K-1; lengths
      (or word_len) `[N]`, the sites of each sequence; and, if wanted, fold `[N]`. With n_features, x holds bits, eight
      to a byte (`numpy.packbits`), and n_features says how many of them there are.
    - .data or .data.gz: handwritten words as Kassel collected and Taskar published them, one letter a line, columns
      separated by tabs: id, letter, id of the next letter or -1, word id, position, fold, and 16 x 8 pixels 0 or 1.

    Args:
        path: the file.
        site_shape: shape of one site, such as (16, 8); None takes that of the file.
        alphabet: what labels 0, 1, ... are called, one character each; it also numbers the letters of a .data file.
            None numbers the letters that occur, in ascending order.
        test_fold: the sequences of this fold test, all others train. None draws test_fraction of them at random.
        validation_fraction: share of the sequences, test fold left out, that validates; drawn at random.
        test_fraction: see test_fold.
        split_seed: which random split.
        padding: value after the end of a sequence; no site may consist of it.

    Raises:
        InputError: the file is missing or is not as described; the message says where.

    Example:
        >>> source = Sequences("letter.data.gz", test_fold=0)  # reads nothing yet

    Reference: Taskar, Guestrin & Koller (2003), Max-margin Markov networks,
    https://papers.nips.cc/paper/2397-max-margin-markov-networks; the file: http://ai.stanford.edu/~btaskar/ocr/
    """

    def __init__(
        self,
        path: str,
        *,
        site_shape: tuple[int, ...] | None = None,
        alphabet: str | None = None,
        test_fold: int | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        padding: float = -1.0,
    ) -> None:
        super().__init__()
        check_fractions("Sequences", validation_fraction, 0.0 if test_fold is not None else test_fraction)
        if alphabet is not None and (len(set(alphabet)) != len(alphabet) or len(alphabet) < 2):
            raise InputError(f"Sequences: alphabet needs two characters or more, each once, got {alphabet!r}")
        self.path, self.site_shape, self.alphabet, self.test_fold = path, site_shape, alphabet, test_fold
        self.validation_fraction, self.test_fraction, self.split_seed = validation_fraction, test_fraction, split_seed
        self.padding = padding

    def load(self) -> Contents:
        """Read the file."""
        raw = self._read(self.path)
        if raw.labels is None:
            raise InputError(f"{self.path}: has no labels y, which training needs; give one for every site")
        labels, names, num_classes = self._numbered(raw.labels, self.path)
        whole = self._padded(raw, labels, self.path)
        known = torch.arange(len(raw.lengths))
        test = None
        if self.test_fold is not None:
            in_test = self._in_test_fold(raw)
            test, known = take_rows(whole, in_test.nonzero()[:, 0]), (~in_test).nonzero()[:, 0]
        rows = split_rows(
            len(known),
            validation_fraction=self.validation_fraction,
            test_fraction=0.0 if test is not None else self.test_fraction,
            split_seed=self.split_seed,
            name=self.path,
        )
        rest = take_rows(whole, known)
        splits = Splits(take_rows(rest, rows.train), take(rest, rows.validation), test or take(rest, rows.test), {})
        shape = tuple(whole.x.shape[1:])
        low, high = float("-inf"), float("inf")
        return Contents(splits, shape, num_classes, low, high, as_images=False, class_names=names)

    def read(self, path: str, event_shape: tuple[int, ...]) -> Batch:
        """The sequences of another file in its order, padded to its longest; see `Reading`."""
        raw = self._read(path)
        labels = None if raw.labels is None else self._numbered(raw.labels, path)[0]
        batch = self._padded(raw, labels, path)
        if batch.x.shape[2:] != event_shape[1:]:
            raise InputError(f"{path}: sites have shape {tuple(batch.x.shape[2:])}, the model takes {event_shape[1:]}")
        return batch

    def _read(self, path: str) -> RawSequences:
        place = Path(path)
        if not path.lower().endswith(SEQUENCE_SUFFIXES):
            raise InputError(f"{path}: is no file of sequences; these end in {', '.join(SEQUENCE_SUFFIXES)}")
        if not place.is_file():
            raise InputError(f"{path}: there is no such file")
        return read_sequences(place) if place.suffix.lower() == ".npz" else read_letters(place)

    def _numbered(self, labels: np.ndarray, path: str) -> tuple[Tensor, tuple[str, ...] | None, int]:
        """Label numbers of all sites, the names of the labels, and how many there are."""
        names = None if self.alphabet is None else tuple(self.alphabet)
        if labels.dtype.kind == "U":
            names = names or tuple(str(label) for label in np.unique(labels))
            number = {name: place for place, name in enumerate(names)}
            strange = next((place for place, label in enumerate(labels.tolist()) if label not in number), None)
            if strange is not None:
                label = str(labels[strange])
                raise InputError(f"{path}: site {strange} has label {label!r}, not in the alphabet {''.join(names)!r}")
            numbers = torch.tensor([number[label] for label in labels.tolist()])
        else:
            numbers = torch.from_numpy(labels.astype(np.int64))
        num_classes = int(numbers.max()) + 1 if names is None else len(names)
        outside = (numbers < 0) | (numbers >= num_classes)
        if bool(outside.any()):
            place = int(outside.nonzero()[0])
            raise InputError(
                f"{path}: site {place} has label {int(numbers[place])}, but labels must lie in 0..{num_classes - 1}"
                + ("" if names is None else f", the places in the alphabet {''.join(names)!r}")
            )
        if num_classes < 2:
            raise InputError(f"{path}: all sites have the same label; there must be two labels or more")
        return numbers, names, num_classes

    def _padded(self, raw: RawSequences, labels: Tensor | None, path: str) -> Batch:
        x = torch.from_numpy(raw.x)
        shape = tuple(raw.x.shape[1:]) if self.site_shape is None else tuple(self.site_shape)
        if x[0].numel() != torch.Size(shape).numel():
            raise InputError(
                f"{path}: a site has {x[0].numel()} features {raw.x.shape[1:]}, which do not fill site_shape={shape}"
            )
        x = x.reshape(len(x), *shape)
        check_batch(x, None, None, path)
        same = (x.flatten(1) == self.padding).all(1)
        if bool(same.any()):
            raise InputError(
                f"{path}: all features of site {int(same.nonzero()[0])} are {self.padding:g}, the padding; choose "
                "another: --data.padding and --energy.padding"
            )
        lengths = torch.from_numpy(raw.lengths)
        there = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        padded = torch.full((*there.shape, *shape), self.padding)
        padded[there] = x
        if labels is None:
            return Batch(padded)
        y = torch.full(there.shape, -1, dtype=torch.int64)
        y[there] = labels
        return Batch(padded, y)

    def _in_test_fold(self, raw: RawSequences) -> Tensor:
        if raw.folds is None:
            raise InputError(f"{self.path}: has no array fold; give --data.test_fold null for a random test part")
        folds = torch.from_numpy(raw.folds)
        found = folds == self.test_fold
        if not bool(found.any()) or bool(found.all()):
            listed = ", ".join(str(fold) for fold in folds.unique().tolist()[:12])
            raise InputError(
                f"{self.path}: test_fold={self.test_fold} must be one of several folds; the folds there are {listed}"
            )
        return found
