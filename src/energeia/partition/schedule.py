"""Where the levels of annealing lie: a pilot walk finds steps that are equally hard."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.core.sampler import Sampler
from energeia.partition.walk import Gain, Walk

Levels = int | Sequence[float]

# Spread of the log weights that a step of the pilot may make.
_SPREAD = 0.5
_NUM_PILOTS = 100
_HALVINGS = 10
# Steps at each level of the pilot, and how fast the step size follows the acceptance.
_MOVES, _RATE = 3, 0.5
# Steps before the first of them.
_SETTLING = 40


class Schedule(NamedTuple):
    """Shares from 0 to 1, the step size of the sampler at each, and what the pilot saw.

    step_sizes: by share; empty where the sampler has none to tune.
    length: the thermodynamic length of the path, the integral of the standard deviation of dlog w / ds: with K
        levels and chains that forget at once, log weights have a variance of length^2 / K. NaN if shares were given.
    """

    shares: tuple[float, ...]
    step_sizes: dict[float, float]
    length: float


def check_levels(who: str, levels: Levels) -> None:
    """Raise `InputError` unless levels are a number or shares that rise from 0 to 1."""
    if isinstance(levels, int):
        check_count(who, levels=levels)
        return
    shares = tuple(float(share) for share in levels)
    rising = all(low < high for low, high in itertools.pairwise(shares))
    if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1 or not rising:
        raise InputError(f"{who}: levels must be a number of them, or shares that rise from 0 to 1, got {levels!r}")


def schedule(walk: Walk, sampler: Sampler[Any], levels: Levels) -> Schedule:
    """Levels between which the weights of chains spread equally, found by a pilot of 100 chains.

    The pilot starts from exact draws at share 0 and goes as far at a time as spreads the log weights by .5
    (by bisection), then moves its chains three times and lets the step size, if the sampler has one and a
    target_acceptance, follow their acceptance. The levels are laid equally along the length it has gone:
    steps of equal Kullback-Leibler divergence. They are fixed before the chains that are counted begin.

    Args:
        walk: how chains move along the path.
        sampler: its sampler.
        levels: their number K, or the shares themselves.

    Cost: four steps of 100 chains for each half of a unit of length, at most K of those.

    Reference: Gelman & Meng (1998), Simulating normalizing constants, https://doi.org/10.1214/ss/1028905934;
    Grosse, Maddison & Salakhutdinov (2013), Annealing between distributions by averaging moments.
    """
    if not isinstance(levels, int):
        return Schedule(tuple(float(share) for share in levels), {}, math.nan)
    x = walk.path.draw_start(_NUM_PILOTS, walk.generator)
    follower = _StepSize(sampler)
    with torch.no_grad():
        # At the start the step size has no earlier one to come from.
        for _ in range(_SETTLING if follower.tunes else 0):
            x, acceptance = follower.walk(walk, 0.0).move(x, 0.0)
            follower.update(acceptance)
        passed, sizes, lengths = [0.0], [follower.value], [0.0]
        while passed[-1] < 1 and len(passed) <= levels:
            now = passed[-1]
            share, spread = _reach(walk.gain(x, now), now)
            for _ in range(_MOVES):
                x, acceptance = follower.walk(walk, share).move(x, share)
                follower.update(acceptance)
            passed.append(share)
            sizes.append(follower.value)
            lengths.append(lengths[-1] + spread)
    if passed[-1] < 1:
        # The pilot has used up its steps: what is left gets the share of levels that its last step would have had.
        passed.append(1.0)
        sizes.append(follower.value)
        lengths.append(lengths[-1] * (1 + 1 / len(lengths)))
    if lengths[-1] == 0:
        lengths = passed
    shares = _interpolate([number * lengths[-1] / levels for number in range(levels + 1)], lengths, passed)
    shares = (0.0, *shares[1:-1], 1.0)
    tuned = _interpolate(shares, passed, [math.log(size) for size in sizes]) if follower.tunes else ()
    step_sizes = {share: math.exp(size) for share, size in zip(shares, tuned, strict=False)}
    return Schedule(shares, step_sizes, lengths[-1])


def refined(laid: Schedule) -> Schedule:
    """Twice as many levels: a new one in the middle of any two."""
    shares: list[float] = [laid.shares[0]]
    sizes = dict(laid.step_sizes)
    for low, high in itertools.pairwise(laid.shares):
        middle = (low + high) / 2
        shares += [middle, high]
        if sizes:
            sizes[middle] = math.sqrt(sizes[low] * sizes[high])
    return laid._replace(shares=tuple(shares), step_sizes=sizes)


@runtime_checkable
class _Tunable(Protocol):
    """A sampler with a step size, and an acceptance to aim at."""

    @property
    def step_size(self) -> float: ...

    @property
    def target_acceptance(self) -> float: ...


class _StepSize:
    """A step size that follows the acceptance, if the sampler has both."""

    def __init__(self, sampler: Sampler[Any]) -> None:
        self.tunes = isinstance(sampler, _Tunable)
        self.value, self._target = (
            (sampler.step_size, sampler.target_acceptance) if isinstance(sampler, _Tunable) else (1.0, 1.0)
        )

    def walk(self, walk: Walk, share: float) -> Walk:
        """The walk with the present step size."""
        return walk.with_step_sizes({share: self.value}) if self.tunes else walk

    def update(self, acceptance: Tensor) -> None:
        """Larger where more is accepted than aimed at."""
        self.value *= math.exp(_RATE * (float(acceptance.mean()) - self._target))


def _reach(gain: Gain, now: float) -> tuple[float, float]:
    """The share up to which log weights spread by no more than the pilot's step, and by how much they do."""

    def spread(share: float) -> float:
        found = float(gain(share).std())
        return found if math.isfinite(found) else math.inf

    whole = spread(1.0)
    if whole <= _SPREAD:
        return 1.0, whole
    # The step from `now` may be many orders shorter than the way: its length is halved, then its digits are sought.
    step = 1.0 - now
    while spread(now + step) > _SPREAD and step > 1e-12:
        step /= 2
    low, high = now + step, now + 2 * step
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spread(middle) <= _SPREAD else (low, middle)
    # Another float always, or the pilot would stand still.
    low = max(low, math.nextafter(now, 2.0))
    return low, min(spread(low), _SPREAD)


def _interpolate(places: Sequence[float], known: Sequence[float], values: Sequence[float]) -> tuple[float, ...]:
    """Values at places on the broken line through (known, values); known rises."""
    found: list[float] = []
    segment = 0
    for place in places:
        while segment < len(known) - 2 and known[segment + 1] < place:
            segment += 1
        width = known[segment + 1] - known[segment]
        part = 0.0 if width <= 0 else min(max((place - known[segment]) / width, 0.0), 1.0)
        found.append(values[segment] + part * (values[segment + 1] - values[segment]))
    return tuple(found)
