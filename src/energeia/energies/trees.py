"""Sums, maxima, marginals and draws of labels on trees and forests: exact, in log space, many at once.

p(y) = exp(score(y)) / Z with score(y) = sum_i unary[i, y_i] + sum_(ij) tables[ij, y_i, y_j], labels y_i in 0..K-1.

All functions take

- unary: log potentials (negative energies) `[B, N, K]`; -inf forbids a label.
- tables: `[M, K, K]`, or `[B, M, K, K]` for tables of their own in each row; tables[.., e, k, l] belongs to label k of
  the first site of edge e and l of the second. -inf forbids a pair.
- forest: the `Forest`, N sites and M edges.
- present: `[B, N]` bool, sites that a row has; the others take no part, nor do their edges, and what potentials say of
  them is not read (it may be NaN). None: all. This is how graphs of several sizes share a batch.

and raise InputError for shapes that do not fit, NaN and +inf. Values have the dtype of the potentials. Cost of one
message pass: O(B (N K + M K^2)) and depth + 1 steps of few tensor operations.

Reference: Pearl (1988), Probabilistic reasoning in intelligent systems, chapter 4; Koller & Friedman (2009),
Probabilistic graphical models, chapters 10 and 13.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.energies.forest import Forest, Level, Plan
from energeia.energies.log_space import check_alike, check_log_potentials, draw, levelled, log_sum_exp, shares, top

__all__ = [
    "BestLabelings",
    "Forest",
    "TreeMarginals",
    "tree_best",
    "tree_log_partition",
    "tree_marginals",
    "tree_sample",
    "tree_score",
]


class TreeMarginals(NamedTuple):
    """Chances of labels `[B, N, K]`, and of the pairs on edges `[B, M, K, K]`."""

    sites: Tensor
    edges: Tensor


class BestLabelings(NamedTuple):
    """Labels `[B, num_best, N]` int64, best first, and their scores `[B, num_best]`."""

    labels: Tensor
    scores: Tensor


def tree_log_partition(unary: Tensor, tables: Tensor, forest: Forest, *, present: Tensor | None = None) -> Tensor:
    """log Z = log sum_y exp(score(y)), `[B]`; -inf where all labelings are forbidden.

    Gradients by autograd are the marginals, and zero where log Z is -inf. Arguments: see the module.

    >>> import torch
    >>> from energeia.energies.trees import Forest, tree_log_partition
    >>> star = Forest(4, [(0, 1), (0, 2), (0, 3)])
    >>> tree_log_partition(torch.zeros(1, 4, 2), torch.zeros(3, 2, 2), star).exp()  # 2^4 labelings
    tensor([16.])
    """
    return _upward(_checked("tree_log_partition", unary, tables, forest, present)).log_z


def tree_marginals(unary: Tensor, tables: Tensor, forest: Forest, *, present: Tensor | None = None) -> TreeMarginals:
    """p(y_i) and p(y_i, y_j) by a pass to the roots and one back, each site's chances given those of the one above.

    Zeros for sites and edges that a row does not have, and in rows where all labelings are forbidden. Edges are
    numbered and turned as in `forest.edges`. Arguments: see the module. Cost: two passes.
    """
    model = _checked("tree_marginals", unary, tables, forest, present)
    plan, up = model.plan, _upward(model)
    above = (up.log_z > -math.inf).to(unary.dtype).view(-1, 1, 1)
    sites: list[Tensor] = []
    pairs: list[Tensor] = []
    for level, field, pair in zip(plan.levels, up.fields, model.pairs, strict=True):
        parents = above if level.aligned else above[:, level.parents]
        joint = shares(field.unsqueeze(2) + pair) * parents.unsqueeze(3)
        pairs.append(joint)
        above = joint.sum(2)
        sites.append(above)
    found = torch.cat(sites, 1)[:, plan.sites_back]
    # Those of the roots are with nothing above them.
    edges = torch.cat([unary.new_zeros(len(unary), 0, *model.tables.shape[2:]), *pairs[1:]], 1)
    edges = torch.where(plan.turned.view(-1, 1, 1), edges.mT, edges)[:, plan.edges_back]
    if model.present is None or model.edges_present is None:
        return TreeMarginals(found, edges)
    return TreeMarginals(found * model.present.unsqueeze(2), edges * model.edges_present.unsqueeze(2).unsqueeze(3))


def tree_best(
    unary: Tensor, tables: Tensor, forest: Forest, *, num_best: int = 1, present: Tensor | None = None
) -> BestLabelings:
    """The num_best labelings of the highest scores, exactly, all of them different.

    Args:
        unary, tables, forest, present: see the module.
        num_best: R, at least 1.

    Returns:
        labels `[B, R, N]`, -1 at sites that a row does not have, and scores `[B, R]` in descending order, with
        their graph. Where fewer labelings are possible the others have score -inf and labels -1. Labelings of equal
        score come in any order.

    Each message holds the R best of what is below an edge, for every label above it. Cost: O(B M K^2 R) for the
    messages and O(R log R) for each label and pair of subtrees that are joined.

    Reference: Seroussi & Golmard (1994), An algorithm directly finding the K most probable configurations in Bayesian
    networks, International Journal of Approximate Reasoning 11.
    """
    check_count("tree_best", num_best=num_best)
    model = _checked("tree_best", unary, tables, forest, present)
    joiner = _Joiner(num_best, unary)
    arriving: Tensor | None = None
    notes: list[tuple[Tensor, list[Tensor]]] = []
    levels: list[Tensor] = []
    for level, own, pair in zip(reversed(model.plan.levels), reversed(model.own), reversed(model.pairs), strict=True):
        nothing = joiner.nothing.expand(*own.shape, num_best)
        field = own.unsqueeze(3) + (nothing if arriving is None else arriving)
        # [B, n, K of the parent, K of the child, R].
        candidates = field.unsqueeze(2) + pair.unsqueeze(4)
        items, choices = top(candidates.flatten(3), num_best)
        items, highest = levelled(items, (2, 3))
        levels.append(highest)
        items, picks = joiner.up(level, items)
        arriving = items
        if not level.aligned:
            arriving = joiner.nothing.expand(len(items), level.num_parents, *items.shape[2:])
            arriving = arriving.index_copy(1, level.ends, items)
        notes.append((choices, picks))
    assert arriving is not None
    scores = arriving[:, 0, 0] + torch.cat(levels, 1).sum((1, 2))
    labels = torch.zeros(len(unary), 1, num_best, dtype=torch.int64, device=unary.device)
    ranks = torch.arange(num_best, device=unary.device).expand_as(labels)
    found: list[Tensor] = []
    for level, (choices, picks) in zip(model.plan.levels, reversed(notes), strict=True):
        ranks = joiner.down(level, picks, labels, ranks)
        chosen = _picked(choices, labels[:, level.parents], ranks)
        labels, ranks = chosen // num_best, chosen % num_best
        found.append(labels)
    labels = _masked(torch.cat(found, 1)[:, model.plan.sites_back].mT, model.present)
    return BestLabelings(labels.masked_fill((scores == -math.inf).unsqueeze(2), -1), scores)


def tree_sample(
    unary: Tensor,
    tables: Tensor,
    forest: Forest,
    generator: torch.Generator,
    *,
    num_samples: int = 1,
    present: Tensor | None = None,
) -> Tensor:
    """Independent exact draws of labels from p(y), `[B, num_samples, N]` int64; -1 at sites that a row does not have.

    Args:
        unary, tables, forest, present: see the module.
        generator: of the noise, on its own device.
        num_samples: for each row.

    Raises:
        InputError: also where all labelings of a row are forbidden.

    Roots first, then each site given the one above. Cost: a pass to the roots, and O(B N K num_samples) back.
    """
    check_count("tree_sample", num_samples=num_samples)
    with torch.no_grad():
        model = _checked("tree_sample", unary, tables, forest, present)
        up = _upward(model)
        _check_possible("tree_sample", up.log_z)
        labels = torch.zeros(len(unary), 1, num_samples, dtype=torch.int64, device=unary.device)
        found: list[Tensor] = []
        for level, field, pair in zip(model.plan.levels, up.fields, model.pairs, strict=True):
            # [B, n, S, K]: the row of the table that the label above picks.
            above = labels[:, level.parents].unsqueeze(3).expand(-1, -1, -1, field.shape[2])
            logits = field.unsqueeze(2) + pair.expand(len(unary), -1, -1, -1).gather(2, above)
            labels = draw(logits, generator)
            found.append(labels)
        return _masked(torch.cat(found, 1)[:, model.plan.sites_back].mT, model.present)


def tree_score(
    unary: Tensor, tables: Tensor, forest: Forest, labels: Tensor, *, present: Tensor | None = None
) -> Tensor:
    """score(y) of labels `[B, N]` or `[B, S, N]`: `[B]` or `[B, S]`, with its graph.

    Labels lie in 0..K-1; those of sites that a row does not have are not read. Other arguments: see the module.
    log p(y) = tree_score - tree_log_partition.
    """
    unary, tables, _ = _sized("tree_score", unary, tables, forest, present)
    rows, num_sites, size = unary.shape
    fits = labels.dim() in (2, 3) and (labels.shape[0], labels.shape[-1]) == (rows, num_sites)
    if not fits or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"tree_score: labels are integers [{rows}, {num_sites}] or [{rows}, S, {num_sites}], got "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
    y = (labels if labels.dim() == 3 else labels.unsqueeze(1)).long()
    if present is not None:
        y = y.where(present.unsqueeze(1), 0)
    if bool(((y < 0) | (y >= size)).any()):
        raise InputError(f"tree_score: labels lie in 0..{size - 1}, got {int(y.min())}..{int(y.max())}")
    total = unary.gather(2, y.mT).sum(1)
    if len(forest.edges):
        first, second = forest.edges.to(y.device).unbind(1)
        pair = (y[..., first] * size + y[..., second]).mT
        total = total + tables.flatten(2).expand(rows, -1, -1).gather(2, pair).sum(1)
    return total.view(labels.shape[:-1])


class _Model(NamedTuple):
    """What passes need: own `[B, n, K]` and pairs `[B or 1, n, K of the parent, K]` of every level.

    The roots have one parent with one label. tables `[B or 1, M, K, K]` in the order of the edges as given.
    """

    plan: Plan
    own: list[Tensor]
    pairs: list[Tensor]
    tables: Tensor
    present: Tensor | None
    edges_present: Tensor | None


class _Upward(NamedTuple):
    """log Z `[B]`, and the fields `[B, n, K]` of every level: own and what arrives from below, up to a constant."""

    log_z: Tensor
    fields: list[Tensor]


def _upward(model: _Model) -> _Upward:
    fields: list[Tensor] = []
    levels: list[Tensor] = []
    arriving: Tensor | None = None
    for level, own, pair in zip(reversed(model.plan.levels), reversed(model.own), reversed(model.pairs), strict=True):
        field = own if arriving is None else own + arriving
        message, highest = levelled(log_sum_exp(field.unsqueeze(2) + pair), 2)
        levels.append(highest)
        arriving = message
        if not level.aligned:
            arriving = message.new_zeros(len(message), level.num_parents, message.shape[2])
            arriving = arriving.index_add(1, level.parents, message)
        fields.append(field)
    assert arriving is not None
    log_z = arriving[:, 0, 0] + torch.cat(levels, 1).sum((1, 2))
    # One tree that is impossible takes the gradient of the others with it.
    return _Upward(log_z.masked_fill(log_z == -math.inf, -math.inf), fields[::-1])


class _Joiner:
    """Joins subtrees below one site: of the R best of either, the R best sums, and which they were."""

    def __init__(self, num_best: int, like: Tensor) -> None:
        self._number = num_best
        # Of two descending lists the r-th and the s-th can be among the R best sums only if r s <= R.
        pairs = [(r, s) for r in range(num_best) for s in range(num_best // (r + 1))]
        self._left, self._right = torch.tensor(pairs, device=like.device).unbind(1)
        # One way to label nothing.
        self.nothing = like.new_full((num_best,), -math.inf)
        self.nothing[0] = 0.0

    def up(self, level: Level, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Items `[B, n, K, R]` to one for each parent, and the pairs picked in each round."""
        picks: list[Tensor] = []
        for merge in level.merges:
            items = torch.cat([items, self.nothing.expand(len(items), 1, *items.shape[2:])], 1)
            sums = items[:, merge.left][..., self._left] + items[:, merge.right][..., self._right]
            items, picked = top(sums, self._number)
            picks.append(picked)
        return items, picks

    def down(self, level: Level, picks: list[Tensor], labels: Tensor, ranks: Tensor) -> Tensor:
        """Ranks `[B, n, R]` of the items, from labels and ranks of the parents."""
        ranks = ranks if level.aligned else ranks[:, level.ends]
        for merge, picked in zip(reversed(level.merges), reversed(picks), strict=True):
            pair = _picked(picked, labels[:, merge.parents], ranks)
            # The last place takes what stands for nothing.
            both = ranks.new_empty(len(ranks), merge.size + 1, ranks.shape[2])
            both[:, merge.left] = self._left[pair]
            both[:, merge.right] = self._right[pair]
            ranks = both[:, : merge.size]
        return ranks


