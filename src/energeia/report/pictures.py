"""Figures that show x itself: images, points of vectors, and the film of a chain."""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from energeia.core.errors import InputError
from energeia.report.style import (
    BLUE,
    ORANGE,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    evenly,
    finite,
    heading,
    name_axes,
    new_figure,
    panels,
    robust_range,
    write,
)

# Vectors of these lengths and more are shown as square images, if they are square.
_MIN_SQUARE = 49
_MAX_POINTS = 2000
_MAX_PAIR_DIMS = 3


def as_pictures(x: Tensor) -> Tensor | None:
    """x as images `[N, C, H, W]` with C of 1 or 3, or None if it is not pictures.

    Pictures are `[N, 1 or 3, H, W]`, `[N, H, W]`, and vectors `[N, D]` where D is a
    square number of 49 or more. Reshape x first where this guesses wrong.
    """
    x = x.detach().cpu().float()
    if x.dim() == 4 and x.shape[1] in (1, 3):
        return x
    if x.dim() == 3 and min(x.shape[1:]) > 1:
        return x.unsqueeze(1)
    side = math.isqrt(x.shape[1]) if x.dim() == 2 else 0
    if x.dim() == 2 and side * side == x.shape[1] >= _MIN_SQUARE:
        return x.view(len(x), 1, side, side)
    return None


def image_grid(
    images: Tensor, *, columns: int = 8, title: str = "", scale: tuple[float, float] | None = None
) -> Figure:
    """Images in a grid, all on one grey scale; vectors as points (`scatter`).

    Args:
        images: `[N, C, H, W]`, or what `as_pictures` turns into that, N >= 1.
        columns: images in a row.
        title: above the grid.
        scale: values of black and white; None takes the range of the images but for outliers.
    """
    _not_empty("image_grid", images)
    pictures = as_pictures(images)
    if pictures is None:
        return _points([(title, images, BLUE)], title="")
    columns = min(columns, len(pictures))
    width = WIDTH if columns > 3 else WIDTH / 2
    tiles = _montage(pictures, columns, scale or _range(pictures))
    figure = new_figure(width * tiles.shape[0] / tiles.shape[1] + (0.3 if title else 0.05), width=width)
    heading(figure, title)
    _show(figure.add_subplot(), tiles)
    return figure


def real_and_samples(
    real: Tensor,
    samples: Tensor,
    *,
    columns: int = 6,
    rows: int = 8,
    names: tuple[str, str] = ("real", "samples"),
) -> Figure:
    """Real x on the left and samples on the right, on one scale; vectors as points.

    Args:
        real, samples: `[N, *event]` and `[M, *event]`; the first `columns * rows` are shown.
        columns, rows: of each side.
        names: what stands above the pictures.
    """
    _same_event("real_and_samples", real, samples)
    left, right = as_pictures(real), as_pictures(samples)
    if left is None or right is None:
        return scatter(real, samples)
    most = columns * rows
    columns = min(columns, max(len(left), len(right)))
    # One scale, that of the real images: samples outside it are shown clipped.
    scale = _range(left)
    montages = [_montage(part[:most], columns, scale) for part in (left, right)]
    ratio = max(tiles.shape[0] / tiles.shape[1] for tiles in montages)
    figure = new_figure(WIDTH / 2 * ratio + 0.2)
    figure.set_layout_engine("constrained", wspace=0.06)
    for axes, name, tiles in zip(panels(figure, 1, 2), names, montages, strict=True):
        _show(axes, tiles)
        axes.set_anchor("N")
        name_axes(axes, title=name)
    return figure


def film(frames: Tensor, *, steps: Sequence[int] | None = None, rows: int = 6, columns: int = 8) -> Figure:
    """Chains as they move: one row a chain, one column a kept step.

    Args:
        frames: `[T, N, *event]`, the states of N chains at T times; the first rows and
            evenly spaced times are shown. Vectors become one scatter of all chains a time.
        steps: the step number of each time; default 0..T-1.
    """
    if frames.dim() < 3 or 0 in frames.shape:
        raise InputError(f"film: frames must be [T, N, *event] with nothing empty, got {tuple(frames.shape)}")
    if steps is not None and len(steps) != len(frames):
        raise InputError(f"film: {len(steps)} step numbers for {len(frames)} frames; give one for each")
    numbers = list(range(len(frames))) if steps is None else list(steps)
    if as_pictures(frames[0]) is None:
        return _vector_film(frames, numbers)
    shown = evenly(len(frames), columns)
    chosen = [as_pictures(frames[time, :rows]) for time in shown]
    pictures = torch.stack([part for part in chosen if part is not None], 1).flatten(0, 1)
    # The last frame sets the scale: starts of pure noise may be far outside it.
    tiles = _montage(pictures, len(shown), _range(pictures.unflatten(0, (-1, len(shown)))[:, -1]))
    figure = new_figure(WIDTH * tiles.shape[0] / tiles.shape[1] + 0.3)
    axes = figure.add_subplot()
    _show(axes, tiles)
    pitch = tiles.shape[1] / len(shown)
    for column, time in enumerate(shown):
        text = f"step {numbers[time]:,}" if column == 0 else f"{numbers[time]:,}"
        axes.text((column + 0.5) * pitch - 0.5, -1.5, text, fontsize=SMALL, color=SOFT, ha="center", va="bottom")
    return figure


def scatter(real: Tensor, samples: Tensor) -> Figure:
    """Points of vectors, real beside samples, on the same axes; pairs of the first three numbers if there are more.

    Args:
        real, samples: `[N, *event]` and `[M, *event]`; events are flattened, 2,000 points are shown.
    """
    _same_event("scatter", real, samples)
    return _points([("real", real, BLUE), ("samples", samples, ORANGE)], title="")


