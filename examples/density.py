"""A density and its outliers in scikit-learn's terms: python examples/density.py [FILE].

The checkerboard, 10,000 rows: `Density` beside scikit-learn's kernel density (its bandwidth the best of several on test
rows) and mixture, in nats above the truth, which is known here, and as a picture. Then tumours: trained on benign ones
alone, which others does it call outliers?
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import energeia as en
from energeia.energies import Planar

board = Planar("checkerboard", dtype=torch.float64)
X, test = (board.sample_exact(10_000, torch.Generator().manual_seed(seed)).numpy() for seed in (0, 1))
entropy = float(board(torch.from_numpy(test)).mean())
line = np.linspace(-2.4, 2.4, 180)
grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
models = {
    "Density": en.Density(random_state=0),
    "KernelDensity": KernelDensity(bandwidth=0.05),
    "GaussianMixture": GaussianMixture(32, random_state=0),
}
figure = Figure(figsize=(13, 3.8), layout="constrained")
axes = figure.subplots(1, 4)
truth = np.exp(-board(torch.from_numpy(grid)).numpy()).reshape(180, 180)
axes[0].imshow(truth, origin="lower", cmap="magma", vmin=0, vmax=1.5 * truth.max())
axes[0].set_title("the truth")
for axis, (name, model) in zip(axes[1:], models.items(), strict=True):
    began = time.perf_counter()
    model.fit(X)
    gap = -entropy - float(model.score_samples(test).mean())
    print(f"{name}: {gap:.3f} nats above the truth, {time.perf_counter() - began:.1f} s")
    density = np.exp(model.score_samples(grid)).reshape(180, 180)
    axis.imshow(density, origin="lower", cmap="magma", vmin=0, vmax=1.5 * truth.max())
    axis.set_title(f"{name}: {gap:.3f} nats")
for axis in axes:
    axis.set_axis_off()
figure.savefig(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("density.png"), dpi=110)

X, benign = load_breast_cancer(return_X_y=True)
normal, malignant = X[benign == 1], X[benign == 0]
model = en.Density(random_state=0, contamination=0.05).fit(normal[:285])
held_out = np.concatenate([normal[285:], malignant])
strange = np.arange(len(held_out)) >= len(normal) - 285
print(f"area under the curve: {roc_auc_score(strange, -model.score_samples(held_out)):.3f}")
called = model.predict(held_out) == -1
print(f"called outliers: {called[strange].mean():.0%} of malignant, {called[~strange].mean():.0%} of benign tumours")
