"""How good each sampler is on each target of known truth: bias, effective draws per gradient and per second.

Every run is a default construction with a warm-up, from the start points of the space.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from energeia import energies
from energeia.stats.chains import effective_sample_size

NUM_CHAINS, WARMUP = 50, 1000
LADDER = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

TARGETS: dict[str, Callable[[], en.Energy]] = {
    "Gaussian, d = 2, rho = .95": lambda: energies.CorrelatedGaussian.equicorrelated(2, rho=0.95),
    "Gaussian, d = 100, condition 1e4": lambda: energies.CorrelatedGaussian.ill_conditioned(100, condition=1e4),
    "Gaussian, d = 1000, scales 1 to 100": lambda: en.Gaussian(1000, scale=torch.logspace(0, 2, 1000)),
    "four Gaussians": energies.four_gaussians,
    "banana": energies.Banana,
    "funnel, d = 10": lambda: energies.Funnel(10),
    "double well, d = 2": lambda: energies.DoubleWell(2, barrier=3.0, tilt=0.3),
    "ring": energies.Ring,
    "Rosenbrock": energies.Rosenbrock,
    "phi^4, 8 x 8": lambda: energies.Phi4(8, mass_squared=-0.5, coupling=0.5),
    "eight schools": energies.EightSchools,
    "logistic regression, d = 31": energies.LogisticRegression.breast_cancer,
}


class Method(NamedTuple):
    """A sampler, and how many steps of it make a run."""

    sampler: en.Sampler
    num_steps: int


METHODS = {
    "RandomWalk": Method(en.RandomWalk(), 20_000),
    "MALA": Method(en.MALA(), 20_000),
    "MALA, dense": Method(en.MALA(tune_mass="dense"), 20_000),
    "UnderdampedLangevin": Method(en.UnderdampedLangevin(), 20_000),
    "HMC": Method(en.HMC(), 2_000),
    "HMC, dense": Method(en.HMC(tune_mass="dense"), 2_000),
    "ParallelTempering of HMC": Method(en.ParallelTempering(en.HMC(), LADDER), 2_000),
    "TemperedTransitions of HMC": Method(en.TemperedTransitions(en.HMC(), LADDER), 1_000),
}
# Keeping every state of a thousand dimensions would need gigabytes.
MAX_NUMBERS = 2e7


class Counted(en.Energy):
    """An energy that counts how often it was evaluated, in rows."""

    def __init__(self, energy: en.Energy) -> None:
        super().__init__(energy.space)
        self.energy, self.rows = energy, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.energy(x)


def rows(quick: bool) -> list[Row]:
    """Every method on every target."""
    found: list[Row] = []
    for target, make in TARGETS.items():
        for who, method in METHODS.items():
            if "1000" in target and "dense" in who:
                continue  # A covariance of a thousand dimensions is not learnt from a short warm-up.
            progress(f"{target}: {who}")
            num_steps = method.num_steps // (20 if quick else 1)
            found += _measure(target, who, make(), method.sampler, num_steps)
    return found


def _measure(target: str, who: str, energy: en.Energy, sampler: en.Sampler, num_steps: int) -> list[Row]:
    counted = Counted(energy)
    size = energy.space.num_dims * NUM_CHAINS
    thin = next(n for n in range(1, num_steps + 1) if num_steps % n == 0 and num_steps // n * size <= MAX_NUMBERS)
    try:
        tuned = en.sample(counted, sampler, num_chains=NUM_CHAINS, num_steps=1, warmup=WARMUP, generator=0)
        counted.rows = 0
        began = time.perf_counter()
        draws = en.sample(
            counted, tuned.sampler, start=tuned.x, num_steps=num_steps, keep="all", thin=thin, generator=1
        )
        seconds = time.perf_counter() - began
    except en.DivergenceError as error:
        progress(str(error))
        return [Row(target, who, 1.0, "diverged", 0)]
    worst = effective_sample_size(draws.kept).min().item()
    evaluations = counted.rows
    result = [
        Row(target, who, worst / evaluations, "ESS per gradient", 0),
        Row(target, who, worst / seconds, "ESS per second", 0),
        Row(target, who, draws.info.acceptance.mean().item(), "acceptance", 0),
    ]
    known = energy.capability(energies.KnownMoments)
    if known is not None:
        truth = known.truth()
        result += [Row(target, who, value, unit, 0) for unit, value in _bias(draws.kept.double(), truth).items()]
    return result


def _bias(kept: Tensor, truth: energies.Moments) -> dict[str, float]:
    """The worst error of a mean, in standard deviations, and of a standard deviation, relative; and its noise.

    The noise is the standard error of the mean at that place, from the means of the independent chains.
    """
    mean, deviation = truth.mean, truth.variance.sqrt()
    standard = (kept - mean) / deviation
    chains = standard.mean(0)
    off = chains.mean(0).abs()
    place = int(off.argmax())
    noise = chains.std(0).flatten()[place] / math.sqrt(chains.shape[0])
    spread = standard.square().mean((0, 1)).sqrt() - 1
    return {
        "bias of the mean (sd)": off.flatten()[place].item(),
        "its standard error (sd)": noise.item(),
        "bias of the sd": spread.abs().max().item(),
    }


if __name__ == "__main__":
    run("samplers", rows)
