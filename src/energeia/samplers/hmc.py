"""Hamiltonian Monte Carlo."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Box
from energeia.samplers.adapt import ChEES, MassKind, Tuner, check_tunable
from energeia.samplers.langevin import Differentiated
from energeia.samplers.mass import Mass, gather, spread
from energeia.samplers.metropolis import metropolis, normal_noise, require_continuous, uniform_noise

# A trajectory that gains more energy than this has left the target: reported as divergent.
_MAX_ENERGY_ERROR = 1000.0
# While chains are on their way to the target, long trajectories are wasted.
_TRAVELLING = 16


@dataclass(frozen=True)
class HMC(Sampler[Differentiated]):
    """Hamiltonian Monte Carlo with the leapfrog integrator and fresh momenta.

    H(x, xi) = E(x) + |xi|^2 / 2, xi ~ N(0, I), dx/dt = A xi, dxi/dt = -A' dE/dx, with
    A A' = M^-1; num_leapfrog steps of size h, then accepted with min(1, exp(-dH)).

    Args:
        step_size: h, > 0, in units of the mass; stable below 2 in each direction of unit variance.
        num_leapfrog: leapfrog steps L of a trajectory, >= 1; its length is L h.
        jitter: j in [0, 1): each chain and step takes h times its own uniform number in
            [1 - j, 1 + j]. With j = 0 a trajectory near a half period of some direction
            (L h = pi for unit variance) hardly mixes it.
        mass: A A' = M^-1, near the covariance of the target; None for the identity.
        target_acceptance, tune_mass: what a warm-up aims at, and which mass it learns. It
            also sets num_leapfrog, by ChEES with 8 chains or more, else to a length of pi / 2.
        max_leapfrog: the most that a warm-up may set, >= 1. It bounds the cost where trajectories want to
            be long: a condition number, after the mass, above some ten thousand, or a density that does
            not fall off.

    Leaves exp(-E) unchanged for any h. On a `Box` trajectories are reflected at the
    walls. Cost: L gradients a step (that of the current point is kept). A gain of energy
    above 1000 counts as divergent. It does not move between modes that are far apart:
    see `ParallelTempering`. For `Real` and `Box`.

    Reference: Duane et al. (1987), https://doi.org/10.1016/0370-2693(87)91197-X; Neal
    (2011), MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901
    """

    step_size: float = 0.1
    num_leapfrog: int = 10
    jitter: float = 0.2
    mass: Mass | None = None
    target_acceptance: float = 0.8
    tune_mass: MassKind = "diagonal"
    max_leapfrog: int = 256
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_tunable("HMC", self)
        check_count("HMC", num_leapfrog=self.num_leapfrog, max_leapfrog=self.max_leapfrog)
        if not 0 <= self.jitter < 1:
            raise InputError(f"HMC: jitter must lie in [0, 1), got {self.jitter}")

    def init(self, energy: Energy, x: Tensor) -> Differentiated:
        """Chains at x, with one gradient evaluation."""
        require_continuous(energy, "HMC", x, self.mass)
        return Differentiated(x, *value_and_gradient(energy, x))

    def draw(self, state: Differentiated, generator: torch.Generator) -> Noise:
        """Whitened momenta `[B, *event]`, uniforms `[B]` to accept and, with jitter, `[B]` for the step sizes."""
        noise = (normal_noise(state.x, generator), uniform_noise(state.x, generator))
        return (*noise, uniform_noise(state.x, generator)) if self.jitter else noise

    def step(self, energy: Energy, state: Differentiated, noise: Noise) -> tuple[Differentiated, Info]:
        """One trajectory of every chain, accepted or not."""
        end, momentum = self.trajectory(energy, state, noise)
        return self._accept(energy, state, end, noise, momentum)

    def trajectory(self, energy: Energy, state: Differentiated, noise: Noise) -> tuple[Differentiated, Tensor]:
        """Where the leapfrog leads from a state and the momenta in the noise, and the whitened momenta there.

        Run again from the end with the momenta turned round, it comes back.
        """
        x, values, gradient = state
        xi, h = noise[0], self._step_sizes(noise)
        box = energy.space if isinstance(energy.space, Box) else None
        xi = xi - (h / 2) * gather(self.mass, gradient)
        for number in range(self.num_leapfrog):
            x = x + h * spread(self.mass, xi)
            if box is not None:
                x, xi = box.bounce(x, xi)
            values, gradient = value_and_gradient(energy, x)
            last = number == self.num_leapfrog - 1
            xi = xi - (h / 2 if last else h) * gather(self.mass, gradient)
        return Differentiated(x, values, gradient), xi

    def _step_sizes(self, noise: Noise) -> Tensor | float:
        if not self.jitter:
            return self.step_size
        return (self.step_size * (1 + self.jitter * (2 * noise[2] - 1))).view(-1, *[1] * (noise[0].dim() - 1))

    def _accept(
        self, energy: Energy, state: Differentiated, end: Differentiated, noise: Noise, momentum: Tensor
    ) -> tuple[Differentiated, Info]:
        kinetic = (noise[0].flatten(1).square().sum(1) - momentum.flatten(1).square().sum(1)) / 2
        log_accept = state.energy - end.energy + kinetic
        result, info = metropolis(energy, state, end, log_accept, noise[1])
        return result, info._replace(divergent=info.divergent | (log_accept < -_MAX_ENERGY_ERROR))

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["HMC", Differentiated]:
        """Step size, mass and number of leapfrog steps."""
        state = self.init(energy, x)
        tuner = Tuner(energy, replace(self, num_leapfrog=1), state, num_steps, generator)
        trajectory = ChEES(math.pi / 2)
        for _ in range(num_steps):
            most = min(_TRAVELLING, self.max_leapfrog) if tuner.travelling else self.max_leapfrog
            step_size = tuner.step.step_size
            num_leapfrog = min(max(1, round(trajectory.length / step_size)), most)
            current = replace(self, step_size=step_size, num_leapfrog=num_leapfrog, mass=tuner.mass)
            noise = current.draw(state, generator)
            end, momentum = current.trajectory(energy, state, noise)
            following, info = current._accept(energy, state, end, noise, momentum)
            if not tuner.travelling and len(x) >= ChEES.MIN_CHAINS:
                length = torch.ones_like(info.acceptance) * current.num_leapfrog
                length = length * torch.as_tensor(current._step_sizes(noise), device=x.device).flatten()
                trajectory.update(current.mass, state.x, end.x, momentum, length, info.acceptance)
            state = following
            if tuner.update(state, info):
                trajectory = ChEES(math.pi / 2)
        # Trajectories of the tuned length in whole steps, none more than a tenth longer than tuned.
        num_leapfrog = min(max(1, math.ceil(trajectory.average / (1.1 * tuner.step.average))), self.max_leapfrog)
        step_size = min(trajectory.average / num_leapfrog, 1.1 * tuner.step.average)
        return replace(self, step_size=step_size, num_leapfrog=num_leapfrog, mass=tuner.mass), state
