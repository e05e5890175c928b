"""Regression with an energy, against a Gaussian network and a mixture density network: held-out nats.

    python -m benchmarks.regression [--quick] [--json FILE] [--picture FILE]

Every model has features of x of the same size, the same optimiser, the same number of updates of the same number of
rows, and the weights of the validation with the best held-out likelihood. p(y | x) of the energies is normalised by
quadrature on 400 nodes; the largest change of a mean on 800 is told. Answers are standardised with the training rows,
so nats are of y in units of its standard deviation (the branches: of y itself).

The branches: x uniform on (-3, 3). With weight w(x), from 0 on the left to .4 on the right, y is log-normal above a
falling line (skewed, with a heavy tail); else it is normal around a sine, narrow on the left and wide on the right.
"""

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import fetch_california_housing, load_diabetes
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress, summary
from energeia.core.nodes import integration_nodes
from energeia.run import versions
from energeia.search import all_energies

WIDTH = 64
NUM_PARTS = 8
NODES = 400


class Split(NamedTuple):
    """Rows (x `[N, D]`, y `[N, 1]`) of one seed."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class Branches:
    """p(y | x), known: see above."""

    def weight(self, x: Tensor) -> Tensor:
        return 0.4 * torch.sigmoid(3 * (x + 0.5))

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        w, rise = self.weight(x), y - (0.5 - 0.5 * x)
        spread = 0.08 + 0.1 * (x + 3) / 2
        sine = -((y - 1.5 * torch.sin(1.5 * x) + 1) ** 2) / (2 * spread**2) - spread.log()
        log_rise = rise.clamp_min(1e-12).log()
        skewed = torch.where(rise > 0, -((log_rise + 0.5) ** 2) / (2 * 0.6**2) - math.log(0.6) - log_rise, -torch.inf)
        return torch.logaddexp((1 - w).log() + sine, w.log() + skewed) - math.log(2 * math.pi) / 2

    def sample(self, num_rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = 6 * torch.rand(num_rows, 1, generator=generator) - 3
        noise = torch.randn(num_rows, 1, generator=generator)
        sine = 1.5 * torch.sin(1.5 * x) - 1 + (0.08 + 0.1 * (x + 3) / 2) * noise
        skewed = 0.5 - 0.5 * x + (0.6 * noise - 0.5).exp()
        upper = torch.rand(num_rows, 1, generator=generator) < self.weight(x)
        return x, torch.where(upper, skewed, sine)

    def entropy(self) -> float:
        """E of -log p(y | x), by quadrature."""
        x = torch.linspace(-3, 3, 401, dtype=torch.float64)[:, None]
        y = torch.linspace(-6, 20, 40_001, dtype=torch.float64)[None]
        log_p = self.log_prob(x, y)
        inner = torch.trapezoid(-torch.where(log_p > -700, log_p.exp() * log_p, 0.0), y[0], dim=1)
        return float(torch.trapezoid(inner, x[:, 0]) / 6)


class EnergyNetwork(nn.Module):
    """f(h, y) + y^2 / 8: a network beside a wide normal, which makes every p(y | x) normalisable."""

    def __init__(self) -> None:
        super().__init__()
        self.network = en.MLP(WIDTH + 1, widths=(WIDTH, WIDTH))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        return self.network(torch.cat([h, y], 1)).squeeze(1) + y.square().sum(1) / 8


class MixtureNetwork(nn.Module):
    """-log sum_k w_k(h) N(y; m_k(h), s_k(h)^2): a mixture density network; of one part, a Gaussian network."""

    def __init__(self, num_parts: int) -> None:
        super().__init__()
        self.head = en.MLP(WIDTH, 3 * num_parts, widths=(WIDTH,))
        self.centres = nn.Parameter(torch.linspace(-1.5, 1.5, num_parts) if num_parts > 1 else torch.zeros(1))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        weight, mean, log_scale = self.head(h).chunk(3, 1)
        # No narrower than 1/100: a part on one row would otherwise make the likelihood infinite.
        scale = nn.functional.softplus(log_scale) + 0.01
        parts = -((y - mean - self.centres) ** 2) / (2 * scale**2) - scale.log() - math.log(2 * math.pi) / 2
        return -(weight.log_softmax(1) + parts).logsumexp(1)


class Judged(en.Objective):
    """Trained by one objective, judged on held-out rows by -log p(y | x), by quadrature, in nats."""

    def __init__(self, objective: en.Objective) -> None:
        super().__init__()
        self.objective, self.exact = objective, en.ConditionalLikelihood(num_nodes=NODES // 2)

    def forward(self, energy: en.Energy, batch: en.Batch, generator: torch.Generator) -> en.Loss:
        return (self.objective if self.training else self.exact)(energy, batch, generator)


def nats(energy: en.Energy, rows: tuple[Tensor, Tensor], num_nodes: int = NODES) -> float:
    """mean -log p(y | x)."""
    objective = en.ConditionalLikelihood(num_nodes=num_nodes)
    total = 0.0
    with torch.no_grad():
        for x, y in zip(rows[0].split(256), rows[1].split(256), strict=True):
            total += len(x) * float(objective(energy, en.Batch(x, y), torch.Generator()).value)
    return total / len(rows[0])


SCALES = (0.1, 0.5, 2.0)
Model = tuple[Callable[[], nn.Module], Callable[[], en.Objective]]
MODELS: dict[str, Model] = {
    "Gaussian network": (lambda: MixtureNetwork(1), en.EnergyLoss),
    f"mixture density network, {NUM_PARTS} parts": (lambda: MixtureNetwork(NUM_PARTS), en.EnergyLoss),
    "energy, quadrature": (EnergyNetwork, lambda: en.ConditionalLikelihood(num_nodes=120)),
    "energy, ranking, shared centre": (EnergyNetwork, lambda: en.ConditionalRanking(SCALES, num_noise=64)),
    "energy, ranking, noise around y": (
        EnergyNetwork,
        lambda: en.ConditionalRanking(SCALES, num_noise=64, centre="answer"),
    ),
    "energy, CD, 20 steps of MALA": (
        EnergyNetwork,
        lambda: en.Conditioned(en.ContrastiveDivergence(en.MALA(step_size=0.01), 20)),
    ),
}


def fitted(who: str, split: Split, seed: int, num_steps: int) -> en.Energy:
    torch.manual_seed(seed)
    num_dims = split.train[0].shape[1]
    make, objective = MODELS[who]
    features = nn.Sequential(en.MLP(num_dims, WIDTH, widths=(WIDTH,)), nn.SiLU())
    energy = en.from_pair(make(), en.Real(num_dims), en.Real(1), features=features)
    en.fit(
        energy,
        Judged(objective()),
        split.train,
        num_steps=num_steps,
        batch_size=64,
        optimizer=functools.partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-2),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=num_steps),
        average_decay=0.99,
        validation=split.validation,
        validate_every=num_steps // 15,
        select="best",
        gradient_clip=10.0,
        seed=seed,
        progress=False,
    )
    return energy


def branches(seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(*(Branches().sample(number, generator) for number in (2000, 500, 1000)))


def table(x: np.ndarray, y: np.ndarray, seed: int, most: int = 10_000) -> Split:
    """60 % train, 20 % validation, 20 % test, standardised with the first."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:most]
    both = [torch.tensor(values, dtype=torch.float32)[order] for values in (x, y[:, None])]
    first, second = int(0.6 * len(order)), int(0.8 * len(order))
    whole = [(values - values[:first].mean(0)) / values[:first].std(0) for values in both]
    parts = (slice(first), slice(first, second), slice(second, None))
    return Split(*((whole[0][part], whole[1][part]) for part in parts))


