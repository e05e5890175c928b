"""The graph of a field: which sites are joined, and what is computed from that once."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.energies.colouring import Graph
from energeia.energies.elimination import Order, best_order
from energeia.energies.trees import Forest


class Structure:
    """Which sites are joined, and which joints share a table.

    Args:
        num_sites: N.
        edges: pairs of sites `[M, 2]`, each once.
        kinds: int64 `[M]`, the number of each edge's table; None gives every edge its own.

    What is computed from it (a colouring, the order of a forest) is computed once, when asked for.
    """

    def __init__(self, num_sites: int, edges: Tensor | Sequence[tuple[int, int]], kinds: Tensor | None = None) -> None:
        pairs = torch.as_tensor(edges, dtype=torch.int64).reshape(-1, 2)
        if bool((pairs < 0).any()) or bool((pairs >= num_sites).any()) or bool((pairs[:, 0] == pairs[:, 1]).any()):
            raise InputError(f"edges join two different sites of 0..{num_sites - 1}, got {pairs.tolist()[:5]} ...")
        if len(pairs.sort(1).values.unique(dim=0)) != len(pairs):
            raise InputError("every pair of sites is joined once, but some edges are given twice")
        self.num_sites, self.edges = num_sites, pairs
        self.kinds = torch.arange(len(pairs)) if kinds is None else kinds
        if self.kinds.shape != (len(pairs),) or bool((self.kinds < 0).any()):
            raise InputError(
                f"kinds are numbers from 0, one for each edge [{len(pairs)}], got shape {tuple(self.kinds.shape)}"
                + (f" and a least of {int(self.kinds.min())}" if self.kinds.numel() else "")
            )
        self.num_kinds = int(self.kinds.max()) + 1 if len(pairs) else 0

    @cached_property
    def is_path(self) -> bool:
        """Whether the edges join 0-1, 1-2 and so on."""
        along = torch.arange(self.num_sites)
        return torch.equal(self.edges, torch.stack([along[:-1], along[1:]], 1)) and self.num_sites > 1

    @cached_property
    def has_cycles(self) -> bool:
        """Whether a walk along different edges comes back to where it began."""
        parent = list(range(self.num_sites))

        def root(site: int) -> int:
            while parent[site] != site:
                parent[site] = parent[parent[site]]
                site = parent[site]
            return site

        for first, second in self.edges.tolist():
            one, other = root(first), root(second)
            if one == other:
                return True
            parent[one] = other
        return False

    @cached_property
    def order(self) -> Order:
        """A good order to sum the sites out, and its width."""
        return best_order(self.num_sites, [(first, second) for first, second in self.edges.tolist()], 2)

    def entries(self, num_labels: int) -> int:
        """Of the largest table when sites are summed out: K^(width + 1)."""
        return num_labels ** (self.order.width + 1)

    @cached_property
    def forest(self) -> Forest:
        """The order of messages; `InputError` where there are cycles."""
        return Forest(self.num_sites, self.edges)

    @cached_property
    def graph(self) -> Graph:
        """The colouring."""
        return Graph(self.num_sites, self.edges, "Structure")
