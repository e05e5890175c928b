"""The handwritten digits of MNIST, from a file or from OpenML."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from energeia.core.errors import InputError, check_fraction
from energeia.core.record import Batch
from energeia.data.foreign import foreign_sets
from energeia.data.image import scale_bytes
from energeia.data.source import Contents, Source, Splits
from energeia.data.split import split_rows, take, take_rows
from energeia.data.table import Table

_NUM_TRAIN = 60_000


class Mnist(Source):
    """70,000 handwritten digits of 28 by 28 pixels, `[1, 28, 28]` in [-1, 1], in ten classes.

    The last 10,000 rows are the test set that everyone uses; validation rows are drawn from the
    other 60,000. Foreign sets as for a `Table` of pictures.

    Args:
        path: a .npz file with bytes x_train `[N, 28, 28]`, y_train, x_test and y_test. None fetches
            "mnist_784" from OpenML through scikit-learn, once: 15 MB, kept in scikit-learn's data
            folder (~/scikit_learn_data, or what SCIKIT_LEARN_DATA says).
        validation_fraction: share of the training rows held out for validation.
        split_seed: which random rows those are.

    Raises:
        InputError: the file is not there or not as described; OpenML cannot be reached.

    Example:
        >>> source = Mnist("mnist.npz")  # reads nothing yet

    Reference: LeCun, Bottou, Bengio & Haffner (1998), https://doi.org/10.1109/5.726791
    """

    def __init__(self, path: str | None = None, *, validation_fraction: float = 1 / 12, split_seed: int = 0) -> None:
        super().__init__()
        check_fraction("Mnist", validation_fraction=validation_fraction)
        self.path, self.validation_fraction, self.split_seed = path, validation_fraction, split_seed

    def load(self) -> Contents:
        """Read the file, or fetch the data set."""
        if self.path is not None:
            table = Table(
                self.path, validation_fraction=self.validation_fraction, test_fraction=0.0, split_seed=self.split_seed
            )
            contents = table.load()
            if contents.event_shape != (1, 28, 28) or contents.num_classes is None or contents.splits is None:
                raise InputError(
                    f"{self.path}: is not MNIST: events have shape {contents.event_shape} and "
                    f"{contents.num_classes or 'no'} classes, expected bytes x_train [N, 28, 28] with y_train; for "
                    "other data use Table"
                )
            return contents
        x, y = _fetch()
        rows = split_rows(
            _NUM_TRAIN,
            validation_fraction=self.validation_fraction,
            test_fraction=0.0,
            split_seed=self.split_seed,
            name="MNIST",
        )
        known, test = Batch(x[:_NUM_TRAIN], y[:_NUM_TRAIN]), Batch(x[_NUM_TRAIN:], y[_NUM_TRAIN:])
        foreign = foreign_sets(test, as_images=True, low=-1.0, high=1.0)
        splits = Splits(take_rows(known, rows.train), take(known, rows.validation), test, foreign)
        return Contents(splits, (1, 28, 28), 10, low=-1.0, high=1.0, as_images=True)


def _fetch() -> tuple[Tensor, Tensor]:
    """Pictures `[70000, 1, 28, 28]` and labels, in the order of the original files."""
    from sklearn.datasets import fetch_openml, get_data_home  # here, as importing it takes a second

    try:
        level, label = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff")
    except (OSError, ValueError) as error:
        raise InputError(
            f"Mnist: cannot be fetched from OpenML ({' '.join(str(error).split())}) and is not yet in "
            f"{Path(get_data_home())}; give a local file with x_train, y_train, x_test and y_test: --data.path "
            "mnist.npz, or --data.source.path where Mnist stands inside Binarised"
        ) from error
    pictures = torch.from_numpy(np.asarray(level, dtype=np.uint8).reshape(-1, 1, 28, 28))
    return scale_bytes(pictures), torch.from_numpy(np.asarray(label).astype(np.int64))