def tables(quick: bool) -> dict[str, tuple[Callable[[int], Split], int, int]]:
    """The problems, each with a split for a seed, a number of updates and a number of seeds."""
    held: Any = load_diabetes(return_X_y=True)
    found: dict[str, tuple[Callable[[int], Split], int, int]] = {
        "branches": (branches, 90 if quick else 2000, 3),
        "diabetes": (functools.partial(table, *held), 90 if quick else 600, 5),
    }
    try:
        held = fetch_california_housing(return_X_y=True, download_if_missing=False)
    except OSError:
        progress("california housing: left out, it is not among scikit-learn's files here (fetch_california_housing)")
    else:
        found["california housing"] = (functools.partial(table, *held), 90 if quick else 2000, 3)
    return found


def one(work: str, split: Split, seed: int, num_steps: int) -> tuple[list[Row], dict[str, en.Energy]]:
    rows: list[Row] = []
    energies: dict[str, en.Energy] = {}
    worst = 0.0
    for who in MODELS:
        began = time.process_time()
        energies[who] = energy = fitted(who, split, seed, num_steps)
        seconds = time.process_time() - began
        held_out, finer = nats(energy, split.test), nats(energy, split.test, 2 * NODES)
        worst = max(worst, abs(held_out - finer))
        progress(f"{work}, seed {seed}: {who}: {held_out:.3f} nats, {seconds:.0f} s")
        rows.append(Row(f"{work}: -log p(y given x), test rows", who, held_out, "nats", seed))
        rows.append(Row(f"{work}: training, processor", who, seconds, "s", seed))
    rows.append(Row(f"{work}: change on twice the nodes, largest", "all", worst, "nats", seed))
    if work == "branches":
        truth = -float(Branches().log_prob(*split.test).mean())
        rows.append(Row(f"{work}: -log p(y given x), test rows", "the truth", truth, "nats", seed))
        rows.append(Row(f"{work}: entropy, by quadrature", "the truth", Branches().entropy(), "nats", seed))
    return rows, energies


