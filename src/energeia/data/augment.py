"""Random changes of a batch: noise, and small movements of pictures."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from energeia.core.errors import InputError
from energeia.core.space import Box
from energeia.core.transform import Transform


@dataclass(frozen=True)
class GaussianNoise(Transform):
    """x + scale * n, n standard normal.

    Args:
        scale: standard deviation, at least 0, in the units of x.
        bounds: (low, high) folds the result back at these walls, so that it stays in a
            `Box`; None lets it leave.
    """

    scale: float
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_strengths("GaussianNoise", scale=self.scale)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with noise."""
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        moved = x + self.scale * noise.to(x.device)
        return moved if self.bounds is None else Box(1, *self.bounds).reflect(moved)


@dataclass(frozen=True)
class Dequantize(Transform):
    """x + u, u uniform over a step of the quantisation, so that levels become a density.

    Args:
        width: distance of two levels, at least 0, in the units of x.
        centred: u in [-width/2, width/2), else in [0, width). Centred, the lowest level
            reaches half a width below itself, out of a `Box` that starts there.

    Example:
        >>> spread = Dequantize(2 / 17, centred=False)  # what Digits needs to fill [-1, 1]

    Reference:
        Theis, van den Oord & Bethge 2016, A note on the evaluation of generative
        models, https://arxiv.org/abs/1511.01844
    """

    width: float
    centred: bool = True

    def __post_init__(self) -> None:
        _check_strengths("Dequantize", width=self.width)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with noise."""
        noise = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return x + self.width * (noise - 0.5 if self.centred else noise).to(x.device)


@dataclass(frozen=True)
class Affine(Transform):
    """Turn, move, scale and shear each picture `[C, H, W]` about its centre.

    Every amount is drawn uniformly between minus and plus its strength (the scale in
    its logarithm), for each picture. Values stay between the least and greatest of
    the picture and `fill`.

    Args:
        rotation_degrees: 0 to 180.
        translation: pixels, along each axis.
        scale: 0.1 means between 1/1.1 and 1.1 times the size.
        shear_degrees: 0 to below 90.
        fill: the value outside the picture, such as that of its background.
        interpolation: "bicubic" keeps strokes sharper than "bilinear".
    """

    rotation_degrees: float = 0.0
    translation: float = 0.0
    scale: float = 0.0
    shear_degrees: float = 0.0
    fill: float = 0.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        strengths = (self.rotation_degrees, self.translation, self.scale, self.shear_degrees)
        names = ("rotation_degrees", "translation", "scale", "shear_degrees")
        _check_strengths("Affine", **dict(zip(names, strengths, strict=True)))
        if self.rotation_degrees > 180 or self.shear_degrees >= 90 or not math.isfinite(self.fill):
            raise InputError(f"Affine: rotation is at most 180 degrees, shear below 90, fill finite, got {self}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x moved."""
        if x.dim() != 4 or not x.is_floating_point():
            raise InputError(
                f"Affine: moves floating pictures [B, C, H, W], got {tuple(x.shape)} of {x.dtype}; give pictures, "
                "or leave Affine out"
            )
        amount = torch.rand((5, len(x)), generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        if not (self.rotation_degrees or self.translation or self.scale or self.shear_degrees):
            return x
        grid = functional.affine_grid(self._theta(2 * amount - 1, x), list(x.shape), align_corners=False)
        # Zero stands for what lies outside, so fill is made zero and put back.
        moved = functional.grid_sample(x - self.fill, grid, self.interpolation, align_corners=False) + self.fill
        # Bicubic overshoots and rounding may put a value past a wall of the space.
        least, greatest = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        return moved.clamp(least.clamp_max(self.fill), greatest.clamp_min(self.fill))

    def _theta(self, amount: Tensor, x: Tensor) -> Tensor:
        """Where each pixel of the result is read, `[B, 2, 3]`, in affine_grid's coordinates."""
        height, width = x.shape[2:]
        angle = amount[0] * math.radians(self.rotation_degrees)
        shear = (amount[1] * math.radians(self.shear_degrees)).tan()
        size = (amount[2] * math.log1p(self.scale)).exp()
        cos, sin = angle.cos() / size, angle.sin() / size
        # rotation @ shear in pixels; affine_grid runs from -1 to 1 along either side, hence the ratios
        across = torch.stack(
            [cos, (cos * shear - sin) * (height / width), amount[3] * (2 * self.translation / width)], 1
        )
        down = torch.stack([sin * (width / height), sin * shear + cos, amount[4] * (2 * self.translation / height)], 1)
        return torch.stack([across, down], 1)


@dataclass(frozen=True)
class Chain(Transform):
    """One transform after the other.

    Args:
        transforms: in the order in which they are applied; none leaves x as it is.
    """

    transforms: list[Transform]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x after all of them."""
        for transform in self.transforms:
            x = transform(x, generator)
        return x


@dataclass(frozen=True)
class EachSite(Transform):
    """A transform of every site of a sequence on its own: x `[B, T, *site]`, sites being vectors or pictures.

    Args:
        transform: what changes sites `[n, *site]`; pictures (height, width) come to it as `[n, 1, height, width]`.
        padding: sites whose features all have this value are not there, and stay as they are.
    """

    transform: Transform
    padding: float = -1.0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with every site changed."""
        there = (x.flatten(2) != self.padding).any(2)
        sites = x[there]
        if x.dim() == 4:
            changed = self.transform(sites.unsqueeze(1), generator).squeeze(1)
        else:
            changed = self.transform(sites, generator)
        return x.masked_scatter(there.view(*there.shape, *[1] * (x.dim() - 2)), changed)


def _check_strengths(who: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{who}: {name} must be a finite number of at least 0, got {value!r}")
