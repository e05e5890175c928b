"""The ladder: every objective on the same problems, against the truth.

python -m benchmarks.objectives [--rung planar | tabular | discrete | binarised | digits | peers] [--densities NAME ...]
    [--methods NAME ...] [--seeds N ...] [--json FILE [--resume]] [--picture FILE] [--quick]

The rows are written after every model, so nothing is lost when it is stopped; --resume goes on and does what FILE
lacks. The heat maps are kept in a folder beside FILE, so --picture with --resume draws them all.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from benchmarks.harness import MissingDataError, Row, progress, summary
from benchmarks.objectives import binarised, codes, digits, methods, others, pictures, plane, tabular
from energeia.core.errors import DivergenceError
from energeia.run import versions


class Rung(NamedTuple):
    """cases: data sets; methods: names of the table; headline: the unit that is printed.

    cell(case, method, seed, quick) trains one, work(case) names its rows.
    """

    cases: tuple[str, ...]
    methods: tuple[str, ...]
    headline: str
    cell: Callable[[str, str, int, bool], plane.Measured]
    work: Callable[[str], str]
    draw: Callable[[dict[tuple[str, str], Tensor], Path], None] = pictures.draw


GAP = "nats above the truth"
RUNGS = {
    "planar": Rung(plane.CASES, tuple(methods.METHODS), GAP, plane.cell, plane.work),
    "tabular": Rung(tabular.CASES, tuple(tabular.METHODS), "nats a row, test", tabular.cell, tabular.work),
    "digits": Rung(
        digits.CASES, tuple(digits.METHODS), "MMD^2 to test digits", digits.cell, digits.work, digits.draw_all
    ),
    "peers": Rung(others.CASES, tuple(others.METHODS), GAP, others.cell, others.work),
    "discrete": Rung(codes.CASES, tuple(codes.METHODS), GAP, codes.cell, codes.work),
    "binarised": Rung(binarised.CASES, tuple(binarised.METHODS), "nats a row, test", binarised.cell, binarised.work),
}


def main() -> None:
    """Train what was asked for and is not there yet."""
    options = _options()
    rung = RUNGS[options.rung]
    kept: list[dict[str, Any]] = []
    if options.resume and options.json and options.json.is_file():
        kept = json.loads(options.json.read_text())
    done = {(record["work"], record["who"], record["seed"]) for record in kept}
    folder = options.json.with_suffix(".maps") if options.json else None
    drawn: dict[tuple[str, str], Tensor] = {}
    about = versions()
    machine = {key: about.pop(key) for key in ("machine", "processor")}
    command = _command(options)
    absent: dict[str, str] = {}
    for method in options.methods:
        for name in options.densities:
            for seed in options.seeds:
                if name in absent:
                    continue
                if (rung.work(name), method, seed) in done:
                    picture = pictures.load(folder, name, method, seed) if folder else None
                    if picture is not None:
                        drawn.setdefault((name, method), picture)
                    continue
                began = time.perf_counter()
                try:
                    rows, picture = rung.cell(name, method, seed, options.quick)
                    if picture is not None:
                        drawn.setdefault((name, method), picture)
                    if folder and picture is not None:
                        pictures.save(folder, name, method, seed, picture)
                except MissingDataError as error:
                    absent.setdefault(name, str(error))
                    continue
                except DivergenceError as error:
                    progress(f"{name}, {method}: {error}")
                    rows = [Row(rung.work(name), method, 1.0, "diverged", seed)]
                told = ", ".join(f"{row.unit} {row.value:.4g}" for row in rows[:3])
                progress(f"{name}, {method}, seed {seed}: {told}; {time.perf_counter() - began:.0f} s")
                kept += [{**r._asdict(), "command": command, "versions": about, "machine": machine} for r in rows]
                if options.json:
                    _write(options.json, kept)
    for line in summary([record for record in kept if record["unit"] in (rung.headline, "diverged")]):
        print("  ".join(line))
    for reason in absent.values():
        print(f"skipped: {reason}")
    if options.picture and drawn:
        rung.draw(drawn, options.picture)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.objectives")
    parser.add_argument("--rung", choices=list(RUNGS), default="planar")
    parser.add_argument("--densities", nargs="+", metavar="NAME", help="default: all of the rung")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all of the rung")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for the rows, written after every model")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the file, and do what it lacks")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="for the heat maps, a PNG")
    parser.add_argument("--quick", action="store_true", help="a few steps: to see that it runs")
    options = parser.parse_args()
    for name, known in (("densities", RUNGS[options.rung].cases), ("methods", RUNGS[options.rung].methods)):
        asked = getattr(options, name) or list(known)
        unknown = [one for one in asked if one not in known]
        if unknown:
            parser.error(f"--{name}: {', '.join(unknown)}: not among {'; '.join(known)}")
        setattr(options, name, asked)
    return options


def _command(options: argparse.Namespace) -> str:
    """What makes the same rows; all densities and methods where they are not named."""
    seeds = "" if options.seeds == [0] else f" --seeds {' '.join(map(str, options.seeds))}"
    return f"python -m benchmarks.objectives --rung {options.rung}{seeds}{' --quick' if options.quick else ''}"


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    """Under another name first: a kill while writing leaves the file before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(records, indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
