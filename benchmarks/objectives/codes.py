"""The third rung: the same densities as bits in Gray code, 8 or 16 of each coordinate.

Of 16 bits all 65,536 states are summed, so held-out nats are exact. Of 32 bits four random states stand for each
of 65,536 squares of 65,536 states: an unbiased sum, whose standard error is told.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row
from benchmarks.objectives import plane
from benchmarks.objectives.methods import Trainer, by
from benchmarks.objectives.shifted_grid import ShiftedGrid
from energeia.data import from_gray_code, gray_code

EDGE = 4.0
# Ten times those of the plane: bits know nothing of distance, and 20,000 rows are learned by heart.
NUM_ROWS = 200_000
CASES = tuple(f"{name}, {bits} bits" for bits in (16, 32) for name in plane.CASES if name != "funnel")
_COARSE, _DRAWS = 8, 4


def work(name: str) -> str:
    """How the rows of a case are called."""
    return f"discrete: {name}"


def network(rows: Tensor) -> en.Energy:
    """The network of the plane, on bits."""
    return en.Neural(en.MLP(rows.shape[1], widths=(128, 128, 128)), en.Binary(rows.shape[1]))


def on_bits(
    objective: Callable[[Tensor], en.Objective],
    *,
    num_steps: int,
    learning_rate: float = 1e-2,
    batch_size: int = 256,
    gradient_clip: float | None = None,
) -> Trainer:
    """Settings that all share."""
    return by(
        objective,
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        gradient_clip=gradient_clip,
        model=network,
    )


def _exact(rows: Tensor) -> en.Objective:
    half = rows.shape[1] // 2
    # 61 nodes a side: a spacing of a power of two would give all nodes the same low bits.
    return ShiftedGrid(61, EDGE, lambda x: _coded(x.clamp_max(EDGE - 1e-4), half))


METHODS: dict[str, Trainer] = {
    "exact likelihood": on_bits(_exact, num_steps=1500, batch_size=512),
    "pseudo-likelihood": on_bits(lambda rows: en.PseudoLikelihood(num_sites=8), num_steps=1800),
    "ratio matching": on_bits(lambda rows: en.RatioMatching(num_sites=8), num_steps=1800),
    # Unclipped, a few rows that the model finds unlikely decide: 2.5 nats on the 16 bits of the mixture.
    "probability flow": on_bits(lambda rows: en.MinimumProbabilityFlow(num_sites=8), num_steps=1800, gradient_clip=1.0),
    # A row less likely than its neighbour costs the square of their ratio. Where p ends that has no bound: it diverges.
    "concrete score matching": on_bits(
        lambda rows: en.ConcreteScoreMatching(num_sites=8), num_steps=1800, learning_rate=1e-3, gradient_clip=1.0
    ),
    "CD-10": on_bits(lambda rows: en.ContrastiveDivergence(en.GibbsWithGradients(), 10), num_steps=900),
    "PCD-10": on_bits(
        lambda rows: en.PersistentCD(en.GibbsWithGradients(), 10, num_chains=256), num_steps=900, learning_rate=2e-3
    ),
    # Nine pairs of chains of ten have not met after 40 steps, and are let go: that leaves a bias.
    "unbiased CD": on_bits(
        lambda rows: en.UnbiasedCD(en.GibbsWithGradients(), burn_in=2, num_steps=10, max_steps=40, unmet="report"),
        num_steps=150,
        learning_rate=5e-3,
    ),
}


def cell(name: str, method: str, seed: int, quick: bool) -> plane.Measured:
    """One model of one density in bits."""
    density, bits = name.split(", ")
    half = int(bits.removesuffix(" bits")) // 2
    train, test = (_coded(rows, half) for rows in plane.data(density, seed, NUM_ROWS))
    began = time.process_time()
    with warnings.catch_warnings():
        # Gray's second bit is constant where all rows lie in the middle half.
        warnings.filterwarnings("ignore", message=r"fit\(\): .* columns of the data never vary")
        trained = METHODS[method](train, seed, quick)
    seconds = time.process_time() - began
    with torch.no_grad():
        found = _summed(density, half, trained.energy, torch.Generator().manual_seed(seed))
        log_p = _log_share(density, from_gray_code(test, low=-EDGE, high=EDGE, num_bits=half), half)
        test_gap = (log_p + trained.energy(test).double() + found.log_z).mean()
        line = torch.linspace(-EDGE, EDGE, plane.PIXELS + 1)[:-1] + EDGE / plane.PIXELS
        states = _coded(torch.cartesian_prod(line, line), half)
        # Nats a state, as a density of the plane.
        picture = -trained.energy(states).double() - found.log_z - 2 * math.log(2 * EDGE / 2**half)
    numbers = {
        "nats above the truth": found.gap,
        "nats above the truth, test rows": test_gap,
        "standard error of log Z": found.error,
        "seconds of a core": seconds,
        "network evaluations": trained.evaluations,
    }
    rows = [Row(work(name), method, float(value), unit, seed) for unit, value in numbers.items()]
    return plane.Measured(rows, picture.view(plane.PIXELS, plane.PIXELS))


def _coded(x: Tensor, half: int) -> Tensor:
    return gray_code(x, low=-EDGE, high=EDGE, num_bits=half)


def _log_share(density: str, middle: Tensor, half: int) -> Tensor:
    """log of the probability of cells: the mean of p over 4 x 4 points of each, times its area."""
    width = 2 * EDGE / 2**half
    offsets = (torch.arange(4, dtype=torch.float64) - 1.5) / 4 * width
    points = middle.double().unsqueeze(1) + torch.cartesian_prod(offsets, offsets)
    values = plane.truth_at(density, points.flatten(0, 1)).view(len(middle), -1)
    return values.logsumexp(1) - math.log(16) + 2 * math.log(width)


class _Sums(NamedTuple):
    """log Z, its standard error, and KL(truth | model)."""

    log_z: Tensor
    error: Tensor
    gap: Tensor


def _summed(density: str, half: int, energy: Callable[[Tensor], Tensor], generator: torch.Generator) -> _Sums:
    """All states, or some of each square."""
    width = 2 * EDGE / 2**_COARSE
    corner = torch.arange(2**_COARSE, dtype=torch.float64) * width - EDGE
    draws = 1 if half == _COARSE else _DRAWS
    corners = torch.cartesian_prod(corner, corner).repeat_interleave(draws, 0)
    x = corners + width * torch.rand(corners.shape, generator=generator, dtype=torch.float64)
    energies = torch.cat([energy(_coded(part, half).float()) for part in x.split(2**13)]).double()
    log_p = torch.cat([_log_share(density, part, half) for part in _centred(x, half).split(2**11)])
    # States that each draw stands for.
    weight = 4.0 ** (half - _COARSE) / draws
    log_z = (-energies).logsumexp(0) + math.log(weight)
    terms = (-energies - log_z).exp().view(-1, draws) * weight * draws
    variance = terms.var(1).sum() / draws if draws > 1 else torch.zeros(())
    share = log_p.exp() * weight
    return _Sums(log_z, variance.sqrt(), (share * (log_p + energies + log_z)).sum() / share.sum())


def _centred(x: Tensor, half: int) -> Tensor:
    """The middles of the cells of x."""
    width = 2 * EDGE / 2**half
    return ((x + EDGE) / width).floor() * width + width / 2 - EDGE
