"""Pairwise Markov random fields: any table for any edge."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.space import Categorical
from energeia.energies.colouring import Graph


class PairwiseMRF(Energy):
    """E(x) = -sum_i a_i(x_i) - sum_(ij) b_ij(x_i, x_j), K categories (one-hot) on any graph.

    Args:
        shape: shape of the sites, without the category axis.
        num_categories: K, at least 2.
        edges: pairs of sites `[M, 2]`, sites numbered as in the flattened shape; each pair once.
        site_tables: a `[N, K]`; None is zeros.
        edge_tables: b `[M, K, K]`, first axis the state of the edge's first site; None is zeros.

    Tables are log potentials, parameters of the model, and absorb the inverse temperature.
    They say more than the model does: what depends on one site alone can stand in a or in b,
    and a constant anywhere. A likelihood therefore has a flat direction for each; a little
    weight decay chooses the smallest tables (with b in the zero-sum gauge).

    Capabilities: `Conditional` (greedy colouring) and `Pairwise`. Cost: O(M K^2) for E, and as much
    for the natural parameters of all blocks. `Potts` has one number for each table, `Ising` spins.

    Reference: Wainwright & Jordan (2008), Graphical models, exponential families, and variational
    inference. https://doi.org/10.1561/2200000001

    >>> import torch
    >>> from energeia.energies import PairwiseMRF
    >>> table = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    >>> pair = PairwiseMRF(2, [(0, 1)], num_categories=2, edge_tables=table)
    >>> pair(torch.eye(2)[torch.tensor([[1, 0], [0, 1]])]).tolist()
    [-2.0, -1.0]
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        edges: Tensor | Sequence[tuple[int, int]],
        *,
        num_categories: int,
        site_tables: Tensor | None = None,
        edge_tables: Tensor | None = None,
    ) -> None:
        space = Categorical(shape, num_categories)
        super().__init__(space)
        self.num_categories = num_categories
        num_sites = space.num_dims // num_categories
        self.graph = Graph(num_sites, edges, "PairwiseMRF")
        given = site_tables if site_tables is not None else edge_tables
        dtype = torch.get_default_dtype() if given is None else given.dtype
        edge_shape = (len(self.graph.edges), num_categories, num_categories)
        self.site_tables = _tables("site_tables", site_tables, (num_sites, num_categories), dtype)
        self.edge_tables = _tables("edge_tables", edge_tables, edge_shape, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        sites = self._sites(x)
        first, second = self.graph.edges.unbind(1)
        bonds = torch.einsum("bmk,mkl,bml->b", sites[:, first], self.edge_tables, sites[:, second])
        return -bonds - (self.site_tables * sites).flatten(1).sum(1)

    @property
    def num_blocks(self) -> int:
        """Number of colours."""
        return self.graph.num_colours

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites of each colour `[B, n, K]`."""
        return self.graph.split(self._sites(x))

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, *event]` from the colours."""
        return self.graph.join(blocks).view(-1, *self.space.event_shape)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """a_i(k) + sum_j b_ij(k, x_j) for the sites of a colour, `[B, n, K]`."""
        return self.site_tables[self.graph.sites(block)] + self.graph.table_sum(self.edge_tables, blocks, block)

    @property
    def edges(self) -> Tensor:
        """Pairs of sites `[M, 2]`."""
        return self.graph.edges

    def site_log_potentials(self) -> Tensor:
        """a `[N, K]`."""
        return self.site_tables

    def edge_log_potentials(self) -> Tensor:
        """b `[M, K, K]`."""
        return self.edge_tables

    def _sites(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.num_categories)


def _tables(name: str, value: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> nn.Parameter:
    if value is None:
        return nn.Parameter(torch.zeros(shape, dtype=dtype))
    if tuple(value.shape) != shape or not value.is_floating_point() or not bool(value.isfinite().all()):
        raise InputError(
            f"PairwiseMRF: {name} must be finite floating numbers of shape {shape}, got {value.dtype} "
            f"{tuple(value.shape)}; a state that cannot be has a large negative number, not -inf"
        )
    return nn.Parameter(value.detach().clone().to(dtype))
