"""Tables: what is in the file comes out, split and scaled as asked."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.data import Splits, Table


def _values(num_rows: int = 40, num_columns: int = 3) -> np.ndarray:
    return np.random.RandomState(0).standard_normal((num_rows, num_columns))


def _npz(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "file.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return str(path)


def _rows(splits: Splits) -> Tensor:
    assert splits.validation is not None
    assert splits.test is not None
    return torch.cat([splits.train.x, splits.validation.x, splits.test.x])


def _sorted_rows(x: Tensor) -> Tensor:
    return x[x[:, 0].argsort()]


def test_npz_round_trip_keeps_rows_with_their_labels(tmp_path: Path) -> None:
    x, y = _values().astype(np.float32), np.arange(40) % 4
    source = Table(_npz(tmp_path, x=x, y=y))
    splits = source.splits()
    assert (source.event_shape, source.num_classes, source.class_names) == ((3,), 4, None)
    assert source.low == -np.inf
    assert source.high == np.inf
    assert not source.as_images
    assert splits.validation is not None
    assert splits.test is not None
    assert [len(part.x) for part in (splits.train, splits.validation, splits.test)] == [28, 6, 6]
    assert torch.equal(_sorted_rows(_rows(splits)), _sorted_rows(torch.from_numpy(x)))
    for part in (splits.train, splits.validation, splits.test):
        assert part.y is not None
        for row, label in zip(part.x.numpy(), part.y.tolist(), strict=True):
            assert label == y[(x == row).all(1)].item()


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    path = _npz(tmp_path, x=_values())
    first, again, other = (Table(path, split_seed=seed).splits() for seed in (1, 1, 2))
    assert torch.equal(_rows(first), _rows(again))
    assert torch.equal(first.foreign["shuffled columns"], again.foreign["shuffled columns"])
    assert not torch.equal(_rows(first), _rows(other))


def test_fractions_of_zero_leave_parts_out(tmp_path: Path) -> None:
    x = _values().astype(np.float32)
    splits = Table(_npz(tmp_path, x=x), validation_fraction=0.0, test_fraction=0.0).splits()
    assert splits.validation is None
    assert splits.test is None
    assert splits.foreign == {}
    assert torch.equal(splits.train.x, torch.from_numpy(x))


def test_ready_made_splits_are_kept_and_a_missing_one_is_cut_from_training(tmp_path: Path) -> None:
    x = _values(60).astype(np.float32)
    path = _npz(tmp_path, x_train=x[:40], x_val=x[40:50], x_test=x[50:])
    splits = Table(path).splits()
    assert splits.validation is not None
    assert splits.test is not None
    assert torch.equal(splits.train.x, torch.from_numpy(x[:40]))
    assert torch.equal(splits.validation.x, torch.from_numpy(x[40:50]))
    assert torch.equal(splits.test.x, torch.from_numpy(x[50:]))
    cut = Table(
        _npz(tmp_path, x_train=x[:40], y_train=np.arange(40) % 2, x_test=x[50:], y_test=np.ones(10, int))
    ).splits()
    assert cut.validation is not None
    assert cut.test is not None
    assert cut.test.y is not None
    assert len(cut.train.x) == 34
    assert len(cut.validation.x) == 6
    assert torch.equal(cut.test.x, splits.test.x)
    assert cut.test.y.tolist() == [1] * 10
    together = torch.cat([cut.train.x, cut.validation.x])
    assert torch.equal(_sorted_rows(together), _sorted_rows(torch.from_numpy(x[:40])))


@pytest.mark.parametrize("label", ["kind", 2, "2", -1])
def test_csv_with_header_and_text_labels(tmp_path: Path, label: int | str) -> None:
    values = _values(num_columns=2)
    kinds = [("cat", "ant", "bee")[row % 3] for row in range(40)]
    path = tmp_path / "file.csv"
    lines = [f"{float(a)!r},{float(b)!r},{kind}" for (a, b), kind in zip(values, kinds, strict=True)]
    path.write_text("\n".join(["width, height,kind", *lines]) + "\n\n")
    source = Table(str(path), label=label)
    splits = source.splits()
    assert source.class_names == ("ant", "bee", "cat")
    assert source.num_classes == 3
    assert torch.equal(_sorted_rows(_rows(splits)), _sorted_rows(torch.from_numpy(values).float()))
    assert splits.train.y is not None
    assert source.class_names is not None
    for row, number in zip(splits.train.x.numpy(), splits.train.y.tolist(), strict=True):
        assert source.class_names[number] == kinds[int((values.astype(np.float32) == row).all(1).argmax())]


def test_csv_without_header_with_text_labels_keeps_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "iris.data.csv"
    path.write_text("5.1,0.2,setosa\n4.9,0.3,setosa\n6.0,1.5,versicolor\n")
    splits = Table(str(path), label=-1, validation_fraction=0.0, test_fraction=0.0).splits()
    assert torch.equal(splits.train.x, torch.tensor([[5.1, 0.2], [4.9, 0.3], [6.0, 1.5]]))
    assert splits.train.y is not None
    assert splits.train.y.tolist() == [0, 0, 1]


def test_whole_numbers_with_gaps_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("x,label\n1,30\n2,10\n3,20\n4,10\n")
    source = Table(str(path), label="label", validation_fraction=0.0, test_fraction=0.0)
    labels = source.splits().train.y
    assert labels is not None
    assert labels.tolist() == [2, 0, 1, 0]
    assert source.class_names == ("10", "20", "30")


def test_a_first_line_that_may_be_either_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    for text in ("0,1\n3.5,4\n5,6\n", "1,oops\n3.5,4\n5,6\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"row 0 \(line 1\).*header=True .* header=False"):
            Table(str(path)).splits()
    path.write_text("0,1\n3.5,4\n5,6\n")
    named = Table(str(path), header=True, validation_fraction=0.0, test_fraction=0.0).splits().train.x
    assert torch.equal(named, torch.tensor([[3.5, 4.0], [5.0, 6.0]]))
    data = Table(str(path), header=False, validation_fraction=0.0, test_fraction=0.0).splits().train.x
    assert torch.equal(data, torch.tensor([[0.0, 1.0], [3.5, 4.0], [5.0, 6.0]]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,four\n", r"row 1 \(line 3\), column 'b': 'four' is not a number.*label='b'"),
        ("1,2\n3,four\n", r"row 1 \(line 2\), column 1: 'four' is not a number"),
        ("a,b\n1,\n", r"row 0 \(line 2\), column 'b': the cell is empty"),
        ("1,,3\n4,5,6\n", r"row 0 \(line 1\), column 1: the cell is empty"),
        ("a,b\n1,2_000\n", "'2_000' is not a number"),
        ("a,b\n1,2\n3\n", r"row 1 \(line 3\) has 1 cells, expected 2"),
        ("a,b\n1,2\n3,nan\n", "1 of 4 values is NaN .* row 1, column 'b'"),
        ("a,b\n1,2\n1e39,3\n", "infinite in torch.float32.* inf in row 1, column 'a'.*rescale"),
        (",a\n0,2\n", r"column 0 has no name.*index=False"),
        ("a,b\n", "column names but no rows"),
        ("\n", "is empty"),
        ("a;b\n1;2\n", "'1;2' is not a number"),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.csv: .*{words}"):
        Table(str(path)).splits()


def test_csv_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(InputError, match=r"bad\.csv: is not UTF-8"):
        Table(str(path)).splits()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("0,1.5,1", "row 1 has label 1.5.*a quantity is no label"),
        ("0,1,-1", "row 2 has label -1.0.*whole numbers from 0"),
        ("0,1,nan", "row 2 has label nan"),
        ("0,,1", "row 1 .*column 'kind': the label is empty"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: str, words: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text("x,kind\n" + "".join(f"7,{label}\n" for label in labels.split(",")))
    with pytest.raises(InputError, match=words):
        Table(str(path), label="kind").splits()


def test_a_label_column_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("width,kind\n1,2\n")
    with pytest.raises(InputError, match=r"no label column 'kin'; did you mean 'kind'.*2 columns are width, kind"):
        Table(str(path), label="kin").splits()
    with pytest.raises(InputError, match=r"no label column 2"):
        Table(str(path), label=2).splits()


def test_pickled_objects_are_refused_without_running_them(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (marker,))  # type: ignore[return-value]

    path = _npz(tmp_path, x=np.array([Attack(), Attack()], dtype=object))
    with pytest.raises(InputError, match=r"array 'x' holds Python objects.*refused.*dtype='float32'"):
        Table(path).splits()
    assert not marker.exists()
    np.load(path, allow_pickle=True)["x"]
    assert marker.exists()  # so the file was one that runs code


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.zeros((3, 2))}, "holds the arrays z; expected x .*x_train"),
        ({"x": np.zeros((3, 2)), "data": np.zeros((3, 2))}, "holds x and data"),
        ({"x": np.zeros((3, 2)), "x_test": np.zeros((3, 2))}, "not both"),
        ({"x": np.zeros((3, 2)), "y": np.zeros((3, 4), int)}, r"\(3, 4\).*argmax"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4, int)}, "x has 3 rows but y has 4"),
        ({"x": np.zeros((3, 2), complex)}, "complex128"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3, complex)}, "labels have dtype complex128"),
        ({"x_train": np.zeros((3, 2)), "x_test": np.zeros((3, 1))}, r"different event shapes.*\(2,\).*\(1,\)"),
        ({"x_train": np.zeros((3, 2)), "x_test": np.zeros((3, 1)), "y_test": np.zeros(3)}, "train part has none"),
        ({"x_train": np.zeros((3, 2)), "x_test": np.full((3, 2), np.nan)}, "test: 6 of 6 values.*row 0, column 0"),
        ({"x": np.zeros((9, 8, 8, 2), np.uint8)}, r"bytes of shape \(9, 8, 8, 2\)"),
        ({"x": np.ones((9, 8, 8), np.uint8)}, r"bytes up to 1, expected 0\.\.255; save bits as float32"),
        ({"x_train": np.ones((9, 8), np.uint8), "x_test": np.ones((9, 8))}, "some parts are bytes"),
        ({"x": np.zeros((3, 2))}, "3 rows are too few .*parts would have 3, 0 and 0 rows"),
    ],
)
def test_what_is_wrong_with_an_npz_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=rf"file\.npz: .*{words}"):
        Table(_npz(tmp_path, **arrays)).splits()


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    good = Path(_npz(tmp_path, x=_values()))
    (tmp_path / "short.npz").write_bytes(good.read_bytes()[:100])
    for name, words in (("short.npz", "cannot be read as .npz"), ("none.npz", "no such file")):
        with pytest.raises(InputError, match=rf"{name}: .*{words}"):
            Table(str(tmp_path / name)).splits()
    with pytest.raises(InputError, match=r"a\.txt: is not a table.*\.npz, \.csv, \.parquet"):
        Table("a.txt")
    with pytest.raises(InputError, match=r"0.6 and test_fraction 0.4 leave no rows"):
        Table("a.csv", validation_fraction=0.6, test_fraction=0.4)


def test_npz_label_by_name_or_column(tmp_path: Path) -> None:
    x = np.column_stack([_values()[:, 0], np.arange(40) % 5])
    path = _npz(tmp_path, x=x, other=np.arange(40) % 3)
    named, column = (
        Table(path, label=label, validation_fraction=0.0, test_fraction=0.0).splits().train for label in ("other", -1)
    )
    assert named.y is not None
    assert named.y.tolist() == [row % 3 for row in range(40)]
    assert named.x.shape == (40, 2)
    assert column.y is not None
    assert column.y.tolist() == [row % 5 for row in range(40)]
    assert torch.equal(column.x, torch.from_numpy(x[:, :1]).float())
    with pytest.raises(InputError, match=r"no array 'missing' of labels; the arrays are x, other"):
        Table(path, label="missing").splits()


def test_standardize_uses_the_training_rows_and_says_what_is_constant(tmp_path: Path) -> None:
    x = _values(200) * [3.0, 0.5, 0.0] + [1e6, -2.0, 0.1]
    path = tmp_path / "file.csv"
    path.write_text("a,b,c\n" + "".join(f"{a!r},{b!r},{c!r}\n" for a, b, c in x.tolist()))
    with pytest.warns(UserWarning, match=r"column 'c': constant in the training rows"):
        splits = Table(str(path), standardize=True).splits()
    plain = Table(str(path)).splits()
    train = splits.train.x.double()
    torch.testing.assert_close(train[:, :2].mean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, :2].std(0, correction=0), torch.ones(2).double(), atol=1e-6, rtol=0)
    assert torch.equal(train[:, 2], torch.zeros(140).double())
    assert splits.test is not None
    assert plain.test is not None
    column = plain.train.x[:, 1].double()
    expected = (plain.test.x[:, 1].double() - column.mean()) / column.std(correction=0)
    torch.testing.assert_close(splits.test.x[:, 1].double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "event"),
    [((20, 9, 10), (1, 9, 10)), ((20, 9, 10, 3), (3, 9, 10)), ((20, 3, 9, 10), (3, 9, 10))],
)
def test_bytes_are_pictures(tmp_path: Path, shape: tuple[int, ...], event: tuple[int, ...]) -> None:
    values = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    source = Table(_npz(tmp_path, x=values), validation_fraction=0.0, test_fraction=0.25)
    splits = source.splits()
    assert (source.event_shape, source.low, source.high, source.as_images) == (event, -1.0, 1.0, True)
    expected = values.transpose(0, 3, 1, 2) if shape[-1] == 3 else values.reshape(20, *event)
    assert splits.test is not None
    whole = torch.cat([splits.train.x, splits.test.x])
    back = ((whole.double() + 1) * 127.5).round().numpy().astype(np.uint8)
    assert {row.tobytes() for row in back} == {row.tobytes() for row in np.ascontiguousarray(expected)}
    assert list(splits.foreign) == ["photographs", "shuffled pixels"]
    for x in splits.foreign.values():
        assert tuple(x.shape) == (5, *event)
        assert float(x.min()) >= -1
        assert float(x.max()) <= 1
    with pytest.raises(InputError, match=r"pictures.*leave standardize off"):
        Table(source.path, standardize=True).splits()


def test_floating_pictures_keep_their_range(tmp_path: Path) -> None:
    values = np.random.RandomState(0).randint(0, 2, (20, 1, 8, 8)).astype(np.float32)
    source = Table(_npz(tmp_path, x=values))
    photographs = source.splits().foreign["photographs"]
    assert source.as_images
    assert source.low == -np.inf
    assert _rows(source.splits()).unique().tolist() == [0.0, 1.0]
    assert 0 <= float(photographs.min()) < 0.3
    assert 0.5 < float(photographs.max()) <= 1


def test_shuffled_columns_are_the_test_rows_columns(tmp_path: Path) -> None:
    splits = Table(_npz(tmp_path, x=_values(200))).splits()
    assert splits.test is not None
    assert list(splits.foreign) == ["shuffled columns"]
    shuffled = splits.foreign["shuffled columns"]
    assert torch.equal(shuffled.sort(0).values, splits.test.x.sort(0).values)
    assert not torch.isin(shuffled[:, 0] * shuffled[:, 1], splits.test.x[:, 0] * splits.test.x[:, 1]).all()


def test_parquet_round_trip(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    values = _values(num_columns=2)
    frame = pandas.DataFrame({"a": values[:, 0], "kind": ["u", "t"] * 20, "b": values[:, 1].astype(np.float32)})
    path = str(tmp_path / "file.parquet")
    frame.to_parquet(path)
    source = Table(path, label="kind", validation_fraction=0.0, test_fraction=0.0)
    train = source.splits().train
    assert torch.equal(train.x, torch.from_numpy(values).float())
    assert train.y is not None
    assert train.y.tolist() == [1, 0] * 20
    assert source.class_names == ("t", "u")
    with pytest.raises(InputError, match=r"row 0, column 'kind': 'u' is not a number.*label='kind'"):
        Table(path).splits()
    frame.loc[3, "b"] = None
    frame.to_parquet(path)
    with pytest.raises(InputError, match=r"row 3, column 'b'"):
        Table(path, label="kind").splits()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"bad\.parquet: cannot be read as parquet"):
        Table(str(tmp_path / "bad.parquet")).splits()


def test_parquet_without_its_library_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.parquet"
    path.touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python takes for not installed
    with pytest.raises(InputError, match=r"needs (pyarrow|pandas); pip install 'energeia\[table\]'"):
        Table(str(path)).splits()
