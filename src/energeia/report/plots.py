"""Figures of numbers: curves, histograms of energies, confusion and calibration."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor

from energeia.core.errors import InputError
from energeia.report.style import (
    BLUE,
    COLOURS,
    INK,
    LINE,
    ORANGE,
    PURPLE,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    finite,
    heading,
    name_axes,
    new_figure,
    panels,
    plain,
    robust_range,
    words,
    write,
)
from energeia.stats.calibration import Reliability

Record = Mapping[str, object]

VALIDATION = "validation/"
# What a record says of the chains rather than of the loss.
CHAIN_KEYS = ("acceptance", "displacement", "gap", "gradient_norm")
# What `HeldOutLikelihood` and `HiddenUnits` of energeia.train measure; these have figures of their own.
LIKELIHOOD_KEYS = ("log_likelihood", "log_likelihood_low", "log_likelihood_high")
HIDDEN_KEYS = (
    "hidden_activity",
    "always_off",
    "always_on",
    "weight_norm",
    "reconstruction_error",
    "pseudo_log_likelihood",
)
_BOOKKEEPING = ("step", "epoch", "seconds")
# Above this many points a curve is drawn faint, with its running median on top.
_MAX_SHARP = 150


def loss_keys(records: Sequence[Record]) -> list[str]:
    """The keys of the numbers in the records that are parts of the loss, in order: no bookkeeping, no monitors."""
    found = dict.fromkeys(
        key.removeprefix(VALIDATION)
        for record in records
        if "event" not in record
        for key, value in record.items()
        if _number(value) is not None
    )
    return [key for key in found if key not in (*_BOOKKEEPING, *CHAIN_KEYS, *LIKELIHOOD_KEYS, *HIDDEN_KEYS)]


def rewinds_in(records: Sequence[Record]) -> list[Record]:
    """The records with `"event": "rewind"`."""
    return [record for record in records if record.get("event") == "rewind"]


def curves(records: Sequence[Record], *, keys: Sequence[str] | None = None, title: str = "") -> Figure:
    """Small multiples of training: one panel a quantity, training and validation together.

    Args:
        records: what the run logged, each with a "step". Keys of validation records
            begin with "validation/"; records with `"event": "rewind"` become vertical lines.
        keys: what to show, without the prefix; default every part of the loss (`loss_keys`).
        title: above the panels.

    A spike that would flatten the rest is cut off, and the panel says how high it was;
    values that are not finite are counted there. Curves of more than 150 points are
    drawn faint with their running median on top.

    Raises:
        InputError: no record holds any of the keys.
    """
    wanted = loss_keys(records) if keys is None else list(keys)
    shown = [key for key in wanted if any(series(records, name)[0] for name in (key, VALIDATION + key))]
    if not shown:
        raise InputError(f"curves: no record holds a number under {wanted or 'any key'}")
    columns = 2 if len(shown) > 1 else 1
    rows = -(-len(shown) // columns)
    figure = new_figure(1.75 * rows + 0.45 if columns > 1 else 2.7)
    heading(figure, title)
    marks = [step for step in (_number(record.get("step")) for record in rewinds_in(records)) if step is not None]
    both = False
    for place, axes in enumerate(panels(figure, rows, columns, share_x=True)):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        both |= _curve_panel(axes, records, shown[place], marks)
        axes.tick_params(labelbottom=place + columns >= len(shown))
        if place + columns >= len(shown):
            name_axes(axes, x="step")
    _curve_legend(figure, both, bool(marks))
    return figure


def chain_statistics(records: Sequence[Record]) -> Figure:
    """How the chains move: acceptance, displacement a step, energy gap and gradient norm over training.

    Args:
        records: as for `curves`; panels without numbers are left out.

    Raises:
        InputError: no record holds any of them.
    """
    return curves(records, keys=CHAIN_KEYS)


def energy_histograms(
    energies: Mapping[str, Tensor], *, label: str = "energy (low = likely)", title: str = ""
) -> Figure:
    """Distributions under one another on one axis, each scaled to its own height.

    Args:
        energies: numbers `[N]` by name, such as data, samples, noise. The first sets
            the scale: one that lies far from it is named at the edge it lies beyond.
        label: what the numbers are.
        title: above the figure.

    Values that are not finite are counted beside the name.
    """
    if not energies or any(values.numel() == 0 for values in energies.values()):
        raise InputError("energy_histograms: give at least one set of numbers, none of them empty")
    kept = {name: finite(values) for name, values in energies.items()}
    limits = _shared_limits(list(kept.values()))
    figure = new_figure(0.62 * len(kept) + 0.55)
    heading(figure, title)
    axes = figure.add_subplot()
    plain(axes)
    axes.spines["left"].set_visible(False)
    for row, (name, values) in enumerate(kept.items()):
        base = float(len(kept) - 1 - row)
        _ridge(axes, values, base, COLOURS[row % len(COLOURS)], limits)
        broken = energies[name].numel() - len(values)
        text = f"{name}\n{broken:,} not finite" if broken else name
        axes.text(
            -0.02,
            base + 0.3,
            text,
            transform=axes.get_yaxis_transform(),
            fontsize=TEXT,
            color=INK,
            ha="right",
            va="center",
        )
    axes.set(xlim=limits, ylim=(-0.08, len(kept)), yticks=[])
    name_axes(axes, x=label)
    return figure


def ood_scores(
    own: Tensor, foreign: Mapping[str, Tensor], *, score: str = "energy", own_name: str = "own data"
) -> Figure:
    """Scores of own and foreign data under one another; the less they overlap, the better.

    Args:
        own: scores of the model's own held-out data `[N]`, high = own.
        foreign: scores `[M]` by name of the foreign set.
        score: what the numbers are called.
        own_name: name of the own data.
    """
    return energy_histograms({own_name: own, **foreign}, label=f"{words(score)} score (high = own)")


def confusion(matrix: Tensor, *, names: Sequence[str] | None = None) -> Figure:
    """True class down, called class across; shade is the share of the true class, numbers are counts.

    Args:
        matrix: counts `[K, K]`, K >= 2; row i holds the points of true class i.
        names: of the classes; default 0..K-1. Numbers are written for up to 12 classes.
    """
    num_classes = len(matrix)
    if tuple(matrix.shape) != (num_classes, num_classes) or num_classes < 2:
        raise InputError(f"confusion: matrix must be counts [K, K], K >= 2, got {tuple(matrix.shape)}")
    if names is not None and len(names) != num_classes:
        raise InputError(f"confusion: {len(names)} names for {num_classes} classes")
    counts = matrix.detach().cpu().double()
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    figure = new_figure(WIDTH * 0.86, width=WIDTH * 0.86)
    axes = figure.add_subplot()
    plain(axes)
    axes.spines[:].set_visible(False)
    axes.imshow(share.sqrt().numpy(), cmap="Blues", vmin=0, vmax=1.15)
    labels = [str(number) for number in range(num_classes)] if names is None else list(names)
    if num_classes <= 30:
        turn = 90 if max(map(len, labels)) > 3 and num_classes > 5 else 0
        axes.set_xticks(range(num_classes), labels, rotation=turn)
        axes.set_yticks(range(num_classes), labels)
    axes.tick_params(length=0)
    if num_classes <= 12:
        for i, j in ((i, j) for i in range(num_classes) for j in range(num_classes) if counts[i, j] > 0):
            colour = "white" if share[i, j] > 0.4 else INK
            size = SMALL if counts.max() < 1000 or num_classes < 8 else SMALL - 2
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", fontsize=size, color=colour)
    name_axes(axes, x="called", y="true class")
    return figure


def reliability_diagram(reliability: Reliability) -> Figure:
    """Accuracy against confidence, with the expected calibration error in the title and the counts below.

    Points on the diagonal are honest; below it the classifier is too sure of itself,
    above it not sure enough. Large points are bins of many.
    """
    count = reliability.bin_count
    used = count > 0
    confidence, accuracy = reliability.bin_confidence[used].numpy(), reliability.bin_accuracy[used].numpy()
    area = (12 + 60 * count[used] / count.max()).numpy()
    figure = new_figure(WIDTH * 0.9, width=WIDTH * 0.78)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    for axes in (upper, lower):
        plain(axes)
    upper.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    upper.vlines(confidence, confidence, accuracy, color=ORANGE, linewidth=2, alpha=0.6)
    upper.plot(confidence, accuracy, color=BLUE, linewidth=1)
    upper.scatter(confidence, accuracy, s=area, color=BLUE, linewidths=0, zorder=3)
    upper.text(0.03, 0.93, "not sure enough", fontsize=SMALL, color=SOFT, va="top")
    upper.text(0.97, 0.05, "too sure", fontsize=SMALL, color=SOFT, ha="right")
    upper.set(xlim=(0, 1.02), ylim=(0, 1.04), yticks=[0, 0.5, 1])
    name_axes(upper, y="accuracy", title=f"Expected calibration error {reliability.ece:.3f}")
    edges = torch.linspace(0, 1, len(count) + 1)[:-1].numpy()
    lower.bar(edges, count.numpy(), width=1 / len(count), align="edge", color=BLUE, edgecolor="white", linewidth=0.8)
    lower.set_xticks([0, 0.5, 1])
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    name_axes(lower, x="confidence", y="points")
    figure.align_ylabels()
    return figure


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def series(records: Sequence[Record], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of the records that hold a number under the key."""
    pairs = [(_number(record.get("step")), _number(record.get(key))) for record in records if "event" not in record]
    kept = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def _curve_panel(axes: Axes, records: Sequence[Record], key: str, marks: Sequence[float]) -> bool:
    """Draw one quantity; says whether validation was among it."""
    name_axes(axes, title=words(key))
    for mark in marks:
        axes.axvline(mark, color=PURPLE, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
    drawn: list[Tensor] = []
    notes: list[str] = []
    num_broken = 0
    for name, colour in ((key, BLUE), (VALIDATION + key, ORANGE)):
        steps, values = series(records, name)
        if not steps:
            continue
        line = torch.tensor(values, dtype=torch.float64)
        num_broken += int((~line.isfinite()).sum())
        drawn.append(finite(line))
        _line(axes, torch.tensor(steps, dtype=torch.float64), line, colour)
    if num_broken:
        notes.append(f"{num_broken:,} not finite")
    notes += _limit(axes, torch.cat(drawn))
    if notes:
        write(axes, 0.99, 0.98, ", ".join(notes), right=True, top=True)
    if key == "acceptance":
        axes.set_ylim(-0.03, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    return bool(series(records, VALIDATION + key)[0])


def _line(axes: Axes, steps: Tensor, values: Tensor, colour: str) -> None:
    if len(values) <= _MAX_SHARP:
        marker = "o" if len(values) <= 20 else ""
        axes.plot(steps.numpy(), values.numpy(), color=colour, linewidth=1.3, marker=marker, markersize=2.5)
        return
    axes.plot(steps.numpy(), values.numpy(), color=colour, linewidth=0.5, alpha=0.3)
    good = values.isfinite()
    if not bool(good.any()):
        return
    # Centred, and a median: a mean would smear one spike over the whole window.
    half = len(values) // 80
    padded = torch.nn.functional.pad(values[good], (half, half), value=torch.nan)
    smooth = padded.unfold(0, 2 * half + 1, 1).nanmedian(1).values
    axes.plot(steps[good].numpy(), smooth.numpy(), color=colour, linewidth=1.3)


def _limit(axes: Axes, values: Tensor) -> list[str]:
    """Cut spikes that would flatten the rest; say how far they went."""
    if len(values) < 20:
        return []
    low, high = robust_range(values, share=0.02)
    lowest, highest = values.min().item(), values.max().item()
    reach = 5 * (high - low)
    too_high, too_low = highest > high + reach, lowest < low - reach
    top, bottom = high if too_high else highest, low if too_low else lowest
    margin = 0.08 * (top - bottom)
    if too_high or too_low:
        axes.set_ylim(bottom - margin, top + margin)
    return [f"peak {highest:.3g}"] * too_high + [f"lowest {lowest:.3g}"] * too_low


def _curve_legend(figure: Figure, both: bool, marked: bool) -> None:
    """Coloured words above the panels in place of a legend box."""
    entries = [("training", BLUE), ("validation", ORANGE)] if both else []
    if marked:
        entries.append(("rewind", PURPLE))
    if not entries:
        return
    lines = [
        figure.axes[0].plot([], [], color=colour, linewidth=1.5, linestyle=(0, (2, 2)) if name == "rewind" else "-")[0]
        for name, colour in entries
    ]
    legend = figure.legend(
        lines,
        [name for name, _ in entries],
        loc="outside upper right",
        ncols=len(entries),
        frameon=False,
        fontsize=SMALL,
        handlelength=1.4,
    )
    for text, (_, colour) in zip(legend.get_texts(), entries, strict=True):
        text.set_color(colour)


def _shared_limits(groups: Sequence[Tensor]) -> tuple[float, float]:
    """The range of the first group and of all others whose middle is not far from it."""
    first = next((group for group in groups if len(group)), torch.zeros(1))
    low, high = robust_range(first)
    reach = 8 * (high - low)
    for group in groups:
        if len(group) and low - reach <= group.median().item() <= high + reach:
            bottom, top = robust_range(group)
            # The tail of one wide group must not shrink the others.
            low, high = min(low, max(bottom, low - reach)), max(high, min(top, high + reach))
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _ridge(axes: Axes, values: Tensor, base: float, colour: str, limits: tuple[float, float]) -> None:
    """One histogram that stands on its own line, and where it lies if it lies outside."""
    axes.axhline(base, color=LINE, linewidth=0.8, zorder=0)
    counts = values.histc(70, *limits) if len(values) else torch.zeros(70)
    if counts.sum() > 0:
        edges = torch.linspace(*limits, 71)
        height = 0.82 * counts / counts.max()
        axes.stairs((base + height).numpy(), edges.numpy(), baseline=base, fill=True, color=colour, alpha=0.85)
    for outside, place, arrow in (
        (values[values < limits[0]], 0.01, "← {}"),
        (values[values > limits[1]], 0.99, "{} →"),
    ):
        if len(outside) > 0.02 * len(values):
            share = f"{len(outside) / len(values):.0%}" if len(outside) < len(values) else "all"
            text = arrow.format(f"{share} at {outside.min().item():,.4g} to {outside.max().item():,.4g}")
            write(axes, place, base + 0.3, text, at_data_y=True, colour=colour, right=place > 0.5)
