"""Folders of pictures: pixels, classes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from energeia.core.errors import InputError
from energeia.data import Affine, Chain, Digits, ImageFolder, Source, Table, Transform, source_class


def _pictures(num_pictures: int, size: int = 9) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (num_pictures, size, size, 3)).astype(np.uint8)


def _save(folder: Path, pictures: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.png")


def _whole(folder: Path, *, size: int = 9, channels: int = 3) -> ImageFolder:
    return ImageFolder(str(folder), size=size, channels=channels, validation_fraction=0.0, test_fraction=0.0)


def test_pictures_of_the_right_size_come_back_exactly(tmp_path: Path) -> None:
    pictures = _pictures(5)
    _save(tmp_path, pictures)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = _whole(tmp_path)
    expected = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 255 * 2 - 1
    assert torch.equal(source.splits().train.x, expected)
    assert (source.event_shape, source.low, source.high, source.num_classes) == ((3, 9, 9), -1.0, 1.0, None)
    assert source.splits().train.y is None
    assert source.as_images


def test_subfolders_are_classes_and_splits_keep_labels(tmp_path: Path) -> None:
    pictures = _pictures(40)
    _save(tmp_path / "dog", pictures[:25])
    _save(tmp_path / "cat", pictures[25:])
    assert source_class(str(tmp_path)) is ImageFolder
    source = ImageFolder(str(tmp_path), size=9, split_seed=4)
    splits = source.splits()
    assert source.class_names == ("cat", "dog")
    assert source.num_classes == 2
    assert splits.validation is not None
    assert splits.test is not None
    names = {picture.transpose(2, 0, 1).tobytes(): int(number < 25) for number, picture in enumerate(pictures)}
    seen = set()
    for part in (splits.train, splits.validation, splits.test):
        assert part.y is not None
        back = ((part.x.double() + 1) * 127.5).round().numpy().astype(np.uint8)
        for picture, label in zip(back, part.y.tolist(), strict=True):
            assert names[picture.tobytes()] == label
            seen.add(picture.tobytes())
    assert seen == set(names)
    assert len(splits.test.x) == 6
    assert list(splits.foreign) == ["photographs", "shuffled pixels"]
    again = ImageFolder(str(tmp_path), size=9, split_seed=4).splits()
    assert torch.equal(again.train.x, splits.train.x)


def test_longer_side_is_cut_about_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255
    _save(tmp_path, wide[None])
    assert torch.equal(_whole(tmp_path, size=2, channels=1).splits().train.x, torch.ones(1, 1, 2, 2))


def test_grey_and_transparent_pictures(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")  # black, but not to be seen
    Image.new("L", (4, 4), 51).save(tmp_path / "b.png")
    x = _whole(tmp_path, size=4).splits().train.x
    assert torch.equal(x[0], torch.ones(3, 4, 4))
    torch.testing.assert_close(x[1], torch.full((3, 4, 4), -0.6))


def test_orientation_of_the_camera_is_followed(tmp_path: Path) -> None:
    picture = Image.new("L", (4, 4), 0)
    picture.paste(255, (0, 0, 4, 2))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    picture.save(tmp_path / "a.png", exif=exif)
    x = _whole(tmp_path, size=4, channels=1).splits().train.x[0, 0]
    assert torch.equal(x, torch.tensor([-1.0, -1.0, 1.0, 1.0]).unsqueeze(1).expand(4, 4))


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: there is no such folder"):
        _whole(tmp_path / "nowhere").splits()
    with pytest.raises(InputError, match=r"holds no pictures; expected files that end in .*\.png"):
        _whole(tmp_path).splits()
    _save(tmp_path / "mixed", _pictures(2))
    (tmp_path / "mixed" / "cat").mkdir()
    with pytest.raises(InputError, match=r"mixed: holds pictures \(such as 000.png\) and folders \(such as cat\)"):
        _whole(tmp_path / "mixed").splits()
    _save(tmp_path / "classes" / "cat", _pictures(2))
    (tmp_path / "classes" / "dog").mkdir()
    with pytest.raises(InputError, match=r"dog: holds no pictures, but every folder .* is a class"):
        _whole(tmp_path / "classes").splits()


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    _save(tmp_path, _pictures(3))
    good = (tmp_path / "001.png").read_bytes()
    for bad in (b"", b"text", good[: len(good) // 2]):
        (tmp_path / "001.png").write_bytes(bad)
        with pytest.raises(InputError, match=r"001\.png: cannot be read as a picture .*repair or remove"):
            _whole(tmp_path).splits()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "001.png")
    with pytest.raises(InputError, match=r"001\.png: has mode I;16, more than 8 bits .*8 bits"):
        _whole(tmp_path).splits()


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match=r"channels must be 1 .* or 3 .*, got 2"):
        ImageFolder("a", channels=2)
    with pytest.raises(InputError, match=r"size must be an integer of at least 1, got 0"):
        ImageFolder("a", size=0)
    with pytest.raises(InputError, match=r"test_fraction must be at least 0 and below 1, got -0.1"):
        ImageFolder("a", test_fraction=-0.1)


def test_too_few_pictures_for_the_parts(tmp_path: Path) -> None:
    _save(tmp_path, _pictures(3))
    with pytest.raises(InputError, match=r"3 rows are too few .*set a fraction to 0"):
        ImageFolder(str(tmp_path), size=9).splits()


def test_sources_and_transforms_are_built_from_the_command_line() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=Source)
    parser.add_argument("--augment", type=Transform)
    built = parser.instantiate(parser.parse_args(["--data=energeia.data.Digits", "--data.flat=true"]))
    assert isinstance(built.data, Digits)
    assert built.data.flat
    given = ["--data=energeia.data.Table", "--data.path=a.csv", "--data.label=3", "--data.header=false"]
    table = parser.instantiate(parser.parse_args(given)).data
    assert isinstance(table, Table)
    assert table.label == 3
    assert table.header is False
    affine = '{"class_path": "energeia.data.Affine", "init_args": {"scale": 0.5}}'
    chain = f'{{"class_path": "energeia.data.Chain", "init_args": {{"transforms": [{affine}]}}}}'
    assert parser.instantiate(parser.parse_args([f"--augment={chain}"])).augment == Chain([Affine(scale=0.5)])
