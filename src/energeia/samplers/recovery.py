"""Langevin dynamics down a ladder of noise, each rung given the one above: how recovery likelihood samples."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.algebra import given
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_count, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Real, Space
from energeia.samplers.annealed import warn_if_narrow
from energeia.samplers.metropolis import displacement, normal_noise


class Rung(NamedTuple):
    """Chains, the noisier point each is to be recovered from, and how many steps each has made `[B]` (int64)."""

    x: Tensor
    noisy: Tensor
    num_done: Tensor


class Tether(Energy):
    """E(x) = |x - noisy|^2 / (2 variance): what is known of x from x + noise.

    Args:
        noisy: a point for each chain, `[B, *event]`.
        variance: of the noise, `[B]`, > 0.
        space: where x lives.
    """

    def __init__(self, noisy: Tensor, variance: Tensor, space: Space) -> None:
        super().__init__(space)
        self.noisy, self.variance = noisy, variance

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return (x - self.noisy).flatten(1).square().sum(1) / (2 * self.variance)


@dataclass(frozen=True)
class RecoveryLangevin(Sampler[Rung]):
    """Langevin dynamics for x at one noise level given x at the level above, and so down the ladder.

        p(x_l | x_(l-1)) proportional to exp(-energy(x_l, s_l) - |x_(l-1) - x_l|^2 / (2 v)),  v = s_(l-1)^2 - s_l^2.

    Chains begin at x_0, data with noise of the first level. On each further level a chain starts where the last one
    ended and is tied to that point: x' = x - (h/2) dE/dx + sqrt(h) xi, h = step_size v s_l^2 / s_(l-1)^2, the variance
    that x_l has given x_(l-1) where the data are a single point. So the modes of each level are few, and
    near: that is what makes short chains right where those of the marginal energy never mix.

    Args:
        levels: standard deviations s of the noise, > 0, strictly falling, at least two. Of the first, data must
            look like a normal; below the last they are not cleaned (`tasks.restore.denoise` does that).
        num_steps: steps at each level after the first, >= 1.
        step_size: in units of that variance, > 0; unstable from 4 on.

    The energy is conditional on noise: energy(x, levels `[B]`), see `given(context=)`; energy(x) alone should be
    that of the last level. Run (len(levels) - 1) num_steps steps, from points of the first level: choose
    start_scale of the space near the root of the data's variance + s_0^2. Not corrected: biased by the step size,
    and towards x_(l-1) by too few steps; what each level adds is handed down. In the example the variance is 1.30
    instead of 1.25; 30 steps of .5 a level make it 1.37, 10 of .5 1.72. More steps stay at the last level. For
    `Real` spaces. Cost: one gradient a step.

    Reference: Gao, Song, Poole, Wu & Kingma (2021), Learning energy-based models by diffusion recovery likelihood,
    https://arxiv.org/abs/2012.08125. Theirs shrinks the data as noise is added, so that variances stay 1; with x
    divided by the root of 1 + s^2 it is the same ladder.

    >>> import torch, energeia as en
    >>> class Blurred(en.Energy):  # data N(0, 1) with noise
    ...     def forward(self, x, level=torch.tensor(0.5)):
    ...         return x.square().sum(1) / (2 * (1 + level**2))
    >>> sampler = en.RecoveryLangevin(levels=(3.0, 2.0, 1.4, 1.0, 0.7, 0.5), num_steps=80, step_size=0.2)
    >>> draws = en.sample(Blurred(en.Real(1, 3.2)), sampler, num_chains=10_000, num_steps=400)
    >>> round(draws.x.var().item(), 1)  # 1.25, and a bias of .05
    1.3
    """

    levels: tuple[float, ...]
    num_steps: int = 30
    step_size: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        check_count("RecoveryLangevin", num_steps=self.num_steps)
        check_positive(
            "RecoveryLangevin", step_size=self.step_size, **{f"level {i}": v for i, v in enumerate(self.levels)}
        )
        if len(self.levels) < 2 or not all(high > low for high, low in itertools.pairwise(self.levels)):
            raise InputError(
                f"RecoveryLangevin: levels must fall, at least two, such as (3, 1, 0.3), got {self.levels}"
            )

    def init(self, energy: Energy, x: Tensor) -> Rung:
        """Chains at x, of the first level; nothing is evaluated."""
        warn_if_narrow(x, self.levels[0], "RecoveryLangevin")
        return self.at(energy, x, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def at(self, energy: Energy, noisy: Tensor, number: Tensor) -> Rung:
        """Chains at points `[B, *event]` of levels `[B]`, given as their numbers from 0, about to step to the next."""
        if not isinstance(energy.space, Real):
            raise CapabilityError(
                f"RecoveryLangevin adds and takes away normal noise and needs a Real space, but the energy lives on "
                f"{energy.space}; use AnnealedLangevin there"
            )
        return Rung(noisy, noisy, number * self.num_steps)

    def next_level(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """The level after each of these numbers `[B]` and the variance v between the two, `[B]`, in float64."""
        levels = torch.tensor(self.levels, dtype=torch.float64, device=number.device)
        low = levels[number + 1]
        return low, levels[number].square() - low.square()

    def draw(self, state: Rung, generator: torch.Generator) -> Noise:
        """Standard normals `[B, *event]`."""
        return (normal_noise(state.x, generator),)

    def step(self, energy: Energy, state: Rung, noise: Noise) -> tuple[Rung, Info]:
        """One step at each chain's level; `Info.energy` is that of x given the level above, where the step started."""
        x, last = state.x, len(self.levels) - 2
        number = state.num_done // self.num_steps
        arrives = (state.num_done % self.num_steps == 0) & (number <= last)
        noisy = torch.where(arrives.view(-1, *[1] * (x.dim() - 1)), x, state.noisy)
        low, variance = self.next_level(number.clamp(max=last))
        # 1 / (1 / v + 1 / s_l^2)
        step_size = (self.step_size * variance * low.square() / (variance + low.square())).to(x.dtype)
        target = given(energy, context=low.to(x.dtype)) + Tether(noisy, variance.to(x.dtype), energy.space)
        values, gradient = value_and_gradient(target, x)
        step_size = step_size.view(-1, *[1] * (x.dim() - 1))
        moved = x - (step_size / 2) * gradient + step_size.sqrt() * noise[0]
        info = Info(values, torch.ones_like(values), displacement(x, moved), ~values.isfinite())
        return Rung(moved, noisy, state.num_done + 1), info

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["RecoveryLangevin", Rung]:
        """Refused: the ladder would be used up in it."""
        raise InputError(
            f"RecoveryLangevin has nothing to tune and would go down its ladder during the warm-up of {num_steps} "
            f"steps; leave warmup out and give num_steps={(len(self.levels) - 1) * self.num_steps}"
        )
