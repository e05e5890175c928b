"""Score matching, and what it cannot see: python examples/score_matching.py [FILE].

Two Gaussians with shares .2 and .8, far apart. Exact and sliced score matching and denoising at one noise level learn
the shape of each and leave their shares to chance; denoising at many levels, sampled from noise to data, learns both.
"""

import functools
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import energeia as en
from energeia.energies import GaussianMixture

means = torch.tensor([[-3.0, 0.0], [3.0, 1.0]])
truth = GaussianMixture(means, 0.3 * torch.eye(2).expand(2, 2, 2), torch.tensor([0.2, 0.8]))
x = truth.sample_exact(10_000, torch.Generator().manual_seed(0))


def fit(energy: en.Energy, objective: en.Objective) -> en.Energy:
    adam = functools.partial(torch.optim.Adam, lr=2e-3)
    return en.fit(energy, objective, x, num_steps=1500, batch_size=256, optimizer=adam, progress=False).energy


def left(draws: torch.Tensor) -> float:
    return float((draws[:, 0] < 0).double().mean())


nodes = torch.cartesian_prod(torch.linspace(-7, 7, 400), torch.linspace(-6, 6, 400))
figure = Figure(figsize=(11, 3), layout="constrained")
axes = figure.subplots(1, 5)
axes[0].hist2d(*x.T.numpy(), bins=80, range=[[-7, 7], [-6, 6]], cmap="magma")
axes[0].set_title("data, .20 left")
print(f"share of the left mode: data {left(x):.3f}")
objectives = {
    "exact": en.ScoreMatching(),
    "sliced": en.SlicedScoreMatching(),
    "denoising at .2": en.DenoisingScoreMatching(noise_scale=0.2),
}
for ax, (name, objective) in zip(axes[1:], objectives.items(), strict=False):
    torch.manual_seed(1)
    energy = fit(en.Neural(en.MLP(2), en.Real(2)) + en.Gaussian(2, scale=4.0), objective)
    with torch.no_grad():
        density = (-energy(nodes)).softmax(0)
    share = float(density[nodes[:, 0] < 0].sum())
    ax.imshow(density.view(400, 400).T, origin="lower", cmap="magma", extent=(-7, 7, -6, 6), aspect="auto")
    ax.set_title(f"{name}, {share:.2f} left")
    print(f"    {name}: {share:.3f}")

levels = tuple(8 * (0.05 / 8) ** (k / 9) for k in range(10))
torch.manual_seed(1)
# Chains start as wide as data with the noise of the first level.
ladder = en.NoiseConditional(en.LevelMLP(2), en.Real(2, start_scale=8.5), levels=levels, scale=3.0)
fit(ladder, en.MultiScaleDenoising())
fine = tuple(8 * (0.05 / 8) ** (k / 99) for k in range(100))
draws = en.sample(ladder, en.ReverseDiffusion(fine), num_chains=10_000, num_steps=99, progress=False).x
axes[4].hist2d(*draws.T.numpy(), bins=80, range=[[-7, 7], [-6, 6]], cmap="magma")
axes[4].set_title(f"many levels, {left(draws):.2f} left")
print(f"    denoising at many levels, draws: {left(draws):.3f}")
for ax in axes:
    ax.set_axis_off()
path = Path(sys.argv[1] if len(sys.argv) > 1 else "score-matching.png")
figure.savefig(path, dpi=120)
print(path)