def _picked(notes: Tensor, labels: Tensor, ranks: Tensor) -> Tensor:
    """Entries of notes `[B, n, K, R]` at labels and ranks `[B, n, R]`."""
    return notes.flatten(2).gather(2, labels * notes.shape[3] + ranks)


def _masked(labels: Tensor, present: Tensor | None) -> Tensor:
    return labels if present is None else labels.masked_fill(~present.unsqueeze(1), -1)


def _check_possible(who: str, log_z: Tensor) -> None:
    impossible = log_z == -math.inf
    if bool(impossible.any()):
        row = int(impossible.nonzero()[0, 0])
        raise InputError(
            f"{who}: {int(impossible.sum())} of {len(log_z)} rows (the first is row {row}) forbid all labelings, so "
            "there is nothing to draw from: look for -inf in their potentials"
        )


def _checked(who: str, unary: Tensor, tables: Tensor, forest: Forest, present: Tensor | None) -> _Model:
    unary, tables, edges_present = _sized(who, unary, tables, forest, present)
    plan = forest.plan(unary.device)
    sizes = [level.size for level in plan.levels]
    own = list(unary[:, plan.sites].split(sizes, 1))
    turned = tables[:, plan.edges]
    # [parent, child].
    turned = torch.where(plan.turned.view(-1, 1, 1), turned.mT, turned)
    above_roots = unary.new_zeros(1, sizes[0], 1, unary.shape[2])
    return _Model(plan, own, [above_roots, *turned.split(sizes[1:], 1)], tables, present, edges_present)


