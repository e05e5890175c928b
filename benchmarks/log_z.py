"""What each estimate of log Z says where the truth is known: hard cases, continuous ones, and how the cost grows.

--picture FILE draws the growth.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.ticker import NullFormatter
from torch import Tensor

import energeia as en
from benchmarks.coverage import Hidden
from benchmarks.harness import Row, progress, run
from energeia import examination, settings
from energeia import run as runs
from energeia.energies import Banana, GaussianMixture, kaufman_log_z
from energeia.partition import Effort
from energeia.report.style import BLUE, ORANGE, name_axes, new_figure, panels

Estimate = Callable[[int], en.LogZ]


class Case(NamedTuple):
    """An energy with its log Z, exact draws of it (or rows that a user would have), and a base that covers it."""

    name: str
    energy: en.Energy
    exact: float
    rows: Tensor
    base: en.Energy | None = None


def estimates(case: Case) -> dict[str, Estimate]:
    """Every estimate that goes by chains, as a user would call it."""
    hidden, base = Hidden(case.energy), case.base
    return {
        "ais": lambda seed: en.ais(hidden, base=base, generator=seed),
        "reverse_ais from rows": lambda seed: en.reverse_ais(hidden, case.rows[:100], base=base, generator=seed),
        "smc": lambda seed: en.smc(hidden, base=base, levels=300, generator=seed),
        "thermodynamic_integration": lambda seed: en.thermodynamic_integration(
            hidden, base=base, num_rungs=15, num_steps=100, generator=seed
        ),
        "tempering": lambda seed: en.tempering(hidden, base=base, num_rungs=10, num_steps=100, generator=seed),
        "bracket": lambda seed: en.bracket(hidden, base=base, generator=seed),
        "bracket with rows": lambda seed: en.bracket(hidden, case.rows, base=base, generator=seed),
    }


def measured(work: str, who: str, exact: float, estimate: Estimate, seeds: int) -> list[Row]:
    """Error, width, whether the interval covers, and whether anything was said, for each seed."""
    found: list[Row] = []
    for seed in range(seeds):
        began = time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            told = estimate(seed)
        seconds = time.process_time() - began
        low, high = (float(end) for end in told.details.get("interval", (told.low, told.high)))
        found += [
            Row(work, who, float(told.value) - exact, "error (nats)", seed),
            Row(work, who, high - low, "width (nats)", seed),
            Row(work, who, float(low <= exact <= high), "inside", seed),
            Row(work, who, float(bool(caught)), "warned", seed),
            Row(work, who, seconds, "s", seed),
        ]
    progress(f"{work}, {who}: {found[-5].value:.3g} +- {found[-4].value:.3g}")
    return found


def hard(seeds: int) -> list[Row]:
    """Cases where something must go wrong for some."""
    found: list[Row] = []
    for case in _hard_cases():
        for who, estimate in estimates(case).items():
            found += measured(f"hard: {case.name}", who, case.exact, estimate, seeds)
    wells = _wells()
    lesser = wells.rows[wells.rows[:, 0] > 0]
    lesser = lesser[torch.arange(200) % len(lesser)]
    greater = wells.rows[wells.rows[:, 0] < 0]
    for who, rows in (("lesser", lesser), ("greater", greater)):
        name = f"bracket with rows of the {who} well alone"
        for base in (None, wells.base):
            told = name + (", a base that covers both" if base is not None else "")
            found += measured(
                f"hard: {wells.name}",
                told,
                wells.exact,
                lambda seed, rows=rows, base=base: en.bracket(Hidden(wells.energy), rows, base=base, generator=seed),
                seeds,
            )
    return found


def _hard_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    edges = en.IsingLattice((8, 8), coupling=0.1).edges
    cold = en.Ising((8, 8), edges, couplings=torch.tensor(0.6, dtype=torch.float64))
    up = torch.ones(200, 8, 8, dtype=torch.float64)
    couplings = 1.5 * torch.randn(len(edges), generator=generator, dtype=torch.float64)
    glass = en.Ising((8, 8), edges, couplings=couplings)
    start = glass.space.start(200, generator, dtype=torch.float64)
    rows = en.sample(glass, en.Gibbs(), start=start, num_steps=500, generator=generator, progress=False).x
    means = torch.zeros(2, 10, dtype=torch.float64)
    means[1] = 5.0
    scales = torch.tensor([3.0, 0.05], dtype=torch.float64)
    covariances = scales.square().view(2, 1, 1) * torch.eye(10, dtype=torch.float64)
    needle = GaussianMixture(means, covariances, torch.full((2,), 0.5, dtype=torch.float64))
    return [
        _wells(),
        Case("Ising 8 x 8 at K = .6, rows of one phase", cold, float(kaufman_log_z(8, 8, 0.6)), up),
        Case("spin glass 8 x 8, J of 1.5", glass, float(en.variable_elimination(glass).value), rows),
        Case("a needle in 10-D, half of the mass", needle, _log_z(needle), needle.sample_exact(500, generator)),
    ]


def _log_z(energy: en.Tractable) -> float:
    return float(energy.log_z().value)


def _wells() -> Case:
    """24 standard deviations apart, the lesser with e^-4 of the other's mass."""
    weights = torch.tensor([0.0, -4.0], dtype=torch.float64).softmax(0)
    means = torch.tensor([[-12.0, 0.0], [12.0, 0.0]], dtype=torch.float64)
    wells = GaussianMixture(means, torch.eye(2, dtype=torch.float64).expand(2, 2, 2), weights)
    rows = wells.sample_exact(2000, torch.Generator().manual_seed(0))
    return Case("two wells, e^-4 apart in mass", wells, _log_z(wells), rows, en.Gaussian(2, scale=14.0).double())


