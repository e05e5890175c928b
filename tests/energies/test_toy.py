import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import energeia as en
from energeia import energies as e
from energeia import testing
from energeia.energies.truth import tabulate

DOUBLE = torch.float64
TARGETS = {
    "equicorrelated": lambda: e.CorrelatedGaussian.equicorrelated(5, rho=-0.2, dtype=DOUBLE),
    "autoregressive": lambda: e.CorrelatedGaussian.autoregressive(4, rho=0.9, dtype=DOUBLE),
    "ill-conditioned": lambda: e.CorrelatedGaussian.ill_conditioned(6, condition=1e4, seed=2, dtype=DOUBLE),
    "plane": lambda: e.CorrelatedGaussian(
        torch.tensor([[2.0, -0.6], [-0.6, 0.5]], dtype=DOUBLE), mean=torch.tensor([1.0, -3.0])
    ),
    "mixture": lambda: e.four_gaussians(dtype=DOUBLE),
    "Banana": lambda: e.Banana(curvature=0.1, scale=3.0),
    "Funnel": lambda: e.Funnel(3, scale=1.2),
    "DoubleWell": lambda: e.DoubleWell(2, barrier=3.0, tilt=0.4),
    "Ring": lambda: e.Ring(radius=2.0, width=0.7),
    "Rosenbrock": lambda: e.Rosenbrock(a=0.8, b=2.0),
    "Rosenbrock-hybrid": lambda: e.Rosenbrock(2, 3, a=2.0, b=4.0, mu=0.7),
    "Phi4": lambda: e.Phi4(4, mass_squared=0.7),
    "EightSchools": e.EightSchools,
}
COUPLED = {
    "Phi4-coupled": lambda: e.Phi4(3, mass_squared=-1.5, coupling=0.4),
    "LogisticRegression": lambda: e.LogisticRegression.breast_cancer(prior_scale=2.0, dtype=DOUBLE),
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", [*TARGETS, *COUPLED])
def test_energy_is_sound(name):
    testing.check_energy(({**TARGETS, **COUPLED}[name]()).double())


def _by_quadrature(energy, first, centre, width):
    """log Z, mean and variance in the plane, by the trapezoid rule along x1 and across x2 = centre + width u."""
    u = torch.linspace(-14, 14, 561, dtype=DOUBLE)
    x = torch.stack([first[:, None].expand(-1, len(u)), centre(first)[:, None] + width(first)[:, None] * u], 2)
    log_area = (width(first) * (first[1] - first[0]) * (u[1] - u[0])).log()[:, None]
    log_weight = log_area - energy.double()(x.flatten(0, 1)).view(x.shape[:2])
    share = log_weight.flatten().softmax(0)
    mean = share @ x.flatten(0, 1)
    return log_weight.flatten().logsumexp(0), mean, share @ (x.flatten(0, 1) - mean).square()


PLANE = {
    "gaussian": (TARGETS["plane"], 12.0, torch.zeros_like, torch.ones_like),
    "mixture": (TARGETS["mixture"], 14.0, torch.zeros_like, torch.ones_like),
    "banana": (lambda: e.Banana(), 120.0, lambda x: -0.03 * (x**2 - 100), torch.ones_like),
    "funnel": (lambda: e.Funnel(2), 45.0, torch.zeros_like, lambda v: (v / 2).exp()),
    "well": (TARGETS["DoubleWell"], 4.0, torch.zeros_like, lambda x: torch.full_like(x, 0.25)),
    "ring": (TARGETS["Ring"], 12.0, torch.zeros_like, torch.ones_like),
    "rosenbrock": (lambda: e.Rosenbrock(), 45.0, torch.square, lambda x: torch.full_like(x, 0.3)),
}


@pytest.mark.parametrize("name", PLANE)
def test_log_z_and_moments_by_quadrature(name):
    make, edge, centre, width = PLANE[name]
    energy = make()
    first = torch.linspace(-edge, edge, 1601, dtype=DOUBLE)
    log_z, mean, variance = _by_quadrature(energy, first, centre, width)
    # The ring has a kink at the origin.
    tolerance = 1e-4 if name == "ring" else 1e-8
    assert energy.log_z().value.item() == pytest.approx(log_z.item(), abs=tolerance)
    truth = energy.truth()
    torch.testing.assert_close(truth.mean, mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(truth.variance, variance, rtol=tolerance, atol=tolerance)


def test_ring_around_its_kink_in_polar_coordinates():
    energy = e.Ring(radius=0.6, width=0.5).double()

    def density(rho, power):
        return 2 * math.pi * rho**power * math.exp(-energy(torch.tensor([[rho, 0.0]], dtype=DOUBLE)).item())

    area, square = (integrate.quad(density, 0, 8, args=(power,), epsabs=1e-12)[0] for power in (1, 3))
    assert energy.log_z().value.item() == pytest.approx(math.log(area), abs=1e-10)
    assert energy.truth().variance[1].item() == pytest.approx(square / area / 2, rel=1e-10)
    gradient = en.value_and_gradient(energy, torch.zeros(1, 2, dtype=DOUBLE))[1]
    assert not bool(gradient.any())


def test_standard_deviations_of_the_literature():
    banana, funnel = e.Banana().truth(), e.Funnel(10).truth()
    assert banana.variance.sqrt().tolist() == pytest.approx([10, 4.3589], abs=5e-5)
    assert funnel.variance.sqrt().tolist() == pytest.approx([3] + 9 * [9.4877], abs=5e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_exact_draws_have_the_moments(name):
    energy = TARGETS[name]().double()
    assert isinstance(energy.capability(e.KnownMoments), type(energy))
    num, truth = 200_000, energy.truth()
    x = energy.sample_exact(num, _generator(1))
    assert x.dtype == DOUBLE
    assert x.shape == (num, *energy.space.event_shape)
    assert bool(((x.mean(0) - truth.mean).abs() < 5 * (truth.variance / num).sqrt()).all())
    square = (x - truth.mean).square()
    assert bool(((square.mean(0) - truth.variance).abs() < 5 * (square.var(0) / num).sqrt()).all())


def _cumulative(log_density, low, high):
    """A cumulative distribution by Simpson's rule, independent of the tables of the library."""
    grid = torch.linspace(low, high, 20_001, dtype=DOUBLE)
    area = integrate.cumulative_simpson(log_density(grid).exp().numpy(), x=grid.numpy(), initial=0)
    return lambda x: np.interp(x, grid.numpy(), area / area[-1])


def test_exact_draws_have_the_distribution():
    """Kolmogorov-Smirnov tests of marginals and of whitened coordinates."""
    num, generator = 200_000, _generator(2)
    gaussian = e.CorrelatedGaussian.ill_conditioned(6, condition=1e3, dtype=DOUBLE)
    mixture, banana, funnel = (make().double() for make in (e.four_gaussians, e.Banana, lambda: e.Funnel(2)))
    well, ring = e.DoubleWell(1, barrier=3.0, tilt=0.4).double(), e.Ring(radius=1.0, width=0.5).double()
    valley = e.Rosenbrock(length=3).double()
    x = {energy: energy.sample_exact(num, generator).double() for energy in (gaussian, mixture, banana, funnel, valley)}

    def share(points):
        deviations = mixture.factors[:, 0, 0].double().numpy()
        parts = stats.norm(mixture.means[:, 0].numpy(), deviations).cdf(points[:, None])
        return parts @ mixture.weights.double().numpy()

    bent, curve = x[banana], x[valley]
    cases = [
        (2 * gaussian(x[gaussian]), stats.chi2(6).cdf),
        (x[mixture][:, 0], share),
        (bent[:, 1] + 0.03 * (bent[:, 0] ** 2 - 100), stats.norm.cdf),
        (x[funnel][:, 1] * (-x[funnel][:, 0] / 2).exp(), stats.norm.cdf),
        (curve[:, 2] - curve[:, 1] ** 2, stats.norm(0, math.sqrt(0.1)).cdf),
        (curve[:, 0], stats.norm(1, math.sqrt(10)).cdf),
        (well.sample_exact(num, generator)[:, 0], _cumulative(lambda t: -3 * (t**2 - 1) ** 2 - 0.4 * t, -4, 4)),
        (ring.sample_exact(num, generator).norm(dim=1), _cumulative(lambda t: t.log() - 2 * (t - 1) ** 2, 0, 7)),
        (torch.atan2(*ring.sample_exact(num, generator).T), stats.uniform(-math.pi, 2 * math.pi).cdf),
    ]
    for number, (values, cumulative) in enumerate(cases):
        assert stats.kstest(values.numpy(), cumulative).pvalue > 1e-6, number


@pytest.mark.parametrize("num_nodes", [301, 2**15 + 1])
def test_quantiles_are_as_right_as_the_table_says(num_nodes):
    grid = torch.linspace(-10, 10, num_nodes, dtype=DOUBLE)
    table = tabulate(grid, -grid.square() / 2)
    uniform = torch.rand(20_000, generator=_generator(), dtype=DOUBLE)
    off = torch.from_numpy(stats.norm.cdf(table.quantile(uniform).numpy())) - uniform
    assert off.abs().max() < (20 / num_nodes) ** 2
    ends = table.quantile(torch.tensor([0.0, 1.0], dtype=DOUBLE))
    assert bool((ends.abs() <= 10).all())
    assert table.log_z().item() == pytest.approx(math.log(2 * math.pi) / 2, abs=1e-12)
    assert table.mean(grid.square()).item() == pytest.approx(1, abs=1e-12)


def test_correlated_gaussians_are_those_of_their_names():
    """Energy, spectrum and log Z against the covariance itself."""
    index = torch.arange(7, dtype=DOUBLE)
    covariances = {
        e.CorrelatedGaussian.equicorrelated(7, rho=0.6, dtype=DOUBLE): 0.4 * torch.eye(7, dtype=DOUBLE) + 0.6,
        e.CorrelatedGaussian.autoregressive(7, rho=-0.5, dtype=DOUBLE): (-0.5) ** (index[:, None] - index).abs(),
    }
    x = torch.randn(5, 7, generator=_generator(), dtype=DOUBLE)
    for energy, covariance in covariances.items():
        reference = torch.distributions.MultivariateNormal(torch.zeros(7, dtype=DOUBLE), covariance)
        torch.testing.assert_close(-energy(x) - energy.log_z().value, reference.log_prob(x))
    steep = e.CorrelatedGaussian.ill_conditioned(7, condition=1e5, seed=3, dtype=DOUBLE)
    spectrum = torch.linalg.eigvalsh(steep.factor @ steep.factor.T)
    torch.testing.assert_close(spectrum.log10(), torch.linspace(-5, 0, 7, dtype=DOUBLE), rtol=1e-7, atol=1e-7)
    again = e.CorrelatedGaussian.ill_conditioned(7, condition=1e5, seed=3, dtype=DOUBLE)
    other = e.CorrelatedGaussian.ill_conditioned(7, condition=1e5, seed=4, dtype=DOUBLE)
    assert torch.equal(steep.factor, again.factor)
    assert (steep.truth().variance - other.truth().variance).abs().max() > 0.01


def test_float32_keeps_the_energy_of_an_ill_conditioned_gaussian():
    sharp = e.CorrelatedGaussian.ill_conditioned(50, condition=1e6, dtype=DOUBLE)
    x = sharp.sample_exact(200, _generator()).float()
    expected = sharp(x.double())
    found = e.CorrelatedGaussian.ill_conditioned(50, condition=1e6, dtype=DOUBLE).float()(x)
    assert ((found.double() - expected) / expected).abs().max() < 1e-3


def test_mixture_is_the_mixture_of_its_parts():
    energy = e.four_gaussians(dtype=DOUBLE)
    x = 4 * torch.randn(50, 2, generator=_generator(), dtype=DOUBLE)
    parts = torch.distributions.MultivariateNormal(energy.means, energy.factors @ energy.factors.mT)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(energy.weights), parts)
    torch.testing.assert_close(-energy(x) - energy.log_z().value, mixture.log_prob(x))
    assert energy(torch.tensor([[1e3, -1e3]], dtype=DOUBLE)).isfinite().all()
    # Two and nine dimensions, and one component, go the same way.
    single = e.GaussianMixture(torch.ones(1, 9), 2 * torch.eye(9).expand(1, 9, 9), torch.tensor([3.0]))
    torch.testing.assert_close(single(torch.zeros(1, 9)), torch.tensor([9 / 4 + 9 * math.log(2) / 2]))


def test_rosenbrock_blocks_hang_on_the_first_coordinate():
    x = torch.randn(6, 7, generator=_generator(), dtype=DOUBLE)
    expected = 0.05 * (x[:, 0] - 1) ** 2
    for start in (1, 3, 5):
        expected += 5 * (x[:, start] - x[:, 0] ** 2) ** 2 + 5 * (x[:, start + 1] - x[:, start] ** 2) ** 2
    torch.testing.assert_close(e.Rosenbrock(3, 3)(x), expected)
    # x2 is x1^2 and a normal: its mean is mu^2 + 1 / 2a, its variance that of x1^2 and 1 / 2b.
    assert e.Rosenbrock().truth().mean.tolist() == pytest.approx([1, 11])
    assert e.Rosenbrock().truth().variance.tolist() == pytest.approx([10, 4 * 10 + 2 * 100 + 0.1])


def test_extremes_are_finite_in_float32():
    far = {
        e.Funnel(2): [[-80.0, 1e-20], [80.0, 1e20], [-150.0, 0.0]],
        e.EightSchools(): [[0.0, -80.0, *8 * [1.0]], [0.0, 30.0, *8 * [0.0]]],
        e.DoubleWell(1): [[1e6], [-1e6]],
        e.LogisticRegression(torch.ones(2, 1), torch.tensor([0, 1])): [[1e4, 1e4], [-1e4, -1e4]],
    }
    for energy, points in far.items():
        values, gradient = en.value_and_gradient(energy, torch.tensor(points))
        assert bool(values.isfinite().all()), energy
        assert bool(gradient.isfinite().all()), energy


@pytest.mark.parametrize(("barrier", "tilt"), [(1e-3, 0.0), (0.5, -2.0), (500.0, 1.0), (2.0, 60.0)])
def test_wells_of_any_shape(barrier, tilt):
    energy = e.DoubleWell(1, barrier=barrier, tilt=tilt)
    lowest = min(barrier * (x**2 - 1) ** 2 + tilt * x for x in torch.linspace(-20, 20, 40_001).tolist())
    density = lambda x: math.exp(lowest - barrier * (x**2 - 1) ** 2 - tilt * x)  # noqa: E731
    breaks = torch.linspace(-20, 20, 401).tolist()
    area, first = (
        sum(
            integrate.quad(lambda x, k=k: x**k * density(x), low, high, epsabs=1e-14)[0]
            for low, high in itertools.pairwise(breaks)
        )
        for k in (0, 1)
    )
    assert energy.log_z().value.item() == pytest.approx(math.log(area) - lowest, abs=1e-6)
    assert energy.truth().mean.item() == pytest.approx(first / area, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TARGETS, *COUPLED])
def test_compiled_gradient_equals_eager(name):
    energy = ({**TARGETS, **COUPLED}[name]()).double()
    x = energy.space.start(5, _generator(), dtype=DOUBLE)
    expected = en.value_and_gradient(energy, x)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: en.value_and_gradient(energy, x), fullgraph=True)
    with torch.no_grad():
        for found, wanted in zip(compiled(x), expected, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: e.CorrelatedGaussian(torch.ones(2, 3)), r"covariance \[d, d\] is needed, got \[2, 3\]"),
        (lambda: e.CorrelatedGaussian(torch.ones(2, 2)), "not positive definite: its least eigenvalue is"),
        (lambda: e.CorrelatedGaussian(torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "not symmetric"),
        (lambda: e.CorrelatedGaussian(torch.full((2, 2), math.nan)), "not finite"),
        (lambda: e.CorrelatedGaussian.equicorrelated(4, rho=-0.5), "not positive definite"),
        (lambda: e.CorrelatedGaussian.ill_conditioned(3, condition=0.5), "got 0.5"),
        (lambda: e.GaussianMixture(torch.ones(2, 3), torch.eye(3).expand(2, 3, 3), torch.ones(3)), r"weights \[2\]"),
        (lambda: e.GaussianMixture(torch.ones(1, 1), torch.ones(1, 1, 1), torch.zeros(1)), "weights must be positive"),
        (lambda: e.Funnel(1), "at least 2, got 1"),
        (lambda: e.Banana(scale=0.0), "scale must be a positive finite number"),
        (lambda: e.Banana(curvature=math.inf), "curvature must be a finite number"),
        (lambda: e.DoubleWell(0), "num_dims must be an integer of at least 1"),
        (lambda: e.Rosenbrock(length=6), "length must be 2 to 5, got 6"),
    ],
)
def test_impossible_targets_are_refused(make, words):
    with pytest.raises(en.InputError, match=words):
        make()