def picture(path: Path, energies: dict[str, en.Energy], rows: tuple[Tensor, Tensor]) -> None:
    """p(y | x) of the truth and the models, side by side, from white to dark; the rows in the first panel."""
    x, y = torch.linspace(-3, 3, 240), torch.linspace(-3.5, 5, 400)
    panels = {"rows": None, "truth": Branches().log_prob(x[:, None], y[None]).exp()}
    for who, energy in energies.items():
        bound = en.given(energy, context=x[:, None])
        with torch.no_grad():
            states, log_weight = integration_nodes(en.Real(1), NODES, dtype=torch.float32)
            log_z = (log_weight - all_energies(bound, states)).logsumexp(1, keepdim=True)
            panels[who] = (-all_energies(bound, y[:, None]) - log_z).exp()
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True)
    for axis, (who, density) in zip(axes.flat, panels.items(), strict=True):
        axis.set_title(who, fontsize=10)
        if density is None:
            axis.scatter(rows[0], rows[1], s=2, color="black")
            axis.set_ylim(float(y[0]), float(y[-1]))
        else:
            # The square root: else the narrow part on the left is all that can be seen.
            axis.imshow(
                density.T.sqrt(), origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=2.0, extent=(-3, 3, -3.5, 5)
            )
    figure.supxlabel("x")
    figure.supylabel("y")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.regression")
    parser.add_argument("--quick", action="store_true", help="one seed, few updates: to see that it runs")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--picture", type=Path, help="file for the densities of the branches, seed 0")
    options = parser.parse_args()
    rows: list[Row] = []
    for work, (make, num_steps, num_seeds) in tables(options.quick).items():
        for seed in range(1 if options.quick else num_seeds):
            split = make(seed)
            found, energies = one(work, split, seed, num_steps)
            rows += found
            if options.picture and work == "branches" and seed == 0:
                picture(options.picture, energies, split.train)
    about = versions()
    machine = {key: about.pop(key) for key in ("machine", "processor")}
    command = "python -m benchmarks.regression" + (" --quick" if options.quick else "")
    records = [{**row._asdict(), "command": command, "versions": about, "machine": machine} for row in rows]
    for line in summary(records):
        print("  ".join(line))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
