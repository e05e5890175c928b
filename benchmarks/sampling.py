"""Microseconds a step: a loop written by hand, ours eager, and ours in compiled chunks, in turn (A B A B)."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress, run

STEP_SIZE, CHUNK = 0.01, 10


def rows(quick: bool) -> list[Row]:
    """Langevin on a mixture of two Gaussians and on a small network."""
    found: list[Row] = []
    num_steps, rounds = (20, 1) if quick else (500, 5)
    mixture = en.any_of(en.Gaussian(2), en.Gaussian(2, mean=torch.tensor([3.0, 1.0]), scale=torch.tensor([0.5, 1.0])))
    torch.manual_seed(0)
    network = en.Neural(en.MLP(2, widths=(64, 64)), en.Real(2))
    for name, energy in (("2-D mixture", mixture), ("MLP 2-64-64-1", network)):
        for num_chains in (100, 10_000):
            progress(f"{name}, {num_chains} chains")
            found += _compare(f"Langevin, {name}, {num_chains} chains", energy, num_chains, num_steps, rounds)
    return found


def _compare(work: str, energy: en.Energy, num_chains: int, num_steps: int, rounds: int) -> list[Row]:
    start = energy.space.start(num_chains, torch.Generator().manual_seed(0))
    sampler = en.Langevin(step_size=STEP_SIZE)
    ways: dict[str, Callable[[], object]] = {
        "by hand": lambda: _by_hand(energy, start, num_steps),
        "Energeia": lambda: en.sample(energy, sampler, start=start, num_steps=num_steps),
        "Energeia, chunk=10": lambda: en.sample(energy, sampler, start=start, num_steps=num_steps, chunk=CHUNK),
    }
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who, way in ways.items():
            began = time.perf_counter()
            way()
            times[who].append((time.perf_counter() - began) / num_steps * 1e6)
    base = statistics.median(times["by hand"])
    return [
        Row(work, who, statistics.median(values), "us a step", 0, base / statistics.median(values))
        for who, values in times.items()
    ]


def _by_hand(energy: nn.Module, x: Tensor, num_steps: int) -> Tensor:
    """The loop as tutorials write it."""
    for _ in range(num_steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - STEP_SIZE / 2 * gradient + STEP_SIZE**0.5 * torch.randn_like(x)
    return x.detach()


if __name__ == "__main__":
    run("sampling", rows)
