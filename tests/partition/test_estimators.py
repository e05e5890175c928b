"""Sequential Monte Carlo, ladders, acceptance ratios and moment paths against exact log Z."""

import itertools
import math

import pytest
import torch

import energeia as en
from energeia.energies import Enumerated, four_gaussians
from energeia.partition.bridge import acceptance_ratio, multistate
from energeia.partition.schedule import schedule
from energeia.partition.smc import systematic
from energeia.partition.walk import Geometric, walk_of
from energeia.partition.weights import pooled, together


def _rbm(visible=None, hidden=5, scale=0.9):
    torch.manual_seed(0)
    return en.RBM(visible or en.Binary(8), hidden, weight_scale=scale).double()


def _lattice():
    """Above its critical temperature: a rare second phase would make errors that few chains cannot know of."""
    return en.IsingLattice((4, 4), coupling=torch.tensor(0.35, dtype=torch.float64), field=0.1)


MODELS = {
    "RBM": _rbm,
    "RBM, spins": lambda: _rbm(en.Spin(8)),
    "RBM, real": lambda: _rbm(en.Real(2, start_scale=2.0), 3),
    "lattice": _lattice,
    "Gaussians": lambda: four_gaussians(dtype=torch.float64),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", [en.smc, en.thermodynamic_integration, en.tempering])
def test_against_the_exact_value(name, method):
    energy = MODELS[name]()
    exact = float(en.exact_log_z(energy).value)
    options = {"levels": 100, "num_chains": 50} if method is en.smc else {"num_steps": 200}
    if name == "Gaussians" and method is not en.smc:
        options = {"num_steps": 60, "num_rungs": 9}
    found = method(energy, **options)
    # A floor for errors that are themselves estimated from ten numbers.
    assert abs(float(found.value) - exact) < 5 * float(found.standard_error) + 0.01
    assert float(found.standard_error) < 0.3


def test_smc_is_unbiased_with_few_levels():
    energy = _rbm()
    exact = float(en.exact_log_z(energy).value)
    base = en.Independent(energy.space, torch.zeros(8, dtype=torch.float64))
    found = en.smc(energy, base=base, levels=5, num_chains=5, num_populations=4000, threshold=0.9)
    assert found.details["num_resamplings"] > 1
    assert abs(float(found.value) - exact) < 5 * float(found.standard_error)
    logs = found.details["log_estimates"]
    assert float(logs.std()) > 0.05
    assert found.kind == "lower"
    assert found.high == math.inf


def test_smc_that_never_resamples_is_ais():
    energy = _rbm()
    never = en.smc(energy, threshold=0.0, levels=20, num_chains=1, num_populations=100)
    plain = en.ais(energy, levels=20, num_chains=100)
    torch.testing.assert_close(never.details["log_estimates"], plain.details["log_estimates"])
    assert never.details["num_resamplings"] == 0


def test_weighted_draws_of_smc_are_draws_of_the_model():
    energy = _rbm(hidden=4)
    found = en.smc(energy, levels=50, num_chains=400, num_populations=20)
    x, weights = found.details["x"], found.details["log_weights"].softmax(1)
    each = (weights.unsqueeze(2) * x).sum(1)
    exact = Enumerated(energy).sample_exact(40_000, torch.Generator().manual_seed(1)).mean(0)
    error = each.std(0) / math.sqrt(len(each))
    assert bool(((each.mean(0) - exact).abs() < 5 * error + 0.015).all())


def test_systematic_resampling_takes_each_as_often_as_its_share_says():
    shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    index = systematic(shares, torch.Generator().manual_seed(0))
    counts = torch.stack([row.bincount(minlength=4) for row in index])
    assert counts.tolist() == [[2, 1, 1, 0], [0, 0, 0, 4]]
    uneven = torch.tensor([[0.7, 0.3]], dtype=torch.float64).expand(20_000, 2)
    share = (systematic(uneven, torch.Generator().manual_seed(0)) == 0).double().mean()
    assert abs(float(share) - 0.7) < 0.01


def test_the_ladder_swaps_and_says_how_often():
    found = en.tempering(_lattice(), num_rungs=6, num_steps=200)
    rates = found.details["swap_rates"]
    assert len(rates) == 5
    assert all(0.2 < rate <= 1 for rate in rates)
    assert found.details["rungs"][0] == 0
    assert found.details["rungs"][-1] == 1
    # log Z of every rung, of which the first is that of the base.
    assert len(found.details["log_z"]) == 6


@pytest.mark.parametrize("method", [en.thermodynamic_integration, en.tempering])
def test_a_ladder_that_is_cut_is_told(method):
    """From a cloud to a point with two rungs: hardly a chain crosses."""
    energy, base = en.Gaussian(10, scale=0.05), en.Gaussian(10, scale=5.0)
    with pytest.warns(UserWarning, match="swap in .* of tries"):
        found = method(energy, base=base, num_rungs=3, num_steps=20)
    assert "cuts the ladder" in found.method


def test_chains_of_a_ladder_that_drift_are_told():
    """A flip at a time of 400 spins, in too few steps to turn them."""
    energy = en.Ising(400, [(0, 1)], couplings=torch.tensor(0.0, dtype=torch.float64), fields=0.5)
    base = en.Independent(energy.space, torch.zeros(400, dtype=torch.float64))
    with pytest.warns(UserWarning, match="second half of the steps differs"):
        found = en.thermodynamic_integration(energy, base=base, sampler=en.Metropolis(), num_rungs=8, num_steps=60)
    assert "take more steps" in found.method


@pytest.mark.parametrize("method", [en.thermodynamic_integration, en.tempering])
def test_a_ladder_needs_two_rungs(method):
    with pytest.raises(en.InputError, match="at least 2 rungs"):
        method(_rbm(), num_rungs=1)


def _gaussians(number):
    generator = torch.Generator().manual_seed(0)
    energies = [en.Gaussian(1, mean=0.7 * k, scale=1 + 0.5 * k).double() for k in range(number)]
    draws = [energy.sample_exact(2000 + 500 * k, generator) for k, energy in enumerate(energies)]
    exact = torch.stack([energy.log_z().value for energy in energies])
    return energies, draws, exact - exact[0]


def test_bridge_and_its_error():
    energies, draws, exact = _gaussians(2)
    found = en.bridge(energies[1], draws[1], energies[0], draws[0])
    assert abs(float(found.value - exact[1])) < 4 * float(found.standard_error) < 0.2
    # The standard error is the spread of many such estimates.
    generator = torch.Generator().manual_seed(1)
    many = []
    for _ in range(300):
        first, second = (energy.sample_exact(200, generator) for energy in energies)
        many.append(en.bridge(energies[1], second, energies[0], first))
    spread = torch.stack([each.value for each in many]).std()
    told = torch.stack([each.standard_error for each in many]).mean()
    assert float(told) == pytest.approx(float(spread), rel=0.15)


def test_mbar_of_two_is_the_bridge_and_of_many_is_right():
    energies, draws, exact = _gaussians(4)
    two = en.mbar(energies[:2], draws[:2])
    one = en.bridge(energies[1], draws[1], energies[0], draws[0])
    torch.testing.assert_close(two.log_z[1], one.value, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(two.covariance[1, 1].sqrt(), one.standard_error, rtol=1e-4, atol=1e-8)
    found = en.mbar(energies, draws)
    assert bool(((found.log_z - exact).abs() <= 4 * found.covariance.diagonal().sqrt()).all())
    assert float(found.covariance[0].abs().max()) == 0


def test_multistate_solves_its_equations_with_far_states():
    generator = torch.Generator().manual_seed(2)
    table = 30 * torch.randn(5, 400, generator=generator, dtype=torch.float64)
    counts = torch.tensor([100, 50, 150, 60, 40])
    log_z = multistate(table, counts).log_z
    mixture = (table + (counts.double().log() - log_z).unsqueeze(1)).logsumexp(0)
    torch.testing.assert_close((table - mixture).logsumexp(1), log_z, rtol=1e-8, atol=1e-8)


def test_an_acceptance_ratio_of_hardly_anything_in_common_is_told():
    generator = torch.Generator().manual_seed(0)
    near, far = en.Gaussian(1).double(), en.Gaussian(1, mean=7.0).double()
    draws = [energy.sample_exact(500, generator) for energy in (near, far)]
    assert "hardly meet" in en.bridge(far, draws[1], near, draws[0]).method
    with pytest.raises(en.DivergenceError, match="NaN"):
        acceptance_ratio(torch.tensor([math.nan, 1.0]), torch.ones(2))
    with pytest.raises(en.InputError, match="at least two"):
        en.mbar([near], [draws[0]])
    with pytest.raises(en.InputError, match="different spaces"):
        en.bridge(near, draws[0], en.Gaussian(2).double(), torch.zeros(3, 2).double())


def test_a_moment_path_is_right_and_starts_at_nothing():
    energy = _rbm()
    exact = float(en.exact_log_z(energy).value)
    draws = energy.sample_exact(500, torch.Generator().manual_seed(0))
    path = en.moment_path(energy, draws, num_knots=3, num_steps=50, num_chains=100)
    assert float(path.log_z_start()) == pytest.approx(13 * math.log(2))
    found = en.ais(energy, path=path, levels=200)
    assert abs(float(found.value) - exact) < 5 * float(found.standard_error) < 0.5
    # Moments half way are the mean of those at the ends.
    middle = path.at(0.5)
    half = Enumerated(middle).sample_exact(20_000, torch.Generator().manual_seed(1)).mean(0)
    torch.testing.assert_close(half, (draws.mean(0) + 0.5) / 2, rtol=0, atol=0.06)
    assert float((path.at(1.0)(draws) - energy(draws)).abs().max()) < 1e-12


def test_a_moment_path_needs_an_exponential_family():
    with pytest.raises(en.CapabilityError, match="discrete space"):
        en.moment_path(en.Gaussian(2), torch.zeros(3, 2))
    torch.manual_seed(0)
    bent = en.Neural(en.MLP(4, 1, widths=(8,)), en.Binary(4))
    with pytest.raises(en.CapabilityError, match="no exponential family"):
        en.moment_path(bent, torch.ones(3, 4))


def test_levels_are_equally_hard():
    """Of a Gaussian that narrows, KL steps are known: shares crowd where the weights spread."""
    base, energy = en.Gaussian(20, scale=10.0).double(), en.Gaussian(20, scale=0.1).double()
    sampler = en.HMC(step_size=0.1)
    laid = schedule(walk_of(Geometric(base, energy), sampler, torch.Generator().manual_seed(0)), sampler, 200)
    precision = [(1 - share) / 100 + share * 100 for share in laid.shares]
    steps = torch.tensor([math.log(high / low) for low, high in itertools.pairwise(precision)])
    assert float(steps.std() / steps.mean()) < 0.35
    # sqrt(D / 2) log(precision ratio) is the length of this path; steps of .5 overstate it by 8 %, and the pilot lags.
    assert 1 < laid.length / (math.sqrt(10) * math.log(1e4)) < 1.2
    sizes = [laid.step_sizes[laid.shares[place]] for place in (20, 180)]
    assert sizes[0] > 10 * sizes[1]


def test_pooled_weights():
    logs = torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = pooled(logs)
    assert float(found.value) == pytest.approx(0.5, abs=4 * float(found.standard_error))
    assert float(found.high - found.low) == pytest.approx(3.92 * float(found.standard_error), rel=0.1)
    assert found.effective_sample_size == pytest.approx(5000 / math.e, rel=0.15)
    alone = pooled(logs[:1])
    assert (float(alone.value), float(alone.high)) == (float(logs[0]), math.inf)


def test_runs_are_put_together():
    energy = _rbm()
    runs = [en.ais(energy, levels=10, num_chains=50, generator=seed) for seed in range(4)]
    found = together(runs)
    logs = torch.cat([run.details["log_estimates"] for run in runs])
    assert float(found.value) == pytest.approx(float(logs.logsumexp(0)) - math.log(200))
    assert found.details["num_chains"] == 200
    assert "4 times" in found.method
