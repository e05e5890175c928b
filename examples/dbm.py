"""A deep Boltzmann machine of scikit-learn's 8 x 8 digits: python examples/dbm.py [FILE]; a minute or two on one core.

The picture shows held-out digits, samples, and what units of both hidden layers see: for h_1 its weights, for h_2
its weights times those of h_1.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor

import energeia as en

path = Path(sys.argv[1] if len(sys.argv) > 1 else "dbm.png")
digits = torch.from_numpy(load_digits().data).float().gt(7).float()
digits = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
train, test = digits[:1500], digits[1500:]

torch.manual_seed(0)
machine = en.DBM(64, (100, 50), mean=train.mean(0))
num_steps = 12_000
en.fit(
    machine,
    en.MeanFieldPosterior(en.PersistentCD(en.BlockGibbs(), 1, num_chains=100)),
    train,
    num_steps=num_steps,
    batch_size=100,
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-3, num_steps),
    average_decay=0.999,
)
found = en.variational_bound(machine, test, levels=2000)
print(f"log p of held-out digits is at least {found.mean:.2f} nats ({found.low:.2f} to {found.high:.2f})")
print("log Z by", found.log_z.method)

below, above = machine.joint.weights
strongest = above.norm(dim=0).argsort(descending=True)
parts: dict[str, Tensor] = {
    "held-out digits": test[:48],
    "samples": machine.sample(48, num_steps=3000),
    "what h1 sees": below.detach().T[below.norm(dim=0).argsort(descending=True)[:48]],
    "what h2 sees": (below @ above).detach().T[strongest[:48]],
}
figure = Figure(figsize=(13, 3), layout="constrained")
for axes, (title, x) in zip(figure.subplots(1, 4), parts.items(), strict=True):
    each = x / x.abs().amax(1, keepdim=True).clamp_min(1e-6)
    framed = torch.nn.functional.pad(each.view(6, 8, 8, 8), (0, 1, 0, 1))
    axes.imshow(framed.permute(0, 2, 1, 3).reshape(54, 72), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()
figure.savefig(path, dpi=150)
print(path)
