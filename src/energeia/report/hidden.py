"""Figures of machines with hidden units: filters, reconstructions and activity."""

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from energeia.core.errors import InputError
from energeia.report import pictures
from energeia.report.style import BLUE, SOFT, name_axes, new_figure, panels, plain, robust_range

_MOST_FILTERS = 64
_MOST_CELLS = 200


def filters(weights: Tensor, *, columns: int = 8) -> Figure:
    """What each hidden unit adds to the visible ones, largest norm first, all on one grey scale: mid-grey is zero.

    Args:
        weights: `[hidden, *event]`; the first 64 by norm are shown. Events that are no pictures
            become rows of one picture.
        columns: filters in a row.
    """
    if weights.dim() < 2 or weights.numel() == 0:
        raise InputError(f"filters: weights must be [hidden, *event] with nothing empty, got {tuple(weights.shape)}")
    weights = weights.detach().cpu().float()
    order = weights.flatten(1).norm(dim=1).argsort(descending=True)[:_MOST_FILTERS]
    shown = weights[order]
    reach = robust_range(shown.double().abs().flatten(), share=0.002)[1]
    if pictures.as_pictures(shown) is not None:
        return pictures.image_grid(shown, columns=columns, scale=(-reach, reach))
    flat = shown.flatten(1)[:, :_MOST_CELLS]
    figure = new_figure(max(1.2, min(5.0, 0.12 * len(flat) + 0.6)))
    axes = figure.add_subplot()
    plain(axes)
    image = axes.imshow(flat.numpy(), cmap="gray", vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.ax.tick_params(labelsize=8, colors=SOFT)
    name_axes(axes, x="visible", y="hidden, by norm")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def activity(active: Tensor) -> Figure:
    """E[h|v] of all rows and units as a histogram, and the mean of each unit, in order.

    Args:
        active: `[N, hidden]`.
    """
    if active.dim() != 2 or active.numel() == 0:
        raise InputError(f"activity: expected [N, hidden] with nothing empty, got {tuple(active.shape)}")
    values = active.detach().cpu().double()
    figure = new_figure(2.1)
    left, right = panels(figure, 1, 2)
    low, high = values.min().item(), values.max().item()
    limits = (0.0, 1.0) if low >= 0 and high <= 1 else robust_range(values.flatten(), share=0.001)
    shares = torch.full_like(values, 1 / values.numel()).flatten().numpy()
    left.hist(values.flatten().numpy(), bins=40, range=limits, color=BLUE, weights=shares)
    left.set(xlim=limits)
    name_axes(left, x="E[h|v]", y="share", title="every row and unit")
    means = values.mean(0).sort().values
    right.plot(
        torch.arange(1, len(means) + 1).numpy(), means.numpy(), color=BLUE, marker="o", markersize=2, linewidth=0
    )
    if limits == (0.0, 1.0):
        right.set_ylim(-0.03, 1.03)
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    name_axes(right, x="units, in order", y="mean", title="each unit")
    return figure
