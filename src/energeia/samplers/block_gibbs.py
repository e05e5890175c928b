"""Gibbs sampling between the visible and the hidden units of a bipartite energy."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Energy, require
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.units import keeping


class Joint(NamedTuple):
    """Visible chains, and the hidden units from which they were drawn (NaN right after `init`)."""

    x: Tensor
    h: Tensor


@dataclass(frozen=True)
class BlockGibbs(Sampler[Joint]):
    """Gibbs sampling between the two sides of a bipartite energy: h ~ p(h|x), then x ~ p(x|h).

    Leaves exp(-E(x)) unchanged, never rejects, and is reversible for x. Needs an energy with
    `Bipartite`. Cost: the natural parameters of both sides, which give the energy of the
    point a step starts from beside; `Info.energy` is that. Chains whose natural parameters
    are not finite are reported as divergent. float32 chains draw with uniforms of 24 bits.

    Reference: Smolensky (1986), Information processing in dynamical systems: foundations of
    harmony theory; Hinton (2002), Training products of experts by minimizing contrastive
    divergence. https://doi.org/10.1162/089976602760128018

    >>> import torch, energeia as en
    >>> rbm = en.RBM(4, 3)
    >>> en.sample(rbm, en.BlockGibbs(), num_chains=5, num_steps=10).x.shape
    torch.Size([5, 4])
    """

    reversible: ClassVar[bool] = True

    def init(self, energy: Energy, x: Tensor) -> Joint:
        """Chains at x, with one evaluation of the hidden parameters of one chain."""
        with torch.no_grad():
            one = _bipartite(energy).hidden_parameters(x[:1])
        return Joint(x, one.new_full((len(x), *one.shape[1:]), float("nan")))

    def draw(self, state: Joint, generator: torch.Generator) -> Noise:
        """Random bits for h and for x."""
        dtype = state.x.dtype
        return tuple(random_bits(tuple(part.shape), generator, dtype=dtype) for part in (state.h, state.x))

    def step(self, energy: Energy, state: Joint, noise: Noise) -> tuple[Joint, Info]:
        """Hidden units, then visible ones, of every chain."""
        with torch.no_grad():
            bipartite = _bipartite(energy)
            to_hidden = bipartite.hidden_parameters(state.x)
            values = bipartite.visible_energy(state.x) - bipartite.hidden.log_partition(to_hidden)
            h = bipartite.hidden.from_natural(to_hidden, uniform_from_bits(noise[0]))
            to_visible = bipartite.visible_parameters(h)
            x = keeping(bipartite.visible, state.x).from_natural(to_visible, uniform_from_bits(noise[1]))
            # A sum that is not finite has a term that is not.
            level = values + to_visible.flatten(1).sum(1)
            change = (x - state.x).flatten(1).square().mean(1).sqrt()
            info = Info(values, torch.ones_like(values), change, ~level.isfinite())
        return Joint(x, h), info


def _bipartite(energy: Energy) -> Bipartite:
    return require(
        energy,
        Bipartite,
        who="BlockGibbs",
        instead="use Gibbs, GibbsWithGradients or Metropolis on discrete spaces, HMC or MALA on continuous ones",
    )
