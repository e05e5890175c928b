"""Warm-up: what a run from default constructions finds."""

import math

import pytest
import torch

import energeia as en
from energeia.samplers.adapt import DualAveraging, FairAcceptance, RunningMoments

TUNABLE = {
    "HMC": en.HMC(),
    "MALA": en.MALA(),
    "RandomWalk": en.RandomWalk(),
}


def _scaled(*scale):
    return en.Gaussian(len(scale), mean=torch.tensor(scale), scale=torch.tensor(scale))


def test_dual_averaging_solves_for_the_target():
    """Acceptance exp(-h): a target of .7 is met at h = -log .7; a first guess is forgotten as 1 / sqrt(t)."""
    for first in (1e-3, 1.0, 50.0):
        controller = DualAveraging(first, 0.7)
        off = []
        for _ in range(4000):
            controller.update(math.exp(-controller.step_size))
            off.append(abs(math.log(controller.average / -math.log(0.7))))
        assert off[999] < 0.03
        assert off[3999] == pytest.approx(off[999] / 2, rel=0.2)


def test_the_chains_that_stand_still_decide_what_is_accepted():
    """One chain of fifty that accepts nothing hides in the plain mean, .88, and makes an end of this one."""
    each = torch.full((50,), 0.9)
    each[7] = 0.0
    fair = FairAcceptance(each, 0.6)
    found = [fair.mean(each).item() for _ in range(100)]
    assert found[0] == pytest.approx(each.mean().item())
    # In the end 49 chains weigh 1 / .9 and this one 1,000.
    assert found[-1] == pytest.approx(49 / (49 / 0.9 + 1000), rel=1e-3)


def test_chains_in_equilibrium_count_alike():
    """Weights are from the past: where each step's acceptance is a draw by itself, its mean is not biased."""
    generator = torch.Generator().manual_seed(0)
    fair = FairAcceptance(torch.empty(50, dtype=torch.float64), 0.25)
    # A density 1 / (2 sqrt(a)) of acceptances a, many near 0: mean 1/3, variance 4/45.
    draws = [torch.rand(50, generator=generator, dtype=torch.float64).square() for _ in range(2000)]
    found = torch.stack([fair.mean(each) for each in draws])
    assert abs(found.mean().item() - 1 / 3) < 5 * found.std().item() / math.sqrt(2000)
    # And hardly noisier than the plain mean, whose variance is 4/45 / 50.
    assert found.std().item() < 1.2 * math.sqrt(4 / 45 / 50)


