"""Underdamped Langevin dynamics."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Box
from energeia.samplers.adapt import MassKind, check_tunable, tune
from energeia.samplers.hmc import HMC
from energeia.samplers.mass import Mass, gather, spread
from energeia.samplers.metropolis import displacement, leaps, normal_noise, require_continuous


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
        require_continuous(energy, "UnderdampedLangevin", x, self.mass, by_score=True)
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
        divergent = values.isinf()
        if isinstance(energy.space, Box):
            divergent = divergent | leaps(energy.space, self.step_size * spread(self.mass, momentum))
        jump = displacement(x, moved)
        info = Info(values, torch.ones_like(values), jump, divergent | ~jump.isfinite())
        return Phase(moved, momentum, torch.ones_like(started)), info

    def _drift(self, energy: Energy, x: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        x = x + (self.step_size / 2) * spread(self.mass, momentum)
        return energy.space.bounce(x, momentum) if isinstance(energy.space, Box) else (x, momentum)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["UnderdampedLangevin", Phase]:
        """Mass and step size, from a warm-up of HMC with one leapfrog step."""
        first = HMC(
            self.step_size,
            num_leapfrog=1,
            jitter=0.0,
            mass=self.mass,
            target_acceptance=self.target_acceptance,
            tune_mass=self.tune_mass,
        )
        tuned, state = tune(energy, first, x, num_steps=num_steps, generator=generator)
        sampler = replace(self, step_size=tuned.step_size, mass=tuned.mass)
        return sampler, sampler.init(energy, state.x)
