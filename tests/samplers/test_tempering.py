import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.algebra import Scaled
from energeia.samplers.tempering import even_ladder

LADDER = (1.0, 2.0, 5.0)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _double_well():
    """Two unequal wells with a wall close by; its tempered versions have exact draws by inversion."""
    return en.from_module(lambda x: 2 * (x[:, 0].square() - 1).square() + 0.5 * x[:, 0], en.Box(1, low=-1.3, high=2.0))


def _exact(energy, temperature, num, generator):
    grid = torch.linspace(-1.3, 2, 20_001, dtype=torch.float64)
    density = (-energy(grid.unsqueeze(1)) / temperature).exp()
    cumulative = torch.cumsum((density[1:] + density[:-1]) / 2, 0)
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), cumulative / cumulative[-1]])
    uniform = torch.rand(num, generator=generator, dtype=torch.float64)
    upper = torch.searchsorted(cumulative, uniform).clamp(1, len(grid) - 1)
    share = (uniform - cumulative[upper - 1]) / (cumulative[upper] - cumulative[upper - 1])
    return (grid[upper - 1] + share * (grid[upper] - grid[upper - 1])).unsqueeze(1)


INNER = {
    "MALA": en.MALA(step_size=0.3),
    "HMC": en.HMC(step_size=0.3, num_leapfrog=3),
    "walk": en.RandomWalk(step_size=0.8),
    "two steps": en.MALA(step_size=0.3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", INNER)
def test_replica_exchange_leaves_every_temperature_unchanged(name, dtype):
    energy, num = _double_well(), 10_000
    tempering = en.ParallelTempering(INNER[name], LADDER, num_steps=2 if name == "two steps" else 1)
    generator = _generator(1)
    replicas = torch.cat([_exact(energy, t, num, generator) for t in LADDER]).to(dtype)
    state = tempering.start(energy, replicas)
    for _ in range(15):
        state, info = tempering.step(energy, state, tempering.draw(state, generator))
        torch.testing.assert_close(state.x, state.inner.x[:num], rtol=0, atol=0)
    torch.testing.assert_close(info.energy, energy(state.x))
    # What a swap carries along must be what the sampler would evaluate anew.
    fresh = tempering.start(energy, state.inner.x).inner
    for kept, expected in zip(state.inner, fresh, strict=True):
        torch.testing.assert_close(kept, expected)
    for number, temperature in enumerate(LADDER):
        chains = state.inner.x[number * num : (number + 1) * num]
        assert (
            stats.ks_2samp(chains.flatten().numpy(), _exact(energy, temperature, num, generator).flatten()).pvalue
            > 1e-6
        )
    assert bool((state.swap_rate > 0.3).all())
    assert state.proposed.tolist() == [8, 7]


def test_swaps_exchange_whole_states_and_odd_pairs_too():
    energy = en.Gaussian(3, scale=torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    tempering = en.ParallelTempering(en.UnderdampedLangevin(step_size=0.1), (1.0, 1.1, 1.2, 1.3))
    x = torch.randn(4 * 50, 3, dtype=torch.float64, generator=_generator())
    state = tempering.start(energy, x)
    momentum = torch.randn(4 * 50, 3, dtype=torch.float64, generator=_generator(1))
    inner = state.inner._replace(momentum=momentum)
    seen = []
    for parity in (0, 1):
        scale, _ = tempering._scale(inner.x)
        uniform = torch.zeros(3, 50, dtype=torch.float64)
        moved, values, _, active = tempering._swap(energy, inner, scale, torch.tensor(parity), uniform)
        seen.append(active.tolist())
        torch.testing.assert_close(values, energy(moved.x[:50]))
        # With uniforms of zero every asked pair swaps, position and momentum together.
        order = [1, 0, 3, 2] if parity == 0 else [0, 2, 1, 3]
        expected = torch.cat([torch.arange(50) + 50 * rung for rung in order])
        torch.testing.assert_close(moved.x, x[expected], rtol=0, atol=0)
        torch.testing.assert_close(moved.momentum, momentum[expected], rtol=0, atol=0)
    assert seen == [[True, False, True], [False, True, False]]


def test_swap_acceptance_is_the_formula():
    energy = en.Gaussian(2).double()
    tempering = en.ParallelTempering(en.MALA(step_size=0.1), LADDER)
    x = 2 * torch.randn(3 * 200, 2, dtype=torch.float64, generator=_generator())
    state = tempering.start(energy, x)
    scale, _ = tempering._scale(x)
    _, _, acceptance, _ = tempering._swap(energy, state.inner, scale, state.parity, torch.ones(2, 200).double())
    e = energy(x).view(3, 200)
    cold, hot = Scaled(energy, 1.0), Scaled(energy, 1 / 2.0)
    own = -cold(x[:200]) - hot(x[200:400])
    crossed = -cold(x[200:400]) - hot(x[:200])
    torch.testing.assert_close(acceptance[0], (crossed - own).exp().clamp(max=1))
    torch.testing.assert_close(acceptance[1], ((1 / 2 - 1 / 5) * (e[1] - e[2])).exp().clamp(max=1))


def test_tempering_finds_the_weights_of_far_modes_and_its_ladder_is_tuned():
    parts = [en.Gaussian(2, mean=torch.tensor([-6.0, 0.0])), en.Gaussian(2, mean=torch.tensor([6.0, 0.0]))]
    energy = en.any_of(*parts, weights=(0.25, 0.75))
    start = torch.tensor([[-6.0, 0.0]]).repeat(400, 1)
    stuck = en.sample(energy, en.HMC(), start=start, num_steps=200, warmup=200)
    assert float((stuck.x[:, 0] > 0).float().mean()) < 0.05
    ladder = (1.0, 1.5, 2.0, 3.0, 40.0)
    tempering = en.ParallelTempering(en.HMC(), ladder)
    draws = en.sample(energy, tempering, start=start, num_steps=400, warmup=400, keep="all")
    # Half a million correlated draws: .02 is what the chains of one run differ by.
    assert float((draws.kept[..., 0] > 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    tuned = draws.sampler
    assert tuned.temperatures[0] == 1
    assert tuned.temperatures[-1] == 40
    rates = draws.state.swap_rate
    untuned = en.sample(
        energy, en.ParallelTempering(tuned.sampler, ladder), start=draws.x, num_steps=400
    ).state.swap_rate
    assert rates.min() > 0.35 > untuned.min()
    assert rates.max() - rates.min() < 0.2 < untuned.max() - untuned.min()


def test_even_ladder_divides_the_barrier():
    assert even_ladder((1.0, 2.0, 4.0), torch.tensor([0.5, 0.5])) == pytest.approx((1.0, 2.0, 4.0))
    # All rejection lies between 1 and 2, so the middle one goes half way there in 1 / T.
    found = even_ladder((1.0, 2.0, 4.0), torch.tensor([0.0, 1.0]))
    assert found[1] == pytest.approx(1 / 0.75, rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["MALA", "HMC", "walk"])
def test_tempered_transitions_leave_the_target_unchanged(name, dtype):
    energy, num, generator = _double_well(), 20_000, _generator(2)
    sampler = en.TemperedTransitions(INNER[name], (1.0, 1.5, 2.5))
    draws = en.sample(
        energy, sampler, start=_exact(energy, 1.0, num, generator).to(dtype), num_steps=6, generator=generator
    )
    assert 0.2 < draws.info.acceptance.mean() < 0.95
    assert stats.ks_2samp(draws.x.flatten().numpy(), _exact(energy, 1.0, num, generator).flatten()).pvalue > 1e-6
    torch.testing.assert_close(draws.info.energy[-1], energy(draws.x))
    torch.testing.assert_close(draws.state.inner.energy, energy(draws.x))


def test_tempered_transitions_accept_by_neals_formula():
    """One rung, a walk whose steps are all accepted: log a = (b0 - b1) E(x) + (b1 - b0) E(end)."""
    energy = en.from_module(lambda x: x[:, 0].abs(), en.Real(1))
    sampler = en.TemperedTransitions(en.RandomWalk(step_size=1.0), (1.0, 4.0))
    x = torch.tensor([[0.5]], dtype=torch.float64)
    state = sampler.init(energy, x)
    zero, moves = torch.zeros(1, dtype=torch.float64), [torch.tensor([[v]], dtype=torch.float64) for v in (0.4, 0.3)]
    end, info = sampler.step(energy, state, (moves[0], zero, moves[1], zero, zero))
    # The proposals of the walk at temperature 4 are spread by sqrt(4), as its mass is.
    assert end.x.item() == pytest.approx(0.5 + 2 * 0.4 + 2 * 0.3)
    assert info.acceptance.item() == pytest.approx(math.exp((1 - 1 / 4) * (0.5 - 1.9)))


@pytest.mark.parametrize("ladder", [(1.0,), (2.0, 4.0), (1.0, 4.0, 3.0), (1.0, math.inf)])
def test_a_ladder_that_does_not_rise_from_one_is_refused(ladder):
    for make in (en.ParallelTempering, en.TemperedTransitions):
        with pytest.raises(en.InputError, match="begin at 1 and rise"):
            make(en.MALA(), ladder)


def test_tempered_transitions_need_a_reversible_sampler():
    with pytest.raises(en.CapabilityError, match="not reversible"):
        en.TemperedTransitions(en.Langevin(step_size=0.1))


def test_a_nan_in_a_hot_replica_is_told():
    def holed(x):
        return torch.where(x[:, 0] > 3, torch.full_like(x[:, 0], math.nan), x[:, 0].square() / 2)

    energy = en.from_module(holed, en.Real(1, start_scale=0.1))
    draws = en.sample(
        energy, en.ParallelTempering(en.RandomWalk(1.0), (1.0, 30.0)), num_chains=200, num_steps=50, keep="all"
    )
    assert bool((draws.kept <= 3).all())
    assert bool(draws.info.divergent.any())


def test_compiled_tempering_equals_eager():
    energy = en.Neural(en.MLP(2, widths=(8,)), en.Real(2)).double()
    for sampler in (en.ParallelTempering(en.MALA(), LADDER), en.TemperedTransitions(en.MALA(), LADDER)):
        runs = [en.sample(energy, sampler, num_chains=8, num_steps=4, chunk=chunk) for chunk in (None, 2)]
        torch.testing.assert_close(runs[0].x, runs[1].x, rtol=1e-9, atol=1e-11)
