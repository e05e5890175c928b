"""A deep Boltzmann machine 784-500-1000 on MNIST: the variational bound of its test log-likelihood.

MNIST is read from --mnist (an .npz with x_train and x_test); a pixel of 128 or more is one. No layer is trained
before the others. Log Z is annealed from both sides. --weights FILE keeps the trained weights there, and takes
them from there if they exist, for annealing without training anew.
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
LEVELS = 4000


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
