"""log Z from chains in equilibrium on every rung between a base and the model: thermodynamic integration, tempering."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.progress import Bar, progress_bar
from energeia.core.record import LogZ
from energeia.core.sampler import Sampler
from energeia.core.warn import warn
from energeia.partition.ais import Plan, make_plan
from energeia.partition.bridge import multistate
from energeia.partition.walk import Gain

# Numbers of the table that are kept.
_MOST_KEPT = 2**24
_LEAST_SWAPS, _LEAST_DRIFT = 0.15, 0.02


def thermodynamic_integration(
    energy: Energy,
    *,
    base: Energy | None = None,
    sampler: Sampler[Any] | None = None,
    num_rungs: int = 30,
    num_chains: int = 20,
    num_steps: int = 500,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z by integrating d log Z_s / ds = E_s[-dE_s/ds] from a base to the model.

    Chains run on every rung s_0 = 0 < ... < s_K = 1 at once and swap with their neighbours (parallel tempering);
    the integral is the trapezoidal rule over the rungs, which lie equally far apart in the sense of
    `partition.schedule`.

    Args:
        energy, base, sampler, generator, progress: as of `ais`.
        num_rungs: K + 1, at least 2.
        num_chains: on each rung.
        num_steps: steps of each chain that count; as many before them are thrown away.

    Returns:
        `LogZ` of kind "approximate". Its standard error is that of independent chains, to which the change from every
        other rung to all of them, over 3, is added as the error of the rule; the interval is two of both. details:
        rungs, slopes (the means of -dE/ds) and swap_rates between neighbours.

    Warns: of rungs that hardly swap, and of chains that drift.

    It rests on chains in equilibrium, as the other estimates of this file do; annealing does not. Where a part of the
    model that chains seldom visit carries weight, a standard error from num_chains numbers is too small. `tempering`
    makes better use of the same chains.

    Reference: Kirkwood (1935), Statistical mechanics of fluid mixtures; Gelman & Meng (1998), Simulating
    normalizing constants, https://doi.org/10.1214/ss/1028905934
    """
    run = _run(
        "thermodynamic_integration", energy, base, sampler, num_rungs, num_chains, num_steps, generator, progress
    )
    rungs = torch.tensor(run.rungs, dtype=torch.float64)
    each = run.slopes.mean(0)
    slopes, log_start = each.mean(1), run.log_start

    def rule(values: Tensor, places: Tensor) -> Tensor:
        return torch.trapezoid(values, places, dim=0)

    values = rule(each, rungs)
    value = log_start + values.mean()
    coarse = rule(each[::2], rungs[::2]).mean() if num_rungs % 2 else rule(_halved(each), _halved(rungs)).mean()
    bend = (values.mean() - coarse).abs() / 3
    error = (values.var() / len(values)).sqrt() + bend
    method = f"thermodynamic integration, {num_rungs} rungs of {num_chains} chains, {num_steps} steps"
    method += _doubts(run)
    details = {"rungs": run.rungs, "slopes": slopes, "swap_rates": run.swap_rates}
    return LogZ(value, error, "approximate", value - 2 * error, value + 2 * error, method, details)


