"""Noisy digits restored by a grid of labels: python examples/restoration.py [FILE].

8 by 8 digits as bits, every pixel flipped with chance .15. A small network says what it thinks of each pixel, couplings
say how neighbours go together; both are learnt by pseudo-likelihood given the noisy picture. A minimum cut gives the
best picture of all 2^64, exactly; other searches are compared with it.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import energeia as en
from energeia.data.digits import Digits


class Unary(nn.Module):
    """From noisy pictures `[B, 8, 8]` the log potentials of 0 and 1 at each pixel, `[B, 8, 8, 2]`."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.SiLU(), nn.Conv2d(16, 16, 5, padding=2), nn.SiLU(), nn.Conv2d(16, 2, 1)
        )

    def forward(self, x):
        return self.layers(x.unsqueeze(1)).movedim(1, -1)


torch.manual_seed(0)
splits = Digits(flat=True).splits()
generator = torch.Generator().manual_seed(0)


def noisy(digits):
    """Noisy pictures, and the bits that they were."""
    clean = (digits > 0).float().view(-1, 8, 8)
    flipped = torch.rand(clean.shape, generator=generator) < 0.15
    return (clean - flipped.float()).abs(), clean.long()


(x, y), (test_x, test_y) = noisy(splits.train.x), noisy(splits.test.x)
edges, kinds = en.lattice(8, 8)
model = en.PairwiseCRF(Unary(), en.Real((8, 8)), 2, sites=(8, 8), edges=edges, kinds=kinds, joint="attractive")
en.fit(model, en.Conditioned(en.PseudoLikelihood()), (x, y), num_steps=400, batch_size=64, progress=False)

print(f"noisy: {100 * (test_x != test_y).double().mean():.2f} % of pixels wrong")
pictures = {"clean": test_y, "noisy": test_x}
searches = {
    "minimum cut": en.MinimumCut(),
    "iterated modes": en.IteratedModes(num_starts=1),
    "mean field": en.MeanFieldModes(),
    "max-product": en.MaxProduct(),
}
least = en.predict(model, test_x, en.MinimumCut()).energies
for who, search in searches.items():
    found = en.predict(model, test_x, search)
    above = (found.energies - least).mean()
    told = "exact" if found.exact else f"{above:.3f} nats above the minimum"
    print(f"{who}: {100 * (found.answers != test_y).double().mean():.2f} % of pixels wrong, {told}")
    pictures[who] = found.answers

# How sure each pixel is: loopy sum-product, which says itself that it is approximate.
found = en.predict(model, test_x, marginals=True)
chance, label = found.marginals.max(-1)
for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
    here = (chance >= low) & (chance < high)
    right = 100 * (label == test_y)[here].double().mean()
    print(f"pixels of chance {low:.2f} to {min(high, 1):.2f}: {int(here.sum())}, {right:.1f} % of them right")

figure = Figure(figsize=(8, len(pictures) * 0.85), layout="constrained")
for row, (name, shown) in zip(figure.subplots(len(pictures), 10), pictures.items(), strict=True):
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, picture in zip(row, shown, strict=False):
        axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
path = Path(sys.argv[1] if len(sys.argv) > 1 else "restoration.png")
figure.savefig(path, dpi=120)
print(path)
