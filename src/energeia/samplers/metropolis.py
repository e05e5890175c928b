"""The Metropolis correction, shared by all samplers that reject, and the random walk."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from energeia.core.energy import Energy, Scored
from energeia.core.errors import CapabilityError
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler, map_tensors
from energeia.core.space import Box, Enumerable, Real
from energeia.samplers.adapt import MassKind, check_axes, check_tunable, tune
from energeia.samplers.mass import Mass, spread


class Evaluated(NamedTuple):
    """Chains with the energy where they stand."""

    x: Tensor
    energy: Tensor


class HasEnergy(Protocol):
    """A chain state that holds the energy where the chains stand."""

    @property
    def x(self) -> Tensor:
        """The chains."""
        ...

    @property
    def energy(self) -> Tensor:
        """E(x)."""
        ...


Chosen = TypeVar("Chosen")
Candidate = TypeVar("Candidate", bound=HasEnergy)


class Decision(NamedTuple):
    """Which proposals are taken: accepted (bool), acceptance probability, divergent (bool); each `[B]`."""

    accepted: Tensor
    acceptance: Tensor
    divergent: Tensor


def decide(energy: Energy, y: Tensor, energy_y: Tensor, log_accept: Tensor, uniform: Tensor) -> Decision:
    """Take y in each chain with probability min(1, exp(log_accept)).

    A proposal outside a `Box` or with infinite energy has probability zero. One whose
    energy or ratio is NaN is rejected and reported as divergent: it is never hidden.
    """
    inside = energy.space.contains(y) if isinstance(energy.space, Box) else torch.ones_like(uniform, dtype=torch.bool)
    # NaN lies in no box, but it is not outside either.
    broken = y.flatten(1).isnan().any(1)
    divergent = (log_accept.isnan() | energy_y.isnan()) & (inside | broken)
    possible = inside & ~divergent
    acceptance = torch.where(possible, log_accept.clamp(max=0).exp(), torch.zeros_like(log_accept))
    return Decision(uniform < acceptance, acceptance, divergent)


def choose(accepted: Tensor, new: Chosen, old: Chosen) -> Chosen:
    """The state `new` in the chains where accepted `[B]`, `old` in the others."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(accepted.view(-1, *[1] * (a.dim() - 1)), a, b)

    return map_tensors(one, new, old)


def metropolis(
    energy: Energy, state: Candidate, proposal: Candidate, log_accept: Tensor, uniform: Tensor
) -> tuple[Candidate, Info]:
    """Take the proposed state in each chain with probability min(1, exp(log_accept)); see `decide`."""
    decision = decide(energy, proposal.x, proposal.energy, log_accept, uniform)
    result = choose(decision.accepted, proposal, state)
    moved = displacement(state.x, result.x)
    return result, Info(result.energy, decision.acceptance, moved, decision.divergent)


def displacement(x: Tensor, moved: Tensor) -> Tensor:
    """Root mean square change of the entries, `[B]`."""
    return (moved - x).flatten(1).square().mean(1).sqrt()


def leaps(box: Box, step: Tensor) -> Tensor:
    """Which chains `[B]` step further than the box is wide, or to NaN: folding at the walls would hide it."""
    return ~(step.flatten(1).abs().amax(1) <= box.high - box.low)


def normal_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normals like x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def uniform_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniforms `[B]`, to accept or reject each chain."""
    return torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)


def require_continuous(
    energy: Energy, who: str, x: Tensor, mass: Mass | None = None, *, by_score: bool = False
) -> None:
    """Raise `CapabilityError` unless x varies freely, on `Real`, or between walls, on `Box`, and E(x) is known.

    by_score: the sampler needs d log p / dx alone, so that a score model will do.
    """
    space = energy.space
    if not by_score and energy.capability(Scored) is not None:
        raise CapabilityError(
            f"{who} compares energies, and {type(energy).__name__} has a score alone; use Langevin, "
            "UnderdampedLangevin, AnnealedLangevin or ReverseDiffusion"
        )
    if isinstance(space, Enumerable):
        raise CapabilityError(
            f"{who} moves x continuously and needs a Real or Box space, but the energy lives on {space}; use Gibbs, "
            "GibbsWithGradients or Metropolis"
        )
    if not isinstance(space, Real | Box):
        raise CapabilityError(
            f"{who} moves x freely and needs a Real or Box space, but the energy lives on {space}; sample "
            "en.unconstrained(energy) and map the draws back with its constrain()"
        )
    if mass is not None:
        mass.check(who, x)
        check_axes(who, energy, diagonal=mass.keeps_axes)


@dataclass(frozen=True)
class RandomWalk(Sampler[Evaluated]):
    """Random-walk Metropolis-Hastings: propose y = x + s A xi, accept with min(1, exp(E(x) - E(y))).

    Args:
        step_size: s, > 0, the standard deviation of the proposal in units of x (of A). The
            best acceptance in high dimension is .234, near s = 2.38 sigma / sqrt(d).
        mass: A A' = M^-1, the shape of the proposal; None for the identity.
        target_acceptance, tune_mass: what a warm-up aims at, and which mass it learns.

    Leaves exp(-E) unchanged; needs no gradient. On a `Box` the proposal is folded back
    at the walls, which keeps it symmetric. Cost: one energy a step. For `Real` and `Box`.

    Reference: Metropolis et al. (1953), Equation of state calculations by fast computing
    machines, https://doi.org/10.1063/1.1699114; Roberts, Gelman & Gilks (1997).
    """

    step_size: float = 0.5
    mass: Mass | None = None
    target_acceptance: float = 0.234
    tune_mass: MassKind = "diagonal"
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_tunable("RandomWalk", self)

    def init(self, energy: Energy, x: Tensor) -> Evaluated:
        """Chains at x, with one energy evaluation."""
        require_continuous(energy, "RandomWalk", x, self.mass)
        with torch.no_grad():
            return Evaluated(x, energy(x))

    def draw(self, state: Evaluated, generator: torch.Generator) -> Noise:
        """Normals `[B, *event]` for the proposal and uniforms `[B]` to accept."""
        return (normal_noise(state.x, generator), uniform_noise(state.x, generator))

    def step(self, energy: Energy, state: Evaluated, noise: Noise) -> tuple[Evaluated, Info]:
        """One proposal for every chain, accepted or not."""
        xi, uniform = noise
        y = state.x + self.step_size * spread(self.mass, xi)
        if isinstance(energy.space, Box):
            y = energy.space.reflect(y)
        with torch.no_grad():
            energy_y = energy(y)
        return metropolis(energy, state, Evaluated(y, energy_y), state.energy - energy_y, uniform)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["RandomWalk", Evaluated]:
        """Step size and mass."""
        return tune(energy, self, x, num_steps=num_steps, generator=generator)
