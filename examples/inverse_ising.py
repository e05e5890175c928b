"""Who is coupled with whom, from recordings alone: python examples/inverse_ising.py [FILE].

Twelve neurons on a ring, each coupled with its two neighbours and one far away; 20,000 moments of spiking or silence.
Correlations join nearly all pairs; the couplings that pseudo-likelihood finds are the graph.
"""

import functools
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import energeia as en

NUM_NEURONS, NUM_ROWS = 12, 20_000
edges = [(i, (i + 1) % NUM_NEURONS) for i in range(NUM_NEURONS)] + [(0, 5), (3, 9)]
generator = torch.Generator().manual_seed(0)
strength = 0.45 + 0.25 * torch.rand(len(edges), generator=generator)
strength[::5] *= -1
world = en.Ising(NUM_NEURONS, edges, couplings=strength, fields=-0.2)
spikes = en.Enumerated(world).sample_exact(NUM_ROWS, generator)

model = en.BoltzmannMachine(en.Spin(NUM_NEURONS))
en.fit(
    model,
    en.PseudoLikelihood(),
    spikes,
    num_steps=300,
    batch_size=NUM_ROWS,
    optimizer=functools.partial(torch.optim.Adam, lr=0.03),
    progress=False,
)

truth = torch.zeros(NUM_NEURONS, NUM_NEURONS)
for (first, second), value in zip(edges, strength, strict=True):
    truth[first, second] = truth[second, first] = value
found = model.couplings().detach()
print(f"couplings: rms error {(found - truth).square().mean().sqrt():.4f}, largest {(found - truth).abs().max():.4f}")
threshold = strength.abs().min() / 2
print(
    f"edges found: {int((found.abs() > threshold).sum()) // 2}, of them true: "
    f"{int(((found.abs() > threshold) & (truth != 0)).sum()) // 2}, true in all: {len(edges)}"
)
with torch.no_grad():
    for who, energy in (("found", model), ("true", world)):
        log_likelihood = -energy(spikes).mean() - en.exact_log_z(energy).value
        print(f"log-likelihood of the {who} model: {log_likelihood.item():.4f} nats a row")

figure = Figure(figsize=(9, 3), layout="constrained")
correlation = torch.corrcoef(spikes.T).fill_diagonal_(0)
for axes, (title, matrix) in zip(
    figure.subplots(1, 3),
    {"correlations": correlation, "couplings found": found, "true couplings": truth}.items(),
    strict=True,
):
    limit = float(truth.abs().max())
    axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(title, fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
path = Path(sys.argv[1] if len(sys.argv) > 1 else "inverse-ising.png")
figure.savefig(path, dpi=120)
print(path)
