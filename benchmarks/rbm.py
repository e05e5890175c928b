"""Restricted Boltzmann machines: log-likelihoods on MNIST and on a mixture of two Laplace sources.

MNIST is read from --mnist (an .npz with x_train and x_test); a pixel of 128 or more is one. Log Z of 16
hidden units is exact, that of 500 is annealed from both sides, by 1,000 chains upwards and 200 downwards.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run

MNIST = Path("../shared/data/mnist.npz")


def bits(path: Path) -> tuple[Tensor, Tensor]:
    """Training and test pictures as bits `[N, 784]`."""
    if not path.exists():
        sys.exit(f"{path} is not there: give the file of MNIST pictures with --mnist PATH")
    with np.load(path) as held:
        train, test = (torch.from_numpy((held[name] >= 128).reshape(-1, 784)).float() for name in ("x_train", "x_test"))
    return train, test


def train(x: Tensor, num_hidden: int, epochs: int, seed: int, *, best: bool = False) -> tuple[en.RBM, float]:
    """PCD-1 of 100 chains, batches of 100: the protocol of the reference, or ours, whose learning rate falls."""
    torch.manual_seed(seed)
    machine = en.RBM(784, num_hidden, mean=x.mean(0))
    num_steps = epochs * len(x) // 100
    started = time.perf_counter()
    en.fit(
        machine,
        en.PersistentCD(en.BlockGibbs(), 1, num_chains=100),
        x,
        num_steps=num_steps,
        batch_size=100,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05 if best else 0.01),
        scheduler=(lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-3, num_steps)) if best else None,
        average_decay=0.999 if best else None,
        log_every=600,
        checkpoint_every=10**6,
        seed=seed,
    )
    return machine, time.perf_counter() - started


def mean_minus_energy(machine: en.RBM, x: Tensor) -> float:
    with torch.no_grad():
        return float(torch.cat([-machine(part).double() for part in x.split(10_000)]).mean())


def small(x: Tensor, test: Tensor, seed: int, quick: bool) -> list[Row]:
    """16 hidden units: log Z exact, and the error of annealing."""
    work = "MNIST 784-16, centred, 50 epochs"
    progress(f"seed {seed}: {work}")
    machine, seconds = train(x, 16, 1 if quick else 50, seed)
    exact = float(en.exact_log_z(machine).value)
    base = en.fitted_base(machine.space, x)
    levels = 500 if quick else 10_000
    lower = en.ais(machine, base=base, levels=levels, generator=seed)
    draws = machine.sample_exact(100, torch.Generator().manual_seed(seed))
    upper = en.reverse_ais(machine, draws, base=base, levels=levels, generator=seed)
    return [
        Row(work, "test log-likelihood, exact", mean_minus_energy(machine, test) - exact, "nats", seed),
        Row(work, "training log-likelihood, exact", mean_minus_energy(machine, x) - exact, "nats", seed),
        Row(work, "error of log Z by AIS", float(lower.value) - exact, "nats", seed),
        Row(work, "error of log Z by reverse AIS from exact draws", float(upper.value) - exact, "nats", seed),
        Row(work, "training time", seconds, "s", seed),
    ]


def large(x: Tensor, test: Tensor, seed: int, epochs: int, quick: bool, *, best: bool) -> list[Row]:
    """500 hidden units: log Z from below and above."""
    work = f"MNIST 784-500, centred, {epochs} epochs" + (", falling learning rate, averaged weights" if best else "")
    progress(f"seed {seed}: {work}")
    machine, seconds = train(x, 500, 1 if quick else epochs, seed, best=best)
    base = en.fitted_base(machine.space, x)
    levels = 100 if quick else 10_000
    started = time.perf_counter()
    lower = en.ais(machine, base=base, num_chains=1000, levels=levels, generator=seed)
    start = x[torch.randint(len(x), (200,), generator=torch.Generator().manual_seed(seed))]
    chains = en.sample(machine, en.BlockGibbs(), start=start, num_steps=levels // 5, generator=seed, progress=False).x
    upper = en.reverse_ais(machine, chains, base=base, levels=levels // 2, generator=seed)
    on_test, on_train = mean_minus_energy(machine, test), mean_minus_energy(machine, x)
    return [
        Row(work, "test log-likelihood, AIS", on_test - float(lower.value), "nats", seed),
        Row(work, "test log-likelihood, reverse AIS", on_test - float(upper.value), "nats", seed),
        Row(work, "training log-likelihood, AIS", on_train - float(lower.value), "nats", seed),
        Row(work, "log Z by AIS", float(lower.value), "nats", seed),
        Row(work, "log Z by AIS: standard error", float(lower.standard_error), "nats", seed),
        Row(work, "log Z by AIS: effective weights of 1,000", _effective(lower), "", seed),
        Row(work, "log Z by reverse AIS", float(upper.value), "nats", seed),
        Row(work, "training time", seconds, "s", seed),
        Row(work, "annealing time", time.perf_counter() - started, "s", seed),
    ]


def _effective(estimate: en.LogZ) -> float:
    size = estimate.details["effective_sample_size"]
    assert isinstance(size, float)
    return size


def laplace(num: int, mixing: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two Laplace sources mixed, and their exact log density at each row."""
    uniform = torch.rand(num, 2, generator=generator, dtype=torch.float64) - 0.5
    sources = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    log_density = -sources.abs().sum(1) - 2 * math.log(2) - mixing.det().abs().log()
    return sources @ mixing.T, log_density


