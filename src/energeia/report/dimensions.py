"""Which dimensions and which chains a figure shows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.core.record import Draws
from energeia.report.style import COLOURS, evenly
from energeia.stats.chains import check_kept, dimension_names, r_hat

# One colour each; more lines than these hide one another.
MAX_CHAINS = len(COLOURS)
# With no more values than these a dimension is drawn as discrete.
_MAX_LEVELS = 8
# Numbers that are looked at to find the worst dimensions: about a second.
_MAX_ENTRIES = 2_000_000


class Dimension(NamedTuple):
    """A dimension to draw: its name, values `[T, B]`, and its levels if it has only a few."""

    name: str
    values: Tensor
    levels: Tensor | None


def choose(
    who: str, draws: Draws, dims: Sequence[int | str] | None, names: Sequence[str] | None, num_dims: int
) -> list[Dimension]:
    """The dimensions asked for, or those of worst R-hat."""
    check_kept(who, draws.kept)
    check_count(who, num_dims=num_dims)
    labels = dimension_names(tuple(draws.kept.shape[2:]), names)
    flat = draws.kept.detach().unsqueeze(2).flatten(2)
    places = _worst(flat, num_dims) if dims is None else [_place(who, dim, labels) for dim in dims]
    if not places:
        raise InputError(f"{who}: dims is empty; give at least one of {len(labels)} dimensions")
    chosen: list[Dimension] = []
    for place in places:
        values = flat[:, :, place].to("cpu", torch.float64)
        levels = values.unique()
        chosen.append(Dimension(labels[place], values, levels if len(levels) <= _MAX_LEVELS else None))
    return chosen


def _place(who: str, dim: int | str, labels: Sequence[str]) -> int:
    if isinstance(dim, str) and dim in labels:
        return labels.index(dim)
    if isinstance(dim, int) and 0 <= dim < len(labels):
        return dim
    raise InputError(f"{who}: no dimension {dim!r}; there are {len(labels)}, from {labels[0]} (0) to {labels[-1]}")


def _worst(flat: Tensor, count: int) -> list[int]:
    """The dimensions of worst R-hat, in their own order."""
    num_draws, num_chains, size = flat.shape
    if size <= count:
        return list(range(size))
    looked_at = evenly(num_chains, max(2, _MAX_ENTRIES // (num_draws * size)))
    badness = r_hat(flat[:, looked_at])
    # Dimensions with one value in all draws have none, and nothing to show.
    return sorted(badness.where(~badness.isnan(), -math.inf).argsort(descending=True, stable=True)[:count].tolist())


def low_to_high(values: Sequence[Tensor]) -> list[int]:
    """At most six chains, evenly spaced from the lowest mean to the highest, so that an odd one is among them.

    Args:
        values: `[T, B]` of each dimension that is drawn; the means are those of the one in which they differ most.
    """
    num_chains = values[0].shape[1]
    spread = torch.stack([each.mean(0).std() / each.std() if num_chains > 1 else each.sum() * 0 for each in values])
    means = values[int(spread.where(spread.isfinite(), -1.0).argmax())].mean(0)
    return means.argsort(stable=True)[evenly(num_chains, MAX_CHAINS)].tolist()


def of_chains(draws: Draws) -> str:
    """What to add to a label where not every chain is drawn."""
    number = draws.kept.shape[1]
    return f" ({MAX_CHAINS} of {number:,} chains)" if number > MAX_CHAINS else ""


def short(name: str, most: int) -> str:
    """The name, cut in its middle where it is longer than its panel."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
