"""Alpha-expansion: many labels by minimum cuts, one label at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.answers import Found, Search
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, check_count
from energeia.energies.cuts import Cut, FlowSolver, check_solver
from energeia.energies.fields import Field, Row
from energeia.search.cut import field_of
from energeia.search.moves import shortlist

_INSTEAD = "take en.MaxProduct, en.IteratedModes or en.Annealing"


@dataclass(frozen=True)
class AlphaExpansion(Search):
    """Alpha-expansion: for each label in turn the best choice of sites that take it, all others keeping theirs.

    Starts at the best label of every site alone and ends when no label's expansion is better.

    Args:
        max_cycles: rounds over all labels at most.
        solver: of the cuts, as in `MinimumCut`.

    Needs a `Field` whose tables satisfy w(a, b) + w(c, c) >= w(a, c) + w(c, b) for all labels a, b, c, as those of
    `PairwiseCRF` with joint="potts" and J >= 0. Approximate: with -w(a, b) = V(a, b) >= 0, zero only for a = b, the
    answer has sum of site terms + sum of V at most that of the best answer with V times 2 max V / min V (twice, for
    potts; an added constant changes neither answer). Cost: K cuts a cycle and a row, few cycles.

    Reference: Boykov, Veksler & Zabih (2001), Fast approximate energy minimization via graph cuts.
    https://doi.org/10.1109/34.969114
    """

    max_cycles: int = 20
    solver: FlowSolver = "scipy"

    def __post_init__(self) -> None:
        check_count("AlphaExpansion", max_cycles=self.max_cycles)
        check_solver("AlphaExpansion", self.solver)

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The answer, and the best changes of one site of it; nothing is random."""
        check_count("AlphaExpansion", num_best=num_best)
        field = field_of(energy, "AlphaExpansion")
        with torch.no_grad():
            if not likes_equals(field):
                raise CapabilityError(
                    "AlphaExpansion needs tables that like equal labels, w(a, b) + w(c, c) >= w(a, c) + w(c, b) for "
                    f"all a, b, c (for potts: J >= 0), but an edge has others; {_INSTEAD}"
                )
            labels = torch.stack([self._expanded(field.row(number)) for number in range(field.num_rows)])
            if field.present is not None:
                labels = labels.where(field.present, torch.full_like(labels, -1))
            answers, energies = shortlist(energy, field.one_hot(labels.unsqueeze(1)), num_best)
        return Found(answers, energies, False, "alpha-expansion")

    def _expanded(self, row: Row) -> Tensor:
        """The labels `[N]` of one row."""
        sites, tables = row.site_log_potentials().double(), row.edge_log_potentials().double()
        labels = sites.argmax(1)
        level = _score(sites, tables, row.edges, labels)
        for _ in range(self.max_cycles):
            before = level
            for label in range(sites.shape[1]):
                tried = self._move(sites, tables, row.edges, labels, label)
                value = _score(sites, tables, row.edges, tried)
                # The cut is exact but for rounding, which may not make it worse.
                if value > level:
                    labels, level = tried, value
            if level == before:
                break
        return labels

    def _move(self, sites: Tensor, tables: Tensor, edges: Tensor, labels: Tensor, label: int) -> Tensor:
        """The best labels `[N]` that are the present ones or `label` at every site."""
        first, second = labels[edges].unbind(1)
        edge = torch.arange(len(edges), device=edges.device)
        keep = torch.stack([tables[edge, first, second], tables[edge, first, label]], 1)
        take = torch.stack([tables[edge, label, second], tables[edge, label, label].expand(len(edges))], 1)
        cut = Cut(len(sites), edges, torch.stack([keep, take], 1), solver=self.solver, instead=_INSTEAD)
        own = sites.gather(1, labels.unsqueeze(1)).squeeze(1)
        return torch.where(cut.best(torch.stack([own, sites[:, label]], 1)), label, labels)


def _score(sites: Tensor, tables: Tensor, edges: Tensor, labels: Tensor) -> Tensor:
    """-E of the labels `[N]`."""
    first, second = labels[edges].unbind(1)
    edge = torch.arange(len(edges), device=edges.device)
    return sites.gather(1, labels.unsqueeze(1)).sum() + tables[edge, first, second].sum()


def likes_equals(field: Field) -> bool:
    """Whether w(a, b) + w(c, c) >= w(a, c) + w(c, b) for all labels, but for rounding."""
    tables = field.tables.detach().double()
    least = -1e-12 * tables.abs().amax() if tables.numel() else 0.0
    for label in range(tables.shape[-1]):
        to, of = tables[..., :, label, None], tables[..., None, label, :]
        # Not >=, so that a NaN is left to be met where energies are.
        if bool((tables + tables[..., label, label, None, None] - to - of < least).any()):
            return False
    return True
