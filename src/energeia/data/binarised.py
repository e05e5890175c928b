"""Any source, its values cut into bits."""

import math

from torch import Tensor

from energeia.core.errors import InputError, check_finite
from energeia.core.record import Batch
from energeia.data.source import Contents, Source, Splits


class Binarised(Source):
    """The rows of a source as bits: 1 where x >= threshold, else 0.

    Labels, splits and the shape stay as they are; foreign sets are cut in the same way.

    Args:
        source: where the values come from.
        threshold: smallest value that becomes 1, in units of the source. None is the middle of its
            range: 128 of the bytes 0..255 of a picture.
        flat: give events as vectors.

    Raises:
        InputError: the source has no range and no threshold is given; or all values fall on one side.

    Example:
        >>> from energeia.data import Digits
        >>> Binarised(Digits(), flat=True).splits().train.x.unique()
        tensor([0., 1.])
    """

    def __init__(self, source: Source, threshold: float | None = None, *, flat: bool = False) -> None:
        super().__init__()
        if threshold is not None:
            check_finite("Binarised", threshold=threshold)
        self.source, self.threshold, self.flat = source, threshold, flat

    def load(self) -> Contents:
        """Read the source and cut it."""
        whole, splits, threshold = self.source, self.source.splits(), self.threshold
        if threshold is None:
            threshold = (whole.low + whole.high) / 2
            if not math.isfinite(threshold):
                raise InputError(
                    f"Binarised: {type(whole).__name__} has no range of which to take the middle; give threshold: "
                    "--data.threshold 0.5"
                )

        def bits(x: Tensor) -> Tensor:
            cut = (x >= threshold).to(x.dtype)
            return cut.flatten(1) if self.flat else cut

        def part(batch: Batch | None) -> Batch | None:
            return None if batch is None else Batch(bits(batch.x), batch.y)

        train = Batch(bits(splits.train.x), splits.train.y)
        least, most = float(splits.train.x.min()), float(splits.train.x.max())
        if not least < threshold <= most:
            raise InputError(
                f"Binarised: with threshold {threshold:g} all bits are equal: values run from {least:g} to {most:g}; "
                "choose a threshold between these"
            )
        foreign = {name: bits(x) for name, x in splits.foreign.items()}
        cut = Splits(train, part(splits.validation), part(splits.test), foreign)
        shape = tuple(train.x.shape[1:])
        return Contents(cut, shape, whole.num_classes, 0.0, 1.0, whole.as_images and not self.flat, whole.class_names)
