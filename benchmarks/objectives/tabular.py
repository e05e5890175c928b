"""The second rung: small tables of scikit-learn, where nobody knows the truth; held-out nats against yardsticks.

log Z of an energy is annealed from both sides (`en.bracket`) from what its network stands on; the ends of its interval
are told. Columns are standardised by the training rows, so nats of different tables do not compare. Whatever has to be
chosen (components, bandwidths, when to stop) is chosen by held-out training rows, and then fitted to all of them.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import zuko
from sklearn.datasets import fetch_california_housing, load_breast_cancer, load_digits, load_wine
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor

import energeia as en
from benchmarks.harness import MissingDataError, Row
from benchmarks.objectives.methods import Counter
from benchmarks.objectives.plane import Measured
from energeia.energies.gaussians import GaussianMixture as Components

_LOADERS: dict[str, Callable[..., Any]] = {
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "digits, dequantised": load_digits,
    # 20,640 rows; looked for on this machine, never fetched by itself.
    "California housing": functools.partial(fetch_california_housing, download_if_missing=False),
}
CASES = tuple(_LOADERS)
_HELD_OUT = 0.15
# Updates of a network, and how often it is held against the held-out rows.
_STEPS, _EVERY = 600, 20
Base = Literal["Gaussian", "mixture"]
_NUMBERS: dict[Base, Sequence[int]] = {"Gaussian": (1,), "mixture": (1, 2, 3, 5, 8, 12)}


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
    try:
        values, _ = _LOADERS[name](return_X_y=True)
    except OSError as error:
        raise MissingDataError(
            f"{name} is not in scikit-learn's data folder; fetch it once: "
            "python -c 'from sklearn.datasets import fetch_california_housing as f; f()'"
        ) from error
    generator = torch.Generator().manual_seed(seed)
    x = torch.as_tensor(values, dtype=torch.float64)
    if name.startswith("digits"):
        x = x + torch.rand(x.shape, generator=generator, dtype=x.dtype)
    x = x[torch.randperm(len(x), generator=generator)]
    train, test = x[: len(x) * 4 // 5], x[len(x) * 4 // 5 :]
    # Pixels that no digit uses vary by the noise alone.
    mean, deviation = train.mean(0), train.std(0)
    return ((train - mean) / deviation).float(), ((test - mean) / deviation).float()


class Fitted(NamedTuple):
    """scikit-learn's mixture, fitted without the rows that chose it, and to all."""

    kept: GaussianMixture
    all: GaussianMixture


def mixture(train: Tensor, kind: Base, seed: int) -> Fitted:
    """scikit-learn's: its number, kind and least variance of components the best on held-out rows."""
    kept, held = (part.double().numpy() for part in _cut(train))

    def fitted(rows: Any, number: int, covariances: str, least: float) -> GaussianMixture:
        return GaussianMixture(number, covariance_type=covariances, reg_covar=least, random_state=seed).fit(rows)

    ways = [
        (number, covariances, least)
        for number in _NUMBERS[kind]
        for covariances in (("full",) if number == 1 else ("full", "tied", "diag"))
        for least in (1e-3, 1e-2, 1e-1)
    ]
    made = {way: fitted(kept, *way) for way in ways}
    best = max(ways, key=lambda way: made[way].score(held))
    return Fitted(made[best], fitted(train.double().numpy(), *best))


def tractable(found: Any) -> Components:
    """The density of a mixture of scikit-learn as an energy."""
    number, size = found.means_.shape
    given = torch.as_tensor(found.covariances_)
    if found.covariance_type == "diag":
        given = torch.diag_embed(given)
    covariances = given.expand(number, size, size)
    means, weights = torch.as_tensor(found.means_), torch.as_tensor(found.weights_)
    return Components(means.float(), covariances.float(), weights.float())