def _sized(
    who: str, unary: Tensor, tables: Tensor, forest: Forest, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Unary, tables `[B or 1, M, K, K]` and `[B, M]`, whether both ends are present, after all checks.

    A site that is not present keeps one label that costs nothing.
    """
    number, edges = forest.num_sites, forest.edges
    if unary.dim() != 3 or unary.shape[1] != number or unary.shape[2] < 1:
        raise InputError(f"{who}: unary has shape {tuple(unary.shape)}, expected [B, {number}, K] for {forest}")
    rows, _, size = unary.shape
    expected = (len(edges), size, size)
    if tuple(tables.shape) not in (expected, (rows, *expected)):
        raise InputError(
            f"{who}: tables have shape {tuple(tables.shape)}, expected [M, K, K] = {list(expected)} or "
            f"[B, M, K, K] = {[rows, *expected]}"
        )
    check_alike(who, unary=unary, tables=tables)
    tables = tables if tables.dim() == 4 else tables.unsqueeze(0)
    both = None
    if present is not None:
        if present.dtype != torch.bool or tuple(present.shape) != (rows, number):
            raise InputError(
                f"{who}: present is bool [{rows}, {number}], got {tuple(present.shape)} of {present.dtype}"
            )
        alone = torch.full((size,), -math.inf, dtype=unary.dtype, device=unary.device)
        alone[0] = 0.0
        unary = torch.where(present.unsqueeze(2), unary, alone)
        first, second = edges.to(present.device).unbind(1)
        both = present[:, first] & present[:, second]
        tables = torch.where(both.unsqueeze(2).unsqueeze(3), tables, 0.0)
    check_log_potentials(who, unary=unary, tables=tables)
    return unary, tables, both
