"""What a step cannot do without: its products, activations, random numbers and memory, each by itself."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import torch
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress
from benchmarks.peers import targets
from benchmarks.peers.gibbs import COUPLING, SIZE
from benchmarks.peers.langevin import Halved
from benchmarks.peers.race import OURS, Contender, Setting, named, race
from energeia.core.sampler import Noise, advance
from energeia.energies.pairwise import IsingLattice
from energeia.samplers.gibbs import Blocks, Gibbs


def rows(setting: Setting) -> list[Row]:
    """Arithmetic and memory of this core, then the parts of each work that does not reach what was asked."""
    progress("floors")
    found = [*_machine(setting), *_products(setting, 1000, 128, 2), *_products(setting, 64, 100, 40)]
    torch.compiler.reset()
    x, gradient = torch.randn(1000, 128), torch.randn(1000, 128)
    two = torch.compile(_two_activations)  # pyright: ignore[reportUnknownMemberType]
    generator = torch.Generator().manual_seed(0)
    parts: list[tuple[str, Callable[[], object], int]] = [
        ("2 SiLUs of 1000 x 128 and their derivatives, compiled", lambda: two(x, x, gradient), 100),
        ("1000 x 2 normals", lambda: torch.randn(1000, 2, generator=generator), 1000),
        ("64 x 100 normals", lambda: torch.randn(64, 100, generator=generator), 1000),
        ("ten sweeps of an Ising lattice of 64 x 64 without random bits, chunk=10", _sweeps(), 100),
        *_convolutions(),
    ]
    for name, function, repeats in parts:
        found.append(Row(setting.name(name), OURS, _microseconds(function, repeats), "us", 0))
    return found


def _microseconds(function: Callable[[], object], repeats: int) -> float:
    """The median of ten times repeats calls, for one call."""
    function()
    times: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(repeats):
            function()
        times.append((time.perf_counter() - began) / repeats * 1e6)
    return statistics.median(times)


def _machine(setting: Setting) -> list[Row]:
    """Arithmetic of a large product, which no small one exceeds, and the bandwidth of a copy beyond the caches."""
    found: list[Row] = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(1024, 1024).to(dtype)
        took = _microseconds(lambda a=a: a @ a, 2)
        name = setting.name(f"product of 1024 x 1024 with 1024 x 1024, {str(dtype).removeprefix('torch.')}")
        found.append(Row(name, named("torch"), 2 * 1024**3 / took / 1e3, "GFLOP/s", 0))
    source = torch.zeros(2**24)
    target = torch.empty_like(source)
    took = _microseconds(lambda: target.copy_(source), 2)
    return [*found, Row(setting.name("copy of 64 MiB"), named("torch"), 2**27 / took / 1e3, "GB/s", 0)]


def _products(setting: Setting, height: int, width: int, number: int) -> list[Row]:
    """height x width numbers times a square matrix, by torch and by jax, and the time of as many as a step has."""
    x, matrix = torch.randn(height, width), torch.randn(width, width)
    jax_x, jax_matrix = targets.array(x), targets.array(matrix)
    product = jax.jit(lambda a, b: a @ b)
    operations, repeats = 2 * height * width**2, 50
    name = setting.name(f"product of {height} x {width} with {width} x {width}, float32")

    def in_torch() -> None:
        for _ in range(repeats):
            x @ matrix

    def in_jax() -> None:
        for _ in range(repeats):
            product(jax_x, jax_matrix).block_until_ready()

    contenders = [Contender(named("torch"), lambda: in_torch), Contender(named("jax"), lambda: in_jax)]
    runs, _ = race(contenders, 10 * setting.rounds)
    found: list[Row] = []
    for run in runs:
        seconds = min(run.seconds) / repeats
        found.append(Row(name, run.who, operations / seconds / 1e9, "GFLOP/s", 0))
        found.append(Row(f"{name}: {number} of them", run.who, 1e6 * number * seconds, "us", 0))
    return found


def _two_activations(first: Tensor, second: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    """SiLU and its derivative times a gradient, of two layers, with one exponential each."""
    a, b = first.sigmoid(), second.sigmoid()
    return (
        first * a,
        gradient * a * (1 + first * (1 - a)),
        second * b,
        gradient * b * (1 + second * (1 - b)),
    )


@dataclass(frozen=True)
class SameBits(Gibbs):
    """Gibbs with the same bits in every sweep: all of its work but the random numbers, and no sampler."""

    def draw(self, state: Blocks, generator: torch.Generator) -> Noise:
        """The bits of the first call."""
        if len(state.x) not in _BITS:
            _BITS[len(state.x)] = super().draw(state, generator)
        return _BITS[len(state.x)]


_BITS: dict[int, Noise] = {}


def _sweeps() -> Callable[[], object]:
    energy, sampler, generator = IsingLattice((SIZE, SIZE), coupling=COUPLING), SameBits(), torch.Generator()
    state = sampler.init(energy, torch.ones(1, SIZE, SIZE))

    def one() -> object:
        return advance(energy, sampler, state, num_steps=10, generator=generator, chunk=10)

    return one


def _convolutions() -> list[tuple[str, Callable[[], object], int]]:
    """The convolutions and products of the network for pictures, forward and back, without its activations."""
    network, _ = targets.pictures()
    bare = nn.Sequential(*(layer for layer in network if not isinstance(layer, nn.SiLU)))
    bare = bare.to(memory_format=torch.channels_last)
    x = targets.normals(128, 1, 28, 28)

    def gradient(model: nn.Module) -> Tensor:
        point = x.detach().requires_grad_(True)
        return torch.autograd.grad(model(point).sum(), point)[0]

    single, half = en.Neural(bare, en.Real((1, 28, 28))), en.Neural(Halved(bare), en.Real((1, 28, 28)))
    name = "convolutions and products of the network for 128 pictures, forward and back"
    return [
        (f"{name}, float32", lambda: gradient(single), 3),
        (f"{name}, bfloat16", lambda: gradient(half), 3),
    ]