def tempering(
    energy: Energy,
    *,
    base: Energy | None = None,
    sampler: Sampler[Any] | None = None,
    num_rungs: int = 15,
    num_chains: int = 20,
    num_steps: int = 500,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z from the ladder of parallel tempering, by the multistate acceptance ratio over all rungs.

    Args:
        as of `thermodynamic_integration`.

    Returns:
        `LogZ` of kind "approximate": the mean of estimates from tenths of the chains, two standard errors of that
        each way. details: rungs, swap_rates between neighbours (a rate near 0 cuts the ladder: take more rungs), and
        log_z of each rung.

    Reference: Shirts & Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium states,
    https://doi.org/10.1063/1.2978177; Swendsen & Wang (1986), Replica Monte Carlo simulation of spin glasses.

    >>> import energeia as en
    >>> rbm = en.RBM(6, 4, weight_scale=0.5)
    >>> estimate, exact = en.tempering(rbm, num_steps=100), en.exact_log_z(rbm)
    >>> bool((estimate.value - exact.value).abs() < 0.1)
    True
    """
    run = _run("tempering", energy, base, sampler, num_rungs, num_chains, num_steps, generator, progress)
    # [T, K, B, K]: -E_k at the chains of every rung, as far as it depends on k.
    table = run.table
    groups = min(10, num_chains)
    found: list[Tensor] = []
    for part in torch.arange(num_chains).chunk(groups):
        chosen = table[:, :, part]
        counts = torch.full((len(run.rungs),), chosen.shape[0] * chosen.shape[2])
        found.append(multistate(chosen.permute(3, 1, 0, 2).reshape(len(run.rungs), -1), counts).log_z)
    each = torch.stack(found)
    log_z = run.log_start + each.mean(0)
    value = log_z[-1]
    error = each[:, -1].std() / math.sqrt(len(found)) if len(found) > 1 else torch.full_like(value, math.inf)
    method = (
        f"parallel tempering and its acceptance ratios, {num_rungs} rungs of {num_chains} chains, {num_steps} steps"
    )
    method += _doubts(run)
    details = {"rungs": run.rungs, "log_z": log_z, "swap_rates": run.swap_rates}
    return LogZ(value, error, "approximate", value - 2 * error, value + 2 * error, method, details)


def _halved(values: Tensor) -> Tensor:
    """Every other one, and the last."""
    return torch.cat([values[:-1:2], values[-1:]])


class _Ladder(NamedTuple):
    """What chains on a ladder gave: -dE/ds `[T, K, B]` and -E_k `[T, K, B, K]` at them, float64."""

    rungs: tuple[float, ...]
    log_start: Tensor
    slopes: Tensor
    table: Tensor
    swap_rates: list[float]


def _doubts(run: _Ladder) -> str:
    """What speaks against the run, for its method, with a warning: rungs that hardly swap, chains that still drift."""
    told: list[str] = []
    least = min(run.swap_rates)
    if least < _LEAST_SWAPS:
        told.append(f"neighbouring rungs swap in {least:.0%} of tries, which cuts the ladder: take more rungs")
    half = len(run.slopes) // 2
    if half and run.slopes.shape[2] > 1:
        places = torch.tensor(run.rungs, dtype=torch.float64)
        halves = (run.slopes[:half].mean(0), run.slopes[half:].mean(0))
        change = torch.trapezoid(halves[1] - halves[0], places, dim=0)
        drift, error = float(change.mean().abs()), float(change.std()) / math.sqrt(len(change))
        if drift > 4 * error and drift > _LEAST_DRIFT:
            told.append(f"the second half of the steps differs from the first by {drift:.2g} nats: take more steps")
    for each in told:
        warn(f"log Z: {each}")
    return "".join(f"; {each}" for each in told)


def _run(
    who: str,
    energy: Energy,
    base: Energy | None,
    sampler: Sampler[Any] | None,
    num_rungs: int,
    num_chains: int,
    num_steps: int,
    generator: torch.Generator | int,
    progress: bool | None,
) -> _Ladder:
    check_count(who, num_chains=num_chains, num_steps=num_steps)
    if num_rungs < 2:
        raise InputError(f"{who}: needs at least 2 rungs, got {num_rungs}")
    plan = make_plan(who, energy, None, base, sampler, num_rungs - 1, generator)
    with progress_bar(progress) as bar:
        return _climb(plan, num_chains, num_steps, bar)


def _climb(plan: Plan, num_chains: int, num_steps: int, bar: Bar) -> _Ladder:
    rungs, walk = plan.schedule.shares, plan.walk
    size = len(rungs)
    x = plan.path.draw_start(size * num_chains, walk.generator)
    # Chains of a rung stand side by side.
    shares = torch.tensor(rungs, dtype=x.dtype, device=x.device).repeat_interleave(num_chains)
    thin = max(1, -(-num_steps * size * size * num_chains // _MOST_KEPT))
    tables: list[Tensor] = []
    slopes: list[Tensor] = []
    swapped, tried = torch.zeros(size - 1), torch.zeros(size - 1)
    bar.begin("chains on the ladder", 2 * num_steps)
    with torch.no_grad():
        for step in range(2 * num_steps):
            x = _moved(plan, x, shares, num_chains)
            gain = walk.gain(x, shares)
            counted = step >= num_steps
            if counted and step % thin == 0:
                # What is common to all rungs drops out of every ratio.
                start = gain(0.0)
                each = torch.stack([gain(share) - start for share in rungs], -1)
                tables.append(each.view(size, num_chains, size).cpu())
                slopes.append(_slope(gain, shares).view(size, num_chains).cpu())
            pairs = range(step % 2, size - 1, 2)
            x, accepted = _swapped(x, gain, shares, num_chains, pairs, walk.generator)
            if counted:
                for low, rate in zip(pairs, accepted, strict=True):
                    swapped[low] += rate
                    tried[low] += 1
            bar.reached(step + 1)
    rates = (swapped / tried.clamp_min(1)).tolist()
    return _Ladder(rungs, plan.path.log_z_start().cpu(), torch.stack(slopes), torch.stack(tables), rates)


def _moved(plan: Plan, x: Tensor, shares: Tensor, num_chains: int) -> Tensor:
    """All chains after a step: all rungs at once, unless each has a step size of its own; exact draws on the lowest."""
    walk, rungs = plan.walk, plan.schedule.shares
    if plan.schedule.step_sizes:
        parts = x.split(num_chains)
        x = torch.cat([walk.move(part, share)[0] for part, share in zip(parts, rungs, strict=True)])
    else:
        x, _ = walk.move(x, shares)
    return torch.cat([plan.path.draw_start(num_chains, walk.generator), x[num_chains:]])


def _swapped(
    x: Tensor, gain: Gain, shares: Tensor, num_chains: int, pairs: range, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """x after neighbours have swapped where odds allow it, and the share of pairs that did on each rung of `pairs`."""
    by_rung = shares.view(-1, num_chains)
    other = by_rung.clone()
    for low in pairs:
        other[low], other[low + 1] = by_rung[low + 1], by_rung[low]
    # Both of a pair gain by the exchange, or lose: log odds is the sum.
    gains = gain(other.flatten()).view(-1, num_chains)
    order = torch.arange(len(x), device=x.device).view(-1, num_chains)
    index, accepted = order.clone(), []
    for low in pairs:
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64, device=x.device)
        swap = uniform.log() < gains[low] + gains[low + 1]
        index[low] = torch.where(swap, order[low + 1], order[low])
        index[low + 1] = torch.where(swap, order[low], order[low + 1])
        accepted.append(float(swap.double().mean()))
    return x[index.flatten()], accepted


def _slope(gain: Gain, shares: Tensor) -> Tensor:
    """d/ds of -E_s(x) at the shares, by a difference over .002 (exact where the path is linear in s)."""
    low, high = (shares - 1e-3).clamp_min(0), (shares + 1e-3).clamp_max(1)
    return (gain(high) - gain(low)) / (high - low)
