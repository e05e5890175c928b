"""Langevin dynamics: unadjusted (ULA, SGLD) and Metropolis-adjusted (MALA)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Box
from energeia.samplers.adapt import MassKind, check_tunable, tune
from energeia.samplers.mass import Mass, gather, spread
from energeia.samplers.metropolis import displacement, metropolis, normal_noise, require_continuous, uniform_noise


class Position(NamedTuple):
    """Chains, and nothing cached."""

    x: Tensor


@dataclass(frozen=True)
class Langevin(Sampler[Position]):
    """Unadjusted Langevin dynamics: x' = x - (h/2) dE/dx + s xi, xi ~ N(0, I).

    Args:
        step_size: h, > 0, in squared units of x.
        noise_scale: s, >= 0. None gives s = sqrt(h temperature), the Langevin
            diffusion. Any other s is the convention of stochastic-gradient Langevin
            training: x' = x - a dE/dx + sigma xi is step_size = 2 a, noise_scale = sigma;
            it runs at temperature s^2 / h.
        temperature: T, > 0: the target is exp(-E / T). Only with noise_scale None.
        gradient_clamp: bound, > 0, on every entry of dE/dx; None for none. The
            chain then no longer targets exp(-E) where the bound acts.
        boundary: on a `Box`: "reflect" folds x back at the walls, so the diffusion
            keeps exp(-E) on the box; "clamp" projects to the walls, which is biased
            (mass piles up on them); "none" lets x leave.

    The step is not corrected: the stationary distribution is off by O(h). On N(0, s0^2)
    its variance is s0^2 / (1 - h / (4 s0^2)). Use `MALA` for exact draws. Cost: one
    gradient a step. For `Real` and `Box` spaces.

    Reference: Roberts & Tweedie (1996), Exponential convergence of Langevin
    distributions and their discrete approximations. https://doi.org/10.2307/3318418
    """

    step_size: float
    noise_scale: float | None = None
    temperature: float = 1.0
    gradient_clamp: float | None = None
    boundary: Literal["reflect", "clamp", "none"] = "reflect"

    def __post_init__(self) -> None:
        check_positive("Langevin", step_size=self.step_size, temperature=self.temperature)
        if self.gradient_clamp is not None:
            check_positive("Langevin", gradient_clamp=self.gradient_clamp)
        if self.noise_scale is not None and not 0 <= self.noise_scale < math.inf:
            raise InputError(f"Langevin: noise_scale must be a finite number of at least 0, got {self.noise_scale}")
        if self.noise_scale is not None and self.temperature != 1:
            raise InputError(
                "Langevin: give noise_scale or temperature, not both; noise_scale s is temperature s^2 / step_size"
            )
        if self.boundary not in ("reflect", "clamp", "none"):
            raise InputError(f'Langevin: boundary must be "reflect", "clamp" or "none", got {self.boundary!r}')

    def init(self, energy: Energy, x: Tensor) -> Position:
        """Chains at x; nothing is evaluated."""
        require_continuous(energy, "Langevin")
        return Position(x)

    def draw(self, state: Position, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Position, noise: Noise) -> tuple[Position, Info]:
        """One step; `Info.energy` is that of the point it started from.

        In a `Box`, a step longer than the box is wide is reported as divergent.
        """
        x = state.x
        values, gradient = value_and_gradient(energy, x)
        if self.gradient_clamp is not None:
            gradient = gradient.clamp(-self.gradient_clamp, self.gradient_clamp)
        scale = math.sqrt(self.step_size * self.temperature) if self.noise_scale is None else self.noise_scale
        moved = x - (self.step_size / 2) * gradient + scale * noise[0]
        divergent = ~values.isfinite()
        if isinstance(energy.space, Box) and self.boundary != "none":
            # Folding and clamping would hide a step that is longer than the box is wide.
            width = energy.space.high - energy.space.low
            divergent = divergent | ~((moved - x).flatten(1).abs().amax(1) <= width)
        if isinstance(energy.space, Box) and self.boundary == "reflect":
            moved = energy.space.reflect(moved)
        elif isinstance(energy.space, Box) and self.boundary == "clamp":
            moved = moved.clamp(energy.space.low, energy.space.high)
        info = Info(values, torch.ones_like(values), displacement(x, moved), divergent)
        return Position(moved), info


class Differentiated(NamedTuple):
    """Chains with the energy and gradient where they stand."""

    x: Tensor
    energy: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class MALA(Sampler[Differentiated]):
    """Metropolis-adjusted Langevin: propose y = x - (h/2) M^-1 dE(x) + sqrt(h) A xi, accept each chain by itself.

    log a = E(x) - E(y) + log q(x|y) - log q(y|x), q(y|x) = N(y; x - (h/2) M^-1 dE(x), h M^-1), A A' = M^-1.

    Args:
        step_size: h, > 0, in squared units of x (of the mass). The best acceptance in high
            dimension is .574.
        mass: A A' = M^-1, near the covariance of the target; None for the identity.
        target_acceptance, tune_mass: what a warm-up aims at, and which mass it learns.

    Leaves exp(-E) unchanged for any h. On a `Box`, proposals outside are rejected.
    Cost: one gradient a step (that of the current point is kept). For `Real` and `Box`.

    Reference: Roberts & Tweedie (1996); Roberts & Rosenthal (1998), Optimal scaling of
    discrete approximations to Langevin diffusions. https://doi.org/10.1111/1467-9868.00123
    """

    step_size: float = 0.1
    mass: Mass | None = None
    target_acceptance: float = 0.574
    tune_mass: MassKind = "diagonal"
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_tunable("MALA", self)

    def init(self, energy: Energy, x: Tensor) -> Differentiated:
        """Chains at x, with one gradient evaluation."""
        require_continuous(energy, "MALA", self.mass)
        return Differentiated(x, *value_and_gradient(energy, x))

    def draw(self, state: Differentiated, generator: torch.Generator) -> Noise:
        """Normals `[B, *event]` for the proposal and uniforms `[B]` to accept."""
        return (normal_noise(state.x, generator), uniform_noise(state.x, generator))

    def step(self, energy: Energy, state: Differentiated, noise: Noise) -> tuple[Differentiated, Info]:
        """One proposal for every chain, accepted or not."""
        xi, uniform = noise
        h = self.step_size
        # In whitened units the way there is w and the way back starts at y's own drift.
        w = math.sqrt(h) * xi - (h / 2) * gather(self.mass, state.gradient)
        y = state.x + spread(self.mass, w)
        energy_y, gradient_y = value_and_gradient(energy, y)
        back = (h / 2) * gather(self.mass, gradient_y) - w
        log_ratio = (xi.flatten(1).square().sum(1) - back.flatten(1).square().sum(1) / h) / 2
        log_accept = state.energy - energy_y + log_ratio
        proposal = Differentiated(y, energy_y, gradient_y)
        return metropolis(energy, state, proposal, log_accept, uniform)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["MALA", Differentiated]:
        """Step size and mass."""
        return tune(energy, self, x, num_steps=num_steps, generator=generator)


class Phase(NamedTuple):
    """Chains with whitened momenta; started `[B]` is 0 before the first step, which draws the momentum."""

    x: Tensor
    momentum: Tensor
    started: Tensor


@dataclass(frozen=True)
class UnderdampedLangevin(Sampler[Phase]):
    """Underdamped (kinetic) Langevin dynamics, split as BAOAB.

    dx = A xi dt, dxi = -A' dE/dx dt - gamma xi dt + sqrt(2 gamma) dW, A A' = M^-1. One step
    is a kick of h, a drift of h/2, xi' = c xi + sqrt(1 - c^2) noise with c = exp(-gamma h),
    and a drift of h/2; x is that of BAOAB between its two half kicks.

    Args:
        step_size: h, > 0, in units of the mass; stable below 2 in each direction of unit variance.
        friction: gamma, > 0, in the same units; the momentum is forgotten after 1 / gamma.
        mass: A A' = M^-1, near the covariance of the target; None for the identity.
        target_acceptance, tune_mass: a warm-up learns the mass, and takes the step size
            with which one leapfrog step would be accepted so often; nearer to 1 is less biased.

    The step is not corrected: x is off by O(h^2), and not at all on Gaussians; where the
    curvature varies by much (a banana), chains can leave the finite numbers. On a `Box`
    it is reflected at the walls. Cost: one gradient a step. `Info.energy` is that of the
    point a step started from. For `Real` and `Box`.

    Reference: Leimkuhler & Matthews (2013), Rational construction of stochastic numerical
    methods for molecular sampling. https://doi.org/10.1093/amrx/abs010
    """

    step_size: float = 0.1
    friction: float = 1.0
    mass: Mass | None = None
    target_acceptance: float = 0.98
    tune_mass: MassKind = "diagonal"

    def __post_init__(self) -> None:
        check_tunable("UnderdampedLangevin", self)
        check_positive("UnderdampedLangevin", friction=self.friction)

    def init(self, energy: Energy, x: Tensor) -> Phase:
        """Chains at x; momenta are drawn in the first step. Nothing is evaluated."""
        require_continuous(energy, "UnderdampedLangevin", self.mass)
        return Phase(x, torch.zeros_like(x), torch.zeros_like(x.flatten(1)[:, 0]))

    def draw(self, state: Phase, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Phase, noise: Noise) -> tuple[Phase, Info]:
        """One step of every chain."""
        x, momentum, started = state
        values, gradient = value_and_gradient(energy, x)
        momentum = momentum - self.step_size * gather(self.mass, gradient)
        moved, momentum = self._drift(energy, x, momentum)
        keep = (math.exp(-self.friction * self.step_size) * started).view(-1, *[1] * (x.dim() - 1))
        momentum = keep * momentum + (1 - keep.square()).sqrt() * noise[0]
        moved, momentum = self._drift(energy, moved, momentum)
        info = Info(values, torch.ones_like(values), displacement(x, moved), ~values.isfinite())
        return Phase(moved, momentum, torch.ones_like(started)), info

    def _drift(self, energy: Energy, x: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        x = x + (self.step_size / 2) * spread(self.mass, momentum)
        return energy.space.bounce(x, momentum) if isinstance(energy.space, Box) else (x, momentum)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["UnderdampedLangevin", Phase]:
        """Mass and step size, from a warm-up of MALA, whose proposal is one leapfrog step of sqrt(h)."""
        first = MALA(self.step_size**2, self.mass, self.target_acceptance, self.tune_mass)
        tuned, state = tune(energy, first, x, num_steps=num_steps, generator=generator)
        sampler = replace(self, step_size=math.sqrt(tuned.step_size), mass=tuned.mass)
        return sampler, sampler.init(energy, state.x)
