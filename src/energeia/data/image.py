"""A folder of pictures."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.core.record import Batch
from energeia.data.check import check_batch
from energeia.data.foreign import foreign_sets
from energeia.data.source import Contents, Source, Splits
from energeia.data.split import check_fractions, split_rows, take, take_rows

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
# What Pillow raises for files that are damaged, cut short or hostile.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def scale_bytes(values: Tensor) -> Tensor:
    """x = 2 v / 255 - 1 in float32, for bytes v."""
    return (values.float() / 255).mul_(2).sub_(1)


class ImageFolder(Source):
    """The pictures of a folder; its subfolders, if there are any, are the classes in order of name.

    Each picture is cut at its longer side to a square about its centre, resized to
    `size` by `size`, and scaled from 0..255 to [-1, 1]. Transparent parts become
    white; of animated files the first picture is taken. Files that do not end like
    a picture, and hidden ones, are passed over. Everything is held in memory:
    4 * channels * size^2 bytes a picture.

    Foreign sets: "photographs" (patches of two photographs; foreign to drawings or
    scans, less so to a folder of photographs) and "shuffled pixels".

    Args:
        path: the folder.
        size: height and width in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        validation_fraction, test_fraction: shares of the pictures held out, drawn at random.
        split_seed: which random split.

    Raises:
        InputError: no such folder, no pictures, a picture that cannot be read or has
            more than 8 bits a channel, pictures both beside and inside subfolders.

    Example:
        >>> source = ImageFolder("pictures", size=64, channels=1)  # reads nothing yet
    """

    def __init__(
        self,
        path: str,
        *,
        size: int = 32,
        channels: int = 3,
        validation_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        check_count("ImageFolder", size=size)
        if channels not in (1, 3):
            raise InputError(f"ImageFolder: channels must be 1 (grey) or 3 (colour), got {channels}")
        check_fractions("ImageFolder", validation_fraction, test_fraction)
        self.path, self.size, self.channels = path, size, channels
        self.validation_fraction, self.test_fraction, self.split_seed = validation_fraction, test_fraction, split_seed

    def load(self) -> Contents:
        """Read every picture."""
        files, labels, class_names = _list_pictures(Path(self.path))
        batch = Batch(self._pictures(files), labels)
        num_classes = None if class_names is None else len(class_names)
        check_batch(batch.x, batch.y, num_classes, self.path)
        rows = split_rows(
            len(files),
            validation_fraction=self.validation_fraction,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            name=self.path,
        )
        test = take(batch, rows.test)
        foreign = foreign_sets(test, as_images=True, low=-1.0, high=1.0)
        splits = Splits(take_rows(batch, rows.train), take(batch, rows.validation), test, foreign)
        shape = (self.channels, self.size, self.size)
        return Contents(splits, shape, num_classes, -1.0, 1.0, as_images=True, class_names=class_names)

    def read(self, path: str, event_shape: tuple[int, ...]) -> Batch:
        """The pictures of another folder, by folder and name; see `Reading`."""
        batch = Batch(self._pictures(_list_pictures(Path(path))[0]))
        if tuple(batch.x.shape[1:]) != event_shape:
            raise InputError(f"{path}: pictures have shape {tuple(batch.x.shape[1:])}, the model takes {event_shape}")
        return batch

    def _pictures(self, files: list[Path]) -> Tensor:
        pictures = np.empty((len(files), self.channels, self.size, self.size), np.uint8)
        for number, file in enumerate(files):
            pictures[number] = _read_picture(file, self.size, self.channels)
        return scale_bytes(torch.from_numpy(pictures))


def _list_pictures(root: Path) -> tuple[list[Path], Tensor | None, tuple[str, ...] | None]:
    """Files in a fixed order, their labels, and the names of the classes."""
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; give a folder of pictures")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    loose = _pictures_in(root)
    if loose and folders:
        raise InputError(
            f"{root}: holds pictures (such as {loose[0].name}) and folders (such as {folders[0].name}); put every "
            "picture into the folder of its class, or give a folder that holds pictures alone"
        )
    if not folders:
        if not loose:
            raise InputError(f"{root}: holds no pictures; expected files that end in {_suffixes()}")
        return loose, None, None
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        inside = _pictures_in(folder)
        if not inside:
            raise InputError(
                f"{folder}: holds no pictures, but every folder in {root} is a class; expected files that end in "
                f"{_suffixes()}, or remove the folder"
            )
        files += inside
        labels += [label] * len(inside)
    return files, torch.tensor(labels), tuple(folder.name for folder in folders)


def _pictures_in(folder: Path) -> list[Path]:
    found = (entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURE_SUFFIXES and entry.is_file())
    return sorted(entry for entry in found if not entry.name.startswith("."))


def _suffixes() -> str:
    return ", ".join(sorted(PICTURE_SUFFIXES))


def _read_picture(file: Path, size: int, channels: int) -> np.ndarray:
    """One picture as uint8 `[channels, size, size]`."""
    try:
        with Image.open(file) as opened:
            mode = opened.mode
            if mode.startswith(("I", "F")):
                raise InputError(
                    f"{file}: has mode {mode}, more than 8 bits a channel, and would be cut off; convert it to 8 bits, "
                    "or save the pictures as one float32 array x in a .npz file"
                )
            upright = ImageOps.exif_transpose(opened)
            if "A" in upright.getbands() or "transparency" in upright.info:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            colour = upright.convert("L" if channels == 1 else "RGB")
            side = min(colour.size)
            left, top = (colour.width - side) // 2, (colour.height - side) // 2
            square = colour.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        zlib.error,
        EOFError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{file}: cannot be read as a picture ({error}); repair or remove it") from error
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1)
