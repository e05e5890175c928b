"""log p(x) = -E(x) - log Z, with the interval that the estimate of log Z leaves."""

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


class LogLikelihood(NamedTuple):
    """log p of rows, in nats.

    values: -E(x) - log Z for each row, `[B]`, float64, log Z being the middle of its interval.
    mean: of the rows. low, high: the mean with log Z at the ends of its interval (95 % on
        each side: two standard errors beyond both estimates); equal where log Z is exact.
    log_z: the estimates used: one that is exact, or one from below and one from above.
    method: how log Z was got, in words.
    """

    values: Tensor
    mean: float
    low: float
    high: float
    log_z: tuple[LogZ, ...]
    method: str


def log_likelihood(
    energy: Energy,
    x: Tensor,
    *,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> LogLikelihood:
    """log p(x) of rows under a model, with log Z exact where it can be had, else bracketed.

    Args:
        energy: the model.
        x: rows `[B, *event]`, held out from training.
        num_chains, levels: effort of annealing (`ais`, `reverse_ais`), where log Z is not exact.
        num_steps: of the chains whose ends the annealing from above starts from; they begin at x.
        generator: random numbers, or a seed for them.

    Returns:
        `LogLikelihood`. Where log Z is estimated, the lower estimate is that of `ais` and the
        upper one that of `reverse_ais`, whose draws are chains begun at rows of x: an upper
        bound only as far as those chains have mixed.

    >>> import torch, energeia as en
    >>> rbm = en.RBM(6, 4)
    >>> found = en.log_likelihood(rbm, torch.ones(2, 6))
    >>> found.method, round(found.mean)
    ('enumeration of the hidden units', -4)
    """
    check_count("log_likelihood", num_chains=num_chains, num_steps=num_steps)
    energy.space.check(x)
    with torch.no_grad():
        minus = torch.cat([energy(part).double() for part in x.split(10_000)])
    if energy.capability(Tractable) is not None:
        exact = exact_log_z(energy)
        values = -minus - exact.value
        mean = float(values.mean())
        return LogLikelihood(values, mean, mean, mean, (exact,), str(exact.details["method"]))
    if len(x) < 2:
        raise InputError("log_likelihood: give at least two rows, from which annealing starts")
    if isinstance(generator, int):
        generator = torch.Generator(x.device).manual_seed(generator)
    base = fitted_base(energy.space, x)
    lower = ais(energy, base=base, num_chains=num_chains, levels=levels, generator=generator)
    start = x[torch.randint(len(x), (num_chains,), generator=generator, device=x.device)]
    chains = sample(
        energy, default_sampler(energy), start=start, num_steps=num_steps, generator=generator, progress=False
    ).x
    upper = reverse_ais(energy, chains, base=base, levels=levels, generator=generator)
    low, high = sorted((lower.value - 2 * lower.standard_error, upper.value + 2 * upper.standard_error))
    values = -minus - (low + high) / 2
    mean_energy = float(-minus.mean())
    method = f"annealed importance sampling both ways, {num_chains} chains, {lower.details['num_levels']} levels"
    return LogLikelihood(
        values, float(values.mean()), mean_energy - float(high), mean_energy - float(low), (lower, upper), method
    )
