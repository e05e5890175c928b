"""The phase transition of the Ising model, against Onsager's and Yang's exact curves: python examples/ising.py [FILE].

A 32 x 32 torus, one energy for each temperature T (K = 1 / T), sampled with Swendsen-Wang clusters. The lines are for
the infinite lattice; the points round them off near T = 2.269.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import ellipk

import energeia as en

SIZE, CHAINS, STEPS, WARMUP = 32, 20, 100, 50
CRITICAL = 2 / np.log(1 + np.sqrt(2))


def onsager_energy(temperature):
    """Energy of a site, Onsager (1944): -coth 2K (1 + (2 / pi) (2 tanh^2 2K - 1) K_1(k)), k = 2 sinh 2K / cosh^2 2K."""
    double = 2 / temperature
    modulus = 2 * np.sinh(double) / np.cosh(double) ** 2
    return -(1 + 2 / np.pi * (2 * np.tanh(double) ** 2 - 1) * ellipk(modulus**2)) / np.tanh(double)


def yang_magnetisation(temperature):
    """Mean spin below the critical temperature, Yang (1952): (1 - sinh^-4 2K)^(1/8)."""
    return np.maximum(1 - np.sinh(2 / temperature) ** -4.0, 0) ** 0.125


def measure(temperature):
    """Energy of a site and |mean spin|, with the standard error of the first from the chains."""
    torus = en.IsingLattice((SIZE, SIZE), coupling=1 / temperature)
    draws = en.sample(torus, en.SwendsenWang(), num_chains=CHAINS, num_steps=STEPS + WARMUP, keep="all", progress=False)
    kept = draws.kept[WARMUP:]
    with torch.no_grad():
        energies = temperature * torch.stack([torus(x) for x in kept]) / SIZE**2
    by_chain = energies.mean(0)
    return by_chain.mean().item(), (by_chain.std() / CHAINS**0.5).item(), kept.mean((2, 3)).abs().mean().item(), draws.x


temperatures = np.array([1.6, 1.8, 2.0, 2.1, 2.2, 2.25, 2.3, 2.4, 2.5, 2.7, 3.0, 3.5])
results = [measure(float(temperature)) for temperature in temperatures]
print("  T     energy a site      exact (infinite)   |mean spin|   exact")
for temperature, (energy, error, spin, _) in zip(temperatures, results, strict=True):
    exact, yang = onsager_energy(temperature), yang_magnetisation(temperature)
    print(f"{temperature:5.2f}  {energy:8.4f} +- {error:.4f}   {exact:8.4f}          {spin:8.4f}      {yang:8.4f}")

figure = Figure(figsize=(10, 5.4), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1.7, 1])
left, right = upper.subplots(1, 2)
line = np.linspace(1.5, 3.6, 400)
for axes, curve, column, name in (
    (left, onsager_energy, 0, "energy a site"),
    (right, yang_magnetisation, 2, "|mean spin|"),
):
    axes.plot(line, curve(line), color="0.3", label="exact, infinite lattice")
    axes.plot(temperatures, [result[column] for result in results], "o", color="tab:red", label="32 x 32, sampled")
    axes.axvline(CRITICAL, color="0.7", linewidth=0.8)
    axes.set(xlabel="temperature", ylabel=name)
    axes.legend(frameon=False)
for axes, number in zip(lower.subplots(1, 5), (0, 3, 5, 7, 11), strict=True):
    axes.imshow(results[number][3][0], cmap="gray_r", vmin=-1, vmax=1)
    axes.set_title(f"T = {temperatures[number]:g}", fontsize=10)
    axes.set_axis_off()
path = Path(sys.argv[1] if len(sys.argv) > 1 else "ising.png")
figure.savefig(path, dpi=120)
print(path)
