"""Posterior densities of two standard Bayesian models, on unbounded coordinates."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Real
from energeia.energies.truth import Moments, Table, tabulate

_EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
_PRIOR_SCALE = 5.0


class SchoolParameters(NamedTuple):
    """mu `[...]`, tau `[...]` and the schools' effects theta `[..., 8]`."""

    mu: Tensor
    tau: Tensor
    theta: Tensor


class EightSchools(Energy):
    """The posterior of the eight schools model, not centred, on `Real(10)`.

    mu ~ N(0, 5^2), tau ~ half-Cauchy(0, 5), z_j ~ N(0, 1), y_j ~ N(mu + tau z_j, sigma_j^2),
    x = (mu, log tau, z_1, ..., z_8), with the Jacobian tau of the logarithm:

    E(x) = mu^2 / 50 + log(1 + tau^2 / 25) - log tau + |z|^2 / 2 + sum_j (y_j - mu - tau z_j)^2 / (2 sigma_j^2).

    Constant factors of the priors and of the likelihood are left out: Z is not the evidence.

    Given tau the rest is Gaussian, so log Z, the moments and the draws need one integral
    over log tau, done with the trapezoid rule in float64: E[mu] = 4.3968, E[tau] = 3.5977.
    Has the capabilities `Tractable` and `KnownMoments`; the draws' log tau comes from a
    table of 32,769 quantiles, right to better than 10^-6 in probability.

    References: Rubin (1981), Estimation in parallel randomized experiments,
    https://doi.org/10.3102/10769986006004377; Magnusson et al., posteriordb,
    eight_schools_noncentered, https://github.com/stan-dev/posteriordb

    >>> energy = EightSchools()
    >>> round(float(energy.truth().mean[0]), 2)
    4.4
    """

    effects: Tensor
    errors: Tensor

    def __init__(self) -> None:
        super().__init__(Real(10))
        self.register_buffer("effects", torch.tensor(_EFFECTS))
        self.register_buffer("errors", torch.tensor(_ERRORS))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        mu, log_tau, z = x[:, 0], x[:, 1], x[:, 2:]
        theta = mu.unsqueeze(1) + log_tau.exp().unsqueeze(1) * z
        misfit = ((self.effects - theta) / self.errors).square().sum(1) + z.square().sum(1)
        # log(1 + tau^2 / 25), which must not overflow before tau does.
        prior = torch.nn.functional.softplus(2 * (log_tau - math.log(_PRIOR_SCALE))) - log_tau
        return (mu / _PRIOR_SCALE).square() / 2 + prior + misfit / 2

    def parameters_of(self, x: Tensor) -> SchoolParameters:
        """mu, tau and theta of x `[..., 10]`, with any leading shape."""
        mu, tau = x[..., 0], x[..., 1].exp()
        return SchoolParameters(mu, tau, mu.unsqueeze(-1) + tau.unsqueeze(-1) * x[..., 2:])

    def log_z(self) -> LogZ:
        """log Z by quadrature over log tau, float64."""
        return LogZ.exact(self._table().log_z(), "Gaussian integrals, trapezoid rule over log tau")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, 10]`: log tau by inverted cumulative probability, then mu, then z."""
        device = self.effects.device
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64, device=device)
        noise = torch.randn(num_chains, 9, generator=generator, dtype=torch.float64, device=device)
        log_tau = self._table().quantile(uniform)
        precision, mean = self._mu_given(log_tau)
        mu = mean + noise[:, 0] / precision.sqrt()
        slope, variance = self._z_given(log_tau)
        z = slope * (self.effects.double() - mu.unsqueeze(1)) + variance.sqrt() * noise[:, 1:]
        return torch.cat([torch.stack([mu, log_tau], 1), z], 1).to(self.effects.dtype)

    def truth(self) -> Moments:
        """Of x = (mu, log tau, z), by quadrature over log tau, float64."""
        table = self._table()
        precision, centre = self._mu_given(table.grid)
        slope, variance = self._z_given(table.grid)
        centres = slope * (self.effects.double() - centre.unsqueeze(1))
        mean_given = torch.cat([torch.stack([centre, table.grid], 1), centres], 1)
        zero = torch.zeros_like(precision)
        spread = variance + slope.square() / precision.unsqueeze(1)
        variance_given = torch.cat([torch.stack([1 / precision, zero], 1), spread], 1)
        mean = table.mean(mean_given)
        return Moments(mean, table.mean(variance_given + (mean_given - mean).square()))

    def _mu_given(self, log_tau: Tensor) -> tuple[Tensor, Tensor]:
        """Precision and mean of mu given tau, z integrated out."""
        weight = 1 / (self.errors.double().square() + (2 * log_tau).exp().unsqueeze(1))
        precision = weight.sum(1) + 1 / _PRIOR_SCALE**2
        return precision, weight @ self.effects.double() / precision

    def _z_given(self, log_tau: Tensor) -> tuple[Tensor, Tensor]:
        """z_j given tau and mu has mean slope (y_j - mu) and this variance; each `[N, 8]`."""
        tau = log_tau.exp().unsqueeze(1)
        square = self.errors.double().square()
        return tau / (square + tau.square()), square / (square + tau.square())

    def _table(self) -> Table:
        """log tau, its density falling as tau to the left and as tau^-9 to the right."""
        grid = torch.linspace(-40, 12, 2**15 + 1, dtype=torch.float64, device=self.effects.device)
        precision, mean = self._mu_given(grid)
        _, variance = self._z_given(grid)
        weight = 1 / (self.errors.double().square() + (2 * grid).exp().unsqueeze(1))
        misfit = weight @ self.effects.double().square() - precision * mean.square()
        volume = 9 * math.log(2 * math.pi) - precision.log() + variance.log().sum(1)
        prior = grid - torch.nn.functional.softplus(2 * (grid - math.log(_PRIOR_SCALE)))
        return tabulate(grid, prior + (volume - misfit) / 2)


class LogisticRegression(Energy):
    """The posterior of a logistic regression: E(w) = sum_n log(1 + exp(-s_n w'(1, f_n))) + |w|^2 / (2 p^2).

    On `Real(1 + num_features)`, intercept first; s_n = 1 where the label is 1, else -1.

    Args:
        features: f `[N, num_features]`, best standardised; their dtype is the energy's.
        labels: `[N]`, of 0 and 1.
        prior_scale: p, > 0, standard deviation of the normal prior of every
            coefficient, the intercept included.

    log Z is the log evidence plus (1 + num_features) log(p sqrt(2 pi)). Neither it nor
    the moments are known in closed form, so no capability is offered. The energy is
    strictly convex. Cost: one product of the coefficients with the data.

    >>> import torch
    >>> energy = LogisticRegression(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1]))
    >>> energy(torch.zeros(1, 2))
    tensor([1.3863])
    """

    rows: Tensor

    def __init__(self, features: Tensor, labels: Tensor, *, prior_scale: float = 1.0) -> None:
        check_positive("LogisticRegression", prior_scale=prior_scale)
        if features.dim() != 2 or not features.is_floating_point() or not bool(features.isfinite().all()):
            raise InputError(
                f"LogisticRegression: features must be finite floats [N, num_features], got {list(features.shape)} "
                f"{features.dtype}"
            )
        if labels.shape != features.shape[:1] or not bool(((labels == 0) | (labels == 1)).all()):
            raise InputError(
                f"LogisticRegression: labels must be 0 or 1, one for each of {len(features)} rows, "
                f"got shape {list(labels.shape)} with values {labels.unique()[:5].tolist()}"
            )
        super().__init__(Real(1 + features.shape[1]))
        self.prior_scale = float(prior_scale)
        sign = 2 * labels.to(features).unsqueeze(1) - 1
        self.register_buffer("rows", sign * torch.cat([torch.ones_like(sign), features], 1))

    @classmethod
    def breast_cancer(cls, *, prior_scale: float = 1.0, dtype: torch.dtype = torch.float32) -> "LogisticRegression":
        """569 tumours with 30 features, standardised; 31 coefficients. Comes with scikit-learn: no download.

        Reference: Wolberg et al. (1993), Breast Cancer Wisconsin (Diagnostic), https://doi.org/10.24432/C5DW2B
        """
        from sklearn.datasets import load_breast_cancer  # here, as importing it takes a second

        table, labels = load_breast_cancer(return_X_y=True)
        features = torch.as_tensor(table, dtype=torch.float64)
        features = (features - features.mean(0)) / features.std(0, correction=0)
        return cls(features.to(dtype), torch.as_tensor(labels), prior_scale=prior_scale)

    def forward(self, x: Tensor) -> Tensor:
        """E(w) `[B]` of coefficients w `[B, 1 + num_features]`."""
        loss = torch.nn.functional.softplus(-(x @ self.rows.T)).sum(1)
        return loss + x.square().sum(1) / (2 * self.prior_scale**2)
