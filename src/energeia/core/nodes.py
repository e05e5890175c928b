"""Points and weights that sum or integrate over a whole space."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.errors import InputError
from energeia.core.space import Box, Enumerable, Real, Space


def integration_nodes(
    space: Space, num_nodes: int = 200, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Points and log weights with which sums or integrals over the space are done.

    sum_n exp(log_weight_n) g(x_n) is the sum of g over all states of a discrete
    space (exact; of `Counts`, over all documents as they were written), and the
    integral of g over a `Box` or `Real` of one or two dimensions (tensor Gauss-Legendre;
    `Real` through x = 4 t / (1 - t^2) times its start_scale, for densities with tails no
    heavier than exponential).

    Args:
        space: a discrete space of at most 2^22 states, or 1 to 2 real dimensions.
        num_nodes: nodes per real dimension.

    Returns:
        x `[N, *event]` and log_weight `[N]`.

    Raises:
        InputError: the space is too large.
    """
    place = device or torch.device("cpu")
    if isinstance(space, Enumerable):
        if space.num_states > 2**22:
            raise InputError(f"{space} has {space.num_states} states; at most 2^22 are listed at once")
        x = space.enumerate(0, space.num_states, dtype=dtype, device=place)
        return x, torch.zeros(len(x), dtype=dtype, device=place)
    if isinstance(space, Counts):
        if space.num_points > 2**22:
            raise InputError(f"{space} has {space.num_points} vectors of counts; at most 2^22 are listed at once")
        return space.points(dtype=dtype, device=place)
    if space.num_dims > 2 or not isinstance(space, Real | Box):
        raise InputError(f"{space} has {space.num_dims} real dimensions; quadrature is for 1 or 2")
    node, log_weight = _gauss_legendre(num_nodes, dtype, place)
    if isinstance(space, Box):
        half = (space.high - space.low) / 2
        line, log_line = space.low + half * (node + 1), log_weight + math.log(half)
    else:
        scale = 4 * space.start_scale
        gap = 1 - node.square()
        line = scale * node / gap
        log_line = log_weight + math.log(scale) + (1 + node.square()).log() - 2 * gap.log()
    axes = list(itertools.repeat(line, space.num_dims))
    x = torch.cartesian_prod(*axes).reshape(-1, *space.event_shape)
    log_axes = list(itertools.repeat(log_line, space.num_dims))
    return x, torch.cartesian_prod(*log_axes).reshape(len(x), -1).sum(1)


def _gauss_legendre(num_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and log weights on (-1, 1) of Gauss-Legendre quadrature."""
    if num_nodes < 2:
        raise InputError(f"num_nodes must be at least 2, got {num_nodes}")
    node, weight = np.polynomial.legendre.leggauss(num_nodes)
    return (
        torch.tensor(node.tolist(), dtype=dtype, device=device),
        torch.tensor(np.log(weight).tolist(), dtype=dtype, device=device),
    )
