"""Perturb-and-MAP learning: negatives are the most likely states of randomly pulled potentials."""

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, check_count
from energeia.core.record import Batch, Info
from energeia.core.space import Binary, Categorical, Spin
from energeia.energies.maxima import Solver, gumbel, pulled_maxima
from energeia.objectives.contrastive import Contrastive


class PerturbAndMAP(Contrastive):
    """mean E(data) - mean E(x*), x* = argmax_x of -E(x) + sum_i g_i(x_i), g independent Gumbel noise.

    Args:
        num_perturbations: states x* at every update, independent of each other, >= 1.
        solver: how x* is found, exactly: "enumeration" (at most 2^16 states), "cut" (bits and
            spins, `Pairwise`, couplings that favour agreement), "elimination" (`Pairwise`, narrow
            graphs), "auto"; see `energies.maxima`.

    Independent draws without a Markov chain. Their distribution is exp(-E) / Z for sites without
    couplings (the Gumbel trick, site by site) and another one else: noise for every joint
    state would be needed. Learning matches the moments of that other distribution to those of
    the data, so E, read as a Gibbs energy, is biased however many rows there are, the more the stronger the
    couplings; states are good only if they too are made as x*. Where the couplings are to be known, use
    `PseudoLikelihood`.

    Cost: num_perturbations maximisations an update.

    Reference: Papandreou & Yuille (2011), Perturb-and-MAP random fields: using discrete optimization
    to learn and sample from energy models. https://doi.org/10.1109/ICCV.2011.6126242

    >>> import torch, energeia as en
    >>> ising = en.Ising(3, [(0, 1), (1, 2)], couplings=0.5)
    >>> objective = en.PerturbAndMAP(num_perturbations=20)
    >>> x, _ = objective.negatives(ising, en.Batch(torch.ones(1, 3)), torch.Generator().manual_seed(0))
    >>> x.shape
    torch.Size([20, 3])
    """

    def __init__(self, num_perturbations: int = 100, *, solver: Solver = "auto") -> None:
        super().__init__()
        check_count("PerturbAndMAP", num_perturbations=num_perturbations)
        self.num_perturbations: int = num_perturbations
        self.solver: Solver = solver

    def negatives(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Info]:
        """num_perturbations states."""
        space = energy.space
        if not isinstance(space, Binary | Spin | Categorical):
            raise CapabilityError(
                f"PerturbAndMAP needs a Binary, Spin or Categorical space, got {space}; use PersistentCD there"
            )
        size = space.num_categories if isinstance(space, Categorical) else 2
        num_sites = space.num_dims // size if isinstance(space, Categorical) else space.num_dims
        shape = (self.num_perturbations, num_sites, size)
        x = pulled_maxima(energy, gumbel(shape, generator).to(batch.x), solver=self.solver)
        nothing = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        return x, Info(nothing, nothing + 1, nothing, nothing > 0)
