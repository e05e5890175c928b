"""The Metropolis correction, shared by all samplers that reject, and the random walk."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, check_positive
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Box, Enumerable


class Evaluated(NamedTuple):
    """Chains with the energy where they stand."""

    x: Tensor
    energy: Tensor


Candidate = TypeVar("Candidate", bound=tuple[Tensor, ...])


def metropolis(
    energy: Energy, state: Candidate, proposal: Candidate, log_accept: Tensor, uniform: Tensor
) -> tuple[Candidate, Info]:
    """Take the proposal in each chain with probability min(1, exp(log_accept)).

    Both states are named tuples of tensors that begin with the chain axis, x first
    and energy second. A proposal outside a `Box` or with infinite energy has
    probability zero. One whose energy or ratio is NaN is rejected and reported as
    divergent: it is never hidden.
    """
    x, y, energy_y = state[0], proposal[0], proposal[1]
    inside = energy.space.contains(y) if isinstance(energy.space, Box) else torch.ones_like(uniform, dtype=torch.bool)
    divergent = (log_accept.isnan() | energy_y.isnan()) & inside
    possible = inside & ~divergent
    acceptance = torch.where(possible, log_accept.clamp(max=0).exp(), torch.zeros_like(log_accept))
    accepted = uniform < acceptance
    chosen = [_choose(accepted, new, old) for new, old in zip(proposal, state, strict=True)]
    result = type(state)(*chosen)
    return result, Info(result[1], acceptance, displacement(x, result[0]), divergent)


def _choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accepted.view(-1, *[1] * (new.dim() - 1)), new, old)


def displacement(x: Tensor, moved: Tensor) -> Tensor:
    """Root mean square change of the entries, `[B]`."""
    return (moved - x).flatten(1).square().mean(1).sqrt()


def normal_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normals like x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def refuse_discrete(energy: Energy, who: str) -> None:
    """Raise `CapabilityError` where x does not vary continuously."""
    if isinstance(energy.space, Enumerable):
        raise CapabilityError(
            f"{who} moves x continuously and needs a Real or Box space, but the energy lives on {energy.space}"
        )


@dataclass(frozen=True)
class RandomWalk(Sampler[Evaluated]):
    """Random-walk Metropolis-Hastings: propose y = x + s xi, accept with min(1, exp(E(x) - E(y))).

    Args:
        step_size: s, > 0, the standard deviation of the proposal in units of x. The
            best acceptance in high dimension is .234, near s = 2.38 sigma / sqrt(d).

    Leaves exp(-E) unchanged; needs no gradient. On a `Box` the proposal is folded back
    at the walls, which keeps it symmetric. Cost: one energy a step. For `Real` and `Box`.

    Reference: Metropolis et al. (1953), Equation of state calculations by fast computing
    machines, https://doi.org/10.1063/1.1699114; Roberts, Gelman & Gilks (1997).
    """

    step_size: float

    def __post_init__(self) -> None:
        check_positive("RandomWalk", step_size=self.step_size)

    def init(self, energy: Energy, x: Tensor) -> Evaluated:
        """Chains at x, with one energy evaluation."""
        refuse_discrete(energy, "RandomWalk")
        with torch.no_grad():
            return Evaluated(x, energy(x))

    def draw(self, state: Evaluated, generator: torch.Generator) -> Noise:
        """Normals `[B, *event]` for the proposal and uniforms `[B]` to accept."""
        uniform = torch.rand(len(state.x), generator=generator, dtype=state.x.dtype, device=state.x.device)
        return (normal_noise(state.x, generator), uniform)

    def step(self, energy: Energy, state: Evaluated, noise: Noise) -> tuple[Evaluated, Info]:
        """One proposal for every chain, accepted or not."""
        xi, uniform = noise
        y = state.x + self.step_size * xi
        if isinstance(energy.space, Box):
            y = energy.space.reflect(y)
        with torch.no_grad():
            energy_y = energy(y)
        return metropolis(energy, state, Evaluated(y, energy_y), state.energy - energy_y, uniform)
