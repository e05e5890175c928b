"""Annealed importance sampling: log Z along a path of distributions, from below and from above."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Conditional, Energy, dtype_and_device
from energeia.core.errors import DivergenceError, InputError, check_count
from energeia.core.path import between, log_volume
from energeia.core.record import LogZ
from energeia.core.sampler import Sampler, sample
from energeia.core.space import Enumerable
from energeia.partition.base import check_base, fitted_base
from energeia.samplers import HMC, BlockGibbs, Gibbs, GibbsWithGradients

Levels = int | Sequence[float]


def ais(
    energy: Energy,
    *,
    base: Energy | None = None,
    sampler: Sampler | None = None,
    num_chains: int = 100,
    levels: Levels = 1000,
    generator: torch.Generator | int = 0,
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
        sampler: the transition; None is BlockGibbs with hidden units, Gibbs or
            GibbsWithGradients on discrete spaces and HMC on continuous ones.
        num_chains: independent weights.
        levels: K, evenly spaced, or the shares themselves, rising from 0 to 1.
        generator: random numbers, or a seed for them.

    Returns:
        `LogZ` of kind "lower": E[log estimate] <= log Z, by Jensen's inequality. It is far
        below if the chains missed a part of the model, and then neither the standard
        error nor the effective sample size of the weights (in details) need show it: compare
        with `reverse_ais`.

    Raises:
        InputError: the base lives on another space, or levels do not rise from 0 to 1.
        DivergenceError: a weight is not finite.

    Cost: K steps of num_chains chains and, for energies without hidden units, one more
    evaluation each.

    Reference: Neal (2001), Annealed importance sampling, https://arxiv.org/abs/physics/9803008;
    Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks.

    >>> import energeia as en
    >>> rbm = en.RBM(6, 4, weight_scale=0.5)
    >>> estimate, exact = en.ais(rbm, levels=300), en.exact_log_z(rbm)
    >>> bool((estimate.value - exact.value).abs() < 0.1)
    True
    """
    plan = _plan("ais", energy, base, sampler, levels, generator)
    check_count("ais", num_chains=num_chains)
    tractable = check_base("ais", plan.base, energy)
    x = tractable.sample_exact(num_chains, plan.generator)
    log_weights = _anneal(energy, plan, x, plan.shares)
    start = tractable.log_z().value.double() + log_volume(energy)
    return _estimate("lower", plan, start, log_weights)


def reverse_ais(
    energy: Energy,
    x: Tensor,
    *,
    base: Energy | None = None,
    sampler: Sampler | None = None,
    levels: Levels = 1000,
    generator: torch.Generator | int = 0,
) -> LogZ:
    """log Z by annealing from draws x of the model to the base: on average from above.

    The path of `ais` backwards, with 1 / w averaged: log Z = log Z_0 - log mean(1 / w). An
    upper bound on average if x are exact draws and the sampler is reversible
    (bidirectional Monte Carlo); from chains that have not mixed it may lie on either side.

    Args:
        energy: the model.
        x: draws of the model `[num_chains, *event]`, as exact as can be had.
        base, sampler, levels, generator: as for `ais`; base None is fitted to x.

    Reference: Burda, Grosse & Salakhutdinov (2015), Accurate and conservative estimates of MRF
    log-likelihood using reverse annealing; Grosse, Ghahramani & Adams (2015), Sandwiching the
    marginal likelihood using bidirectional Monte Carlo. https://arxiv.org/abs/1511.02543
    """
    energy.space.check(x, "reverse_ais: x")
    plan = _plan("reverse_ais", energy, base or fitted_base(energy.space, x), sampler, levels, generator)
    tractable = check_base("reverse_ais", plan.base, energy)
    log_weights = _anneal(energy, plan, x, tuple(reversed(plan.shares)))
    start = tractable.log_z().value.double() + log_volume(energy)
    return _estimate("upper", plan, start, log_weights)


class _Plan(NamedTuple):
    """What an annealing run needs, all checked."""

    base: Energy
    sampler: Sampler[Any]
    shares: tuple[float, ...]
    generator: torch.Generator


def _plan(
    who: str,
    energy: Energy,
    base: Energy | None,
    sampler: Sampler | None,
    levels: Levels,
    generator: torch.Generator | int,
) -> _Plan:
    if isinstance(generator, int):
        generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(generator)
    chosen = default_sampler(energy) if sampler is None else sampler
    if base is None:
        base = fitted_base(energy.space, _short_run(energy, chosen, generator))
    check_base(who, base, energy)
    # What cannot be annealed is told before anything is computed.
    between(base, energy, 0.5)
    return _Plan(base, chosen, _shares(who, levels), generator)


def default_sampler(energy: Energy) -> Sampler[Any]:
    """The sampler that fits the capabilities of the energy and its space."""
    if energy.capability(Bipartite) is not None:
        return BlockGibbs()
    if isinstance(energy.space, Enumerable):
        return Gibbs() if energy.capability(Conditional) is not None else GibbsWithGradients()
    return HMC()


