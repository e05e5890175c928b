"""Small runs on a number of processes: fits.py DEVICES FOLDER."""

import functools
import sys
from pathlib import Path

import torch

import energeia as en

OBJECTIVES = {
    "exact": lambda: en.ExactLikelihood(num_nodes=10),
    "data": lambda: en.ContrastiveDivergence(en.Langevin(step_size=0.1, noise_scale=0.0), num_steps=3),
    "chains": lambda: en.PersistentCD(en.Langevin(step_size=0.1), num_steps=3, num_chains=4, capacity=6, fresh=0.2),
}


def run(kind, folder, *, devices, num_steps=20, resume=False):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    # 13 rows in batches of 4: the last batch of an epoch has one row, for two processes.
    rows = torch.randn(13, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).clamp(-1, 1)
    en.fit(
        en.Neural(network, en.Box(2)),
        OBJECTIVES[kind](),
        rows,
        num_steps=num_steps,
        batch_size=4,
        validation=rows[:5],
        validate_every=5,
        # Not Adam: it would blow the rounding error of gradients that are zero up to its full rate.
        optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5),
        average_decay=0.9,
        run_dir=folder,
        resume=resume,
        log_every=5,
        checkpoint_every=10,
        devices=devices,
        accelerator="cpu",
        progress=False,
    )


if __name__ == "__main__":
    number, place = int(sys.argv[1]), Path(sys.argv[2])
    for name in OBJECTIVES:
        run(name, place / name, devices=number)
    run("chains", place / "parts", devices=number, num_steps=10)
    run("chains", place / "parts", devices=number, resume=True)
