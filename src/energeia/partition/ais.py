"""Annealed importance sampling: log Z along a path of distributions, from below and from above."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Conditional, Energy, dtype_and_device
from energeia.core.errors import check_count
from energeia.core.progress import Bar, progress_bar
from energeia.core.record import LogZ
from energeia.core.sampler import Sampler, sample
from energeia.core.space import Enumerable, Real
from energeia.energies.fitted import check_tractable, fitted_base
from energeia.partition.schedule import Levels, Schedule, check_levels, schedule
from energeia.partition.signs import check_bounded, warn_if_uncovered
from energeia.partition.walk import Geometric, Path, Progress, Walk, Watch, anneal, begin, walk_of
from energeia.partition.weights import one_sided
from energeia.samplers import HMC, BlockGibbs, Gibbs, GibbsWithGradients

_NUM_ROUGH = 200
# How far from the middle rough chains begin, in spreads of the rows.
_REACH = (1.0, 3.0, 10.0, 30.0)


def ais(
    energy: Energy,
    *,
    base: Energy | None = None,
    path: Path | None = None,
    sampler: Sampler | None = None,
    num_chains: int = 100,
    levels: Levels = 1000,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z by annealed importance sampling, from a base to the energy: on average from below.

    Chains start from exact draws of the base. On each of the levels 0 = s_0 < ... < s_K = 1
    they take on log w += E_{s_(k-1)}(x) - E_{s_k}(x) and move by one step of the sampler for
    E_{s_k} = (1 - s) E_0 + s E (with hidden units, see `core.path.between`). Then
    log Z = log Z_0 + log mean w.

    Args:
        energy: the model, on any space.
        base: with `Tractable`, on the same space; None takes the one fitted to draws of
            a short run of the model.
        path: another way than the geometric one, such as a `moment_path`; then there is no base to give.
        sampler: the transition, which must leave its target unchanged (`Langevin` does not); None is
            BlockGibbs with hidden units, Gibbs or GibbsWithGradients on discrete spaces, and on
            continuous ones HMC tuned on the model. A sampler with a step size and a
            target acceptance gets a step size for each level.
        num_chains: independent weights.
        levels: K, laid by a pilot so that all are equally hard (`partition.schedule`); or the shares
            themselves, rising from 0 to 1.
        generator: random numbers, or a seed for them.
        progress: show a bar with the running estimate; None shows it on a terminal only.

    Returns:
        `LogZ` of kind "lower": E[log estimate] <= log Z, by Jensen's inequality. It is far
        below if the chains missed a part of the model, and then neither the standard
        error nor the effective sample size of the weights (in details) need show it: compare
        with `reverse_ais`, as `bracket` does. Its low end is that of a bootstrap over the chains.

    Raises:
        InputError: the base lives on another space, or levels do not rise from 0 to 1.
        DivergenceError: a weight is not finite.

    Cost: K steps of num_chains chains, for energies without hidden units one more
    evaluation each, and the pilot.

    Reference: Neal (2001), Annealed importance sampling, https://arxiv.org/abs/physics/9803008;
    Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks.

    >>> import energeia as en
    >>> rbm = en.RBM(6, 4, weight_scale=0.5)
    >>> estimate, exact = en.ais(rbm, levels=300), en.exact_log_z(rbm)
    >>> bool((estimate.value - exact.value).abs() < 0.1)
    True
    """
    check_count("ais", num_chains=num_chains)
    plan = make_plan("ais", energy, None, path or base, sampler, levels, generator)
    with progress_bar(progress) as bar:
        start = begin(plan.path.draw_start(num_chains, plan.walk.generator))
        return plan.below(upwards(plan, start, bar))