def _short_run(energy: Energy, sampler: Sampler[Any], generator: torch.Generator) -> Tensor:
    """Rough draws of the model, to fit a base to."""
    return sample(energy, sampler, num_chains=200, num_steps=100, warmup=100, generator=generator, progress=False).x


def _shares(who: str, levels: Levels) -> tuple[float, ...]:
    if isinstance(levels, int):
        check_count(who, levels=levels)
        return tuple(number / levels for number in range(levels + 1))
    shares = tuple(float(share) for share in levels)
    rising = all(low < high for low, high in itertools.pairwise(shares))
    if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1 or not rising:
        raise InputError(f"{who}: levels must be a number of them, or shares that rise from 0 to 1, got {levels!r}")
    return shares


def _anneal(energy: Energy, plan: _Plan, x: Tensor, shares: Sequence[float]) -> Tensor:
    """log weights `[B]`, float64, of chains x that go along the shares, up or down."""
    bipartite = energy.capability(Bipartite)
    with torch.no_grad():
        if bipartite is not None and isinstance(plan.sampler, BlockGibbs):
            log_weights = _anneal_layers(energy, bipartite, plan, x, shares)
        else:
            log_weights = _anneal_steps(energy, plan, x, shares)
    bad = int((~log_weights.isfinite()).sum())
    if bad:
        raise DivergenceError(
            f"annealing: {bad} of {len(log_weights)} weights are NaN or infinite; the energy is not finite somewhere "
            "on the way, or not normalisable: look at en.sample(...) of it, or take more levels"
        )
    return log_weights


def _anneal_steps(energy: Energy, plan: _Plan, x: Tensor, shares: Sequence[float]) -> Tensor:
    """With any sampler. Down: chains move before a level is left, the reverse of up."""
    down = shares[0] > shares[-1]
    log_weights = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for now, following in itertools.pairwise(shares):
        here, there = between(plan.base, energy, now), between(plan.base, energy, following)
        if down:
            x = _moved(here, plan, x)
        log_weights = log_weights + (here(x) - there(x)).double()
        if not down:
            x = _moved(there, plan, x)
    return log_weights


def _moved(target: Energy, plan: _Plan, x: Tensor) -> Tensor:
    state = plan.sampler.init(target, x)
    state, _ = plan.sampler.step(target, state, plan.sampler.draw(state, plan.generator))
    return cast(Any, state).x


def _anneal_layers(energy: Energy, layers: Bipartite, plan: _Plan, x: Tensor, shares: Sequence[float]) -> Tensor:
    """With block Gibbs sampling: the hidden parameters of x serve both levels and the next step."""
    down = shares[0] > shares[-1]
    log_weights = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for now, following in itertools.pairwise(shares):
        if down:
            x = _layered(layers, plan, energy, layers.hidden_parameters(x), now)
        natural = layers.hidden_parameters(x)
        free = layers.hidden.log_partition(following * natural) - layers.hidden.log_partition(now * natural)
        rise = (following - now) * (plan.base(x) - layers.visible_energy(x))
        log_weights = log_weights + (rise + free).double()
        if not down:
            x = _layered(layers, plan, energy, natural, following)
    return log_weights


def _layered(layers: Bipartite, plan: _Plan, energy: Energy, natural: Tensor, share: float) -> Tensor:
    """x after one step of block Gibbs sampling at a share."""
    path = between(plan.base, energy, share)
    view = path.capability(Bipartite)
    assert view is not None
    h = layers.hidden.from_natural(share * natural, _uniform(natural, plan.generator))
    to_visible = view.visible_parameters(h)
    return view.visible.from_natural(to_visible, _uniform(to_visible, plan.generator))


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor, float]:
    """log mean w, its standard error by the delta method, and the effective sample size of the weights."""
    number = len(log_weights)
    value = log_weights.logsumexp(0) - math.log(number)
    relative = (log_weights - value).exp()
    error = relative.std() / math.sqrt(number) if number > 1 else torch.full_like(value, math.inf)
    return value, error, float(relative.sum().square() / relative.square().sum())


def _estimate(kind: Literal["lower", "upper"], plan: _Plan, start: Tensor, log_weights: Tensor) -> LogZ:
    """log Z from log Z of the start and the weights, up ("lower") or down."""
    shift, error, size = _log_mean(log_weights)
    value = start + shift if kind == "lower" else start - shift
    interval = (value - 2 * error, value + 2 * error)
    nothing = torch.full_like(value, math.inf)
    low, high = (interval[0], nothing) if kind == "lower" else (-nothing, interval[1])
    number, levels = len(log_weights), len(plan.shares) - 1
    method = f"{'' if kind == 'lower' else 'reverse '}annealed importance sampling, {number} chains, {levels} levels"
    details = {
        "num_chains": number,
        "num_levels": levels,
        "effective_sample_size": size,
        "interval": interval,
        "sampler": plan.sampler,
        "base": type(plan.base).__name__,
        "log_weights": log_weights,
    }
    return LogZ(value, error, kind, low, high, method, details)
