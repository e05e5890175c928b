"""Every complaint of the check at the door, and the sources without data."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from energeia.core.errors import CheckpointError, InputError
from energeia.data import Described, Table, check_batch, source_class


def _table() -> Tensor:
    return torch.zeros(5, 3)


def test_good_data_passes() -> None:
    check_batch(_table(), torch.tensor([0, 1, 2, 0, 1]), 3, "good", ["a", "b", "c"])
    check_batch(torch.zeros(2, 1, 4, 4, dtype=torch.float64), None, None, "good")


def test_first_nan_of_a_table_is_named_with_its_column() -> None:
    x = _table()
    x[3, 1], x[4, 0] = float("nan"), float("inf")
    with pytest.raises(InputError, match=r"iris: 2 of 15 values are NaN .* is nan in row 3, column 'width'\. Drop"):
        check_batch(x, None, None, "iris", ["length", "width", "depth"])
    with pytest.raises(InputError, match=r"row 3, column 1"):
        check_batch(x, None, None, "iris")


def test_first_infinity_of_a_picture_is_named_with_channel_row_column() -> None:
    x = torch.zeros(4, 3, 5, 6)
    x[2, 1, 4, 3] = -torch.inf
    with pytest.raises(InputError, match=r"1 of 360 values is .* is -inf in picture 2 at channel 1, row 4, column 3"):
        check_batch(x, None, None, "pictures")


def test_first_nan_of_another_shape_is_named_with_its_index() -> None:
    x = torch.zeros(4, 2, 5)
    x[1, 0, 4] = torch.nan
    with pytest.raises(InputError, match=r"row 1 at index \(0, 4\)"):
        check_batch(x, None, None, "series")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(3), None, r"shape \(3,\).*x\[:, None\]"),
        (torch.zeros(0, 3), None, r"\(0, 3\).*at least one row"),
        (torch.zeros(2, 3).int(), None, r"torch.int32.*x.float\(\)"),
        (_table(), torch.zeros(4).long(), "x has 5 rows but y has 4"),
        (_table(), torch.zeros(5), r"torch.float32.*y.long\(\)"),
        (_table(), torch.zeros(5, 3).long(), r"\(5, 3\).*y.argmax\(1\)"),
        (_table(), torch.tensor([0, 1, 3, 2, 3]), r"row 2 has label 3.*0\.\.2.*2 rows"),
        (_table(), torch.tensor([0, -1, 0, 0, 0]), r"row 1 has label -1.*0\.\.2"),
    ],
)
def test_complaints(x: Tensor, y: Tensor | None, words: str) -> None:
    with pytest.raises(InputError, match=f"given: .*{words}"):
        check_batch(x, y, 3, "given")


def test_negative_label_without_number_of_classes() -> None:
    with pytest.raises(InputError, match=r"row 4 has label -2, but labels must be 0 or more"):
        check_batch(_table(), torch.tensor([7, 0, 0, 0, -2]), None, "given")


def test_wrong_number_of_column_names() -> None:
    with pytest.raises(InputError, match=r"2 column names .*\(5, 3\)"):
        check_batch(_table(), None, None, "given", ["a", "b"])


def test_described_knows_all_but_the_data() -> None:
    source = Described((3, 4, 5), 7, low=-2.0, high=3.0, as_images=True)
    assert (source.event_shape, source.num_classes, source.low, source.high) == ((3, 4, 5), 7, -2.0, 3.0)
    assert source.as_images
    with pytest.raises(CheckpointError, match=r"saved without its data.*give the data again"):
        source.splits()


def test_described_refuses_nonsense() -> None:
    with pytest.raises(InputError, match=r"low=1.0, high=1.0"):
        Described((2,), low=1.0, high=1.0)
    with pytest.raises(InputError, match=r"\(2, 0\)"):
        Described((2, 0))
    with pytest.raises(InputError, match=r"num_classes.*0"):
        Described((2,), 0)
    with pytest.raises(InputError, match=r"\(2, 8, 8\).*as_images=False"):
        Described((2, 8, 8), as_images=True)


def test_source_class_says_what_it_supports(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file or folder"):
        source_class(str(tmp_path / "none.csv"))
    other = tmp_path / "data.pickle"
    other.touch()
    with pytest.raises(InputError, match=r"\.pickle.*\.npz, \.csv, \.parquet.*folder of pictures"):
        source_class(str(other))
    table = tmp_path / "data.CSV"
    table.touch()
    assert source_class(str(table)) is Table