def reverse_ais(
    energy: Energy,
    x: Tensor,
    *,
    base: Energy | None = None,
    path: Path | None = None,
    sampler: Sampler | None = None,
    levels: Levels = 1000,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z by annealing from draws x of the model to the base: on average from above.

    The path of `ais` backwards, with 1 / w averaged: log Z = log Z_0 - log mean(1 / w). An
    upper bound on average if x are exact draws (with a reversible sampler this is bidirectional Monte Carlo);
    from chains that have not mixed it may lie on either side.

    Args:
        energy: the model.
        x: draws of the model `[num_chains, *event]`, as exact as can be had.
        base, path, sampler, levels, generator, progress: as for `ais`; base None is fitted to x.

    Reference: Burda, Grosse & Salakhutdinov (2015), Accurate and conservative estimates of MRF
    log-likelihood using reverse annealing; Grosse, Ghahramani & Adams (2015), Sandwiching the
    marginal likelihood using bidirectional Monte Carlo. https://arxiv.org/abs/1511.02543
    """
    energy.space.check(x, "reverse_ais: x")
    plan = make_plan("reverse_ais", energy, x, path or base, sampler, levels, generator)
    with progress_bar(progress) as bar:
        return plan.above(downwards(plan, begin(x), bar))


class Plan(NamedTuple):
    """What an annealing run needs, all checked."""

    path: Path
    sampler: Sampler[Any]
    walk: Walk
    schedule: Schedule

    def below(self, end: Progress) -> LogZ:
        """The estimate from chains that have gone up."""
        return self._estimate(True, self.path.log_z_start() + end.log_weights, end.x, "")

    def above(self, end: Progress, *, exact: bool = False) -> LogZ:
        """The estimate from chains that have gone down, from exact draws or not."""
        told = " from exact draws" if exact else ""
        return self._estimate(False, self.path.log_z_start() - end.log_weights, end.x, told)

    def _estimate(self, below: bool, log_estimates: Tensor, x: Tensor, told: str) -> LogZ:
        number, levels = len(log_estimates), len(self.schedule.shares) - 1
        reverse = "" if below else "reverse "
        method = f"{reverse}annealed importance sampling{told}, {number} chains, {levels} levels"
        details = {
            "num_chains": number,
            "num_levels": levels,
            "length": self.schedule.length,
            "sampler": self.sampler,
            "path": self.path,
            "x": x,
        }
        return one_sided(below, log_estimates, method, details)


def make_plan(
    who: str,
    energy: Energy,
    rows: Tensor | None,
    start: Path | Energy | None,
    sampler: Sampler[Any] | None,
    levels: Levels,
    generator: torch.Generator | int,
) -> Plan:
    """The path, the tuned sampler and the levels. Rows near the model, if there are some, are not believed to be all.

    The base is fitted to where the chains of a short run end that were begun far and wide, and to a quarter as many
    rows: a part of the model that the rows know nothing of is then not left out from the outset.
    """
    check_levels(who, levels)
    if isinstance(generator, int):
        generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(generator)
    if isinstance(start, Energy):
        check_tractable(who, "base", start, energy)
    dtype = dtype_and_device(energy)[0]
    seen = energy.space.start(_NUM_ROUGH, generator, dtype=dtype) if rows is None or len(rows) < 2 else rows
    check_bounded(who, energy, seen, generator)
    if isinstance(start, Energy) and rows is not None:
        warn_if_uncovered(start, rows, generator)
    if start is None or (sampler is None and _tunes(energy)):
        tuned, found = rough_draws(energy, sampler, rows, generator)
        sampler = sampler or tuned
        if start is None:
            near = found if rows is None else torch.cat([_some(rows, len(found) // 4 + 1, generator), found])
            start = fitted_base(energy.space, near)
    path = Geometric(start, energy) if isinstance(start, Energy) else start
    # What cannot be annealed is told before anything is computed.
    path.at(0.5)
    sampler = sampler or default_sampler(energy)
    walk = walk_of(path, sampler, generator)
    laid = schedule(walk, sampler, levels)
    return Plan(path, sampler, walk.with_step_sizes(laid.step_sizes), laid)


def _some(rows: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """That many of the rows, at random, with repeats where there are fewer."""
    if len(rows) <= number:
        return rows[torch.arange(number, device=rows.device) % len(rows)]
    return rows[torch.randperm(len(rows), generator=generator, device=rows.device)[:number]]


def default_sampler(energy: Energy) -> Sampler[Any]:
    """The sampler that fits the capabilities of the energy and its space."""
    if energy.capability(Bipartite) is not None:
        return BlockGibbs()
    if isinstance(energy.space, Enumerable):
        return Gibbs() if energy.capability(Conditional) is not None else GibbsWithGradients()
    return HMC()


def _tunes(energy: Energy) -> bool:
    """Whether the default sampler has something to be tuned to the model."""
    return isinstance(default_sampler(energy), HMC)


def rough_draws(
    energy: Energy, sampler: Sampler[Any] | None, rows: Tensor | None, generator: torch.Generator
) -> tuple[Sampler[Any], Tensor]:
    """The sampler (None is the default) tuned by a run of 200 chains, and where those end: rough draws of the model.

    On `Real` they begin at 1, 3, 10 and 30 times the spread of the rows (or of the start points of the space) about
    their mean; elsewhere at the start points of the space. Chains that are still far up in energy are left out.
    """
    draws = sample(
        energy,
        sampler or default_sampler(energy),
        start=_far_and_wide(energy, rows, generator),
        num_steps=100,
        warmup=200,
        generator=generator,
        progress=False,
    )
    with torch.no_grad():
        levels = energy(draws.x)
    middle = levels.median()
    return draws.sampler, draws.x[levels <= middle + 10 * (levels - middle).abs().median()]


def _far_and_wide(energy: Energy, rows: Tensor | None, generator: torch.Generator) -> Tensor:
    space = energy.space
    start = space.start(_NUM_ROUGH, generator, dtype=dtype_and_device(energy)[0])
    if not isinstance(space, Real):
        return start
    reach = torch.tensor(_REACH).to(start)[torch.arange(len(start)) % len(_REACH)].view(-1, *[1] * (start.dim() - 1))
    if rows is None or len(rows) < 2:
        return reach * start
    return rows.mean(0) + reach * rows.std(0) * (start / space.start_scale)


def upwards(plan: Plan, start: Progress, bar: Bar, watch: Watch | None = None) -> Progress:
    """Chains from exact draws of the base, or from further up, taken to the model."""
    return _annealed(plan, start, plan.schedule.shares, bar, watch)


def downwards(plan: Plan, start: Progress, bar: Bar, watch: Watch | None = None) -> Progress:
    """Chains from draws of the model, or from further down, taken to the base."""
    return _annealed(plan, start, plan.schedule.shares[::-1], bar, watch)


def _annealed(plan: Plan, start: Progress, shares: tuple[float, ...], bar: Bar, watch: Watch | None) -> Progress:
    up = shares[0] < shares[-1]
    bar.begin("annealing up" if up else "annealing down", len(shares) - 1)

    def seen(now: Progress) -> None:
        if bar.shown:
            running = plan.below(now) if up else plan.above(now)
            bar.reached(now.level, f"log Z {float(running.value):.2f}")
        if watch is not None:
            watch(now)

    return anneal(plan.walk, start, shares, watch=seen)
