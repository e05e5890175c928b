"""A sequential Monte Carlo sampler: annealing in which chains with large weights multiply and others end."""

import math
from typing import Any

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.progress import progress_bar
from energeia.core.record import LogZ
from energeia.core.sampler import Sampler
from energeia.partition.ais import make_plan
from energeia.partition.schedule import Levels
from energeia.partition.walk import anneal, begin
from energeia.partition.weights import one_sided


def smc(
    energy: Energy,
    *,
    base: Energy | None = None,
    sampler: Sampler[Any] | None = None,
    num_chains: int = 100,
    num_populations: int = 10,
    levels: Levels = 1000,
    threshold: float = 0.5,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z by a sequential Monte Carlo sampler: `ais` with resampling.

    Where the effective sample size of a population falls below a share of it, its chains are drawn anew from
    themselves in proportion to their weights (systematic resampling) and all get the mean weight. The product of
    these means is an unbiased estimate of Z / Z_0, one for each population.

    Args:
        energy, base, sampler, levels, generator, progress: as of `ais`.
        num_chains: of a population, which resample among each other.
        num_populations: independent of each other: the error is found from how they differ.
        threshold: that share, in [0, 1]; 0 never resamples, which is `ais`.

    Returns:
        `LogZ` of kind "lower". details has x, the last chains `[num_populations, num_chains, *event]`, log_weights
        `[num_populations, num_chains]` of theirs, and num_resamplings, the mean over the populations.

    Better than `ais` where few levels must do, as chains that went astray are given up on the way; where chains
    do not cross between modes, modes whose weight only shows at the end are given up as well.

    Reference: Del Moral, Doucet & Jasra (2006), Sequential Monte Carlo samplers,
    https://doi.org/10.1111/j.1467-9868.2006.00553.x

    >>> import energeia as en
    >>> rbm = en.RBM(6, 4, weight_scale=0.5)
    >>> estimate, exact = en.smc(rbm, levels=50), en.exact_log_z(rbm)
    >>> bool((estimate.value - exact.value).abs() < 0.1)
    True
    """
    check_count("smc", num_chains=num_chains, num_populations=num_populations)
    if not 0 <= threshold <= 1:
        raise InputError(f"smc: threshold must lie in [0, 1], got {threshold}")
    plan = make_plan("smc", energy, None, base, sampler, levels, generator)
    populations = _Populations(num_populations, num_chains, threshold, plan.walk.generator)
    start = begin(plan.path.draw_start(num_populations * num_chains, plan.walk.generator))
    with progress_bar(progress) as bar:
        bar.begin("sequential Monte Carlo", len(plan.schedule.shares) - 1)
        end = anneal(
            plan.walk, start, plan.schedule.shares, watch=lambda now: bar.reached(now.level), resample=populations
        )
    log_weights = end.log_weights.view(num_populations, num_chains)
    logs = populations.gathered + log_weights.logsumexp(1) - math.log(num_chains)
    method = (
        f"sequential Monte Carlo, {num_populations} populations of {num_chains} chains, "
        f"{len(plan.schedule.shares) - 1} levels"
    )
    details: dict[str, object] = {
        "num_chains": num_populations,
        "num_resamplings": populations.times / num_populations,
        "x": end.x.view(num_populations, num_chains, *energy.space.event_shape),
        "log_weights": log_weights,
    }
    return one_sided(True, plan.path.log_z_start() + logs, method, details)


class _Populations:
    """Chains in groups that are resampled within themselves, and the mean weights that they gathered so far."""

    def __init__(self, number: int, size: int, threshold: float, generator: torch.Generator) -> None:
        self._number, self._size, self._least = number, size, threshold * size
        self._generator = generator
        self.gathered = torch.zeros(number, dtype=torch.float64, device=generator.device)
        self.times = 0

    def __call__(self, x: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        """x and log weights after resampling where it is due."""
        logs = log_weights.view(self._number, self._size)
        shares = logs.softmax(1)
        due = 1 / shares.square().sum(1) < self._least
        if not bool(due.any()):
            return x, log_weights
        self.times += int(due.sum())
        mean = logs.logsumexp(1) - math.log(self._size)
        self.gathered = torch.where(due, self.gathered + mean, self.gathered)
        index = systematic(shares, self._generator)
        own = torch.arange(self._size, device=x.device).expand_as(index)
        first = torch.arange(self._number, device=x.device).unsqueeze(1) * self._size
        index = first + torch.where(due.unsqueeze(1), index, own)
        logs = torch.where(due.unsqueeze(1), torch.zeros_like(logs), logs)
        return x[index.flatten()], logs.flatten()


def systematic(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers `[P, n]` of those that live on: n of each row of shares `[P, n]`, with one uniform number a row."""
    number = shares.shape[1]
    places = torch.arange(number, dtype=shares.dtype, device=shares.device)
    uniform = torch.rand((len(shares), 1), generator=generator, dtype=shares.dtype, device=shares.device)
    cumulative = shares.cumsum(1)
    return torch.searchsorted(cumulative, (places + uniform) / number).clamp(max=number - 1)
