import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.nodes import integration_nodes


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("space", "num_states"),
    [(en.Binary(3), 8), (en.Spin((2, 2)), 16), (en.Categorical(2, num_categories=3), 9)],
)
def test_enumeration_lists_every_state_once(space, num_states):
    x = space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))
    assert len(x) == num_states == space.num_states
    assert len(torch.unique(x.flatten(1), dim=0)) == num_states
    assert bool(space.contains(x).all())
    part = space.enumerate(2, 5, dtype=torch.float64, device=torch.device("cpu"))
    torch.testing.assert_close(part, x[2:5])


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3), en.Categorical(3, num_categories=4)])
def test_draw_from_natural_parameters_has_their_probabilities(space):
    natural = torch.linspace(-1.5, 2.0, space.num_dims).view(space.event_shape)
    uniform = torch.rand(200_000, *space.event_shape, generator=_generator())
    x = space.from_natural(natural.expand_as(uniform), uniform)
    if isinstance(space, en.Categorical):
        expected = natural.softmax(-1)
        mean = x.mean(0)
    elif isinstance(space, en.Spin):
        expected = (2 * natural).sigmoid()
        mean = (x.mean(0) + 1) / 2
    else:
        expected, mean = natural.sigmoid(), x.mean(0)
    error = (expected * (1 - expected) / 200_000).sqrt()
    assert bool(((mean - expected).abs() < 5 * error).all())
    torch.testing.assert_close(space.from_natural(natural.expand_as(uniform), uniform), x)


def test_start_points_are_in_the_space_and_as_documented():
    for space in (en.Real(3), en.Box(3, low=2.0, high=5.0), en.Binary(3), en.Spin(3), en.Categorical(3)):
        x = space.start(2000, _generator())
        assert x.shape == (2000, *space.event_shape)
        assert bool(space.contains(x).all())
    box = en.Box(1, low=2.0, high=5.0).start(4000, _generator())
    assert stats.kstest(box.flatten().numpy(), stats.uniform(2, 3).cdf).pvalue > 1e-6
    real = en.Real(1, start_scale=0.5).start(4000, _generator())
    assert stats.kstest(real.flatten().numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-6


def test_reflection_folds_at_the_walls_as_often_as_needed():
    box = en.Box(1, low=-1.0, high=2.0)
    x = torch.tensor([[-1.5], [2.5], [0.3], [5.5], [-7.25], [-1.0], [2.0]], dtype=torch.float64)
    # period 6: 5.5 -> -0.5; -7.25 -> -1.25 -> -0.75
    expected = torch.tensor([[-0.5], [1.5], [0.3], [-0.5], [-0.75], [-1.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(box.reflect(x), expected)
    assert bool(box.reflect(torch.tensor([[math.nan]])).isnan().all())
    # Rounding must not leave a point outside by one unit in the last place.
    for low, high in ((-0.3, 0.9), (0.1, 0.7)):
        odd = en.Box(1, low=low, high=high)
        assert bool(odd.contains(odd.reflect(3 * torch.randn(500_000, 1, generator=_generator()))).all())


@pytest.mark.parametrize("dimension", [1, 2])
def test_quadrature_integrates_polynomials_and_gaussians(dimension):
    x, log_weight = integration_nodes(en.Box(dimension, low=-1.0, high=2.0), 20)
    value = (log_weight.exp() * (x**4).prod(1)).sum()
    assert value.item() == pytest.approx(((2**5 + 1) / 5) ** dimension, rel=1e-12)
    x, log_weight = integration_nodes(en.Real(dimension), 200)
    value = (log_weight - (x - 0.7).square().sum(1) / 2).logsumexp(0)
    assert value.item() == pytest.approx(dimension * math.log(2 * math.pi) / 2, abs=1e-8)


def test_enumeration_weights_are_one():
    x, log_weight = integration_nodes(en.Spin(4))
    assert len(x) == 16
    assert not bool(log_weight.any())


@pytest.mark.parametrize("space", [en.Real(3), en.Binary(30)])
def test_too_large_for_nodes_is_refused(space):
    with pytest.raises(en.InputError, match=r"2\^22|1 or 2"):
        integration_nodes(space)


@pytest.mark.parametrize(
    "make",
    [
        lambda: en.Real(0),
        lambda: en.Real((2, -1)),
        lambda: en.Real(()),
        lambda: en.Box(1, low=1.0, high=1.0),
        lambda: en.Box(1, low=-math.inf),
        lambda: en.Categorical(2, num_categories=1),
        lambda: en.Real(1, start_scale=0.0),
    ],
)
def test_impossible_spaces_are_refused(make):
    with pytest.raises(en.InputError):
        make()


def test_check_says_what_is_wrong():
    space = en.Box(2)
    with pytest.raises(en.InputError, match=r"expects \[B, 2\]"):
        space.check(torch.zeros(3, 4))
    with pytest.raises(en.InputError, match=r"x.float\(\)"):
        space.check(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(en.InputError, match="the first is row 1, with values from 0 to 3"):
        space.check(torch.tensor([[0.0, 0.0], [0.0, 3.0]]))
