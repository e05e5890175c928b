"""A graph without cycles, and the order in which messages go through it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.energies.colouring import check_edges

_MOST_NAMED = 12


class Merge(NamedTuple):
    """A round in which the subtrees below one site are put together two by two.

    size: items before the round. left, right: their numbers `[m]`; right is size where one is left over. parents: of
    the results, as places in the level above, `[m]`.
    """

    size: int
    left: Tensor
    right: Tensor
    parents: Tensor


class Level(NamedTuple):
    """The sites of one depth.

    size: how many, n. num_parents: sites of the level above, of which the roots have one that stands for all.
    parents: places there `[n]`, in ascending order. aligned: whether they are 0, 1, .., num_parents - 1.
    merges: rounds that leave one item for each parent that has any. ends: places of these parents, in order.
    """

    size: int
    num_parents: int
    parents: Tensor
    aligned: bool
    merges: tuple[Merge, ...]
    ends: Tensor


class Plan(NamedTuple):
    """Levels from the roots down; sites `[N]` and edges `[M]` in the order of the levels, and their way back.

    turned: `[M]`, whether an edge of this order is listed with the child first.
    """

    levels: tuple[Level, ...]
    sites: Tensor
    sites_back: Tensor
    edges: Tensor
    edges_back: Tensor
    turned: Tensor


class Forest:
    """Trees on sites 0..N-1, each hung up at its centre, so that it is as shallow as can be.

    Args:
        num_sites: N, at least 1.
        edges: pairs of site numbers `[M, 2]`, each pair once, without cycles; M = 0 leaves independent sites.

    Attributes: num_sites; edges `[M, 2]`, int64, as given, on the CPU; num_trees; depth: of the deepest site, the
    number of edges from its root: messages take depth + 1 steps up, and as many down, whatever the number of edges. A
    chain has a depth of N / 2, a star of 1, a balanced binary tree of about log2 N.

    Raises:
        InputError: a cycle, whose sites are named; a site with an edge to itself or outside 0..N-1; a pair given twice.

    Cost: O(N) steps of Python, once; the same Forest serves all batches and devices.

    >>> from energeia.energies.forest import Forest
    >>> Forest(5, [(0, 1), (1, 2), (2, 3), (3, 4)]).depth
    2
    """

    def __init__(self, num_sites: int, edges: Tensor | Sequence[tuple[int, int]]) -> None:
        check_count("Forest", num_sites=num_sites)
        self.num_sites = num_sites
        self.edges = check_edges(num_sites, edges, "Forest").cpu()
        neighbours: list[list[tuple[int, int]]] = [[] for _ in range(num_sites)]
        pairs: list[tuple[int, int]] = self.edges.tolist()
        for number, (first, second) in enumerate(pairs):
            neighbours[first].append((second, number))
            neighbours[second].append((first, number))
        roots = _centres(neighbours)
        self.num_trees = len(roots)
        self._plans = {torch.device("cpu"): _plan(neighbours, roots, pairs)}
        self.depth = len(self._plans[torch.device("cpu")].levels) - 1

    def __repr__(self) -> str:
        return f"Forest(num_sites={self.num_sites}, num_edges={len(self.edges)}, depth={self.depth})"

    def plan(self, device: torch.device) -> Plan:
        """The order of messages, with its tensors on a device (kept for the next call)."""
        if device not in self._plans:
            self._plans[device] = _moved(self._plans[torch.device("cpu")], device)
        return self._plans[device]


def _centres(neighbours: list[list[tuple[int, int]]]) -> list[int]:
    """The middle of a longest path of every tree."""
    seen = [False] * len(neighbours)
    centres: list[int] = []
    for site in range(len(neighbours)):
        if seen[site]:
            continue
        before = _walk(neighbours, site)
        for each in before:
            seen[each] = True
        # The site found last is at an end of a longest path; from there the last is at the other.
        start = next(reversed(before))
        path = _path(_walk(neighbours, start))
        centres.append(path[len(path) // 2])
    return centres


def _walk(neighbours: list[list[tuple[int, int]]], root: int) -> dict[int, int]:
    """The site before each site of a tree, nearest to the root first."""
    before = {root: -1}
    queue = [root]
    for site in queue:
        for other, _ in neighbours[site]:
            if other == before[site]:
                continue
            if other in before:
                raise InputError(_told(_cycle(before, site, other)))
            before[other] = site
            queue.append(other)
    return before


def _path(before: dict[int, int], site: int | None = None) -> list[int]:
    """From a site, or the last found, back to the root."""
    path = [next(reversed(before)) if site is None else site]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path


def _cycle(before: dict[int, int], first: int, second: int) -> list[int]:
    """The sites of the cycle that an edge between two found sites closes."""
    one, other = _path(before, first), _path(before, second)
    while len(one) > 1 and len(other) > 1 and one[-2] == other[-2]:
        one.pop()
        other.pop()
    return one + other[-2::-1]


def _told(cycle: list[int]) -> str:
    named = ", ".join(map(str, cycle[:_MOST_NAMED])) + (", .." if len(cycle) > _MOST_NAMED else "")
    return (
        f"Forest: the edges close a cycle of {len(cycle)} sites ({named}), and messages on trees are exact only "
        "without one. For log Z take en.log_z (elimination, exact where the graph is narrow) or en.bethe (loopy belief "
        "propagation, approximate); for a best labelling loopy max-product, iterated conditional modes or annealing"
    )


def _plan(neighbours: list[list[tuple[int, int]]], roots: list[int], pairs: list[tuple[int, int]]) -> Plan:
    levels: list[Level] = []
    sites: list[int] = []
    edges: list[int] = []
    # (site, the site above, place of that one, number of the edge to it).
    front = [(root, -1, 0, -1) for root in roots]
    num_parents = 1
    while front:
        levels.append(_level([place for _, _, place, _ in front], num_parents))
        sites += [site for site, *_ in front]
        edges += [edge for *_, edge in front if edge >= 0]
        num_parents = len(front)
        front = [
            (other, site, place, edge)
            for place, (site, above, *_) in enumerate(front)
            for other, edge in neighbours[site]
            if other != above
        ]
    depth_of = {site: number for number, site in enumerate(sites)}
    turned = [depth_of[pairs[edge][0]] > depth_of[pairs[edge][1]] for edge in edges]
    order, edge_order = torch.tensor(sites), torch.tensor(edges, dtype=torch.int64)
    return Plan(
        tuple(levels),
        order,
        order.argsort(),
        edge_order,
        edge_order.argsort(),
        torch.tensor(turned, dtype=torch.bool),
    )


def _level(parents: list[int], num_parents: int) -> Level:
    merges: list[Merge] = []
    items = parents
    while any(one == other for one, other in pairwise(items)):
        left: list[int] = []
        right: list[int] = []
        number, size = 0, len(items)
        while number < size:
            paired = number + 1 < size and items[number] == items[number + 1]
            left.append(number)
            right.append(number + 1 if paired else size)
            number += 2 if paired else 1
        items = [items[number] for number in left]
        merges.append(Merge(size, torch.tensor(left), torch.tensor(right), torch.tensor(items)))
    aligned = parents == list(range(num_parents))
    return Level(len(parents), num_parents, torch.tensor(parents), aligned, tuple(merges), torch.tensor(items))


def _moved(plan: Plan, device: torch.device) -> Plan:
    levels = tuple(
        level._replace(
            parents=level.parents.to(device),
            merges=tuple(Merge(merge.size, *(part.to(device) for part in merge[1:])) for merge in level.merges),
            ends=level.ends.to(device),
        )
        for level in plan.levels
    )
    return Plan(levels, *(part.to(device) for part in plan[1:]))