def annealed(
    objective: Callable[[Components], en.Objective],
    *,
    base: Base = "Gaussian",
    num_steps: int = _STEPS,
    learning_rate: float = 1e-3,
    early: bool = True,
) -> Judge:
    """A network on the Gaussian, or mixture, of the rows.

    early: stop where the objective was lowest on held-out rows; that many updates are then made with all rows.
    """

    def judge(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
        reference = mixture(train, base, seed)
        under = tractable(reference.all)
        size = train.shape[1]

        def fitted(below: Components, rows: Tensor, held: Tensor | None, updates: int) -> tuple[en.Energy, int, int]:
            torch.manual_seed(seed)
            energy = en.Neural(en.MLP(size, widths=(128, 128)), en.Real(size)) + below
            counter = Counter(energy)
            result = en.fit(
                energy,
                objective(below),
                rows,
                validation=held,
                validate_every=None if held is None else _EVERY,
                num_steps=updates,
                batch_size=128,
                optimizer=functools.partial(torch.optim.Adam, lr=learning_rate),
                scheduler=lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(made, num_steps),
                average_decay=0.98,
                log_every=_EVERY,
                checkpoint_every=num_steps,
                seed=seed,
                progress=False,
            )
            if result.stopped == "interrupted":
                sys.exit("stopped: the model in training is left out; --resume makes it again")
            told = {
                record["step"]: record["validation/loss"] for record in result.records if "validation/loss" in record
            }
            return energy, min(told, key=lambda step: told[step], default=updates), counter.stop()

        updates, spent = 2 * _EVERY if quick else num_steps, 0
        if early:
            kept, held = _cut(train)
            # Below it a density that has not seen the held-out rows either: else they seem to ask for no network.
            _, updates, spent = fitted(tractable(reference.kept), kept, held, updates)
        energy, _, more = fitted(under, train, None, updates)
        effort = 20 if quick else 150
        return bracketed(energy, test, under, effort, seed)._replace(evaluations=spent + more)

    return judge


def bracketed(energy: en.Energy, test: Tensor, base: en.Energy, effort: int, seed: int) -> Judged:
    """log q of the test rows, log Z annealed from the base and back."""
    found = en.bracket(energy, test, base=base, levels=effort, num_steps=effort, generator=seed)
    with torch.no_grad():
        energies = torch.cat([energy(part) for part in test.split(10_000)]).double()
    mean = -energies.mean()
    return Judged(-energies - found.value, float(mean - found.high), float(mean - found.low))


def _fitted_mixture(kind: Base) -> Judge:
    def judge(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
        return Judged(torch.from_numpy(mixture(train, kind, seed).all.score_samples(test.double().numpy())))

    return judge


def _kernels(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """scikit-learn's, its bandwidth the best on held-out rows."""
    kept, held = (part.double().numpy() for part in _cut(train))
    widths = [0.05 * 2 ** (number / 2) for number in range(14)]
    best = max(widths, key=lambda width: KernelDensity(bandwidth=width).fit(kept).score(held))
    fitted = KernelDensity(bandwidth=best).fit(train.double().numpy())
    return Judged(torch.from_numpy(fitted.score_samples(test.double().numpy())))


def _flow(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """A masked autoregressive flow of zuko, stopped as the networks are."""

    def fitted(rows: Tensor, held: Tensor | None, updates: int) -> tuple[Any, int]:
        torch.manual_seed(seed)
        flow = zuko.flows.MAF(train.shape[1], transforms=3, hidden_features=(64, 64))
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, weight_decay=1e-4)
        generator = torch.Generator().manual_seed(seed)
        best, at = -float("inf"), updates
        for step in range(1, updates + 1):
            x = rows[torch.randint(len(rows), (128,), generator=generator)]
            optimizer.zero_grad()
            (-flow().log_prob(x).mean()).backward()
            optimizer.step()
            if held is not None and step % _EVERY == 0:
                with torch.no_grad():
                    score = float(flow().log_prob(held).mean())
                if score > best:
                    best, at = score, step
        return flow, at

    _, updates = fitted(*_cut(train), 2 * _EVERY if quick else 1500)
    flow, _ = fitted(train, None, updates)
    with torch.no_grad():
        return Judged(flow().log_prob(test).double())


def _cut(train: Tensor) -> tuple[Tensor, Tensor]:
    """Rows to fit and rows to choose by."""
    cut = round(_HELD_OUT * len(train))
    return train[cut:], train[:cut]


METHODS: dict[str, Judge] = {
    "Gaussian": _fitted_mixture("Gaussian"),
    "Gaussian mixture": _fitted_mixture("mixture"),
    "kernel density": _kernels,
    "autoregressive flow": _flow,
    "noise contrast, Gaussian": annealed(lambda base: en.NoiseContrast(base, ratio=4)),
    "noise contrast, mixture": annealed(lambda base: en.NoiseContrast(base, ratio=4), base="mixture"),
    "energy discrepancy": annealed(lambda base: en.EnergyDiscrepancy(0.3, num_samples=16)),
    "sliced score matching": annealed(lambda base: en.SlicedScoreMatching(num_projections=4)),
    "denoising, noise of .2": annealed(lambda base: en.DenoisingScoreMatching(noise_scale=0.2)),
    # Its loss says nothing of when to stop.
    "PCD, MALA": annealed(
        lambda base: en.PersistentCD(en.MALA(step_size=0.02), 5, num_chains=128), num_steps=300, early=False
    ),
}


def cell(name: str, method: str, seed: int, quick: bool) -> Measured:
    """One model of one table."""
    train, test = data(name, seed)
    began = time.process_time()
    judged = METHODS[method](train, test, seed, quick)
    return told(work(name), method, seed, judged, time.process_time() - began)


def told(work: str, method: str, seed: int, judged: Judged, seconds: float) -> Measured:
    """The rows of a model."""
    numbers = {
        "nats a row, test": float(judged.log_q.mean()),
        "standard error of that": float(judged.log_q.std() / len(judged.log_q) ** 0.5),
        "seconds of a core": seconds,
    }
    if judged.evaluations:
        numbers["network evaluations"] = float(judged.evaluations)
    if judged.low:
        numbers |= {"nats a row, low end": judged.low, "nats a row, high end": judged.high}
    return Measured([Row(work, method, value, unit, seed) for unit, value in numbers.items()], None)
