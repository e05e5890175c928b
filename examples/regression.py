"""Regression with an energy where two answers are right: python examples/regression.py [FILE].

y lies on one of two branches, one of them skewed, so p(y | x) is no normal. An energy E(x, y) is trained to find the
right answer among noisy ones (`ConditionalRanking`), and log Z(x) is a quadrature in y. Beside it stands a network that
gives a mean and a standard deviation. The picture shows both densities, and the best answers.
"""

import functools
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import energeia as en


def draw(number: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = 6 * torch.rand(number, 1, generator=generator) - 3
    noise = torch.randn(number, 1, generator=generator)
    upper = torch.rand(number, 1, generator=generator) < 0.35
    return x, torch.where(upper, 0.5 - 0.3 * x + (0.5 * noise - 0.5).exp(), torch.sin(1.5 * x) - 1 + 0.2 * noise)


class Surface(nn.Module):
    """E = f(h, y) + y^2 / 8, normalisable whatever f."""

    def __init__(self) -> None:
        super().__init__()
        self.network = en.MLP(33, widths=(64, 64))

    def forward(self, h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.network(torch.cat([h, y], 1)).squeeze(1) + y.square().sum(1) / 8


class Normal(nn.Module):
    """-log N(y; m(h), s(h)^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = en.MLP(32, 2, widths=(64,))

    def forward(self, h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, log_scale = self.network(h).unbind(1)
        return -torch.distributions.Normal(mean, log_scale.exp()).log_prob(y[:, 0])


generator = torch.Generator().manual_seed(0)
train, test = draw(2000, generator), draw(1000, generator)
# The normal is normalised, so that its mean energy is its likelihood.
models = {
    "normal": (Normal, en.EnergyLoss()),
    "energy": (Surface, en.ConditionalRanking([0.1, 0.5, 2.0], num_noise=32)),
}
energies: dict[str, en.Energy] = {}
for name, (make, objective) in models.items():
    torch.manual_seed(0)
    features = nn.Sequential(en.MLP(1, 32, widths=(64,)), nn.SiLU())
    energies[name] = en.from_pair(make(), en.Real(1), en.Real(1, start_scale=1.5), features=features)
    en.fit(
        energies[name],
        objective,
        train,
        num_steps=1000,
        batch_size=64,
        optimizer=functools.partial(torch.optim.Adam, lr=3e-3),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000),
        progress=False,
    )
    with torch.no_grad():
        nats = en.ConditionalLikelihood(num_nodes=400)(energies[name], en.Batch(*test), generator).value
    print(f"{name}: -log p(y | x) of {len(test[0])} held-out rows: {float(nats):.3f} nats")

x, y = torch.linspace(-3, 3, 150)[:, None], torch.linspace(-3, 4, 300)[:, None]
figure = Figure(figsize=(10, 4), layout="constrained")
axes = figure.subplots(1, 2, sharey=True)
for axis, (name, energy) in zip(axes, energies.items(), strict=True):
    bound = en.given(energy, context=x.repeat_interleave(len(y), 0))
    with torch.no_grad():
        density = (-bound(y.repeat(len(x), 1))).view(len(x), len(y)).softmax(1)
    axis.imshow(density.T.sqrt(), origin="lower", aspect="auto", cmap="Greys", extent=(-3, 3, -3, 4))
    axis.scatter(*test, s=1, alpha=0.3)
    best = en.predict(energy, x, en.Descent(num_starts=5))
    axis.plot(x, best.answers, ".", markersize=2, color="tab:red", label="the best answer")
    axis.set(title=name, xlabel="x", ylabel="y")
axes[0].legend()
path = Path(sys.argv[1] if len(sys.argv) > 1 else "regression.png")
figure.savefig(path, dpi=120)
print(path)
