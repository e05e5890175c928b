"""Ratio matching: the Brier score of every site given all others."""

import torch
from torch import Tensor

from energeia.objectives.sites import SiteScore, surprise


class RatioMatching(SiteScore):
    """sum_i g(p(x) / p(x with bit i flipped))^2 with g(u) = 1 / (1 + u): ratio matching.

    As g = 1 - p(x_i | rest), that is the Brier score of all conditionals. For K categories it is
    sum_k ([x_i = k] - p(k | rest))^2 / 2, which for two is the same.

    Args:
        num_sites: sites taken at every update (see `SiteScore`); None takes all.

    Consistent. Not convex: g is flat where a bit is predicted confidently and wrongly, so such rows
    hardly count: robust to them, but learning from a bad start is slow; begin at small weights.
    Cost as for `PseudoLikelihood`.

    Reference: Hyvarinen (2007), Some extensions of score matching,
    https://doi.org/10.1016/j.csda.2006.09.003 (binary); Marlin, Swersky, Chen & de Freitas (2010),
    Inductive principles for restricted Boltzmann machine learning.

    >>> import torch, energeia as en
    >>> coin = en.Independent(en.Binary(1), torch.tensor([0.0]))
    >>> float(en.RatioMatching()(coin, en.Batch(torch.ones(1, 1)), torch.Generator()).value)
    0.25
    """

    def score(self, log_odds: Tensor) -> Tensor:
        """Half the squared distance between the state, one-hot, and its probabilities."""
        surprised = surprise(log_odds)
        missed = torch.expm1(-surprised).square()
        return (missed + (2 * (log_odds - surprised.unsqueeze(2))).exp().sum(2)) / 2
