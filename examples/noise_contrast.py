"""Densities by telling data from noise, with log Z for nothing: python examples/noise_contrast.py.

Two moons, the same network each time. The noise is a Gaussian, a mixture or kernels fitted to the data, or a flow that
learns while the energy does; held-out log p is exact, by quadrature, and the truth is known.
"""

import functools
import time

import torch

import energeia as en
from energeia.data import Toy

moons = Toy("two_moons")
splits = moons.splits()
x, test = splits.train.x, splits.test.x
space = en.Real(2)
entropy = float(moons.density.entropy())
objectives = {
    "Gaussian noise": lambda: en.NoiseContrast(en.fitted_noise(space, x), ratio=4),
    "a mixture of 8": lambda: en.NoiseContrast(en.fitted_noise(space, x, kind="mixture", num_components=8), ratio=4),
    "ranking": lambda: en.RankingNCE(en.fitted_noise(space, x), ratio=8),
    "conditional noise": lambda: en.ConditionalNCE(scale=0.5),
    "a flow that learns": lambda: en.FlowContrast(en.Flow.spline(space, x=x, widths=(32, 32))),
}
print(f"entropy of the data: {entropy:.3f} nats")
for name, make in objectives.items():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, widths=(128, 128, 128)), space) + en.Gaussian(2, scale=2.0)
    objective = make()
    began = time.process_time()
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    schedule = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000)
    en.fit(
        energy,
        objective,
        x,
        num_steps=1000,
        batch_size=512,
        optimizer=adam,
        scheduler=schedule,
        average_decay=0.99,
        progress=False,
    )
    seconds = time.process_time() - began
    found = en.log_likelihood(energy, test)
    line = f"{name:20} {-found.mean - entropy:+.3f} nats above the truth, {seconds:4.0f} s"
    if isinstance(objective, en.NoiseContrast):
        line += f"; log Z learned {float(objective.log_z):.3f}, exact {float(found.log_z.value):.3f}"
    print(line)
