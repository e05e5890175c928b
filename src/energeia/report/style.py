"""How the figures look. Every figure is its own object: no pyplot, no global settings."""

from collections.abc import Iterator, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

# Narrow, so that 10 point text is still read when the figure is shrunk to a phone.
WIDTH = 5.2
DPI = 200
TEXT = 10
SMALL = 9

INK = "#22262b"
SOFT = "#6b7280"
LINE = "#c9ced6"
# Okabe and Ito's palette without its yellow: told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, PURPLE, SKY, RUST = "#0072b2", "#d55e00", "#009e73", "#a8578a", "#56b4e9", "#e69f00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RUST)


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """An empty figure of the given size in inches, drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, rows: int, columns: int, *, share_x: bool = False, share_y: bool = False) -> Iterator[Axes]:
    """Axes of a grid, row by row, with thin spines on the left and below alone."""
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    for axes in grid.flat:
        plain(axes)
        yield axes


def plain(axes: Axes) -> None:
    """Thin axes, small grey tick labels, nothing that is not data."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(LINE)
        spine.set_linewidth(0.8)
    axes.tick_params(labelsize=SMALL, colors=SOFT, width=0.8, length=3)
    axes.xaxis.get_offset_text().set(fontsize=SMALL, color=SOFT)
    axes.yaxis.get_offset_text().set(fontsize=SMALL, color=SOFT)


def name_axes(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Axis labels, and a title at the left."""
    if x:
        axes.set_xlabel(x, fontsize=TEXT, color=SOFT)
    if y:
        axes.set_ylabel(y, fontsize=TEXT, color=SOFT)
    if title:
        axes.set_title(title, fontsize=TEXT, color=INK, loc="left", fontweight="bold")


def heading(figure: Figure, text: str) -> None:
    """A title above the whole figure."""
    if text:
        figure.suptitle(text, fontsize=TEXT + 1, color=INK, x=0.01, ha="left", fontweight="bold")


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    at_data_y: bool = False,
    colour: str = INK,
    right: bool,
    top: bool = False,
) -> None:
    """Small text on a light backing; x and y in 0..1 of the panel, or y in units of the data (at_data_y)."""
    axes.text(
        x,
        y,
        text,
        transform=axes.get_yaxis_transform() if at_data_y else axes.transAxes,
        fontsize=SMALL,
        color=colour,
        ha="right" if right else "left",
        va="top" if top else "center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
    )


def words(key: str) -> str:
    """A metric's name as it is read: `gradient_norm` becomes `gradient norm`."""
    return key.replace("_", " ")


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of 0..count - 1, evenly spaced, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def finite(values: Tensor | Sequence[float]) -> Tensor:
    """The finite ones of the values, flat, float64, on the CPU."""
    flat = torch.as_tensor(values).detach().to("cpu", torch.float64).flatten()
    return flat[flat.isfinite()]


def robust_range(values: Tensor, share: float = 0.005) -> tuple[float, float]:
    """What holds all but a share of the values at each end, and is not empty. Values: finite, not empty."""
    # torch.quantile refuses more than 16 million values; sorting does not.
    ordered = values.sort().values
    low, high = (ordered[int(place * (len(ordered) - 1))].item() for place in (share, 1 - share))
    return (low, high) if low < high else (low - 0.5, high + 0.5)
