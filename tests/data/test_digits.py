"""Digits against scikit-learn itself."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from energeia.data import Digits, Splits
from energeia.data.foreign import photographs, shuffled


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Digits().splits()


def test_rows_are_scikit_learns_in_order(splits: Splits) -> None:
    level, label = load_digits(return_X_y=True)
    expected = (2 * (level / 17) - 1).astype(np.float32).reshape(-1, 1, 8, 8)
    assert splits.validation is not None
    assert splits.test is not None
    for batch, rows in (
        (splits.train, slice(0, 1000)),
        (splits.validation, slice(1000, 1350)),
        (splits.test, slice(1350, 1797)),
    ):
        assert batch.x.dtype == torch.float32
        assert batch.y is not None
        assert batch.y.dtype == torch.int64
        np.testing.assert_array_equal(batch.x.numpy(), expected[rows])
        np.testing.assert_array_equal(batch.y.numpy(), label[rows])


def test_facts() -> None:
    source = Digits()
    assert (source.event_shape, source.num_classes, source.low, source.high) == ((1, 8, 8), 10, -1.0, 1.0)
    assert source.as_images
    assert source.class_names is None


def test_flat_is_the_same_numbers(splits: Splits) -> None:
    flat = Digits(flat=True)
    assert flat.event_shape == (64,)
    assert not flat.as_images
    assert torch.equal(flat.splits().train.x, splits.train.x.flatten(1))
    for name, x in splits.foreign.items():
        assert torch.equal(flat.splits().foreign[name], x.flatten(1))


def test_loaded_once_and_the_same_each_time(splits: Splits) -> None:
    source = Digits()
    assert source.splits() is source.splits()
    for name, x in source.splits().foreign.items():
        assert torch.equal(x, splits.foreign[name])


def test_foreign_sets_are_as_many_as_the_test_set_at_the_same_levels(splits: Splits) -> None:
    assert list(splits.foreign) == ["photographs", "shuffled pixels"]
    levels = (2 * (torch.arange(17, dtype=torch.float64) / 17) - 1).float()
    for x in splits.foreign.values():
        assert x.shape == (447, 1, 8, 8)
        assert x.dtype == torch.float32
        assert torch.isin(x, levels).all()
    assert splits.foreign["photographs"].unique().equal(levels)


def test_photographs_are_distinct_and_not_constant(splits: Splits) -> None:
    x = splits.foreign["photographs"].flatten(1)
    assert len(x.unique(dim=0)) == len(x)
    assert (x.std(1) > 0.06).all()


def test_photographs_are_cut_from_the_reduced_pictures() -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    patch = photographs(1, 3, 64, 64)[0].permute(1, 2, 0).numpy()
    found = 0
    for name in ("china.jpg", "flower.jpg"):
        for factor in (1, 2):
            picture = np.asarray(Image.fromarray(load_sample_image(name)).reduce(factor))
            corners = np.argwhere((picture[:-63, :-63] == patch[0, 0]).all(-1))
            found += sum(np.array_equal(picture[r : r + 64, c : c + 64], patch) for r, c in corners)
    assert found == 1


def test_photographs_of_any_size() -> None:
    assert photographs(5, 1, 427, 640).shape == (2, 1, 427, 640)
    assert photographs(5, 1, 428, 640).shape == (0, 1, 428, 640)


def test_shuffled_keeps_columns_and_loses_rows() -> None:
    x = torch.arange(300.0).view(50, 2, 3)
    result = shuffled(x)
    assert torch.equal(result.sort(0).values, x)
    rows = (result.flatten(1) / 6).floor()  # the row that each number came from
    assert all(not torch.equal(rows[:, 0], rows[:, column]) for column in range(1, 6))
    assert torch.equal(x, torch.arange(300.0).view(50, 2, 3))
