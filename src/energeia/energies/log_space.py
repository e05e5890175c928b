"""Sums and draws in log space, where -inf stands for what cannot be."""

import math

import torch
from torch import Tensor

from energeia.core.errors import InputError


def log_sum_exp(x: Tensor) -> Tensor:
    """log sum exp x over the last axis; -inf where all terms are -inf, and there with a gradient of zero, not NaN."""
    shift, possible = _highest(x, -1)
    # At least 1 where anything is possible; else the clamp keeps log 0 and its slope out.
    total = (x - shift).exp().sum(-1).clamp_min(1.0)
    return (total.log() + shift.squeeze(-1)).masked_fill(~possible.squeeze(-1), -math.inf)


def shares(x: Tensor) -> Tensor:
    """Softmax over the last axis; zeros where all terms are -inf, and there with a gradient of zero."""
    weights = (x - _highest(x, -1)[0]).exp()
    return weights / weights.sum(-1, keepdim=True).clamp_min(1.0)


def levelled(x: Tensor, axes: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x less its largest entry over some axes, and that entry, which is no part of the graph; 0 where it is -inf.

    Messages on a long way grow, and what tells one label from another is lost in their last digits. Levelled ones stay
    near zero; what was taken off is added to the end result, which gives back both value and gradient.
    """
    highest = _highest(x, axes)[0]
    return x - highest, highest


def _highest(x: Tensor, axes: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The largest entry over some axes, which stay, 0 where it is -inf; and where it is not."""
    highest = x.detach().amax(axes, keepdim=True)
    possible = highest > -math.inf
    return highest.where(possible, 0.0), possible


def top(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The largest entries of the last axis, in order, and where they are."""
    return x.max(-1, keepdim=True) if number == 1 else x.topk(number, -1)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One number for each row of the last axis, with chances softmax(logits); never one whose logit is -inf.

    The first of independent exponential clocks to ring, each running at the speed exp(logit).
    """
    clock = torch.empty(logits.shape, dtype=logits.dtype, device=generator.device).exponential_(generator=generator)
    tiny = torch.finfo(logits.dtype).tiny
    return (logits - clock.to(logits.device).clamp_min(tiny).log()).argmax(-1)


def check_alike(who: str, **values: Tensor) -> None:
    """Raise `InputError` unless all are floating and share their dtype and device."""
    kinds = {name: (value.dtype, value.device) for name, value in values.items()}
    if len(set(kinds.values())) > 1 or not all(value.is_floating_point() for value in values.values()):
        told = ", ".join(f"{name} is {dtype} on {device}" for name, (dtype, device) in kinds.items())
        raise InputError(f"{who}: log potentials are floating numbers of one dtype on one device, but {told}")


def check_log_potentials(who: str, **values: Tensor) -> None:
    """Raise `InputError` unless all entries are numbers or -inf."""
    for name, value in values.items():
        fine = value.detach() < math.inf
        if not bool(fine.all()):
            place = (~fine).nonzero()[0].tolist()
            raise InputError(
                f"{who}: {name}{place} is {float(value.detach()[tuple(place)])}; log potentials are numbers, or -inf "
                "for what is forbidden (to force a state, forbid the others)"
            )
