"""Exact searches row by row, each for its own graph: minimum cuts, and one site after another."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from energeia.core.answers import Found, Search
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, check_count
from energeia.energies import elimination as eliminate
from energeia.energies.cuts import Cut, FlowSolver, check_solver
from energeia.energies.fields import Field, Row

_INSTEAD = "take en.Elimination on narrow graphs, else en.MaxProduct, en.IteratedModes or en.Annealing"


@dataclass(frozen=True)
class MinimumCut(Search):
    """The best labelling with two labels that like to agree, by a minimum cut of a graph: exact.

    Needs a `Field` with w(0,0) + w(1,1) >= w(0,1) + w(1,0) on every edge (submodular), as `PairwiseCRF` makes it with
    two labels, joint="potts" and J >= 0.

    Args:
        solver: "scipy", whose capacities are rounded to 30 bits of the largest: no answer can be better by more than
            N + M such steps. "maxflow": PyMaxflow, in float64 and several times faster; it is under the GPL and comes
            with the extra `cut`.

    Cost: a maximum flow for each row;
    for the k best up to N more for each of them (Lawler: the best answer of every way to differ from those before).

    Reference: Greig, Porteous & Seheult (1989), Exact maximum a posteriori estimation for binary images.
    https://doi.org/10.1111/j.2517-6161.1989.tb01764.x
    """

    solver: FlowSolver = "scipy"

    def __post_init__(self) -> None:
        check_solver("MinimumCut", self.solver)

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best answers; nothing is random."""
        field = field_of(energy, "MinimumCut")
        if field.unary.shape[-1] != 2:
            raise CapabilityError(
                f"MinimumCut is for two labels, these answers have {field.unary.shape[-1]}; take en.AlphaExpansion "
                "where equal neighbours are liked, en.Elimination on narrow graphs, else en.MaxProduct or en.Annealing"
            )

        def solver(row: Row) -> Callable[[Tensor], Tensor]:
            sites = row.site_log_potentials()
            tables = row.edge_log_potentials()
            cut = Cut(len(sites), row.edges, tables, solver=self.solver, instead=_INSTEAD)
            return lambda pull: cut.best(sites + pull).long()

        return _row_by_row(field, num_best, "minimum cuts", solver)


@dataclass(frozen=True)
class Elimination(Search):
    """The best labelling by the maximum over one site after another, on any narrow graph: exact.

    Needs a `Field`, of any number of labels, whose graph is narrow: a grid of few rows, a ring, a tree. Cost: K to the
    width, for each row; for the k best up to N times as much for each of them.

    Reference: Dechter (1999), Bucket elimination. https://doi.org/10.1016/S0004-3702(99)00059-4
    """

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best answers; nothing is random."""
        field = field_of(energy, "Elimination")
        return _row_by_row(field, num_best, "elimination", lambda row: eliminate.Elimination(row, "Elimination").argmax)


def field_of(energy: Energy, who: str) -> Field:
    """The energy as that of labels on a graph.

    Raises:
        CapabilityError: it is another.
    """
    if isinstance(energy, Field):
        return energy
    raise CapabilityError(
        f"{who} needs an energy of labels on a graph (Field), of en.PairwiseCRF or en.LinearChain, got "
        f"{type(energy).__name__}; take en.Annealing or en.IteratedModes"
    )


def _row_by_row(field: Field, num_best: int, method: str, solver: Callable[[Row], Callable[[Tensor], Tensor]]) -> Found:
    check_count(method, num_best=num_best)
    with torch.no_grad():
        labels = torch.stack(
            [
                k_best(solver(row := field.row(number)), row, num_best, _there(field, number))
                for number in range(field.num_rows)
            ]
        )
        y = field.one_hot(labels)
        energies = torch.stack([field(y[:, place]) for place in range(num_best)], 1)
        energies = torch.where((labels >= 0).any(2), energies, torch.inf)
        known = energies.isfinite().view(*energies.shape, *[1] * (y.dim() - 2))
        return Found(torch.where(known, y, 0.0), energies, True, method)


def _there(field: Field, number: int) -> Tensor | None:
    return None if field.present is None else field.present[number]


def k_best(solve: Callable[[Tensor], Tensor], row: Row, num_best: int, there: Tensor | None = None) -> Tensor:
    """The k best labellings `[k, N]` by an exact solver: -1 at sites that are not there, and where there are fewer.

    Args:
        solve: from a pull `[N, K]` to the labels `[N]` of the largest -E(y) + sum_i pull_i(y_i).
        row: the energy.
        num_best: k.
        there: bool `[N]`; None for all sites.

    Whoever differs from y does so at a first site: for each such site the best one that agrees with y before it and not
    at it is asked for, and the best of all these is next.

    Reference: Lawler (1972), A procedure for computing the k best solutions to discrete optimization problems and its
    application to the shortest path problem. https://doi.org/10.1287/mnsc.18.7.401
    """
    sites = row.site_log_potentials()
    num_sites, num_labels = sites.shape
    force = _enough(row).unsqueeze(1)
    places = range(num_sites) if there is None else [int(site) for site in there.nonzero().flatten()]
    mask = torch.ones(num_sites, dtype=torch.bool, device=sites.device) if there is None else there
    found: list[Tensor] = []
    number = itertools.count()
    heap: list[tuple[float, int, Tensor, int, frozenset[int]]] = []

    def ask(fixed: Tensor, first: int, forbidden: frozenset[int]) -> None:
        """Agree with `fixed` at places before `first`, and have none of `forbidden` there."""
        if len(forbidden) == num_labels:
            return
        pull = torch.zeros_like(sites)
        held = list(places[:first])
        pull[held, fixed[held]] = 1.0
        if forbidden:
            pull[places[first], list(forbidden)] = -1.0
        labels = solve(pull * force)
        y = one_hot(labels, num_labels).to(sites)
        state = y[:, 1] if num_labels == 2 else y
        heapq.heappush(heap, (float(row(state.unsqueeze(0))), next(number), labels, first, forbidden))

    ask(torch.zeros(num_sites, dtype=torch.int64, device=sites.device), 0, frozenset())
    while heap and len(found) < num_best:
        _, _, labels, first, forbidden = heapq.heappop(heap)
        found.append(labels.where(mask, torch.full_like(labels, -1)))
        if len(found) < num_best:
            for place in range(first, len(places)):
                known = forbidden if place == first else frozenset[int]()
                ask(labels, place, known | {int(labels[places[place]])})
    missing = [torch.full((num_sites,), -1, dtype=torch.int64, device=sites.device)] * (num_best - len(found))
    return torch.stack(found + missing)


def _enough(row: Row) -> Tensor:
    """A pull at each site `[N]` that nothing else outweighs."""
    sites, tables = row.site_log_potentials(), row.edge_log_potentials()
    force = sites.amax(1) - sites.amin(1) + 1.0
    reach = (tables.flatten(1).amax(1) - tables.flatten(1).amin(1)) if len(tables) else sites.new_zeros(0)
    for end in row.edges.unbind(1):
        force = force.index_add(0, end, reach)
    return force
