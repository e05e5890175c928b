"""Figures of chains: traces, autocorrelation, ranks, pairs of dimensions and energies."""

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.record import Draws
from energeia.report.dimensions import Dimension, choose, low_to_high, of_chains, short
from energeia.report.style import (
    BLUE,
    COLOURS,
    INK,
    LINE,
    ORANGE,
    SMALL,
    SOFT,
    WIDTH,
    evenly,
    finite,
    name_axes,
    new_figure,
    panels,
    plain,
    robust_range,
    write,
)
from energeia.stats.chains import check_kept, effective_sample_size, r_hat

_MAX_POINTS = 2000
_MAX_DIVERGENT = 300
_NUM_BINS = 40


def trace(
    draws: Draws, *, dims: Sequence[int | str] | None = None, names: Sequence[str] | None = None, num_dims: int = 4
) -> Figure:
    """Each dimension over time, one colour a chain, and at its right the distribution in each chain.

    Good chains overlap in both and look like noise. Chains that keep apart, drift or stand
    still have not arrived. Of more than six chains six are drawn,
    evenly spaced from the one with the lowest mean to the one with the highest.
    Dimensions with up to eight values are drawn as running means over a twentieth of the run.

    Args:
        draws: what `sample(..., keep="all")` returns.
        dims: which of the flattened dimensions, by number or name; default those of worst R-hat.
        names: of all flattened dimensions; default x[0], x[2,3].
        num_dims: how many to draw by default, >= 1.

    Raises:
        InputError: too few kept states, or dimensions that do not exist.
    """
    chosen = choose("trace", draws, dims, names, num_dims)
    figure = new_figure(1.25 * len(chosen) + 0.45)
    grid = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=(3.4, 1), sharey="row", sharex="col")
    shown = low_to_high([dimension.values for dimension in chosen])
    for (left, right), dimension in zip(grid, chosen, strict=True):
        plain(left)
        plain(right)
        mode = _trace_panel(left, right, dimension, shown)
        agreement = r_hat(dimension.values).item()
        known = "" if math.isnan(agreement) else f"   R-hat {agreement:.3f}"
        name_axes(left, title=f"{short(dimension.name, 24)}{known}{mode}")
        left.yaxis.set_major_locator(MaxNLocator(3))
        right.tick_params(labelbottom=False, labelleft=False, bottom=False)
        right.spines["bottom"].set_visible(False)
        left.tick_params(labelbottom=dimension is chosen[-1])
    grid[-1][0].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    name_axes(grid[-1][0], x="kept state" + of_chains(draws))
    return figure


def autocorrelation(
    draws: Draws,
    *,
    dims: Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    num_dims: int = 4,
    max_lag: int | None = None,
) -> Figure:
    """How long each dimension remembers: correlation of states that are a lag apart.

    The dark line is that of all chains together, as the effective sample size sees it:
    rho_t = 1 - (W - mean autocovariance at t) / V, W the variance within chains and V that
    of all draws. It stays up where chains sit in different places, though each by itself
    (thin lines, at most six) may forget quickly. The grey band holds 95 % of estimates from
    independent draws.

    Args:
        draws, dims, names, num_dims: as for `trace`.
        max_lag: how far to look, 1 to T - 1; default about twice the lag at which all have fallen
            below .05, at least 20, and a fifth of T where one never does.

    Raises:
        InputError: as for `trace`; a max_lag outside its range.
    """
    chosen = choose("autocorrelation", draws, dims, names, num_dims)
    num_draws, num_chains = draws.kept.shape[:2]
    if max_lag is not None and not 1 <= max_lag < num_draws:
        raise InputError(f"autocorrelation: max_lag must lie in 1..{num_draws - 1}, got {max_lag}")
    shown = low_to_high([dimension.values for dimension in chosen])
    each = [_correlations(dimension.values, shown) for dimension in chosen]
    last = max_lag or _forgotten([total for total, _ in each], num_draws)
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(1.6 * rows + 0.4)
    band = 1.96 / math.sqrt(num_draws * num_chains)
    for place, axes in enumerate(panels(figure, rows, columns, share_x=True, share_y=True)):
        if place >= len(chosen):
            axes.set_axis_off()
            continue
        total, single = each[place]
        ess = effective_sample_size(chosen[place].values).item()
        known = f"   ESS {ess:,.0f}" if math.isfinite(ess) else ""
        name_axes(axes, title=f"{short(chosen[place].name, 15)}{known}")
        axes.axhspan(-band, band, color=LINE, alpha=0.5, linewidth=0)
        axes.axhline(0, color=SOFT, linewidth=0.6)
        for line, colour in zip(single.T, COLOURS, strict=False):
            axes.plot(line[: last + 1].numpy(), color=colour, linewidth=0.6, alpha=0.55)
        axes.plot(total[: last + 1].numpy(), color=INK, linewidth=1.4)
        axes.set(xlim=(0, last), ylim=(min(-0.15, axes.get_ylim()[0]), 1.05), yticks=[0, 0.5, 1])
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        beneath = place + columns >= len(chosen)
        axes.tick_params(labelbottom=beneath)
        if beneath:
            name_axes(axes, x="lag in kept states")
    return figure


