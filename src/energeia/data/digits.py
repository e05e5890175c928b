"""Handwritten digits of 8 by 8 pixels, which come with scikit-learn: no download."""

import torch
from torch import Tensor

from energeia.core.record import Batch
from energeia.data.check import check_batch
from energeia.data.foreign import photographs, shuffled
from energeia.data.source import Contents, Source, Splits

_NUM_LEVELS = 17
_TRAIN, _VALIDATION, _TEST = slice(0, 1000), slice(1000, 1350), slice(1350, None)


class Digits(Source):
    """1,797 handwritten digits, `[1, 8, 8]`, in ten classes.

    A pixel has one of 17 levels k = 0..16, and x = 2 k / 17 - 1. So x + 2 u / 17 with
    u uniform in [0, 1) fills [-1, 1): that is `Dequantize(2 / 17, centred=False)`.

    In the order of the file, rows 0 to 999 train, 1000 to 1349 validate, 1350 to 1796 test.

    Foreign sets, each as large as the test set: "photographs", grey 8 by 8 patches of
    photographs at the same 17 levels; "shuffled pixels", the test digits with each
    pixel permuted over the digits, which keeps every pixel's histogram.

    Args:
        flat: give x as vectors `[64]`.

    Example:
        >>> Digits().splits().train.x.shape
        torch.Size([1000, 1, 8, 8])

    Reference:
        Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits,
        https://doi.org/10.24432/C50P49
    """

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.flat = flat

    def load(self) -> Contents:
        """Read the digits from the installed scikit-learn."""
        from sklearn.datasets import load_digits  # here, as importing it takes a second

        level, label = load_digits(return_X_y=True)
        shape = (64,) if self.flat else (1, 8, 8)
        x = _from_levels(torch.from_numpy(level)).view(-1, *shape)
        y = torch.from_numpy(label).long()
        check_batch(x, y, 10, "digits")
        train, validation, test = (Batch(x[rows].clone(), y[rows].clone()) for rows in (_TRAIN, _VALIDATION, _TEST))
        patches = photographs(len(test.x), 1, 8, 8)
        foreign = {
            "photographs": _from_levels((patches.double() * (_NUM_LEVELS - 1) / 255).round()).view(-1, *shape),
            "shuffled pixels": shuffled(test.x),
        }
        splits = Splits(train, validation, test, foreign)
        return Contents(splits, shape, 10, low=-1.0, high=1.0, as_images=not self.flat)


def _from_levels(level: Tensor) -> Tensor:
    return (2 * (level.double() / _NUM_LEVELS) - 1).float()