def gaussian(seed: int, quick: bool) -> list[Row]:
    """A Gaussian machine of 4 hidden units on whitened data, against the best Gaussian and the truth.

    It is the best of four starts by its likelihood of the training rows, which is exact.
    """
    work = "two Laplace sources, whitened; Gaussian RBM 2-4, best of 4 starts"
    progress(f"seed {seed}: {work}")
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    (x, _), (test, log_density) = laplace(50_000, mixing, generator), laplace(50_000, mixing, generator)
    values, vectors = torch.linalg.eigh(x.T.cov())
    whiten = vectors @ values.rsqrt().diag() @ vectors.T
    x, test = (x @ whiten).float(), (test @ whiten).float()
    truth = float((log_density - whiten.det().log()).mean())
    started = time.perf_counter()
    machines = [_gaussian_machine(x, 10 * seed + start, quick) for start in range(RESTARTS)]
    machine = max(machines, key=lambda each: en.log_likelihood(each, x).mean)
    seconds = time.perf_counter() - started
    covariance = x.double().T.cov()
    normal = torch.distributions.MultivariateNormal(x.double().mean(0), covariance).log_prob(test.double())
    return [
        Row(work, "Gaussian RBM, test log-likelihood, exact", en.log_likelihood(machine, test).mean, "nats", seed),
        Row(work, "Gaussian, test log-likelihood", float(normal.mean()), "nats", seed),
        Row(work, "the sources themselves, test log-likelihood", truth, "nats", seed),
        Row(work, "training time of 4 starts", seconds, "s", seed),
    ]


RESTARTS = 4


def _gaussian_machine(x: Tensor, seed: int, quick: bool) -> en.RBM:
    """From wide weights of units that are mostly off: from small ones, two units learn the same axis more often."""
    torch.manual_seed(seed)
    machine = en.RBM(en.Real(2), 4, mean=x.mean(0), variance=torch.full((2,), 0.5), weight_scale=3.0, hidden_bias=-3.0)
    num_steps = 500 if quick else 8_000
    en.fit(
        machine,
        en.PersistentCD(en.BlockGibbs(), 1, num_chains=500),
        x,
        num_steps=num_steps,
        batch_size=500,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-2),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-2, num_steps),
        average_decay=0.99,
        checkpoint_every=10**6,
        seed=seed,
    )
    return machine


PARTS = ("gaussian", "small", "protocol", "best")


def rows(quick: bool, mnist: Path = MNIST, parts: tuple[str, ...] = PARTS) -> list[Row]:
    found: list[Row] = []
    x, test = bits(mnist)
    for seed in range(1 if quick else 3):
        found += gaussian(seed, quick) if "gaussian" in parts else []
        found += small(x, test, seed, quick) if "small" in parts else []
    found += large(x, test, 0, 12, quick, best=False) if "protocol" in parts else []
    found += large(x, test, 0, 120, quick, best=True) if "best" in parts else []
    return found


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--mnist", type=Path, default=MNIST)
    own.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    options, rest = own.parse_known_args()
    sys.argv[1:] = rest
    run("rbm", lambda quick: rows(quick, options.mnist, tuple(options.parts)))
