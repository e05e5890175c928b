"""Sequences of pictures with what was read in them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from energeia.core.errors import InputError
from energeia.report.style import BLUE, INK, ORANGE, SMALL, SOFT, TEXT, WIDTH, new_figure


class Reading(NamedTuple):
    """One sequence and the two best answers to it.

    sites: pictures of the sites `[n, H, W]`. right, first, second: names of their labels, n each; second is None where
    there is none. gap: E of the second less E of the first, in nats.
    """

    sites: Tensor
    right: Sequence[str]
    first: Sequence[str]
    second: Sequence[str] | None
    gap: float


def as_sites(x: Tensor) -> Tensor | None:
    """Sites of sequences `[N, T, *site]` as pictures `[N, T, H, W]`, or None if they are none."""
    if x.dim() == 5 and x.shape[2] == 1:
        return x.squeeze(2)
    return x if x.dim() == 4 and min(x.shape[2:]) > 1 else None


def readings(shown: Sequence[Reading]) -> Figure:
    """Each sequence with its first reading below it, wrong labels in orange, and the second, what it changes in blue.

    To the right the gap, in nats, and where the first reading is wrong what would have been right.

    Args:
        shown: at least one, all with pictures of one size.
    """
    sizes = {tuple(one.sites.shape[1:]) for one in shown}
    if len(sizes) != 1 or any(one.sites.dim() != 3 or len(one.sites) != len(one.right) for one in shown):
        raise InputError(f"readings: sites must be pictures [n, H, W] of one size, a label each, got {sorted(sizes)}")
    height, width = sizes.pop()
    pitch = 1.35 * width
    side = max(len(one.right) for one in shown) * pitch
    # Room for the words to the right of the longest sequence.
    total = side + 9.5 * width
    scale = WIDTH / total
    # A line of text, in units of a pixel of the sites.
    line = 1.4 * TEXT / 72 / scale
    block = height + 2 * line + 0.45 * height
    figure = new_figure(scale * block * len(shown) + 0.05)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(-0.2 * width, total - 0.2 * width), ylim=(block * len(shown), -0.2 * height))
    sites = torch.cat([one.sites.detach().cpu().float().flatten() for one in shown])
    limits = (float(sites.min()), float(sites.max()))
    for number, one in enumerate(shown):
        top = number * block
        _strip(axes, one, top, pitch, limits)
        middle = top + height + 0.1 * height
        for place in range(len(one.right)):
            x = place * pitch + width / 2
            wrong = one.first[place] != one.right[place]
            _label(axes, x, middle + 0.45 * line, one.first[place], ORANGE if wrong else INK, strong=wrong)
            if one.second is not None:
                other = one.second[place] != one.first[place]
                _label(axes, x, middle + 1.35 * line, one.second[place], BLUE if other else SOFT, strong=other)
        told = [(f"gap {one.gap:.2f} nats", INK)] if one.second is not None else []
        is_wrong = list(one.first) != list(one.right)
        if is_wrong:
            helped = one.second is not None and list(one.second) == list(one.right)
            written = ("" if all(len(name) == 1 for name in one.right) else " ").join(one.right)
            told.append(("second is right" if helped else f"right: {written}", BLUE if helped else ORANGE))
        for row, (text, colour) in enumerate(told):
            y = top + 0.3 * height + row * 0.95 * line
            axes.text(side + 0.6 * width, y, text, fontsize=SMALL, color=colour, va="center")
    return figure


def _strip(axes: Axes, one: Reading, top: float, pitch: float, limits: tuple[float, float]) -> None:
    """The pictures of the sites, dark on light, side by side."""
    for place, site in enumerate(one.sites.detach().cpu().float()):
        left = place * pitch
        extent = (left, left + site.shape[1], top + site.shape[0], top)
        axes.imshow(site.numpy(), cmap="gray_r", vmin=limits[0], vmax=limits[1], extent=extent, aspect="auto", zorder=1)


def _label(axes: Axes, x: float, y: float, text: str, colour: str, *, strong: bool) -> None:
    weight = "bold" if strong else "normal"
    axes.text(x, y, text, fontsize=TEXT, color=colour, ha="center", va="center", fontweight=weight)