def ranks(
    draws: Draws, *, dims: Sequence[int | str] | None = None, names: Sequence[str] | None = None, num_dims: int = 4
) -> Figure:
    """Where each chain's draws stand among those of all chains: level lines where all agree.

    A chain whose line slopes sits higher or lower than the others; a line that is high in the
    middle belongs to a chain that is too narrow. Equal values are put in a random order.

    Args:
        draws, dims, names, num_dims: as for `trace`.

    Raises:
        InputError: as for `trace`.

    Reference: Vehtari et al. 2021, section 4.1, https://doi.org/10.1214/20-BA1221
    """
    chosen = choose("ranks", draws, dims, names, num_dims)
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(1.5 * rows + 0.4)
    shown = low_to_high([dimension.values for dimension in chosen])
    number = draws.kept.shape[0] * draws.kept.shape[1]
    # About 25 draws in each bin of a chain, so that noise does not look like structure.
    num_bins = max(4, min(20, draws.kept.shape[0] // 25))
    edges = torch.linspace(0, 1, num_bins + 1)
    top = 2.0
    for place, axes in enumerate(panels(figure, rows, columns, share_x=True, share_y=True)):
        if place >= len(chosen):
            axes.set_axis_off()
            continue
        share = _rank(chosen[place].values).double() / number
        name_axes(axes, title=short(chosen[place].name, 24))
        axes.axhline(1, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        for chain, colour in zip(shown, COLOURS, strict=False):
            height = share[:, chain].histc(num_bins, 0, 1) * num_bins / len(share)
            axes.stairs(height.numpy(), edges.numpy(), baseline=None, color=colour, linewidth=1.1)
            top = max(top, 1.05 * height.max().item())
        axes.set(xlim=(0, 1), ylim=(0, top), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        beneath = place + columns >= len(chosen)
        axes.tick_params(labelbottom=beneath)
        if beneath:
            name_axes(axes, x="rank" + of_chains(draws))
        if place % columns == 0:
            name_axes(axes, y="density")
    return figure


def pairs(draws: Draws, *, dims: Sequence[int | str] | None = None, names: Sequence[str] | None = None) -> Figure:
    """Dimensions against one another, of all chains, with the states after divergent steps marked.

    Divergent states that gather in one place show where the step is too large. Up to
    2,000 states are drawn; where both dimensions have few values, dots whose area is the
    share of states there.

    Args:
        draws, names: as for `trace`.
        dims: two to five of the flattened dimensions; default those of worst R-hat, up to four.

    Raises:
        InputError: as for `trace`; fewer than two or more than five dimensions.
    """
    chosen = choose("pairs", draws, dims, names, 4)
    size = len(chosen)
    if not 2 <= size <= 5:
        raise InputError(f"pairs: give two to five dimensions, got {size}")
    divergent = draws.info.divergent.flatten().cpu()
    figure = new_figure(WIDTH * (0.35 + 0.13 * size), width=WIDTH)
    grid = figure.subplots(size, size, sharex="col")
    for row in range(size):
        for column in range(size):
            axes = grid[row][column]
            if column > row:
                axes.set_axis_off()
                continue
            plain(axes)
            if row == column:
                _histogram(axes, chosen[row])
            else:
                _pair_panel(axes, chosen[column], chosen[row], divergent)
            _label_pair(axes, chosen, row, column)
    figure.align_ylabels()
    _pair_legend(grid[0][1], int(divergent.sum()), len(divergent))
    return figure


def energies(draws: Draws) -> Figure:
    """The energy E(x): its distribution, how much it changes from state to state, and its trace.

    Above, the energy about its mean and the changes between successive kept states. Where
    the changes are much narrower, the chains crawl from level to level and the tails are
    visited rarely. The number is the mean squared change over twice the variance, 1 -
    autocorrelation at lag one: 1 for independent states, near 0 for a crawl. Below, the trace.

    Args:
        draws: what `sample(..., keep="all")` returns.

    Raises:
        InputError: too few kept states, or no finite energy.

    It is E(x) and not the total energy of a Hamiltonian sampler, so the number is not its BFMI.
    """
    check_kept("energies", draws.kept)
    energy = draws.info.energy.detach().to("cpu", torch.float64)
    values = finite(energy)
    changes = finite(energy.diff(dim=0))
    if len(values) == 0 or len(changes) == 0:
        raise InputError("energies: no two successive kept states have a finite energy")
    figure = new_figure(3.9)
    upper, lower = figure.subplots(2, 1)
    for axes in (upper, lower):
        plain(axes)
    deviations = values - values.mean()
    low, high = robust_range(torch.cat([deviations, changes]), share=0.001)
    for numbers, colour, name, height in (
        (deviations, BLUE, "energy about its mean", 0.95),
        (changes, ORANGE, "change to the next kept state", 0.81),
    ):
        density = numbers.histc(_NUM_BINS, low, high) / len(numbers)
        edges = torch.linspace(low, high, _NUM_BINS + 1)
        upper.stairs(density.numpy(), edges.numpy(), fill=True, color=colour, alpha=0.3)
        upper.stairs(density.numpy(), edges.numpy(), color=colour, linewidth=1)
        write(upper, 0.99, height, name, colour=colour, right=True, top=True)
    # Room for the words.
    upper.set(xlim=(low, high), ylim=(0, 1.35 * upper.get_ylim()[1]), yticks=[])
    upper.spines["left"].set_visible(False)
    variance = deviations.square().mean().item()
    title = (
        f"squared change / 2 variances: {changes.square().mean().item() / (2 * variance):.2g}" if variance > 0 else ""
    )
    name_axes(upper, x="energy", title=title)
    _lines(lower, energy, low_to_high([energy]))
    bottom, top = robust_range(values, share=0.002)
    if values.max() > top + 3 * (top - bottom):
        lower.set_ylim(bottom - 0.1 * (top - bottom), top + (top - bottom))
        write(lower, 0.99, 0.97, f"highest {values.max():,.4g}", right=True, top=True)
    lower.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    name_axes(lower, x="kept state" + of_chains(draws), y="energy")
    return figure


def _lines(axes: Axes, values: Tensor, shown: Sequence[int]) -> None:
    steps = evenly(len(values), _MAX_POINTS)
    for chain, colour in zip(shown, COLOURS, strict=False):
        axes.plot(steps, values[steps, chain].numpy(), color=colour, linewidth=0.6, alpha=0.8)
    axes.set_xlim(0, len(values) - 1)


def _trace_panel(left: Axes, right: Axes, dimension: Dimension, shown: Sequence[int]) -> str:
    """Draw the trace and its distribution; says what was done to the trace."""
    values, levels = dimension.values, dimension.levels
    if levels is None:
        _lines(left, values, shown)
        low, high = values.min().item(), values.max().item()
        edges = torch.linspace(low, high, _NUM_BINS + 1).numpy()
        counts = torch.stack([values[:, chain].histc(_NUM_BINS, low, high) for chain in shown])
        for height, colour in zip((counts / counts.max()).numpy(), COLOURS, strict=False):
            right.stairs(height, edges, orientation="horizontal", color=colour, linewidth=0.9, alpha=0.8)
        right.set_xlim(0, 1.05)
        return ""
    window = max(1, len(values) // 20)
    running = values.unfold(0, window, 1).mean(2)
    middles = (torch.arange(len(running)) + (window - 1) / 2).numpy()
    for chain, colour in zip(shown, COLOURS, strict=False):
        left.plot(middles, running[:, chain].numpy(), color=colour, linewidth=0.9, alpha=0.8)
        share = (values[:, chain, None] == levels).double().mean(0)
        right.plot(share.numpy(), levels.numpy(), "o", color=colour, markersize=3.5, alpha=0.7, clip_on=False)
    margin = 0.08 * ((levels[-1] - levels[0]).item() or 1.0)
    left.set(xlim=(0, len(values) - 1), ylim=(levels[0].item() - margin, levels[-1].item() + margin))
    right.set_xlim(0, 1.05)
    return f"   running mean of {window:,}"


def _correlations(values: Tensor, shown: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Autocorrelation of all chains together `[T]`, and of some by themselves `[T, n]`; NaN where nothing varies."""
    num_draws = len(values)
    spectrum = torch.fft.rfft(values - values.mean(0), 2 * num_draws, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), 2 * num_draws, dim=0)[:num_draws] / num_draws
    within = covariance[0].mean() * num_draws / (num_draws - 1)
    between = values.mean(0).var() if values.shape[1] > 1 else torch.zeros(())
    total = 1 - (within - covariance.mean(1)) / (covariance[0].mean() + between)
    total[0] = 1.0 if bool(covariance[0].mean() + between > 0) else math.nan
    single = covariance[:, shown]
    return total, single / single[0]


def _forgotten(lines: Sequence[Tensor], num_draws: int) -> int:
    """Twice the lag by which every line has fallen below .05; those that never do ask for a tenth of the run."""
    last = 10
    for line in lines:
        low = (line.abs() < 0.05).nonzero()
        last = max(last, int(low[0, 0]) if len(low) else num_draws // 10)
    return min(2 * last, max(num_draws // 2, 1))


def _rank(values: Tensor) -> Tensor:
    """0 to T B - 1 `[T, B]`, ties in random order."""
    flat = values.flatten()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    order = shuffled[flat[shuffled].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(flat))
    return rank.view(values.shape)


def _histogram(axes: Axes, dimension: Dimension) -> None:
    values, levels = dimension.values.flatten(), dimension.levels
    if levels is None:
        low, high = values.min().item(), values.max().item()
        edges = torch.linspace(low, high, _NUM_BINS + 1).numpy()
        axes.stairs(values.histc(_NUM_BINS, low, high).numpy(), edges, fill=True, color=BLUE, alpha=0.85)
    else:
        share = (values[:, None] == levels).double().mean(0)
        gap = levels.diff().min().item() if len(levels) > 1 else 1.0
        axes.bar(levels.numpy(), share.numpy(), width=0.5 * gap, color=BLUE, alpha=0.85)
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False, labelleft=False)


def _pair_panel(axes: Axes, across: Dimension, up: Dimension, divergent: Tensor) -> None:
    x, y = across.values.flatten(), up.values.flatten()
    if across.levels is not None and up.levels is not None:
        joint = (x[:, None] == across.levels).double().T @ (y[:, None] == up.levels).double() / len(x)
        places = torch.cartesian_prod(across.levels, up.levels)
        axes.scatter(*places.T.numpy(), s=(350 * joint.flatten()).numpy(), color=BLUE, alpha=0.85, linewidths=0)
    else:
        # At random, as even steps could pick the same few chains each time.
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:_MAX_POINTS]
        axes.scatter(x[some].numpy(), y[some].numpy(), s=2, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
    marked = divergent.nonzero().flatten()
    marked = marked[evenly(len(marked), _MAX_DIVERGENT)]
    axes.scatter(x[marked].numpy(), y[marked].numpy(), s=6, color=ORANGE, alpha=0.8, linewidths=0, zorder=3)


def _label_pair(axes: Axes, chosen: Sequence[Dimension], row: int, column: int) -> None:
    for dimension, axis, limits in (
        (chosen[column], axes.xaxis, axes.set_xlim),
        (chosen[row], axes.yaxis, axes.set_ylim),
    ):
        if row == column and axis is axes.yaxis:
            continue
        axis.set_major_locator(MaxNLocator(3))
        if dimension.levels is not None:
            axis.set_ticks(dimension.levels.tolist())
            low, high = dimension.levels[0].item(), dimension.levels[-1].item()
            margin = 0.5 * max(high - low, 1.0)
            limits(low - margin, high + margin)
    last = len(chosen) - 1
    axes.tick_params(labelbottom=row == last, labelleft=column == 0 and row > 0)
    # What a panel has room for.
    x, y = (short(chosen[place].name, 44 // len(chosen)) for place in (column, row))
    name_axes(axes, x=x if row == last else "", y=y if column == 0 and row else "")


def _pair_legend(axes: Axes, num_divergent: int, number: int) -> None:
    """Words in the empty corner above the diagonal."""
    axes.text(0.1, 0.9, f"{number:,} states", transform=axes.transAxes, fontsize=SMALL, color=SOFT, va="top")
    if num_divergent:
        text = f"{num_divergent:,} divergent"
        axes.text(0.1, 0.65, text, transform=axes.transAxes, fontsize=SMALL, color=ORANGE, va="top")
