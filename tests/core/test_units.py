"""Units: mean and log partition function against sums and quadrature, draws against distribution functions."""

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import energeia as en
from energeia.core.units import Normal, Rectified, Units, Weighted, keeping

PLACES = [-30.0, -6.0, -1.0, 0.0, 0.7, 5.0, 20.0]
PRECISIONS = [0.04, 1.0, 9.0]
REAL = {"normal": Normal, "rectified": Rectified}


def _double(*values):
    return torch.tensor(values, dtype=torch.float64)


def _integral(kind, natural, precision, power):
    """log integral of x^power exp(n x - precision x^2 / 2), by adaptive quadrature around the largest value."""
    peak = natural / precision
    if kind == "rectified":
        peak = max(peak, 0.0)
    top = natural * peak - precision * peak**2 / 2
    # The width of the density: a normal one, or, far below zero, exponential.
    width = min(precision**-0.5, 1 / -natural) if kind == "rectified" and natural < 0 else precision**-0.5
    low = max(peak - 40 * width, 0.0) if kind == "rectified" else peak - 40 * width

    def density(x):
        return x**power * np.exp(natural * x - precision * x * x / 2 - top)

    pieces = np.linspace(low, peak + 40 * width, 17)
    parts = [integrate.quad(density, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in itertools.pairwise(pieces)]
    return sum(parts), top


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_units_against_quadrature(kind, precision):
    units = REAL[kind](_double(precision))
    for place in PLACES:
        natural = place * precision**0.5
        area, top = _integral(kind, natural, precision, 0)
        first, _ = _integral(kind, natural, precision, 1)
        n = _double(natural).unsqueeze(0)
        torch.testing.assert_close(units.log_partition(n)[0], _double(np.log(area) + top)[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(units.mean(n)[0, 0], _double(first / area)[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", REAL)
def test_the_mean_is_the_slope_of_the_log_partition(kind):
    """Far beyond what quadrature or float32 can see too: natural parameters from -1e3 to 1e3."""
    natural = _double(-1e3, -200.0, -40.0, -36.0, -34.0, -5.0, 0.0, 5.0, 40.0, 1e3).unsqueeze(0).requires_grad_()
    units = REAL[kind](torch.ones(10).double())
    (slope,) = torch.autograd.grad(units.log_partition(natural).sum(), natural)
    torch.testing.assert_close(units.mean(natural), slope, rtol=1e-7, atol=1e-12)


def test_the_far_tail_of_rectified_units_is_exponential():
    """E[x] = 1/m - 2/m^3 + 10/m^5 + O(m^-7) and A = -log m - 1/m^2 + O(m^-4) at natural parameter -m, precision 1."""
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-9)):
        m = torch.tensor([200.0, 1e3], dtype=dtype)
        units = Rectified(torch.ones(2, dtype=dtype))
        mean = units.mean(-m.unsqueeze(0))[0]
        torch.testing.assert_close(mean * m, 1 - 2 / m**2 + 10 / m**4, rtol=tolerance, atol=0)
        found = Rectified(torch.ones(1, dtype=dtype)).log_partition(-m.unsqueeze(1))
        torch.testing.assert_close(found, -m.log() - 1 / m**2, rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", REAL)
def test_everything_stays_finite_at_the_ends(kind, dtype):
    natural = torch.tensor([-1e3, -100.0, -35.0, -1.0, 0.0, 1.0, 100.0, 1e3], dtype=dtype)
    uniform = torch.tensor([0.0, 1e-30, 0.5, 1 - torch.finfo(dtype).eps], dtype=dtype)
    grid = natural.expand(4, -1)
    units = REAL[kind](torch.ones(8, dtype=dtype))
    drawn = units.from_natural(grid, uniform.unsqueeze(1).expand_as(grid))
    assert drawn.dtype == dtype
    assert bool(drawn.isfinite().all())
    assert bool(units.mean(grid).isfinite().all())
    assert bool(units.log_partition(grid).isfinite().all())
    if kind == "rectified":
        assert bool((drawn > 0).all())
        assert bool((units.mean(grid) > 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("precision", [0.25, 4.0])
@pytest.mark.parametrize("place", [-1e3, -50.0, -34.9, -35.1, -3.0, 0.0, 4.0, 1e3])
def test_draws_follow_their_distribution(place, precision, dtype):
    """By the test of Kolmogorov and Smirnov, the mean, and, for rectified units, draw by draw."""
    number = 20_000
    uniform = torch.rand(number, generator=torch.Generator().manual_seed(0), dtype=dtype)
    natural = torch.tensor(place * precision**0.5, dtype=dtype)
    for kind, units in ((kind, cls(torch.tensor([precision], dtype=dtype))) for kind, cls in REAL.items()):
        drawn = units.from_natural(natural.expand(number, 1), uniform.unsqueeze(1))[:, 0].double().numpy()
        z = drawn * precision**0.5 - place
        # log P(x > t) = log Phi(-z) - log Phi(place), in logarithms as both are tiny; 1 where nothing is cut off.
        above = stats.norm.logcdf(-z) - (stats.norm.logcdf(place) if kind == "rectified" else 0)
        assert stats.kstest(-np.expm1(above), "uniform").pvalue > 3e-7
        if kind == "rectified":
            # Not on average alone: every draw is the quantile of its uniform.
            np.testing.assert_allclose(above, uniform.double().log().numpy(), rtol=0, atol=_slack(place, dtype))
        mean = float(units.mean(natural.expand(1, 1)))
        assert abs(drawn.mean() - mean) < 5 * drawn.std() / number**0.5 + 1e-6 * abs(mean)


def _slack(place, dtype):
    """How far log P may be off: by the rounding of a draw of the size of place, times the hazard there."""
    return 10 * torch.finfo(dtype).eps * (1 + place**2) + 1e-9


@pytest.mark.parametrize(
    "space", [en.Binary(3), en.Spin((1, 3)), en.Categorical(2, num_categories=3)], ids=["bits", "spins", "categories"]
)
def test_discrete_units_against_enumeration(space):
    assert isinstance(space, Units)
    generator = torch.Generator().manual_seed(7)
    natural = 2 * torch.randn(4, *space.event_shape, generator=generator, dtype=torch.float64)
    states = space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))
    weight = natural.flatten(1) @ states.flatten(1).T
    torch.testing.assert_close(space.log_partition(natural), weight.logsumexp(1), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        space.mean(natural).flatten(1), weight.softmax(1) @ states.flatten(1), rtol=1e-13, atol=0
    )
    number = 20_000
    one = natural[:1].expand(number, *space.event_shape)
    drawn = space.from_natural(one, torch.rand(one.shape, generator=generator, dtype=torch.float64))
    code = 4.0 ** torch.arange(space.num_dims).double()
    order = (states.flatten(1) @ code).sort()
    place = torch.searchsorted(order.values, drawn.flatten(1) @ code)
    counts = torch.bincount(order.indices[place], minlength=len(states))
    expected = number * weight[0].softmax(0)
    often = expected >= 5
    observed = torch.cat([counts[often], counts[~often].sum(0, keepdim=True)]).double()
    wanted = torch.cat([expected[often], expected[~often].sum(0, keepdim=True)])
    keep = wanted > 0
    assert stats.chisquare(observed[keep].numpy(), wanted[keep].numpy()).pvalue > 3e-7


def test_log_partitions_of_bits_and_spins_keep_their_last_digits():
    natural = _double(-45.0, -19.0, 10.0, 20.5, 25.0, 39.0, 41.0, 300.0).unsqueeze(1)
    both = torch.cat([natural, torch.zeros_like(natural)], 1).logsumexp(1)
    torch.testing.assert_close(en.Binary(1).log_partition(natural), both, rtol=1e-15, atol=3e-16)
    both = torch.cat([natural, -natural], 1).logsumexp(1)
    torch.testing.assert_close(en.Spin(1).log_partition(natural), both, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discrete_units_at_the_ends(dtype):
    for space in (en.Binary(2), en.Spin(2), en.Categorical(1, num_categories=2)):
        natural = torch.tensor([[1e3, -1e3]], dtype=dtype).view(1, *space.event_shape)
        for uniform in (0.0, 0.5, 1 - torch.finfo(dtype).eps):
            drawn = space.from_natural(natural, torch.full_like(natural, uniform))
            # A uniform of exactly 0 is below every probability that has not been rounded to 0.
            assert bool((drawn.flatten()[0] == 1) & (drawn.flatten()[1] <= 0))
        assert bool(space.log_partition(natural).isfinite().all())
        assert bool(space.mean(natural).isfinite().all())


def test_precisions_for_each_chain():
    """Annealing and tempering give every chain its own."""
    precision, natural = _double(0.5, 2.0, 4.0).unsqueeze(1), _double(-1.0, 0.3, 2.0).unsqueeze(1)
    uniform = _double(0.1, 0.6, 0.9).unsqueeze(1)
    for kind in REAL.values():
        together = kind(precision)
        for row in range(3):
            alone = kind(precision[row])
            one = natural[row : row + 1]
            for name in ("mean", "log_partition"):
                torch.testing.assert_close(getattr(together, name)(natural)[row], getattr(alone, name)(one)[0])
            drawn = together.from_natural(natural, uniform)[row]
            torch.testing.assert_close(drawn, alone.from_natural(one, uniform[row : row + 1])[0])
        again = together.with_precision(precision * 2)
        assert isinstance(again, Weighted)
        assert isinstance(again, kind)
        torch.testing.assert_close(again.precision, precision * 2)


def test_units_keep_nothing_of_a_chain_unless_they_say_so():
    bits = en.Binary(3)
    assert keeping(bits, torch.zeros(2, 3)) is bits
    words = keeping(en.Counts(3, total=5, least=1), torch.tensor([[1.0, 0, 1], [0, 5, 0]]))
    torch.testing.assert_close(words.mean(torch.zeros(2, 3)).sum(1), torch.tensor([2.0, 5.0]))
