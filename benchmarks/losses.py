"""The table of the energy-based tutorial by experiment: which losses collapse, and what each leaves.

Two tasks. y = x^2 + noise for x on [-1, 1], 200 rows, with an energy that can be the same for all answers (the distance
of two networks, one of x and one of y) and one that cannot ((y - G(x))^2). The noise, .05, is what makes a collapse
pay: without it (the tutorial's own problem, measured too) an energy that is zero at the data need not be flat.
And scikit-learn's digits with a small classifier whose energies are never negative: rows 0 to 999 train, 1350 to 1796
test. The same network, optimiser and number of updates for every loss; nothing was chosen for one of them.

    python -m benchmarks.losses [--quick] [--json FILE] [--picture FILE]
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import energeia as en
from benchmarks.harness import Row, progress, run
from energeia.core.answers import Search
from energeia.report.style import INK, ORANGE, SMALL, SOFT, TEXT, new_figure

LOW, HIGH, RADIUS, NEAR, NOISE = -0.5, 1.5, 0.1, 0.05, 0.05
SEEDS, STEPS = 3, 400
Losses = dict[str, Callable[[], en.Objective]]


def losses(search: Search | None, radius: float | None) -> Losses:
    """Those of table 1, all with margin 1 and beta 1."""

    def margin(kind: str) -> Callable[[], en.Objective]:
        return lambda: en.Margin(kind, radius=radius, search=search)  # type: ignore[arg-type]

    return {
        "energy": en.EnergyLoss,
        "perceptron": lambda: en.Perceptron(search),
        "LVQ2": margin("lvq2"),
        "hinge": margin("hinge"),
        "log": margin("log"),
        "MCE": margin("mce"),
        "square-square": margin("square-square"),
        "square-exponential": margin("square-exponential"),
        "NLL": lambda: en.ConditionalLikelihood(num_nodes=100),
        "MEE": lambda: en.MinimumEmpiricalError(num_nodes=100),
    }


class Apart(nn.Module):
    """|g - G2(y)|_1, g the features of x."""

    def __init__(self) -> None:
        super().__init__()
        self.network = en.MLP(1, 4, widths=(20,))

    def forward(self, features: Tensor, y: Tensor) -> Tensor:
        """`[B]`."""
        return (features - self.network(y)).abs().sum(1)


def two_networks(steep: float = 4.0) -> en.Energy:
    """E = |G1(x) - G2(y)|_1: both can be constant. The first layers begin `steep` times as large as usual."""
    first, second = en.MLP(1, 4, widths=(20,)), Apart()
    for network in (first, second):
        with torch.no_grad():
            next(network.parameters()).mul_(steep)
    return en.from_pair(second, en.Real(1), en.Box(1, low=LOW, high=HIGH), features=first)


def one_network() -> en.Energy:
    """E = (y - G(x))^2: the answers are a parabola apart, whatever G is."""
    network = en.MLP(1, 1, widths=(20,))
    answers = en.Box(1, low=LOW, high=HIGH)
    return en.from_pair(lambda g, y: (y - g).square().sum(1), en.Real(1), answers, features=network)


TOYS: dict[str, tuple[Callable[[], en.Energy], float]] = {
    "two networks": (two_networks, NOISE),
    "one network": (one_network, NOISE),
    "two networks, no noise": (two_networks, 0.0),
    "two networks, flat start": (functools.partial(two_networks, 1.0), NOISE),
}


def surface(energy: en.Energy) -> Tensor:
    """E at 101 x and 401 y, `[101, 401]`."""
    x, y = _lines()
    with torch.no_grad():
        field = en.given(energy, context=x.repeat_interleave(len(y), 0))
        return field(y.repeat(len(x), 1)).view(len(x), len(y))


def _lines() -> tuple[Tensor, Tensor]:
    return torch.linspace(-1, 1, 101).unsqueeze(1), torch.linspace(LOW, HIGH, 401).unsqueeze(1)


def square(quick: bool) -> tuple[list[Row], dict[tuple[str, str], Tensor]]:
    """Rows of the toy problem, and the surfaces of the first seed."""
    found: list[Row] = []
    pictures: dict[tuple[str, str], Tensor] = {}
    for name, (build, noise) in TOYS.items():
        for loss, objective in losses(en.Enumeration(num_nodes=100), RADIUS).items():
            for seed in range(1 if quick else SEEDS):
                progress(f"y = x^2, {name}, {loss}, seed {seed}")
                torch.manual_seed(seed)
                energy = build()
                before = surface(energy)
                generator = torch.Generator().manual_seed(seed)
                x = 2 * torch.rand(200, 1, generator=generator) - 1
                y = x.square() + noise * torch.randn(200, 1, generator=generator)
                trained(energy, objective(), x, y, 30 if quick else STEPS, seed)
                after = surface(energy)
                if seed == 0:
                    pictures[name, loss] = after
                numbers = of_surface(before, after)
                found += [Row(f"{name}: {what}", loss, value, "", seed) for what, value in numbers.items()]
    return found, pictures


def of_surface(before: Tensor, after: Tensor) -> dict[str, float]:
    """How wrong the best answer is, and how flat the energies of the answers are."""
    x, y = _lines()
    wrong = y[after.argmin(1)] - x.square()
    above = after - after.amin(1, keepdim=True)
    reach = above.amax(1).mean() / (before.amax(1) - before.amin(1)).mean()
    return {
        "error of the best y": wrong.square().mean().sqrt().item(),
        "range of E over y, start = 1": reach.item(),
        "range of E over y": above.amax(1).mean().item(),
        f"share of y within {NEAR:g} of the best": (above < NEAR).double().mean().item(),
    }


class NotNegative(nn.Module):
    """Logits -softplus(f(x)): energies of the classes that are never negative."""

    def __init__(self) -> None:
        super().__init__()
        self.network = en.MLP(64, 10, widths=(64,))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 10]`."""
        return -nn.functional.softplus(self.network(x))


