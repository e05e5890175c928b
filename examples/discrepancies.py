"""Discrepancies that need neither chains nor noise models: python examples/discrepancies.py [NAME].

One of the densities of the plane (two_moons, rings, mixture, ...), the same network each time. Held-out log p is exact,
by quadrature, and the truth is known. Stein's discrepancies see the score alone, so they may give the moons any shares;
energy discrepancy sees what its noise connects.
"""

import functools
import sys
import time

import torch

import energeia as en
from energeia.data import Toy

toy = Toy(sys.argv[1] if len(sys.argv) > 1 else "two_moons")
splits = toy.splits()
entropy = float(toy.density.entropy())
torch.manual_seed(0)
ways = {
    "energy discrepancy, noise of .1": (lambda: en.EnergyDiscrepancy(0.1), 1e-2),
    "energy discrepancy, noise of .5": (lambda: en.EnergyDiscrepancy(0.5), 1e-2),
    "kernel Stein": (en.KernelStein, 1e-2),
    "learned Stein": (lambda: en.LearnedStein(en.MLP(2, 2)), 1e-3),
}
print(f"entropy of the data: {entropy:.3f} nats")
for name, (make, rate) in ways.items():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, widths=(128, 128, 128)), en.Real(2)) + en.Gaussian(2, scale=2.0)
    began = time.process_time()
    adam = functools.partial(torch.optim.Adam, lr=rate)
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000)
    en.fit(
        energy,
        make(),
        splits.train.x,
        num_steps=1000,
        batch_size=256,
        optimizer=adam,
        scheduler=schedule,
        average_decay=0.99,
        progress=False,
    )
    seconds = time.process_time() - began
    found = en.log_likelihood(energy, splits.test.x)
    print(f"{name:32} {-found.mean - entropy:+.3f} nats above the truth, {seconds:4.0f} s")
