import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.nodes import integration_nodes


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Counted(en.Energy):
    """Counts its evaluations."""

    def __init__(self):
        super().__init__(en.Real(2))
        self.count = 0

    def forward(self, x):
        self.count += 1
        return (x**4).sum(1) / 4 + x[:, 0]


def test_known_acceptance_energy_error_and_the_identity_of_jarzynski():
    """N(0, I_100), step .3, 5 leapfrog steps: mean error .0257855, acceptance .9096, E[exp(-dH)] = 1."""
    energy, num = en.Gaussian(100).double(), 40_000
    sampler = en.HMC(step_size=0.3, num_leapfrog=5, jitter=0.0)
    generator = _generator()
    state = sampler.init(energy, torch.randn(num, 100, generator=generator, dtype=torch.float64))
    noise = sampler.draw(state, generator)
    end, momentum = sampler.trajectory(energy, state, noise)
    error = end.energy - state.energy + (momentum.square().sum(1) - noise[0].square().sum(1)) / 2
    _, info = sampler.step(energy, state, noise)
    for values, expected in ((error, 0.0257855), ((-error).exp(), 1.0), (info.acceptance, 0.9096)):
        # The reference gives the acceptance to four digits.
        assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(num) + 5e-5 * (expected == 0.9096)


@pytest.mark.parametrize(
    "mass",
    [
        None,
        en.DiagonalMass(torch.tensor([0.5, 2.0], dtype=torch.float64)),
        en.DenseMass(torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)),
    ],
    ids=["identity", "diagonal", "dense"],
)
@pytest.mark.parametrize("space", [en.Real(2), en.Box(2, low=-0.7, high=1.1)], ids=["real", "box"])
def test_leapfrog_runs_backwards(space, mass):
    energy = en.from_module(lambda x: (x**4).sum(1) / 4 + x.prod(1), space)
    sampler = en.HMC(step_size=0.1, num_leapfrog=7, jitter=0.3, mass=mass)
    if isinstance(space, en.Box) and mass is not None and not mass.keeps_axes:
        with pytest.raises(en.CapabilityError, match="tilt the walls"):
            sampler.init(energy, torch.zeros(1, 2, dtype=torch.float64))
        return
    x = space.start(500, _generator(), dtype=torch.float64)
    state = sampler.init(energy, x)
    noise = sampler.draw(state, _generator(1))
    end, momentum = sampler.trajectory(energy, state, noise)
    assert float((end.x - x).abs().mean()) > 0.1
    back, turned = sampler.trajectory(energy, end, (-momentum, *noise[1:]))
    torch.testing.assert_close(back.x, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned, -noise[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("keep", ["identity", "dense"])
def test_leapfrog_keeps_volumes(keep):
    mass = None if keep == "identity" else en.DenseMass(torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64))
    energy = en.from_module(lambda x: (x**4).sum(1) / 4 + x.prod(1), en.Real(2))
    sampler = en.HMC(step_size=0.2, num_leapfrog=3, jitter=0.0, mass=mass)

    def flow(point):
        state = sampler.init(energy, point[:, :2])
        end, momentum = sampler.trajectory(energy, state, (point[:, 2:], torch.zeros(len(point))))
        return torch.cat([end.x, momentum], 1)

    point = torch.randn(1, 4, dtype=torch.float64, generator=_generator())
    steps = 1e-5 * torch.eye(4, dtype=torch.float64)
    jacobian = (flow(point + steps) - flow(point - steps)) / 2e-5
    assert torch.linalg.det(jacobian).abs().item() == pytest.approx(1, abs=1e-8)


def test_energy_error_falls_with_the_square_of_the_step():
    energy = en.from_module(lambda x: (x**4).sum(1) / 4 + x.prod(1), en.Real(2))
    x = torch.randn(100, 2, dtype=torch.float64, generator=_generator())
    errors = []
    for halvings in range(2):
        sampler = en.HMC(step_size=0.05 / 2**halvings, num_leapfrog=20 * 2**halvings, jitter=0.0)
        state = sampler.init(energy, x)
        xi = torch.randn(100, 2, dtype=torch.float64, generator=_generator(1))
        end, momentum = sampler.trajectory(energy, state, (xi, torch.zeros(100)))
        errors.append((end.energy - state.energy + (momentum.square() - xi.square()).sum(1) / 2).abs().mean())
    assert (errors[0] / errors[1]).item() == pytest.approx(4, rel=0.05)


def test_one_gradient_a_leapfrog_step():
    energy = Counted()
    sampler = en.HMC(step_size=0.1, num_leapfrog=5)
    state = sampler.init(energy, torch.zeros(3, 2))
    assert energy.count == 1
    for _ in range(10):
        state, _ = sampler.step(energy, state, sampler.draw(state, _generator()))
    assert energy.count == 1 + 10 * 5


def test_a_resonant_trajectory_mixes_with_jitter_only():
    """L h = pi on N(0, 1): without jitter x goes to -x and its square never changes."""
    start = torch.full((2000, 1), 3.0)
    spread = {}
    for jitter in (0.0, 0.2):
        sampler = en.HMC(step_size=math.pi / 20, num_leapfrog=20, jitter=jitter)
        draws = en.sample(en.Gaussian(1), sampler, start=start, num_steps=200)
        spread[jitter] = draws.x.abs().mean().item()
    assert spread[0.0] > 2.5
    assert spread[0.2] == pytest.approx(math.sqrt(2 / math.pi), abs=5 * 0.6 / math.sqrt(2000))


def test_hmc_reports_a_trajectory_that_runs_away():
    energy = en.Gaussian(2, scale=0.01)
    draws = en.sample(energy, en.HMC(step_size=1.0), start=torch.zeros(10, 2), num_steps=3)
    assert bool(draws.info.divergent.all())
    assert float(draws.info.acceptance.max()) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"num_leapfrog": 0},
        {"step_size": -1.0},
        {"target_acceptance": 1.0},
        {"tune_mass": "full"},
    ],
)
def test_hmc_refuses_what_does_not_fit(arguments):
    with pytest.raises(en.InputError, match=next(iter(arguments))):
        en.HMC(**arguments)


