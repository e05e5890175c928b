"""Time of a score-matching loss and its gradient: ours, torchebm, ebmkit, and the same written by hand, in turn.

Runs where the other libraries are installed (`make bench`). A convolutional energy on 784 numbers, given flat, as
torchebm sums over the last axis alone. Exact score matching on few rows: torchebm holds all Hessians at once.
"""

import gc
import importlib
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress, run

SIDE, NOISE = 28, 0.3
Loss = Callable[[Tensor], Tensor]


class Picture(nn.Module):
    """A convolutional network on rows of flat pictures."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.network = side, en.ConvNet((1, side, side), channels=(16, 32, 32), hidden=64)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.view(-1, 1, self.side, self.side)).squeeze(1)


def by_hand(kind: str, network: nn.Module, projections: int, x: Tensor) -> Tensor:
    """The loss as a paper's appendix would have it, in the fewest passes."""
    if kind == "denoising":
        noise = torch.randn_like(x)
        point = (x + NOISE * noise).requires_grad_(True)
        (slope,) = torch.autograd.grad(network(point).sum(), point, create_graph=True)
        return (noise - NOISE * slope).square().sum(1).mean() / 2
    point = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(network(point).sum(), point, create_graph=True)
    if kind == "sliced":
        trace = torch.zeros(())
        for _ in range(projections):
            v = torch.randn_like(x).sign()
            (turned,) = torch.autograd.grad((slope * v).sum(), point, create_graph=True)
            trace = trace + (turned * v).sum(1).mean() / projections
    else:
        total = torch.zeros(len(x))
        for i in range(x.shape[1]):
            (row,) = torch.autograd.grad(slope[:, i].sum(), point, create_graph=True)
            total = total + row[:, i]
        trace = total.mean()
    return slope.square().sum(1).mean() / 2 - trace


def ours(kind: str, network: nn.Module, projections: int) -> Loss:
    energy = en.from_module(network, en.Real(SIDE**2))
    objectives: dict[str, en.Objective] = {
        "exact": en.ScoreMatching(chunk=196),
        "sliced": en.SlicedScoreMatching(num_projections=projections),
        "denoising": en.DenoisingScoreMatching(noise_scale=NOISE),
    }
    generator = torch.Generator().manual_seed(0)
    return lambda x: objectives[kind](energy, en.Batch(x), generator).value


def torchebm(kind: str, network: nn.Module, projections: int) -> Loss:
    losses = importlib.import_module("torchebm.losses")
    made: Any = {
        "exact": lambda: losses.ScoreMatching(network),
        "sliced": lambda: losses.SlicedScoreMatching(network, n_projections=projections),
        "denoising": lambda: losses.DenoisingScoreMatching(network, noise_scale=NOISE),
    }[kind]()
    return made


def ebmkit(kind: str, network: nn.Module, projections: int) -> Loss:
    losses = importlib.import_module("ebm.losses.score_matching")
    made: Any = {
        "exact": lambda: losses.ExactScoreMatching(),
        "sliced": lambda: losses.SlicedScoreMatching(projections),
        "denoising": lambda: losses.DenoisingScoreMatching(NOISE),
    }[kind]()
    return lambda x: made(network, x).loss


def rows(quick: bool) -> list[Row]:
    """Each loss with all four in turn, medians; the ratio is to torchebm."""
    found: list[Row] = []
    rounds = 1 if quick else 7
    for kind, batch, projections in (
        ("denoising", 64, 1),
        ("sliced", 64, 1),
        ("sliced", 64, 5),
        ("exact", 1, 1),
        ("exact", 4, 1),
    ):
        torch.manual_seed(0)
        network = Picture(SIDE)
        x = torch.rand(batch, SIDE**2)
        ways: dict[str, Loss] = {
            f"torchebm {version('torchebm')}": torchebm(kind, network, projections),
            f"ebmkit {version('ebmkit')}": ebmkit(kind, network, projections),
            "by hand": lambda x, kind=kind, projections=projections, network=network: by_hand(
                kind, network, projections, x
            ),
            "Energeia": ours(kind, network, projections),
        }
        times: dict[str, list[float]] = {who: [] for who in ways}
        work = f"{kind} score matching, {projections} directions" if kind == "sliced" else f"{kind} score matching"
        for _ in range(min(rounds, 3) if kind == "exact" else rounds):
            for who, loss in ways.items():
                progress(f"{work}, {batch} rows, {who}")
                gc.collect()
                began = time.perf_counter()
                torch.autograd.grad(loss(x), list(network.parameters()), allow_unused=True)
                times[who].append(time.perf_counter() - began)
        base = statistics.median(next(iter(times.values())))
        found += [
            Row(f"{work}, {batch} rows", who, 1e3 * statistics.median(spent), "ms", 0, base / statistics.median(spent))
            for who, spent in times.items()
        ]
    return found


if __name__ == "__main__":
    run("score_rivals", rows)
