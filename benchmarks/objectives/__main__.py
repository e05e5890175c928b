"""The ladder: every objective on the same problems, against the truth.

python -m benchmarks.objectives [--rung planar] [--densities NAME ...] [--methods NAME ...] [--seeds N ...]
    [--json FILE [--resume]] [--picture FILE] [--quick]

The rows are written after every model, so nothing is lost when it is stopped; --resume goes on and does what FILE
lacks. The heat maps are kept in a folder beside FILE, so --picture with --resume draws them all.
"""

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.harness import Row, progress, summary
from benchmarks.objectives import pictures, plane
from benchmarks.objectives.methods import METHODS
from energeia.core.errors import DivergenceError
from energeia.run import versions

RUNGS = ("planar",)


def main() -> None:
    """Train what was asked for and is not there yet."""
    options = _options()
    kept: list[dict[str, Any]] = []
    if options.resume and options.json and options.json.is_file():
        kept = json.loads(options.json.read_text())
    done = {(record["work"], record["who"], record["seed"]) for record in kept}
    folder = options.json.with_suffix(".maps") if options.json else None
    drawn: dict[tuple[str, str], Tensor] = {}
    about = versions()
    machine = {key: about.pop(key) for key in ("machine", "processor")}
    command = _command(options)
    for method in options.methods:
        for name in options.densities:
            for seed in options.seeds:
                if (plane.work(name), method, seed) in done:
                    picture = pictures.load(folder, name, method, seed) if folder else None
                    if picture is not None:
                        drawn.setdefault((name, method), picture)
                    continue
                began = time.perf_counter()
                try:
                    rows, picture = plane.cell(name, method, seed, options.quick)
                    drawn.setdefault((name, method), picture)
                    if folder:
                        pictures.save(folder, name, method, seed, picture)
                except DivergenceError as error:
                    progress(f"{name}, {method}: {error}")
                    rows = [Row(plane.work(name), method, 1.0, "diverged", seed)]
                told = ", ".join(f"{row.unit} {row.value:.4g}" for row in rows[:3])
                progress(f"{name}, {method}, seed {seed}: {told}; {time.perf_counter() - began:.0f} s")
                kept += [{**r._asdict(), "command": command, "versions": about, "machine": machine} for r in rows]
                if options.json:
                    _write(options.json, kept)
    for line in summary([record for record in kept if record["unit"] in ("nats above the truth", "diverged")]):
        print("  ".join(line))
    if options.picture:
        pictures.draw(drawn, options.picture)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.objectives")
    parser.add_argument("--rung", choices=RUNGS, default="planar")
    parser.add_argument("--densities", nargs="+", choices=plane.DENSITIES, default=list(plane.DENSITIES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", type=Path, help="file for the rows, written after every model")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the file, and do what it lacks")
    parser.add_argument("--picture", type=Path, help="file for the heat maps")
    parser.add_argument("--quick", action="store_true", help="a few steps: to see that it runs")
    return parser.parse_args()


def _command(options: argparse.Namespace) -> str:
    """What makes the same rows; all densities and methods where they are not named."""
    words = ["python -m benchmarks.objectives", "--rung", options.rung]
    if options.seeds != [0]:
        words += ["--seeds", *map(str, options.seeds)]
    return shlex.join(words[1:]).join([f"{words[0]} ", " --quick" if options.quick else ""])


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    """Under another name first: a kill while writing leaves the file before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(records, indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
