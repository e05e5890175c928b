"""Bregman divergences between density ratios: what a contrast between data and noise can be scored with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.errors import check_finite


class Bregman(ABC):
    """A separable Bregman divergence from p_data / (nu q) to u = p / (nu q), under nu q.

    With a strictly convex Psi it is, up to a constant,
    E_data[-Psi'(u)] + nu E_q[u Psi'(u) - Psi(u)], least where p = p_data whatever q is, if q > 0 where p_data is. A
    subclass gives the two parts as functions of log u; frozen dataclasses of hyperparameters.

    Reference: Gutmann & Hirayama (2011), Bregman divergence as general framework to estimate unnormalized statistical
    models, https://arxiv.org/abs/1202.3727
    """

    @abstractmethod
    def at_data(self, log_u: Tensor) -> Tensor:
        """-Psi'(u), what a row of data costs."""

    @abstractmethod
    def at_noise(self, log_u: Tensor) -> Tensor:
        """u Psi'(u) - Psi(u), what a row of noise costs."""


@dataclass(frozen=True)
class Logistic(Bregman):
    """Psi(u) = u log u - (1 + u) log(1 + u): noise contrast proper, the log-loss of telling data from noise.

    Of all weightings of the rows that with the least variance in the limit of many (Qin 1998,
    https://doi.org/10.1093/biomet/85.3.619), and one that a single row cannot blow up: its weight lies between 0 and 1.

    Reference: Gutmann & Hyvarinen (2012), https://jmlr.org/papers/v13/gutmann12a.html
    """

    def at_data(self, log_u: Tensor) -> Tensor:
        """log(1 + 1 / u)."""
        return torch.nn.functional.softplus(-log_u, threshold=40)

    def at_noise(self, log_u: Tensor) -> Tensor:
        """log(1 + u)."""
        return torch.nn.functional.softplus(log_u, threshold=40)


@dataclass(frozen=True)
class Power(Bregman):
    """Psi(u) = u^(a + 1) / (a (a + 1)): rows weigh u^a at data and u^(a + 1) at noise.

    Args:
        exponent: a. Four of them have names:

            0: -log u and u. With the best log Z, maximum likelihood with Z by importance sampling from the noise
                (Geyer 1994); its variance is infinite where the tails of the noise are lighter than those of the data.
            1: -u and u^2 / 2. Least squares between the ratios (Kanamori, Hido & Sugiyama 2009): the fit is best
                where data are many and noise is scarce, which makes it restless.
            -1: 1 / u and log u. The reverse of importance sampling (Pihlaja, Gutmann & Hyvarinen 2010): data that
                the model finds unlikely weigh without bound.
            -1/2: 2 / sqrt(u) and 2 sqrt(u), the exponential loss of boosting: even-handed, and its
                surface is easier to descend than that of the logistic loss where noise is far from data (Liu,
                Rosenfeld, Ravikumar & Risteski 2022, https://arxiv.org/abs/2110.11271).

    Weights are powers of the ratio and not bounded: start near the data, with noise that covers them. With nu noise
    rows the loss as a whole is nu^-a times that of one.

    Reference: Pihlaja, Gutmann & Hyvarinen (2010), A family of computationally efficient and simple estimators for
    unnormalized statistical models, https://arxiv.org/abs/1203.3506
    """

    exponent: float = 0.0

    def __post_init__(self) -> None:
        check_finite("Power", exponent=self.exponent)

    def at_data(self, log_u: Tensor) -> Tensor:
        """-u^a / a; -log u for a = 0."""
        a = self.exponent
        return -log_u if a == 0 else -(a * log_u).exp() / a

    def at_noise(self, log_u: Tensor) -> Tensor:
        """u^(a + 1) / (a + 1); log u for a = -1."""
        a = self.exponent
        return log_u if a == -1 else ((a + 1) * log_u).exp() / (a + 1)