def digits(quick: bool) -> list[Row]:
    """Test error, gap to the most offending class and range over the classes, on digits."""
    pixels, labels = cast(tuple[object, object], load_digits(return_X_y=True))
    x, y = torch.as_tensor(pixels).float() / 16, torch.as_tensor(labels).long()
    test = slice(1350, 1797)
    found: list[Row] = []
    for loss, objective in losses(None, None).items():
        for seed in range(1 if quick else SEEDS):
            progress(f"digits, {loss}, seed {seed}")
            torch.manual_seed(seed)
            energy = en.Classifier(NotNegative(), en.Real(64))
            before = _levels(energy, x[test])
            trained(energy, objective(), x[:1000], y[:1000], 30 if quick else STEPS, seed)
            levels = _levels(energy, x[test])
            right = levels.gather(1, y[test].unsqueeze(1))[:, 0]
            others = levels.scatter(1, y[test].unsqueeze(1), torch.inf).amin(1)
            # A tie is an error: nothing tells the classes apart.
            error = 100 * (others <= right).double().mean().item()
            spread = (levels.amax(1) - levels.amin(1)).mean() / (before.amax(1) - before.amin(1)).mean()
            found += [
                Row("digits: test error", loss, error, "%", seed),
                Row("digits: gap to the most offending class", loss, (others - right).mean().item(), "nats", seed),
                Row("digits: range of E over classes, start = 1", loss, spread.item(), "", seed),
            ]
    return found


def _levels(energy: en.Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return energy.class_energies(x).double()


def trained(energy: en.Energy, objective: en.Objective, x: Tensor, y: Tensor, num_steps: int, seed: int) -> None:
    """The same for every loss: Adam, 1e-2 falling to nothing, 50 rows an update."""
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    falling = functools.partial(CosineAnnealingLR, T_max=num_steps)
    settings = {"num_steps": num_steps, "batch_size": 50, "seed": seed}
    en.fit(energy, objective, (x, y), optimizer=adam, scheduler=falling, progress=False, **settings)  # type: ignore[arg-type]


def draw(pictures: dict[tuple[str, str], Tensor], path: Path) -> None:
    """Heat maps of E(x, y) - min over y, all on one scale."""
    names = ("two networks", "one network")
    kinds = list(dict.fromkeys(loss for _, loss in pictures))
    across = 5
    figure = new_figure(8.2, width=7.2)
    parts = [figure.add_subfigure(place) for place in figure.add_gridspec(len(names), 1)]
    titles = {
        "two networks": "E = |G1(x) - G2(y)|, free to collapse",
        "one network": "E = (y - G(x))², which cannot collapse",
    }
    shown = None
    for part, name in zip(parts, names, strict=True):
        part.set_facecolor("white")
        part.suptitle(titles[name], fontsize=TEXT + 1, color=INK, x=0.01, ha="left", fontweight="bold")
        grid = part.subplots(-(-len(kinds) // across), across, sharex=True, sharey=True)
        for place, (axes, loss) in enumerate(zip(grid.flat, kinds, strict=True)):
            shown = _panel(axes, pictures[name, loss], loss)
            if place % across == 0:
                axes.set_ylabel("y", fontsize=SMALL, color=SOFT)
            if place >= len(kinds) - across:
                axes.set_xlabel("x", fontsize=SMALL, color=SOFT)
        assert shown is not None
        bar = part.colorbar(shown, ax=list(grid.flat), shrink=0.7, extend="max", pad=0.01)
        bar.set_label("E above the best y", fontsize=SMALL, color=SOFT)
        bar.ax.tick_params(labelsize=SMALL, colors=SOFT)
        bar.outline.set_visible(False)  # type: ignore[operator]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, levels: Tensor, loss: str) -> AxesImage:
    """One surface, the curve of the truth and the best answers."""
    x, y = (line[:, 0] for line in _lines())
    above = (levels - levels.amin(1, keepdim=True)).T
    box = (-1, 1, LOW, HIGH)
    shown = axes.imshow(above.numpy(), origin="lower", extent=box, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    axes.plot(x.numpy(), x.square().numpy(), color="white", linewidth=0.9, linestyle=(0, (4, 3)))
    best = y[levels.argmin(1)]
    axes.plot(x[::5].numpy(), best[::5].numpy(), ".", color=ORANGE, markersize=3.5)
    axes.set_title(loss, fontsize=8, color=INK, loc="left")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([0, 1])
    axes.tick_params(labelsize=SMALL, colors=SOFT, length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--picture", type=Path)
    options, sys.argv[1:] = parser.parse_known_args()

    def kept(quick: bool) -> list[Row]:
        """The rows, with the surfaces drawn on the way."""
        toy, pictures = square(quick)
        if options.picture:
            draw(pictures, options.picture)
        return toy + digits(quick)

    run("losses", kept)
