"""Write the tables of docs/benchmarks.md and of the README from benchmarks/results/*.json."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.harness import summary

PAGE, README, RESULTS = Path("docs/benchmarks.md"), Path("README.md"), Path("benchmarks/results")
CHOICE = Path("docs/choose-a-sampler.md")
HEADLINES = ("test error", "samples: MMD^2 to test digits", "samples: told from test digits by a classifier")


def main() -> None:
    """Replace what stands between `<!-- table NAME -->` or `<!-- figures -->` and `<!-- end -->`."""
    page = PAGE.read_text()
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem == "samplers":
            continue
        records = json.loads(path.read_text())
        page = _filled(page, f"table {path.stem}", table(records), PAGE)
    PAGE.write_text(page)
    choice, records = CHOICE.read_text(), json.loads((RESULTS / "samplers.json").read_text())
    for mark, content in (
        ("ESS per gradient x1000", matrix(records, "ESS per gradient", scale=1000)),
        ("bias of the mean (sd)", matrix(records, "bias of the mean (sd)", bold_over="its standard error (sd)")),
        ("discrete ESS per second", matrix(records, "discrete ESS per second")),
        ("ESS per second", matrix(records, "ESS per second")),
    ):
        choice = _filled(choice, f"matrix samplers {mark}", content, CHOICE)
    CHOICE.write_text(choice)
    digits = json.loads((RESULTS / "digits.json").read_text())
    headlines = table([record for record in digits if record["work"] in HEADLINES])
    README.write_text(_filled(README.read_text(), "figures", headlines, README))


def _filled(text: str, mark: str, content: str, where: Path) -> str:
    pattern = re.compile(rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = pattern.subn(lambda found: found[1] + content + found[2], text)
    if count != 1:
        raise SystemExit(f"{where} has {count} places for <!-- {mark} -->; expected one")
    return text


def matrix(records: list[dict[str, Any]], unit: str, *, scale: float = 1.0, bold_over: str | None = None) -> str:
    """A table of one unit: what was measured down, who across; bold where it is above four of another unit."""
    wanted = [record for record in records if record["unit"] in (unit, "diverged")]
    people = list(dict.fromkeys(record["who"] for record in wanted))
    works = list(dict.fromkeys(record["work"] for record in wanted if record["unit"] == unit))
    cells = {(r["work"], r["who"], r["unit"]): r["value"] for r in records}

    def cell(work: str, who: str) -> str:
        if (work, who, "diverged") in cells:
            return "diverged"
        if (work, who, unit) not in cells:
            return ""
        value = cells[work, who, unit]
        text = f"{scale * value:.3g}"
        return f"**{text}**" if bold_over and value > 4 * cells[work, who, bold_over] else text

    lines = [
        ["", *people],
        ["---"] * (len(people) + 1),
        *([work, *(cell(work, who) for who in people)] for work in works),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + _about(records) + "\n\n"


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table of rows, with the command and the machine below it."""
    lines = summary(records)
    with_ratio = any(line[5] for line in lines)
    header = ["what", "who", "mean", "range", "unit", "speed-up", "runs"]
    keep = [i for i in range(7) if i != 5 or with_ratio]
    rows = "\n".join("| " + " | ".join(row[i] for i in keep) + " |" for row in [header, ["---"] * 7, *lines])
    return f"{rows}\n\n{_about(records)}\n\n"


def _about(records: list[dict[str, Any]]) -> str:
    """The command, seeds, versions and machine of the records."""
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    named = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    about = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    machine = ", ".join(first["machine"].values())
    return f"`{first['command']}`, {named}; {about}; {machine}."


if __name__ == "__main__":
    main()
