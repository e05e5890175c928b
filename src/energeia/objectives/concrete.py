"""Concrete score matching: score matching for bits, spins and categories."""

import torch
from torch import Tensor

from energeia.objectives.sites import SiteScore


class ConcreteScoreMatching(SiteScore):
    """sum over neighbours y of x, which differ at one site, of (r - 1)^2 / 2 + (r - 1) - (1/r - 1), r = p(y) / p(x).

    r - 1 is the concrete score of x towards y, in place of a derivative, and the sum is E (r - r_data)^2 / 2
    up to a constant, as y is a neighbour of x where x is one of y.

    Args:
        num_sites: sites taken at every update (see `SiteScore`); None takes all.

    Consistent. The ratios are not bounded: a row that the model finds far less likely than a neighbour of it
    costs (p(y) / p(x))^2, and one such row can rule a batch. Clip the gradient, begin at small weights, or take
    `RatioMatching`, which is bounded. Cost as for `PseudoLikelihood`.

    Reference: Meng, Choi, Song & Ermon (2022), Concrete score matching: generalized score matching for discrete data,
    https://arxiv.org/abs/2211.00802

    >>> import torch, energeia as en
    >>> coin = en.Independent(en.Binary(1), torch.tensor([0.0]))
    >>> float(en.ConcreteScoreMatching()(coin, en.Batch(torch.ones(1, 1)), torch.Generator()).value)
    0.0
    """

    def score(self, log_odds: Tensor) -> Tensor:
        """The sum over the other states of a site."""
        return (torch.expm1(log_odds).square() / 2 + torch.expm1(log_odds) - torch.expm1(-log_odds)).sum(2)
