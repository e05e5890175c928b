"""How often the interval of log Z covers the truth: twenty restricted Boltzmann machines whose log Z can be listed.

Each is hidden behind a wrapper that knows no exact answer, so that `en.bracket` has to anneal, and draws its own
chains. Ten runs each at the default effort, and one at some sixty seconds of one core.
"""

import statistics
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from energeia.core.energy import Bipartite, Capability, Pairwise

PIXELS = 64
# Levels and steps that take about a minute of one core with 100 chains.
LONG = 50_000


class Hidden(en.Energy):
    """An energy without the exact log Z and the exact draws that it has."""

    def __init__(self, energy: en.Energy) -> None:
        super().__init__(energy.space)
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.energy(x)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """The conditionals alone."""
        return self.energy.capability(kind) if kind in (Bipartite, en.Conditional, Pairwise) else None


class Case(NamedTuple):
    """A machine, and the rows that a user would have (None: none)."""

    name: str
    machine: en.RBM
    rows: Tensor | None


def cases(quick: bool) -> Iterator[Case]:
    """Random weights from small to hard, then what scikit-learn and we make of digits, from barely trained on."""
    levels, _ = load_digits(return_X_y=True)
    pixels = torch.as_tensor(levels >= 8).double()
    x, held = pixels[:1350], pixels[1350:]
    for number, scale in enumerate([0.1, 0.3, 0.6, 1.0, 1.5, 2.5]):
        torch.manual_seed(number)
        machine = en.RBM(PIXELS, 16 + number % 5, weight_scale=scale).double()
        with torch.no_grad():
            machine.bias.normal_()
            machine.hidden_bias.normal_()
        yield Case(f"random weights of {scale:g}", machine, None)
    for number, epochs in enumerate([3, 10, 30, 60, 100, 200, 400]):
        made = BernoulliRBM(16 + number % 5, learning_rate=0.05, n_iter=2 if quick else epochs, random_state=number)
        made.fit(x.numpy())
        yield Case(f"scikit-learn, {epochs} epochs", _copied(made), held)
    for number, steps in enumerate([100, 300, 1000, 3000, 10_000, 20_000, 40_000]):
        torch.manual_seed(number)
        machine = en.RBM(PIXELS, 16 + number % 5, mean=x.float().mean(0))
        objective = en.PersistentCD(en.BlockGibbs(), 1, num_chains=100)
        en.fit(
            machine,
            objective,
            x.float(),
            num_steps=min(steps, 100 if quick else steps),
            batch_size=100,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
            checkpoint_every=10**6,
            progress=False,
            seed=number,
        )
        yield Case(f"ours, {steps} updates", machine.double(), held)


def _copied(made: BernoulliRBM) -> en.RBM:
    machine = en.RBM(PIXELS, len(made.intercept_hidden_), centred=False).double()
    with torch.no_grad():
        machine.weight.copy_(torch.tensor(np.asarray(made.components_)).T)
        machine.bias.copy_(torch.tensor(np.asarray(made.intercept_visible_)))
        machine.hidden_bias.copy_(torch.tensor(np.asarray(made.intercept_hidden_)))
    return machine


class Told(NamedTuple):
    """What one run said, against the truth."""

    inside: bool
    width: float
    error: float
    lower: float
    upper: float
    seconds: float
    warned: bool


def told(case: Case, exact: float, levels: int, seed: int) -> Told:
    """One bracket, with as many steps for the draws from above as levels."""
    began = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = en.bracket(Hidden(case.machine), case.rows, levels=levels, num_steps=levels, generator=seed)
    seconds = time.process_time() - began
    low, high = float(found.low), float(found.high)
    lower, upper = (float(found.details[side].value) - exact for side in ("lower", "upper"))
    return Told(low <= exact <= high, high - low, float(found.value) - exact, lower, upper, seconds, bool(caught))


def rows(quick: bool) -> list[Row]:
    """Rows of unit "coverage" for the table, and every run by itself."""
    found: list[Row] = []
    totals: dict[str, list[Told]] = {}
    efforts = {"default": (100 if quick else 1000, 2 if quick else 10), "long": (200 if quick else LONG, 1)}
    for case in cases(quick):
        exact = float(en.exact_log_z(case.machine).value)
        found += [
            Row(case.name, "hidden units", case.machine.weight.shape[1], "coverage", 0),
            Row(case.name, "log Z", exact, "coverage", 0),
        ]
        for effort, (levels, number) in efforts.items():
            runs = [told(case, exact, levels, seed) for seed in range(number)]
            totals.setdefault(effort, []).extend(runs)
            found += [Row(case.name, *line, "coverage", 0) for line in _summary(effort, runs)]
            for seed, one in enumerate(runs):
                found += [
                    Row(case.name, f"{effort}: {name}", float(value), "one run", seed)
                    for name, value in one._asdict().items()
                ]
            progress(f"{case.name} {effort}: {sum(one.inside for one in runs)} of {number} inside, {runs[0]}")
    for effort, runs in totals.items():
        found += [Row("all", *line, "coverage", 0) for line in _summary(effort, runs)]
    return found


def _summary(effort: str, runs: list[Told]) -> list[tuple[str, float]]:
    return [
        (f"{effort}: inside, of {'all' if len(runs) > 10 else len(runs)}", sum(one.inside for one in runs)),
        (f"{effort}: median width (nats)", statistics.median(one.width for one in runs)),
        (f"{effort}: median size of the error (nats)", statistics.median(abs(one.error) for one in runs)),
        (f"{effort}: median seconds", statistics.median(one.seconds for one in runs)),
    ]


if __name__ == "__main__":
    run("coverage", rows)
