"""Figures of the log-likelihood: over training, and of the bracket around log Z as effort grows."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from energeia.core.errors import InputError
from energeia.report.plots import VALIDATION, Record, series
from energeia.report.style import BLUE, ORANGE, WIDTH, name_axes, new_figure, plain


def likelihood_curve(records: Sequence[Record], *, steps_per_epoch: float | None = None) -> Figure:
    """log p of held-out rows over training, with the interval that the estimate of log Z leaves.

    Args:
        records: with the numbers of `energeia.train.HeldOutLikelihood`.
        steps_per_epoch: for an axis in epochs; None counts steps.

    Raises:
        InputError: no record holds them.
    """
    steps, middle = series(records, VALIDATION + "log_likelihood")
    if not steps:
        raise InputError("likelihood_curve: no record holds validation/log_likelihood")
    place = torch.tensor(steps, dtype=torch.float64) / (steps_per_epoch or 1.0)
    ends = [series(records, f"{VALIDATION}log_likelihood_{end}")[1] for end in ("low", "high")]
    figure = new_figure(2.5, width=WIDTH)
    axes = figure.add_subplot()
    plain(axes)
    if all(len(end) == len(steps) for end in ends):
        axes.fill_between(place.numpy(), ends[0], ends[1], color=ORANGE, alpha=0.3, linewidth=0)
    axes.plot(place.numpy(), middle, color=ORANGE, linewidth=1.3, marker="o", markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    name_axes(axes, x="epoch" if steps_per_epoch else "step", y="nats a row", title="log p of held-out rows")
    return figure


def bracket_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """The interval of log Z and both estimates, for each round of `en.bracket` against its levels.

    Args:
        history: `details["history"]` of what `en.bracket` returned.
    """
    if not history:
        raise InputError("bracket_curve: the history is empty; give details['history'] of en.bracket")
    levels = [round_["levels"] for round_ in history]
    figure = new_figure(2.5, width=WIDTH)
    axes = figure.add_subplot()
    plain(axes)
    low, high, lower, upper = ([round_[key] for round_ in history] for key in ("low", "high", "lower", "upper"))
    axes.fill_between(levels, low, high, color=BLUE, alpha=0.2, linewidth=0, label="interval")
    axes.plot(levels, upper, color=ORANGE, marker="v", markersize=4, linewidth=1.2, label="from above")
    axes.plot(levels, lower, color=BLUE, marker="^", markersize=4, linewidth=1.2, label="from below")
    axes.set_xscale("log", base=2)
    axes.set_xticks(levels)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8)
    name_axes(axes, x="levels of annealing", y="nats", title="log Z between its two sides")
    return figure
