import math

import pytest
import torch

import energeia as en


def _levels_seen(sampler, energy, num_steps):
    """E_l of the same point at each step, noise held at zero: it tells the level."""
    x = torch.full((1, 1), 2.0, dtype=torch.float64)
    state, seen = sampler.init(energy, x), []
    for _ in range(num_steps):
        state, info = sampler.step(energy, state._replace(x=x), (torch.zeros_like(x),))
        seen.append((info.energy.item(), (x - state.x).item()))
    return seen


def test_each_level_gets_its_steps_and_the_last_one_stays():
    energy = en.from_module(lambda x: x.square().sum(1), en.Real(1))
    sampler = en.AnnealedLangevin(levels=(8.0, 2.0), num_steps=2, step_size=0.1)
    seen = _levels_seen(sampler, energy, 6)
    # E / T = 4 / T; the drift is (h T / 2 T) * gradient / T, h T / T_L of each level: h / 2 * 4 / T_L.
    assert [value for value, _ in seen] == [0.5, 0.5, 2.0, 2.0, 2.0, 2.0]
    assert [drift for _, drift in seen] == pytest.approx([0.1] * 6)


def test_noise_levels_are_handed_to_the_energy_and_scale_the_step():
    class Blurred(en.Energy):
        """N(0, 1) data with noise of standard deviation sigma: N(0, 1 + sigma^2)."""

        def __init__(self):
            super().__init__(en.Real(1))

        def forward(self, x, sigma):
            return x.square().sum(1) / (2 * (1 + sigma.square()))

    sampler = en.AnnealedLangevin(levels=(3.0, 1.0), num_steps=1, step_size=0.1, over="noise")
    (first, drift), (second, after) = _levels_seen(sampler, Blurred(), 2)
    assert first == pytest.approx(4 / 20)
    assert second == pytest.approx(4 / 4)
    # h (sigma / sigma_L)^2 / 2 times the gradient 2 / (1 + sigma^2).
    assert drift == pytest.approx(0.1 * 9 / 2 * 2 / 10)
    assert after == pytest.approx(0.1 / 2 * 2 / 2)


def test_noise_of_each_level_has_its_variance():
    energy = en.from_module(lambda x: 0 * x.sum(1), en.Real(1))
    sampler = en.AnnealedLangevin(levels=(9.0, 1.0), num_steps=1, step_size=0.25)
    state = sampler.init(energy, torch.zeros(1, 1))
    state, _ = sampler.step(energy, state, (torch.ones(1, 1),))
    assert state.x.item() == pytest.approx(math.sqrt(0.25 * 9))


def test_annealing_finds_the_deep_well_that_cold_chains_miss():
    """Start in the shallow well of a tilted double well: only those that were heated leave it."""
    energy = en.from_module(lambda x: 8 * (x[:, 0].square() - 1).square() + 1.5 * x[:, 0], en.Real(1))
    start = torch.full((500, 1), 1.0)
    cold = en.sample(energy, en.Langevin(step_size=0.01), start=start, num_steps=600)
    annealed = en.AnnealedLangevin(levels=(8.0, 5.6, 4.0, 2.8, 2.0, 1.0), num_steps=100, step_size=0.01)
    found = en.sample(energy, annealed, start=start, num_steps=600)
    assert (cold.x < 0).float().mean() < 0.1
    # What is frozen in near T = 3, where the barrier stops crossings, has odds exp(3 / 3).
    assert (found.x < 0).float().mean() > 0.6


def test_stays_in_its_box():
    draws = en.sample(
        en.Uniform(en.Box(2)),
        en.AnnealedLangevin(levels=(5.0, 1.0), num_steps=5, step_size=0.05),
        num_chains=50,
        num_steps=10,
    )
    assert draws.x.abs().max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (1.0, 2.0)}, "must fall"),
        ({"levels": ()}, "must fall"),
        ({"levels": (2.0, 0.0)}, "level 1"),
        ({"levels": (2.0, 1.0), "over": "time"}, "over"),
        ({"levels": (2.0, 1.0), "num_steps": 0}, "num_steps"),
        ({"levels": (2.0, 1.0), "step_size": 0.0}, "step_size"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(en.InputError, match=message):
        en.AnnealedLangevin(**arguments)
