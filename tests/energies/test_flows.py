"""Tractable energies from elsewhere: torch distributions, flows, kernels, fitted noise, autoregressive sites."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import distributions as d
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.core.random import global_from
from energeia.energies import kernel


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _two(distribution):
    return d.Independent(distribution, 1)


ONE = torch.tensor([0.5, 2.0], dtype=torch.float64)
DISTRIBUTIONS = {
    "normal": (d.MultivariateNormal(ONE, torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double()), en.Real(2)),
    "mixture": (
        d.MixtureSameFamily(d.Categorical(torch.tensor([0.3, 0.7]).double()), _two(d.Normal(_random(2, 2), 0.5))),
        en.Real(2),
    ),
    "transformed": (d.TransformedDistribution(_two(d.Normal(ONE, ONE)), [d.AffineTransform(ONE, -ONE, 1)]), en.Real(2)),
    "bits": (_two(d.Bernoulli(torch.tensor([0.2, 0.7, 0.5]).double())), en.Binary(3)),
    "categories": (
        _two(d.OneHotCategorical(torch.tensor([[0.2, 0.8, 0.1], [0.5, 0.2, 0.3]]).double())),
        en.Categorical(2, num_categories=3),
    ),
    "box": (_two(d.Uniform(-ONE, ONE)), en.Real(2)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_is_its_own_energy(name):
    distribution, space = DISTRIBUTIONS[name]
    energy = en.Distribution(distribution, space)
    x = energy.sample_exact(500, torch.Generator().manual_seed(0))
    space.check(x)
    torch.testing.assert_close(energy(x), -distribution.log_prob(x))
    assert energy.log_z().value == 0
    assert energy.capability(en.Tractable) is energy


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_repeat_and_leave_the_global_random_numbers_alone(name):
    energy = en.Distribution(*DISTRIBUTIONS[name])
    before = torch.get_rng_state()
    one, other, third = (energy.sample_exact(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(energy.sample_exact(50, generator), energy.sample_exact(50, generator))


def test_a_distribution_is_copied_and_moves_with_its_dtype():
    scale = torch.tensor([1.0, 2.0])
    energy = en.Distribution(_two(d.Normal(torch.zeros(2), scale)), en.Real(2))
    scale *= 3
    x = torch.ones(1, 2)
    wanted = -_two(d.Normal(torch.zeros(2), torch.tensor([1.0, 2.0]))).log_prob(x)
    torch.testing.assert_close(energy(x), wanted)
    double = energy.double()
    assert double.sample_exact(2, torch.Generator()).dtype == torch.float64
    torch.testing.assert_close(double(x.double()), wanted.double())


def test_outside_its_support_a_distribution_has_infinite_energy():
    energy = en.Distribution(_two(d.Exponential(ONE)), en.Real(2))
    found = energy(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double())
    torch.testing.assert_close(found, torch.tensor([2.5, torch.inf]).double())


def test_a_distribution_that_does_not_fit_is_told_what_would():
    with pytest.raises(en.InputError, match=r"Independent\(distribution, 1\)"):
        en.Distribution(d.Normal(torch.zeros(2), 1.0), en.Real(2))
    with pytest.raises(en.InputError, match="event shape"):
        en.Distribution(_two(d.Normal(torch.zeros(2), 1.0)), en.Real(3))
    with pytest.raises(en.InputError, match="what Independent draws"):
        en.Distribution(_two(d.Normal(torch.zeros(2), 1.0)), en.Binary(2))


def test_the_global_generators_are_as_before_even_after_an_error():
    before = torch.get_rng_state()

    def fail():
        with global_from(torch.Generator().manual_seed(0)):
            torch.randn(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def _flow(dims=2, **settings):
    """One that is no longer near the identity."""
    torch.manual_seed(3)
    rows = _random(200, dims) @ torch.linspace(0.5, 1.5, dims * dims).double().view(dims, dims) + 2
    flow = en.Flow.spline(en.Real(dims, 2.0), x=rows, widths=(8,), **settings)
    with torch.no_grad():
        for number, weight in enumerate(flow.parameters()):
            weight += 0.15 * _random(*weight.shape, seed=number)
    return flow


def _grid(dims, low, high):
    """Midpoints, and the log of a cell: splines have kinks, at which higher orders gain nothing."""
    number = 20_000 if dims == 1 else 400
    line = low + (high - low) * (torch.arange(number).double() + 0.5) / number
    x = torch.cartesian_prod(*[line] * dims).view(-1, dims)
    return x, dims * np.log((high - low) / number)


@pytest.mark.parametrize(("dims", "coupling"), [(1, False), (2, False), (2, True)])
def test_a_flow_is_normalised_and_draws_what_it_says(dims, coupling):
    flow = _flow(dims, coupling=coupling)
    far = 8 * flow.scale.max().item()
    x, log_weight = _grid(dims, flow.mean.min().item() - far, flow.mean.max().item() + far)
    with torch.no_grad():
        log_p = torch.cat([flow.log_prob(part) for part in x.split(100_000)])
    p = (log_p + log_weight).exp()
    assert p.sum().item() == pytest.approx(1, abs=5e-4)
    mean = p @ x
    variance = p @ (x - mean).square()
    draws = flow.sample_exact(20_000, torch.Generator().manual_seed(0))
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / 20_000).sqrt()).all()
    energies = flow(draws).detach()
    assert abs(energies.mean() + (p * log_p).sum()) < 5 * energies.std() / 20_000**0.5
    far = (mean - flow.mean).abs() / flow.scale
    assert far.max() > 0.05, "the flow is hardly more than its standardisation"


def test_a_flow_agrees_with_zuko_and_with_itself():
    flow = _flow()
    white = flow.flow()
    x = 3 * _random(20, 2)
    wanted = -white.log_prob((x - flow.mean) / flow.scale) + flow.scale.log().sum()
    torch.testing.assert_close(flow(x), wanted)
    torch.testing.assert_close(flow.log_prob(x), -wanted)
    before = torch.get_rng_state()
    plain = flow.sample_exact(30, torch.Generator().manual_seed(4))
    with_graph = flow.rsample(30, torch.Generator().manual_seed(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(plain, with_graph.detach())
    assert with_graph.requires_grad
    assert not plain.requires_grad


def test_the_graph_of_draws_is_their_derivative():
    """The gradient of an expectation through the draws against that through the density, of a smooth flow."""
    from zuko.flows import MAF

    torch.manual_seed(0)
    flow = en.Flow(MAF(2, transforms=2, hidden_features=(4,), activation=nn.Tanh).double(), en.Real(2), mean=2.0)
    x, log_weight = _grid(2, -8.0, 12.0)
    function = lambda x: (0.7 * x[:, 0]).sin() + x[:, 0] * x[:, 1]  # noqa: E731
    weights = list(flow.parameters())
    p = (flow.log_prob(x) + log_weight).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    draws = flow.rsample(50_000, torch.Generator().manual_seed(0))
    exact, found = (
        torch.cat([part.flatten() for part in torch.autograd.grad(value, weights)])
        for value in (p @ function(x), function(draws).mean())
    )
    assert exact.norm() > 1
    assert (found - exact).norm() / exact.norm() < 0.03


def test_a_flow_learns_by_maximum_likelihood():
    """A curved density, against its entropy, which no Gaussian reaches."""
    torch.manual_seed(0)
    z = torch.randn(6000, 2, generator=torch.Generator().manual_seed(0))
    x = torch.stack([z[:, 0], 0.5 * z[:, 1] + z[:, 0].square()], 1)
    flow = en.Flow.spline(en.Real(2), x=x[:4000], widths=(32,), num_transforms=2)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.01)  # noqa: E731
    result = en.fit(flow, en.ExactLikelihood(), x[:4000], num_steps=200, batch_size=500, optimizer=adam)
    truth = float(np.log(2 * np.pi * np.e) + np.log(0.5))
    gaussian = en.fitted_noise(en.Real(2), x[:4000])
    with torch.no_grad():
        held_out = float(flow(x[4000:]).mean())
        baseline = float((gaussian(x[4000:]) + gaussian.log_z().value).mean())
    assert baseline > truth + 0.9
    assert held_out < truth + 0.15
    assert result.records[-1]["loss"] == pytest.approx(held_out, abs=0.1)


class _Module(nn.Module):
    def __init__(self, distribution):
        super().__init__()
        self.location = nn.Parameter(torch.zeros(2))
        self._made = distribution

    def forward(self):
        return self._made(self.location)


def test_any_module_that_returns_a_distribution_is_a_flow():
    flow = en.Flow(_Module(lambda at: _two(d.Normal(at, torch.ones(2)))), en.Real(2), scale=torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(flow(torch.zeros(1, 2)), torch.tensor([np.log(2 * np.pi) + np.log(2)]).float())
    assert flow.capability(en.Reparameterised) is not None
    bits = en.Flow(_Module(lambda at: _two(d.Bernoulli(logits=at))), en.Binary(2))
    torch.testing.assert_close(bits(torch.zeros(1, 2)), torch.tensor([2 * np.log(2)]).float())
    assert bits.capability(en.Tractable) is not None
    assert bits.capability(en.Reparameterised) is None
    picture = en.Flow.spline(en.Real((1, 2, 2)), widths=(4,))
    assert picture.rsample(3, torch.Generator()).shape == (3, 1, 2, 2)
    with pytest.raises(en.InputError, match="batch shape"):
        en.Flow(_Module(lambda at: d.Normal(at, 1.0)), en.Real(2))
    with pytest.raises(en.InputError, match="must return"):
        en.Flow(_Module(lambda at: at), en.Real(2))
    with pytest.raises(en.InputError, match="Real space"):
        en.Flow.spline(en.Box(2))
    with pytest.raises(en.InputError, match="two rows"):
        en.Flow.spline(en.Real(2), x=torch.zeros(1, 2))


def test_libraries_that_take_long_are_imported_when_asked_for():
    code = "import sys, energeia; print([name for name in ('zuko', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("at_once", [2**22, 64])
def test_kernels_are_those_of_scikit_learn_in_parts_or_whole(at_once, monkeypatch):
    from sklearn.neighbors import KernelDensity

    monkeypatch.setattr(kernel, "_AT_ONCE", at_once)
    rows, x = _random(100, 3) + 5, (2 * _random(40, 3, seed=1) + 5).requires_grad_()
    energy = en.KernelDensity(rows, 0.4)
    wanted = KernelDensity(bandwidth=0.4).fit(rows.numpy()).score_samples(x.detach().numpy())
    found = energy.log_prob(x)
    torch.testing.assert_close(found.detach(), torch.tensor(wanted))
    gradient = torch.autograd.grad(found.sum(), x)[0]
    off = (rows - x.detach()[:, None]) / 0.4**2
    share = (-(off * 0.4**2).square().sum(2) / 2 / 0.4**2).softmax(1)
    torch.testing.assert_close(gradient, (share[:, :, None] * off).sum(1))


def test_kernels_draw_rows_with_steps_and_take_scotts_rule():
    rows = torch.tensor([[0.0, 0.0], [100.0, -10.0]]).double()
    energy = en.KernelDensity(rows, torch.tensor([2.0, 0.5]).double())
    draws = energy.sample_exact(20_000, torch.Generator().manual_seed(0))
    first = draws[:, 0] < 50
    assert abs(first.double().mean() - 0.5) < 5 * 0.5 / 20_000**0.5
    scale = draws[first].std(0)
    torch.testing.assert_close(scale, torch.tensor([2.0, 0.5]).double(), rtol=0.04, atol=0)
    data = _random(500, 2) * torch.tensor([1.0, 30.0]).double()
    torch.testing.assert_close(en.KernelDensity(data).bandwidth, data.std(0) * 500 ** (-1 / 6))
    for arguments, match in (
        ((torch.zeros(1, 2),), "Scott"),
        ((torch.zeros(3, 2),), "never varies"),
        ((torch.zeros(3, 2), -1.0), "bandwidth"),
        ((torch.tensor([[0.0, torch.nan]]), 1.0), "outside"),
        ((torch.zeros(0, 2), 1.0), "rows"),
    ):
        with pytest.raises(en.InputError, match=match):
            en.KernelDensity(*arguments)


def test_fitted_gaussian_and_mixture():
    root = torch.tensor([[1.0, 0.0], [90.0, 20.0]]).double()
    x = _random(4000, 2) @ root.T + torch.tensor([3.0, -50.0]).double()
    gaussian = en.fitted_noise(en.Real(2), x, widen=1.5)
    torch.testing.assert_close(gaussian.factor @ gaussian.factor.T, 2.25 * x.T.cov(), rtol=5e-3, atol=0)
    torch.testing.assert_close(gaussian.mean, x.mean(0))
    two = torch.cat([_random(3000, 2), _random(1000, 2, seed=1) * 0.3 + 6])
    mixture = en.fitted_noise(en.Real(2), two, kind="mixture", num_components=2)
    torch.testing.assert_close(mixture.weights.sort().values, torch.tensor([0.25, 0.75]).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(mixture.means[mixture.weights.argmin()], two[3000:].mean(0), rtol=0, atol=1e-2)
    again = en.fitted_noise(en.Real(2), two, kind="mixture", num_components=2)
    assert torch.equal(mixture.means, again.means)
    better = float((mixture(two) + mixture.log_z().value).mean())
    one = en.fitted_noise(en.Real(2), two)
    assert better < float((one(two) + one.log_z().value).mean()) - 0.5
    narrow = en.fitted_noise(en.Real(2), two, kind="kernel", bandwidth=0.5, widen=2.0)
    torch.testing.assert_close(narrow.bandwidth, torch.ones(2).double())


def test_fewer_rows_than_columns_are_enough():
    x = _random(6, 20)
    noise = en.fitted_noise(en.Real(20), x)
    assert bool(noise(x).isfinite().all())


@pytest.mark.parametrize("space", [en.Binary(4), en.Spin(4), en.Categorical(2, num_categories=3), en.Box(2)], ids=str)
def test_fitted_noise_of_other_spaces_is_the_fitted_base(space):
    x = space.start(50, torch.Generator().manual_seed(0), dtype=torch.float64)
    noise, base = en.fitted_noise(space, x), en.fitted_base(space, x)
    assert type(noise) is type(base)
    torch.testing.assert_close(noise(x), base(x))


def test_wrong_rows_for_fitted_noise():
    with pytest.raises(en.InputError, match="kind must be"):
        en.fitted_noise(en.Real(2), torch.zeros(3, 2), kind="student")
    with pytest.raises(en.InputError, match="two rows"):
        en.fitted_noise(en.Real(2), torch.zeros(1, 2))
    with pytest.raises(en.InputError, match="outside"):
        en.fitted_noise(en.Real(2), torch.full((3, 2), torch.nan))
    with pytest.raises(en.InputError, match="Unflatten"):
        en.fitted_noise(en.Real((2, 2)), torch.randn(5, 2, 2))
    with pytest.raises(en.InputError, match="more than the 3 rows"):
        en.fitted_noise(en.Real(2), torch.randn(3, 2), kind="mixture")


SITES = {"bits": en.Binary(4), "spins": en.Spin((2, 2)), "categories": en.Categorical(3, num_categories=3)}


def _autoregressive(name):
    energy = en.Autoregressive(SITES[name]).double()
    with torch.no_grad():
        energy.weight.copy_(_random(*energy.weight.shape))
        energy.bias.copy_(_random(*energy.bias.shape, seed=1))
    return energy


@pytest.mark.parametrize("name", SITES)
def test_sites_one_after_the_other(name):
    energy = _autoregressive(name)
    states, _ = integration_nodes(energy.space)
    p = energy.log_prob(states).exp().detach()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0).double())
    draws = energy.sample_exact(40_000, torch.Generator().manual_seed(0))
    energy.space.check(draws)
    found = (draws.flatten(1)[:, None] == states.flatten(1)).all(2).double().mean(0)
    assert ((found - p).abs() < 5 * (p * (1 - p) / 40_000).sqrt()).all()
    # The first site alone, and the second given it.
    size = 3 if name == "categories" else 1
    first = states.flatten(1)[:, :size]
    marginal = p @ first
    torch.testing.assert_close(marginal, energy.discrete.mean(energy.bias.detach()).flatten()[:size])


def test_autoregressive_bits_by_maximum_likelihood_match_all_pairs():
    """Logistic regression on those before: the optimum has the pair moments of the data."""
    truth = _autoregressive("bits")
    data = truth.sample_exact(5000, torch.Generator().manual_seed(0))
    energy = en.Autoregressive(en.Binary(4)).double()
    optimizer = torch.optim.LBFGS(
        energy.parameters(), max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-16
    )

    def closure():
        optimizer.zero_grad()
        loss = en.ExactLikelihood()(energy, en.Batch(data), torch.Generator()).value
        loss.backward()
        return loss

    optimizer.step(closure)
    error = (energy.weight - truth.weight).tril(-1).abs().max()
    assert error < 0.25
    natural = (energy.bias + data @ (energy.weight * energy.mask).T).detach()
    residual = data - natural.sigmoid()
    assert (residual.T @ data).tril(-1).abs().max() / 5000 < 1e-6
    assert residual.mean(0).abs().max() < 1e-6


def test_the_likelihood_of_energies_that_know_it_needs_no_sum():
    machine = en.ConditionalRBM(en.Spin(2), 3, order=2, weight_scale=0.7).double()
    windows = en.Spin((3, 2)).start(10, torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = en.ExactLikelihood()(machine, en.Batch(windows), torch.Generator())
    torch.testing.assert_close(loss.value, -machine.log_prob(windows).mean())
    large = en.Autoregressive(en.Binary(500))
    loss = en.ExactLikelihood()(large, en.Batch(torch.ones(2, 500)), torch.Generator())
    assert loss.value.item() == pytest.approx(500 * np.log(2), rel=1e-6)
