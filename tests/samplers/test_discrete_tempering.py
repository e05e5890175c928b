"""Tempering over discrete samplers, and every discrete sampler on three seeds: frequencies of all states."""

import pytest
import torch
from small_models import pairs
from test_discrete import SAMPLERS, _chi_square

import energeia as en
from energeia.core.sampler import advance

LADDER, NUM_CHAINS = (1.0, 1.6, 3.0), 20_000
SEEDS = [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["binary", "spin", "categorical"])
@pytest.mark.parametrize(
    "inner",
    [en.Gibbs(), en.Metropolis(2), en.GibbsWithGradients(num_flips=2), en.DiscreteLangevin(step_size=2.0)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_replica_exchange_keeps_every_temperature(inner, kind, seed):
    energy, generator = pairs(kind), torch.Generator().manual_seed(seed)
    exact = [en.Enumerated(1 / t * energy).sample_exact(NUM_CHAINS, generator) for t in LADDER]
    tempering = en.ParallelTempering(inner, LADDER)
    state, _ = advance(energy, tempering, tempering.start(energy, torch.cat(exact)), num_steps=6, generator=generator)
    assert bool((state.swap_rate > 0.2).all())
    for temperature, chains in zip(LADDER, state.inner.x.split(NUM_CHAINS), strict=True):
        assert _chi_square(1 / temperature * energy, chains) > 3e-7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["binary", "spin", "categorical"])
@pytest.mark.parametrize(
    "inner",
    [en.Gibbs(scan="palindrome"), en.Metropolis(2), en.GibbsWithGradients(), en.DiscreteLangevin(step_size=2.0)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_tempered_transitions_keep_their_target(inner, kind, seed):
    energy, generator = en.Enumerated(pairs(kind)), torch.Generator().manual_seed(seed)
    start = energy.sample_exact(NUM_CHAINS, generator)
    draws = en.sample(energy, en.TemperedTransitions(inner, LADDER), start=start, num_steps=3, generator=generator)
    assert 0.3 < draws.info.acceptance.mean() < 0.99
    assert _chi_square(energy, draws.x) > 3e-7


def test_a_sweep_in_one_order_cannot_run_backwards():
    with pytest.raises(en.CapabilityError, match="not reversible"):
        en.TemperedTransitions(en.Gibbs(), LADDER)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["binary", "spin", "categorical"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_many_exact_draws_stay_exact(sampler, kind, dtype, seed):
    energy, generator = en.Enumerated(pairs(kind, ferromagnetic=True)).to(dtype), torch.Generator().manual_seed(seed)
    start = energy.sample_exact(200_000, generator)
    draws = en.sample(energy, sampler, start=start, num_steps=4, generator=generator)
    assert _chi_square(energy, draws.x) > 3e-7
