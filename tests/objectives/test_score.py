"""Score matching and its kin against closed forms, quadrature and each other."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.gradient import score_along, score_and_diagonal
from energeia.core.nodes import integration_nodes
from energeia.energies import CorrelatedGaussian, GaussianMixture


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _loss(objective, energy, x, seed=0):
    return objective(energy, en.Batch(x), torch.Generator().manual_seed(seed)).value


def _gradient(value, energy):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(energy.parameters()))])


class _Normal(en.Energy):
    """(x - m)' K (x - m) / 2, to be fitted."""

    def __init__(self, precision, mean):
        super().__init__(en.Real(len(mean)))
        self.precision, self.mean = nn.Parameter(precision.clone()), nn.Parameter(mean.clone())

    def forward(self, x):
        away = x - self.mean
        return torch.einsum("bi,ij,bj->b", away, (self.precision + self.precision.T) / 2, away) / 2


class _Polynomial(en.Energy):
    """sum_k a_k x^k / k on a line: an exponential family."""

    def __init__(self, *coefficients):
        super().__init__(en.Real(1))
        self.coefficients = nn.Parameter(_tensor(*coefficients))

    def forward(self, x):
        return sum(a * x[:, 0] ** (k + 1) / (k + 1) for k, a in enumerate(self.coefficients))


class _Shares(en.Energy):
    """Two normals with a learnt share of each."""

    def __init__(self, distance, logit):
        super().__init__(en.Real(1))
        self.distance, self.logit = distance, nn.Parameter(_tensor(logit))

    def forward(self, x):
        first = nn.functional.logsigmoid(self.logit) - (x - self.distance).square().sum(1) / 2
        second = nn.functional.logsigmoid(-self.logit) - (x + self.distance).square().sum(1) / 2
        return -torch.logaddexp(first, second)


def _smooth(event, seed=0, outputs=1):
    torch.manual_seed(seed)
    return en.MLP(event, outputs, widths=(7,), activation="tanh").double()


EXACT = en.ScoreMatching()


