"""The joint model of digits: our recipe, the same network alone, and the book's protocol.

Every figure is measured on the test rows, which no choice was made on.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Row, progress, run
from energeia import run as runs
from energeia import settings
from energeia.train.log import read_metrics

RECIPES = ("digits", "digits-alone", "digits-book")
QUICK = ["--num_steps", "32", "--log_every", "8"]


def rows(quick: bool) -> list[Row]:
    """Train each recipe from each seed, in turn."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1 if quick else 5):
            for recipe in RECIPES:
                progress(f"seed {seed}: {recipe}")
                found += _one(recipe, seed, Path(folder) / f"{recipe}-{seed}", QUICK if quick else [])
                progress(
                    "  ".join(f"{row.work} {row.value:.4g}" for row in found if row.who == recipe and row.seed == seed)
                )
    return found


def _one(recipe: str, seed: int, folder: Path, extra: list[str]) -> list[Row]:
    config = settings.parse([recipe, "--seed", str(seed), "--progress", "false", *extra])
    for name in ("out", "report"):
        config.pop(name)
    result = runs.train(config, folder)
    numbers = runs.examine(runs.load(folder)).numbers
    metrics = read_metrics(folder)
    rows = [
        Row("test error", recipe, 100 * numbers["error"], "%", seed),
        Row("test cross entropy", recipe, numbers["losses"]["cross_entropy"], "nats", seed),
        Row("expected calibration error", recipe, numbers["ece"], "", seed),
        Row("training time", recipe, numbers["seconds"]["training"], "s", seed),
        Row("rewinds", recipe, result.rewinds, "", seed),
    ]
    if recipe == "digits-alone":
        return rows
    validation = [record["validation/loss"] for record in metrics if "validation/loss" in record]
    rows.append(Row("best validation hybrid loss", recipe, min(validation), "nats", seed))
    samples = numbers["samples"]
    for who, mark in ((recipe, ""), ("real digits", "_real")):
        if mark and recipe != "digits":
            continue
        rows.append(Row("samples: MMD^2 to test digits", who, samples[f"mmd2{mark}"], "", seed))
        told = 100 * samples[f"classifier_accuracy{mark}"]
        rows.append(Row("samples: told from test digits by a classifier", who, told, "%", seed))
    for name, scores in numbers["ood"].items():
        rows.append(Row(f"AUROC by energy against {name}", recipe, scores["energy"], "", seed))
    return rows


if __name__ == "__main__":
    run("digits", rows)
