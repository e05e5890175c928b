"""Points and weights that sum or integrate over a whole space."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.errors import InputError
from energeia.core.space import Box, Enumerable, Real, Space

MOST_AT_ONCE = 2**22
_MOST_DIMS = 3


class Nodes(NamedTuple):
    """Points of a whole space, made a part at a time.

    number: how many. part(first, last): points first to last - 1, x `[n, *event]`, and their log weights `[n]`:
    sum_n exp(log_weight_n) g(x_n) over all is the sum of g over a discrete space, or near its integral.
    """

    number: int
    part: Callable[[int, int], tuple[Tensor, Tensor]]


def nodes(
    space: Space, num_nodes: int = 200, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Nodes:
    """All states of a discrete space, or the nodes of a tensor quadrature on 1 to 3 real dimensions.

    Args:
        space: `Binary`, `Spin`, `Categorical`; `Counts` (all documents as they were written); `Box` or `Real` of
            one to three dimensions (Gauss-Legendre in each; `Real` through x = 4 t / (1 - t^2) times its
            start_scale, for densities with tails no heavier than exponential).
        num_nodes: of quadrature in each dimension.

    Raises:
        InputError: the space has more dimensions, or more vectors of counts than can be held (2^22).
    """
    place = device or torch.device("cpu")
    if isinstance(space, Enumerable):
        return Nodes(space.num_states, partial(_states, space, dtype, place))
    if isinstance(space, Counts):
        if space.num_points > MOST_AT_ONCE:
            raise InputError(f"{space} has {space.num_points} vectors of counts; at most 2^22 are listed at once")
        x, log_orders = space.points(dtype=dtype, device=place)

        def rows(first: int, last: int) -> tuple[Tensor, Tensor]:
            return x[first:last], log_orders[first:last]

        return Nodes(len(x), rows)
    if space.num_dims > _MOST_DIMS or not isinstance(space, Real | Box):
        raise InputError(f"{space} has {space.num_dims} real dimensions; quadrature is for 1 to {_MOST_DIMS}")
    line, log_line = _line(space, num_nodes, dtype, place)
    shape = (num_nodes,) * space.num_dims

    def part(first: int, last: int) -> tuple[Tensor, Tensor]:
        digits = torch.stack(torch.unravel_index(torch.arange(first, last, device=place), shape), 1)
        return line[digits].view(-1, *space.event_shape), log_line[digits].sum(1)

    return Nodes(num_nodes**space.num_dims, part)


def integration_nodes(
    space: Space, num_nodes: int = 200, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The points and log weights of `nodes`, all at once.

    Returns:
        x `[N, *event]` and log_weight `[N]`.

    Raises:
        InputError: as of `nodes`, or there are more than 2^22.
    """
    found = nodes(space, num_nodes, dtype=dtype, device=device)
    if found.number > MOST_AT_ONCE:
        what = "states" if isinstance(space, Enumerable) else "nodes"
        raise InputError(f"{space} has {found.number} {what}; at most 2^22 are listed at once")
    return found.part(0, found.number)


def _states(
    space: Enumerable, dtype: torch.dtype, device: torch.device, first: int, last: int
) -> tuple[Tensor, Tensor]:
    x = space.enumerate(first, last, dtype=dtype, device=device)
    return x, torch.zeros(last - first, dtype=dtype, device=device)


def _line(space: Real | Box, num_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and log weights of one dimension."""
    node, log_weight = _gauss_legendre(num_nodes, dtype, device)
    if isinstance(space, Box):
        half = (space.high - space.low) / 2
        return space.low + half * (node + 1), log_weight + math.log(half)
    scale = 4 * space.start_scale
    gap = 1 - node.square()
    log_line = log_weight + math.log(scale) + (1 + node.square()).log() - 2 * gap.log()
    return scale * node / gap, log_line


def _gauss_legendre(num_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and log weights on (-1, 1) of Gauss-Legendre quadrature."""
    if num_nodes < 2:
        raise InputError(f"num_nodes must be at least 2, got {num_nodes}")
    node, weight = np.polynomial.legendre.leggauss(num_nodes)
    return (
        torch.tensor(node.tolist(), dtype=dtype, device=device),
        torch.tensor(np.log(weight).tolist(), dtype=dtype, device=device),
    )
