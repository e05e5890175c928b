"""The first rung: eight densities of the plane whose truth is known, and models integrated on a grid."""

import functools
import math
import time
from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor

from benchmarks.harness import Row
from benchmarks.objectives.methods import METHODS, Trainer
from energeia.energies import PLANAR, Planar
from energeia.energies.planar import PlanarName

CASES: tuple[str, ...] = PLANAR
NUM_ROWS, NUM_TEST = 20_000, 10_000
# Beyond it no density but the funnel has anything; what a model has there it made up.
INSIDE = 5.0
# Nodes lie at u (1 + (u / 5)^8): evenly where the data are, and as far out as 59.
_REACH, _BEND, _POWER = 6.5, 5.0, 8
PIXELS = 160


class Truth(NamedTuple):
    """log p and log weights at the nodes x, and the part of the density that each node belongs to."""

    x: Tensor
    log_weight: Tensor
    log_p: Tensor
    part: Tensor


class Measured(NamedTuple):
    """The rows of a cell, and its picture where it has one: log density on [-4, 4]^2, `[PIXELS, PIXELS]`."""

    rows: list[Row]
    picture: Tensor | None


def work(name: str) -> str:
    """How the rows of a density are called."""
    return f"planar: {name}"


def data(name: str, seed: int, num_rows: int = NUM_ROWS) -> tuple[Tensor, Tensor]:
    """Training and test rows, the same for all methods."""
    density = _density(name)
    train, test = (
        density.sample_exact(number, torch.Generator().manual_seed(2 * seed + which)).float()
        for which, number in enumerate((num_rows, NUM_TEST))
    )
    return train, test


def truth_at(name: str, x: Tensor) -> Tensor:
    """log p(x), float64."""
    return torch.cat([-_density(name)(part.double()) for part in x.split(2**13)])


def cell(name: str, method: str, seed: int, quick: bool, methods: Mapping[str, Trainer] = METHODS) -> Measured:
    """One model of one density: trained, integrated, compared."""
    train, test = data(name, seed)
    began = time.process_time()
    trained = methods[method](train, seed, quick)
    seconds = time.process_time() - began
    truth = _truth(name, trained.spacing)
    with torch.no_grad():
        energies = torch.cat([trained.energy(part.float()) for part in truth.x.split(2**14)]).double()
        log_z = (truth.log_weight - energies).logsumexp(0)
        log_q = -energies - log_z
        test_gap = (trained.energy(test).double() + log_z + truth_at(name, test)).mean()
        line = torch.linspace(-4, 4, PIXELS)
        picture = -trained.energy(torch.cartesian_prod(line, line)).double() - log_z
    p, q = (truth.log_weight + truth.log_p).exp(), (truth.log_weight + log_q).exp()
    numbers = {
        "nats above the truth": (p * (truth.log_p - log_q)).sum(),
        "KL(model | truth) (nats)": (q * (log_q - truth.log_p)).sum(),
        "nats above the truth, test rows": test_gap,
        "mass beyond 5": q[truth.x.abs().amax(1) > INSIDE].sum(),
        "seconds of a core": seconds,
        "network evaluations": trained.evaluations,
    }
    shares = torch.zeros(2, int(truth.part.max()) + 1, dtype=torch.float64)
    shares[0].index_add_(0, truth.part, p)
    shares[1].index_add_(0, truth.part, q)
    if shares.shape[1] > 1:
        numbers["mass in wrong parts"] = (shares[0] - shares[1]).abs().sum() / 2
    if name == "mixture":
        for part in range(shares.shape[1]):
            numbers[f"share of part {part} (truth {shares[0, part]:.3f})"] = shares[1, part]
    rows = [Row(work(name), method, float(value), unit, seed) for unit, value in numbers.items()]
    if not all(math.isfinite(row.value) for row in rows):
        rows = [Row(work(name), method, 1.0, "diverged", seed)]
    return Measured(rows, picture.view(PIXELS, PIXELS))


def true_picture(name: str) -> Tensor:
    """log p on [-4, 4]^2."""
    line = torch.linspace(-4, 4, PIXELS, dtype=torch.float64)
    return truth_at(name, torch.cartesian_prod(line, line)).view(PIXELS, PIXELS)


def _density(name: str) -> Planar:
    return Planar(cast(PlanarName, name), dtype=torch.float64)


@functools.lru_cache(maxsize=4)
def _truth(name: str, spacing: float) -> Truth:
    number = round(_REACH / spacing)
    u = torch.arange(-number, number + 1, dtype=torch.float64) * spacing
    bend = (u / _BEND) ** _POWER
    line, weight = u * (1 + bend), spacing * (1 + (_POWER + 1) * bend)
    x, log_weight = torch.cartesian_prod(line, line), (weight.unsqueeze(1) * weight).log().flatten()
    density = _density(name)
    energies = torch.cat([density.class_energies(part) for part in x.split(2**13)])
    return Truth(x, log_weight, (-energies).logsumexp(1), energies.argmin(1))
