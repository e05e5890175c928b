"""Langevin dynamics down a schedule of temperatures or noise levels."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from energeia.core.algebra import Scaled, given
from energeia.core.energy import Energy, NoiseLevels
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Box
from energeia.core.warn import warn
from energeia.samplers.metropolis import displacement, leaps, normal_noise, require_continuous


class Descent(NamedTuple):
    """Chains, and how many steps each has made `[B]` (int64)."""

    x: Tensor
    num_done: Tensor


@dataclass(frozen=True)
class AnnealedLangevin(Sampler[Descent]):
    """Langevin dynamics at falling levels: x' = x - (h_l/2) dE_l/dx + sqrt(h_l) xi, levels l = 1..L in turn.

    over="temperature": E_l = E / level, h_l = h level / last level.
    over="noise": E_l(x) = energy(x, level), the energy of data with noise of that standard
    deviation, h_l = h (level / last level)^2 (Song & Ermon's rule).

    Args:
        levels: temperatures or noise levels, > 0, strictly falling.
        num_steps: steps at each level, >= 1; after the last level it stays there.
        step_size: h, > 0, at the last level, in squared units of x.
        over: what the levels are.

    The draws are those of a search, not of a Markov chain in equilibrium: they depend
    on the schedule, and the steps are not corrected. Run len(levels) * num_steps steps.
    On a `Box` steps are reflected at the walls. Cost: one gradient a step. For `Real`
    and `Box`.

    Reference: Song & Ermon (2019), Generative modeling by estimating gradients of the
    data distribution. https://arxiv.org/abs/1907.05600
    """

    levels: tuple[float, ...]
    num_steps: int = 100
    step_size: float = 1e-2
    over: Literal["temperature", "noise"] = "temperature"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        check_count("AnnealedLangevin", num_steps=self.num_steps)
        check_positive(
            "AnnealedLangevin", step_size=self.step_size, **{f"level {i}": v for i, v in enumerate(self.levels)}
        )
        falling = all(high > low for high, low in itertools.pairwise(self.levels))
        if not self.levels or not falling:
            raise InputError(f"AnnealedLangevin: levels must fall, such as (10, 3, 1), got {self.levels}")
        if self.over not in ("temperature", "noise"):
            raise InputError(f'AnnealedLangevin: over must be "temperature" or "noise", got {self.over!r}')

    def init(self, energy: Energy, x: Tensor) -> Descent:
        """Chains at x, at the first level; nothing is evaluated."""
        require_continuous(energy, "AnnealedLangevin", x, by_score=True)
        if self.over == "temperature" and energy.capability(NoiseLevels) is not None:
            warn(
                f"AnnealedLangevin: the levels {self.levels} are taken for temperatures of the energy at its last "
                f'noise level, but {type(energy).__name__} is a model of all noise levels: give over="noise"',
            )
        return Descent(x, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def draw(self, state: Descent, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Descent, noise: Noise) -> tuple[Descent, Info]:
        """One step at each chain's level; `Info.energy` is E_l of the point it started from."""
        x = state.x
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        level = levels[(state.num_done // self.num_steps).clamp(max=len(self.levels) - 1)]
        ratio = level / self.levels[-1]
        if self.over == "noise":
            target, step_size = given(energy, context=level), self.step_size * ratio.square()
        else:
            target, step_size = Scaled(energy, 1 / level), self.step_size * ratio
        values, gradient = value_and_gradient(target, x)
        step_size = step_size.view(-1, *[1] * (x.dim() - 1))
        moved = x - (step_size / 2) * gradient + step_size.sqrt() * noise[0]
        divergent = values.isinf()
        if isinstance(energy.space, Box):
            divergent = divergent | leaps(energy.space, moved - x)
            moved = energy.space.reflect(moved)
        jump = displacement(x, moved)
        info = Info(values, torch.ones_like(values), jump, divergent | ~jump.isfinite())
        return Descent(moved, state.num_done + 1), info

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["AnnealedLangevin", Descent]:
        """Refused: the schedule would be used up in it."""
        raise InputError(
            f"AnnealedLangevin has nothing to tune and would go down its schedule during the warm-up of {num_steps} "
            f"steps; leave warmup out and give num_steps={len(self.levels) * self.num_steps}"
        )


# So many numbers tell a spread to within a tenth.
_NUM_ENOUGH = 50


def warn_if_narrow(x: Tensor, level: float, who: str) -> None:
    """Warn if start points are far narrower than the noise of the first level: they are then no draws of it."""
    spread = float(x.square().mean().sqrt()) if x.numel() >= _NUM_ENOUGH else math.inf
    if spread < level / 2:
        warn(
            f"{who}: the start points have a root mean square of {spread:.3g}, but data with noise of the first level, "
            f"{level:g}, are at least that wide; from so narrow a start the shares of modes come out wrong. Start "
            f"wider: start_scale={level:g} in the model's en.Real, or start={level:g} * torch.randn(...)",
        )
