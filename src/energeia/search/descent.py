"""Gradient descent in y, to the best answer and through it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.answers import Found, Search, repeated
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.space import Box, Real, Space
from energeia.search.moves import shortlist, starts


@dataclass(frozen=True)
class Descent(Search):
    """Gradient descent of real answers from several starts, each chain with a step size of its own.

    y' = y - s dE/dy. Where E falls the step is taken and s grows by a fifth, else it is not and s is halved. In a `Box`
    a coordinate that would leave stops at the side.

    Args:
        num_steps: gradients a chain, >= 1.
        num_starts: chains for each row, from the space's start points.
        step_size: the first s, in units of y^2 over nats.

    For answers on `Real` and `Box`. Approximate: a minimum that no chain begins near is missed. Cost: num_starts times
    (num_steps + 1) forward and backward passes a row.
    """

    num_steps: int = 100
    num_starts: int = 10
    step_size: float = 0.1

    def __post_init__(self) -> None:
        check_count("Descent", num_steps=self.num_steps, num_starts=self.num_starts)
        check_positive("Descent", step_size=self.step_size)

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best minima that chains end in: two ends are one where E is no higher between them."""
        check_count("Descent", num_best=num_best)
        if not isinstance(energy.space, Real | Box):
            raise InputError(f"Descent is for real answers, got {energy.space}; take en.IteratedModes or en.Annealing")
        many, y = starts(energy, self.num_starts, generator)
        y, _ = descend(many, y, num_steps=self.num_steps, step_size=self.step_size)
        with torch.no_grad():
            ends = y.unflatten(0, (-1, self.num_starts))
            answers, energies = shortlist(energy, ends if num_best == 1 else minima(energy, ends), num_best)
        return Found(answers, energies, False, f"gradient descent, {self.num_starts} starts of {self.num_steps} steps")


def minima(energy: Energy, ends: Tensor) -> Tensor:
    """The ends `[B, S, *event]` of chains, those in one minimum all replaced by the lowest of them.

    Two are in one minimum where E nowhere between them, at seven points of the line, is higher than at the worse of the
    two. Cost: 7 S^2 evaluations a row.
    """
    num_rows, number = ends.shape[:2]
    values = repeated(energy, number)(ends.flatten(0, 1)).view(num_rows, number)
    order = values.argsort(1)
    index = order.view(num_rows, number, *[1] * (ends.dim() - 2))
    ends, values = ends.gather(1, index.expand_as(ends)), values.gather(1, order)
    # Row i of the square: whether end i is in the minimum of the lower end j.
    worse = torch.maximum(values.unsqueeze(1), values.unsqueeze(2))
    joined = torch.ones_like(worse, dtype=torch.bool)
    many = repeated(energy, number**2)
    for share in torch.linspace(0, 1, 9)[1:-1].tolist():
        between = torch.lerp(ends.unsqueeze(1), ends.unsqueeze(2), share)
        joined &= many(between.flatten(0, 2)).view_as(worse) <= worse + 1e-6 * worse.abs()
    lowest = joined.to(torch.int8).argmax(2).view(num_rows, number, *[1] * (ends.dim() - 2))
    return ends.gather(1, lowest.expand_as(ends))


def descend(energy: Energy, y: Tensor, *, num_steps: int, step_size: float) -> tuple[Tensor, Tensor]:
    """The lowest points that chains from y `[B, *event]` come to, and their energies `[B]`; see `Descent`."""
    shape = (-1, *[1] * (y.dim() - 1))
    value, gradient = value_and_gradient(energy, y)
    step = torch.full_like(value, step_size)
    for _ in range(num_steps):
        tried = inside(energy.space, y - step.view(shape) * gradient)
        value_there, gradient_there = value_and_gradient(energy, tried)
        better = value_there <= value
        y = torch.where(better.view(shape), tried, y)
        gradient = torch.where(better.view(shape), gradient_there, gradient)
        value = torch.where(better, value_there, value)
        step = torch.where(better, 1.2 * step, 0.5 * step)
    return y, value


def inside(space: Space, y: Tensor) -> Tensor:
    """y, moved to the nearest point of the space."""
    return y.clamp(space.low, space.high) if isinstance(space, Box) else y


def unrolled(
    energy: Energy,
    start: Tensor,
    *,
    num_steps: int,
    step_size: float | Tensor,
    momentum: float = 0.0,
    mirror: bool = False,
) -> Tensor:
    """y after num_steps of gradient descent from start, with its graph to the parameters of the energy.

    v' = momentum v - step_size dE/dy, y' = y + v'; in a `Box` a coordinate that would leave stops at the side, and
    learns nothing while it is there. A loss of the y that comes out trains an energy end to end (`Unrolled`): what the
    search does in so many steps becomes right.

    Args:
        energy: of the answers, for each row, such as `given(energy, context=x)`, on `Real` or `Box`.
        start: y `[B, *event]`.
        num_steps: gradients, >= 1.
        step_size: one number, or one that is learnt.
        momentum: in [0, 1).
        mirror: of a `Box`: v' is added to the logit of y's place between low and high (entropic mirror descent), so
            that no side is ever reached; start lies strictly inside.

    Cost: num_steps forward and backward passes, all kept for the backward pass through them. The network must be twice
    differentiable.

    Reference: Belanger & McCallum (2016), Structured prediction energy networks (mirror descent),
    https://arxiv.org/abs/1511.06350; Belanger, Yang & McCallum (2017), End-to-end learning for structured prediction
    energy networks, https://arxiv.org/abs/1703.05667
    """
    check_count("unrolled", num_steps=num_steps)
    space = energy.space
    if not isinstance(space, Real | Box):
        raise InputError(f"unrolled: real answers only (relax labels to a Box of their chances), got {space}")
    if not 0 <= momentum < 1:
        raise InputError(f"unrolled: momentum must lie in [0, 1), got {momentum}")
    place = None
    if mirror:
        if not isinstance(space, Box):
            raise InputError(f"unrolled: mirror=True is for answers in a Box, got {space}")
        if not bool(((start > space.low) & (start < space.high)).all()):
            raise InputError("unrolled: mirror=True starts strictly inside the box; take its middle")
        place = ((start - space.low) / (space.high - space.low)).logit()
    y, velocity = start, torch.zeros_like(start)
    with torch.enable_grad():
        for _ in range(num_steps):
            point = y if y.requires_grad else y.detach().requires_grad_(True)
            _, gradient = value_and_gradient(energy, point, create_graph=True)
            velocity = momentum * velocity - step_size * gradient
            if place is None:
                y = inside(space, point + velocity)
            else:
                assert isinstance(space, Box)
                place = place + velocity
                y = space.low + (space.high - space.low) * place.sigmoid()
    return y
