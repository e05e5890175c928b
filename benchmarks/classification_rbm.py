"""Classification RBMs on MNIST: discriminative, generative and hybrid training of one machine.

MNIST is read from --mnist (an .npz with x_train, y_train, x_test, y_test); a pixel of 128 or more is one. The
first 50,000 training pictures train, the last 10,000 choose the epoch by their error, the test pictures are
looked at once, with the weights chosen.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.rbm import MNIST
from energeia.tasks.classify import classify

PARTS = ("hybrid", "discriminative", "generative")
BATCH = 100


def labelled(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Bits `[N, 784]` and labels, in three parts."""
    if not path.exists():
        sys.exit(f"{path} is not there: give the file of MNIST pictures with --mnist PATH")
    with np.load(path) as held:
        x, test = (torch.from_numpy((held[name] >= 128).reshape(-1, 784)).float() for name in ("x_train", "x_test"))
        y, test_y = (torch.from_numpy(held[name].astype(np.int64)) for name in ("y_train", "y_test"))
    return {
        "train": (x[:50_000], y[:50_000]),
        "validation": (x[50_000:], y[50_000:]),
        "test": (test, test_y),
    }


def objective(part: str, weight: float) -> en.Objective:
    """Generative training is the hybrid with the cross entropy and log p(x) weighed alike: -log p(x, y)."""
    if part == "discriminative":
        return en.CrossEntropy()
    negatives = en.PersistentCD(en.BlockGibbs(), 1, num_chains=BATCH)
    return en.Joint(negatives, weight=1.0 if part == "generative" else weight)


def train(
    part: str, rows: dict[str, tuple[Tensor, Tensor]], num_hidden: int, epochs: int, weight: float, seed: int
) -> list[Row]:
    """Adam, whose learning rate falls to nothing, averaged weights, the epoch of the least validation error."""
    torch.manual_seed(seed)
    x = rows["train"][0]
    machine = en.ClassificationRBM(784, num_hidden, 10, mean=x.mean(0))
    num_steps = epochs * len(x) // BATCH
    work = f"MNIST 784-{num_hidden}-10, {epochs} epochs, {part}" + (f", weight {weight:g}" if part == "hybrid" else "")
    progress(f"seed {seed}: {work}")
    wall, cpu = time.perf_counter(), time.process_time()
    found = en.fit(
        machine,
        objective(part, weight),
        rows["train"],
        num_steps=num_steps,
        batch_size=BATCH,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-2, num_steps),
        average_decay=0.999,
        validation=rows["validation"],
        monitor="error",
        select="best",
        log_every=500,
        checkpoint_every=10**6,
        seed=seed,
        progress=False,
    )
    seconds, core_seconds = time.perf_counter() - wall, time.process_time() - cpu
    errors = [float(record["validation/error"]) for record in found.records if "validation/error" in record]
    progress("validation errors, %: " + " ".join(f"{100 * error:.2f}" for error in errors))
    chosen = [classify(machine, *rows[name]) for name in ("train", "validation", "test")]
    return [
        Row(work, "test error", 100 * chosen[2].error, "%", seed),
        Row(work, "test cross entropy", chosen[2].cross_entropy, "nats", seed),
        Row(work, "validation error", 100 * chosen[1].error, "%", seed),
        Row(work, "training error", 100 * chosen[0].error, "%", seed),
        Row(work, "epoch chosen", 1 + errors.index(min(errors)), "", seed),
        Row(work, "training time", seconds, "s", seed),
        Row(work, "training time of the processor", core_seconds, "s", seed),
    ]


def rows_of(quick: bool, options: argparse.Namespace) -> list[Row]:
    data = labelled(options.mnist)
    epochs, num_hidden = (1, 50) if quick else (options.epochs, options.hidden)
    found: list[Row] = []
    for part in options.parts:
        found += train(part, data, num_hidden, epochs, options.weight, 0)
    return found


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--mnist", type=Path, default=MNIST)
    own.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    own.add_argument("--hidden", type=int, default=500)
    own.add_argument("--epochs", type=int, default=40)
    own.add_argument("--weight", type=float, default=0.002)
    chosen_options, rest = own.parse_known_args()
    sys.argv[1:] = rest
    run("classification_rbm", lambda quick: rows_of(quick, chosen_options))
