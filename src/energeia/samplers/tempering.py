"""Replicas at several temperatures: parallel tempering and tempered transitions, over any sampler."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from energeia.core.algebra import Scaled
from energeia.core.answers import tiled
from energeia.core.energy import Bipartite, Energy
from energeia.core.errors import CapabilityError, InputError, check_count
from energeia.core.path import tempered
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler, map_tensors, rescale
from energeia.samplers.mass import HasMass, TemperedMass
from energeia.samplers.metropolis import choose, decide, displacement, uniform_noise

DEFAULT_LADDER = (1.0, 1.6, 2.5, 4.0, 6.3, 10.0)


def check_ladder(who: str, temperatures: Sequence[float]) -> None:
    """Raise `InputError` unless temperatures begin at 1 and rise."""
    if not isinstance(temperatures, tuple | list):
        raise InputError(f"{who}: temperatures must be a sequence such as (1, 2, 4, 8), got {temperatures!r}")
    rising = all(low < high for low, high in itertools.pairwise(temperatures))
    if len(temperatures) < 2 or temperatures[0] != 1 or not rising or not math.isfinite(temperatures[-1]):
        raise InputError(
            f"{who}: temperatures must begin at 1 and rise, such as (1, 2, 4, 8), got {tuple(temperatures)}"
        )


def _check(who: str, sampler: object, temperatures: Sequence[float]) -> None:
    """Raise `InputError` unless this is a sampler that keeps one chain for each x, and a ladder."""
    if not isinstance(sampler, Sampler):
        raise InputError(f"{who}: sampler must be one such as en.HMC(), got {sampler!r}")
    if isinstance(sampler, ParallelTempering | TemperedTransitions):
        raise InputError(f"{who}: {type(sampler).__name__} has a ladder of its own and cannot stand on another")
    check_ladder(who, temperatures)


def begin(who: str, sampler: Sampler, energy: Energy, x: Tensor) -> Any:
    """The state of the sampler at x, or what keeps it from being tempered."""
    try:
        return sampler.init(energy, x)
    except CapabilityError as error:
        raise CapabilityError(
            f"{who} of {type(sampler).__name__} on a heated (Scaled) energy: {error}. Only energies with a gradient, "
            "with Conditional or without either can be heated; SwendsenWang cannot be tempered, and BlockGibbs by "
            "ParallelTempering alone"
        ) from error


def energy_of(energy: Energy, state: Any, scale: Tensor) -> Tensor:
    """E `[B]` of the chains of a state for scale * E: from its cache if it has one, else one evaluation."""
    if "energy" in state._fields:
        return state.energy / scale
    with torch.no_grad():
        return energy(state.x)


def energy_at(energy: Energy, state: Any, scale: Tensor, other: Tensor) -> Tensor:
    """E `[B]` at the scales other of chains whose state is at scale: in proportion, but for hidden units."""
    if energy.capability(Bipartite) is None:
        return other * energy_of(energy, state, scale)
    with torch.no_grad():
        return tempered(energy, other)(state.x)


def heated(sampler: Sampler[Any], root: Tensor) -> Sampler[Any]:
    """The sampler with its mass, if it has one, at the temperatures root^2 of its chains."""
    if not isinstance(sampler, HasMass):
        return sampler
    return replace(cast(Any, sampler), mass=TemperedMass(sampler.mass, root))


class Replicas(NamedTuple):
    """Chains at all temperatures, coldest first.

    x: those at temperature 1, `[B, *event]`.
    inner: the state of the sampler for all R * B, temperature by temperature.
    parity: 0 or 1: which neighbours swap next, scalar.
    accepted, proposed: sums of the acceptance and numbers of the swaps of each pair of neighbours, `[R - 1]`.
    """

    x: Tensor
    inner: Any
    parity: Tensor
    accepted: Tensor
    proposed: Tensor

    @property
    def swap_rate(self) -> Tensor:
        """Mean acceptance of the swaps between neighbouring temperatures, `[R - 1]`."""
        return self.accepted / self.proposed.clamp_min(1)


@dataclass(frozen=True)
class ParallelTempering(Sampler[Replicas]):
    """Replica exchange: chains at temperatures 1 = T_1 < ... < T_R that swap with their neighbours.

    Each step runs the sampler on exp(-E / T_r) for every replica, then proposes to swap
    r and r + 1, for odd and even r in turn, with probability
    min(1, exp((1/T_r - 1/T_{r+1}) (E(x_r) - E(x_{r+1})))). What a swap moves is the whole
    state of the chain, momentum and caches included.

    An energy with hidden units (`Bipartite`) is heated with them: E(x, h) / T_r, h summed
    out (`core.path.tempered`), which BlockGibbs can follow; swaps then cost one more
    evaluation for each of both temperatures.

    Args:
        sampler: any sampler but SwendsenWang, whose capabilities do not scale with the
            energy, and tempering itself; one with a mass gets M / T_r at temperature T_r.
        temperatures: rising from 1. A warm-up keeps the first and the last and places
            the others so that all neighbours swap equally often.
        num_steps: steps of the sampler between swaps, >= 1.

    Leaves the product of all exp(-E / T_r) unchanged if the sampler does so at each
    temperature. All replicas begin at x, so the hot ones need some steps to settle.
    exp(-E / T_R) must be normalisable, and hot enough to move between modes. Draws and
    `Info` are those of temperature 1 (divergent: of any); `Draws.state.swap_rate` tells
    how well neighbours swap: .2 to .6 is good, near 0 needs more temperatures. Cost: R
    times the sampler, in one batch; and one energy for each swap if the sampler does not
    keep it.

    Reference: Geyer (1991); Syed et al. (2022), Non-reversible parallel tempering: a
    scalable highly parallel MCMC scheme. https://doi.org/10.1111/rssb.12464
    """

    sampler: Sampler
    temperatures: tuple[float, ...] = DEFAULT_LADDER
    num_steps: int = 1

    def __post_init__(self) -> None:
        _check("ParallelTempering", self.sampler, self.temperatures)
        object.__setattr__(self, "temperatures", tuple(float(value) for value in self.temperatures))
        check_count("ParallelTempering", num_steps=self.num_steps)

    def init(self, energy: Energy, x: Tensor) -> Replicas:
        """Every replica at x `[B, *event]`."""
        return self.start(energy, x.repeat(len(self.temperatures), *[1] * (x.dim() - 1)))

    def start(self, energy: Energy, x: Tensor) -> Replicas:
        """Replicas at x `[R * B, *event]`, temperature by temperature."""
        num_pairs = len(self.temperatures) - 1
        scale, root = self._scale(x)
        target = tempered(tiled(energy, num_pairs + 1), scale)
        inner = begin("ParallelTempering", heated(self.sampler, root), target, x)
        sums = torch.zeros(num_pairs, dtype=x.dtype, device=x.device)
        parity = torch.zeros((), dtype=torch.long, device=x.device)
        return Replicas(x[: len(x) // (num_pairs + 1)], inner, parity, sums, sums.clone())

    def _scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """1 / T and sqrt(T) of every replica of x `[R * B, *event]`."""
        ladder = torch.tensor(self.temperatures, dtype=x.dtype, device=x.device)
        temperature = ladder.repeat_interleave(len(x) // len(ladder))
        return 1 / temperature, temperature.sqrt()

    def draw(self, state: Replicas, generator: torch.Generator) -> Noise:
        """The noise of the sampler's steps, one after another, and uniforms `[R - 1, B]` for the swaps."""
        inner = [part for _ in range(self.num_steps) for part in self.sampler.draw(state.inner, generator)]
        shape = (len(self.temperatures) - 1, len(state.x))
        return (*inner, torch.rand(shape, generator=generator, dtype=state.x.dtype, device=state.x.device))

    def step(self, energy: Energy, state: Replicas, noise: Noise) -> tuple[Replicas, Info]:
        """Steps at every temperature, then swaps of every other pair of neighbours."""
        scale, root = self._scale(state.inner.x)
        replicated = tiled(energy, len(self.temperatures))
        sampler, target = heated(self.sampler, root), tempered(replicated, scale)
        inner, size = state.inner, (len(noise) - 1) // self.num_steps
        infos: list[Info] = []
        for number in range(self.num_steps):
            inner, info = sampler.step(target, inner, noise[number * size : (number + 1) * size])
            infos.append(info)
        inner, values, acceptance, active = self._swap(replicated, inner, scale, state.parity, noise[-1])
        num_chains = len(state.x)
        cold = inner.x[:num_chains]
        following = Replicas(
            cold,
            inner,
            1 - state.parity,
            state.accepted + torch.where(active, acceptance.mean(1), 0),
            state.proposed + active.to(state.proposed.dtype),
        )
        accepted = torch.stack([info.acceptance[:num_chains] for info in infos]).mean(0)
        divergent = torch.stack([info.divergent.view(-1, num_chains).any(0) for info in infos]).any(0)
        return following, Info(values, accepted, displacement(state.x, cold), divergent)

    def _swap(
        self, energy: Energy, inner: Any, scale: Tensor, parity: Tensor, uniform: Tensor
    ) -> tuple[Any, Tensor, Tensor, Tensor]:
        """The states after swaps, E of the cold ones, the acceptance `[R - 1, B]`, which pairs were asked `[R - 1]`."""
        num_rungs = len(self.temperatures)
        # Every replica at its own scale, and at those of the rungs below and above it.
        size = uniform.shape[1]
        below, above = torch.cat([scale[:size], scale[:-size]]), torch.cat([scale[size:], scale[-size:]])
        here, colder, hotter = (
            energy_at(energy, inner, scale, other).view(num_rungs, -1) for other in (scale, below, above)
        )
        log_accept = (here[:-1] - colder[1:]) + (here[1:] - hotter[:-1])
        # A NaN is never swapped: its comparison is false.
        acceptance = torch.where(log_accept.isnan(), 0, log_accept.clamp(max=0).exp())
        pair = torch.arange(num_rungs - 1, device=uniform.device)
        active = pair % 2 == parity
        swapped = (active.unsqueeze(1) & (uniform < acceptance)).long()
        none = torch.zeros_like(swapped[:1])
        rung = torch.arange(num_rungs, device=uniform.device).unsqueeze(1)
        source = rung + torch.cat([swapped, none]) - torch.cat([none, swapped])
        chain = torch.arange(size, device=uniform.device)
        index = (source * size + chain).flatten()
        moved = map_tensors(partial(torch.index_select, dim=0, index=index), inner)
        coldest = torch.where(swapped[0] == 1, colder[1], here[0])
        return rescale(moved, scale / scale[index]), coldest, acceptance, active

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["ParallelTempering", Replicas]:
        """The sampler's own tuning at temperature 1, in a third of the steps; then the ladder, in five rounds."""
        first = max(1, num_steps // 3)
        inner, started = self.sampler.warm_up(energy, x, num_steps=first, generator=generator)
        tempering = replace(self, sampler=inner)
        state = tempering.init(energy, started.x)
        rounds = 5
        for number in range(rounds):
            state = state._replace(accepted=state.accepted * 0, proposed=state.proposed * 0)
            for _ in range((num_steps - first) * (number + 1) // rounds - (num_steps - first) * number // rounds):
                state, _ = tempering.step(energy, state, tempering.draw(state, generator))
            if number < rounds - 1 and bool((state.proposed > 0).all()):
                tempering = replace(tempering, temperatures=even_ladder(tempering.temperatures, state.swap_rate))
                state = tempering.start(energy, state.inner.x)
        return tempering, state._replace(accepted=state.accepted * 0, proposed=state.proposed * 0)


def even_ladder(temperatures: Sequence[float], swap_rate: Tensor) -> tuple[float, ...]:
    """Temperatures between the same ends at which all neighbours should swap equally often.

    The rejection rates add up along the ladder to a barrier; the new temperatures divide it evenly,
    with the barrier linear in 1 / T between the old ones (Syed et al. 2022, section 4).
    """
    inverse = [1 / value for value in temperatures]
    # A small rejection for each pair keeps the barrier rising.
    barrier = [0.0]
    for rate in swap_rate:
        barrier.append(barrier[-1] + max(1 - rate.item(), 1e-3))
    found = [temperatures[0]]
    rung = 0
    for number in range(1, len(temperatures) - 1):
        wanted = barrier[-1] * number / (len(temperatures) - 1)
        while barrier[rung + 1] < wanted:
            rung += 1
        share = (wanted - barrier[rung]) / (barrier[rung + 1] - barrier[rung])
        found.append(1 / (inverse[rung] + share * (inverse[rung + 1] - inverse[rung])))
    return (*found, temperatures[-1])


class Travelled(NamedTuple):
    """Chains, and the state of the sampler for them."""

    x: Tensor
    inner: Any


@dataclass(frozen=True)
class TemperedTransitions(Sampler[Travelled]):
    """Heat a chain up a ladder and cool it down again; accept or reject the whole journey.

    Up: one step of the sampler for exp(-E / T_2), ..., exp(-E / T_R); down: the same steps in
    the opposite order. With y_0 = x, ..., y_{2(R-1)} the points on the way and b = 1/T,
    log a = sum_up (b_{r-1} - b_r) E + sum_down (b_r - b_{r-1}) E, at the point where the
    temperature changes.

    Args:
        sampler: a reversible sampler (MALA, HMC, RandomWalk, Metropolis, ...): the way down
            must be the way up run backwards, or the target is changed.
        temperatures: rising from 1; many and close, as the journey is accepted only if the
            chain stays near equilibrium.

    Leaves exp(-E) unchanged and needs no replicas. Cost: 2 (R - 1) steps of the sampler.

    Reference: Neal (1996), Sampling from multimodal distributions using tempered
    transitions. https://doi.org/10.1007/BF00143556
    """

    sampler: Sampler
    temperatures: tuple[float, ...] = DEFAULT_LADDER
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("TemperedTransitions", self.sampler, self.temperatures)
        object.__setattr__(self, "temperatures", tuple(float(value) for value in self.temperatures))
        if not self.sampler.reversible:
            raise CapabilityError(
                f"TemperedTransitions: {self.sampler} is not reversible, so its way down would not be its way up run "
                "backwards; use MALA, HMC, RandomWalk, Metropolis or GibbsWithGradients, or ParallelTempering"
            )

    def init(self, energy: Energy, x: Tensor) -> Travelled:
        """Chains at x, with what the sampler evaluates there."""
        return Travelled(x, begin("TemperedTransitions", self.sampler, Scaled(energy, 1.0), x))

    def draw(self, state: Travelled, generator: torch.Generator) -> Noise:
        """The noise of all steps of the sampler, and uniforms `[B]` to accept."""
        num_steps = 2 * (len(self.temperatures) - 1)
        inner = [part for _ in range(num_steps) for part in self.sampler.draw(state.inner, generator)]
        return (*inner, uniform_noise(state.x, generator))

    def step(self, energy: Energy, state: Travelled, noise: Noise) -> tuple[Travelled, Info]:
        """One journey of every chain."""
        ladder = self.temperatures
        up, size = len(ladder) - 1, (len(noise) - 1) // (2 * (len(ladder) - 1))
        inner, now = state.inner, 1.0
        begun = self._energy(energy, inner, now)
        log_accept = torch.zeros_like(noise[-1])
        divergent = torch.zeros_like(noise[-1], dtype=torch.bool)
        for number, temperature in enumerate((*ladder[1:], *reversed(ladder[1:]))):
            following = 1 / temperature
            if number != up:
                log_accept = log_accept + (now - following) * self._energy(energy, inner, now)
                inner = rescale(inner, torch.full_like(noise[-1], following / now))
                now = following
            scale = torch.full_like(noise[-1], now)
            sampler = heated(self.sampler, scale.rsqrt())
            inner, info = sampler.step(Scaled(energy, scale), inner, noise[number * size : (number + 1) * size])
            divergent = divergent | info.divergent
        values = self._energy(energy, inner, now)
        log_accept = log_accept + (now - 1) * values
        inner = rescale(inner, torch.full_like(noise[-1], 1 / now))
        decision = decide(energy, inner.x, values, log_accept, noise[-1])
        inner = choose(decision.accepted, inner, state.inner)
        ended = torch.where(decision.accepted, values, begun)
        moved = displacement(state.x, inner.x)
        return Travelled(inner.x, inner), Info(ended, decision.acceptance, moved, divergent | decision.divergent)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["TemperedTransitions", Travelled]:
        """The sampler's own tuning at temperature 1."""
        sampler, inner = self.sampler.warm_up(energy, x, num_steps=num_steps, generator=generator)
        return replace(self, sampler=sampler), Travelled(inner.x, inner)

    def _energy(self, energy: Energy, inner: Any, scale: float) -> Tensor:
        return energy_of(energy, inner, torch.full_like(inner.x.flatten(1)[:, 0], scale))
