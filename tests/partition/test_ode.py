"""log p under the probability-flow equation, where every noise level is known, and by quadrature where none is."""

import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.energies import CorrelatedGaussian, GaussianMixture
from energeia.partition import ode

HIGH, LOW = 3.0, 0.2
MEANS = torch.tensor([[-1.5, 0.5], [2.0, -1.0]], dtype=torch.float64)
SPREADS = torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, 0.0], [0.0, 1.5]]], dtype=torch.float64)
SHARES = torch.tensor([0.3, 0.7], dtype=torch.float64)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class _Blurred(en.Energy):
    """Normals with shares, seen through noise: an energy whose levels are all known."""

    def __init__(self, number=2):
        super().__init__(en.Real(2))
        self.register_buffer("levels", torch.tensor([HIGH, LOW], dtype=torch.float64))
        self.means, self.spreads = MEANS[:number], SPREADS[:number]
        self.shares = SHARES[:number] / SHARES[:number].sum()

    def at(self, sigma):
        """The density at a level."""
        if len(self.means) == 1:
            return CorrelatedGaussian(self.spreads[0] + sigma**2 * torch.eye(2), mean=self.means[0])
        return GaussianMixture(self.means, self.spreads + sigma**2 * torch.eye(2), self.shares)

    def forward(self, x, context=None):
        # A constant that depends on the level: energies of different levels have log Z's of their own.
        sigma = float(self.levels[-1] if context is None else context)
        return self.at(sigma)(x) + 7 * sigma


def _network(kind=en.NoiseConditional, event=2, seed=1):
    """A network that was never trained, steep enough to be far from normal."""
    torch.manual_seed(seed)
    size = math.prod(event) if isinstance(event, tuple) else event
    network = en.LevelMLP(event, 1 if kind is en.NoiseConditional else size, widths=(12,))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.6)
    return kind(network.double(), en.Real(event), levels=(2.0, 1.0, 0.4)).double()


def _log_density(energy, x):
    return -energy(x) - energy.log_z().value


@pytest.mark.parametrize(("number", "tolerance"), [(1, 1e-6), (2, 1e-4)])
def test_data_that_are_known_at_every_level(number, tolerance):
    energy, x = _Blurred(number), 2 * _random(50, 2)
    found = en.ode_log_prob(energy, x, base=energy.at(HIGH), num_steps=100)
    torch.testing.assert_close(found.values, _log_density(energy.at(LOW), x), rtol=0, atol=tolerance)
    assert found.log_z.kind == "exact"
    assert found.mean == pytest.approx(float(found.values.mean()))
    assert found.low < found.mean < found.high < found.low + 1e-4


def test_the_error_falls_with_the_fourth_power_of_the_steps_and_is_told():
    energy, x = _Blurred(), 2 * _random(80, 2)
    truth = _log_density(energy.at(LOW), x)
    found = [en.ode_log_prob(energy, x, base=energy.at(HIGH), num_steps=number) for number in (40, 80, 160)]
    errors = [float((one.values - truth).abs().mean()) for one in found]
    assert 12 < errors[0] / errors[1] < 22
    assert 13 < errors[1] / errors[2] < 19
    # Half as many steps: some 16 times the error.
    assert found[1].log_z.details["solver_error"] == pytest.approx(errors[0] - errors[1], rel=0.1)
    assert abs(found[0].mean - float(truth.mean())) < found[0].high - found[0].mean


