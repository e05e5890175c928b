"""Fill the tables of docs/*.md and of the README from benchmarks/results/*.json.

A table stands between a mark and `<!-- end -->`:
    <!-- table NAME -->                          every row of NAME.json
    <!-- table NAME: without TEXT -->            those whose work does not contain the text
    <!-- table NAME: with TEXT -->               those whose work does
    <!-- headlines NAME -->                      those of HEADLINES
    <!-- matrix NAME: UNIT -->                   one unit: works down, who across
    <!-- matrix NAME: UNIT, times 1000 -->       the same, scaled
    <!-- matrix NAME: UNIT, bold above 4 OTHER --> bold where it is above four of another unit
    <!-- matrix NAME: UNIT, works TEXT -->       works that begin so (cut off) across, who down
    <!-- matrix NAME: UNIT, medians, works TEXT --> the same, medians over the seeds with least and most, not means
    <!-- required NAME -->                       the ratios that were asked for, and those measured
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import summary
from benchmarks.required import required

RESULTS = Path("benchmarks/results")
PAGES = (Path("README.md"), *sorted(Path("docs").rglob("*.md")))
HEADLINES = ("test error", "samples: MMD^2 to test digits", "samples: told from test digits by a classifier")
_MARK = re.compile(r"(<!-- (table|headlines|matrix|required) (\w+)(?:: (.*?))? -->\n).*?(<!-- end -->)", re.DOTALL)

Records = list[dict[str, Any]]


def main() -> None:
    """Fill every mark; says which results no page shows."""
    shown: set[str] = set()

    def filled(found: re.Match[str]) -> str:
        mark, kind, name, detail, end = found.groups()
        shown.add(name)
        records = json.loads((RESULTS / f"{name}.json").read_text())
        return f"{mark}{_content(kind, records, detail or '')}\n\n{_about(records)}\n\n{end}"

    for page in PAGES:
        page.write_text(_MARK.sub(filled, page.read_text()))
    for path in RESULTS.glob("*.json"):
        if path.stem not in shown:
            print(f"{path} is on no page")


def _content(kind: str, records: Records, detail: str) -> str:
    if kind == "table":
        wanted, text = not detail.startswith("without "), detail.removeprefix("without ").removeprefix("with ")
        return table([record for record in records if (text in record["work"]) == wanted])
    if kind == "headlines":
        return table([record for record in records if record["work"] in HEADLINES])
    if kind == "required":
        return _lines([["work", "asked", "measured", ""], *required(records)])
    unit, scale, bold_over = detail, 1.0, None
    if ", times " in detail:
        unit, factor = detail.split(", times ")
        scale = float(factor)
    elif ", works " in detail:
        unit, start = detail.split(", works ")
        unit, medians = unit.removesuffix(", medians"), unit.endswith(", medians")
        kept = [record for record in records if record["work"].startswith(start)]
        return matrix(
            [{**r, "work": r["who"], "who": r["work"].removeprefix(start)} for r in kept], unit, medians=medians
        )
    elif ", bold above 4 " in detail:
        unit, bold_over = detail.split(", bold above 4 ")
    return matrix(records, unit, scale=scale, bold_over=bold_over)


def matrix(
    records: Records, unit: str, *, scale: float = 1.0, bold_over: str | None = None, medians: bool = False
) -> str:
    """A table of one unit, means over the seeds, or medians with least and most; "diverged" where a run did."""
    runs: dict[tuple[str, str, str], list[float]] = {}
    for record in records:
        runs.setdefault((record["work"], record["who"], record["unit"]), []).append(record["value"])
    middle = statistics.median if medians else statistics.fmean
    cells = {place: middle(values) for place, values in runs.items()}
    works = list(dict.fromkeys(work for work, _, one in cells if one == unit))
    people = list(dict.fromkeys(who for work, who, one in cells if work in works and one in (unit, "diverged")))

    def cell(work: str, who: str) -> str:
        if (work, who, "diverged") in cells:
            return "diverged"
        if (work, who, unit) not in cells:
            return ""
        value = cells[work, who, unit]
        text = f"{scale * value:.3g}"
        several = runs[work, who, unit]
        if medians and len(several) > 1:
            text += f" ({scale * min(several):.2g} to {scale * max(several):.2g})"
        return f"**{text}**" if bold_over and abs(value) > 4 * cells[work, who, bold_over] else text

    return _lines([["", *people], *([work, *(cell(work, who) for who in people)] for work in works)])


def table(records: Records) -> str:
    """All rows, with means and ranges over the seeds."""
    lines = summary(records)
    with_ratio = any(line[5] for line in lines)
    header = ["what", "who", "mean", "range", "unit", "speed-up", "runs"]
    # With one run each there is no range.
    single = {3, 6} if all(line[6] == "1" for line in lines) else set[int]()
    keep = [i for i in range(7) if (i != 5 or with_ratio) and i not in single]
    if single:
        header[2] = "measured"
    return _lines([[row[i] for i in keep] for row in [header, *lines]])


def _lines(rows: list[list[str]]) -> str:
    """Markdown, the first row as its head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def _about(records: Records) -> str:
    """The command, seeds, versions and machine of the records."""
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    named = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    about = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    machines = dict.fromkeys(", ".join(record["machine"].values()) for record in records)
    machine = "; ".join(machines)
    return f"`{first['command']}`, {named}; {about}; {machine}."


if __name__ == "__main__":
    main()
