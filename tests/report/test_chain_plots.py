import math
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import energeia as en
from energeia.core.record import Draws, Info
from energeia.report import chains
from energeia.report.dimensions import low_to_high
from energeia.report.style import ORANGE

FIGURES = (chains.trace, chains.autocorrelation, chains.ranks, chains.pairs, chains.energies)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def autoregression(seed: int, rho: float, *shape: int) -> Tensor:
    noise = normal(seed, *shape)
    kept = [noise[0]]
    for fresh in noise[1:]:
        kept.append(rho * kept[-1] + math.sqrt(1 - rho**2) * fresh)
    return torch.stack(kept)


def drawn(kept: Tensor, *, divergent: Tensor | None = None, energy: Tensor | None = None) -> Draws:
    ones = torch.ones(kept.shape[:2])
    values = kept.flatten(2).square().sum(2) / 2 if energy is None else energy
    info = Info(values, ones, ones, ones < 0 if divergent is None else divergent)
    return Draws(kept[-1], kept, info, en.Langevin(step_size=0.1), None)


def texts(figure: Figure) -> str:
    return " | ".join(item.get_text() for item in figure.findobj(matplotlib.text.Text) if item.get_text())  # type: ignore[attr-defined]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def heights(axes: Axes) -> list[Any]:
    return [patch.get_data().values for patch in axes.patches if isinstance(patch, matplotlib.patches.StepPatch)]


def test_every_figure_draws_every_kind_of_draws_without_pyplot_or_settings() -> None:
    before = dict(matplotlib.rcParams)
    kinds = {
        "one short chain": normal(0, 8, 1, 2),
        "constant": torch.ones(4, 3, 2),
        "frozen, of many": torch.arange(18.0).view(9, 2).expand(20, 9, 2).clone(),
        "mixed": torch.stack([normal(4, 30, 4), normal(5, 30, 4) > 0.5, torch.ones(30, 4)], 2).double(),
    }
    for name, kept in kinds.items():
        for draw in FIGURES:
            figure = draw(drawn(kept))
            figure.draw_without_rendering()
            assert "nan" not in texts(figure), (name, draw)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_a_trace_shows_the_kept_values_of_each_chain() -> None:
    kept = normal(6, 50, 3, 2)
    figure = chains.trace(drawn(kept), names=["first", "second"])
    left = figure.axes[2]
    assert left.get_title(loc="left").startswith("second   R-hat ")
    drawn_lines = sorted(line.get_ydata().tolist() for line in left.lines)
    assert drawn_lines == sorted(kept[:, chain, 1].tolist() for chain in range(3))
    counts = heights(figure.axes[3])
    # Scaled by the fullest bin of all.
    fullest = max(
        float(torch.histc(line, 40, kept[..., 1].min(), kept[..., 1].max()).max()) for line in kept[:, :, 1].T
    )
    assert [count.sum() * fullest for count in counts] == pytest.approx([50, 50, 50])


def test_the_worst_dimensions_and_the_odd_chain_are_among_those_shown() -> None:
    kept = normal(7, 200, 30, 3, 4)
    kept[:, 17, 1, 2] += 8
    kept[:, :15, 2, 0] += 1
    figure = chains.trace(drawn(kept), num_dims=2)
    assert [title.split()[0] for title in titles(figure)] == ["x[1,2]", "x[2,0]"]
    assert "6 of 30 chains" in texts(figure)
    assert low_to_high([kept[:, :, 1, 2]])[-1] == 17
    odd = [line for line in chains.trace(drawn(kept), dims=["x[1,2]"]).axes[0].lines if line.get_ydata().mean() > 7]
    assert len(odd) == 1


def test_few_values_are_drawn_as_running_means() -> None:
    kept = (torch.rand(100, 2, 1, generator=generator(8)) < 0.3).double()
    figure = chains.trace(drawn(kept))
    assert "running mean of 5" in titles(figure)[0]
    left, right = figure.axes
    expected = torch.stack([kept[i : i + 5, :, 0].mean(0) for i in range(96)])
    assert left.lines[0].get_xdata()[[0, -1]].tolist() == [2, 97]
    found = {line.get_color(): torch.as_tensor(line.get_ydata()) for line in left.lines}
    order = low_to_high([kept[:, :, 0]])
    for chain, line in zip(order, found.values(), strict=True):
        assert torch.allclose(line, expected[:, chain])
    share = {tuple(np.round(line.get_xdata(), 12)) for line in right.lines}
    means = kept[:, :, 0].mean(0).tolist()
    assert share == {(round(1 - mean, 12), round(mean, 12)) for mean in means}


def test_autocorrelation_is_that_of_the_process() -> None:
    rho, num_draws, num_chains = 0.8, 4000, 20
    kept = autoregression(9, rho, num_draws, num_chains, 1)
    axes = chains.autocorrelation(drawn(kept), max_lag=30).axes[0]
    total = torch.as_tensor(axes.lines[-1].get_ydata())
    lags = torch.arange(31)
    # Bartlett: the variance of an estimate is at most (1 + rho^2) / (1 - rho^2) / N.
    error = math.sqrt((1 + rho**2) / (1 - rho**2) / (num_draws * num_chains))
    assert (total - rho**lags).abs().max() < 5 * error
    assert total[0] == 1
    single = torch.as_tensor(axes.lines[1].get_ydata())
    assert (single - rho**lags).abs().max() < 5 * error * math.sqrt(num_chains)


