"""Minimum probability flow: how fast probability would leave the data."""

from torch import Tensor

from energeia.objectives.sites import SiteScore


class MinimumProbabilityFlow(SiteScore):
    """sum over x' one change of a site away from x of exp((E(x) - E(x')) / 2): minimum probability flow.

    The rate at which dynamics with equilibrium p, moving along one changed site with rates
    exp((E(x) - E(x')) / 2), carry probability away from the data.

    Args:
        num_sites: sites taken at every update (see `SiteScore`); None takes all.

    All neighbours count, whether or not they are rows of the data too. (The derivation leaves
    out flow between rows, which cancels; a data set that held every state would then say nothing. With
    all of them, each conditional is scored by sum of sqrt(p(other) / p(x_i)), which is proper.)

    Consistent, and convex where E is linear in its parameters. The exponential punishes a row that the
    model finds most unlikely without bound: outliers and wrong models weigh more than in
    `PseudoLikelihood`, and from a bad start it may overflow; begin at small weights.

    Reference: Sohl-Dickstein, Battaglino & DeWeese (2011), New method for parameter estimation in
    probabilistic models: minimum probability flow. https://arxiv.org/abs/0906.4779

    >>> import torch, energeia as en
    >>> coin = en.Independent(en.Binary(1), torch.tensor([2.0]))
    >>> loss = en.MinimumProbabilityFlow()(coin, en.Batch(torch.ones(1, 1)), torch.Generator())
    >>> round(float(loss.value), 4)  # exp(-1)
    0.3679
    """

    def score(self, log_odds: Tensor) -> Tensor:
        """Square roots of the odds of all other states."""
        return (log_odds / 2).exp().sum(2)
