"""Mean-field contrastive divergence: the negative phase without a random number."""

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Conditional, Energy, require
from energeia.core.errors import check_count
from energeia.core.record import Batch, Info
from energeia.core.space import Binary, Categorical, Spin
from energeia.objectives.contrastive import Contrastive


class MeanFieldCD(Contrastive):
    """mean E(data) - mean E(q): contrastive divergence whose negatives are mean-field means q.

    From each row of data, every site is set to its mean given the means of the others,
    q_i = E[x_i | q], sweep after sweep; with hidden units, h = E[h | q] and q = E[x | h]. E at q is
    the energy of independent sites with these means, if E is linear in each site (no site coupled with
    itself).

    Args:
        num_sweeps: k >= 1. One is CD-1 without its noise; many come to a fixed point
            of mean field, one near the row.

    For models with hidden units; its gradient has no noise but that of the batch. Biased, however many rows
    or sweeps: the sites of one q are independent, so their correlations given the row are left out.
    With hidden units, which carry the correlations, that is mild. Without any it is everything: all couplings
    of a fully visible machine then grow until the q are nearly bits, and come out wrong by their own size
    (docs/inverse-ising.md has figures; `PseudoLikelihood` needs no more work and is consistent).

    Needs `Bipartite`, or `Conditional` on `Binary`, `Spin` or `Categorical` with natural parameters that
    are linear in the other sites (Ising, Potts, Boltzmann machines). Cost: the natural parameters
    of all blocks, a sweep.

    Reference: Welling & Hinton (2002), A new learning algorithm for mean field Boltzmann machines.
    https://doi.org/10.1007/3-540-46084-5_57

    >>> import torch, energeia as en
    >>> rbm = en.RBM(4, 2)
    >>> loss = en.MeanFieldCD()(rbm, en.Batch(torch.ones(3, 4)), torch.Generator())
    >>> loss.value.backward()
    """

    def __init__(self, num_sweeps: int = 1) -> None:
        super().__init__()
        check_count("MeanFieldCD", num_sweeps=num_sweeps)
        self.num_sweeps = num_sweeps

    def negatives(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Info]:
        """The means q of each row, `[B, *event]`; nothing is random."""
        with torch.no_grad():
            bipartite = energy.capability(Bipartite)
            q = self._swept(energy, batch.x) if bipartite is None else self._layered(bipartite, batch.x)
            moved = (q - batch.x).flatten(1).square().mean(1).sqrt()
        return q, Info(moved, torch.ones_like(moved), moved, ~moved.isfinite())

    def _layered(self, layers: Bipartite, x: Tensor) -> Tensor:
        for _ in range(self.num_sweeps):
            x = layers.visible.mean(layers.visible_parameters(layers.hidden.mean(layers.hidden_parameters(x))))
        return x

    def _swept(self, energy: Energy, x: Tensor) -> Tensor:
        conditional = require(
            energy,
            Conditional,
            who="MeanFieldCD",
            instead="use ContrastiveDivergence with a sampler that needs E alone",
        )
        space = energy.space
        assert isinstance(space, Binary | Spin | Categorical), "Conditional energies live on discrete spaces"
        blocks = list(conditional.split(x))
        for _ in range(self.num_sweeps):
            for block in range(conditional.num_blocks):
                blocks[block] = space.mean(conditional.natural_parameters(tuple(blocks), block))
        return conditional.join(tuple(blocks))
