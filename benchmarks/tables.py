"""Write the tables of docs/benchmarks.md from benchmarks/results/*.json."""

import json
import re
from pathlib import Path

from benchmarks.harness import summary

PAGE, RESULTS = Path("docs/benchmarks.md"), Path("benchmarks/results")


def main() -> None:
    """Replace what stands between `<!-- table NAME -->` and `<!-- end -->` in the page."""
    page = PAGE.read_text()
    for path in sorted(RESULTS.glob("*.json")):
        pattern = re.compile(rf"(<!-- table {path.stem} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = pattern.subn(lambda found, path=path: found[1] + table(path) + found[2], page)
        if count != 1:
            raise SystemExit(f"{PAGE} has {count} places for the table {path.stem}; expected one")
    PAGE.write_text(page)


def table(path: Path) -> str:
    """A Markdown table of a result file, with the command and the machine below it."""
    records = json.loads(path.read_text())
    lines = summary(records)
    with_ratio = any(line[5] for line in lines)
    header = ["what", "who", "mean", "range", "unit", "speed-up", "runs"]
    keep = [i for i in range(7) if i != 5 or with_ratio]
    text = [header, ["---"] * 7, *lines]
    rows = "\n".join("| " + " | ".join(row[i] for i in keep) + " |" for row in text)
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    about = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    machine = ", ".join(first["machine"].values())
    return f"{rows}\n\n`{first['command']}`, seeds {seeds[0]} to {seeds[-1]}; {about}; {machine}.\n\n"


if __name__ == "__main__":
    main()
