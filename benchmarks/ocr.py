"""Handwritten words: linear-chain random fields with linear terms and with those of networks, by several losses.

--data FILE: letter.data.gz from http://ai.stanford.edu/~btaskar/ocr/, or an .npz file as `Sequences` reads. Fold 0
tests. Linear terms: all rows of folds 1 to 9, full-batch L-BFGS until nothing moves. Networks: the recipe ocr-crf,
whose settings were chosen by its validation rows, with the changes named; a tenth of folds 1 to 9 is left out of
training for validation, and the last averaged weights are taken. The words of all folds are the same 55: "words never
seen" are a fifth of them, left out of training altogether.
--picture FILE draws words with the first and the second reading and the gap.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import energeia as en
from benchmarks.harness import Row, progress, summary
from energeia import examination, pages, settings
from energeia import run as runs
from energeia.data import Sequences
from energeia.report.readings import readings

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RECIPE = "network of 7 letters, chain, likelihood"
ALONE = ["--energy.transitions", "false"]
ONE = ["--energy.network.context", "0"]
LARGER = "larger network of 1 letter, chain, structured hinge, 1,800 updates"
NETWORKS = {
    "network of 1 letter, alone, likelihood": [*ONE, *ALONE],
    "network of 1 letter, chain, likelihood": ONE,
    LARGER: [*ONE, "--energy.network.channels", "[32, 64]", "--objective", "StructuredHinge", "--num_steps", "1800"],
    "network of 7 letters, alone, likelihood": ALONE,
    RECIPE: [],
    "network of 7 letters, chain, structured hinge": ["--objective", "StructuredHinge"],
    "network of 7 letters, chain, margin (log)": ["--objective", "Margin", "--objective.kind", "log"],
    "network of 7 letters, chain, perceptron": ["--objective", "Perceptron"],
}
SEVERAL_SEEDS = (RECIPE, "network of 7 letters, chain, structured hinge")
UNSEEN = ("network of 1 letter, chain, likelihood", LARGER, RECIPE)


def linear(path: str, *, transitions: bool, quick: bool) -> list[Row]:
    """Linear terms of the pixels: sum of -log p(y | x) + |w|^2 / 2 over all weights, biases too."""
    source = Sequences(path, site_shape=(128,), alphabet=LETTERS, test_fold=0, validation_fraction=0.0)
    train, test = source.splits().train, source.splits().test
    assert train.y is not None
    assert test is not None
    assert test.y is not None
    network = torch.nn.Linear(128, 26)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    space = en.Real(source.event_shape)
    energy = en.LinearChain(network, space, 26, padding=-1.0, per_site=True, transitions=transitions)
    weights = [p for p in energy.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(
        weights,
        max_iter=10 if quick else 300,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-8,
    )
    loss, generator = en.ConditionalLikelihood(), torch.Generator()
    batches = list(zip(train.x.split(2048), train.y.split(2048), strict=True))

    def objective() -> float:
        optimizer.zero_grad()
        total = 0.5 * sum((w.square().sum() for w in weights), torch.zeros(()))
        # Of the mean over words, so that steps are of a size; the minimum is the same.
        (total / len(train.x)).backward()
        value = float(total.detach())
        for x, y in batches:
            part = loss(energy, en.Batch(x, y), generator).value * len(x)
            (part / len(train.x)).backward()
            value += float(part.detach())
        return value / len(train.x)

    started = time.perf_counter()
    optimizer.step(objective)
    seconds = time.perf_counter() - started
    who = f"linear, {'chain' if transitions else 'alone'}, likelihood, L2 1"
    return _rows(who, en.assess(energy, test.x, test.y), 0, seconds)


def network(who: str, path: str, seed: int, folder: Path, *, quick: bool, changes: tuple[str, ...] = ()) -> list[Row]:
    """The recipe with the changes of `NETWORKS`."""
    steps = ["--num_steps", "20"] if quick else []
    words = ["ocr-crf", "--data.path", path, *NETWORKS[who], *changes, *steps]
    place = _place(folder, who, seed, "".join(changes))
    result = runs.train(settings.parse([*words, "--seed", str(seed), "--progress", "false"]), place)
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    found = examination.examine(runs.load(place))
    assert found.answers is not None
    name = f"words never seen: {who}" if changes else who
    return _rows(name, found.answers.assessment, seed, found.numbers["seconds"]["training"])


def _place(folder: Path, who: str, seed: int, changes: str = "") -> Path:
    """The run directory."""
    return folder / f"{list(NETWORKS).index(who)}-{seed}{changes}"


def by_word(path: str, folder: Path) -> str:
    """The same letters with folds of different words: no word of the test fold is trained on."""
    batch = Sequences(path, site_shape=(16, 8), alphabet=LETTERS).read(path, (1, 16, 8))
    assert batch.y is not None
    spelled = ["".join(LETTERS[label] for label in row if label >= 0) for row in batch.y.tolist()]
    different = sorted(set(spelled))
    order = np.random.default_rng(0).permutation(len(different))
    fold = {word: int(place) % 5 for word, place in zip(different, order, strict=True)}
    there = batch.y >= 0
    target = folder / "by-word.npz"
    np.savez(
        target,
        x=batch.x[there].numpy(),
        y=batch.y[there].numpy(),
        lengths=there.sum(1).numpy(),
        fold=np.array([fold[word] for word in spelled]),
    )
    return str(target)


def draw(folder: Path, target: Path) -> None:
    """Words of the test fold as a trained run reads them."""
    found = examination.examine(runs.load(folder))
    assert found.answers is not None
    shown = pages.some_readings(found.real, found.answers, tuple(LETTERS), num=4)
    assert shown is not None
    readings(shown).savefig(target)


def _rows(who: str, found: en.Assessment, seed: int, seconds: float) -> list[Row]:
    progress(f"{who}, seed {seed}: letters {found.site_error:.4f}, words {found.row_error:.4f}, {seconds:.0f} s")
    rows = [
        Row(who, "letter error", 100 * found.site_error, "%", seed),
        Row(who, "word error", 100 * found.row_error, "%", seed),
        Row(who, "second reading right", 100 * found.second_right, "%", seed),
        Row(who, "training", seconds, "s", seed),
    ]
    if found.gap_auroc is not None:
        rows.append(Row(who, "gap larger if right", 100 * found.gap_auroc, "%", seed))
    if found.reliability is not None:
        rows.append(Row(who, "calibration error", 100 * found.reliability.ece, "%", seed))
    return rows


def main() -> None:
    """python -m benchmarks.ocr --data FILE [--quick] [--json FILE] [--picture FILE]."""
    parser = argparse.ArgumentParser("python -m benchmarks.ocr")
    parser.add_argument("--data", default="letter.data.gz", help="the letters (default letter.data.gz)")
    parser.add_argument("--quick", action="store_true", help="one seed and few steps: to see that it runs")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--picture", type=Path, help="file for a picture of words")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        sys.exit(_skip(options.data))
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for rows in _all(options.data, Path(name), quick=options.quick, picture=options.picture):
            found += rows
            if options.json:
                _save(found, options.json, quick=options.quick)
    for line in summary([row._asdict() for row in found]):
        print("  ".join(line))


def _all(path: str, folder: Path, *, quick: bool, picture: Path | None) -> Iterator[list[Row]]:
    """Every model in turn."""
    for transitions in (False, True):
        yield linear(path, transitions=transitions, quick=quick)
    for seed in range(1 if quick else 3):
        for who in NETWORKS if seed == 0 else SEVERAL_SEEDS:
            yield network(who, path, seed, folder, quick=quick)
            if picture and who == RECIPE and seed == 0:
                draw(_place(folder, who, seed), picture)
    other = by_word(path, folder)
    for who in UNSEEN:
        yield network(who, other, 0, folder, quick=quick, changes=("--data.test_fold", "0"))


def _save(found: list[Row], target: Path, *, quick: bool) -> None:
    """Write what is known so far: it takes minutes."""
    about: dict[str, Any] = runs.versions()
    machine = {key: about.pop(key) for key in ("machine", "processor")}
    command = "python -m benchmarks.ocr --data letter.data.gz" + (" --quick" if quick else "")
    records = [{**row._asdict(), "command": command, "versions": about, "machine": machine} for row in found]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(records, indent=1) + "\n")


def _skip(path: str) -> int:
    progress(
        f"skipped: there is no {path}. Handwritten words: get letter.data.gz from http://ai.stanford.edu/~btaskar/ocr/ "
        "and give it: python -m benchmarks.ocr --data letter.data.gz"
    )
    return 0


if __name__ == "__main__":
    main()
