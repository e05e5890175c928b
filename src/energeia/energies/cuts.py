"""The best labels of sites with two labels that like to agree, as the minimum cut of a graph."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

from energeia.core.errors import CapabilityError, DivergenceError, InputError

FlowSolver = Literal["scipy", "maxflow"]
# A flow along one edge against that of the other direction: twice this must be a 32-bit whole number.
_LARGEST = 2**30 - 1


class Cut:
    """argmax_y of sum_i s_i(y_i) + sum_(ij) b_ij(y_i, y_j) for bits y, for any s: the edges are prepared once.

    Args:
        num_sites: N.
        edges: pairs of sites `[M, 2]`.
        tables: b `[M, 2, 2]`, with b(0,0) + b(1,1) >= b(0,1) + b(1,0) on every edge (submodular).
        solver: "scipy" rounds capacities down to 30 bits of the largest, so that the labels found are at most N + M
            such steps below the best. "maxflow" is PyMaxflow (the extra `cut`; GPL), in float64, several times faster.
        instead: what to use where the edges are not submodular, for the error.

    Raises:
        CapabilityError: an edge is not submodular, the library is not installed.

    Reference: Greig, Porteous & Seheult (1989), Exact maximum a posteriori estimation for binary images,
    https://doi.org/10.1111/j.2517-6161.1989.tb01764.x; Kolmogorov & Zabih (2004), What energy functions can be
    minimized via graph cuts? https://doi.org/10.1109/TPAMI.2004.1262177
    """

    def __init__(
        self, num_sites: int, edges: Tensor, tables: Tensor, *, solver: FlowSolver = "scipy", instead: str
    ) -> None:
        check_solver("a minimum cut", solver)
        (low, up_second), (up_first, high) = (row.unbind(0) for row in tables.detach().double().permute(1, 2, 0))
        coupling = low + high - up_first - up_second
        if bool((coupling < 0).any()):
            raise CapabilityError(
                f"a minimum cut needs couplings that favour agreement, but {int((coupling < 0).sum())} of "
                f"{len(coupling)} edges do not (they have b(0,0) + b(1,1) < b(0,1) + b(1,0)); {instead}"
            )
        # b(y, y') = u y + v y' + w (y + y' - |y - y'|) / 2, plus a constant.
        first, second = edges.unbind(1)
        gains = coupling.new_zeros(num_sites)
        gains = gains.index_add(0, first, up_first - low + coupling / 2)
        self._gains = gains.index_add(0, second, up_second - low + coupling / 2)
        self._reach = coupling.new_zeros(num_sites).index_add(0, first, coupling).index_add(0, second, coupling)
        self._largest = float(self._reach.max()) or 1.0
        ends, capacities = edges.cpu().numpy(), (coupling / 2).cpu().numpy()
        self._network = (
            _Scipy(num_sites, ends, capacities) if solver == "scipy" else _Maxflow(num_sites, ends, capacities)
        )

    def best(self, sites: Tensor) -> Tensor:
        """The labels for s `[N, 2]`: bool `[N]`."""
        gains = self._gains + (sites[:, 1] - sites[:, 0]).detach().double()
        if not bool(gains.isfinite().all()):
            raise DivergenceError("a minimum cut needs finite log potentials, some are NaN or infinite; check weights")
        # What outweighs all neighbours together decides alone, by however much: capacities keep to one scale.
        gains = torch.where(self._reach > 0, gains.clamp(-self._reach, self._reach), gains.sign() * self._largest)
        return torch.from_numpy(self._network.source_side(gains.cpu().numpy())).to(sites.device)


def check_solver(who: str, solver: str) -> None:
    """Raise `InputError` unless this is a solver of maximum flows."""
    if solver not in get_args(FlowSolver):
        raise InputError(f"{who}: solver must be one of {', '.join(get_args(FlowSolver))}, got {solver!r}")


class _Scipy:
    """Sites 0..N-1, a source N and a sink N + 1; only the capacities at the ends differ between cuts."""

    def __init__(self, num_sites: int, edges: np.ndarray, capacities: np.ndarray) -> None:
        self._num_sites, self._capacities = num_sites, capacities
        site, source, sink = np.arange(num_sites), np.full(num_sites, num_sites), np.full(num_sites, num_sites + 1)
        rows = np.concatenate([edges[:, 0], edges[:, 1], source, site])
        columns = np.concatenate([edges[:, 1], edges[:, 0], site, sink])
        order = np.lexsort((columns, rows))
        self._order, self._columns = order, columns[order].astype(np.int32)
        self._starts = np.searchsorted(rows[order], np.arange(num_sites + 3)).astype(np.int32)

    def source_side(self, gains: np.ndarray) -> np.ndarray:
        """Which sites are up, bool `[N]`, if up gains so much."""
        ends = np.concatenate([np.maximum(gains, 0), np.maximum(-gains, 0)])
        values = np.concatenate([self._capacities, self._capacities, ends])
        scaled = np.floor(values[self._order] * (_LARGEST / max(values.max(), 1e-290))).astype(np.int32)
        shape = (self._num_sites + 2, self._num_sites + 2)
        graph = csr_matrix((scaled, self._columns, self._starts), shape=shape)
        left = graph - maximum_flow(graph, self._num_sites, self._num_sites + 1).flow
        left.eliminate_zeros()
        reached = breadth_first_order(left, self._num_sites, return_predecessors=False)
        up = np.zeros(self._num_sites + 2, dtype=bool)
        up[reached] = True
        return up[: self._num_sites]


class _Maxflow:
    """The same by PyMaxflow, an optional library."""

    def __init__(self, num_sites: int, edges: np.ndarray, capacities: np.ndarray) -> None:
        try:
            import maxflow  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise CapabilityError(
                'solver="maxflow" needs PyMaxflow: pip install "energeia[cut]"; solver="scipy" needs nothing more'
            ) from error
        self._library: Any = maxflow
        self._num_sites, self._edges, self._capacities = num_sites, edges, capacities

    def source_side(self, gains: np.ndarray) -> np.ndarray:
        """Which sites are up, bool `[N]`, if up gains so much."""
        graph = self._library.GraphFloat(self._num_sites, len(self._edges))
        nodes = graph.add_grid_nodes((self._num_sites,))
        graph.add_edges(self._edges[:, 0], self._edges[:, 1], self._capacities, self._capacities)
        graph.add_grid_tedges(nodes, np.maximum(gains, 0), np.maximum(-gains, 0))
        graph.maxflow()
        return ~graph.get_grid_segments(nodes)
