"""The second rung: small tables of scikit-learn, where nobody knows the truth; held-out nats against yardsticks.

log Z of an energy is annealed from both sides (`en.bracket`) from the Gaussian that its network stands on; the ends of
its interval are told. Columns are standardised by the training rows, so nats of different tables do not compare.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import zuko
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor

import energeia as en
from benchmarks.harness import Row
from benchmarks.objectives.methods import by
from benchmarks.objectives.plane import Measured
from energeia.energies import CorrelatedGaussian

CASES = ("breast cancer", "wine", "digits, dequantised")
_LOADERS = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits, dequantised": load_digits}
_HELD_OUT = 0.15


class Judged(NamedTuple):
    """log q of the test rows, and the ends between which their mean lies."""

    log_q: Tensor
    low: float = 0.0
    high: float = 0.0
    evaluations: int = 0


# From training rows, test rows, a seed and whether a few steps are enough.
Judge = Callable[[Tensor, Tensor, int, bool], Judged]


def work(name: str) -> str:
    """How the rows of a table are called."""
    return f"tabular: {name}"


def data(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """Four fifths to train, one to test, dealt out by the seed; digits are spread by uniform noise first."""
    values, _ = _LOADERS[name](return_X_y=True)
    generator = torch.Generator().manual_seed(seed)
    x = torch.as_tensor(values, dtype=torch.float64)
    if name.startswith("digits"):
        x = x + torch.rand(x.shape, generator=generator, dtype=x.dtype)
    x = x[torch.randperm(len(x), generator=generator)]
    train, test = x[: len(x) * 4 // 5], x[len(x) * 4 // 5 :]
    # Pixels that no digit uses vary by the noise alone.
    mean, deviation = train.mean(0), train.std(0)
    return ((train - mean) / deviation).float(), ((test - mean) / deviation).float()


def network(rows: Tensor) -> en.Energy:
    """A network on the Gaussian of the rows, its covariance shrunk as Ledoit and Wolf do."""
    size = rows.shape[1]
    return en.Neural(en.MLP(size, widths=(128, 128)), en.Real(size)) + _gaussian(rows)


def _gaussian(rows: Tensor) -> CorrelatedGaussian:
    fitted = LedoitWolf().fit(rows.double().numpy())
    return CorrelatedGaussian(
        torch.from_numpy(fitted.covariance_).float(), mean=torch.from_numpy(fitted.location_).float()
    )


def annealed(
    objective: Callable[[Tensor], en.Objective], *, num_steps: int = 600, held_out: float = _HELD_OUT
) -> Judge:
    """An objective; the weights are those whose loss was best on held-out rows."""
    trainer = by(objective, num_steps=num_steps, learning_rate=1e-3, batch_size=128, held_out=held_out, model=network)

    def judge(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
        trained = trainer(train, seed, quick)
        energy = trained.energy
        assert isinstance(energy, en.Energy)
        effort = 20 if quick else 500
        found = en.bracket(energy, test, base=_gaussian(train), levels=effort, num_steps=effort, generator=seed)
        with torch.no_grad():
            energies = energy(test).double()
        mean = -energies.mean()
        return Judged(-energies - found.value, float(mean - found.high), float(mean - found.low), trained.evaluations)

    return judge


def _gaussian_alone(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    gaussian = _gaussian(train)
    return Judged(-gaussian(test).double() - gaussian.log_z().value)


def _mixture(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """scikit-learn's, its number of components and kind the best on held-out rows."""
    kept, held = _cut(train)
    kinds = [(number, kind) for number in (1, 2, 3, 5, 8, 12) for kind in ("full", "tied", "diag")]
    made = {
        kind: GaussianMixture(kind[0], covariance_type=kind[1], reg_covar=1e-2, random_state=seed).fit(kept).score(held)
        for kind in kinds
    }
    number, kind = max(made, key=lambda one: made[one])
    best = GaussianMixture(number, covariance_type=kind, reg_covar=1e-2, random_state=seed).fit(train.double().numpy())
    return Judged(torch.from_numpy(best.score_samples(test.double().numpy())))


def _kernels(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """scikit-learn's, its bandwidth the best on held-out rows."""
    kept, held = _cut(train)
    widths = [0.05 * 2 ** (number / 2) for number in range(14)]
    best = max(widths, key=lambda width: KernelDensity(bandwidth=width).fit(kept).score(held))
    fitted = KernelDensity(bandwidth=best).fit(train.double().numpy())
    return Judged(torch.from_numpy(fitted.score_samples(test.double().numpy())))


def _flow(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """A masked autoregressive flow of zuko; the weights are those that were best on held-out rows."""
    torch.manual_seed(seed)
    held, kept = train[: round(_HELD_OUT * len(train))], train[round(_HELD_OUT * len(train)) :]
    flow = zuko.flows.MAF(train.shape[1], transforms=3, hidden_features=(64, 64))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    best, found = -float("inf"), torch.empty(0)
    for step in range(30 if quick else 1500):
        x = kept[torch.randint(len(kept), (128,), generator=generator)]
        optimizer.zero_grad()
        (-flow().log_prob(x).mean()).backward()
        optimizer.step()
        if step % 15 == 14:
            with torch.no_grad():
                score = float(flow().log_prob(held).mean())
                if score > best:
                    best, found = score, flow().log_prob(test).double()
    return Judged(found)


METHODS: dict[str, Judge] = {
    "Gaussian": _gaussian_alone,
    "Gaussian mixture": _mixture,
    "kernel density": _kernels,
    "autoregressive flow": _flow,
    "PCD, MALA": annealed(lambda rows: en.PersistentCD(en.MALA(step_size=0.02), 10, num_chains=128), held_out=0.0),
    "score matching": annealed(lambda rows: en.SlicedScoreMatching(num_projections=4)),
    "denoising, noise of .2": annealed(lambda rows: en.DenoisingScoreMatching(noise_scale=0.2)),
    "energy discrepancy": annealed(lambda rows: en.EnergyDiscrepancy(0.3, num_samples=16)),
}


def cell(name: str, method: str, seed: int, quick: bool) -> Measured:
    """One model of one table."""
    train, test = data(name, seed)
    began = time.process_time()
    judged = METHODS[method](train, test, seed, quick)
    seconds = time.process_time() - began
    numbers = {
        "nats a row, test": float(judged.log_q.mean()),
        "standard error of that": float(judged.log_q.std() / len(test) ** 0.5),
        "seconds of a core": seconds,
        "network evaluations": float(judged.evaluations),
    }
    if judged.low:
        numbers = {**numbers, "nats a row, low end": judged.low, "nats a row, high end": judged.high}
    return Measured([Row(work(name), method, value, unit, seed) for unit, value in numbers.items()], None)


def _cut(train: Tensor) -> tuple[Any, Any]:
    """Rows to fit and rows to choose by, as arrays."""
    rows = train.double().numpy()
    cut = round(_HELD_OUT * len(rows))
    return rows[cut:], rows[:cut]
