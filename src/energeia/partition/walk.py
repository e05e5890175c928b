"""Chains that walk from one distribution to another, level by level, and the weights that they gather."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Energy, Tractable
from energeia.core.errors import DivergenceError
from energeia.core.path import Joint, Share, beside, between, log_volume
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.sampler import Sampler
from energeia.core.units import Units, keeping
from energeia.samplers import BlockGibbs

Gain = Callable[[Share], Tensor]


class Path(Protocol):
    """Energies from one whose log Z is known, at share 0, to the model, at share 1."""

    def at(self, share: Share) -> Energy:
        """The energy at a share of the way, or at that of each chain."""
        ...

    def log_z_start(self) -> Tensor:
        """log Z at share 0, float64."""
        ...

    def draw_start(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Exact draws at share 0, `[num_chains, *event]`."""
        ...


class Geometric(NamedTuple):
    """(1 - s) E_0 + s E, from a base; with hidden units (1 - s) E_0(x) + s E(x, h) (`core.path.between`)."""

    base: Energy
    energy: Energy

    def at(self, share: Share) -> Energy:
        """The energy at a share of the way, or at that of each chain."""
        return between(self.base, self.energy, share)

    def log_z_start(self) -> Tensor:
        """log Z of the base, and of hidden units that are free."""
        return self._tractable().log_z().value.double() + log_volume(self.energy)

    def draw_start(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Exact draws of the base."""
        return self._tractable().sample_exact(num_chains, generator)

    def _tractable(self) -> Tractable:
        found = self.base.capability(Tractable)
        assert found is not None
        return found


class Walk:
    """Moves of chains along a path, and what a step to another share adds to their weights.

    Args:
        path: the energies.
        sampler: one step of it leaves the energy at a share unchanged.
        generator: of all random numbers.
        step_sizes: the step size of the sampler at a share, where it is not its own.
    """

    def __init__(
        self,
        path: Path,
        sampler: Sampler[Any],
        generator: torch.Generator,
        step_sizes: Mapping[float, float] | None = None,
    ) -> None:
        self.path, self.generator = path, generator
        self._sampler, self._step_sizes = sampler, step_sizes or {}
        self._held: tuple[Tensor, Any] | None = None

    def gain(self, x: Tensor, now: Share) -> Gain:
        """For any other share, E_now(x) - E_share(x) `[B]`, float64."""
        if isinstance(self.path, Geometric) and self.path.energy.capability(Bipartite) is None:
            rise = (self.path.base(x) - self.path.energy(x)).double()
            return lambda share: (share - now) * rise
        here = self.path.at(now)(x)
        return lambda share: (here - self.path.at(share)(x)).double()

    def move(self, x: Tensor, share: Share) -> tuple[Tensor, Tensor]:
        """x after one step at a share, and its acceptance `[B]`."""
        target = self.path.at(share)
        sampler = self._sampler
        if not isinstance(share, Tensor) and share in self._step_sizes:
            sampler = cast(Any, replace(cast(Any, sampler), step_size=self._step_sizes[share]))
        state = self._state(sampler, target, x)
        state, info = sampler.step(target, state, sampler.draw(state, self.generator))
        x = cast(Any, state).x
        self._held = (x, state)
        return x, info.acceptance

    def _state(self, sampler: Sampler[Any], target: Energy, x: Tensor) -> Any:
        """The state of the sampler at x: that of the last step if nothing in it depends on the energy."""
        if self._held is not None and self._held[0] is x:
            state = self._held[1]
            if not {"energy", "gradient"} & set(state._fields):
                return state
        return sampler.init(target, x)

    def with_step_sizes(self, step_sizes: Mapping[float, float]) -> "Walk":
        """The same with other step sizes."""
        return type(self)(self.path, self._sampler, self.generator, step_sizes)


class LayersWalk(Walk):
    """Block Gibbs sampling along a geometric path: hidden parameters of x serve both the weights and the next step."""

    def __init__(
        self,
        path: Path,
        sampler: Sampler[Any],
        generator: torch.Generator,
        step_sizes: Mapping[float, float] | None = None,
    ) -> None:
        super().__init__(path, sampler, generator, step_sizes)
        assert isinstance(path, Geometric)
        layers = path.energy.capability(Bipartite)
        assert layers is not None
        self._layers, self._base = layers, path.base
        self._last: tuple[Tensor, Tensor] | None = None
        # One view for all steps: to make one costs as much as a step.
        self._view: Joint | None = None

    def _natural(self, x: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not x:
            self._last = (x, self._layers.hidden_parameters(x))
        return self._last[1]

    def gain(self, x: Tensor, now: Share) -> Gain:
        """For any other share, E_now(x) - E_share(x) `[B]`, float64."""
        natural, hidden = self._natural(x), self._layers.hidden
        rise = self._base(x) - self._layers.visible_energy(x)
        here = hidden.log_partition(beside(now, natural) * natural)

        def to(share: Share) -> Tensor:
            return ((share - now) * rise + hidden.log_partition(beside(share, natural) * natural) - here).double()

        return to

    def move(self, x: Tensor, share: Share) -> tuple[Tensor, Tensor]:
        """x after h ~ p(h | x) and x ~ p(x | h) at a share; every step is accepted."""
        if self._view is None:
            view = self.path.at(share)
            assert isinstance(view, Joint)
            self._view = view
        view = self._view
        view.go_to(share)
        natural = self._natural(x)
        natural = beside(share, natural) * natural
        h = self._layers.hidden.from_natural(natural, _uniform(natural, self.generator))
        to_visible = view.visible_parameters(h)
        units: Units = keeping(view.visible, x)
        return units.from_natural(to_visible, _uniform(to_visible, self.generator)), torch.ones_like(x.flatten(1)[:, 0])


def walk_of(path: Path, sampler: Sampler[Any], generator: torch.Generator) -> Walk:
    """The walk that fits a path and a sampler."""
    layers = isinstance(path, Geometric) and path.energy.capability(Bipartite) is not None
    return (LayersWalk if layers and isinstance(sampler, BlockGibbs) else Walk)(path, sampler, generator)


class Progress(NamedTuple):
    """Chains on their way: levels behind them, where they are, and the log of their weights, float64."""

    level: int
    x: Tensor
    log_weights: Tensor


Watch = Callable[[Progress], None]
Resample = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def begin(x: Tensor) -> Progress:
    """Chains at x before the first level."""
    return Progress(0, x, torch.zeros(len(x), dtype=torch.float64, device=x.device))


def anneal(
    walk: Walk,
    start: Progress,
    shares: Sequence[float],
    *,
    watch: Watch | None = None,
    resample: Resample | None = None,
) -> Progress:
    """Chains taken along the shares, up from 0 to 1 or down from 1 to 0.

    log w += E_now(x) - E_following(x) at each level. Up, chains move after a level is reached; down,
    before it is left: one walk is the other backwards.

    Args:
        walk: how they move.
        start: where they stand; from a level beyond 0 they go on.
        shares: of all levels.
        watch: called some hundred times on the way.
        resample: x and log weights after each level, from those before it.

    Raises:
        DivergenceError: a weight is not finite.
    """
    down = shares[0] > shares[-1]
    total = len(shares) - 1
    every = max(1, total // 100)
    level, x, log_weights = start
    with torch.no_grad():
        for now, following in itertools.pairwise(shares[level:]):
            if down:
                x, _ = walk.move(x, now)
            log_weights = log_weights + walk.gain(x, now)(following)
            if resample is not None:
                x, log_weights = resample(x, log_weights)
            if not down:
                x, _ = walk.move(x, following)
            level += 1
            if level % every == 0 or level == total:
                _check_finite(log_weights, following)
                if watch is not None:
                    watch(Progress(level, x, log_weights))
    return Progress(level, x, log_weights)


def _check_finite(log_weights: Tensor, share: float) -> None:
    bad = int((~log_weights.isfinite()).sum())
    if bad:
        raise DivergenceError(
            f"annealing: {bad} of {len(log_weights)} weights are NaN or infinite {share:.0%} of the way; the energy is "
            "not finite somewhere, or not normalisable: look at en.sample(...) of it, or take more levels"
        )


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return uniform_from_bits(random_bits(tuple(like.shape), generator, dtype=like.dtype))
