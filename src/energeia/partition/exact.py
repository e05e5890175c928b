"""log Z by summing or integrating over the whole space."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Energy, Listed, Normalised, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.nodes import nodes
from energeia.core.progress import progress_bar
from energeia.core.record import LogZ
from energeia.core.space import Enumerable

DEFAULT_MOST, _MOST = 2**22, 2**30
_AT_ONCE = 2**16
_RESOLVED = 1e-3
# Nodes of quadrature in each of 1, 2 and 3 dimensions.
_NUM_NODES = {1: 1000, 2: 200, 3: 100}


def exact_log_z(
    energy: Energy,
    *,
    num_nodes: int | None = None,
    max_terms: int = DEFAULT_MOST,
    progress: bool | None = None,
) -> LogZ:
    """log Z of an energy that knows it, of a discrete space by listing it, or of 1 to 3 real dimensions.

    Args:
        energy: the energy; float64 gives about 14 digits.
        num_nodes: quadrature nodes per real dimension; None is 1000, 200 or 100 in 1, 2 or 3 dimensions.
        max_terms: states (or nodes) that may be evaluated, at most 2^30; with hidden units (`Listed`) those of
            the smaller side. More are refused, with the time that they would take here.
        progress: show a bar with the time that is left; None shows it on a terminal only.

    Returns:
        `LogZ` of kind "exact", or "approximate" where quadrature has not settled to 1e-3
        nats. Its standard_error is then the change from half as many nodes, which bounds
        the error once the nodes resolve the energy.

    Raises:
        InputError: the space is too large to enumerate or integrate.

    Cost: one evaluation for each term, 65,536 at a time; memory does not grow with their number.

    >>> import energeia as en
    >>> round(float(en.exact_log_z(en.Gaussian(1).double()).value), 6)
    0.918939
    """
    if not 1 <= max_terms <= _MOST:
        raise InputError(f"exact_log_z: max_terms must lie between 1 and 2^30, got {max_terms}")
    closed = energy.capability(Normalised)
    if closed is not None:
        return closed.log_z()
    discrete = isinstance(energy.space, Enumerable | Counts)
    count = 0 if discrete else num_nodes or _NUM_NODES.get(energy.space.num_dims, 2)
    terms = terms_of(energy, count)
    value = _sum(terms, energy, max_terms, progress)
    if discrete:
        return LogZ.exact(value, f"enumeration of {terms.number} {terms.what}")
    error = (value - _sum(terms_of(energy, max(2, count // 2)), energy, max_terms, progress)).abs()
    kind = "exact" if bool(error < _RESOLVED) else "approximate"
    method = f"Gauss-Legendre quadrature, {count} nodes a dimension"
    return LogZ(value, error, kind, value - error, value + error, method, {"num_nodes": count})


class Terms(NamedTuple):
    """log Z as the log of a sum: how many terms, what they are, and the logs of first to last - 1, float64."""

    number: int
    what: str
    logs: Callable[[int, int], Tensor]


def terms_of(energy: Energy, num_nodes: int) -> Terms:
    """The terms of an energy: of the smaller side where it has hidden units, else of its space."""
    listed = energy.capability(Listed)
    if listed is not None and isinstance(energy.space, Enumerable):
        found = listed if listed.num_terms < energy.space.num_states else None
    else:
        found = listed
    if found is not None:
        return Terms(found.num_terms, "states of the hidden units", found.log_terms)
    dtype, device = dtype_and_device(energy)
    points = nodes(energy.space, num_nodes, dtype=dtype, device=device)

    def logs(first: int, last: int) -> Tensor:
        x, log_weight = points.part(first, last)
        return log_weight.double() - energy(x).double()

    return Terms(points.number, "states" if isinstance(energy.space, Enumerable) else "points", logs)


def _sum(terms: Terms, energy: Energy, most: int, progress: bool | None) -> Tensor:
    with torch.no_grad():
        if terms.number > most:
            raise InputError(_refusal(terms, energy, most))
        total = torch.full((), -math.inf, dtype=torch.float64, device=dtype_and_device(energy)[1])
        with progress_bar(progress if terms.number > DEFAULT_MOST else False) as bar:
            bar.begin(f"listing {terms.number} {terms.what}", terms.number)
            for first in range(0, terms.number, _AT_ONCE):
                last = min(first + _AT_ONCE, terms.number)
                total = torch.logaddexp(total, terms.logs(first, last).logsumexp(0))
                bar.reached(last)
    return total


def _refusal(terms: Terms, energy: Energy, most: int) -> str:
    """What listing all terms would take, and what there is instead."""
    told = f"{type(energy).__name__} has {_power(terms.number)} {terms.what}, more than max_terms={_power(most)}"
    if terms.number <= _MOST:
        terms.logs(0, _AT_ONCE)
        began = time.perf_counter()
        terms.logs(0, _AT_ONCE)
        seconds = (time.perf_counter() - began) * terms.number / _AT_ONCE
        allow = f"max_terms={_power(terms.number)}"
        return f"{told}: some {_duration(seconds)} here. Allow it with {allow}, or take en.log_z(energy)"
    return f"{told} and than can be listed at all; en.log_z(energy) estimates log Z between two ends"


def _power(number: int) -> str:
    exponent = number.bit_length() - 1
    return f"2**{exponent}" if number == 2**exponent else (str(number) if number < 10**9 else f"{float(number):.1e}")


def _duration(seconds: float) -> str:
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 1):.0f} seconds"
