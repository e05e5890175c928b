"""A source of data: the splits of one data set, and what a model must know of them."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from energeia.core.errors import CheckpointError, InputError, check_count
from energeia.core.record import Batch


class Splits(NamedTuple):
    """The rows of a data set, each row in one part only.

    train, validation, test: x `[N, *event]` float32 and y int64, `[N]` or of sequences `[N, T]`, or None; a part
        that was not asked for is None.
    foreign: named sets `[M, *event]` that do not come from the distribution of the
        data, for out-of-distribution detection.
    """

    train: Batch
    validation: Batch | None
    test: Batch | None
    foreign: dict[str, Tensor]


class Contents(NamedTuple):
    """All that a source knows once it is loaded; see `Source` for the meaning. `splits` None: there is no data."""

    splits: Splits | None
    event_shape: tuple[int, ...]
    num_classes: int | None
    low: float
    high: float
    as_images: bool
    class_names: tuple[str, ...] | None = None


class Source(ABC):
    """A data set. Arguments of the constructor say which; nothing is read before it is asked for.

    A subclass implements `load`, which is called once. The same arguments and files
    give the same splits, bit for bit.
    """

    def __init__(self) -> None:
        self._contents: Contents | None = None

    @abstractmethod
    def load(self) -> Contents:
        """Read and check everything. Call `splits` instead: it keeps the result."""

    def splits(self) -> Splits:
        """Training, validation, test and foreign data.

        Raises:
            InputError: the files are missing or hold something that is not data.
            CheckpointError: this is the description of a data set that is not here (`Described`).
        """
        splits = self._open().splits
        if splits is None:
            raise CheckpointError(
                "the run was saved without its data, of which only the shape and range are known; "
                "give the data again: --data PATH"
            )
        return splits

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self._open().event_shape

    @property
    def num_classes(self) -> int | None:
        """Number K of classes, labels being 0..K-1; None where there are no labels."""
        return self._open().num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes 0..K-1 are called in the files; None where they are numbered there too."""
        return self._open().class_names

    @property
    def low(self) -> float:
        """Lower bound of every value, as of a `Box` space; -inf where none is known (then use `Real`)."""
        return self._open().low

    @property
    def high(self) -> float:
        """Upper bound of every value, as of a `Box` space; inf where none is known."""
        return self._open().high

    @property
    def as_images(self) -> bool:
        """Whether an event is a picture `[C, H, W]` with 1 or 3 channels."""
        return self._open().as_images

    def _open(self) -> Contents:
        if self._contents is None:
            self._contents = self.load()
        return self._contents


@runtime_checkable
class Reading(Protocol):
    """Capability of a source: further files of the kind that it reads, to predict from."""

    def read(self, path: str, event_shape: tuple[int, ...]) -> Batch:
        """The rows of another file, in its order and with the settings of this source.

        Args:
            path: the file.
            event_shape: shape of one x, as the model takes it; of sequences the first axis may be another.

        Labels may be missing there, and are left out (y None) unless they are numbered as those of this source are.

        Raises:
            InputError: the file is missing or does not fit; the message says where.
        """
        ...


class Described(Source):
    """What is known of a data set without having it: enough to rebuild a model.

    Args:
        event_shape: shape of one x.
        num_classes: number of classes, None without labels.
        low, high: range of the values, low < high; -inf and inf where unbounded.
        as_images: whether events are pictures `[C, H, W]`.
        class_names: of the classes, where they have names.

    Raises:
        InputError: a size below 1, or low not below high.
        CheckpointError: from `splits`, as there is no data.

    Example:
        >>> Described((1, 8, 8), 10, low=-1.0, high=1.0, as_images=True).event_shape
        (1, 8, 8)
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        num_classes: int | None = None,
        *,
        low: float = float("-inf"),
        high: float = float("inf"),
        as_images: bool = False,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        shape = tuple(event_shape)
        if not shape or any(not isinstance(size, int) or size < 1 for size in shape):
            raise InputError(f"Described: event_shape needs integers of at least 1, as (1, 8, 8), got {event_shape}")
        if num_classes is not None:
            check_count("Described", num_classes=num_classes)
        if not low < high:
            raise InputError(f"Described: low must be below high, got low={low}, high={high}")
        if as_images and (len(shape) != 3 or shape[0] not in (1, 3)):
            raise InputError(
                f"Described: pictures have shape (1 or 3, height, width), got {shape}; use as_images=False"
            )
        if class_names is not None and len(class_names) != num_classes:
            raise InputError(f"Described: {len(class_names)} class_names for {num_classes} classes; give one for each")
        names = None if class_names is None else tuple(class_names)
        self._description = Contents(None, shape, num_classes, low, high, as_images, names)

    def load(self) -> Contents:
        """The description, without splits."""
        return self._description
