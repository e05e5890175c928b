"""Discrete samplers that look at the gradient: Gibbs with gradients, and discrete Langevin dynamics."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Categorical, Space, Spin
from energeia.samplers.adapt import DualAveraging, reasonable_step_size
from energeia.samplers.flips import check_flips, from_index, is_changed, num_categories, require_discrete, to_index
from energeia.samplers.langevin import Differentiated
from energeia.samplers.metropolis import displacement, metropolis, uniform_noise


@dataclass(frozen=True)
class GibbsWithGradients(Sampler[Differentiated]):
    """Metropolis-Hastings that proposes the changes of sites which the gradient calls likely.

    With d(i, k) the first-order estimate of E(x) - E(x with site i in state k), a change is
    drawn from q(i, k | x) = softmax over all i and all k other than x_i of d(i, k) / 2, and
    accepted with min(1, exp(E(x) - E(y)) q(back | y) / q(there | x)).

    Args:
        num_flips: the most sites that a proposal changes, >= 1; how many it is is drawn anew
            for each chain, from 1 to num_flips. More than one are drawn one after another
            without replacement from the same q (of x alone); the way back draws the same
            sites in the same order from the q of y. The order is part of the proposal, so the
            correction is exact.

    Leaves exp(-E) unchanged and is reversible. E must be differentiable in x as if x were
    real; where it is far from linear between states (a deep network), proposals are only
    less good. For `Binary`, `Spin` and `Categorical`. Cost: one gradient a step.

    Reference: Grathwohl et al. (2021), Oops I took a gradient: scalable sampling for discrete
    distributions, https://arxiv.org/abs/2102.04509; an ordered path as part of the proposal:
    Sun et al. (2022), Path auxiliary proposal for MCMC in discrete space,
    https://openreview.net/forum?id=JSR-YDImK95
    """

    num_flips: int = 1
    reversible: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("GibbsWithGradients", num_flips=self.num_flips)

    def init(self, energy: Energy, x: Tensor) -> Differentiated:
        """Chains at x, with one gradient evaluation."""
        check_flips(self.num_flips, require_discrete(energy, "GibbsWithGradients"), "GibbsWithGradients")
        return Differentiated(x, *value_and_gradient(energy, x))

    def draw(self, state: Differentiated, generator: torch.Generator) -> Noise:
        """Random bits `[B, *event]` for the sites, uniforms `[B]` for how many, and `[B]` to accept."""
        bits = random_bits(tuple(state.x.shape), generator, dtype=state.x.dtype)
        return bits, uniform_noise(state.x, generator), uniform_noise(state.x, generator)

    def step(self, energy: Energy, state: Differentiated, noise: Noise) -> tuple[Differentiated, Info]:
        """One proposal for every chain, accepted or not."""
        bits, how_many, uniform = noise
        space = energy.space
        index = to_index(space, state.x)
        there = change_logits(space, index, state.gradient)
        # The largest of logit + Gumbel noise is a draw from the softmax, the next largest one from the rest.
        value, new = (there + _gumbel(space, bits, there)).max(2)
        sites = value.topk(self.num_flips, 1).indices
        changed = is_changed(how_many, self.num_flips)
        index_y = index.scatter(1, sites, torch.where(changed, new.gather(1, sites), index.gather(1, sites)))
        y = from_index(space, index_y, state.x.dtype)
        proposal = Differentiated(y, *value_and_gradient(energy, y))
        back = change_logits(space, index_y, proposal.gradient)
        log_back = path_log_probability(back, sites, changed, index)
        log_ratio = log_back - path_log_probability(there, sites, changed, index_y)
        return metropolis(energy, state, proposal, state.energy - proposal.energy + log_ratio, uniform)


def change_logits(space: Space, index: Tensor, gradient: Tensor) -> Tensor:
    """d(i, k) / 2 `[B, N, K]` for the states of the sites `[B, N]`; -inf where k is the present state."""
    if isinstance(space, Categorical):
        slope = gradient.view(*index.shape, num_categories(space))
    else:
        # The states are 0 and 1, or -1 and 1.
        rise = gradient.flatten(1) * (2 if isinstance(space, Spin) else 1)
        slope = torch.stack([torch.zeros_like(rise), rise], 2)
    present = index.unsqueeze(2)
    logits = (slope.gather(2, present) - slope) / 2
    return logits.scatter(2, present, float("-inf"))


def path_log_probability(logits: Tensor, sites: Tensor, changed: Tensor, index: Tensor) -> Tensor:
    """log probability `[B]` that the changed of these sites are drawn in this order, and go to the states in index."""
    total = torch.zeros_like(logits[:, 0, 0])
    for number in range(sites.shape[1]):
        site = sites[:, number : number + 1]
        row = logits.gather(1, site.unsqueeze(2).expand(-1, -1, logits.shape[2]))
        chosen = row.squeeze(1).gather(1, index.gather(1, site)).squeeze(1)
        total = total + torch.where(changed[:, number], chosen - logits.flatten(1).logsumexp(1), 0.0)
        logits = logits.scatter(1, site.unsqueeze(2).expand_as(row), float("-inf"))
    return total


def _gumbel(space: Space, bits: Tensor, logits: Tensor) -> Tensor:
    """Gumbel noise for each change `[B, N, K]`, or `[B, N, 1]` where a site has only one."""
    uniform = uniform_from_bits(bits)
    tiny = torch.finfo(uniform.dtype).tiny
    gumbel = -(-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()
    return gumbel.view(*logits.shape[:2], -1).to(logits.dtype)


@dataclass(frozen=True)
class DiscreteLangevin(Sampler[Differentiated]):
    """Langevin dynamics on discrete sites: all sites move at once, each by itself.

    q(y_i | x) = softmax over the states y_i of -(1/2) dE/dx_i (y_i - x_i) - (y_i - x_i)^2 / (2 h);
    on `Categorical`, y_i and x_i are one-hot vectors. With adjusted, y is accepted with
    min(1, exp(E(x) - E(y)) q(x|y) / q(y|x)).

    Args:
        step_size: h, > 0: the larger, the more sites change. The best acceptance is near .574.
        adjusted: True for the Metropolis-adjusted DMALA, which leaves exp(-E) unchanged and is
            reversible. False for DULA: every proposal is taken, which is biased; the bias
            vanishes with h if E is quadratic, and is not otherwise controlled.
        target_acceptance: what a warm-up tunes step_size to, in (0, 1); only with adjusted.

    E must be differentiable in x as if x were real. For `Binary`, `Spin` and `Categorical`.
    Cost: one gradient a step.

    Reference: Zhang, Liu & Liu (2022), A Langevin-like sampler for discrete distributions,
    https://arxiv.org/abs/2206.09914; Sun, Dai & Schuurmans (2022), Optimal scaling for locally
    balanced proposals in discrete spaces, https://arxiv.org/abs/2209.08183
    """

    step_size: float = 0.2
    adjusted: bool = True
    target_acceptance: float = 0.574
    # Of the instance: whether it is adjusted.
    reversible: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("DiscreteLangevin", step_size=self.step_size)
        if not 0 < self.target_acceptance < 1:
            raise InputError(
                f"DiscreteLangevin: target_acceptance must lie strictly between 0 and 1, got {self.target_acceptance}"
            )
        object.__setattr__(self, "reversible", self.adjusted)

    def init(self, energy: Energy, x: Tensor) -> Differentiated:
        """Chains at x, with one gradient evaluation."""
        require_discrete(energy, "DiscreteLangevin")
        return Differentiated(x, *value_and_gradient(energy, x))

    def draw(self, state: Differentiated, generator: torch.Generator) -> Noise:
        """Random bits `[B, *event]` for the proposal and uniforms `[B]` to accept."""
        bits = random_bits(tuple(state.x.shape), generator, dtype=state.x.dtype)
        return bits, uniform_noise(state.x, generator)

    def step(self, energy: Energy, state: Differentiated, noise: Noise) -> tuple[Differentiated, Info]:
        """One proposal for every chain, accepted or not; without adjusted, always taken."""
        bits, uniform = noise
        space = require_discrete(energy, "DiscreteLangevin")
        there = proposal_parameters(space, state.x, state.gradient, self.step_size)
        y = space.from_natural(there, uniform_from_bits(bits))
        proposal = Differentiated(y, *value_and_gradient(energy, y))
        if not self.adjusted:
            divergent = ~(proposal.energy.isfinite() & there.flatten(1).sum(1).isfinite())
            moved = displacement(state.x, y)
            return proposal, Info(proposal.energy, torch.ones_like(moved), moved, divergent)
        back = proposal_parameters(space, y, proposal.gradient, self.step_size)
        log_ratio = site_log_probability(space, back, state.x) - site_log_probability(space, there, y)
        return metropolis(energy, state, proposal, state.energy - proposal.energy + log_ratio, uniform)

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["DiscreteLangevin", Differentiated]:
        """The step size, if adjusted, by dual averaging."""
        state = self.init(energy, x)
        if not self.adjusted:
            _, state = super().warm_up(energy, x, num_steps=num_steps, generator=generator)
            return self, state
        first = reasonable_step_size(energy, self, state, generator, first=self.step_size)
        averaging = DualAveraging(min(first, _FREE), self.target_acceptance)
        for _ in range(num_steps):
            current = replace(self, step_size=averaging.step_size)
            state, info = current.step(energy, state, current.draw(state, generator))
            averaging.update(info.acceptance.mean().item())
            if averaging.step_size > 10 * _FREE:
                averaging.restart(_FREE)
        return replace(self, step_size=averaging.average), state


# A step size at which the distance from x no longer matters: there is no use in a larger one.
_FREE = 1e3


def proposal_parameters(space: Space, x: Tensor, gradient: Tensor, step_size: float) -> Tensor:
    """The natural parameters of q(y|x), which is a product over sites: `[B, *event]`."""
    # (y - x)^2 is linear in y: 1 + ... - 2 x y for spins and one-hot vectors, x + (1 - 2 x) y for 0 and 1.
    attraction = x if isinstance(space, Spin | Categorical) else x - 0.5
    return attraction / step_size - gradient / 2


def site_log_probability(space: Space, natural: Tensor, y: Tensor) -> Tensor:
    """log probability `[B]` of y under independent sites with these natural parameters."""
    if isinstance(space, Categorical):
        log_z = natural.logsumexp(-1)
    elif isinstance(space, Spin):
        log_z = torch.logaddexp(natural, -natural)
    else:
        log_z = torch.nn.functional.softplus(natural)
    return (natural * y).flatten(1).sum(1) - log_z.flatten(1).sum(1)
