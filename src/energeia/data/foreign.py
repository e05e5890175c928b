"""Sets that do not come from the data: patches of photographs, and columns shuffled apart."""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from energeia.core.random import seed_of
from energeia.core.record import Batch

SMALLEST_PATCH = 8
_LEAST_CONTRAST = 12.0  # standard deviation of the bytes 0..255 within a channel; below it is mostly sky


def photographs(num_patches: int, channels: int, height: int, width: int) -> Tensor:
    """Distinct patches of scikit-learn's two sample photographs (china.jpg and flower.jpg).

    The photographs are reduced first, so that a patch is about a third of the height
    and shows structure. Nearly constant patches are left out. The same arguments
    give the same patches.

    Args:
        num_patches: how many; fewer come back where the photographs have no more.
        channels: 1 (grey) or 3 (red, green, blue).
        height, width: size in pixels; above 427 by 640 there are none.

    Returns:
        uint8 `[M, channels, height, width]` with M <= num_patches.
    """
    pictures = [np.asarray(picture.convert("L" if channels == 1 else "RGB")) for picture in _reduced(height, width)]
    pictures = [picture.reshape(*picture.shape[:2], channels).transpose(2, 0, 1) for picture in pictures]
    places = [(p.shape[1] - height + 1, p.shape[2] - width + 1) for p in pictures]
    last = np.cumsum([rows * columns for rows, columns in places])
    generator = torch.Generator().manual_seed(seed_of(0, "photographs"))
    order = torch.randperm(int(last[-1]) if len(last) else 0, generator=generator).numpy()
    patches: list[np.ndarray] = []
    for number in order:
        if len(patches) == num_patches:
            break
        which = int(np.searchsorted(last, number, side="right"))
        row, column = divmod(int(number - (last[which - 1] if which else 0)), places[which][1])
        patch = pictures[which][:, row : row + height, column : column + width]
        if patch.std((1, 2)).mean() >= _LEAST_CONTRAST:
            patches.append(patch)
    found = np.stack(patches) if patches else np.empty((0, channels, height, width), np.uint8)
    return torch.from_numpy(found)


def shuffled(x: Tensor) -> Tensor:
    """x `[N, *event]` with every column in an order of its own.

    Each column keeps its values, so all that tells the result from x is how the
    columns depend on each other.
    """
    generator = torch.Generator().manual_seed(seed_of(0, "shuffled"))
    flat = x.flatten(1)
    result = torch.empty_like(flat)
    for column in range(flat.shape[1]):
        result[:, column] = flat[torch.randperm(len(x), generator=generator), column]
    return result.view_as(x)


def foreign_sets(test: Batch | None, *, as_images: bool, low: float, high: float) -> dict[str, Tensor]:
    """Foreign sets as large as the test set; none where there is no test set.

    Args:
        test: the test rows.
        as_images: events are `[C, H, W]`: adds "photographs", and columns are called pixels.
        low, high: values of black and white.
    """
    sets: dict[str, Tensor] = {}
    if test is None:
        return sets
    x = test.x
    if as_images and min(x.shape[2:]) >= SMALLEST_PATCH:
        patches = photographs(len(x), *x.shape[1:])
        if len(patches):
            sets["photographs"] = (low + (high - low) * (patches.double() / 255)).to(x.dtype)
    if len(x) > 1 and x[0].numel() > 1:
        sets["shuffled pixels" if as_images else "shuffled columns"] = shuffled(x)
    return sets


@cache
def _sample_pictures() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_image  # here, as importing it takes a second

    return tuple(Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


def _reduced(height: int, width: int) -> list[Image.Image]:
    """Both photographs at the two coarsest reductions that are three patches high, else as they are."""
    pictures = _sample_pictures()
    tallest, widest = pictures[0].height, pictures[0].width
    fits = [f for f in (8, 6, 4, 3, 2, 1) if tallest // f >= 3 * height and widest // f >= 3 * width][:2] or [1]
    reduced = [picture.reduce(factor) for factor in fits for picture in pictures]
    return [picture for picture in reduced if picture.height >= height and picture.width >= width]
