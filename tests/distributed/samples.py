"""Samples on a number of processes: samples.py DEVICES FILE."""

import sys
from pathlib import Path

import torch

import energeia as en

SEED, NUM_STEPS, NUM_CHAINS, WARMUP = 3, 12, 9, 40


def energy():
    return en.any_of(en.Gaussian(2).double(), en.Gaussian(2, mean=torch.tensor([3.0, 1.0]).double()))


if __name__ == "__main__":
    devices, file = int(sys.argv[1]), Path(sys.argv[2])
    draws = en.sample_parallel(
        energy(),
        en.HMC(),
        num_steps=NUM_STEPS,
        num_chains=NUM_CHAINS,
        warmup=WARMUP,
        keep="all",
        devices=devices,
        accelerator="cpu",
        seed=SEED,
    )
    # Every process has all draws; each writes its own copy.
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save([draws.x, draws.kept, *draws.info], file.with_suffix(f".{rank}"))