def test_the_base_of_a_noise_conditional_model():
    """A network of zeros says that data are N(0, c^2)."""
    energy = en.NoiseConditional(en.LevelMLP(2), en.Real(2), levels=(2.0, 0.5), scale=1.5).double()
    nn.init.zeros_(energy.network.last.weight)
    nn.init.zeros_(energy.network.last.bias)
    x = 2 * _random(20, 2)
    found = en.ode_log_prob(energy, x)
    expected = en.Gaussian(2, scale=math.sqrt(0.5**2 + 1.5**2)).double()
    torch.testing.assert_close(found.values, _log_density(expected, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [en.NoiseConditional, en.NoiseConditionalScore])
def test_the_density_of_any_network_integrates_to_one(kind):
    energy = _network(kind)
    line = torch.linspace(-12, 12, 101, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    found = en.ode_log_prob(energy, x, num_steps=16)
    cell = float(line[1] - line[0]) ** 2
    assert float(found.values.exp().sum()) * cell == pytest.approx(1, abs=1e-4)
    # It is not the base again.
    base = _log_density(en.Gaussian(2, scale=math.sqrt(5)).double(), x)
    share = (found.values.exp() - base.exp()).abs().sum() * cell / 2
    assert share > 0.2


def test_probes_average_to_the_exact_trace_with_the_error_that_is_told():
    energy, x = _network(), _random(3, 2)
    exact = en.ode_log_prob(energy, x, num_steps=20)
    found = en.ode_log_prob(energy, x, num_steps=20, num_probes=2000)
    error = found.log_z.details["standard_error"]
    assert bool(((found.values - exact.values).abs() < 5 * error).all())
    assert bool((error < 0.1).all())
    many = x[:1].expand(600, 2)
    rough = en.ode_log_prob(energy, many, num_steps=20, num_probes=8, generator=3)
    told = float(rough.log_z.details["standard_error"].square().mean().sqrt())
    assert float(rough.values.std()) == pytest.approx(told, rel=0.15)
    assert float(rough.log_z.standard_error) == pytest.approx(told / math.sqrt(600))
    assert abs(rough.mean - float(exact.values[0])) < 5 * float(rough.log_z.standard_error)
    assert rough.log_z.kind == "approximate"
    assert rough.high - rough.low > 3.9 * float(rough.log_z.standard_error)


def test_many_numbers_take_probes_and_a_given_generator_repeats_them():
    energy = en.NoiseConditionalScore(en.LevelMLP((5, 13), 65), en.Real((5, 13)), levels=(2.0, 0.5)).double()
    x = _random(4, 5, 13)
    found = en.ode_log_prob(energy, x, num_steps=8)
    exact = en.ode_log_prob(energy, x, num_steps=8, num_probes=0)
    assert "10 probes" in found.log_z.method
    assert "exact trace" in exact.log_z.method
    assert bool(((found.values - exact.values).abs() < 6 * found.log_z.details["standard_error"]).all())
    again = en.ode_log_prob(energy, x, num_steps=8, generator=torch.Generator().manual_seed(0))
    other = en.ode_log_prob(energy, x, num_steps=8, generator=1)
    torch.testing.assert_close(again.values, found.values, rtol=0, atol=0)
    assert bool((other.values != found.values).all())


def test_its_start_is_where_the_sampler_comes_from():
    energy, x = _network(), _random(30, 2)
    start = en.ode_log_prob(energy, x, num_steps=100).log_z.details["start"]
    fine = tuple(2.0 * 0.2 ** (k / 1000) for k in range(1001))
    draws = en.sample(energy, en.ReverseDiffusion(fine, kind="ode"), start=start, num_steps=1000, progress=False)
    torch.testing.assert_close(draws.x, x, rtol=0, atol=1e-4)


def test_rows_of_any_shape_in_parts_of_any_size(monkeypatch):
    flat = _network(event=4)
    shaped = en.NoiseConditional(flat.network, en.Real((1, 2, 2)), levels=(2.0, 1.0, 0.4)).double()
    x = _random(7, 4)
    whole = en.ode_log_prob(flat, x, num_steps=6)
    torch.testing.assert_close(en.ode_log_prob(shaped, x.view(7, 1, 2, 2), num_steps=6).values, whole.values)
    monkeypatch.setattr(ode, "_AT_ONCE", 8)
    torch.testing.assert_close(en.ode_log_prob(flat, x, num_steps=6).values, whole.values)
    bits = en.bits_per_dimension(whole, flat.space, bin_width=0.5)
    assert bits.value == pytest.approx(-(whole.mean / 4 + math.log(0.5)) / math.log(2))


def test_nothing_is_left_behind():
    energy, x = _network(), _random(3, 2).requires_grad_(True)
    with torch.no_grad():
        bare = en.ode_log_prob(energy, x, num_steps=4, num_probes=2)
    found = en.ode_log_prob(energy, x, num_steps=4, num_probes=2)
    torch.testing.assert_close(bare.values, found.values, rtol=0, atol=0)
    assert not found.values.requires_grad
    assert not found.log_z.details["start"].requires_grad
    assert x.grad is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in energy.parameters())


def test_what_does_not_fit_is_refused():
    energy, x = _network(), _random(3, 2)
    with pytest.raises(en.CapabilityError, match="NoiseLevels"):
        en.ode_log_prob(en.Gaussian(2), x)
    with pytest.raises(en.InputError, match="how wide the data are"):
        en.ode_log_prob(_Blurred(), x)
    with pytest.raises(en.CapabilityError, match="ode_log_prob: log Z of the base"):
        en.ode_log_prob(energy, x, base=_network())
    with pytest.raises(en.InputError, match="ode_log_prob: the base lives on"):
        en.ode_log_prob(energy, x, base=en.Gaussian(3))
    with pytest.raises(en.InputError, match="ode_log_prob: x"):
        en.ode_log_prob(energy, _random(3, 3))
    with pytest.raises(en.InputError, match="ode_log_prob: x"):
        en.ode_log_prob(energy, torch.full((2, 2), math.nan, dtype=torch.float64))
    for wrong in (1, -2, 2.5, True):
        with pytest.raises(en.InputError, match="num_probes"):
            en.ode_log_prob(energy, x, num_probes=wrong)
    for wrong in (1, 0, 2.5):
        with pytest.raises(en.InputError, match="num_steps"):
            en.ode_log_prob(energy, x, num_steps=wrong)
    with pytest.raises(en.DivergenceError, match="1 of 3 rows"):
        en.ode_log_prob(energy, torch.tensor([[0.0, 0.0], [1.0, 0.0], [1e200, 0.0]], dtype=torch.float64))
