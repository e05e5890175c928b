"""log Z between an estimate from below and one from above."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy, Tractable
from energeia.core.errors import InputError, check_count
from energeia.core.record import LogZ
from energeia.core.sampler import sample
from energeia.partition.ais import Levels, ais, default_sampler, reverse_ais
from energeia.partition.base import fitted_base
from energeia.partition.exact import exact_log_z


class Bracket(NamedTuple):
    """An interval of log Z, in nats.

    low, high: two standard errors beyond whichever estimate is farther out on each side; equal if exact.
    estimates: the one that is exact, or that of `ais` and that of `reverse_ais`.
    method: how they were got, in words, and that they contradict each other if they do.
    contradicted: whether the estimate from above lies below that from below by more than their errors.
    """

    low: Tensor
    high: Tensor
    estimates: tuple[LogZ, ...]
    method: str
    contradicted: bool = False


def bracket(
    energy: Energy,
    rows: Tensor,
    *,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> Bracket:
    """log Z, exact where the energy is `Tractable`, else annealed from below and from above.

    Args:
        energy: the model.
        rows: `[N, *event]` near the model: data, or draws. The base is fitted to them, and the chains
            from whose ends the annealing from above starts begin at them.
        num_chains, levels: effort of annealing, each way.
        num_steps: steps of those chains.
        generator: random numbers, or a seed for them.

    The interval covers both estimates with their errors. It is no confidence interval of known
    coverage: a part of the model that neither way finds is missed by both. Where the estimate from
    above lies below that from below by more than their errors, the chains have not mixed, and method
    says so.

    Reference: Grosse, Ghahramani & Adams (2015), Sandwiching the marginal likelihood using
    bidirectional Monte Carlo. https://arxiv.org/abs/1511.02543
    """
    check_count("bracket", num_chains=num_chains, num_steps=num_steps)
    if energy.capability(Tractable) is not None:
        exact = exact_log_z(energy)
        return Bracket(exact.value, exact.value, (exact,), str(exact.details["method"]))
    if len(rows) < 2:
        raise InputError("bracket: give at least two rows, to which the base of annealing is fitted")
    if isinstance(generator, int):
        generator = torch.Generator(rows.device).manual_seed(generator)
    base = fitted_base(energy.space, rows)
    lower = ais(energy, base=base, num_chains=num_chains, levels=levels, generator=generator)
    start = rows[torch.randint(len(rows), (num_chains,), generator=generator, device=rows.device)]
    chains = sample(
        energy, default_sampler(energy), start=start, num_steps=num_steps, generator=generator, progress=False
    ).x
    upper = reverse_ais(energy, chains, base=base, levels=levels, generator=generator)
    return enclosing(lower, upper)


def enclosing(lower: LogZ, upper: LogZ) -> Bracket:
    """The interval of two annealed estimates, from below and from above."""
    low, high = (
        torch.stack([each.value + sign * 2 * each.standard_error for each in (lower, upper)]) for sign in (-1, 1)
    )
    method = (
        f"annealed importance sampling both ways, {lower.details['num_chains']} chains, "
        f"{lower.details['num_levels']} levels"
    )
    contradicted = bool(high[1] < low[0])
    if contradicted:
        method += (
            f"; the estimate from above lies {float(lower.value - upper.value):.2g} nats below that from below, so the "
            "chains have not mixed and neither is to be believed"
        )
    return Bracket(low.min(), high.max(), (lower, upper), method, contradicted)
