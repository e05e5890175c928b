"""Correlated Gaussians and mixtures of them."""

import math

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.record import LogZ
from energeia.core.space import Real
from energeia.energies.truth import Moments


class CorrelatedGaussian(Energy):
    """E(x) = (x - mean)' C^-1 (x - mean) / 2 on `Real(d)`, for any covariance C.

    Args:
        covariance: C `[d, d]`, symmetric and positive definite; its dtype is the energy's.
        mean: a number or `[d]`.

    log Z = (d log 2 pi + log det C) / 2. Has the capabilities `Tractable` and `KnownMoments`.
    C is factored once, in float64: C = L L' and E = |L^-1 (x - mean)|^2 / 2, so an
    energy costs one product with a d by d matrix, and its error in float32 grows with
    the root of the condition number only. Chains start from normals as wide as the
    root mean square of the standard deviations.

    Raises:
        InputError: C is not square, symmetric and positive definite.

    >>> import torch
    >>> energy = CorrelatedGaussian(torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    >>> energy(torch.tensor([[1.0, 0.0]]))
    tensor([0.2857])
    """

    mean: Tensor
    whitener: Tensor
    offset: Tensor
    factor: Tensor

    def __init__(self, covariance: Tensor, *, mean: float | Tensor = 0.0) -> None:
        _check_covariance(covariance, "CorrelatedGaussian", 2)
        exact = covariance.double()
        super().__init__(Real(len(covariance), exact.diagonal().mean().sqrt().item()))
        centre = torch.as_tensor(mean, dtype=torch.float64, device=covariance.device).expand(len(covariance))
        factor, whitener, self._log_z = _factor(exact)
        for name, value in (
            ("mean", centre),
            ("factor", factor),
            ("whitener", whitener),
            ("offset", -(whitener @ centre)),
        ):
            self.register_buffer(name, value.to(covariance.dtype).clone())

    @classmethod
    def equicorrelated(cls, num_dims: int, *, rho: float, dtype: torch.dtype = torch.float32) -> "CorrelatedGaussian":
        """Unit variances and the same correlation rho between all, -1 / (d - 1) < rho < 1.

        Condition number (1 + (d - 1) rho) / (1 - rho) for rho >= 0.
        """
        check_count("CorrelatedGaussian.equicorrelated", num_dims=num_dims)
        covariance = torch.full((num_dims, num_dims), float(rho), dtype=torch.float64)
        return cls(covariance.fill_diagonal_(1.0).to(dtype))

    @classmethod
    def autoregressive(cls, num_dims: int, *, rho: float, dtype: torch.dtype = torch.float32) -> "CorrelatedGaussian":
        """A stationary AR(1) path: C_ij = rho^|i - j|, -1 < rho < 1.

        Condition number up to ((1 + |rho|) / (1 - |rho|))^2.
        """
        check_count("CorrelatedGaussian.autoregressive", num_dims=num_dims)
        index = torch.arange(num_dims, dtype=torch.float64)
        return cls((float(rho) ** (index[:, None] - index).abs()).to(dtype))

    @classmethod
    def ill_conditioned(
        cls, num_dims: int, *, condition: float, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> "CorrelatedGaussian":
        """Variances evenly spaced in the logarithm from 1 / condition to 1, in a random orthonormal frame.

        Args:
            num_dims: d.
            condition: ratio of the largest to the smallest variance, >= 1.
            seed: of the frame, which is uniform over all rotations and reflections.
            dtype: of the energy. Beyond a condition near 10^6 float32 cannot hold C.
        """
        check_count("CorrelatedGaussian.ill_conditioned", num_dims=num_dims)
        if not 1 <= condition < math.inf:
            raise InputError(f"CorrelatedGaussian: condition is the ratio of two variances, >= 1, got {condition}")
        generator = torch.Generator().manual_seed(seed)
        basis, upper = torch.linalg.qr(torch.randn(num_dims, num_dims, generator=generator, dtype=torch.float64))
        basis = basis * upper.diagonal().sign()
        variance = torch.logspace(-math.log10(condition), 0, num_dims, dtype=torch.float64)
        covariance = (basis * variance) @ basis.T
        return cls(((covariance + covariance.T) / 2).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return torch.nn.functional.linear(x, self.whitener, self.offset).square().sum(1) / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        return LogZ.exact(torch.tensor(self._log_z, dtype=torch.float64, device=self.mean.device), "Gaussian integral")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, d]`."""
        return self.mean + _normals(num_chains, self.mean, generator) @ self.factor.T

    def truth(self) -> Moments:
        """The mean and the diagonal of C."""
        return Moments(self.mean.double(), self.factor.double().square().sum(1))


class GaussianMixture(Energy):
    """E(x) = -log sum_k w_k det(C_k)^(-1/2) exp(-(x - m_k)' C_k^-1 (x - m_k) / 2) on `Real(d)`.

    Args:
        means: m `[K, d]`; its dtype is the energy's.
        covariances: C `[K, d, d]`, each symmetric and positive definite.
        weights: probabilities of the components `[K]`, > 0; they are divided by their sum.

    log Z = d / 2 log 2 pi. Has the capabilities `Tractable` and `KnownMoments`. All
    components are evaluated together: one product of x with a d by K d matrix, and a
    logsumexp. Unlike `any_of`, the weights are the shares of the components. Chains
    start from normals as wide as the mixture.

    >>> import torch
    >>> means, weights = torch.tensor([[-2.0], [3.0]]), torch.tensor([0.3, 0.7])
    >>> mixture = GaussianMixture(means, torch.ones(2, 1, 1), weights)
    >>> mixture.truth().mean
    tensor([1.5000], dtype=torch.float64)
    """

    means: Tensor
    factors: Tensor
    weights: Tensor
    whitener: Tensor
    offset: Tensor
    log_heights: Tensor

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor) -> None:
        _check_covariance(covariances, "GaussianMixture", 3)
        num_components, num_dims = covariances.shape[:2]
        if means.shape != (num_components, num_dims) or weights.shape != (num_components,):
            raise InputError(
                f"GaussianMixture: covariances {list(covariances.shape)} need means [{num_components}, {num_dims}] and "
                f"weights [{num_components}], got {list(means.shape)} and {list(weights.shape)}"
            )
        if not bool(((weights > 0) & weights.isfinite()).all()):
            raise InputError(f"GaussianMixture: weights must be positive and finite, got {weights.tolist()}")
        exact, share = means.double(), weights.double() / weights.double().sum()
        parts = [_factor(covariance) for covariance in covariances.double()]
        factors, whiteners = torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])
        log_heights = share.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1)
        spread = _mixture_moments(share, exact, covariances.double()).variance + (share @ exact).square()
        super().__init__(Real(num_dims, spread.mean().sqrt().item()))
        for name, value in (
            ("means", exact),
            ("factors", factors),
            ("weights", share),
            ("whitener", whiteners.flatten(0, 1)),
            ("offset", -(whiteners @ exact.unsqueeze(2)).flatten(0, 1)),
            ("log_heights", log_heights.unsqueeze(1)),
        ):
            self.register_buffer(name, value.to(means.dtype).clone())

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return -self.log_components(x).logsumexp(0)

    def log_components(self, x: Tensor) -> Tensor:
        """log w_k N(x; m_k, C_k) + d / 2 log 2 pi of every component, `[K, B]`: E(x) is minus their logsumexp."""
        # Chains last: the short sums over d and K then run along memory.
        if torch.compiler.is_compiling() and x.shape[1] <= 4:
            # A few terms written out join the rest in one kernel, which a matrix product cannot.
            white = self.offset
            for dimension in range(x.shape[1]):
                white = white + self.whitener[:, dimension, None] * x[:, dimension]
        else:
            white = torch.addmm(self.offset, self.whitener, x.T)
        white = white.view(*self.means.shape, len(x))
        return self.log_heights - white.square().sum(1) / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        value = self.space.num_dims * math.log(2 * math.pi) / 2
        return LogZ.exact(torch.tensor(value, dtype=torch.float64, device=self.means.device), "Gaussian integrals")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, d]`."""
        which = torch.multinomial(self.weights, num_chains, replacement=True, generator=generator)
        return self.draw(which, generator)

    def draw(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from each of the components numbered `[num_chains]`: `[num_chains, d]`."""
        noise = _normals(len(which), self.means[0], generator)
        return self.means[which] + torch.einsum("bij,bj->bi", self.factors[which], noise)

    def truth(self) -> Moments:
        """Mean and variance of the mixture."""
        factors = self.factors.double()
        return _mixture_moments(self.weights.double(), self.means.double(), factors @ factors.mT)


def four_gaussians(*, dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """The mixture of the benchmarks: four Gaussians in the plane with shares .1, .2, .3, .4.

    Their centres are 5 to 7 apart and their standard deviations run from .5 to 1.3, two
    of them tilted: a chain of small steps hardly ever changes sides.
    """
    means = torch.tensor([[-3.0, -2.5], [3.0, -3.0], [2.5, 3.5], [-3.5, 3.0]], dtype=dtype)
    covariances = torch.tensor(
        [[[0.25, 0.0], [0.0, 0.25]], [[1.0, 0.6], [0.6, 0.8]], [[0.5, 0.0], [0.0, 1.6]], [[1.2, -0.7], [-0.7, 0.9]]],
        dtype=dtype,
    )
    return GaussianMixture(means, covariances, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype))


def _check_covariance(covariance: Tensor, who: str, num_axes: int) -> None:
    shape = list(covariance.shape)
    if covariance.dim() != num_axes or shape[-1] != shape[-2] or not covariance.is_floating_point():
        expected = "[d, d]" if num_axes == 2 else "[K, d, d]"
        raise InputError(f"{who}: a floating covariance {expected} is needed, got {shape} {covariance.dtype}")
    tolerance = 100 * torch.finfo(covariance.dtype).eps * covariance.abs().max()
    if not bool((covariance - covariance.mT).abs().max() <= tolerance):
        raise InputError(f"{who}: the covariance is not symmetric, or not finite")


def _factor(covariance: Tensor) -> tuple[Tensor, Tensor, float]:
    """L with C = L L', its inverse, and log Z of the Gaussian; for C in float64."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed):
        least = torch.linalg.eigvalsh(covariance).min().item()
        raise InputError(
            f"the covariance is not positive definite: its least eigenvalue is {least:.3g}; "
            "if it should be, build it in float64"
        )
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    whitener = torch.linalg.solve_triangular(factor, identity, upper=False)
    log_z = len(covariance) * math.log(2 * math.pi) / 2 + factor.diagonal().log().sum().item()
    return factor, whitener, log_z


def _mixture_moments(share: Tensor, means: Tensor, covariances: Tensor) -> Moments:
    mean = share @ means
    second = share @ (covariances.diagonal(dim1=1, dim2=2) + means.square())
    return Moments(mean, second - mean.square())


def _normals(num_chains: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(num_chains, *like.shape, generator=generator, dtype=like.dtype, device=like.device)
