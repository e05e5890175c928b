"""How many patterns a Hopfield network holds: python examples/hopfield.py [FILE].

Random patterns are stored by Hebb's rule and each is looked up from itself and from a copy with a tenth of its bits
wrong. Above a load P / N of .138 nothing comes back, as Amit, Gutfreund & Sompolinsky (1985) worked out; their curve,
for infinite N, is m = erf y with sqrt(2 load) = erf(y) / y - (2 / sqrt pi) exp(-y^2).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import erf

import energeia as en

SIZE, SEEDS = 300, 2
LOADS = (0.02, 0.05, 0.08, 0.11, 0.13, 0.15, 0.17, 0.2, 0.25)


def overlap(load, *, wrong, seed):
    """Mean s's' / N of what is found with what was stored."""
    generator = torch.Generator().manual_seed(seed)
    patterns = en.Spin(SIZE).start(round(load * SIZE), generator)
    network = en.hebb(patterns)
    cues = patterns[:50].clone()
    cues[torch.rand(cues.shape, generator=generator) < wrong] *= -1
    return float((en.retrieve(network, cues).x * patterns[:50]).mean())


def theory():
    """Load and overlap of the stored patterns' minima, as long as they exist."""
    y = np.linspace(6, 0.8, 2000)
    load = (erf(y) / y - 2 / np.sqrt(np.pi) * np.exp(-(y**2))) ** 2 / 2
    stable = slice(0, int(load.argmax()) + 1)
    return load[stable], erf(y[stable])


load, exact = theory()
print(f"capacity for infinite N: {load[-1]:.4f}, overlap there {exact[-1]:.4f}")
found = {}
for wrong in (0.0, 0.1):
    found[wrong] = [np.mean([overlap(load, wrong=wrong, seed=seed) for seed in range(SEEDS)]) for load in LOADS]
print("load   overlap from the pattern   from a spoilt copy")
for number, at in enumerate(LOADS):
    print(f"{at:.2f}   {found[0.0][number]:.4f}                     {found[0.1][number]:.4f}")

figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.subplots()
axes.plot(load, exact, color="0.3", label="theory, infinite network")
axes.plot([load[-1]] * 2, [exact[-1], 0.35], color="0.3", linestyle=":")
axes.plot(LOADS, found[0.0], "o", color="tab:red", label=f"N = {SIZE}, from the pattern")
axes.plot(LOADS, found[0.1], "s", color="tab:blue", label="from a copy with 10 % wrong", markersize=4)
axes.set(xlabel="load P / N", ylabel="overlap with the stored pattern", ylim=(0.2, 1.03))
axes.legend(frameon=False)
path = Path(sys.argv[1] if len(sys.argv) > 1 else "hopfield.png")
figure.savefig(path, dpi=120)
print(path)
