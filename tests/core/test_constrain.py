import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia import testing
from energeia.core.constrain import unconstrained
from energeia.core.nodes import integration_nodes
from energeia.core.positive import Positive, Simplex

ALPHA = torch.tensor([0.7, 2.0, 4.5], dtype=torch.float64)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _beta(x):
    """Beta(2, 5) and Beta(3, 1) on (-1, 3), unnormalised."""
    share = (x + 1) / 4
    return -(share[:, 0].log() + 4 * (1 - share[:, 0]).log() + 2 * share[:, 1].log())


def _gamma(x):
    """Gamma(2.5, 1) and Gamma(.6, 3), unnormalised."""
    return -(1.5 * x[:, 0].log() - x[:, 0] - 0.4 * x[:, 1].log() - 3 * x[:, 1])


def _dirichlet(x):
    return -((ALPHA.to(x.dtype) - 1) * x.log()).sum(-1).flatten(1).sum(1)


BOX, POSITIVE, SIMPLEX = en.Box(2, low=-1.0, high=3.0), Positive(2, start_scale=2.0), Simplex(1, num_categories=3)
CASES = {
    "box": (BOX, _beta),
    "positive": (POSITIVE, _gamma),
    "simplex": (SIMPLEX, _dirichlet),
    "real": (en.Real(2), lambda x: (x**4).sum(1) + x[:, 0]),
}
LOG_Z = {
    "box": 2 * math.log(4) + math.log(math.gamma(2) * math.gamma(5) / math.gamma(7) / 3),
    "positive": math.lgamma(2.5) + math.lgamma(0.6) - 0.6 * math.log(3),
    "simplex": torch.lgamma(ALPHA).sum().item() - math.lgamma(7.2),
}


@pytest.mark.parametrize("name", CASES)
def test_density_is_that_of_x_times_the_jacobian(name):
    """Against the determinant of the Jacobian that autograd gives, and back again."""
    space, function = CASES[name]
    energy = en.from_module(function, space)
    free = unconstrained(energy)
    y = 3 * torch.randn(40, *free.space.event_shape, generator=_generator(), dtype=torch.float64)
    x = free.constrain(y)
    assert bool(space.contains(x).all())
    torch.testing.assert_close(free.unconstrain(x), y, rtol=1e-8, atol=1e-8)
    num_dims = free.space.num_dims

    def mapped(row):
        # The first K - 1 probabilities are the coordinates of a simplex.
        return free.constrain(row.view(free.space.event_shape)).flatten()[:num_dims]

    jacobians = torch.stack([torch.autograd.functional.jacobian(mapped, row.flatten()) for row in y])
    torch.testing.assert_close(free(y), energy(x) - torch.linalg.slogdet(jacobians).logabsdet)
    testing.check_energy(free.double())


def test_density_of_several_sites_is_their_product():
    energy = en.from_module(_dirichlet, Simplex((2, 2), num_categories=3))
    alone = unconstrained(en.from_module(_dirichlet, SIMPLEX))
    free = unconstrained(energy)
    y = torch.randn(5, 2, 2, 2, generator=_generator(), dtype=torch.float64)
    torch.testing.assert_close(free(y), alone(y.view(20, 1, 2)).view(5, 4).sum(1))
    # Any leading shape: kept draws are [T, B, *event].
    torch.testing.assert_close(free.constrain(y.expand(3, *y.shape))[1], free.constrain(y))
    assert free.unconstrain(free.constrain(y[0])).shape == (2, 2, 2)


@pytest.mark.parametrize("name", LOG_Z)
def test_log_z_is_unchanged(name):
    space, function = CASES[name]
    free = unconstrained(en.from_module(function, space))
    # The left tail of Gamma(.6) falls off as exp(.6 y) only.
    grid = torch.linspace(-70, 70, 1401, dtype=torch.float64)
    y = torch.cartesian_prod(grid, grid).view(-1, *free.space.event_shape)
    value = (-free(y)).logsumexp(0).item() + 2 * math.log(0.1)
    assert value == pytest.approx(LOG_Z[name], abs=1e-8)


def test_uniform_box_stays_tractable():
    box = en.Uniform(en.Box(2, low=2.0, high=5.0)).double()
    free = unconstrained(box)
    tractable = en.require(free, en.Tractable, who="test", instead="")
    x, log_weight = integration_nodes(en.Real(2, 1.8))
    assert tractable.log_z().value.item() == pytest.approx(2 * math.log(3))
    assert (log_weight - free(x)).logsumexp(0).item() == pytest.approx(2 * math.log(3), abs=1e-6)
    y = tractable.sample_exact(20_000, _generator())
    assert stats.kstest(y[:, 0].numpy(), stats.logistic.cdf).pvalue > 1e-6
    assert unconstrained(en.from_module(_beta, BOX)).capability(en.Tractable) is None


def _moments(name):
    if name == "box":
        pairs = [(2 / 7, 10 / 49 / 8), (3 / 4, 3 / 16 / 5)]
        return torch.tensor([[4 * mean - 1, 16 * variance] for mean, variance in pairs])
    if name == "positive":
        return torch.tensor([[2.5, 2.5], [0.2, 0.6 / 9]])
    mean = ALPHA / ALPHA.sum()
    return torch.stack([mean, mean * (1 - mean) / (ALPHA.sum() + 1)], 1).float()


