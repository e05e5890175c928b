"""Cluster sampling of ferromagnets: Swendsen and Wang."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy, Pairwise, require
from energeia.core.errors import CapabilityError
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Categorical, Spin
from energeia.samplers.flips import Discrete, require_discrete, to_index
from energeia.samplers.metropolis import displacement


class Clusters(NamedTuple):
    """Chains, and the bonds `[B, M]` (1 where closed) that held together what was drawn at once; none after `init`."""

    x: Tensor
    bonds: Tensor


@dataclass(frozen=True)
class SwendsenWang(Sampler[Clusters]):
    """Swendsen-Wang: bind neighbours that agree, then draw each cluster anew as a whole.

    With -E(x) = sum_i a_i(x_i) + sum_(ij) J_ij [x_i = x_j] and all J >= 0, an edge whose ends
    agree is closed with probability 1 - exp(-J_ij); a cluster of closed edges takes the
    state k with probability proportional to exp(sum_(i in cluster) a_i(k)).

    Leaves exp(-E) unchanged, never rejects and is reversible. It mixes near a critical point,
    where single-site samplers slow down; strong fields of unlike sign, or frustration
    (competing couplings), make it slow. Needs an energy with `Pairwise` on `Binary`, `Spin` or
    `Categorical`, whose edge tables reward agreement alike in every state, but for terms
    of one site: b(k, l) = J [k = l] + u(k) + v(l) with J >= 0. Ising and Potts ferromagnets
    do; so does a binary model whose couplings w x_i x_j are >= 0 (J = w / 2). Others are refused.

    Cost: O((N + M) log N) a chain, in some tens of small operations whose number depends on
    the clusters, so it runs eagerly: with chunk= that part is left uncompiled.

    Reference: Swendsen & Wang (1987), Nonuniversal critical dynamics in Monte Carlo
    simulations. https://doi.org/10.1103/PhysRevLett.58.86

    >>> import energeia as en
    >>> from energeia.energies import IsingLattice
    >>> from energeia.samplers import SwendsenWang
    >>> torus = IsingLattice((8, 8), coupling=0.44)
    >>> draws = en.sample(torus, SwendsenWang(), num_chains=10, num_steps=20)
    >>> bool(draws.info.acceptance.eq(1).all())
    True
    """

    reversible: ClassVar[bool] = True

    def init(self, energy: Energy, x: Tensor) -> Clusters:
        """Chains at x; looks at the tables of every edge."""
        require_discrete(energy, "SwendsenWang")
        pairwise = _pairwise(energy)
        with torch.no_grad():
            _check_tables(energy, pairwise)
        return Clusters(x, torch.zeros((len(x), len(pairwise.edges)), dtype=x.dtype, device=x.device))

    def draw(self, state: Clusters, generator: torch.Generator) -> Noise:
        """Random bits `[B, M]` for the bonds and `[B, *event]` for the clusters."""
        shapes = (tuple(state.bonds.shape), tuple(state.x.shape))
        return tuple(random_bits(shape, generator, dtype=state.x.dtype) for shape in shapes)

    def step(self, energy: Energy, state: Clusters, noise: Noise) -> tuple[Clusters, Info]:
        """One update of all clusters of every chain."""
        with torch.no_grad():
            space = require_discrete(energy, "SwendsenWang")
            pairwise = _pairwise(energy)
            coupling, sites = agreement(pairwise)
            first, second = pairwise.edges.unbind(1)
            # Sites first, so that looking up the ends of all edges copies whole rows.
            index = to_index(space, state.x).T.contiguous()
            agree = (index.index_select(0, first) == index.index_select(0, second)).T
            probability = -torch.expm1(-coupling)
            closed = agree & (uniform_from_bits(noise[0]) < probability)
            label = _components(pairwise.edges, closed, sites.shape[0])
            x = _draw_clusters(space, label, sites, uniform_from_bits(noise[1])).to(state.x.dtype)
            finite = coupling.isfinite().all() & sites.isfinite().all()
            moved = displacement(state.x, x)
            info = Info(energy(x), torch.ones_like(moved), moved, ~finite.expand(len(x)))
        return Clusters(x, closed.to(x.dtype)), info


def _pairwise(energy: Energy) -> Pairwise:
    return require(
        energy, Pairwise, who="SwendsenWang", instead="use Gibbs (for Conditional), GibbsWithGradients or Metropolis"
    )


def agreement(pairwise: Pairwise) -> tuple[Tensor, Tensor]:
    """J of every edge `[M]`, and the site potentials `[N, K]` with the one-site terms of the edges taken in."""
    tables, sites = pairwise.edge_log_potentials(), pairwise.site_log_potentials()
    if len(tables) == 0:
        return tables.new_zeros(0), sites
    rows, columns, mean = tables.mean(2), tables.mean(1), tables.mean((1, 2))
    centred = tables - rows.unsqueeze(2) - columns.unsqueeze(1) + mean.view(-1, 1, 1)
    coupling = centred.diagonal(dim1=1, dim2=2).sum(1) / (tables.shape[1] - 1)
    first, second = pairwise.edges.unbind(1)
    return coupling, sites.index_add(0, first, rows).index_add(0, second, columns)


def _check_tables(energy: Energy, pairwise: Pairwise) -> None:
    """Raise `CapabilityError` unless every edge rewards agreement, by the same in every state."""
    coupling, _ = agreement(pairwise)
    if len(coupling) == 0:
        return
    name, tables = type(energy).__name__, pairwise.edge_log_potentials()
    same = torch.eye(tables.shape[1], dtype=tables.dtype, device=tables.device)
    # What is left of a table without rows, columns and J [k = l].
    rest = tables - coupling.view(-1, 1, 1) * same
    rest = rest - rest.mean(2, keepdim=True) - rest.mean(1, keepdim=True) + rest.mean((1, 2), keepdim=True)
    tolerance = 1e3 * torch.finfo(tables.dtype).eps * (1 + tables.abs().max())
    edges = pairwise.edges
    for wrong, what in (
        (rest.abs().amax((1, 2)) > tolerance, "rewards some states of agreement more than others, or disagreements"),
        (coupling < -tolerance, "favours disagreement (it is antiferromagnetic)"),
    ):
        if bool(wrong.any()):
            number = int(wrong.nonzero()[0, 0])
            first, second = (int(site) for site in edges[number])
            raise CapabilityError(
                f"SwendsenWang: {int(wrong.sum())} of {len(edges)} edges of {name} cannot bind clusters; the first is "
                f"edge {number}, ({first}, {second}), which {what}; use Gibbs, GibbsWithGradients or Metropolis"
            )


def components(edges: Tensor, closed: Tensor, num_sites: int) -> Tensor:
    """The smallest site of the cluster of every site, int64 `[B, N]`.

    Args:
        edges: `[M, 2]`.
        closed: bool `[B, M]`: which edges bind their ends, in every chain.
        num_sites: N.

    Labels of bound sites take the smaller of the two, at the sites that they name, and then
    follow each other to their ends; a few rounds of it, about log N at the worst.
    """
    # All chains in one row of sites, with the closed edges alone; index_select is the fast way to look up.
    chain, edge = closed.nonzero(as_tuple=True)
    first = edges[:, 0].index_select(0, edge) + chain * num_sites
    second = edges[:, 1].index_select(0, edge) + chain * num_sites
    label = torch.arange(len(closed) * num_sites, device=edges.device)
    while True:
        one, other = label.index_select(0, first), label.index_select(0, second)
        # Edges within one cluster have nothing more to say.
        apart = (one != other).nonzero().squeeze(1)
        if len(apart) == 0:
            break
        first, second = first.index_select(0, apart), second.index_select(0, apart)
        one, other = one.index_select(0, apart), other.index_select(0, apart)
        label = label.scatter_reduce(0, torch.maximum(one, other), torch.minimum(one, other), "amin")
        following = label.index_select(0, label)
        while not torch.equal(following, label):
            label, following = following, following.index_select(0, following)
    return label.view(len(closed), num_sites) % num_sites


# How many rounds it takes depends on the bonds, which cannot be compiled.
_components: Callable[[Tensor, Tensor, int], Tensor] = torch.compiler.disable(components)  # pyright: ignore


def _draw_clusters(space: Discrete, label: Tensor, sites: Tensor, uniform: Tensor) -> Tensor:
    """x `[B, *event]` in which every cluster has one state, drawn with the uniforms of its smallest site."""
    batch, number = label.shape
    num_states = sites.shape[1]
    place = label.unsqueeze(2).expand(-1, -1, num_states)
    total = torch.zeros_like(sites).expand(batch, -1, -1).scatter_add(1, place, sites.expand(batch, -1, -1))
    if isinstance(space, Categorical):
        drawn = space.from_natural(total, uniform.view(batch, number, num_states)).gather(1, place)
    else:
        rise = total[..., 1] - total[..., 0]
        natural = rise / 2 if isinstance(space, Spin) else rise
        drawn = space.from_natural(natural, uniform.view(batch, number)).gather(1, label)
    return drawn.view(-1, *space.event_shape)
