"""Overdamped Langevin dynamics: unadjusted (ULA, SGLD) and Metropolis-adjusted (MALA)."""

import math
from dataclasses import dataclass
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
from energeia.samplers.metropolis import (
    displacement,
    leaps,
    metropolis,
    normal_noise,
    require_continuous,
    uniform_noise,
)


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
        require_continuous(energy, "Langevin", x, by_score=True)
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
        divergent = values.isinf()
        if isinstance(energy.space, Box) and self.boundary != "none":
            divergent = divergent | leaps(energy.space, moved - x)
        if isinstance(energy.space, Box) and self.boundary == "reflect":
            moved = energy.space.reflect(moved)
        elif isinstance(energy.space, Box) and self.boundary == "clamp":
            moved = moved.clamp(energy.space.low, energy.space.high)
        jump = displacement(x, moved)
        info = Info(values, torch.ones_like(values), jump, divergent | ~jump.isfinite())
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
        require_continuous(energy, "MALA", x, self.mass)
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
