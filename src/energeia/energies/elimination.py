"""Sums and maxima over all states of a pairwise model, one site after another: exact where the graph is narrow."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from energeia.core.energy import Energy, Pairwise, require
from energeia.core.errors import InputError
from energeia.energies.log_space import log_sum_exp

MOST_ENTRIES = 2**27


class Order(NamedTuple):
    """An order in which sites are summed out.

    sites: all of them. width: the most neighbours that one has when its turn comes: at least the treewidth.
    steps: log of the table entries that are visited in all.
    """

    sites: tuple[int, ...]
    width: int
    steps: float


class Elimination:
    """A pairwise model, and the order in which its sites go.

    Args:
        energy: with `Pairwise`.
        who: asks, for error messages.
        max_entries: of one table, K^(width + 1); more are refused.

    The best of three orders is taken: fewest new edges first (min-fill), along the graph from end to end (reverse
    Cuthill-McKee, which on a strip is the transfer matrix), and as sites are numbered. Edges with a table of zeros do
    not count. Finding the best order of all is NP-hard.

    Raises:
        InputError: every order needs larger tables; the message says the width.

    Reference: Dechter (1999), Bucket elimination, https://doi.org/10.1016/S0004-3702(99)00059-4; Koller & Friedman
    (2009), Probabilistic graphical models, chapter 9.
    """

    def __init__(self, energy: Energy, who: str, *, max_entries: int = MOST_ENTRIES) -> None:
        pairwise = require(energy, Pairwise, who=who, instead="take en.log_z, which anneals where it must")
        tables = pairwise.edge_log_potentials().detach().double()
        kept = tables.flatten(1).abs().amax(1) > 0
        self._edges = [(int(i), int(j)) for i, j in pairwise.edges[kept].tolist()]
        self._tables = tables[kept]
        self.sites = pairwise.site_log_potentials().detach().double()
        self._size = self.sites.shape[1]
        self.order = best_order(len(self.sites), self._edges, self._size)
        self._rank = {site: place for place, site in enumerate(self.order.sites)}
        if (self.order.width + 1) * math.log(self._size) > math.log(max_entries) + 1e-9:
            raise InputError(
                f"{who}: the graph of {type(energy).__name__} is too wide to sum out site by site: width "
                f"{self.order.width} means tables of {self._size}^{self.order.width + 1} entries, more than "
                f"{max_entries}; en.log_z(energy) anneals there, en.tree_reweighted(energy) bounds"
            )

    def log_sum(self) -> Tensor:
        """log sum_x exp(-E(x)), float64."""
        return self._pass(self.sites, lambda table, scope: table.logsumexp(0))

    def argmax(self, pull: Tensor | None = None) -> Tensor:
        """States `[N]`, numbers 0..K-1, of the largest -E(x) + sum_i pull_i(x_i), pull `[N, K]`."""
        choices: list[tuple[tuple[int, ...], Tensor]] = []

        def keep(table: Tensor, scope: tuple[int, ...]) -> Tensor:
            best = table.max(0)
            choices.append((scope, best.indices.to(torch.uint8)))
            return best.values

        self._pass(self.sites if pull is None else self.sites + pull.double(), keep)
        states = [0] * len(self.sites)
        for (site, *others), best in reversed(choices):
            place = 0
            for other in others:
                place = place * self._size + states[other]
            states[site] = int(best[place])
        return torch.tensor(states, device=self.sites.device)

    def _pass(self, sites: Tensor, reduce: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Tensor:
        """What is left when all sites are gone; reduce takes `[K, rest]` to `[rest]`."""
        size, rank = self._size, self._rank
        waiting: dict[int, list[tuple[tuple[int, ...], Tensor]]] = {site: [] for site in self.order.sites}
        for number, (first, second) in enumerate(self._edges):
            forward = rank[first] < rank[second]
            table = self._tables[number] if forward else self._tables[number].T
            scope = (first, second) if forward else (second, first)
            waiting[scope[0]].append((scope, table))
        total = sites.new_zeros(())
        for site in self.order.sites:
            parts = [((site,), sites[site]), *waiting.pop(site)]
            scope = tuple(sorted({each for part, _ in parts for each in part}, key=rank.__getitem__))
            table = sites.new_zeros((size,) * len(scope))
            for part, values in parts:
                table = table + values.reshape([size if each in part else 1 for each in scope])
            reduced = reduce(table.reshape(size, -1), scope)
            if len(scope) == 1:
                total = total + reduced[0]
            else:
                waiting[scope[1]].append((scope[1:], reduced.view((size,) * (len(scope) - 1))))
        return total


def log_sum_of_rows(sites: Tensor, tables: Tensor, edges: Tensor, order: Order) -> Tensor:
    """log sum_x exp(sum_i a_i(x_i) + sum_(ij) b_ij(x_i, x_j)) of every row `[B]`, with its graph; -inf is allowed.

    Args:
        sites: a `[B, N, K]`. tables: b `[B, M, K, K]`, or `[1, M, K, K]` for all rows.
        edges: `[M, 2]`. order: in which sites are summed out.

    Cost: N tables of K^(width + 1) entries for every row, all kept for the backward pass. In the dtype given.

    Raises:
        InputError: tables of more than 2^20 entries a row.
    """
    num_rows, num_sites, size = sites.shape
    if size ** (order.width + 1) > 2**20:
        raise InputError(
            f"the graph is too wide to sum out site by site: width {order.width} means {size}^{order.width + 1} "
            "entries a row, more than 2^20; use E(x, y) alone, or an objective without log Z"
        )
    rank = {site: place for place, site in enumerate(order.sites)}
    waiting: dict[int, list[tuple[tuple[int, ...], Tensor]]] = {site: [] for site in range(num_sites)}
    for number, (first, second) in enumerate(edges.tolist()):
        if rank[first] < rank[second]:
            waiting[first].append(((first, second), tables[:, number]))
        else:
            waiting[second].append(((second, first), tables[:, number].mT))
    total = sites.new_zeros(num_rows)
    for site in order.sites:
        parts = [((site,), sites[:, site]), *waiting.pop(site)]
        # The site itself last, where the sum runs.
        others = sorted({each for part, _ in parts for each in part} - {site}, key=rank.__getitem__)
        scope = (*others, site)
        table = sites.new_zeros(num_rows, *[size] * len(scope))
        for part, values in parts:
            order_of_part = sorted(range(len(part)), key=lambda place, part=part: scope.index(part[place]))
            turned = values.permute(0, *(1 + place for place in order_of_part))
            table = table + turned.reshape(len(values), *(size if each in part else 1 for each in scope))
        reduced = log_sum_exp(table)
        if others:
            waiting[others[0]].append((tuple(others), reduced))
        else:
            total = total + reduced
    return total


def best_order(num_sites: int, edges: list[tuple[int, int]], num_states: int) -> Order:
    """The cheapest of the three orders (see `Elimination`)."""
    neighbours: list[set[int]] = [set() for _ in range(num_sites)]
    for first, second in edges:
        neighbours[first].add(second)
        neighbours[second].add(first)
    orders = [list(range(num_sites)), _along(num_sites, edges)]
    found = [_judged([set(own) for own in neighbours], order, num_states) for order in orders]
    found.append(_judged([set(own) for own in neighbours], _min_fill([set(own) for own in neighbours]), num_states))
    return min(found, key=lambda order: (order.width, order.steps))


def _along(num_sites: int, edges: list[tuple[int, int]]) -> list[int]:
    if not edges:
        return list(range(num_sites))
    first, second = np.array(edges).T
    graph = coo_matrix((np.ones(len(edges)), (first, second)), shape=(num_sites, num_sites)).tocsr()
    return [int(site) for site in reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)]


def _judged(neighbours: list[set[int]], order: list[int], num_states: int) -> Order:
    width, logs = 0, []
    for site in order:
        degree = len(neighbours[site])
        width = max(width, degree)
        logs.append((degree + 1) * math.log(num_states))
        _remove(neighbours, site)
    return Order(tuple(order), width, float(np.logaddexp.reduce(logs)))


def _remove(neighbours: list[set[int]], site: int) -> set[int]:
    """Join the neighbours of a site to each other and take it out; which sites were joined."""
    own = neighbours[site]
    for other in own:
        neighbours[other] |= own
        neighbours[other] -= {other, site}
    neighbours[site] = set()
    return own


def _min_fill(neighbours: list[set[int]]) -> list[int]:
    def missing(site: int) -> int:
        own = neighbours[site]
        return sum(len(own - neighbours[other]) - 1 for other in own) // 2

    left = {site: (missing(site), len(own)) for site, own in enumerate(neighbours)}
    order: list[int] = []
    while left:
        site = min(left, key=lambda each: (left[each], each))
        del left[site]
        order.append(site)
        own = _remove(neighbours, site)
        # New edges change what their ends and the common neighbours of these would add.
        for each in own.union(*(neighbours[other] for other in own)) if own else set[int]():
            left[each] = (missing(each), len(neighbours[each]))
    return order
