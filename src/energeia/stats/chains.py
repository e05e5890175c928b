"""Have the chains mixed, and how many independent draws are they worth? The numbers are those of arviz-stats."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count
from energeia.core.record import Draws
from energeia.stats.diagnosis import Summary, all_notes, all_warnings, counted

# Numbers converted to float64 at once: bounds memory at 128 MiB.
_MAX_ENTRIES = 2**24

Kind = Literal["bulk", "tail", "mean", "sd", "median"]


def summary(
    draws: Draws,
    *,
    names: Sequence[str] | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    max_chains: int = 100,
) -> Summary:
    """Mean, error, effective sample size and R-hat of every dimension, and in words what is wrong.

    R-hat compares the spread between half chains with the spread within them, on
    ranks; ESS = T B / (1 + 2 sum_t rho_t) is the number of independent draws with the
    same error; MCSE = sd / sqrt(ESS) is that error. Warnings follow Vehtari et al.:
    R-hat above 1.01, bulk or tail ESS below 400 over all chains. Further warnings:
    chains or dimensions that never moved, divergent steps, mean acceptance below .1,
    neighbouring temperatures that swap at a rate below .1, an energy that is not finite.

    Args:
        draws: what `sample(..., keep="all")` returns, with T >= 4 kept states (8 of a
            single chain, whose two halves then stand for two chains).
        names: of the dimensions of the flattened event; default x[0], x[2,3].
        transform: what to look at instead of x: `[T * B, *event]` to `[T * B]` or
            `[T * B, *other]`, each row from its own x, such as a magnetisation.
        max_chains: R-hat, ESS and MCSE are estimated from at most this many chains,
            evenly spaced, and ESS is scaled up to all of them. Mean, sd, quantiles and
            the look for chains that never moved use every chain.

    Returns:
        `Summary`; `print(summary)` shows a table of the worst dimensions and the warnings.

    Raises:
        InputError: too few kept states, states that are not finite, names that do not fit.

    Cost: about a microsecond for each number of T x min(B, max_chains) x D.

    What it does not see: modes that no chain has found, and burn-in that all chains
    share. Start from different places, and throw the burn-in away (`warmup`). For many
    short chains R-hat is strict: where half a chain holds n independent draws it is
    about sqrt(1 + 1 / n), be the chains at the target or not.

    >>> import energeia as en
    >>> from energeia.stats import summary
    >>> sampler = en.MALA(step_size=1.0)
    >>> draws = en.sample(en.Gaussian(2), sampler, num_chains=10, num_steps=500, warmup=100, keep="all")
    >>> summary(draws, names=["first", "second"]).ok
    True

    Reference: Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, Rank-Normalization,
    Folding, and Localization: An Improved R-hat for Assessing Convergence of MCMC,
    https://doi.org/10.1214/20-BA1221
    """
    kept = draws.kept
    check_kept("summary", kept)
    check_count("summary", max_chains=max_chains)
    num_draws, num_chains = kept.shape[:2]
    looked_at = kept if transform is None else _transformed(kept, transform)
    labels = dimension_names(tuple(looked_at.shape[2:]), names)
    energy = draws.info.energy.detach()
    finite = energy.isfinite()
    if not bool(finite.all()):
        energy = torch.full_like(energy, math.nan)
    parts = [_describe(block, max_chains) for source in (looked_at, energy) for block in _blocks(source)]
    numbers = {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}
    same, frozen = numbers.pop("same"), numbers.pop("frozen")
    result = Summary((*labels, "energy"), **numbers, num_draws=num_draws, num_chains=num_chains, warnings=(), notes=())
    stuck = (kept == kept[0]).flatten(2).all(2).all(0)
    warnings = all_warnings(result, draws, frozen=frozen[:-1], stuck=stuck, num_broken=int((~finite).sum()))
    return replace(result, warnings=warnings, notes=all_notes(result, same[:-1], max_chains=max_chains))


def effective_sample_size(kept: Tensor, *, kind: Kind = "bulk") -> Tensor:
    """How many independent draws the kept states are worth, in each dimension.

    Args:
        kept: states `[T, B, *event]`, T >= 4.
        kind: "bulk" (ranks: the middle of the distribution), "tail" (the worse of the 5 %
            and 95 % quantiles), "mean", "sd" or "median" (for the error of just that).

    Returns:
        float64 `[*event]`; above T B where draws are anticorrelated; NaN where all have one value.

    Raises:
        InputError: a kind that does not exist, too few states, states that are not finite.

    Reference: Vehtari et al. 2021, https://doi.org/10.1214/20-BA1221
    """
    check_kept("effective_sample_size", kept)
    if kind not in get_args(Kind):
        raise InputError(f"effective_sample_size: kind must be one of {get_args(Kind)}, got {kind!r}")
    return _each_dimension(kept, lambda values: _ess(values, kind))


def r_hat(kept: Tensor) -> Tensor:
    """Rank-normalised split R-hat of each dimension: 1 where all half chains agree.

    Args:
        kept: states `[T, B, *event]`, T >= 4, or T >= 8 of a single chain.

    Returns:
        float64 `[*event]`; infinite where each chain stays at a value of its own, NaN where all draws have one value.

    Raises:
        InputError: too few states, states that are not finite.

    Reference: Vehtari et al. 2021, https://doi.org/10.1214/20-BA1221
    """
    check_kept("r_hat", kept)
    return _each_dimension(kept, _r_hat)


def check_kept(who: str, kept: Tensor) -> None:
    """Raise `InputError` unless kept is finite `[T, B, *event]` with enough states for diagnostics."""
    if kept.dim() < 2 or 0 in kept.shape:
        raise InputError(f"{who}: kept states must be [T, B, *event] with no axis empty, got {tuple(kept.shape)}")
    least = 4 if kept.shape[1] > 1 else 8
    if len(kept) < least:
        raise InputError(
            f"{who}: {len(kept)} kept states of {counted(kept.shape[1], 'chain')}, but at least {least} are needed to "
            f'judge a chain; sample with keep="all" and num_steps >= {least} (hundreds are better), or a smaller thin'
        )
    finite = kept.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        raise InputError(f"{who}: kept states are not finite from number {first} on; use a smaller step_size")


def dimension_names(event_shape: tuple[int, ...], names: Sequence[str] | None = None) -> list[str]:
    """Names of the dimensions of a flattened event: those given, or x[0], x[2,3] (x for an event without axes)."""
    if names is None:
        places = np.ndindex(*event_shape)
        return [f"x[{','.join(map(str, place))}]" if place else "x" for place in places]
    labels = list(names)
    if len(labels) != math.prod(event_shape) or len(set(labels)) < len(labels):
        raise InputError(
            f"names must be {math.prod(event_shape)} different ones, one for each dimension of the flattened event "
            f"{event_shape}, got {len(labels)}: {', '.join(map(str, labels[:5]))}"
        )
    return labels


def _transformed(kept: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    num_draws, num_chains = kept.shape[:2]
    values = transform(kept.flatten(0, 1))
    if values.dim() == 0 or len(values) != num_draws * num_chains:
        raise InputError(
            f"summary: transform must keep the {num_draws * num_chains} rows of its argument, "
            f"but returned {tuple(values.shape)}"
        )
    looked_at = values.unflatten(0, (num_draws, num_chains))
    check_kept("summary(transform=...)", looked_at)
    return looked_at


def _blocks(kept: Tensor) -> Iterator[np.ndarray]:
    """The dimensions in float64 arrays `[d, B, T]` of bounded size."""
    flat = kept.detach().unsqueeze(2).flatten(2)
    size = max(1, _MAX_ENTRIES // (flat.shape[0] * flat.shape[1]))
    for block in flat.split(size, 2):
        yield block.permute(2, 1, 0).to("cpu", torch.float64).contiguous().numpy()


def _each_dimension(kept: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    values = np.concatenate([function(block) for block in _blocks(kept)])
    return torch.from_numpy(values).view(kept.shape[2:])


def _still(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `[d, B, T]`: where all draws have one value, and where each chain has but not all the same."""
    same = np.ptp(values, (1, 2)) == 0
    return same, ~same & (np.ptp(values, 2) == 0).all(1)


