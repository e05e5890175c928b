"""From noise to data: the reverse diffusion, as a stochastic equation or as the ordinary one of the same marginals."""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from energeia.core.algebra import given
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Real
from energeia.samplers.annealed import Descent, warn_if_narrow
from energeia.samplers.metropolis import displacement, normal_noise


@dataclass(frozen=True)
class ReverseDiffusion(Sampler[Descent]):
    """Down the noise levels sigma_1 > ... > sigma_L of a noise-conditional model, one step from level to level.

    With s the score of the data with noise sigma, and D(x) = x + sigma^2 s(x, sigma) the data to be expected behind x:

        kind="sde": x' = D + (sigma'^2 / sigma^2) (x - D) + sigma' sqrt(1 - sigma'^2 / sigma^2) xi
        kind="ode": dx / dsigma = -sigma s(x, sigma), by Heun's method

    The first draws x' from its posterior given x as if the data behind x were at D (the reverse of the
    variance-exploding diffusion); the second, the probability-flow equation, has the same marginals and is a function
    of the start.

    Args:
        levels: noise levels, > 0, strictly falling; they may be finer than those the model was trained at.
            The error of a step falls with sigma / sigma' - 1: first order for "sde", second for "ode".
        kind: which equation.

    Start at noise: `start=levels[0] * randn`, or with data of spread c at sqrt(levels[0]^2 + c^2) * randn. Run
    len(levels) - 1 steps; those after the last level change nothing. The draws have noise levels[-1] still. Not a
    Markov chain with a stationary distribution: no warm-up, no thinning. Cost: one gradient a step, two for "ode". For
    `Real`.

    Reference: Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole (2021), Score-based generative modeling through
    stochastic differential equations, https://arxiv.org/abs/2011.13456; Karras et al. (2022), https://arxiv.org/abs/2206.00364
    """

    levels: tuple[float, ...]
    kind: Literal["sde", "ode"] = "sde"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        check_positive("ReverseDiffusion", **{f"levels[{i}]": level for i, level in enumerate(self.levels)})
        if len(self.levels) < 2 or not all(high > low for high, low in itertools.pairwise(self.levels)):
            raise InputError(f"ReverseDiffusion: levels must be two at least and fall, got {self.levels}")
        if self.kind not in ("sde", "ode"):
            raise InputError(f'ReverseDiffusion: kind must be "sde" or "ode", got {self.kind!r}')

    def init(self, energy: Energy, x: Tensor) -> Descent:
        """Chains at x, at the first level; nothing is evaluated."""
        if not isinstance(energy.space, Real):
            raise CapabilityError(
                "ReverseDiffusion starts from normal noise and needs a Real space, but the energy lives on "
                f"{energy.space}; use AnnealedLangevin on a Box, or a model on en.Real"
            )
        warn_if_narrow(x, self.levels[0], "ReverseDiffusion")
        return Descent(x, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def draw(self, state: Descent, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`, which "ode" leaves unused."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Descent, noise: Noise) -> tuple[Descent, Info]:
        """One level down; `Info.energy` is that of the point it started from, at its level."""
        x, shape = state.x, (-1, *[1] * (state.x.dim() - 1))
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        last = len(self.levels) - 1
        high, low = levels[state.num_done.clamp(max=last)], levels[(state.num_done + 1).clamp(max=last)]
        values, gradient = value_and_gradient(given(energy, context=high), x)
        sigma, following = high.view(shape), low.view(shape)
        if self.kind == "sde":
            kept = (following / sigma).square()
            clean = x - sigma.square() * gradient
            moved = clean + kept * (x - clean) + following * (1 - kept).clamp_min(0).sqrt() * noise[0]
        else:
            slope = sigma * gradient
            reached = x + (following - sigma) * slope
            _, ahead = value_and_gradient(given(energy, context=low), reached)
            moved = x + (following - sigma) * (slope + following * ahead) / 2
        jump = displacement(x, moved)
        return Descent(moved, state.num_done + 1), Info(
            values, torch.ones_like(values), jump, values.isinf() | ~jump.isfinite()
        )

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["ReverseDiffusion", Descent]:
        """Refused: the levels would be used up in it."""
        raise InputError(
            f"ReverseDiffusion has nothing to tune and would go down its levels during the warm-up of {num_steps} "
            f"steps; leave warmup out and give num_steps={len(self.levels) - 1}"
        )
