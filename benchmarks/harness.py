"""What every benchmark shares: its rows, its options, and where it ran."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from energeia.run import versions


class Row(NamedTuple):
    """One figure. who: what was measured; ratio: to the comparison named in `work`, or None."""

    work: str
    who: str
    value: float
    unit: str
    seed: int
    ratio: float | None = None


class MissingDataError(Exception):
    """Rows that this machine does not have, and how to get them."""


def run(name: str, rows_of: Callable[[bool], Sequence[Row]]) -> None:
    """python -m benchmarks.NAME [--quick] [--json FILE]."""
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and steps: to see that it runs")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = rows_of(options.quick)
    about = versions()
    machine = {key: about.pop(key) for key in ("machine", "processor")}
    command = f"python -m benchmarks.{name}" + (" --quick" if options.quick else "")
    records = [{**row._asdict(), "command": command, "versions": about, "machine": machine} for row in rows]
    for line in summary(records):
        print("  ".join(line))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(records, indent=1) + "\n")


def summary(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for each work and who: mean, smallest and largest over the seeds, median ratio."""
    lines: list[list[str]] = []
    for work, who, unit in dict.fromkeys((r["work"], r["who"], r["unit"]) for r in records):
        same = [r for r in records if (r["work"], r["who"], r["unit"]) == (work, who, unit)]
        values = [r["value"] for r in same]
        ratios = [r["ratio"] for r in same if r["ratio"] is not None]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        numbers = [_short(statistics.fmean(values)), f"{_short(min(values))} to {_short(max(values))}", unit]
        lines.append([work, who, *numbers, ratio, str(len(values))])
    return lines


def _short(value: float) -> str:
    return f"{value:.4g}"


def progress(text: str) -> None:
    """Say on the terminal what is being done."""
    print(text, file=sys.stderr, flush=True)
