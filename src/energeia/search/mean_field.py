"""Naive mean field of labels on a graph: chances of each label at each site, and the labels that they point at."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from energeia.core.answers import Found, Search
from energeia.core.energy import Energy
from energeia.core.errors import check_count, check_positive
from energeia.search.cut import field_of
from energeia.search.moves import shortlist


class MeanField(NamedTuple):
    """The independent sites q nearest to p(y | x), of those that the sweeps came to.

    marginals: q `[B, *sites, K]`, zeros at sites that are not there.
    bounds: lower bounds of log sum_y exp(-E_b(y)) `[B]`.
    sweeps: over all sites; change: the last of a chance.
    """

    marginals: Tensor
    bounds: Tensor
    sweeps: int
    change: float


def mean_field_marginals(energy: Energy, *, max_sweeps: int = 100, tolerance: float = 1e-5) -> MeanField:
    """Marginals of the answers to every row by naive mean field.

    log q_i = u_i + sum_j w_ij q_j + constant, for the sites of one colour at once: the bound
    sum_i q_i . u_i + sum_(ij) q_i w_ij q_j + sum_i H(q_i) - c rises with every colour.

    Args:
        energy: a `Field`, such as `given(energy, context=x)` of a `PairwiseCRF`.
        max_sweeps: sweeps over all colours at most.
        tolerance: stops when no chance changes by more.

    Starts at the chances of every site alone, q_i = softmax(u_i), and ends in a local maximum of the bound. Chances are
    too sure where sites are joined strongly; there is no bound on their error. Cost: O(N K + M K^2) a sweep, colour and
    row, rows side by side.

    Reference: Wainwright & Jordan (2008), Graphical models, exponential families, and variational inference, section 5.
    https://doi.org/10.1561/2200000001
    """
    check_count("mean_field_marginals", max_sweeps=max_sweeps)
    check_positive("mean_field_marginals", tolerance=tolerance)
    field = field_of(energy, "mean_field_marginals").finite()
    with torch.no_grad():
        q = field.there(field.unary.softmax(2))
        blocks = list(field.split(q))
        change, sweeps = torch.inf, 0
        while sweeps < max_sweeps and change > tolerance:
            sweeps, before = sweeps + 1, q
            for colour in range(field.num_blocks):
                # Linear in the rest: of chances they are the mean of the natural parameters.
                blocks[colour] = field.natural_parameters(tuple(blocks), colour).softmax(2)
            q = field.join(tuple(blocks)).view_as(before)
            change = float((q - before).abs().max())
        chances = q.view(-1, *field.space.event_shape)
        entropy = -torch.special.xlogy(q, q).flatten(1).sum(1)
        return MeanField(chances, entropy - field(chances), sweeps, change)


@dataclass(frozen=True)
class MeanFieldModes(Search):
    """The most likely label of every site by naive mean field (`mean_field_marginals`).

    Args:
        max_sweeps, tolerance: as there.

    Approximates the labels whose expected number of wrong ones is least, not the labelling of least energy: its energy
    may well be higher than that of the others' answers. Needs a `Field`.
    """

    max_sweeps: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_count("MeanFieldModes", max_sweeps=self.max_sweeps)
        check_positive("MeanFieldModes", tolerance=self.tolerance)

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The modes, and the best changes of one site of them; nothing is random."""
        check_count("MeanFieldModes", num_best=num_best)
        found = mean_field_marginals(energy, max_sweeps=self.max_sweeps, tolerance=self.tolerance)
        field = field_of(energy, "MeanFieldModes")
        q = found.marginals
        y = field.there(one_hot(q.argmax(-1), q.shape[-1]).to(q).view_as(field.unary)).view_as(q)
        with torch.no_grad():
            answers, energies = shortlist(energy, y.unsqueeze(1), num_best)
        told = "" if found.change <= self.tolerance else f", NOT converged, chances change by {found.change:.2g}"
        return Found(answers, energies, False, f"modes of the mean field, {found.sweeps} sweeps{told}")