def _points(parts: list[tuple[str, Tensor, str]], *, title: str) -> Figure:
    """One column of panels for each part, one row for each pair of dimensions."""
    flat = [part.detach().cpu().double().flatten(1)[:_MAX_POINTS] for _, part, _ in parts]
    num_dims = flat[0].shape[1]
    if num_dims == 1:
        return _histograms(parts, title)
    pairs = list(combinations(range(min(num_dims, _MAX_PAIR_DIMS)), 2))
    # The first part sets the axes: one diverged sample must not shrink the rest to a dot.
    limits = [_padded(flat[0][:, dim]) for dim in range(min(num_dims, _MAX_PAIR_DIMS))]
    side = WIDTH / max(2, len(parts))
    figure = new_figure(side * 0.95 * len(pairs) + 0.3, width=side * len(parts))
    heading(figure, title)
    grid = panels(figure, len(pairs), len(parts))
    for first, second in pairs:
        for (name, _, colour), points in zip(parts, flat, strict=True):
            axes = next(grid)
            axes.scatter(
                points[:, first].numpy(), points[:, second].numpy(), s=5, color=colour, alpha=0.5, linewidths=0
            )
            axes.set(xlim=limits[first], ylim=limits[second], box_aspect=1)
            name_axes(axes, title=name if (first, second) == pairs[0] else "")
            if num_dims > 2:
                name_axes(axes, x=f"x[{first}]", y=f"x[{second}]")
            _count_outside(axes, points[:, [first, second]], limits[first], limits[second])
    return figure


def _histograms(parts: list[tuple[str, Tensor, str]], title: str) -> Figure:
    figure = new_figure(2.2)
    heading(figure, title)
    limits = _padded(finite(parts[0][1]))
    for axes, (name, part, colour) in zip(panels(figure, 1, len(parts), share_y=True), parts, strict=True):
        values = finite(part)
        axes.hist(values.numpy(), bins=50, range=limits, density=True, color=colour)
        name_axes(axes, title=name)
    return figure


def _vector_film(frames: Tensor, numbers: list[int]) -> Figure:
    shown = evenly(len(frames), 8)
    points = frames.detach().cpu().double().flatten(2)[:, :_MAX_POINTS]
    if points.shape[2] == 1:
        points = torch.cat([points, torch.arange(points.shape[1]).expand_as(points[..., 0]).unsqueeze(2)], 2)
    limits = [_padded(points[shown][:, :, dim].flatten()) for dim in (0, 1)]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(rows * (WIDTH / columns + 0.2))
    grid = panels(figure, rows, columns, share_x=True, share_y=True)
    for place, axes in enumerate(grid):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        time = shown[place]
        axes.scatter(points[time, :, 0].numpy(), points[time, :, 1].numpy(), s=3, color=ORANGE, alpha=0.5, linewidths=0)
        axes.set(xlim=limits[0], ylim=limits[1], box_aspect=1)
        axes.set_title(f"step {numbers[time]:,}", fontsize=TEXT, color=SOFT, loc="left")
    return figure


def _count_outside(axes: Axes, points: Tensor, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Say how many points the limits hide."""
    low, high = torch.tensor([x[0], y[0]]), torch.tensor([x[1], y[1]])
    hidden = int((~((points >= low) & (points <= high)).all(1)).sum())
    if hidden:
        write(axes, 0.98, 0.96, f"{hidden:,} of {len(points):,} outside", colour=SOFT, right=True)


def _padded(values: Tensor) -> tuple[float, float]:
    kept = finite(values)
    low, high = robust_range(kept, share=0.0) if len(kept) else (-1.0, 1.0)
    margin = 0.15 * (high - low)
    return low - margin, high + margin


def _range(pictures: Tensor) -> tuple[float, float]:
    kept = finite(pictures)
    return robust_range(kept, share=0.001) if len(kept) else (0.0, 1.0)


def _montage(pictures: Tensor, columns: int, scale: tuple[float, float]) -> Tensor:
    """`[height, width, 3]` in 0..1: images in rows with white gaps; entries that are not finite are orange."""
    count, _, height, width = pictures.shape
    gap = max(1, min(height, width) // 12)
    rows = -(-count // columns)
    colour = ((pictures - scale[0]) / (scale[1] - scale[0])).clamp(0, 1).expand(-1, 3, -1, -1)
    broken = torch.tensor([0.84, 0.37, 0.0]).view(3, 1, 1)
    colour = torch.where(pictures.isfinite(), colour, broken)
    canvas = torch.ones(rows * columns, 3, height + gap, width + gap)
    canvas[:count, :, :height, :width] = colour
    tiled = canvas.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return tiled[:-gap, :-gap]


def _show(axes: Axes, tiles: Tensor) -> None:
    axes.imshow(tiles.numpy())
    axes.set_axis_off()


def _not_empty(who: str, x: Tensor) -> None:
    if x.dim() < 2 or 0 in x.shape:
        raise InputError(f"{who}: expected [N, *event] with nothing empty, got {tuple(x.shape)}")


def _same_event(who: str, real: Tensor, samples: Tensor) -> None:
    _not_empty(who, real)
    _not_empty(who, samples)
    if real.shape[1:] != samples.shape[1:]:
        raise InputError(
            f"{who}: real and samples have different events, {tuple(real.shape[1:])} and {tuple(samples.shape[1:])}"
        )