def test_a_gaussian_gets_the_inverse_sample_covariance():
    x = _random(50, 3) @ _tensor([1.0, 0.3, 0.0], [0.0, 2.0, -0.5], [0.2, 0.0, 0.7]) + _tensor(1.0, -2.0, 0.5)
    covariance = torch.cov(x.T, correction=0)
    energy = _Normal(covariance.inverse(), x.mean(0))
    assert _gradient(_loss(EXACT, energy, x), energy).abs().max() < 1e-12
    # Away from there: d/dK of tr(K S K) / 2 - tr K, with the mean right, is (S K + K S) / 2 - I.
    other = _Normal(torch.diag(_tensor(1.0, 2.0, 0.5)), x.mean(0))
    found = _gradient(_loss(EXACT, other, x), other)[:9].view(3, 3)
    precision = other.precision.detach()
    expected = (covariance @ precision + precision @ covariance) / 2 - torch.eye(3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", [EXACT, en.ScoreMatching(curvature_penalty=0.0, chunk=1)])
def test_the_value_is_that_of_the_formula(objective):
    energy = en.Neural(_smooth((2, 3)), en.Real((2, 3)))
    x = _random(4, 2, 3)
    expected = 0.0
    for row in x:
        hessian = torch.func.hessian(lambda y: energy(y.unsqueeze(0))[0])(row).view(6, 6)
        slope = torch.func.grad(lambda y: energy(y.unsqueeze(0))[0])(row)
        expected += slope.square().sum() / 2 - hessian.trace()
    torch.testing.assert_close(_loss(objective, energy, x), expected / 4, rtol=1e-12, atol=1e-12)


def test_the_diagonal_is_right_for_a_convolution_in_chunks():
    torch.manual_seed(0)
    net = en.ConvNet((1, 5, 4), channels=(3, 4), hidden=6, activation="tanh").double()
    energy = en.Neural(net, en.Real((1, 5, 4)))
    x = _random(3, 1, 5, 4)
    score, diagonal = score_and_diagonal(energy, x, chunk=7)
    hessians = torch.stack([torch.func.hessian(lambda y: energy(y[None])[0])(row).view(20, 20) for row in x])
    torch.testing.assert_close(diagonal.flatten(1), -hessians.diagonal(dim1=1, dim2=2), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(score, en.score(energy, x))
    directions = _random(2, 3, 1, 5, 4, seed=1)
    _, slopes = score_along(energy, x, directions)
    flat = directions.flatten(2)
    torch.testing.assert_close(slopes, -torch.einsum("sbi,bij,sbj->sb", flat, hessians, flat), rtol=1e-10, atol=1e-12)


class _OnlyBackwards(torch.autograd.Function):
    """tanh, as many a user writes it: without a derivative forwards."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(context, slope):
        (x,) = context.saved_tensors
        return slope * (1 - x.tanh().square())


def test_the_diagonal_of_what_torch_differentiates_backwards_only():
    class _Net(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.weight, self.function = nn.Parameter(_random(3, 6)), function

        def forward(self, x):
            return self.function(x @ self.weight).sum(1)

    energies = [en.from_module(_Net(function), en.Real(3)) for function in (torch.tanh, _OnlyBackwards.apply)]
    x = _random(4, 3)
    (_, expected), (_, found) = (score_and_diagonal(energy, x, chunk=2) for energy in energies)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def _weighted(objective, energy, nodes, probabilities):
    """The expected loss under probabilities of the nodes: the mean over rows is linear in them."""
    rows = [_loss(objective, energy, node.unsqueeze(0)) for node in nodes]
    return (probabilities * torch.stack(rows)).sum()


def _line(low, high, number=601):
    nodes = torch.linspace(low, high, number, dtype=torch.float64)
    return nodes[:, None]


def _panels(*ends):
    """Nodes `[N, 1]` and weights of Gauss-Legendre rules side by side: exact across kinks at the ends."""
    points, weights = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(200))
    pairs = list(itertools.pairwise(ends))
    nodes = torch.cat([(high + low) / 2 + (high - low) / 2 * points for low, high in pairs])
    return nodes[:, None], torch.cat([(high - low) / 2 * weights for low, high in pairs])


def test_the_expected_gradient_is_zero_at_the_truth_and_not_near_it():
    """Of an exponential family on a line, by quadrature."""
    truth = _Polynomial(0.3, -1.0, 0.2, 1.0)
    nodes = _line(-4.0, 4.0, 301)
    probabilities = (-truth(nodes)).softmax(0).detach()
    assert _gradient(_weighted(EXACT, truth, nodes, probabilities), truth).abs().max() < 1e-10
    other = _Polynomial(0.2, -1.0, 0.2, 1.1)
    found = _gradient(_weighted(EXACT, other, nodes, probabilities), other)
    # The Fisher divergence itself: E |s - s_true|^2 / 2.
    gap = en.score(other, nodes, create_graph=True) - en.score(truth, nodes)
    expected = _gradient((probabilities * gap.square().sum(1) / 2).sum(), other)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert expected.abs().max() > 0.01


@pytest.mark.parametrize("reach", [None, 0.5])
def test_positive_numbers_by_weights_that_vanish_at_the_wall(reach):
    """Gamma: E = b x - (a - 1) log x. The weighted Fisher divergence and its gradient, by quadrature in log x."""

    class _Gamma(en.Energy):
        def __init__(self, shape, rate):
            super().__init__(en.Positive(1))
            self.shape, self.rate = nn.Parameter(_tensor(shape)), nn.Parameter(_tensor(rate))

        def forward(self, x):
            return (self.rate * x - (self.shape - 1) * x.log()).sum(1)

    truth = _Gamma(2.5, 1.3)
    nodes, weights = _panels(-20.0, math.log(0.5), 4.5)
    nodes = nodes.exp()
    probabilities = (-truth(nodes) + (weights * nodes[:, 0]).log()).softmax(0).detach()
    objective = en.ScoreMatching(reach=reach)
    assert _gradient(_weighted(objective, truth, nodes, probabilities), truth).abs().max() < 1e-10
    objective, other = en.ScoreMatching(reach=reach), _Gamma(2.0, 1.7)
    gap = en.score(other, nodes, create_graph=True) - en.score(truth, nodes)
    weight = nodes if reach is None else nodes.clamp(max=reach)
    expected = _gradient((probabilities * (weight * gap.square()).sum(1) / 2).sum(), other)
    found = _gradient(_weighted(objective, other, nodes, probabilities), other)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert expected.abs().max() > 0.01


def test_a_box_by_weights_that_vanish_at_the_walls():
    """An exponential density cut off at both ends; without the weights the fit would be wrong."""

    class _Tilted(en.Energy):
        def __init__(self, slope):
            super().__init__(en.Box(1, low=-1.0, high=2.0))
            self.slope = nn.Parameter(_tensor(slope))

        def forward(self, x):
            return self.slope * x.sum(1)

    nodes, weights = _panels(-1.0, 0.5, 2.0)
    truth = _Tilted(0.8)
    probabilities = (weights.log() - truth(nodes)).softmax(0).detach()
    assert _gradient(_weighted(EXACT, truth, nodes, probabilities), truth).abs().max() < 1e-12
    away = _Tilted(0.2)
    weight = torch.minimum(nodes + 1, 2 - nodes)[:, 0]
    expected = (probabilities * weight).sum() * (0.2 - 0.8)
    torch.testing.assert_close(_gradient(_weighted(EXACT, away, nodes, probabilities), away)[0], expected)


@pytest.mark.parametrize("reduce_variance", [True, False])
@pytest.mark.parametrize("directions", ["rademacher", "gaussian", "sphere"])
def test_sliced_averages_to_exact(directions, reduce_variance):
    energy = en.Neural(_smooth(3), en.Real(3))
    x = _random(2, 3)
    exact = _loss(EXACT, energy, x)
    sliced = en.SlicedScoreMatching(num_projections=4000, directions=directions, reduce_variance=reduce_variance)
    values = torch.stack([_loss(sliced, energy, x, seed) for seed in range(8)]).detach()
    error = values.std() / math.sqrt(8)
    assert abs(values.mean() - exact) < 5 * error + 1e-12
    assert error < 0.01


@pytest.mark.parametrize("partial", [0.5, 0.9])
def test_variance_over_the_directions_is_that_of_the_docstring(partial):
    """Signs v leave v_1 v_2 (s_1 s_2 + 2 H_12) of the first form and 2 v_1 v_2 H_12 of the other, H = d^2 log p."""
    precision = _tensor([1.0, partial], [partial, 1.0])
    energy = _Normal(precision, _tensor(0.0, 0.0))
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(precision).T, _random(2, 512), upper=True).T
    score = -x @ precision
    expected = {False: (score.prod(1) - 2 * partial).square().mean(), True: torch.tensor(4 * partial**2)}
    number = 3000
    for reduced, wanted in expected.items():
        objective = en.SlicedScoreMatching(reduce_variance=reduced)
        values = torch.stack([_loss(objective, energy, x, seed).detach() for seed in range(number)])
        # Of a variance of sums of many terms, the standard error.
        assert float(len(x) * values.var() / wanted) == pytest.approx(1, abs=5 * math.sqrt(2 / number))
    assert (expected[False] < expected[True]) == (partial > math.sqrt(0.5))


def test_a_loss_without_a_graph_is_the_same():
    energy, x = en.Neural(_smooth(3), en.Real(3)), _random(4, 3)
    for objective in (EXACT, en.SlicedScoreMatching(), en.FiniteDifferenceScoreMatching(step=0.1)):
        with torch.no_grad():
            bare = _loss(objective, energy, x)
        torch.testing.assert_close(bare, _loss(objective, energy, x).detach())


def test_two_signs_in_two_dimensions_give_the_exact_trace_on_a_diagonal_hessian():
    energy = _Normal(torch.diag(_tensor(2.0, 0.5)), _tensor(0.3, -1.0))
    x = _random(5, 2)
    torch.testing.assert_close(_loss(en.SlicedScoreMatching(), energy, x), _loss(EXACT, energy, x))


@pytest.mark.parametrize("directions", ["rademacher", "gaussian", "sphere"])
def test_directions_have_unit_covariance(directions):
    from energeia.objectives.score import draw_directions

    v = draw_directions(directions, 40_000, torch.zeros(1, 3, dtype=torch.float64), torch.Generator().manual_seed(0))
    second = torch.einsum("sbi,sbj->ij", v, v) / len(v)
    assert (second - torch.eye(3)).abs().max() < 5 * math.sqrt(2 / len(v))


def test_finite_differences_tend_to_sliced_with_the_square_of_the_step():
    energy = en.Neural(_smooth(3), en.Real(3))
    x = _random(6, 3)
    sliced = _loss(en.SlicedScoreMatching(num_projections=2, reduce_variance=False), energy, x)
    gaps = [
        _loss(en.FiniteDifferenceScoreMatching(step=step, num_projections=2), energy, x) - sliced
        for step in (0.02, 0.01)
    ]
    assert 3.9 < gaps[0] / gaps[1] < 4.1
    assert abs(gaps[1]) < 1e-3


def test_finite_differences_are_exact_on_a_parabola():
    energy = _Normal(_tensor([1.5, 0.4], [0.4, 0.7]), _tensor(0.3, -1.0))
    x = _random(6, 2)
    sliced = en.SlicedScoreMatching(num_projections=3, reduce_variance=False)
    coarse = en.FiniteDifferenceScoreMatching(step=0.7, num_projections=3)
    torch.testing.assert_close(_loss(coarse, energy, x), _loss(sliced, energy, x), rtol=1e-12, atol=1e-12)
    found = _gradient(_loss(coarse, energy, x), energy)
    torch.testing.assert_close(found, _gradient(_loss(sliced, energy, x), energy), rtol=1e-10, atol=1e-12)


def test_denoising_fits_the_score_of_the_smoothed_density():
    """E over the noise and the data in closed form: a Gaussian N(0, s^2) becomes N(0, s^2 + sigma^2)."""
    sigma, spread = 0.6, 1.3
    objective = en.DenoisingScoreMatching(noise_scale=sigma)
    x = spread * _random(200_000, 1)
    for variance in (spread**2 + sigma**2, spread**2):
        energy = _Normal(_tensor([1 / variance]), _tensor(0.0))
        found = _gradient(_loss(objective, energy, x, seed=3), energy)[0]
        # |sigma k y - xi|^2 / 2 with y = x + sigma xi: d/dk is sigma^2 k E y^2 - sigma E y xi.
        expected = sigma**2 * (spread**2 + sigma**2) / variance - sigma**2
        noise = _random(len(x), 1, seed=5)
        y = x + sigma * noise
        error = (sigma**2 * y.square() / variance - sigma * y * noise).std() / math.sqrt(len(x))
        assert abs(found - expected) < 5 * error
    assert abs(expected) > 20 * error


def test_denoising_by_hand():
    energy, x = en.Neural(_smooth(3), en.Real(3)), _random(4, 3)
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = x + 0.3 * noise
    expected = ((en.score(energy, noisy) + noise / 0.3) ** 2).sum(1).mean() * 0.3**2 / 2
    torch.testing.assert_close(_loss(en.DenoisingScoreMatching(noise_scale=0.3), energy, x), expected)


LEVELS = (2.0, 1.0, 0.5)


def _conditional(kind=en.NoiseConditional, outputs=1):
    torch.manual_seed(0)
    network = en.LevelMLP(2, outputs, widths=(9,)).double()
    return kind(network, en.Real(2), levels=LEVELS, scale=0.7)


def test_multi_scale_denoising_is_denoising_at_each_row_s_level():
    energy, x = _conditional(), _random(6, 2)
    generator = torch.Generator().manual_seed(0)
    level = _tensor(*LEVELS)[torch.randint(0, 3, (6,), generator=generator)]
    noise = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    expected = 0.0
    for row in range(6):
        at_level = en.given(energy, context=level[row])
        found = en.score(at_level, (x[row] + level[row] * noise[row])[None])[0]
        expected += (level[row] * found + noise[row]).square().sum() / 2
    torch.testing.assert_close(_loss(en.MultiScaleDenoising(), energy, x), expected / 6)


def test_a_noise_conditional_energy_starts_as_the_gaussian_of_data_with_noise():
    energy = _conditional()
    with torch.no_grad():
        energy.network.last.weight.zero_()
        energy.network.last.bias.zero_()
    x = _random(5, 2)
    for level in LEVELS:
        expected = x.square().sum(1) / (2 * (level**2 + 0.7**2))
        torch.testing.assert_close(en.given(energy, context=_tensor(level))(x), expected)
    torch.testing.assert_close(energy(x), expected)


def test_a_score_network_scales_as_the_energy_does():
    """With f's own gradient as its output, the score model is the energy's score."""
    energy = _conditional()

    class _Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = energy.network

        def forward(self, x, level):
            return torch.func.grad(lambda y: self.network(y, level).sum())(x)

    model = en.NoiseConditionalScore(_Slope(), en.Real(2), levels=LEVELS, scale=0.7)
    x, level = _random(4, 2), _tensor(2.0, 0.5, 1.0, 1.7)
    found, expected = (en.score(en.given(each, context=level), x) for each in (model, energy))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def _score_network(energy):
    """The score of an energy as a network of its own parameters."""

    class _Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = energy

        def forward(self, x):
            return -torch.func.grad(lambda y: self.energy(y).sum())(x)

    return en.ScoreModel(_Slope(), energy.space)


@pytest.mark.parametrize(
    "objective",
    [
        EXACT,
        en.SlicedScoreMatching(num_projections=2),
        en.SlicedScoreMatching(reduce_variance=False),
        en.DenoisingScoreMatching(noise_scale=0.4),
    ],
    ids=str,
)
def test_a_score_model_is_trained_as_its_energy_is(objective):
    energy, x = en.Neural(_smooth(3), en.Real(3)), _random(4, 3)
    model = _score_network(energy)
    one, other = _loss(objective, energy, x), _loss(objective, model, x)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(one, list(energy.parameters()), allow_unused=True)
    found = torch.autograd.grad(other, list(model.parameters()), allow_unused=True)
    for first, second in zip(found, wanted, strict=True):
        if second is not None and first is not None:
            torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-12)
    assert sum(part is not None for part in found) >= 3


def test_score_models_compose_and_are_sampled():
    energy = CorrelatedGaussian(_tensor([2.0, 0.5], [0.5, 1.0]), mean=_tensor(1.0, -1.0))
    model, x = _score_network(energy), _random(5, 2)
    both = 0.5 * model + en.Gaussian(2).double()
    torch.testing.assert_close(en.score(both, x), 0.5 * en.score(energy, x) - x)
    for sampler in (en.Langevin(step_size=0.2), en.UnderdampedLangevin(step_size=0.3)):
        runs = [en.sample(each, sampler, num_chains=6, num_steps=5) for each in (model, energy)]
        torch.testing.assert_close(runs[0].x, runs[1].x, rtol=1e-10, atol=1e-12)
        assert not bool(runs[0].info.divergent.any())
        assert bool(runs[0].info.energy.isnan().all())
    falling = en.AnnealedLangevin((3.0, 1.0), num_steps=2)
    runs = [en.sample(each, falling, num_chains=6, num_steps=4) for each in (model, energy)]
    torch.testing.assert_close(runs[0].x, runs[1].x, rtol=1e-10, atol=1e-12)


def test_a_score_model_has_no_energy_and_says_so():
    model = _score_network(en.Gaussian(2).double())
    x = _random(3, 2)
    for call in (
        lambda: model(x),
        lambda: en.sample(model, en.MALA(), num_chains=3, num_steps=1),
        lambda: en.sample(0.5 * model, en.HMC(), num_chains=3, num_steps=1),
        lambda: en.sample(model, en.RandomWalk(), num_chains=3, num_steps=1),
        lambda: _loss(en.FiniteDifferenceScoreMatching(), model, x),
        lambda: _loss(en.ContrastiveDivergence(en.Langevin(0.1), 1), model, x),
        lambda: en.any_of(model, en.Gaussian(2)),
        lambda: en.exact_log_z(model),
    ):
        with pytest.raises(en.CapabilityError, match="score"):
            call()
    with pytest.raises(en.InputError, match="shape"):
        en.ScoreModel(nn.Linear(2, 1), en.Real(2))


def test_the_share_of_a_far_mode_is_not_seen_and_noise_levels_see_it():
    """Score matching is blind to weights of separate modes; the expected loss by quadrature."""
    nodes = _line(-14.0, 14.0, 401)
    truth, wrong = _Shares(6.0, math.log(0.2 / 0.8)), _Shares(6.0, 0.0)
    probabilities = (-truth(nodes)).softmax(0).detach()
    gap = _weighted(EXACT, wrong, nodes, probabilities) - _weighted(EXACT, truth, nodes, probabilities)
    likelihood = (probabilities * (wrong(nodes) - truth(nodes))).sum()
    assert 0 <= gap < 1e-6
    assert likelihood > 0.15
    # At a noise as wide as the distance: the same shares, smoothed, differ in their scores.
    level = 6.0

    def smoothed(share):
        weights = _tensor(share, 1 - share)
        covariances = torch.full((2, 1, 1), 1 + level**2, dtype=torch.float64)
        return GaussianMixture(_tensor([6.0], [-6.0]), covariances, weights)

    wide = _line(-60.0, 60.0, 1201)
    right, off = smoothed(0.2), smoothed(0.5)
    density = (-right(wide)).softmax(0)
    fisher = (density * (en.score(off, wide) - en.score(right, wide)).square().sum(1) / 2).sum() * level**2
    assert fisher > 0.02


class _Cubature(en.Langevin):
    """Langevin steps whose noise is 2 d points of unit covariance in turn: averages of cubic functions are exact."""

    def draw(self, state, generator):
        size = state.x.shape[1]
        points = math.sqrt(size) * torch.cat([torch.eye(size), -torch.eye(size)]).to(state.x)
        return (points.repeat(len(state.x) // len(points), 1),)


def test_the_limit_of_contrastive_divergence_with_langevin_steps():
    """CD-1 with a step h tends to (h / 2) times the gradient of score matching, on average over the noise."""
    energy, x = en.Neural(_smooth(2), en.Real(2)), _random(10, 2)
    wanted = torch.autograd.grad(_loss(EXACT, energy, x), list(energy.parameters()), allow_unused=True)
    wanted = [torch.zeros_like(p) if g is None else g for p, g in zip(energy.parameters(), wanted, strict=True)]
    gaps = []
    for step in (1e-3, 5e-4):
        cd = en.ContrastiveDivergence(_Cubature(step_size=step), 1)
        loss = _loss(cd, energy, x.repeat_interleave(4, 0))
        found = torch.autograd.grad(loss, list(energy.parameters()))
        gaps.append(max((one * 2 / step - other).abs().max() for one, other in zip(found, wanted, strict=True)))
    assert gaps[0] < 0.02 * max(part.abs().max() for part in wanted)
    assert 1.9 < gaps[0] / gaps[1] < 2.1


def test_second_derivatives_that_vanish_are_told():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, activation="relu"), en.Real(2))
    x = torch.randn(5, 2)
    for objective in (en.ScoreMatching(), en.SlicedScoreMatching()):
        with pytest.warns(UserWarning, match="second derivatives of E are zero"):
            _loss(objective, energy, x)
    straight = en.from_module(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), en.Real(2))
    with pytest.warns(UserWarning, match="second derivatives"):
        _loss(en.ScoreMatching(), straight, x)


def test_what_does_not_fit_is_refused():
    x = torch.ones(4, 3)
    bits = en.Independent(en.Binary(3), torch.zeros(3))
    for objective in (
        en.ScoreMatching(),
        en.SlicedScoreMatching(),
        en.FiniteDifferenceScoreMatching(),
        en.DenoisingScoreMatching(noise_scale=0.1),
        en.MultiScaleDenoising(),
    ):
        with pytest.raises(en.CapabilityError, match="on discrete x use RatioMatching"):
            _loss(objective, bits, x)
    with pytest.raises(en.CapabilityError, match="where x has walls"):
        _loss(en.DenoisingScoreMatching(noise_scale=0.1), en.Uniform(en.Box(3)), x)
    with pytest.raises(en.CapabilityError, match="NoiseLevels"):
        _loss(en.MultiScaleDenoising(), en.Gaussian(3), x)
    with pytest.raises(en.InputError, match="fall"):
        en.NoiseConditional(en.LevelMLP(2), en.Real(2), levels=(0.1, 1.0))
    with pytest.raises(en.InputError, match="directions"):
        en.SlicedScoreMatching(directions="cube")


def test_concrete_score_matching_is_the_distance_of_the_ratios():
    """Its expectation under the truth, by enumeration: E sum (r - r_true)^2 / 2, less E sum (r_true - 1)^2 / 2."""
    generator = torch.Generator().manual_seed(0)

    def machine(seed):
        tables = torch.randn(2, 3, generator=generator.manual_seed(seed), dtype=torch.float64)
        edge = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)
        return en.PairwiseMRF(2, [(0, 1)], num_categories=3, site_tables=tables, edge_tables=edge)

    truth, model = machine(0), machine(1)
    states, _ = integration_nodes(truth.space)
    probabilities = (-truth(states)).softmax(0).detach()
    other = (states[:, None] - states[None]).abs().sum((2, 3)) == 2.0

    def ratios(energy):
        here = energy(states)
        return (here[:, None] - here[None]).exp()

    distance = (ratios(model) - ratios(truth).detach()).square()
    constant = (ratios(truth).detach() - 1).square()
    expected = (probabilities[:, None] * other * (distance - constant)).sum() / 2
    found = _weighted(en.ConcreteScoreMatching(), model, states, probabilities)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(_gradient(found, model), _gradient(expected, model), rtol=1e-9, atol=1e-9)
    at_truth = _weighted(en.ConcreteScoreMatching(), truth, states, probabilities)
    assert _gradient(at_truth, truth).abs().max() < 1e-10


@pytest.mark.slow
def test_a_score_model_is_sampled_in_compiled_chunks():
    torch.manual_seed(0)
    model = en.ScoreModel(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double(), en.Real(2))
    runs = [en.sample(model, en.Langevin(step_size=0.1), num_chains=6, num_steps=4, chunk=c) for c in (None, 2)]
    torch.testing.assert_close(runs[0].x, runs[1].x, rtol=1e-10, atol=1e-12)
