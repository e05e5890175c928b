"""log p(x) >= -F(x) - log Z of models whose hidden layers cannot be summed out."""

from typing import Unpack

import torch
from torch import Tensor

from energeia.core.energy import Energy, Variational, require
from energeia.partition.bracket import Effort
from energeia.partition.choose import is_exact, log_z
from energeia.partition.likelihood import LogLikelihood, with_log_z

_FITTED = 2000


def variational_bound(energy: Energy, x: Tensor, **effort: Unpack[Effort]) -> LogLikelihood:
    """A lower bound of log p(x) of rows under a deep model: `DBM` or `DBN`.

    F(x) >= E(x) is that of mean field (`DBM`) or of one draw from the recognition weights for each row (`DBN`: its
    values are bounds on average, its mean over many rows is one). Log Z is exact where the undirected part
    is small, else annealed from below and from above as in `log_likelihood`.

    Args:
        energy: a model with `Variational`.
        x: rows `[B, *event]`, held out from training.
        effort: as of `log_z`, for the annealing of log Z where it is not exact; chains from whose ends the annealing
            from above starts begin near the posterior of x.

    Returns:
        `LogLikelihood` whose values are lower bounds: -F(x) - log Z. Of its interval only low is meant as a bound.

    How far the bound lies below log p(x) is KL(q || p(h|x)), which is not known.

    Reference: Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks,
    https://doi.org/10.1145/1390156.1390266; Salakhutdinov & Hinton (2009), Deep Boltzmann machines.

    >>> import torch, energeia as en
    >>> dbm = en.DBM(6, (4, 3))
    >>> found = en.variational_bound(dbm, torch.ones(2, 6))
    >>> found.log_z.method, round(found.mean)
    ('enumeration of the hidden units', -4)
    """
    model = require(
        energy, Variational, who="variational_bound", instead="use en.log_likelihood, E(x) being in closed form"
    )
    generator = effort.get("generator", 0)
    energy.space.check(x)
    if isinstance(generator, int):
        generator = torch.Generator(x.device).manual_seed(generator)
    with torch.no_grad():
        minus = torch.cat([model.variational_energy(part, generator).double() for part in x.split(1000)])
    part = model.undirected
    rows = x
    if not is_exact(part):
        choice = torch.randint(
            len(x), (max(effort.get("num_chains", 100), min(_FITTED, len(x))),), generator=generator, device=x.device
        )
        rows = model.draw_latent(x[choice], generator)
    effort["generator"] = generator
    return with_log_z(minus, log_z(part, rows, **effort))