@pytest.mark.parametrize("name", LOG_Z)
def test_mala_draws_have_the_moments_of_the_density(name):
    space, function = CASES[name]
    free = unconstrained(en.from_module(function, space))
    num = 20_000
    draws = en.sample(free, en.MALA(step_size=0.6), num_chains=num, num_steps=250, generator=3)
    x = free.constrain(draws.kept)
    assert x.shape == (1, num, *space.event_shape)
    x = x.view(num, -1)
    assert bool(space.contains(x.view(num, *space.event_shape)).all())
    mean, variance = _moments(name).unbind(1)
    assert bool(((x.mean(0) - mean).abs() < 5 * (variance / num).sqrt()).all())
    square = (x - mean).square()
    assert bool(((square.mean(0) - variance).abs() < 5 * (square.var(0) / num).sqrt()).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOG_Z)
def test_far_out_everything_is_finite_and_falls_as_it_should(name, dtype):
    space, function = CASES[name]
    free = unconstrained(en.from_module(function, space))
    for value in (17.0, 50.0, 80.0):
        for sign in (-1.0, 1.0):
            y = torch.full((2, *free.space.event_shape), sign * value, dtype=dtype)
            x = free.constrain(y)
            assert bool(space.contains(x).all()), (name, value, sign)
            assert bool(free.unconstrain(x).isfinite().all())
            _, log_determinant = free.bijection.forward(y)
            _, exact = free.bijection.forward(y.double())
            torch.testing.assert_close(log_determinant.double(), exact, rtol=1e-5, atol=1e-5)
            energy, gradient = en.value_and_gradient(free, y)
            assert bool(energy.isfinite().all())
            assert bool(gradient.isfinite().all())
            outwards = (gradient * sign).flatten(1).sum(1)
            assert bool((outwards > 0).all()), f"{name}: no way back from y = {sign * value}"


def test_inside_a_box_that_does_not_begin_at_zero():
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (10.0, 11.0), (-3e4, -2e4), (-5.0, 0.0)):
        free = unconstrained(en.Uniform(en.Box(1, low=low, high=high)))
        x = free.constrain(torch.tensor([[-200.0], [200.0]]))
        assert low < x[0].item() < x[1].item() < high
    # Digits near a wall at zero survive on either side.
    near = unconstrained(en.Uniform(en.Box(1, low=-5.0, high=0.0))).constrain(torch.tensor([[40.0]]))
    assert near.item() == pytest.approx(-5 * math.exp(-40), rel=1e-5, abs=0)


def test_points_on_a_wall_have_finite_coordinates():
    free = unconstrained(en.from_module(lambda x: x.sum(-1).sum(-1), SIMPLEX))
    corner = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    y = free.unconstrain(corner)
    assert bool(y.isfinite().all())
    torch.testing.assert_close(free.constrain(y), corner)
    box = unconstrained(en.Uniform(en.Box(1)))
    torch.testing.assert_close(
        box.constrain(box.unconstrain(torch.tensor([[-1.0], [1.0]]))), torch.tensor([[-1.0], [1.0]])
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LOG_Z)
def test_compiled_steps_equal_eager_ones(name):
    space, function = CASES[name]
    free = unconstrained(en.from_module(function, space))
    y = torch.randn(8, *free.space.event_shape, generator=_generator(), dtype=torch.float64)
    expected = en.value_and_gradient(free, y)
    compiled = torch.compile(lambda y: en.value_and_gradient(free, y), fullgraph=True)
    with torch.no_grad():
        for found, wanted in zip(compiled(y), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_new_spaces_start_inside_and_as_documented():
    x = SIMPLEX.start(20_000, _generator())
    assert x.shape == (20_000, 1, 3)
    assert bool(SIMPLEX.contains(x).all())
    # A coordinate of the uniform distribution over three probabilities is Beta(1, 2).
    assert stats.kstest(x[:, 0, 1].numpy(), stats.beta(1, 2).cdf).pvalue > 1e-6
    x = POSITIVE.start(20_000, _generator())
    assert bool(POSITIVE.contains(x).all())
    assert stats.kstest(x[:, 0].numpy(), stats.lognorm(1, scale=2).cdf).pvalue > 1e-6
    assert POSITIVE.contains(torch.tensor([[1.0, 0.0], [1.0, math.inf], [2.0, 1e-30]])).tolist() == [False, False, True]
    points = torch.tensor([[[0.5, 0.5, 0.1]], [[0.0, 0.25, 0.75]], [[-0.5, 0.75, 0.75]]])
    assert SIMPLEX.contains(points).tolist() == [False, True, False]
    large = Simplex(2, num_categories=3000)
    assert bool(large.contains(torch.randn(50, 2, 3000, generator=_generator()).softmax(-1)).all())


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3), en.Categorical(2)])
def test_discrete_spaces_are_refused(space):
    with pytest.raises(en.InputError, match="is discrete and has no unbounded coordinates; sample it as it is"):
        unconstrained(en.Independent(space, torch.zeros(space.event_shape)))


def test_wrong_shapes_and_spaces_are_refused():
    free = unconstrained(en.from_module(_dirichlet, SIMPLEX))
    with pytest.raises(
        en.InputError, match=r"constrain\(\): expected a shape that ends with \[1, 2\], got \[4, 1, 3\]"
    ):
        free.constrain(torch.zeros(4, 1, 3))
    with pytest.raises(en.InputError, match=r"ends with \[1, 3\], got \[3\]"):
        free.unconstrain(torch.zeros(3))
    for make in (
        lambda: Positive(2, start_scale=0.0),
        lambda: Positive(0),
        lambda: Simplex(2, num_categories=1),
    ):
        with pytest.raises(en.InputError):
            make()
