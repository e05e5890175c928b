"""The losses of LeCun's tutorial: energies of right answers down, those of wrong ones up."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from energeia.core.answers import Answering, Found, Search, encoded, taken
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Box, Real
from energeia.energies.pair import answering
from energeia.search.choose import suitable
from energeia.search.descent import inside

Kind = Literal["hinge", "log", "lvq2", "mce", "square-square", "square-exponential"]


class EnergyLoss(Objective):
    """mean E(x, y): the energy of the right answer, pushed down and nothing else.

    No margin. It trains only where the architecture lets no energy fall without another rising, as in regression with
    E = |y - f(x)|^2; else all energies fall alike (collapse), and nothing here stops that. Cost: one evaluation a row.

    Reference: LeCun, Chopra, Hadsell, Ranzato & Huang (2006), A tutorial on energy-based learning, section 2.2.1.
    http://yann.lecun.com/exdb/publis/pdf/lecun-06.pdf
    """

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean energy of the answers; nothing is random."""
        case = posed(energy, batch, "EnergyLoss")
        return mean_loss(case.right, case)


class Perceptron(Objective):
    """mean E(x, y) - min_y' E(x, y'): never negative, zero where the answers are the best ones.

    Args:
        search: how the minimum is found; None takes what fits (`search.suitable`). An approximate one makes it a lower
            bound of the loss.

    No margin: an energy that is the same for all answers has loss zero (collapse). Cost: two evaluations a row, and the
    search, without a graph.

    Reference: Collins (2002), Discriminative training methods for hidden Markov models: theory and experiments with
    perceptron algorithms, https://aclanthology.org/W02-1001; LeCun et al. (2006), section 2.2.2.
    """

    def __init__(self, search: Search | None = None) -> None:
        super().__init__()
        self.search = search

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over rows."""
        case = posed(energy, batch, "Perceptron")
        found = searched(case.field, self.search, generator)
        # Where an approximate search ends above the right answer, that is the better minimum.
        return mean_loss((case.right - case.field(found.answers[:, 0])).clamp_min(0), case)


class Margin(Objective):
    """A loss of E = E(x, y) of the right answer and E' = E(x, y') of the most offending incorrect one.

    Args:
        kind: "hinge": max(0, m + E - E'), margin m. "log": log(1 + exp(E - E')), a soft one. "lvq2": min(M, max(0,
            E - E')), margin 0. "mce", minimum classification error: 1 / (1 + exp(E' - E)). "square-square": E^2 +
            max(0, m - E')^2, margin m, and "square-exponential": E^2 + gamma exp(-E'): for energies that are never
            negative.
        margin: m > 0, in nats.
        bound: M > 0, of lvq2.
        gamma: > 0, of square-exponential.
        radius: of real answers: those within this distance of the right one are not wrong. Needed for `Real` and `Box`.
        search: how the most offending answer is found; None takes what fits. Of labels the two best answers are asked
            for and the first that is not right is taken; of real ones the best outside the ball.

    The most offending incorrect answer is the wrong one of least energy. Where an approximate search finds no wrong
    answer the row counts as one whose wrong answers have infinite energy; the metric `found` is the share of rows where
    it finds one, `gap_to_wrong` their mean E' - E. mean over rows. Cost: two evaluations a row, and the search, without
    a graph.

    Errors: answers outside their space, none at all, NaN in x or y; real answers without radius, or with a ball that
    holds the whole `Box`.

    Reference: LeCun et al. (2006), A tutorial on energy-based learning, table 1.
    http://yann.lecun.com/exdb/publis/pdf/lecun-06.pdf

    >>> import torch, energeia as en
    >>> energy = en.Classifier(torch.nn.Linear(2, 3), en.Real(2))
    >>> loss = en.Margin("hinge")(energy, en.Batch(torch.ones(4, 2), torch.tensor([0, 1, 2, 0])), torch.Generator())
    >>> bool(loss.value > 0)
    True
    """

    def __init__(
        self,
        kind: Kind = "hinge",
        *,
        margin: float = 1.0,
        bound: float = 1.0,
        gamma: float = 1.0,
        radius: float | None = None,
        search: Search | None = None,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise InputError(f"Margin: kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        check_positive("Margin", margin=margin, bound=bound, gamma=gamma)
        if radius is not None:
            check_positive("Margin", radius=radius)
        self.kind, self.margin, self.bound, self.gamma = kind, margin, bound, gamma
        self.radius, self.search = radius, search

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over rows."""
        case = posed(energy, batch, "Margin")
        wrong, known = most_offending(case, self.search, generator, radius=self.radius)
        wrong_energy = torch.where(known, case.field(wrong), torch.inf)
        metrics = {"found": known.to(case.right.dtype).mean()}
        # A mean of no rows is NaN, and training would stop for it.
        if bool(known.any()):
            metrics["gap_to_wrong"] = (wrong_energy - case.right)[known].mean()
        return mean_loss(self.of(case.right, wrong_energy), case, **metrics)

    def of(self, right: Tensor, wrong: Tensor) -> Tensor:
        """The loss `[B]` of the energies E and E' `[B]`."""
        if self.kind == "hinge":
            return (self.margin + right - wrong).clamp_min(0)
        if self.kind == "log":
            return softplus(right - wrong)
        if self.kind == "lvq2":
            return (right - wrong).clamp(0, self.bound)
        if self.kind == "mce":
            return (right - wrong).sigmoid()
        if self.kind == "square-square":
            return right.square() + (self.margin - wrong).clamp_min(0).square()
        return right.square() + self.gamma * (-wrong).exp()


