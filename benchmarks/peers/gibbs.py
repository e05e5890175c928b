"""Gibbs sampling of an Ising lattice on a torus: sweeps per second, all chains together."""

import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import hamon
import hamon.models
import jax
import jax.numpy as jnp
import numpy as np
import thrml
import thrml.models
import torch

import energeia as en
from benchmarks.harness import Row
from benchmarks.peers.race import OURS, Contender, Setting, compare, named
from energeia.core.random import random_bits
from energeia.energies.pairwise import IsingLattice
from energeia.samplers.gibbs import Gibbs

SIZE, COUPLING = 64, 0.3


def rows(setting: Setting) -> list[Row]:
    """One chain and 32; quick runs have only these."""
    found: list[Row] = []
    for num_chains in (32,) if setting.quick else (1, 32):
        num_sweeps = (20_000 if num_chains == 1 else 2000) // (10 if setting.quick else 1)
        contenders = [
            _ours(num_chains, num_sweeps),
            _factor_graph(thrml, num_chains, num_sweeps),
            _factor_graph(hamon, num_chains, num_sweeps),
        ]
        work = f"Gibbs, Ising {SIZE} x {SIZE}, {num_chains} chain{'s' if num_chains > 1 else ''}"
        found += compare(work, contenders, setting, amount=num_sweeps * num_chains, unit="sweeps", moments=_order)
        found.append(_random_bits(num_chains, setting))
    return found


def _random_bits(num_chains: int, setting: Setting) -> Row:
    """What the random numbers of a sweep take, one number of 32 bits for each site."""
    generator, repeats = torch.Generator().manual_seed(0), 200
    shape = (num_chains, SIZE * SIZE)
    times: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(repeats):
            random_bits(shape, generator, dtype=torch.float32)
        times.append((time.perf_counter() - began) / repeats * 1e6)
    name = setting.name(
        f"random bits of a Gibbs sweep, {SIZE} x {SIZE}, {num_chains} chain{'s' if num_chains > 1 else ''}"
    )
    return Row(name, OURS, statistics.median(times), "us", 0)


def _order(end: Any) -> np.ndarray:
    """Mean product of neighbours over all chains; end is spins `[B, SIZE, SIZE]`."""
    s = np.asarray(end, dtype=np.float64)
    return np.array([1 + (s * np.roll(s, 1, 1)).mean() + (s * np.roll(s, 1, 2)).mean()])


def _start(num_chains: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, (num_chains, SIZE, SIZE), generator=generator).float() * 2 - 1


def _ours(num_chains: int, num_sweeps: int) -> Contender:
    def make() -> Callable[[], Any]:
        energy, start = IsingLattice((SIZE, SIZE), coupling=COUPLING), _start(num_chains)
        return lambda: en.sample(energy, Gibbs(), start=start, num_steps=num_sweeps, chunk=10).x

    return Contender(OURS, make)


def _factor_graph(library: ModuleType, num_chains: int, num_sweeps: int) -> Contender:
    """thrml, and hamon, which grew from it: block Gibbs on the checkerboard, jitted, chains by vmap."""

    def make() -> Callable[[], Any]:
        nodes = [library.SpinNode() for _ in range(SIZE * SIZE)]
        number = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
        pairs = [np.stack([number, np.roll(number, -1, axis)], -1).reshape(-1, 2) for axis in (0, 1)]
        edges = [(nodes[i], nodes[j]) for i, j in np.concatenate(pairs).tolist()]
        colour = np.add.outer(np.arange(SIZE), np.arange(SIZE)).ravel() % 2
        blocks = [library.Block([nodes[i] for i in np.flatnonzero(colour == c).tolist()]) for c in (0, 1)]
        model = library.models.IsingEBM(
            nodes, edges, jnp.zeros(len(nodes)), jnp.full(len(edges), COUPLING), jnp.array(1.0)
        )
        program = library.models.IsingSamplingProgram(model, blocks, [])
        # The state after the warm-up is the one sample.
        schedule = library.SamplingSchedule(num_sweeps, 1, 1)
        spins = _start(num_chains).flatten(1).numpy() > 0
        begin = [jnp.asarray(spins[:, colour == c]) for c in (0, 1)]

        @jax.jit
        def chains(key: jax.Array, begin: list[jax.Array]) -> jax.Array:
            def one(key: jax.Array, state: list[jax.Array]) -> jax.Array:
                return library.sample_states(key, program, schedule, state, [], [library.Block(nodes)])[0]

            if num_chains == 1:
                return one(key, [part[0] for part in begin])
            return jax.vmap(one)(jax.random.split(key, num_chains), begin)

        return lambda: np.asarray(chains(jax.random.key(0), begin)).reshape(-1, SIZE, SIZE) * 2.0 - 1

    return Contender(named(library.__name__), make)
