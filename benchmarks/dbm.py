"""A deep Boltzmann machine 784-500-1000 on MNIST: the variational bound of its test log-likelihood.

MNIST is read from --mnist (an .npz with x_train and x_test); a pixel of 128 or more is one. No layer is trained
before the others. Log Z is annealed from both sides, by 100 chains. --weights FILE keeps the trained weights there, and
takes them from there if they exist, for annealing without training anew.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.rbm import MNIST, bits

HIDDEN = (500, 1000)
# Updates, and the learning rate at the start and at the end of them, between which it falls evenly: 25 epochs.
STAGES = ((8025, 0.05, 0.05 * 0.703075), (6975, 0.035, 5e-5))
LEVELS = 3000


def stage(
    machine: en.DBM, objective: en.MeanFieldPosterior, x: Tensor, number: int, seed: int, *, quick: bool = False
) -> float:
    """One stage of training; seconds."""
    num_steps, first, last = STAGES[number]
    num_steps = 100 if quick else num_steps
    started = time.perf_counter()
    en.fit(
        machine,
        objective,
        x,
        num_steps=num_steps,
        batch_size=100,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=first),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, last / first, num_steps),
        average_decay=0.999 if number else None,
        log_every=100 if quick else 600,
        checkpoint_every=10**6,
        seed=seed + number,
    )
    return time.perf_counter() - started


def begin(x: Tensor, seed: int) -> tuple[en.DBM, en.MeanFieldPosterior]:
    """A machine of small weights, and PCD-1 of 100 chains with mean field of 5 sweeps at most."""
    torch.manual_seed(seed)
    contrastive = en.PersistentCD(en.BlockGibbs(), 1, num_chains=100)
    return en.DBM(784, HIDDEN, mean=x.mean(0)), en.MeanFieldPosterior(contrastive, num_sweeps=5)


def trained(x: Tensor, seed: int, quick: bool, weights: Path | None) -> tuple[en.DBM, float]:
    """The machine after all stages and the seconds they took, or what an earlier run left at weights."""
    machine, objective = begin(x, seed)
    if weights is not None and weights.exists():
        held = load_file(weights)
        seconds = float(held.pop("seconds"))
        machine.load_state_dict(held)
        return machine.eval(), seconds
    seconds = sum(stage(machine, objective, x, number, seed, quick=quick) for number in range(len(STAGES)))
    if weights is not None:
        save_file({**machine.state_dict(), "seconds": torch.tensor(seconds)}, weights)
    return machine, seconds


def rows(quick: bool, mnist: Path = MNIST, weights: Path | None = None) -> list[Row]:
    x, test = bits(mnist)
    seed, work = 0, "MNIST, DBM 784-500-1000, centred, no pretraining, 25 epochs"
    progress(work)
    machine, seconds = trained(x, seed, quick, weights)
    if quick:
        x, test = x[:1000], test[:1000]
    progress("annealing")
    started = time.perf_counter()
    found = en.variational_bound(
        machine, test, levels=LEVELS // 40 if quick else LEVELS, num_steps=100 if quick else 1000, generator=seed
    )
    lower, upper = found.log_z.details["lower"], found.log_z.details["upper"]
    on_test = found.mean + float(found.log_z.value)
    with torch.no_grad():
        on_train = -float(machine.bound(x[:2000]).double().mean())
    sweeps = machine.mean_field(test[:1000]).sweeps
    return [
        Row(work, "test bound, log Z by AIS", on_test - float(lower.value), "nats", seed),
        Row(work, "test bound, log Z by reverse AIS", on_test - float(upper.value), "nats", seed),
        Row(work, "training bound (2,000 rows), log Z by AIS", on_train - float(lower.value), "nats", seed),
        Row(work, "log Z by AIS", float(lower.value), "nats", seed),
        Row(work, "log Z by AIS: standard error", float(lower.standard_error), "nats", seed),
        Row(work, "log Z by AIS: effective weights of 100", effective(lower), "", seed),
        Row(work, "log Z by reverse AIS", float(upper.value), "nats", seed),
        Row(work, "log Z by reverse AIS: standard error", float(upper.standard_error), "nats", seed),
        Row(work, "sweeps of mean field until no mean of 1,000 rows moves by 1e-5", sweeps, "", seed),
        Row(work, "training time", seconds, "s", seed),
        Row(work, "annealing and bounds, time", time.perf_counter() - started, "s", seed),
    ]


def effective(estimate: en.LogZ) -> float:
    size = estimate.details["effective_sample_size"]
    assert isinstance(size, float)
    return size


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--mnist", type=Path, default=MNIST)
    own.add_argument("--weights", type=Path)
    options, rest = own.parse_known_args()
    sys.argv[1:] = rest
    run("dbm", lambda quick: rows(quick, options.mnist, options.weights))