def _arviz() -> Any:
    # Imported when it is needed: with scipy.stats it takes as long as half of torch.
    from arviz_stats.base.array import array_stats

    return array_stats


def _ess(values: np.ndarray, kind: Kind) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _arviz().ess(values, method=kind, prob=(0.05, 0.95) if kind == "tail" else None)
    return np.where(_still(values)[0], np.nan, found)


def _mcse_mean(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _arviz().mcse(values, method="mean")
    return np.where(_still(values)[0], np.nan, found)


def _mcse_sd(values: np.ndarray) -> np.ndarray:
    # Before its version 1, arviz-stats takes the ESS of the mean here, which is far too large for
    # a sampler that jumps from side to side and yet changes its distance to the mean slowly.
    squares = np.square(values - values.mean((1, 2), keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return squares.std((1, 2)) / np.sqrt(_ess(values, "sd")) / (2 * np.sqrt(squares.mean((1, 2))))


def _r_hat(values: np.ndarray) -> np.ndarray:
    same, frozen = _still(values)
    if values.shape[1] == 1:
        half = values.shape[2] // 2
        values = np.concatenate([values[..., :half], values[..., -half:]], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _arviz().rhat(values)
    return np.where(same, np.nan, np.where(frozen, np.inf, found))


def _describe(values: np.ndarray, max_chains: int) -> dict[str, np.ndarray]:
    """The numbers of a block `[d, B, T]`."""
    num_chains = values.shape[1]
    used = values
    if num_chains > max_chains:
        used = values[:, np.linspace(0, num_chains - 1, max_chains).round().astype(int)]
    scale = num_chains / used.shape[1]
    same, frozen = _still(values)
    return {
        "mean": values.mean((1, 2)),
        "sd": values.std((1, 2), ddof=1),
        "mcse_mean": _mcse_mean(used) / math.sqrt(scale),
        "mcse_sd": _mcse_sd(used) / math.sqrt(scale),
        "quantiles": np.quantile(values, [0.05, 0.95], axis=(1, 2)).T,
        "ess_bulk": _ess(used, "bulk") * scale,
        "ess_tail": _ess(used, "tail") * scale,
        "r_hat": _r_hat(used),
        "same": same,
        "frozen": frozen,
    }


def to_arviz(draws: Draws, names: Sequence[str] | None = None) -> Any:
    """The draws as ArviZ holds them, for its own summaries and plots.

    Groups: posterior (x) and sample_stats (energy, acceptance_rate, diverging), with
    the axes chain, draw, event. energy is E(x), the potential energy; ArviZ's BFMI is
    meant for the total energy of Hamiltonian samplers and says nothing here.

    Args:
        draws: what `sample(..., keep="all")` returns.
        names: of the dimensions of the flattened event; x then has one axis with these.

    Returns:
        An xarray `DataTree` (ArviZ 1) or an `InferenceData` (ArviZ 0).

    Raises:
        ImportError: ArviZ is not installed; it is not among the dependencies.
        InputError: names that do not fit.
    """
    try:
        import arviz  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ, which is not installed: pip install arviz") from error
    x = _chain_first(draws.kept)
    options: dict[str, Any] = {}
    if names is not None:
        labels = dimension_names(tuple(draws.kept.shape[2:]), names)
        x = x.reshape(*x.shape[:2], -1)
        options = {"coords": {"dimension": labels}, "dims": {"x": ["dimension"]}}
    info = draws.info
    statistics = {"energy": info.energy, "acceptance_rate": info.acceptance, "diverging": info.divergent}
    groups = {"posterior": {"x": x}, "sample_stats": {key: _chain_first(value) for key, value in statistics.items()}}
    if int(arviz.__version__.split(".")[0]) < 1:
        return arviz.from_dict(**groups, **options)
    return arviz.from_dict(groups, **options)


def _chain_first(kept: Tensor) -> np.ndarray:
    return kept.detach().transpose(0, 1).cpu().numpy()
