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

NUM_CHAINS, WARMUP = 50, 500
LADDER = (1.0, 2.0, 4.0, 8.0, 16.0)

TARGETS: dict[str, Callable[[], en.Energy]] = {
    "Gaussian, d = 2, rho = .95": lambda: energies.CorrelatedGaussian.equicorrelated(2, rho=0.95),
    "Gaussian, d = 100, condition 1e3": lambda: energies.CorrelatedGaussian.ill_conditioned(100, condition=1e3),
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
    "RandomWalk": Method(en.RandomWalk(), 10_000),
    "MALA": Method(en.MALA(), 10_000),
    "MALA, dense": Method(en.MALA(tune_mass="dense"), 10_000),
    "UnderdampedLangevin": Method(en.UnderdampedLangevin(), 10_000),
    "HMC": Method(en.HMC(), 1_000),
    "HMC, dense": Method(en.HMC(tune_mass="dense"), 1_000),
    "ParallelTempering of HMC": Method(en.ParallelTempering(en.HMC(), LADDER), 400),
    "TemperedTransitions of HMC": Method(en.TemperedTransitions(en.HMC(), LADDER), 100),
}
DISCRETE_TARGETS: dict[str, Callable[[], en.Energy]] = {
    "Ising, 16 x 16, K = .3": lambda: en.IsingLattice((16, 16), coupling=0.3),
    "Ising, 16 x 16, critical": lambda: en.IsingLattice((16, 16), coupling=math.log(1 + math.sqrt(2)) / 2),
    "spin glass, 64 spins": lambda: _spin_glass(64),
}
DISCRETE_METHODS = {
    "Metropolis": Method(en.Metropolis(), 10_000),
    "GibbsWithGradients": Method(en.GibbsWithGradients(num_flips=8), 10_000),
    "DiscreteLangevin": Method(en.DiscreteLangevin(), 10_000),
    "Gibbs": Method(en.Gibbs(), 5_000),
    "ParallelTempering of Gibbs": Method(en.ParallelTempering(en.Gibbs(), (1.0, 1.3, 1.7, 2.2, 3.0)), 2_000),
    "SwendsenWang": Method(en.SwendsenWang(), 1_000),
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
            progress(f"{time.strftime('%H:%M:%S')} {target}: {who}")
            num_steps = method.num_steps // (20 if quick else 1)
            found += _measure(target, who, make(), method.sampler, num_steps)
    for target, make in DISCRETE_TARGETS.items():
        for who, method in DISCRETE_METHODS.items():
            if "glass" in target and who == "SwendsenWang":
                continue  # Its couplings have both signs, which clusters refuse.
            progress(f"{time.strftime('%H:%M:%S')} {target}: {who}")
            num_steps = method.num_steps // (20 if quick else 1)
            found += _measure_discrete(target, who, make(), method.sampler, num_steps)
    return found


def _spin_glass(num_sites: int) -> en.Energy:
    """Every pair coupled, with a strength from N(0, 1 / N) and small fields: frustrated, with several valleys."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.combinations(torch.arange(num_sites))
    couplings = torch.randn(len(edges), generator=generator) / math.sqrt(num_sites)
    return en.Ising(num_sites, edges, couplings=couplings, fields=0.1 * torch.randn(num_sites, generator=generator))


def _measure_discrete(target: str, who: str, energy: en.Energy, sampler: en.Sampler, num_steps: int) -> list[Row]:
    """The worse of the energy and the square of the mean spin, per second."""
    start = en.sample(energy, sampler, num_chains=NUM_CHAINS, num_steps=1, warmup=WARMUP, generator=0)
    began = time.perf_counter()
    draws = en.sample(
        energy,
        start.sampler,
        start=start.x,
        num_steps=num_steps,
        keep="all",
        thin=max(1, num_steps // 2000),
        generator=1,
    )
    seconds = time.perf_counter() - began
    with torch.no_grad():
        values = torch.stack([energy(x) for x in draws.kept])
    square = draws.kept.flatten(2).mean(2).square()
    worst = min(effective_sample_size(part).item() for part in (values, square))
    acceptance = draws.info.acceptance.mean().item()
    return [
        Row(target, who, worst / seconds, "discrete ESS per second", 0),
        Row(target, who, acceptance, "acceptance", 0),
    ]


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
    # Replicas of a ladder start at the cold points and first settle: the first fifth does not count, for anybody.
    draws = draws._replace(kept=draws.kept[len(draws.kept) // 5 :])
    worst = effective_sample_size(draws.kept).min().item()
    evaluations, seconds = 0.8 * counted.rows, 0.8 * seconds
    result = [
        Row(target, who, worst / evaluations, "ESS per gradient", 0),
        Row(target, who, seconds, "s of sampling", 0),
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
