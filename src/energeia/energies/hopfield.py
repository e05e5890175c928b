"""Hopfield networks: patterns stored as minima of an energy, and found again by going down."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Conditional, Energy, require
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.space import Binary, Categorical, Space, Spin
from energeia.energies.boltzmann import BoltzmannMachine


class Retrieval(NamedTuple):
    """Where `retrieve` came to.

    x: the states `[B, *event]`. settled: which of them are fixed points, bool `[B]`.
    sweeps: sweeps made, the last one to see that nothing moves.
    """

    x: Tensor
    settled: Tensor
    sweeps: int


def hebb(patterns: Tensor, *, inverse_temperature: float = 1.0) -> BoltzmannMachine:
    """A network with patterns stored by Hebb's rule: J = sum_p s_p s_p' / N without the diagonal.

    E(s) = -beta s'J s / 2, that is a `BoltzmannMachine` of spins with W = beta J / 2.

    Args:
        patterns: spins -1 or +1, `[P, *event]`.
        inverse_temperature: beta > 0, for sampling; `retrieve` does not see it.

    What it cannot do: for large N random patterns are minima, but for a few wrong bits, while
    P < .138 N; beyond, all are lost at once. Errors set in below: at P = .138 N some 1.6 % of the bits of a
    minimum are wrong. Patterns that resemble each other are lost sooner. The negative of a pattern
    is a minimum too, and so are mixtures of an odd number of them.

    Reference: Hopfield (1982), Neural networks and physical systems with emergent collective
    computational abilities, https://doi.org/10.1073/pnas.79.8.2554; Amit, Gutfreund & Sompolinsky
    (1985), Storing infinite numbers of patterns in a spin-glass model of neural networks,
    https://doi.org/10.1103/PhysRevLett.55.1530

    >>> import torch
    >>> from energeia.energies import hebb, retrieve
    >>> pattern = torch.tensor([[1.0, -1, 1, 1, -1, -1, 1, -1]])
    >>> spoilt = pattern.clone()
    >>> spoilt[0, :2] *= -1
    >>> torch.equal(retrieve(hebb(pattern), spoilt).x, pattern)
    True
    """
    check_positive("hebb", inverse_temperature=inverse_temperature)
    space = Spin(tuple(patterns.shape[1:]))
    space.check(patterns, "hebb: patterns")
    if len(patterns) == 0:
        raise InputError("hebb: there are no patterns; give at least one row")
    flat = patterns.flatten(1)
    weight = (flat.T @ flat) * (inverse_temperature / (2 * flat.shape[1]))
    return BoltzmannMachine(space, weight=weight.fill_diagonal_(0.0))


def retrieve(energy: Energy, x: Tensor, *, order: Sequence[int] | None = None, max_sweeps: int = 100) -> Retrieval:
    """Go down from x to a fixed point: each block in turn to its most likely state given the rest.

    Args:
        energy: with `Conditional`, on `Binary`, `Spin` or `Categorical`: a Hopfield network, `Ising`, ...
        x: where to start, `[B, *event]`; it is not written to.
        order: the blocks in the order in which they are visited, each once (a block of a
            `BoltzmannMachine` is a site); None is 0, 1, 2, ... The fixed point may depend on it.
        max_sweeps: when to stop if something still moves, >= 1.

    The energy never rises, and falls with every change: a site that has no preference stays as it
    is. So it ends, at a state that no change of one site makes more likely (a local minimum; not
    the most likely state). Cost: the natural parameters of all blocks, a sweep.

    Reference: Hopfield (1982); for general fields Besag (1986), On the statistical analysis of dirty
    pictures (iterated conditional modes). https://doi.org/10.1111/j.2517-6161.1986.tb01412.x
    """
    check_count("retrieve", max_sweeps=max_sweeps)
    energy.space.check(x, "retrieve: x")
    conditional = require(
        energy, Conditional, who="retrieve", instead="lower its temperature while sampling: (1 / T) * energy"
    )
    visits = list(range(conditional.num_blocks)) if order is None else [int(block) for block in order]
    if sorted(visits) != list(range(conditional.num_blocks)):
        raise InputError(
            f"retrieve: order must hold each of the {conditional.num_blocks} blocks once, got {len(visits)} entries"
        )
    blocks, sweeps = list(conditional.split(x)), 0
    moved = torch.ones(len(x), dtype=torch.bool, device=x.device)
    with torch.no_grad():
        while bool(moved.any()) and sweeps < max_sweeps:
            moved, sweeps = torch.zeros_like(moved), sweeps + 1
            for block in visits:
                natural = conditional.natural_parameters(tuple(blocks), block)
                after = _likeliest(energy.space, natural, blocks[block])
                moved = moved | (after != blocks[block]).flatten(1).any(1)
                blocks[block] = after
    return Retrieval(conditional.join(tuple(blocks)), ~moved, sweeps)


def _likeliest(space: Space, natural: Tensor, now: Tensor) -> Tensor:
    """The most likely state of every site; the present one where it is among them."""
    if isinstance(space, Categorical):
        best = natural.max(-1, keepdim=True)
        stays = (natural * now).sum(-1, keepdim=True) >= best.values
        return torch.where(stays, now, torch.zeros_like(now).scatter(-1, best.indices, 1.0))
    if not isinstance(space, Binary | Spin):
        raise InputError(f"retrieve: needs a Binary, Spin or Categorical space, got {space}")
    up = (natural > 0).to(now.dtype)
    return torch.where(natural == 0, now, up if isinstance(space, Binary) else 2 * up - 1)