class Posed(NamedTuple):
    """Rows of a batch as a question and its answer.

    field: E(x, .), one for each row; y: the right answers as the field sees them `[B, *event]`; right: E(x, y) `[B]`.
    """

    field: Energy
    y: Tensor
    right: Tensor
    energy: Answering


def posed(energy: Energy, batch: Batch, who: str) -> Posed:
    """The energies of the answers to the rows, and the right answers.

    Raises:
        CapabilityError: the energy has no answers. InputError: the batch has none, or some outside their space; x has
            no rows, or some with NaN.
    """
    found = answering(energy, who)
    if batch.y is None:
        raise InputError(f"{who}: the batch has no answers y; give fit (x, y)")
    _check_rows(batch.x, who)
    field = found.within(batch.x)
    y = encoded(field.space, batch.y, batch.x.dtype, found.present(batch.x))
    return Posed(field, y, field(y), found)


def _check_rows(x: Tensor, who: str) -> None:
    if not len(x):
        raise InputError(f"{who}: the batch has no rows")
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(
            f"{who}: x has values that are NaN or infinite; the first is in row {row}; remove or fill them"
        )


def searched(field: Energy, search: Search | None, generator: torch.Generator, *, num_best: int = 1) -> Found:
    """What the search finds, without a graph to the parameters."""
    with torch.no_grad():
        return (suitable(field) if search is None else search).find(field, generator, num_best=num_best)


def most_offending(
    case: Posed, search: Search | None, generator: torch.Generator, *, radius: float | None
) -> tuple[Tensor, Tensor]:
    """The incorrect answers of least energy `[B, *event]`, and whether one was found, bool `[B]`."""
    if isinstance(case.field.space, Real | Box):
        if radius is None:
            raise InputError(
                "Margin: real answers need radius=...: those so near to the right one are not counted as wrong"
            )
        _check_ball(case, radius)
        outside = Outside(case.field, case.y, radius)
        found = searched(outside, search, generator)
        return inside(case.field.space, outside.pushed(found.answers[:, 0])), found.energies[:, 0].isfinite()
    found = searched(case.field, search, generator, num_best=2)
    first, second = found.answers[:, :2].unbind(1)
    first_is_right = (first == case.y).flatten(1).all(1)
    energies = torch.where(first_is_right, found.energies[:, 1], found.energies[:, 0])
    return torch.where(first_is_right.view(-1, *[1] * (first.dim() - 1)), second, first), energies.isfinite()


def _check_ball(case: Posed, radius: float) -> None:
    """Raise `InputError` where all of a box lies in the ball around an answer."""
    space = case.field.space
    if isinstance(space, Box):
        farthest = torch.maximum(case.y - space.low, space.high - case.y).flatten(1).square().sum(1).sqrt()
        if bool((farthest < radius).any()):
            row = int((farthest < radius).nonzero()[0])
            raise InputError(
                f"Margin: no answer is wrong for row {row}: all of {space} lies within radius={radius:g} of the right "
                "one; take a smaller radius"
            )


class Outside(Energy):
    """E_b outside the ball around an answer; in it E_b at the nearest point of its surface, so that a descent that
    comes to the ball goes on along it. Infinite where that point is outside the space. Capability: `Rowwise`.
    """

    centre: Tensor

    def __init__(self, energy: Energy, centre: Tensor, radius: float) -> None:
        super().__init__(energy.space)
        self.energy, self.radius = energy, radius
        self.register_buffer("centre", centre, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E_b of the point outside `[B]`."""
        pushed = self.pushed(x)
        # What an energy says of answers that are none does not count, so it is not asked there.
        return torch.where(self.space.contains(pushed), self.energy(inside(self.space, pushed)), torch.inf)

    def pushed(self, x: Tensor) -> Tensor:
        """x `[B, *event]`, moved straight to the surface where it lies in the ball."""
        away = (x - self.centre).flatten(1)
        # From the centre itself any way is the nearest.
        away = torch.where((away == 0).all(1, keepdim=True), torch.ones_like(away), away)
        distance = torch.linalg.vector_norm(away, dim=1, keepdim=True)
        surface = self.centre + (self.radius * away / distance).view_as(x)
        is_within = (x - self.centre).flatten(1).square().sum(1) < self.radius**2
        return torch.where(is_within.view(-1, *[1] * (x.dim() - 1)), surface, x)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.centre)

    def take(self, index: Tensor) -> "Outside":
        """The rows index `[C]`."""
        return Outside(taken(self.energy, lambda _: index), self.centre[index], self.radius)


def mean_loss(values: Tensor, case: Posed, **metrics: Tensor) -> Loss:
    """The mean over rows, with the mean energy of the right answers and of other metrics."""
    value = values.mean()
    told = {"loss": value, "energy_data": case.right.mean(), **{name: each.mean() for name, each in metrics.items()}}
    return Loss(value, {name: metric.detach() for name, metric in told.items()})
