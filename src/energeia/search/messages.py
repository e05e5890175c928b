"""Max-product and sum-product on graphs with cycles."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from energeia.core.answers import Found, Search
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.energies.fields import Field
from energeia.search.cut import field_of
from energeia.search.moves import modes, shortlist


@dataclass(frozen=True)
class MaxProduct(Search):
    """Loopy max-product: each site asks its neighbours for their best, again and again.

    m_(i->j)(y_j) = max_(y_i) [u_i + w_ij + sum_(k != j) m_(k->i)], all at once, damped.

    Args:
        num_rounds: rounds of messages at most; on a graph without cycles as many as its longest way are enough.
        damping: share of the old message that is kept, in [0, 1).
        tolerance: stops when no message changes by more.

    Needs a `Field`. The labellings that the beliefs point at in every round are kept, the best are made better by
    `IteratedModes`, and returned. Exact on graphs without cycles (take `Exact` there) unless a site has a tie,
    approximate on others: no bound on the gap is known. Ties, as of two labels without a field, are broken by nothing:
    the beliefs then mean little.
    Cost: num_rounds times O(M K^2) a row, rows side by side.

    Reference: Weiss & Freeman (2001), On the optimality of solutions of the max-product belief-propagation algorithm in
    arbitrary graphs. https://doi.org/10.1109/18.910585
    """

    num_rounds: int = 100
    damping: float = 0.5
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        check_count("MaxProduct", num_rounds=self.num_rounds)
        check_positive("MaxProduct", tolerance=self.tolerance)
        if not 0 <= self.damping < 1:
            raise InputError(f"MaxProduct: damping must lie in [0, 1), got {self.damping}")

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best of the labellings that were met; nothing is random."""
        check_count("MaxProduct", num_best=num_best)
        field = field_of(energy, "MaxProduct")
        with torch.no_grad():
            passed = loopy(field, num_rounds=self.num_rounds, damping=self.damping, tolerance=self.tolerance, best=True)
            kept = torch.stack([modes(field, y)[0] for y in passed.seen], 1)
            answers, energies = shortlist(energy, kept, num_best)
        told = (
            "converged" if passed.change <= self.tolerance else f"NOT converged, messages change by {passed.change:.2g}"
        )
        exact = num_best == 1 and not field.structure.has_cycles and _decided(field, passed, self.tolerance)
        return Found(answers, energies, exact, f"loopy max-product, {passed.rounds} rounds, {told}")


class Passed(NamedTuple):
    """Messages that have been passed.

    beliefs: `[B, N, K]`, logs of (max-)marginals up to a constant; seen: labellings `[B, *event]` of the last rounds
    they pointed at; rounds, and the last change of a message.
    """

    beliefs: Tensor
    seen: list[Tensor]
    rounds: int
    change: float


def loopy(field: Field, *, num_rounds: int, damping: float, tolerance: float, best: bool) -> Passed:
    """Max-product (best) or sum-product messages on any graph, for all rows at once."""
    field = field.finite()
    first, second = field.structure.edges.to(field.unary.device).unbind(1)
    sources, targets = torch.cat([first, second]), torch.cat([second, first])
    number, unary = len(first), field.unary
    pairs = field.edge_tables()
    tables = torch.cat([pairs, pairs.mT], 1)
    reverse = torch.cat([torch.arange(number, 2 * number), torch.arange(number)]).to(first)
    messages = torch.zeros_like(unary[:, sources])
    change, rounds, seen = 0.0 if number == 0 else torch.inf, 0, []
    beliefs = unary
    while rounds < num_rounds and change > tolerance:
        rounds += 1
        incoming = (beliefs[:, sources] - messages[:, reverse]).unsqueeze(3) + tables
        fresh = incoming.amax(2) if best else incoming.logsumexp(2)
        fresh = fresh - fresh.logsumexp(2, keepdim=True)
        change = float((fresh - messages).abs().max())
        messages = damping * messages + (1 - damping) * fresh if rounds > 1 else fresh
        beliefs = unary.index_add(1, targets, messages)
        if rounds % max(1, num_rounds // 8) == 0:
            seen.append(_pointed_at(field, beliefs))
    seen.append(_pointed_at(field, beliefs))
    return Passed(beliefs, seen, rounds, change)


def _decided(field: Field, passed: Passed, tolerance: float) -> bool:
    """Whether, without cycles, the beliefs point at the best labelling: they have converged, and no site has a tie.

    A message that is off by the tolerance moves the differences within beliefs by twice that, and there are two of each
    edge.
    """
    two = passed.beliefs.topk(2, 2).values
    ahead = two[..., 0] - two[..., 1]
    if field.present is not None:
        ahead = ahead.masked_fill(~field.present, torch.inf)
    return passed.change <= tolerance and bool((ahead > 4 * len(field.structure.edges) * tolerance).all())


def _pointed_at(field: Field, beliefs: Tensor) -> Tensor:
    y = one_hot(beliefs.argmax(2), beliefs.shape[2]).to(beliefs)
    if field.present is not None:
        y = y * field.present.unsqueeze(-1)
    return y.view(-1, *field.space.event_shape)
