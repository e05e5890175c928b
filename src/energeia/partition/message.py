"""log Z by passing messages on a graph: Bethe's approximation, and the tree-reweighted upper bound."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from torch import Tensor

from energeia.core.energy import Energy, Pairwise, require
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.record import LogZ


class _Graph(NamedTuple):
    """A pairwise model, float64: sites `[N, K]`, edges `[M, 2]`, tables `[M, K, K]`, trees in a spanning forest."""

    sites: Tensor
    edges: Tensor
    tables: Tensor
    num_trees: int

    @property
    def forest(self) -> bool:
        return len(self.edges) == len(self.sites) - self.num_trees

    @property
    def attractive(self) -> bool:
        """Two states, and every edge favours that they agree."""
        if self.sites.shape[1] != 2:
            return False
        (low, first), (second, high) = (row.unbind(0) for row in self.tables.permute(1, 2, 0))
        return bool((low + high >= first + second - 1e-12).all())


class _Beliefs(NamedTuple):
    """Marginals of sites `[N, K]` and edges `[M, K, K]`, rounds made, and the last change of a message."""

    sites: Tensor
    edges: Tensor
    rounds: int
    change: float


def bethe(
    energy: Energy,
    *,
    num_starts: int = 3,
    damping: float = 0.3,
    tolerance: float = 1e-9,
    max_rounds: int = 2000,
    generator: torch.Generator | int = 0,
) -> LogZ:
    """log Z in Bethe's approximation, by loopy belief propagation.

    log Z_B = sum_i q_i . a_i + sum_(ij) q_ij . b_ij + sum_(ij) H(q_ij) - sum_i (d_i - 1) H(q_i), d the degrees, at a
    fixed point of the messages m_(i->j)(x_j) ~ sum_(x_i) exp(a_i + b_ij) prod_(k != j) m_(k->i)(x_i).

    Args:
        energy: with `Pairwise`.
        num_starts: random messages to start from, beside uniform ones and, for each state, those that favour it: below
            a transition uniform messages stay at a fixed point that is not the best. The largest value of those
            that converge is taken, as all are stationary points of what Bethe's approximation maximises.
        damping: share of the old (log) message that is kept in a round, in [0, 1).
        tolerance: largest change of a log message at which it has converged, in nats.
        max_rounds: when to stop if it has not. In a round all messages are renewed at once.
        generator: of the random starts, or a seed for them.

    Returns:
        `LogZ`: "exact" on a forest; "lower" where there are two states and all couplings favour agreement, as it is
        then a lower bound at every fixed point; else "approximate", with ends at infinity, as nothing is known of its
        error. Where messages have not converged it is "approximate" and the method says so. details: converged,
        rounds, change, marginals `[N, K]`, edge_marginals `[M, K, K]`.

    On short loops with strong couplings it is wrong by much, or does not converge: more damping may help.

    Reference: Yedidia, Freeman & Weiss (2005), Constructing free-energy approximations and generalized belief
    propagation algorithms, https://doi.org/10.1109/TIT.2005.850085; Ruozzi (2012), The Bethe partition function of
    log-supermodular graphical models, https://arxiv.org/abs/1202.6035

    >>> import energeia as en
    >>> lattice = en.IsingLattice((4, 4), coupling=0.4)
    >>> found = en.bethe(lattice)
    >>> found.kind, round(float(found.value), 4)
    ('lower', 13.8581)
    """
    graph = _graph("bethe", energy)
    _check("bethe", damping, tolerance, max_rounds)
    if num_starts < 0:
        raise InputError(f"bethe: num_starts must be at least 0, got {num_starts}")
    if isinstance(generator, int):
        generator = torch.Generator(graph.sites.device).manual_seed(generator)
    ones = torch.ones(len(graph.edges)).to(graph.sites)
    tried: list[tuple[bool, float, Tensor, _Beliefs]] = []
    for start in _starts(graph, num_starts, generator):
        beliefs, _ = _run(graph, ones, damping, tolerance, max_rounds, start)
        value = _free_energy(graph, beliefs, ones)
        tried.append((beliefs.change <= tolerance, float(value), value, beliefs))
    _, _, value, beliefs = max(tried, key=lambda each: each[:2])
    details, told = _details(beliefs, tolerance)
    details["values"] = [each[1] for each in tried if each[0]]
    method = f"belief propagation, {told}"
    nothing = torch.full_like(value, math.inf)
    zero = torch.zeros_like(value)
    if not details["converged"]:
        return LogZ(value, zero, "approximate", -nothing, nothing, method, details)
    if graph.forest:
        return LogZ.exact(value, f"{method}, on a graph without loops", **details)
    if graph.attractive:
        return LogZ(value, zero, "lower", value, nothing, f"{method}; a lower bound, as couplings agree", details)
    return LogZ(value, zero, "approximate", -nothing, nothing, f"{method}; no bound", details)


def tree_reweighted(
    energy: Energy,
    *,
    appearance: Tensor | None = None,
    num_updates: int = 30,
    damping: float = 0.5,
    tolerance: float = 1e-8,
    max_rounds: int = 5000,
) -> LogZ:
    """An upper bound of log Z by tree-reweighted belief propagation.

    log Z <= max_q sum_i q_i . a_i + sum_(ij) q_ij . b_ij + sum_i H(q_i) - sum_(ij) rho_ij I(q_ij) for any rho that
    are chances of edges to appear in a random spanning tree; I is the mutual information.

    Args:
        energy: with `Pairwise`.
        appearance: rho `[M]`, each in (0, 1]; None begins at those of uniformly random spanning trees, by
            effective resistances. It must lie in the spanning tree polytope, or there is no bound; what can be
            checked at once is (its sum is N less the number of components).
        num_updates: steps towards the rho of the least bound (conditional gradient: to the spanning tree of most
            mutual information); 0 keeps rho. The least bound seen is returned.
        damping, tolerance, max_rounds: as of `bethe`.

    Returns:
        `LogZ` of kind "upper", "exact" on a forest, or "approximate" where messages have not converged, for then there
        is no bound. details as of `bethe`, with appearance.

    Cost: (num_updates + 1) runs of messages, each begun where the last one ended, and once N^3 for the resistances.

    Reference: Wainwright, Jaakkola & Willsky (2005), A new class of upper bounds on the log partition function,
    https://doi.org/10.1109/TIT.2005.850091

    >>> import energeia as en
    >>> lattice = en.IsingLattice((4, 4), coupling=0.4)
    >>> found = en.tree_reweighted(lattice, num_updates=0)
    >>> found.kind, round(float(found.value), 4)
    ('upper', 15.9945)
    """
    graph = _graph("tree_reweighted", energy)
    _check("tree_reweighted", damping, tolerance, max_rounds)
    if num_updates < 0:
        raise InputError(f"tree_reweighted: num_updates must be at least 0, got {num_updates}")
    rho = _uniform_appearance(graph) if appearance is None else _checked(graph, appearance)
    best: tuple[Tensor, _Beliefs, Tensor] | None = None
    messages = None
    for update in range(1 if graph.forest else num_updates + 1):
        beliefs, messages = _run(graph, rho, damping, tolerance, max_rounds, messages)
        value = _free_energy(graph, beliefs, rho)
        converged = beliefs.change <= tolerance
        if best is None or (converged and (value < best[0] or best[1].change > tolerance)):
            best = (value, beliefs, rho)
        if not graph.forest:
            rho = rho + 2 / (update + 4) * (_heaviest_trees(graph, _information(beliefs)) - rho)
    assert best is not None
    value, beliefs, rho = best
    details, told = _details(beliefs, tolerance)
    method = f"tree-reweighted belief propagation, {told}"
    nothing = torch.full_like(value, math.inf)
    details["appearance"] = rho
    if not details["converged"]:
        return LogZ(value, torch.zeros_like(value), "approximate", -nothing, nothing, method, details)
    if graph.forest:
        return LogZ.exact(value, f"{method}, on a graph without loops", **details)
    return LogZ(value, torch.zeros_like(value), "upper", -nothing, value, method, details)


def _graph(who: str, energy: Energy) -> _Graph:
    pairwise = require(energy, Pairwise, who=who, instead="take en.log_z, which asks for no graph")
    edges = pairwise.edges
    sites, tables = pairwise.site_log_potentials().detach().double(), pairwise.edge_log_potentials().detach().double()
    adjacency = _adjacency(len(sites), edges, np.ones(len(edges)))
    return _Graph(sites, edges, tables, int(connected_components(adjacency, directed=False)[0]))


def _adjacency(num_sites: int, edges: Tensor, values: np.ndarray) -> coo_matrix:
    first, second = edges.cpu().numpy().reshape(-1, 2).T
    return coo_matrix((values, (first, second)), shape=(num_sites, num_sites))


def _check(who: str, damping: float, tolerance: float, max_rounds: int) -> None:
    if not 0 <= damping < 1:
        raise InputError(f"{who}: damping must lie in [0, 1), got {damping}")
    check_positive(who, tolerance=tolerance)
    check_count(who, max_rounds=max_rounds)


def _starts(graph: _Graph, number: int, generator: torch.Generator) -> list[Tensor | None]:
    """Messages to begin with; one start is enough where there are no loops."""
    if graph.forest:
        return [None]
    size = graph.sites.shape[1]
    favouring = torch.eye(size).to(graph.sites).mul(2.0).unsqueeze(1).expand(size, 2 * len(graph.edges), size)
    shape = (number, 2 * len(graph.edges), size)
    drawn = torch.randn(shape, generator=generator, dtype=graph.sites.dtype, device=graph.sites.device)
    return [None, *favouring, *drawn]


def _run(
    graph: _Graph, rho: Tensor, damping: float, tolerance: float, max_rounds: int, messages: Tensor | None
) -> tuple[_Beliefs, Tensor]:
    """Beliefs, and log messages `[2M, K]`: first along the edges, then against them."""
    first, second = graph.edges.unbind(1)
    if graph.forest:
        # Messages are right, and stay, after as many rounds as the longest way has edges.
        damping, max_rounds = 0.0, max(max_rounds, len(graph.sites) + 1)
    sources, targets = torch.cat([first, second]), torch.cat([second, first])
    number, both = len(graph.edges), torch.cat([rho, rho]).unsqueeze(1)
    # [2M, K of the source, K of the target].
    tables = torch.cat([graph.tables, graph.tables.mT]) / both.unsqueeze(2)
    if messages is None:
        messages = torch.zeros_like(graph.sites[sources])
    reverse = torch.cat([torch.arange(number, 2 * number), torch.arange(number)]).to(sources)
    change, rounds = 0.0 if number == 0 else math.inf, 0
    while rounds < max_rounds and change > tolerance:
        rounds += 1
        fields = graph.sites.index_add(0, targets, both * messages)
        # All that comes to the source, less its own edge to the target, of which rho - 1 is left to it.
        incoming = fields[sources] - messages[reverse]
        fresh = (tables + incoming.unsqueeze(2)).logsumexp(1)
        fresh = fresh - fresh.logsumexp(1, keepdim=True)
        following = damping * messages + (1 - damping) * fresh if rounds > 1 else fresh
        change = float((fresh - messages).abs().max())
        messages = following
    fields = graph.sites.index_add(0, targets, both * messages)
    outgoing = fields[sources] - messages[reverse]
    logs = tables[:number] + outgoing[:number].unsqueeze(2) + outgoing[number:].unsqueeze(1)
    pairs = logs.flatten(1).softmax(1).view_as(logs)
    return _Beliefs(fields.softmax(1), pairs, rounds, change), messages


def _entropy(q: Tensor) -> Tensor:
    """-sum q log q over all but the first axis."""
    return -torch.special.xlogy(q, q).flatten(1).sum(1)


def _information(beliefs: _Beliefs) -> Tensor:
    """Mutual information of the two ends of every edge, from its own marginals, `[M]`."""
    return _entropy(beliefs.edges.sum(2)) + _entropy(beliefs.edges.sum(1)) - _entropy(beliefs.edges)


def _free_energy(graph: _Graph, beliefs: _Beliefs, rho: Tensor) -> Tensor:
    """sum q . (a, b) + sum_i H_i - sum rho I."""
    average = (beliefs.sites * graph.sites).sum() + (beliefs.edges * graph.tables).sum()
    return average + _entropy(beliefs.sites).sum() - (rho * _information(beliefs)).sum()


def _details(beliefs: _Beliefs, tolerance: float) -> tuple[dict[str, object], str]:
    converged = beliefs.change <= tolerance
    details: dict[str, object] = {
        "converged": converged,
        "rounds": beliefs.rounds,
        "change": beliefs.change,
        "marginals": beliefs.sites,
        "edge_marginals": beliefs.edges,
    }
    told = f"{beliefs.rounds} rounds"
    if not converged:
        told += f", NOT converged: messages still change by {beliefs.change:.2g}, so this is no fixed point"
    return details, told


def _uniform_appearance(graph: _Graph) -> Tensor:
    """Chances of edges in a uniformly random spanning tree: effective resistances of unit resistors."""
    size = len(graph.sites)
    first, second = graph.edges.unbind(1)
    laplacian = torch.zeros(size, size).to(graph.sites)
    ones = torch.ones(len(first)).to(graph.sites)
    for i, j in ((first, second), (second, first)):
        laplacian.index_put_((i, i), ones, accumulate=True)
        laplacian.index_put_((i, j), -ones, accumulate=True)
    inverse = torch.linalg.pinv(laplacian, hermitian=True)
    resistance = inverse[first, first] + inverse[second, second] - 2 * inverse[first, second]
    return resistance.clamp(max=1.0)


def _heaviest_trees(graph: _Graph, weights: Tensor) -> Tensor:
    """1 for the edges of a spanning forest of the most weight, else 0."""
    # The library drops weights of 0 and seeks the least: all are turned to positive numbers.
    costs = (weights.max() - weights + 1.0).cpu().numpy()
    tree = minimum_spanning_tree(_adjacency(len(graph.sites), graph.edges, costs).tocsr()).tocoo()
    chosen = {(int(i), int(j)) for i, j in zip(tree.row, tree.col, strict=True)}
    picked = [float((i, j) in chosen or (j, i) in chosen) for i, j in graph.edges.tolist()]
    return torch.tensor(picked).to(graph.sites)


def _checked(graph: _Graph, appearance: Tensor) -> Tensor:
    rho, needed = appearance.to(graph.sites), len(graph.sites) - graph.num_trees
    if rho.shape != (len(graph.edges),) or bool((rho <= 0).any()) or bool((rho > 1).any()):
        raise InputError(
            f"tree_reweighted: appearance must be numbers in (0, 1] of shape [{len(graph.edges)}], got shape "
            f"{tuple(rho.shape)}"
        )
    if abs(float(rho.sum()) - needed) > 1e-6 * max(1, needed):
        raise InputError(
            f"tree_reweighted: appearance sums to {float(rho.sum()):.6g}, but a spanning forest here has {needed} "
            "edges: these are no chances of edges in a random one"
        )
    return rho