def continuous(seeds: int, quick: bool) -> list[Row]:
    """Mixtures in 2 to 50 dimensions and a banana, all known; and a joint model of digits, which is not."""
    found: list[Row] = []
    for dims in (2, 10, 50):
        generator = torch.Generator().manual_seed(dims)
        means = 3 * torch.randn(5, dims, generator=generator, dtype=torch.float64)
        scales = 0.5 + torch.rand(5, generator=generator, dtype=torch.float64)
        covariances = scales.square().view(5, 1, 1) * torch.eye(dims, dtype=torch.float64)
        mixture = GaussianMixture(means, covariances, torch.full((5,), 0.2, dtype=torch.float64))
        rows = mixture.sample_exact(500, generator)
        case = Case(f"5 Gaussians in {dims}-D", mixture, _log_z(mixture), rows)
        for who in ("bracket", "bracket with rows"):
            found += measured(f"continuous: {case.name}", who, case.exact, estimates(case)[who], seeds)
    banana = Banana().double()
    case = Case("banana", banana, _log_z(banana), banana.sample_exact(500, torch.Generator().manual_seed(0)))
    for who in ("bracket", "bracket with rows"):
        found += measured("continuous: banana", who, case.exact, estimates(case)[who], seeds)
    return found + _digits(quick)


def _digits(quick: bool) -> list[Row]:
    """The recipe `digits`, p(x, y) of a convolutional network: both sides as levels double."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "digits"
        words = ["digits", "--progress", "false", *(["--num_steps", "32", "--log_every", "8"] if quick else [])]
        runs.train(settings.parse(words), folder)
        loaded = runs.load(folder)
        effort: Effort = {
            "levels": 62,
            "num_steps": 125,
            "tolerance": 0.05,
            "max_levels": 124 if quick else 500,
            "progress": False,
        }
        numbers = examination.examine(loaded, log_z=effort, bin_width=2 / 17).numbers["log_likelihood"]
    work = "joint model of digits, 64 pixels"
    found: list[Row] = []
    for round_ in numbers["history"]:
        levels = f"{round_['levels']:.0f} levels"
        found += [
            Row(work, f"{levels}: gap of the sides", round_["upper"] - round_["lower"], "nats", 0),
            Row(work, f"{levels}: width", round_["high"] - round_["low"], "nats", 0),
            Row(work, f"{levels}: seconds in all", round_["seconds"], "s", 0),
        ]
    for end in ("low", "mean", "high"):
        found.append(Row(work, f"test log p: {end}", numbers[end], "nats a row", 0))
    found.append(Row(work, "test bits per dimension", numbers["bits_per_dimension"]["value"], "bits", 0))
    return found


def growth(seeds: int, quick: bool) -> list[Row]:
    """Machines of 16 hidden bits at the default effort: more pixels, larger weights."""
    found: list[Row] = []
    sizes = [16, 64] if quick else [16, 64, 256, 1024, 4096]
    scales = [0.25, 1.0] if quick else [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    for work, cases in (
        ("growth: pixels", [(size, size, 4 / size**0.5) for size in sizes]),
        ("growth: weights", [(scale, 64, scale) for scale in scales]),
    ):
        for place, size, scale in cases:
            torch.manual_seed(0)
            machine = en.RBM(size, 16, weight_scale=scale).double()
            exact = float(en.exact_log_z(machine).value)
            found += measured(
                work,
                f"{place:g}",
                exact,
                lambda seed, machine=machine: en.bracket(Hidden(machine), generator=seed),
                seeds,
            )
    return found


def rows(quick: bool) -> list[Row]:
    """All of it."""
    seeds = 1 if quick else 2
    return [*hard(seeds), *continuous(seeds, quick), *growth(seeds, quick)]


def draw(records: list[Row], path: Path) -> None:
    """Width and error of the bracket against pixels and weights."""
    figure = new_figure(2.8)
    works = (
        ("growth: pixels", "pixels", "weights of 4 / sqrt(pixels)"),
        ("growth: weights", "spread of the weights", "64 pixels"),
    )
    for axes, (work, label, title) in zip(panels(figure, 1, 2), works, strict=True):
        places: list[float] = []
        for unit, colour, name in (("width (nats)", BLUE, "width"), ("error (nats)", ORANGE, "size of the error")):
            own = [row for row in records if row.work == work and row.unit == unit]
            places = sorted({float(row.who) for row in own})
            each = [torch.tensor([abs(row.value) for row in own if float(row.who) == place]) for place in places]
            axes.plot(places, [float(v.mean()) for v in each], color=colour, marker="o", markersize=3, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, fontsize=8)
        name_axes(axes, x=label, y="nats", title=title)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--picture", type=Path)
    options, sys.argv[1:] = parser.parse_known_args()

    def kept(quick: bool) -> list[Row]:
        """The rows, drawn on the way."""
        found = rows(quick)
        if options.picture:
            draw(found, options.picture)
        return found

    run("log_z", kept)
