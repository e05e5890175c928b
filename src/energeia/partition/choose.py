"""Which estimate of log Z an energy gets, and why."""

import math
from typing import Any, Unpack

from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Energy, Listed, Normalised, Pairwise
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Box, Enumerable, Real
from energeia.energies.elimination import Elimination
from energeia.partition.bracket import Effort, bracket
from energeia.partition.eliminate import variable_elimination
from energeia.partition.exact import DEFAULT_MOST, exact_log_z

_MOST_DIMS = 2
# log2 of the table entries that elimination may visit.
_MOST_STEPS = 27


def log_z(energy: Energy, rows: Tensor | None = None, **effort: Unpack[Effort]) -> LogZ:
    """log Z by what suits the energy: exact where it can be had, else annealed from below and from above.

    In this order: a closed form (`Normalised`); a sum over all states, or over those of the smaller side of hidden
    units, if these are at most 2^22; variable elimination, if the graph of a `Pairwise` model is narrow;
    quadrature on one or two real dimensions, if it settles; else `bracket`.

    Args:
        energy: the model.
        rows: `[N, *event]` near the model: data, or draws; used where log Z is annealed, and there they help
            (see `bracket`).
        effort: keywords of `bracket` where log Z is annealed: num_chains, levels, num_steps, max_levels, checkpoint,
            generator, and tolerance: give one in nats, such as .1, and it takes what that takes. progress shows a bar
            with the running estimate; None, as here by default, on a terminal only.

    Returns:
        `LogZ`. method says how it was got, details["why"] why so.

    >>> import energeia as en
    >>> found = en.log_z(en.RBM(6, 4))
    >>> found.kind, found.details["why"]
    ('exact', 'log Z of RBM is known in closed form, or by a sum that is short')
    """
    progress = effort.setdefault("progress", None)
    found, why = _exact(energy, progress)
    if found is None:
        found = bracket(energy, rows, **effort)
    return found._replace(details={**found.details, "why": why})


def is_exact(energy: Energy) -> bool:
    """Whether `log_z` takes a sum or a closed form, for which it needs no rows."""
    if energy.capability(Normalised) is not None or _few_terms(energy) is not None:
        return True
    return _narrow(energy) is not None


def _exact(energy: Energy, progress: bool | None) -> tuple[LogZ | None, str]:
    """log Z without annealing, or None; and why."""
    name = type(energy).__name__
    if energy.capability(Normalised) is not None:
        return exact_log_z(energy), f"log Z of {name} is known in closed form, or by a sum that is short"
    few = _few_terms(energy)
    if few is not None:
        return exact_log_z(energy, progress=progress), f"its {few} states are few enough to list"
    width = _narrow(energy)
    if width is not None:
        return variable_elimination(energy), f"its graph is narrow, of width {width}"
    space: Any = energy.space
    if isinstance(space, Real | Box) and space.num_dims <= _MOST_DIMS:
        found = exact_log_z(energy, progress=progress)
        if found.kind == "exact":
            return found, f"it has {space.num_dims} real dimensions, which quadrature resolves"
        return None, f"quadrature does not settle on its {space.num_dims} real dimensions"
    if isinstance(space, Enumerable):
        return None, f"it has about 10^{_digits(space)} states, too many to list, and no closed form"
    return None, f"it has {space.num_dims} dimensions, too many for quadrature, and no closed form"


def _narrow(energy: Energy) -> int | None:
    """The width of the graph of a pairwise model, if it can be summed out within a second or some."""
    if energy.capability(Pairwise) is None:
        return None
    try:
        order = Elimination(energy, "log_z", max_entries=DEFAULT_MOST).order
    except InputError:
        return None
    return order.width if order.steps < _MOST_STEPS * math.log(2) else None


def _few_terms(energy: Energy) -> int | None:
    """How many terms log Z is a sum of, if they are few."""
    space, listed = energy.space, energy.capability(Listed)
    numbers = [] if listed is None else [listed.num_terms]
    if isinstance(space, Enumerable):
        numbers.append(space.num_states)
    elif isinstance(space, Counts) and space.one_total:
        numbers.append(space.num_points)
    return min((number for number in numbers if number <= DEFAULT_MOST), default=None)


def _digits(space: Enumerable) -> int:
    return len(str(space.num_states)) - 1
