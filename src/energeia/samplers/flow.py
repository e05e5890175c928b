"""Langevin dynamics that flows from noise without noise first, and becomes that of the energy on the way."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_count, check_fraction, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Real
from energeia.samplers.annealed import Descent
from energeia.samplers.metropolis import displacement, normal_noise


@dataclass(frozen=True)
class FlowLangevin(Sampler[Descent]):
    """x' = x - (T / n) dE/dx + sqrt(2 T g(t) / n) xi at times t = 0, 1/n, 2/n, ...; g rises from 0 to 1.

    g(t) = 0 up to the time turn, (t - turn) / (1 - turn) up to 1, and 1 from then on, where this is `Langevin` with
    step_size 2 T / n. Before, it descends V = T E, which `EnergyMatching` makes a transport from noise to data: points
    of noise need the time 1 to get there.

    Args:
        temperature: T, > 0: what `EnergyMatching` was given.
        num_steps: n >= 1, steps from noise to data.
        turn: when noise comes in, 0 to 1.

    Start from the noise of the training, the space's start points, and run n steps or more: the first n are a
    search, the rest a chain at E, biased by its step. For `Real` spaces. Cost: one gradient a step.

    Reference: Balcerak et al. (2025), Energy matching: unifying flow matching and energy-based models for generative
    modeling. https://arxiv.org/abs/2504.10612

    >>> import energeia as en
    >>> sampler = en.FlowLangevin(temperature=0.1, num_steps=20)
    >>> en.sample(en.Gaussian(2), sampler, num_chains=5, num_steps=30).x.shape
    torch.Size([5, 2])
    """

    temperature: float
    num_steps: int = 40
    turn: float = 0.8

    def __post_init__(self) -> None:
        check_positive("FlowLangevin", temperature=self.temperature)
        check_count("FlowLangevin", num_steps=self.num_steps)
        check_fraction("FlowLangevin", turn=self.turn)

    def init(self, energy: Energy, x: Tensor) -> Descent:
        """Chains at x, at time 0; nothing is evaluated."""
        if not isinstance(energy.space, Real):
            raise CapabilityError(
                f"FlowLangevin flows from normal noise and needs a Real space, but the energy lives on {energy.space}; "
                "use Langevin on a Box, Gibbs or GibbsWithGradients on discrete spaces"
            )
        return Descent(x, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def draw(self, state: Descent, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Descent, noise: Noise) -> tuple[Descent, Info]:
        """One step; `Info.energy` is that of the point it started from."""
        x, time = state.x, state.num_done.to(state.x.dtype) / self.num_steps
        values, gradient = value_and_gradient(energy, x)
        # With turn = 1 all noise comes in at once.
        share = ((time - self.turn) / (1 - self.turn)).clamp(0, 1) if self.turn < 1 else (time >= 1).to(x.dtype)
        scale = math.sqrt(2 * self.temperature / self.num_steps) * share.sqrt().view(-1, *[1] * (x.dim() - 1))
        moved = x - (self.temperature / self.num_steps) * gradient + scale * noise[0]
        info = Info(values, torch.ones_like(values), displacement(x, moved), ~values.isfinite())
        return Descent(moved, state.num_done + 1), info

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["FlowLangevin", Descent]:
        """Refused: the way from noise to data would be used up in it."""
        raise InputError(
            f"FlowLangevin has nothing to tune and would flow to the data during the warm-up of {num_steps} steps; "
            f"leave warmup out and give num_steps={self.num_steps} or more"
        )
