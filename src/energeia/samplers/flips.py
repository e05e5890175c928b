"""Metropolis sampling of discrete sites, and how samplers see sites of any discrete space."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_count
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Binary, Categorical, Space, Spin
from energeia.samplers.metropolis import Evaluated, metropolis, uniform_noise

Discrete = Binary | Spin | Categorical


def require_discrete(energy: Energy, who: str) -> Discrete:
    """The space of the energy; `CapabilityError` unless it is `Binary`, `Spin` or `Categorical`."""
    space = energy.space
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(
            f"{who} changes discrete sites and needs a Binary, Spin or Categorical space, but the energy lives on "
            f"{space}; use MALA, HMC or RandomWalk there"
        )
    return space


def num_sites(space: Space) -> int:
    """Number of sites: of one-hot vectors on `Categorical`."""
    return space.num_dims // num_categories(space) if isinstance(space, Categorical) else space.num_dims


def num_categories(space: Space) -> int:
    """Number of states of a site: K, or 2."""
    return space.num_categories if isinstance(space, Categorical) else 2


def to_index(space: Space, x: Tensor) -> Tensor:
    """The state of every site as a number 0..K-1, int64 `[B, N]`; -1 and 0 come first."""
    if isinstance(space, Categorical):
        return x.view(len(x), -1, space.num_categories).argmax(2)
    return (x.flatten(1) > 0).long()


def from_index(space: Space, index: Tensor, dtype: torch.dtype) -> Tensor:
    """x `[B, *event]` from the states of its sites `[B, N]`."""
    if isinstance(space, Categorical):
        x = torch.nn.functional.one_hot(index, space.num_categories)
    else:
        x = 2 * index - 1 if isinstance(space, Spin) else index
    return x.to(dtype).view(-1, *space.event_shape)


@dataclass(frozen=True)
class Metropolis(Sampler[Evaluated]):
    """Metropolis sampling of discrete sites: change a few, accept with min(1, exp(E(x) - E(y))).

    Args:
        num_flips: the most sites that a proposal changes, >= 1. How many it is, which, and to
            what other states is drawn anew for each chain, all choices equally likely.

    Leaves exp(-E) unchanged and is reversible. Needs E(x) alone, on `Binary`, `Spin` or
    `Categorical`. Cost: one energy a step. The blind proposal makes it slow where most changes
    are unlikely: `GibbsWithGradients` and `DiscreteLangevin` look at the gradient first.

    Reference: Metropolis et al. (1953), Equation of state calculations by fast computing
    machines, https://doi.org/10.1063/1.1699114

    >>> import torch, energeia as en
    >>> from energeia.samplers import Metropolis
    >>> energy = en.from_module(lambda x: -x.sum(1), en.Binary(4))
    >>> draws = en.sample(energy, Metropolis(), num_chains=10_000, num_steps=60)
    >>> round(float(draws.x.mean()), 2)  # 1 / (1 + exp(-1)) = .731
    0.73
    """

    num_flips: int = 1
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("Metropolis", num_flips=self.num_flips)

    def init(self, energy: Energy, x: Tensor) -> Evaluated:
        """Chains at x, with one energy evaluation."""
        check_flips(self.num_flips, require_discrete(energy, "Metropolis"), "Metropolis")
        with torch.no_grad():
            return Evaluated(x, energy(x))

    def draw(self, state: Evaluated, generator: torch.Generator) -> Noise:
        """Uniforms `[B, num_flips]` for the sites and for their states, `[B]` for how many, and `[B]` to accept."""
        shape, device = (2, len(state.x), self.num_flips), state.x.device
        # float64: with 2^24 sites or more, float32 would never reach some of them.
        sites, states = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
        return sites, states, uniform_noise(state.x, generator), uniform_noise(state.x, generator)

    def step(self, energy: Energy, state: Evaluated, noise: Noise) -> tuple[Evaluated, Info]:
        """One proposal for every chain, accepted or not."""
        sites, states, how_many, uniform = noise
        space = energy.space
        with torch.no_grad():
            y = flipped(space, state.x, sites, states, how_many)
            energy_y = energy(y)
        return metropolis(energy, state, Evaluated(y, energy_y), state.energy - energy_y, uniform)


def flipped(space: Space, x: Tensor, sites: Tensor, states: Tensor, how_many: Tensor) -> Tensor:
    """x with 1 to k sites in other states, all choices equally likely, so that the way back is as likely.

    Args:
        space: of x, discrete.
        x: `[B, *event]`.
        sites, states: uniforms `[B, k]`, float64: with 2^24 sites or more, float32 would never reach some of them.
        how_many: uniforms `[B]`.
    """
    index, chosen = to_index(space, x), distinct(sites, num_sites(space))
    others = num_categories(space) - 1
    # 1 to K - 1 places further round reaches every other state.
    further = 1 + (states * others).long().clamp(max=others - 1)
    present = index.gather(1, chosen)
    changed = torch.where(is_changed(how_many, sites.shape[1]), (present + further) % (others + 1), present)
    return from_index(space, index.scatter(1, chosen, changed), x.dtype)


def distinct(uniform: Tensor, total: int) -> Tensor:
    """k different numbers below total, every sequence equally likely, from uniforms: int64 `[B, k]`."""
    chosen: list[Tensor] = []
    for number in range(uniform.shape[1]):
        left = total - number
        candidate = (uniform[:, number] * left).long().clamp(max=left - 1)
        # The candidate counts the numbers that are left: step over those taken, the smallest first.
        for taken in torch.stack(chosen).sort(0).values if chosen else ():
            candidate = candidate + (candidate >= taken)
        chosen.append(candidate)
    return torch.stack(chosen, 1)


def is_changed(uniform: Tensor, num_flips: int) -> Tensor:
    """Which of num_flips sites are changed, bool `[B, num_flips]`: the first 1 to num_flips, equally likely.

    Were it always the same number, an even one would never change the parity of bits or spins.
    """
    place = torch.arange(num_flips, device=uniform.device)
    return place <= (uniform * num_flips).unsqueeze(1).floor()


def check_flips(num_flips: int, space: Space, who: str) -> None:
    """Raise `InputError` where there are fewer sites than a proposal is to change."""
    if num_flips > num_sites(space):
        raise InputError(f"{who}: num_flips={num_flips}, but {space} has only {num_sites(space)} sites")
