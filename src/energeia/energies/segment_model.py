"""What passes over segmentations work on: potentials that are checked, and ordered by where segments end."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from energeia.core.errors import InputError
from energeia.energies.log_space import check_alike, check_log_potentials


class SegmentModel(NamedTuple):
    """ending: T parts `[B, K, L]`, the potentials of segments that end there, by length; into `[K, K]`, transitions by
    the label that is entered; final `[B]`, the last site of each row; T, L and K.
    """

    ending: tuple[Tensor, ...]
    into: Tensor
    final: Tensor
    num_sites: int
    most: int
    size: int


def segment_model(who: str, segments: Tensor, transitions: Tensor, lengths: Tensor | None) -> SegmentModel:
    """The model, or `InputError`."""
    known, final = check_segments(who, segments, transitions, lengths)
    _, num_sites, most, size = segments.shape
    ending = later(known.permute(0, 3, 2, 1), -math.inf).permute(3, 0, 1, 2).contiguous().unbind(0)
    return SegmentModel(ending, transitions.mT, final, num_sites, most, size)


def check_segments(who: str, segments: Tensor, transitions: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Segments, -inf where they go beyond the end, and the last site of each row `[B]`; or `InputError`."""
    if segments.dim() != 4 or min(segments.shape[1:]) < 1:
        raise InputError(
            f"{who}: segments have shape {tuple(segments.shape)}, expected [B, T, L, K] (start, length - 1, label), T, "
            "L and K at least 1"
        )
    rows, num_sites, most, size = segments.shape
    if tuple(transitions.shape) != (size, size):
        raise InputError(
            f"{who}: transitions have shape {tuple(transitions.shape)}, expected [K, K] = [{size}, {size}]"
        )
    check_alike(who, segments=segments, transitions=transitions)
    places = torch.arange(num_sites, device=segments.device)
    if lengths is None:
        final = torch.full((rows,), num_sites - 1, device=segments.device)
    else:
        if tuple(lengths.shape) != (rows,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise InputError(f"{who}: lengths are integers [{rows}], got {tuple(lengths.shape)} of {lengths.dtype}")
        if bool(((lengths < 1) | (lengths > num_sites)).any()):
            raise InputError(
                f"{who}: lengths lie in 1..T = {num_sites}, got {int(lengths.min())}..{int(lengths.max())}; leave "
                "empty rows out of the batch"
            )
        final = lengths.to(segments.device).long() - 1
    ends = places.unsqueeze(1) + torch.arange(most, device=segments.device)
    inside = ends <= final.view(-1, 1, 1)
    known = torch.where(inside.unsqueeze(3), segments, -math.inf)
    check_log_potentials(who, segments=known, transitions=transitions)
    return known, final


def later(x: Tensor, fill: float) -> Tensor:
    """y[.., l, t] = x[.., l, t - l], for `[.., L, T]`; fill where there is none."""
    most, size = x.shape[-2:]
    # Rows that are one shorter than they were move on by one each.
    flat = pad(x, (0, most), value=fill).flatten(-2)[..., : most * (size + most - 1)]
    return flat.unflatten(-1, (most, size + most - 1))[..., :size]


def earlier(x: Tensor, fill: float) -> Tensor:
    """y[.., l, t] = x[.., l, t + l], for `[.., L, T]`; fill where there is none."""
    most, size = x.shape[-2:]
    flat = pad(pad(x, (0, most), value=fill).flatten(-2), (0, most), value=fill)
    return flat.unflatten(-1, (most, size + most + 1))[..., :size]
