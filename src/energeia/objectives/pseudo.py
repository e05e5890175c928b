"""Pseudo-likelihood: every site predicted from all others."""

from torch import Tensor

from energeia.objectives.sites import SiteScore, surprise


class PseudoLikelihood(SiteScore):
    """-sum_i log p(x_i | all other x), in nats a row: maximum pseudo-likelihood.

    Args:
        num_sites: sites taken at every update (see `SiteScore`); None takes all.

    Consistent, unbiased but for finite data, convex where E is linear in its parameters (Ising,
    Potts, Boltzmann machines: a logistic regression for each site with shared couplings). Of the
    three scores of sites it is nearest to maximum likelihood for weak couplings and loses most
    where correlations are long. It is not a bound on the likelihood and no measure of a model:
    one that copies neighbours well scores well, whatever its samples look like.

    CD-1 with one site drawn at random has this gradient on average, divided by N (Hyvarinen 2006).

    Reference: Besag (1975), Statistical analysis of non-lattice data,
    https://doi.org/10.2307/2987782; Hyvarinen (2006), Consistency of pseudolikelihood estimation of
    fully visible Boltzmann machines, https://doi.org/10.1162/neco.2006.18.10.2283

    >>> import torch, energeia as en
    >>> ising = en.Ising(2, [(0, 1)], couplings=1.0)
    >>> agree = en.Batch(torch.ones(1, 2))
    >>> loss = en.PseudoLikelihood()(ising, agree, torch.Generator())
    >>> round(loss.value.item(), 4)  # 2 log(1 + exp(-2))
    0.2539
    """

    def score(self, log_odds: Tensor) -> Tensor:
        """-log p(x_i | rest)."""
        return surprise(log_odds)
