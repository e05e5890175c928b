"""The reverse diffusion on data whose smoothed score is known."""

import itertools
import math
import warnings

import pytest
import torch
from torch import nn

import energeia as en
from energeia.energies import GaussianMixture

MEANS, SHARES, SPREAD = torch.tensor([[-3.0], [2.0]]).double(), torch.tensor([0.3, 0.7]).double(), 0.5


class _Blurred(en.Energy):
    """Two normals with unequal shares, seen through noise."""

    def __init__(self, space=None):
        super().__init__(space or en.Real(1))
        self.zero = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, context=None):
        level = torch.as_tensor(0.01 if context is None else context).to(x).expand(len(x))
        variance = (SPREAD**2 + level.square()).unsqueeze(1)
        logs = SHARES.log() - (x - MEANS.T).square() / (2 * variance) - variance.log() / 2
        return -logs.logsumexp(1)


class _Normal(en.Energy):
    """N(1, s^2) seen through noise: N(1, s^2 + sigma^2)."""

    def __init__(self):
        super().__init__(en.Real(1))
        self.zero = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, context=None):
        level = torch.as_tensor(0.1 if context is None else context).to(x).expand(len(x))
        return (x - 1).square().sum(1) / (2 * (SPREAD**2 + level.square()))


def _ladder(number, high=20.0, low=0.01):
    return tuple(high * (low / high) ** (k / number) for k in range(number + 1))


def _start(number, levels, mean=0.0):
    normal = torch.randn(number, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return mean + math.sqrt(SPREAD**2 + levels[0] ** 2) * normal


def test_the_ordinary_equation_of_a_gaussian_is_a_scaling_at_second_order():
    """x - 1 shrinks by sqrt((s^2 + low^2) / (s^2 + high^2)), whatever x."""
    start = torch.tensor([[5.0], [-2.0]]).double()
    errors = []
    for number in (40, 80):
        levels = _ladder(number, 3.0, 0.1)
        draws = en.sample(_Normal(), en.ReverseDiffusion(levels, kind="ode"), start=start, num_steps=number)
        expected = 1 + (start - 1) * math.sqrt((SPREAD**2 + 0.1**2) / (SPREAD**2 + 3.0**2))
        errors.append(float((draws.x - expected).abs().max()))
    assert errors[1] < 1e-3
    assert 3.4 < errors[0] / errors[1] < 4.6


def _variance(levels):
    """Of the stochastic equation on a Gaussian, in closed form: each step is linear, v' = a^2 v + b^2."""
    variance = SPREAD**2 + levels[0] ** 2
    for high, low in itertools.pairwise(levels):
        kept = (low / high) ** 2
        slope = 1 - (1 - kept) * high**2 / (SPREAD**2 + high**2)
        variance = slope**2 * variance + low**2 * (1 - kept)
    return variance


def test_the_stochastic_equation_of_a_gaussian_keeps_its_moments_at_first_order():
    levels, number = _ladder(30, 3.0, 0.1), 100_000
    variance = _variance(levels)
    draws = en.sample(_Normal(), en.ReverseDiffusion(levels), start=_start(number, levels, 1.0), num_steps=30)
    assert abs(draws.x.var() / variance - 1) < 5 * math.sqrt(2 / number)
    assert abs(draws.x.mean() - 1) < 5 * math.sqrt(variance / number)
    gaps = [_variance(_ladder(count, 3.0, 0.1)) - (SPREAD**2 + 0.1**2) for count in (200, 400)]
    assert 1.9 < gaps[0] / gaps[1] < 2.1
    assert abs(gaps[1]) < 0.005


@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_both_find_the_shares_of_separate_modes(kind):
    levels, number = _ladder(300), 20_000
    sampler = en.ReverseDiffusion(levels, kind=kind)
    # At the highest level the data are one normal about their mean, but for 1 / sigma^2.
    mean = float((SHARES @ MEANS)[0])
    draws = en.sample(_Blurred(), sampler, start=_start(number, levels, mean), num_steps=300)
    share = (draws.x < -0.5).double().mean()
    assert abs(share - 0.3) < 5 * math.sqrt(0.21 / number) + 0.002
    right = draws.x[draws.x > -0.5]
    assert abs(right.mean() - 2) < 0.02
    assert abs(right.std() / SPREAD - 1) < 0.03
    truth = GaussianMixture(MEANS, torch.full((2, 1, 1), SPREAD**2, dtype=torch.float64), SHARES)
    assert (
        abs(truth(draws.x).mean() - truth(truth.sample_exact(number, torch.Generator().manual_seed(0))).mean()) < 0.05
    )


def test_steps_after_the_last_level_change_nothing():
    levels = _ladder(5, 3.0, 0.1)
    for kind in ("sde", "ode"):
        sampler = en.ReverseDiffusion(levels, kind=kind)
        runs = [en.sample(_Normal(), sampler, start=_start(9, levels), num_steps=steps) for steps in (5, 8)]
        torch.testing.assert_close(runs[0].x, runs[1].x)


def test_what_does_not_fit_is_refused():
    for levels in ((1.0,), (1.0, 2.0), (2.0, 2.0), (1.0, -1.0)):
        with pytest.raises(en.InputError, match="ReverseDiffusion"):
            en.ReverseDiffusion(levels)
    with pytest.raises(en.InputError, match="kind"):
        en.ReverseDiffusion((2.0, 1.0), kind="both")
    with pytest.raises(en.InputError, match="num_steps=1"):
        en.sample(_Normal(), en.ReverseDiffusion((2.0, 1.0)), num_chains=4, num_steps=1, warmup=5)


def test_a_box_is_refused_and_not_left_in_silence():
    with pytest.raises(en.CapabilityError, match="use AnnealedLangevin on a Box"):
        en.sample(_Blurred(en.Box(1)), en.ReverseDiffusion((2.0, 1.0)), num_chains=4, num_steps=1)


@pytest.mark.parametrize(
    "sampler", [en.ReverseDiffusion((20.0, 1.0)), en.RecoveryLangevin(levels=(20.0, 1.0), num_steps=1)]
)
def test_a_start_narrower_than_the_first_level_is_told(sampler):
    """As the space's own start points of scale 1 are, if nobody thinks of them."""
    with pytest.warns(UserWarning, match="start_scale=20"):
        en.sample(_Blurred(), sampler, num_chains=100, num_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        en.sample(_Blurred(en.Real(1, start_scale=20.0)), sampler, num_chains=100, num_steps=1)


def test_a_trained_ladder_learns_the_shares_that_one_level_cannot():
    """End to end: denoising at many levels, then down the ladder."""
    torch.manual_seed(0)
    number = 4000
    generator = torch.Generator().manual_seed(0)
    which = torch.multinomial(SHARES, number, replacement=True, generator=generator)
    x = (MEANS[which] + SPREAD * torch.randn(number, 1, generator=generator, dtype=torch.float64)).float()
    levels = _ladder(7, 8.0, 0.1)
    energy = en.NoiseConditional(en.LevelMLP(1, widths=(32, 32)), en.Real(1, start_scale=8.4), levels=levels, scale=2.5)
    en.fit(energy, en.MultiScaleDenoising(), x, num_steps=600, batch_size=256, progress=False)
    fine = _ladder(60, 8.0, 0.1)
    draws = en.sample(energy, en.ReverseDiffusion(fine), num_chains=4000, num_steps=60, progress=False)
    assert abs((draws.x < -0.5).double().mean() - 0.3) < 0.06
