"""Contrastive divergence and what repairs it: python examples/chains_and_kin.py.

Two moons, the same network each time. CD-10 by Langevin, whose step leaves a bias; by MALA, which has none;
`ImprovedCD` with the entropy of the chain's last steps and the gradient through them; `EnergyMatching`, a flow from
noise to data that ends in their density. Held-out log p is exact, by quadrature, and the truth is known.
"""

import functools
import time

import torch

import energeia as en
from energeia.data import Toy

toy = Toy("two_moons")
splits = toy.splits()
x, test = splits.train.x, splits.test.x
print(f"log p of the truth: {-float(toy.density.entropy()):.3f} nats a row")
langevin, mala = en.Langevin(step_size=4e-3), en.MALA(step_size=1e-2)
ways = {
    "CD-10, Langevin": (lambda: en.ContrastiveDivergence(langevin, 10), 400, 1e-2),
    "CD-10, MALA": (lambda: en.ContrastiveDivergence(mala, 10), 400, 1e-2),
    "improved CD": (lambda: en.ImprovedCD(en.ContrastiveDivergence(langevin, 9), langevin), 400, 5e-3),
    "energy matching": (
        lambda: en.EnergyMatching(en.ContrastiveDivergence(mala, 10), until=0.5, weight=10.0, warmup=100),
        400,
        5e-3,
    ),
}
for name, (make, num_steps, rate) in ways.items():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, widths=(128, 128, 128)), en.Real(2)) + en.Gaussian(2, scale=2.0)
    began = time.perf_counter()
    en.fit(
        energy,
        make(),
        x,
        num_steps=num_steps,
        batch_size=256,
        optimizer=functools.partial(torch.optim.Adam, lr=rate),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=num_steps),
        average_decay=0.99,
        progress=False,
    )
    seconds = time.perf_counter() - began
    print(f"{name}: {float(en.log_likelihood(energy, test).mean):.3f} nats a row, {seconds:.0f} s")