def test_masses_refuse_what_is_none():
    with pytest.raises(en.InputError, match="positive"):
        en.DiagonalMass(torch.tensor([1.0, 0.0]))
    with pytest.raises(en.InputError, match="positive definite"):
        en.DenseMass(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(en.InputError, match=r"\[d, d\]"):
        en.DenseMass(torch.ones(3))


def test_mass_square_roots_belong_together():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    for mass, inverse in (
        (en.DenseMass(covariance), covariance),
        (en.DiagonalMass(torch.tensor([0.5, 2.0], dtype=torch.float64)), torch.tensor([0.25, 4.0]).double().diag()),
    ):
        unit = torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(mass.spread(mass.gather(unit)), inverse)
        torch.testing.assert_close(mass.whiten(mass.spread(unit)), unit)


class TestUnderdampedLangevin:
    def test_is_exact_on_a_gaussian_whatever_the_step(self):
        """BAOAB has no bias in x on a harmonic energy (Leimkuhler & Matthews 2013)."""
        sampler = en.UnderdampedLangevin(step_size=1.0, friction=0.7)
        draws = en.sample(en.Gaussian(1).double(), sampler, num_chains=200_000, num_steps=60, generator=3)
        assert draws.x.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 200_000))

    def test_mass_changes_the_path_and_not_the_target(self):
        target = en.Gaussian(2, mean=torch.tensor([1.0, -2.0]), scale=torch.tensor([0.1, 10.0]))
        sampler = en.UnderdampedLangevin(step_size=0.5, mass=en.DiagonalMass(torch.tensor([0.1, 10.0])))
        draws = en.sample(target, sampler, num_chains=20_000, num_steps=60, generator=3)
        for column, (mean, scale) in enumerate(((1.0, 0.1), (-2.0, 10.0))):
            cdf = stats.norm(mean, scale).cdf
            assert stats.kstest(draws.x[:, column].numpy(), cdf).pvalue > 1e-6

    def test_is_far_less_biased_than_overdamped_steps_of_that_length(self):
        energy = en.from_module(lambda x: 2 * (1 + x.square()).sqrt().sum(1), en.Real(1))
        x, log_weight = integration_nodes(energy.space)
        exact = ((log_weight - energy(x)).softmax(0) * x[:, 0].square()).sum().item()
        bias = {}
        for sampler in (en.UnderdampedLangevin(step_size=1.0), en.Langevin(step_size=1.0)):
            start = 0.8 * torch.randn(2000, 1, dtype=torch.float64, generator=_generator())
            draws = en.sample(energy, sampler, start=start, num_steps=2000, keep="all", thin=2, generator=5)
            bias[type(sampler)] = draws.kept[100:].square().mean().item() - exact
        # Two million draws: the error of the mean is about .001.
        assert abs(bias[en.UnderdampedLangevin]) < 0.01
        assert bias[en.Langevin] > 0.1

    def test_momenta_start_in_equilibrium(self):
        sampler = en.UnderdampedLangevin(step_size=0.1)
        energy = en.Gaussian(1)
        state = sampler.init(energy, torch.randn(50_000, 1, generator=_generator()))
        state, _ = sampler.step(energy, state, sampler.draw(state, _generator(1)))
        assert state.momentum.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 50_000))

    def test_stays_in_its_box_and_keeps_the_density_there(self):
        energy = en.from_module(lambda x: 2 * x[:, 0], en.Box(1, low=0.0, high=1.0))
        draws = en.sample(energy, en.UnderdampedLangevin(step_size=0.05), num_chains=20_000, num_steps=400, generator=1)
        cdf = stats.truncexpon(b=2, scale=0.5).cdf
        assert stats.kstest(draws.x.flatten().double().numpy(), cdf).pvalue > 1e-6
