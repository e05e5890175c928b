"""log Z between two means of maxima of randomly perturbed potentials."""

import math

import torch
from torch import Tensor

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import CapabilityError, InputError
from energeia.core.record import LogZ
from energeia.core.space import Binary, Categorical, Spin
from energeia.energies.maxima import Solver, gumbel, pulled_maxima
from energeia.partition.bracket import enclosing


def gumbel_bounds(
    energy: Energy,
    *,
    num_perturbations: int = 100,
    solver: Solver = "auto",
    generator: torch.Generator | int = 0,
) -> LogZ:
    """log Z between two expected maxima: perturb-and-MAP.

    E max_x [-E(x) + (1/N) sum_i g_i(x_i)] <= log Z <= E max_x [-E(x) + sum_i g_i(x_i)], g independent Gumbel noise of
    mean 0. The upper side is exact for independent sites; both are loose where couplings are weak and many, and
    sharp in the cold, where a few states carry Z.

    Args:
        energy: on `Binary`, `Spin` or `Categorical`.
        num_perturbations: maxima for each side, >= 2.
        solver: how maxima are found, exactly; see `energies.pulled_maxima`.
        generator: random numbers, or a seed for them.

    Returns:
        `LogZ` of kind "approximate" whose interval covers both sides with two standard errors each; value is the
        middle. details: lower and upper.

    Raises:
        InputError, CapabilityError: no exact maximum can be had: the graph is wide and its couplings disagree.

    Reference: Hazan & Jaakkola (2012), On the partition function and random maximum a-posteriori perturbations,
    https://arxiv.org/abs/1206.6410; Hazan, Maji & Jaakkola (2013), On sampling from the Gibbs distribution with
    random maximum a-posteriori perturbations, https://arxiv.org/abs/1309.7598

    >>> import energeia as en
    >>> found = en.gumbel_bounds(en.IsingLattice((4, 4), coupling=0.4))
    >>> bool(found.low < 14.5611 < found.high)
    True
    """
    if num_perturbations < 2:
        raise InputError(f"gumbel_bounds: num_perturbations must be at least 2, got {num_perturbations}")
    space = energy.space
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(f"gumbel_bounds: needs a Binary, Spin or Categorical space, got {space}; take en.log_z")
    dtype, device = dtype_and_device(energy)
    if isinstance(generator, int):
        generator = torch.Generator(device).manual_seed(generator)
    size = space.num_categories if isinstance(space, Categorical) else 2
    num_sites = space.num_dims // size if isinstance(space, Categorical) else space.num_dims
    sides: list[LogZ] = []
    for below in (True, False):
        noise = gumbel((num_perturbations, num_sites, size), generator)
        pull = (noise / num_sites if below else noise).to(dtype)
        x = pulled_maxima(energy, pull, solver=solver)
        with torch.no_grad():
            values = -energy(x).double() + _gained(space, x, pull.double())
        sides.append(_side(below, values, num_perturbations))
    found = enclosing(*sides)
    return found._replace(method=f"perturb-and-MAP, {num_perturbations} perturbations for each side")


def _gained(space: Binary | Spin | Categorical, x: Tensor, pull: Tensor) -> Tensor:
    """sum_i pull_i(x_i) `[M]`."""
    if isinstance(space, Categorical):
        return (pull * x.view_as(pull)).sum((1, 2))
    up = x.flatten(1) > 0
    return torch.where(up, pull[..., 1], pull[..., 0]).sum(1)


def _side(below: bool, values: Tensor, number: int) -> LogZ:
    value, error = values.mean(), values.std() / math.sqrt(number)
    ends = (value - 2 * error, value + 2 * error)
    nothing = torch.full_like(value, math.inf)
    kind = "lower" if below else "upper"
    low, high = (ends[0], nothing) if below else (-nothing, ends[1])
    words = f"the mean of maxima {'below' if below else 'above'}"
    return LogZ(value, error, kind, low, high, words, {"interval": ends})
