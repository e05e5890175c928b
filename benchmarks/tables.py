"""Write the tables of docs/benchmarks.md and of the README from benchmarks/results/*.json."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.harness import summary

PAGE, README, RESULTS = Path("docs/benchmarks.md"), Path("README.md"), Path("benchmarks/results")
HEADLINES = ("test error", "samples: MMD^2 to test digits", "samples: told from test digits by a classifier")


def main() -> None:
    """Replace what stands between `<!-- table NAME -->` or `<!-- figures -->` and `<!-- end -->`."""
    page = PAGE.read_text()
    for path in sorted(RESULTS.glob("*.json")):
        records = json.loads(path.read_text())
        page = _filled(page, f"table {path.stem}", table(records), PAGE)
    PAGE.write_text(page)
    digits = json.loads((RESULTS / "digits.json").read_text())
    headlines = table([record for record in digits if record["work"] in HEADLINES])
    README.write_text(_filled(README.read_text(), "figures", headlines, README))


def _filled(text: str, mark: str, content: str, where: Path) -> str:
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = pattern.subn(lambda found: found[1] + content + found[2], text)
    if count != 1:
        raise SystemExit(f"{where} has {count} places for <!-- {mark} -->; expected one")
    return text


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table of rows, with the command and the machine below it."""
    lines = summary(records)
    with_ratio = any(line[5] for line in lines)
    header = ["what", "who", "mean", "range", "unit", "speed-up", "runs"]
    keep = [i for i in range(7) if i != 5 or with_ratio]
    rows = "\n".join("| " + " | ".join(row[i] for i in keep) + " |" for row in [header, ["---"] * 7, *lines])
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    named = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    about = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    machine = ", ".join(first["machine"].values())
    return f"{rows}\n\n`{first['command']}`, {named}; {about}; {machine}.\n\n"


if __name__ == "__main__":
    main()