@pytest.mark.parametrize("dense", [False, True])
def test_moments_are_those_of_all_draws_pooled(dense):
    x = torch.randn(5, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(-1) + 1e3
    moments = RunningMoments(dense=dense)
    for part in x:
        moments.add(part)
    pooled = x.reshape(-1, 3)
    torch.testing.assert_close(moments.mean, pooled.mean(0))
    covariance = pooled.T.cov()
    mass = moments.mass(x[0])
    found = mass.spread(mass.gather(torch.eye(3, dtype=torch.float64)))
    # 200 draws: the shrinkage of 5 / 205 (and the dimension) is all that may differ.
    torch.testing.assert_close(found, covariance if dense else covariance.diagonal().diag(), rtol=0.06, atol=0.0)


@pytest.mark.parametrize("name", TUNABLE)
def test_a_default_construction_meets_its_target_and_finds_the_scales(name):
    energy = _scaled(1e-3, 1.0, 1e3)
    draws = en.sample(energy, TUNABLE[name], num_chains=100, num_steps=300, warmup=1000, keep="all", generator=4)
    sampler = draws.sampler
    # Trajectories have whole steps, so those of HMC are a little shorter than tuned, or up to a tenth longer.
    slack = 0.15 if name == "HMC" else 0.07
    assert draws.info.acceptance.mean().item() == pytest.approx(sampler.target_acceptance, abs=slack)
    torch.testing.assert_close(sampler.mass.scale, energy.scale, rtol=0.3, atol=0.0)
    for column in range(3):
        kept = draws.kept[..., column]
        # Chains are independent, so their means tell the error of the whole.
        error = kept.mean(0).std() / 10
        assert abs(kept.mean() - energy.mean[column]) < 5 * error
        square = ((kept - energy.mean[column]) / energy.scale[column]).square()
        assert abs(square.mean() - 1) < 5 * square.mean(0).std() / 10


@pytest.mark.parametrize("name", ["MALA", "HMC"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_step_that_suits_most_chains_does_not_leave_the_others_behind(name, seed):
    """E = sum x^4 / 4: at 20, where 15 chains of 50 start, the slope is 8,000 and only tiny steps are accepted."""
    energy = en.from_module(lambda x: x.square().square().sum(1) / 4, en.Real(3))
    start = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed))
    start[35:] += 20
    draws = en.sample(energy, TUNABLE[name], start=start, num_steps=100, warmup=200, keep="all", generator=seed)
    assert draws.kept.abs().max() < 5
    # E[x^2] = 2 Gamma(3/4) / Gamma(1/4). Chains are independent, so their means tell the error of the whole.
    square = draws.kept.square().mean((0, 2))
    truth = 2 * math.gamma(0.75) / math.gamma(0.25)
    assert abs(square.mean().item() - truth) < 5 * square.std().item() / math.sqrt(50)
    # And the step is as large as the target allows, once all have arrived; HMC's in whole steps.
    target = TUNABLE[name].target_acceptance
    assert draws.info.acceptance.mean().item() == pytest.approx(target, abs=0.15 if name == "HMC" else 0.07)


def test_tuned_hmc_draws_of_a_gaussian_are_nearly_independent():
    draws = en.sample(
        _scaled(*[0.1] * 50, *[10.0] * 50), en.HMC(), num_chains=64, num_steps=200, warmup=500, keep="all"
    )
    x = (draws.kept - draws.kept.mean((0, 1))) / draws.kept.std((0, 1))
    correlation = (x[1:] * x[:-1]).mean((0, 1)).abs().max().item()
    assert correlation < 0.25
    assert draws.sampler.num_leapfrog <= 6


@pytest.mark.parametrize("sampler", [en.HMC(tune_mass="dense"), en.MALA(tune_mass="dense")], ids=["hmc", "mala"])
def test_a_dense_mass_undoes_a_correlation(sampler):
    covariance = torch.tensor([[1.0, 0.995], [0.995, 1.0]])
    precision = covariance.inverse()
    energy = en.from_module(lambda x: ((x @ precision) * x).sum(1) / 2, en.Real(2))
    draws = en.sample(energy, sampler, num_chains=100, num_steps=200, warmup=600, keep="all")
    found = draws.sampler.mass.covariance
    torch.testing.assert_close(found, covariance, rtol=0.1, atol=0.0)
    difference = draws.kept[..., 0] - draws.kept[..., 1]
    assert difference.var().item() == pytest.approx(0.01, rel=0.1)


def test_trajectories_get_longer_where_the_mass_cannot_help():
    """A narrow diagonal ridge: a diagonal mass leaves it as it is, so trajectories must be long."""
    precision = torch.tensor([[1.0, 0.99], [0.99, 1.0]]).inverse()
    energy = en.from_module(lambda x: ((x @ precision) * x).sum(1) / 2, en.Real(2))
    long = en.sample(energy, en.HMC(), num_chains=100, num_steps=1, warmup=600).sampler
    short = en.sample(en.Gaussian(2), en.HMC(), num_chains=100, num_steps=1, warmup=600).sampler
    assert short.step_size * short.num_leapfrog < 3
    # The long axis of the ridge has sd sqrt(1.99) in these units: a quarter period of it is 2.2, many steps of .1.
    assert long.num_leapfrog > 3 * short.num_leapfrog


def test_tuning_is_frozen_and_can_be_passed_on():
    energy = _scaled(0.5, 5.0)
    first = en.sample(energy, en.HMC(), num_chains=50, num_steps=100, warmup=300)
    again = en.sample(energy, first.sampler, start=first.x, num_steps=100)
    assert again.sampler is first.sampler
    assert again.info.acceptance.mean().item() == pytest.approx(0.8, abs=0.2)
    untuned = en.sample(energy, en.HMC(), num_chains=50, num_steps=100)
    assert untuned.sampler == en.HMC()


def test_the_same_seed_tunes_the_same():
    runs = [
        en.sample(_scaled(0.5, 5.0), en.HMC(), num_chains=20, num_steps=5, warmup=100, generator=9) for _ in range(2)
    ]
    assert torch.equal(runs[0].x, runs[1].x)
    assert runs[0].sampler.step_size == runs[1].sampler.step_size


def test_few_chains_and_few_steps_still_tune():
    draws = en.sample(_scaled(0.1, 10.0), en.HMC(), num_chains=1, num_steps=2000, warmup=1000, keep="all", generator=1)
    # A quarter period in one or two whole steps leaves little choice of acceptance.
    assert 0.6 < draws.info.acceptance.mean() < 0.97
    sampler = draws.sampler
    assert sampler.step_size * sampler.num_leapfrog == pytest.approx(math.pi / 2, rel=0.01)
    short = en.sample(_scaled(0.1, 10.0), en.HMC(), num_chains=20, num_steps=5, warmup=3)
    assert short.sampler.step_size > 0


def test_underdamped_langevin_takes_mass_and_step_from_the_target():
    energy = _scaled(1e-2, 1.0, 1e2)
    draws = en.sample(energy, en.UnderdampedLangevin(), num_chains=500, num_steps=400, warmup=600, generator=2)
    torch.testing.assert_close(draws.sampler.mass.scale, energy.scale, rtol=0.2, atol=0.0)
    standard = (draws.x - energy.mean) / energy.scale
    assert bool((standard.mean(0).abs() < 5 / math.sqrt(500)).all())
    assert bool(((standard.var(0) - 1).abs() < 5 * math.sqrt(2 / 500)).all())


def test_samplers_without_tuning_just_run_through_their_warm_up():
    draws = en.sample(
        en.Gaussian(1), en.Langevin(step_size=0.1), start=torch.full((2000, 1), 50.0), num_steps=1, warmup=200
    )
    assert draws.x.mean().abs() < 0.2
    assert draws.kept.shape == (1, 2000, 1)


@pytest.mark.parametrize("warmup", [-1, 2.5])
def test_a_warm_up_is_a_number_of_steps(warmup):
    with pytest.raises(en.InputError, match="warmup"):
        en.sample(en.Gaussian(1), en.MALA(), num_chains=2, num_steps=1, warmup=warmup)


def test_a_warm_up_sets_no_more_leapfrog_steps_than_allowed():
    precision = torch.tensor([[1.0, 0.99], [0.99, 1.0]]).inverse()
    energy = en.from_module(lambda x: ((x @ precision) * x).sum(1) / 2, en.Real(2))
    found = en.sample(energy, en.HMC(max_leapfrog=3), num_chains=50, num_steps=1, warmup=300).sampler
    assert found.num_leapfrog == 3