def test_autocorrelation_of_chains_apart_stays_up_though_each_forgets() -> None:
    kept = normal(10, 500, 4, 1) + torch.tensor([0.0, 0.0, 3.0, 3.0]).view(1, 4, 1)
    axes = chains.autocorrelation(drawn(kept)).axes[0]
    total, single = axes.lines[-1].get_ydata(), axes.lines[1].get_ydata()
    # V = 1 + 3 between, so that 3 / 4 of the variance is never forgotten.
    assert total[1:].min() == pytest.approx(0.75, abs=0.05)
    assert abs(single[1:]).max() < 5 / math.sqrt(500)
    assert axes.get_xlim()[1] == 100


def test_ranks_are_level_where_chains_agree_and_in_halves_where_they_do_not() -> None:
    same = normal(11, 1000, 2, 1)
    apart = same + torch.tensor([0.0, 100.0]).view(1, 2, 1)
    level = heights(chains.ranks(drawn(same)).axes[0])
    assert [line.mean() for line in level] == pytest.approx([1, 1])
    assert max(abs(line - 1).max() for line in level) < 5 * math.sqrt(20 / 1000)
    low, high = heights(chains.ranks(drawn(apart)).axes[0])
    assert low.tolist() == pytest.approx([2] * 10 + [0] * 10)
    assert high.tolist() == pytest.approx([0] * 10 + [2] * 10)
    ties = heights(chains.ranks(drawn(torch.ones(1000, 2, 1))).axes[0])
    assert max(abs(line - 1).max() for line in ties) < 5 * math.sqrt(20 / 1000)


def test_pairs_mark_what_diverged() -> None:
    kept = normal(12, 100, 3, 5)
    divergent = torch.zeros(100, 3, dtype=torch.bool)
    divergent[[4, 50], [1, 2]] = True
    figure = chains.pairs(drawn(kept, divergent=divergent), dims=[3, "x[1]"])
    axes = figure.axes[2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x[3]", "x[1]")
    states, marked = axes.collections
    assert marked.get_offsets().tolist() == [kept[4, 1, [3, 1]].tolist(), kept[50, 2, [3, 1]].tolist()]
    assert matplotlib.colors.to_hex(marked.get_facecolor()[0]) == ORANGE
    assert sorted(states.get_offsets().tolist()) == sorted(kept[:, :, [3, 1]].flatten(0, 1).tolist())
    assert "300 states | 2 divergent" in texts(figure)
    assert "divergent" not in texts(chains.pairs(drawn(kept)))
    names = ["a", "b", "c", "d", "a name that is longer than its panel"]
    assert "d | a name tha… its panel" in " | ".join(
        a.get_xlabel() for a in chains.pairs(drawn(kept), names=names, dims=[3, 4]).axes
    )


def test_pairs_of_few_values_are_dots_of_their_shares() -> None:
    kept = torch.tensor([[0.0, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]).view(4, 2, 2)
    dots = chains.pairs(drawn(kept)).axes[2].collections[0]
    area = {tuple(place): size for place, size in zip(dots.get_offsets().tolist(), dots.get_sizes(), strict=True)}
    total = sum(area.values())
    expected = {(0, 0): 1 / 8, (0, 1): 2 / 8, (1, 0): 0, (1, 1): 5 / 8}
    assert {place: size / total for place, size in area.items()} == pytest.approx(expected)


def test_energies_say_how_much_of_them_is_new() -> None:
    rho = 0.9
    energy = 5 + autoregression(13, rho, 5000, 10)
    figure = chains.energies(drawn(normal(14, 5000, 10, 1), energy=energy))
    (title,) = titles(figure)
    words, share = title.split(": ")
    assert words == "squared change / 2 variances"
    # One minus the correlation at lag one, whose estimate has variance (1 - rho^2) / N.
    assert abs(float(share) - (1 - rho)) < 5 * math.sqrt((1 - rho**2) / 50_000)
    assert "6 of 10 chains" in figure.axes[1].get_xlabel()
    energy[0, 0] = 1e4
    energy[1, 0] = math.inf
    figure = chains.energies(drawn(normal(15, 5000, 10, 1), energy=energy))
    assert "highest 1e+04" in texts(figure)
    assert figure.axes[1].get_ylim()[1] < 20
    assert titles(chains.energies(drawn(normal(16, 20, 2, 1), energy=torch.zeros(20, 2)))) == []


def test_bad_input_is_refused() -> None:
    draws = drawn(normal(17, 20, 3, 4))
    for draw in FIGURES:
        with pytest.raises(en.InputError, match='keep="all"'):
            draw(drawn(normal(18, 1, 3, 4)))
    for dim in (4, -1, "y"):
        with pytest.raises(en.InputError, match=r"no dimension .*from x\[0\] \(0\) to x\[3\]"):
            chains.trace(draws, dims=[dim])
    with pytest.raises(en.InputError, match="dims is empty"):
        chains.ranks(draws, dims=[])
    with pytest.raises(en.InputError, match="num_dims"):
        chains.trace(draws, num_dims=0)
    with pytest.raises(en.InputError, match=r"two to five dimensions, got 1"):
        chains.pairs(draws, dims=[0])
    with pytest.raises(en.InputError, match=r"max_lag must lie in 1\.\.19"):
        chains.autocorrelation(draws, max_lag=20)
    with pytest.raises(en.InputError, match="finite energy"):
        chains.energies(drawn(normal(19, 20, 3, 4), energy=torch.full((20, 3), math.nan)))
