"""log Z between an estimate from below and one from above."""

import warnings

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.record import LogZ
from energeia.core.sampler import sample
from energeia.partition.ais import Levels, ais, default_sampler, reverse_ais
from energeia.partition.base import fitted_base


def bracket(
    energy: Energy,
    rows: Tensor,
    *,
    base: Energy | None = None,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> LogZ:
    """log Z annealed from below and from above.

    Args:
        energy: the model.
        rows: `[N, *event]` near the model: data, or draws. The chains from whose ends the annealing from
            above starts begin at them.
        base: where annealing from below starts; None is fitted to the rows.
        num_chains, levels: effort of annealing, each way.
        num_steps: steps of those chains.
        generator: random numbers, or a seed for them.

    Returns:
        `LogZ` of kind "approximate", as `enclosing` makes it. Its interval covers both estimates with their errors.
        What neither way finds of the model is missed by both. Where the estimate from above
        lies below that from below by more than their errors, the chains have not mixed: a warning says so.

    Reference: Grosse, Ghahramani & Adams (2015), Sandwiching the marginal likelihood using
    bidirectional Monte Carlo. https://arxiv.org/abs/1511.02543
    """
    check_count("bracket", num_chains=num_chains, num_steps=num_steps)
    if len(rows) < 2 and base is None:
        raise InputError("bracket: give at least two rows, to which the base of annealing is fitted")
    if isinstance(generator, int):
        generator = torch.Generator(rows.device).manual_seed(generator)
    base = fitted_base(energy.space, rows) if base is None else base
    lower = ais(energy, base=base, num_chains=num_chains, levels=levels, generator=generator)
    start = rows[torch.randint(len(rows), (num_chains,), generator=generator, device=rows.device)]
    chains = sample(
        energy, default_sampler(energy), start=start, num_steps=num_steps, generator=generator, progress=False
    ).x
    upper = reverse_ais(energy, chains, base=base, levels=levels, generator=generator)
    return enclosing(lower, upper)


def enclosing(lower: LogZ, upper: LogZ) -> LogZ:
    """log Z from one estimate below and one above: the interval from the outer ends of both, and its middle.

    Its standard error is a quarter of the interval. Its details hold lower, upper and contradicted: whether
    the estimate from above lies below that from below by more than their errors, of which a warning tells as well.
    """
    ends = torch.stack([torch.stack(estimate.details["interval"]) for estimate in (lower, upper)])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    contradicted = bool(upper.high < lower.low)
    method = f"{lower.method} and {upper.method}"
    if contradicted:
        gap = float(lower.value - upper.value)
        told = f"the estimate from above lies {gap:.2g} nats below that from below"
        method += f"; {told}, so the chains have not mixed and neither is to be believed"
        warnings.warn(f"log Z: {told}: the chains have not mixed; take more steps or levels", stacklevel=3)
    details = {"lower": lower, "upper": upper, "contradicted": contradicted}
    return LogZ((low + high) / 2, (high - low) / 4, "approximate", low, high, method, details)
