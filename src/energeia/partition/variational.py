"""log p(x) >= -F(x) - log Z of models whose hidden layers cannot be summed out."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy, Tractable, Variational, require
from energeia.core.errors import check_count
from energeia.core.record import LogZ
from energeia.partition.ais import Levels
from energeia.partition.bracket import bracket

_FITTED = 2000


class VariationalBound(NamedTuple):
    """Lower bounds of log p of rows, in nats.

    values: -F(x) - log Z for each row, `[B]`, float64, log Z being the middle of its interval.
    mean: of the rows. low, high: the mean with log Z at the ends of its interval (`bracket`); equal where log Z
        is exact. Only low is meant as a bound.
    log_z: the estimates used: one that is exact, or one from below and one from above.
    method: how log Z was got, in words.
    """

    values: Tensor
    mean: float
    low: float
    high: float
    log_z: tuple[LogZ, ...]
    method: str


def variational_bound(
    energy: Energy,
    x: Tensor,
    *,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    generator: torch.Generator | int = 0,
) -> VariationalBound:
    """A lower bound of log p(x) of rows under a deep model: `DBM` or `DBN`.

    F(x) >= E(x) is that of mean field (`DBM`) or of one draw from the recognition weights for each row (`DBN`: its
    values are bounds on average, its mean over many rows is one). Log Z is exact where the undirected part
    is small, else annealed from below and from above as in `log_likelihood`.

    Args:
        energy: a model with `Variational`.
        x: rows `[B, *event]`, held out from training.
        num_chains, levels: effort of annealing (`ais`, `reverse_ais`).
        num_steps: of the chains whose ends the annealing from above starts from; they begin near the posterior of x.
        generator: random numbers, or a seed for them.

    How far the bound lies below log p(x) is KL(q || p(h|x)), which is not known.

    Reference: Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks,
    https://doi.org/10.1145/1390156.1390266; Salakhutdinov & Hinton (2009), Deep Boltzmann machines.

    >>> import torch, energeia as en
    >>> dbm = en.DBM(6, (4, 3))
    >>> found = en.variational_bound(dbm, torch.ones(2, 6))
    >>> found.method, round(found.mean)
    ('enumeration of the hidden units', -4)
    """
    model = require(
        energy, Variational, who="variational_bound", instead="use en.log_likelihood, E(x) being in closed form"
    )
    check_count("variational_bound", num_chains=num_chains, num_steps=num_steps)
    energy.space.check(x)
    if isinstance(generator, int):
        generator = torch.Generator(x.device).manual_seed(generator)
    with torch.no_grad():
        minus = torch.cat([model.variational_energy(part, generator).double() for part in x.split(1000)])
    part = model.undirected
    rows = x
    if part.capability(Tractable) is None:
        choice = torch.randint(len(x), (max(num_chains, min(_FITTED, len(x))),), generator=generator, device=x.device)
        rows = model.draw_latent(x[choice], generator)
    found = bracket(part, rows, num_chains=num_chains, levels=levels, num_steps=num_steps, generator=generator)
    values = -minus - (found.low + found.high) / 2
    mean, half = float(values.mean()), float(found.high - found.low) / 2
    return VariationalBound(values, mean, mean - half, mean + half, found.estimates, found.method)
