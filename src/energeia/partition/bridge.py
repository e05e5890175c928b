"""Ratios of partition functions from draws of each energy: acceptance ratios of two and of many."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import DivergenceError, InputError
from energeia.core.record import LogZ

_HALVINGS = 200
_LEAST_OVERLAP = 0.03


class Ratio(NamedTuple):
    """log(Z_1 / Z_0), its standard error, and the overlap of the two distributions (0 none, 1 the same)."""

    value: Tensor
    standard_error: Tensor
    overlap: float


def acceptance_ratio(forward: Tensor, backward: Tensor) -> Ratio:
    """log(Z_1 / Z_0) by Bennett's acceptance ratio.

    Args:
        forward: u = E_0(x) - E_1(x) `[n]` at draws of p_0; or log weights of walks from 0 to 1.
        backward: u `[m]` at draws of p_1; or minus the log weights of walks from 1 to 0 whose steps are those of
            the others turned round.

    The c that solves sum_forward sigma(u - c + log(m / n)) = sum_backward sigma(c - u - log(m / n)), sigma the
    logistic function: of all estimates from these numbers that of least variance. The standard error holds where
    the draws are independent.

    Reference: Bennett (1976), Efficient estimation of free energy differences from Monte Carlo data,
    https://doi.org/10.1016/0021-9991(76)90078-4; Shirts et al. (2003), Equilibrium free energies from nonequilibrium
    measurements using maximum-likelihood methods, https://doi.org/10.1103/PhysRevLett.91.140601
    """
    up, down = forward.double(), backward.double()
    if not bool(up.isfinite().all() & down.isfinite().all()):
        raise DivergenceError("Bennett's acceptance ratio: some energy differences are NaN or infinite")
    shift = math.log(len(down) / len(up))
    both = torch.cat([up, down])
    low, high = both.min() + min(shift, 0) - 1, both.max() + max(shift, 0) + 1
    # Both ends lie beyond the solution: the difference of the two sums falls as c rises.
    low, high = low - 50, high + 50
    for _ in range(_HALVINGS):
        c = (low + high) / 2
        excess = (up - c + shift).sigmoid().sum() - (c - down - shift).sigmoid().sum()
        low, high = torch.where(excess > 0, c, low), torch.where(excess > 0, high, c)
    c = (low + high) / 2
    chance = (both - c + shift).sigmoid()
    information = (chance * (1 - chance)).sum()
    variance = (1 / information - 1 / len(up) - 1 / len(down)).clamp_min(0)
    # Of one distribution, information would be nm / (n + m).
    overlap = float(information * (len(up) + len(down)) / (len(up) * len(down)))
    return Ratio(c, variance.sqrt(), overlap)


def bridge(energy: Energy, x: Tensor, reference: Energy, reference_x: Tensor) -> LogZ:
    """log Z of an energy less that of a reference, from draws of both, by Bennett's acceptance ratio.

    Args:
        energy: with draws x `[n, *event]`.
        reference: on the same space, with draws reference_x `[m, *event]`; add its log Z where that is known.

    Returns:
        `LogZ` of kind "approximate": value = log(Z / Z_reference), with two standard errors each way. These
        take draws as independent: thin chains to their effective sample size first. details["overlap"] tells how
        far the two distributions meet, 1 for equal ones; below .03 nobody should believe the error, and the
        method says so: put energies in between (`mbar`) or anneal (`bracket`).

    Raises:
        InputError: the energies live on different spaces, or there are no draws.

    Cost: both energies at all draws.

    >>> import torch, energeia as en
    >>> narrow, wide = en.Gaussian(2), en.Gaussian(2, scale=2.0)
    >>> generator = torch.Generator().manual_seed(0)
    >>> draws = [energy.sample_exact(20_000, generator) for energy in (narrow, wide)]
    >>> round(float(en.bridge(wide, draws[1], narrow, draws[0]).value), 1)  # log 4
    1.4
    """
    _check([energy, reference], [x, reference_x])
    with torch.no_grad():
        forward = (reference(reference_x) - energy(reference_x)).double()
        backward = (reference(x) - energy(x)).double()
    value, error, overlap = acceptance_ratio(forward, backward)
    method = f"Bennett's acceptance ratio to {type(reference).__name__}, {len(reference_x)} and {len(x)} draws"
    if overlap < _LEAST_OVERLAP:
        method += f"; the two hardly meet (overlap {overlap:.1g}), so its error is not to be believed"
    return LogZ(value, error, "approximate", value - 2 * error, value + 2 * error, method, {"overlap": overlap})


class Ratios(NamedTuple):
    """log Z of K energies less that of the first, `[K]` float64, and their covariance `[K, K]`."""

    log_z: Tensor
    covariance: Tensor


def mbar(energies: Sequence[Energy], draws: Sequence[Tensor]) -> Ratios:
    """log Z of many energies less that of the first, from draws of each: the multistate acceptance ratio.

    With N_k draws of each of K energies, log Z_i = log sum_n exp(-E_i(x_n)) / sum_k N_k exp(-E_k(x_n) - log Z_k)
    over all draws, solved for all at once. With two energies it is `bridge`.

    Args:
        energies: on one space, each overlapping with its neighbours.
        draws: of each, `[N_k, *event]`, independent.

    Cost: every energy at every draw, then K N numbers some tens of times.

    Reference: Shirts & Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium states,
    https://doi.org/10.1063/1.2978177
    """
    _check(energies, draws)
    with torch.no_grad():
        x = torch.cat(list(draws))
        table = torch.stack([-energy(x).double() for energy in energies])
    return multistate(table, torch.tensor([len(part) for part in draws], device=x.device))


def multistate(log_densities: Tensor, counts: Tensor) -> Ratios:
    """`mbar` from -E_k(x_n) `[K, N]` at all draws and how many are of each energy `[K]`.

    Newton's method on the convex function of which the equations are the gradient, begun by some rounds of them.
    """
    table, counts = log_densities.double(), counts.double()
    log_z = torch.zeros(len(table), dtype=torch.float64, device=table.device)
    for number in range(_HALVINGS):
        shares = _shares(table, counts, log_z)
        following = log_z + shares.logsumexp(1)
        following = following - following[0]
        if number >= 10:
            following = _newton(shares, counts, log_z, following)
        change = float((following - log_z).abs().max())
        log_z = following
        if change < 1e-12 * max(1.0, float(log_z.abs().max())):
            break
    weights = _shares(table, counts, log_z).exp()
    return Ratios(log_z, _covariance(weights, counts))


def _shares(table: Tensor, counts: Tensor, log_z: Tensor) -> Tensor:
    """log of exp(-E_i(x_n)) / Z_i over the density of all draws together, `[K, N]`."""
    return table - log_z.unsqueeze(1) - (table + (counts.log() - log_z).unsqueeze(1)).logsumexp(0)


def _newton(shares: Tensor, counts: Tensor, log_z: Tensor, plain: Tensor) -> Tensor:
    """Newton's step, or the plain one where the matrix gives none."""
    weights = shares.exp() * counts.unsqueeze(1)
    gradient = counts - weights.sum(1)
    hessian = weights.sum(1).diag() - weights @ weights.T
    step = torch.zeros_like(log_z)
    step[1:] = torch.linalg.lstsq(hessian[1:, 1:], gradient[1:].unsqueeze(1)).solution[:, 0]
    following = log_z - step
    return following if bool(following.isfinite().all()) and float(step.abs().max()) < 1 else plain


def _covariance(weights: Tensor, counts: Tensor) -> Tensor:
    """The asymptotic covariance of log Z_i - log Z_1."""
    # W' (I - W N W')^+ W, through the K x K singular values of W.
    left, singular, _ = torch.linalg.svd(weights, full_matrices=False)
    scale = singular.unsqueeze(1) * left.T
    middle = torch.eye(len(singular), dtype=torch.float64, device=weights.device) - scale @ counts.diag() @ scale.T
    theta = scale.T @ torch.linalg.pinv(middle, rtol=1e-10, hermitian=True) @ scale
    first = theta[0]
    return theta - first.unsqueeze(0) - first.unsqueeze(1) + theta[0, 0]


def _check(energies: Sequence[Energy], draws: Sequence[Tensor]) -> None:
    if len(energies) < 2 or len(energies) != len(draws):
        raise InputError(f"mbar: needs draws for each of at least two energies, got {len(energies)} and {len(draws)}")
    for number, (energy, x) in enumerate(zip(energies, draws, strict=True)):
        if not energy.space.same_set(energies[0].space):
            raise InputError(f"bridge: energies live on different spaces, {energies[0].space} and {energy.space}")
        energy.space.check(x, f"bridge: draws of energy {number}")
