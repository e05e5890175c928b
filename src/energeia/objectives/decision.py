"""Losses of answers with a cost: the structured hinge, and the direct loss."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from energeia.core.answers import Search, Tilt, tilted
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_finite, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Binary, Categorical, Space
from energeia.objectives.margin import Posed, mean_loss, posed, searched

Cost = Literal["hamming"] | Callable[[Tensor, Tensor], Tensor]


class StructuredHinge(Objective):
    """mean max_y' [cost(y', y) + E(x, y) - E(x, y')]: the structured support vector machine's loss.

    Args:
        cost: "hamming", the number of sites that are wrong; or any function `(y', y) -> [B]`, never negative and zero
            at y, of answers as the energy sees them (labels one-hot, y' and y of one shape).
        scale: the cost is multiplied by it, > 0, in nats for a wrong site.
        search: how the maximum is found; None takes what fits. Hamming costs leave chains, trees and cuts exact.

    An upper bound of the cost of the best answer (for scale 1, with an exact search), and a margin that grows with how
    wrong an answer is. Cost: two evaluations a row, and the search, without a graph.

    Reference: Taskar, Guestrin & Koller (2003), Max-margin Markov networks,
    https://papers.nips.cc/paper/2397-max-margin-markov-networks; Tsochantaridis et al. (2005), Large margin methods for
    structured and interdependent output variables, https://jmlr.org/papers/v6/tsochantaridis05a.html
    """

    def __init__(self, cost: Cost = "hamming", *, scale: float = 1.0, search: Search | None = None) -> None:
        super().__init__()
        _check("StructuredHinge", cost, scale=scale)
        self.cost: Cost = cost
        self.scale, self.search = scale, search

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over rows."""
        case = posed(energy, batch, "StructuredHinge")
        pulled = with_cost(case, self.cost, -self.scale)
        found = searched(pulled, self.search, generator)
        # The right answer is among those that the maximum is over, whatever an approximate search has found.
        values = (case.right - pulled(found.answers[:, 0])).clamp_min(0)
        return mean_loss(values, case, cost_of_worst=cost_between(case, self.cost, found.answers[:, 0]))


class DirectLoss(Objective):
    """Whose gradient is that of the mean cost of the best answer itself, in the limit of small epsilon.

    d/dtheta E[cost(y_best, y)] = lim (1 / epsilon) E[dE(x, y_eps)/dtheta - dE(x, y_best)/dtheta], with y_best =
    argmin E and y_eps = argmin E + epsilon cost.

    Args:
        cost: "hamming", or any function `(y', y) -> [B]`, as of `StructuredHinge`.
        epsilon: > 0 moves towards better answers, < 0 away from worse ones; small has little bias and much noise.
        search: how the minima are found; None takes what fits.

    The value that it returns has the gradient and means nothing else; the metric `cost` is what falls. Consistent for
    the cost, for energies linear in their parameters and x with a density; not convex: start at the weights of a hinge.
    Cost: two evaluations and two searches a row.

    Reference: McAllester, Hazan & Keshet (2010), Direct loss minimization for structured prediction.
    https://papers.nips.cc/paper/4069-direct-loss-minimization-for-structured-prediction
    """

    def __init__(self, cost: Cost = "hamming", *, epsilon: float = 1.0, search: Search | None = None) -> None:
        super().__init__()
        _check("DirectLoss", cost)
        check_finite("DirectLoss", epsilon=epsilon)
        if epsilon == 0:
            raise InputError("DirectLoss: epsilon must not be zero: the gradient is a difference over epsilon")
        self.cost: Cost = cost
        self.epsilon, self.search = epsilon, search

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The surrogate, and the mean cost as a metric."""
        case = posed(energy, batch, "DirectLoss")
        best = searched(case.field, self.search, generator).answers[:, 0]
        pulled = searched(with_cost(case, self.cost, self.epsilon), self.search, generator).answers[:, 0]
        values = (case.field(pulled) - case.field(best)) / self.epsilon
        return mean_loss(values, case, cost=cost_between(case, self.cost, best))


def with_cost(case: Posed, cost: Cost, scale: float) -> Energy:
    """E(x, y') + scale cost(y', y), as a function of y'; linear where the cost is."""
    if cost == "hamming":
        slope, offset = _hamming(case.field.space, case.y)
        return tilted(case.field, scale * slope, scale * offset)
    return case.field + CostEnergy(case.field.space, cost, case.y, scale)


def cost_between(case: Posed, cost: Cost, answers: Tensor) -> Tensor:
    """The cost `[B]` of the answers `[B, *event]`."""
    if cost == "hamming":
        slope, offset = _hamming(case.field.space, case.y)
        return Tilt(case.field.space, slope, offset)(answers)
    paid, free = _paid(cost, answers, case.y), _paid(cost, case.y, case.y)
    if not (bool((paid >= 0).all()) and bool((free == 0).all())):
        raise InputError(
            "cost(y', y) must be zero at y' = y and never negative: an answer found costs "
            f"{paid.detach().min().item():g}, the right one {free.detach().abs().max().item():g}"
        )
    return paid


def _paid(cost: Callable[[Tensor, Tensor], Tensor], answers: Tensor, right: Tensor) -> Tensor:
    paid = cost(answers, right)
    if paid.shape != (len(right),):
        raise InputError(
            f"cost(y', y) returned shape {[*paid.shape]} for answers of shape {[*right.shape]}; expected one number "
            f"for each row, [{len(right)}]"
        )
    return paid


class CostEnergy(Energy):
    """scale cost(y', y_b) of answers y'. Capability: `Rowwise`."""

    right: Tensor

    def __init__(self, space: Space, cost: Callable[[Tensor, Tensor], Tensor], right: Tensor, scale: float) -> None:
        super().__init__(space)
        self.cost, self.scale = cost, scale
        self.register_buffer("right", right, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B]`."""
        return self.scale * _paid(self.cost, x, self.right)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.right)

    def take(self, index: Tensor) -> "CostEnergy":
        """The rows index `[C]`."""
        return CostEnergy(self.space, self.cost, self.right[index], self.scale)


def _hamming(space: Space, right: Tensor) -> tuple[Tensor, Tensor]:
    """slope `[B, *event]` and offset `[B]` of the number of sites at which an answer differs from the right one."""
    if isinstance(space, Categorical):
        return -right, right.flatten(1).sum(1)
    if isinstance(space, Binary):
        return 1 - 2 * right, right.flatten(1).sum(1)
    raise InputError(f"the hamming cost is for labels and bits, got answers on {space}; give a function (y', y) -> [B]")


def _check(who: str, cost: Cost, **positive: float) -> None:
    if cost != "hamming" and not callable(cost):
        raise InputError(f'{who}: cost is "hamming" or a function (y\', y) -> [B], got {cost!r}')
    check_positive(who, **positive)
