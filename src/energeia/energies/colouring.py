"""A graph, its sites coloured so that no edge joins two of one colour."""

import heapq
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.errors import InputError


class Graph(nn.Module):
    """The edges of a graph, a greedy colouring of its sites, and who is whose neighbour.

    Args:
        num_sites: N.
        edges: `[M, 2]`, each pair once, no site with itself.
        who: named in errors.

    The colouring is Brelaz's: always the site with the most colours around it, given the
    first colour that none of its neighbours has. Two colours where two suffice (trees,
    square lattices), else not always the fewest.

    Reference: Brelaz (1979), New methods to color the vertices of a graph.
    https://doi.org/10.1145/359094.359101
    """

    edges: Tensor

    def __init__(self, num_sites: int, edges: Tensor | Sequence[tuple[int, int]], who: str) -> None:
        super().__init__()
        pairs = check_edges(num_sites, edges, who)
        self.register_buffer("edges", pairs, persistent=False)
        neighbours = _neighbours(num_sites, pairs)
        colours = _colours(neighbours)
        self.num_colours = max(colours) + 1
        order = sorted(range(num_sites), key=colours.__getitem__)
        place = {site: number for number, site in enumerate(order)}
        for colour in range(self.num_colours):
            sites = [site for site in order if colours[site] == colour]
            table = _table(sites, neighbours, place, len(pairs))
            self.register_buffer(f"sites_{colour}", torch.tensor(sites), persistent=False)
            self.register_buffer(f"neighbours_{colour}", table[..., 0].contiguous(), persistent=False)
            self.register_buffer(f"slots_{colour}", table[..., 1].contiguous(), persistent=False)
        self.register_buffer("inverse", torch.tensor(order).argsort(), persistent=False)

    def sites(self, colour: int) -> Tensor:
        """Numbers of the sites of a colour `[n]`."""
        return self.get_buffer(f"sites_{colour}")

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites `[B, N, ...]` by colour, `[B, n, ...]` each."""
        return tuple(x[:, self.sites(colour)] for colour in range(self.num_colours))

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """The sites `[B, N, ...]` in their order: the inverse of split."""
        return torch.cat(blocks, 1)[:, self.get_buffer("inverse")]

    def neighbour_sum(self, couplings: Tensor, blocks: tuple[Tensor, ...], colour: int) -> Tensor:
        """sum_j J_ij x_j over the neighbours of the sites of a colour, in the block's shape."""
        neighbours = self.get_buffer(f"neighbours_{colour}")
        if neighbours.shape[1] == 0:
            return torch.zeros_like(blocks[colour])
        rest = _without(blocks, colour)
        zero = torch.zeros(1, dtype=couplings.dtype, device=couplings.device)
        weights = torch.cat([couplings.expand(len(self.edges)), zero])[self.get_buffer(f"slots_{colour}")]
        weights = weights.view(*weights.shape, *[1] * (rest.dim() - 2))
        return (weights * rest[:, neighbours]).sum(2)

    def table_sum(self, tables: Tensor, blocks: tuple[Tensor, ...], colour: int) -> Tensor:
        """sum_j b_ij(k, x_j) over the neighbours of the sites of a colour, `[B, n, K]` from tables `[M, K, K]`."""
        neighbours, slots = self.get_buffer(f"neighbours_{colour}"), self.get_buffer(f"slots_{colour}")
        if neighbours.shape[1] == 0:
            return torch.zeros_like(blocks[colour])
        # Of a table the rows are the states of the edge's first site: turned round where the colour has the second.
        turned = self.edges[slots.clamp(max=len(tables) - 1), 0] != self.sites(colour).unsqueeze(1)
        places = torch.where(slots == len(tables), 2 * len(tables), slots + len(tables) * turned)
        each = torch.cat([tables, tables.mT, torch.zeros_like(tables[:1])])[places]
        return torch.einsum("ndkl,bndl->bnk", each, _without(blocks, colour)[:, neighbours])


def _without(blocks: tuple[Tensor, ...], colour: int) -> Tensor:
    """All sites but those of a colour, `[B, N - n, ...]`."""
    others = blocks[:colour] + blocks[colour + 1 :]
    return others[0] if len(others) == 1 else torch.cat(others, 1)


def check_edges(num_sites: int, edges: Tensor | Sequence[tuple[int, int]], who: str) -> Tensor:
    """Edges as int64 `[M, 2]`, or `InputError`: sites lie in 0..num_sites - 1, no loops, each pair once."""
    pairs = edges.detach().clone() if isinstance(edges, Tensor) else torch.tensor(edges)
    if pairs.numel() == 0:
        return torch.zeros((0, 2), dtype=torch.int64)
    if pairs.dim() != 2 or pairs.shape[1] != 2 or pairs.is_floating_point() or pairs.dtype == torch.bool:
        raise InputError(f"{who}: edges are pairs of site numbers [M, 2], got {tuple(pairs.shape)} of {pairs.dtype}")
    pairs = pairs.long()
    outside = ((pairs < 0) | (pairs >= num_sites)).any(1)
    loops = pairs[:, 0] == pairs[:, 1]
    number = pairs.min(1).values * num_sites + pairs.max(1).values
    _, first, counts = number.unique(return_inverse=True, return_counts=True)
    twice = counts[first] > 1
    for bad, what in (
        (outside, f"has a site outside 0..{num_sites - 1}"),
        (loops, "joins a site with itself; that is a constant or a field"),
        (twice, "is listed twice (order does not matter); add the couplings and give it once"),
    ):
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise InputError(f"{who}: edge {row}, {tuple(pairs[row].tolist())}, {what}")
    return pairs


def _neighbours(num_sites: int, edges: Tensor) -> list[list[tuple[int, int]]]:
    """For every site, its (neighbour, number of the edge)."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(num_sites)]
    for number, (first, second) in enumerate(edges.tolist()):
        neighbours[first].append((second, number))
        neighbours[second].append((first, number))
    return neighbours


def _table(sites: list[int], neighbours: list[list[tuple[int, int]]], place: dict[int, int], missing: int) -> Tensor:
    """(place among the others, number of the edge) of every neighbour of the sites of one colour, `[n, D, 2]`."""
    first, last = place[sites[0]], place[sites[-1]]
    degree = max(len(neighbours[site]) for site in sites)
    rows: list[list[tuple[int, int]]] = []
    for site in sites:
        # The sites of this colour are left out where the others are put side by side.
        row = [
            (place[other] if place[other] < first else place[other] - (last - first + 1), edge)
            for other, edge in neighbours[site]
        ]
        rows.append(row + [(0, missing)] * (degree - len(row)))
    return torch.tensor(rows, dtype=torch.int64).view(len(sites), degree, 2)


def _colours(neighbours: list[list[tuple[int, int]]]) -> list[int]:
    """The colour of every site."""
    num_sites = len(neighbours)
    colours = [-1] * num_sites
    around: list[set[int]] = [set() for _ in range(num_sites)]
    queue = [(0, -len(neighbours[site]), site) for site in range(num_sites)]
    heapq.heapify(queue)
    while queue:
        saturation, _, site = heapq.heappop(queue)
        if colours[site] >= 0 or -saturation != len(around[site]):
            continue
        colours[site] = next(colour for colour in range(num_sites) if colour not in around[site])
        for other, _ in neighbours[site]:
            if colours[other] < 0 and colours[site] not in around[other]:
                around[other].add(colours[site])
                heapq.heappush(queue, (-len(around[other]), -len(neighbours[other]), other))
    return colours
