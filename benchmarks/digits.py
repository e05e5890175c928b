"""The joint model of digits: our recipe, the same network alone, and the book's protocol.

Every figure is measured on the test rows, which no choice was made on.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Row, progress, run
from energeia import examination, settings
from energeia import run as runs
from energeia.train.log import read_metrics

PLAIN = "digits-alone, no augmentation"
RECIPES = {
    "digits": ["digits"],
    "digits-alone": ["digits-alone"],
    PLAIN: ["digits-alone", "--objective.augment", "null"],
    "digits-book": ["digits-book"],
}
QUICK = ["--num_steps", "32", "--log_every", "8"]


def rows(quick: bool) -> list[Row]:
    """Train each recipe from each seed, in turn."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1 if quick else 5):
            for number, (who, words) in enumerate(RECIPES.items()):
                progress(f"seed {seed}: {who}")
                one = _one(who, [*words, *(QUICK if quick else [])], seed, Path(folder) / f"{number}-{seed}")
                progress("  ".join(f"{row.work} {row.value:.4g}" for row in one if row.who == who))
                found += one
    return found


def _one(who: str, words: list[str], seed: int, folder: Path) -> list[Row]:
    config = settings.parse([*words, "--seed", str(seed), "--progress", "false"])
    result = runs.train(config, folder)
    numbers = examination.examine(runs.load(folder)).numbers
    metrics = read_metrics(folder)
    rows = [
        Row("test error", who, 100 * numbers["error"], "%", seed),
        Row("test cross entropy", who, numbers["losses"]["cross_entropy"], "nats", seed),
        Row("expected calibration error", who, numbers["ece"], "", seed),
        Row("training time", who, numbers["seconds"]["training"], "s", seed),
        Row("rewinds", who, result.rewinds, "", seed),
    ]
    if who.startswith("digits-alone"):
        return rows
    validation = [record["validation/loss"] for record in metrics if "validation/loss" in record]
    rows.append(Row("best validation hybrid loss", who, min(validation), "nats", seed))
    samples = numbers["samples"]
    for name, mark in ((who, ""), ("real digits", "_real")):
        if mark and who != "digits":
            continue
        rows.append(Row("samples: MMD^2 to test digits", name, samples[f"mmd2{mark}"], "", seed))
        told = 100 * samples[f"classifier_accuracy{mark}"]
        rows.append(Row("samples: told from test digits by a classifier", name, told, "%", seed))
    for name, scores in numbers["ood"].items():
        rows.append(Row(f"AUROC by energy against {name}", who, scores["energy"], "", seed))
    return rows


if __name__ == "__main__":
    run("digits", rows)
