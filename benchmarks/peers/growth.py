"""How the cost of a Langevin step grows with the number of chains and of dimensions; docs/growth.png shows it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import StrMethodFormatter

from benchmarks.harness import Row
from benchmarks.peers import targets
from benchmarks.peers.langevin import STEP_SIZE, ours, peers
from benchmarks.peers.race import Setting, race
from energeia.report import style

CHAINS, DIMENSIONS = (10, 100, 1000, 10_000, 100_000), (2, 10, 100, 1000, 10_000)
PICTURE = Path("docs/growth.png")
BY_CHAINS, BY_DIMENSIONS = (
    "Langevin, mixture of 4 in 2-D, by chains",
    "Langevin, standard normal, 100 chains, by dimensions",
)


def rows(setting: Setting) -> list[Row]:
    """Microseconds a step of each size and library; draws the picture unless the run is a quick one."""
    found: list[Row] = []
    for work, sizes in ((BY_CHAINS, CHAINS), (BY_DIMENSIONS, DIMENSIONS)):
        for size in sizes[1:2] if setting.quick else sizes:
            found += _point(work, size, setting)
    if not setting.quick:
        draw(found, PICTURE)
    return found


def _point(work: str, size: int, setting: Setting) -> list[Row]:
    numbers = 2 * size if work == BY_CHAINS else 100 * size
    num_steps = max(20, min(1000, 10_000_000 // numbers // 10 * 10))
    energy, log_density = targets.mixture() if work == BY_CHAINS else targets.round_gaussian(size)
    start = targets.normals(size, 2) if work == BY_CHAINS else targets.normals(100, size)
    everyone = [
        ours(energy, start, num_steps),
        *peers(energy, log_density, start, num_steps, step=STEP_SIZE / 2, noise=STEP_SIZE**0.5),
    ]
    runs, _ = race(everyone, 2 if setting.quick else 3)
    return [Row(f"{work}: {size}", run.who, min(run.seconds) / num_steps * 1e6, "us a step", 0) for run in runs]


def draw(found: Sequence[Row], path: Path) -> None:
    """Time of a step against the size, both on logarithmic axes: one panel for chains, one for dimensions."""
    figure = style.new_figure(3.0, width=2 * style.WIDTH)
    for axes, work in zip(style.panels(figure, 1, 2, share_y=True), (BY_CHAINS, BY_DIMENSIONS), strict=True):
        mine = [row for row in found if row.work.startswith(f"{work}: ")]
        for colour, who in zip(style.COLOURS, dict.fromkeys(row.who for row in mine), strict=False):
            points = [(int(row.work.rsplit(": ", 1)[1]), row.value) for row in mine if row.who == who]
            axes.loglog(*zip(*points, strict=True), color=colour, marker="o", markersize=3, linewidth=1.5, label=who)
        title = "mixture of 4 in 2-D" if work == BY_CHAINS else "standard normal, 100 chains"
        # The sizes in full below, and no ticks between them.
        axes.minorticks_off()
        axes.set_xticks(sorted({int(row.work.rsplit(": ", 1)[1]) for row in mine}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        style.name_axes(axes, "chains" if work == BY_CHAINS else "dimensions", "", title)
    figure.axes[0].set_ylabel("microseconds a step", fontsize=style.TEXT, color=style.SOFT)
    figure.axes[0].legend(loc="lower right", frameon=False, fontsize=style.SMALL, labelcolor=style.INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}", file=sys.stderr)
