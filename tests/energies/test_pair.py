"""Energies of an input and an answer: what is checked at the door, and rows that keep their own x."""

import functools

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.answers import Rowwise, repeated
from energeia.core.gradient import value_and_gradient

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 0.9]], dtype=torch.float64)


class LinearGaussian(nn.Module):
    """E = (y - W x)' A (y - W x) / 2, in float64."""

    def __init__(self, seed=0):
        super().__init__()
        weights = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.weights, self.precision = nn.Parameter(weights), nn.Parameter(PRECISION.clone())

    def forward(self, x, y):
        gap = y - x @ self.weights.T
        return ((gap @ self.precision) * gap).sum(1) / 2


def _pair(seed=0):
    return en.from_pair(LinearGaussian(seed), en.Real(3), en.Real(2))


def _rows(number, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(number, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(number, 2, generator=generator, dtype=torch.float64)


def _likelihood_gradient(energy, x, y):
    """d/dtheta of mean -log p(y | x), in closed form: -gap' A gap / 2 and log det A / 2."""
    weights, precision = energy.parameters()
    normal = torch.distributions.MultivariateNormal(x @ weights.T, precision_matrix=precision)
    return torch.autograd.grad(-normal.log_prob(y).mean(), [weights, precision])


def test_the_energy_of_an_answer_is_the_functions():
    (x, y), energy = _rows(5), _pair()
    torch.testing.assert_close(en.given(energy, context=x)(y), energy.function(x, y), rtol=0, atol=0)
    with pytest.raises(en.CapabilityError, match="given"):
        energy(x)


def test_rows_times_over_keep_their_x():
    (x, y), energy = _rows(4), _pair()
    field = en.given(energy, context=x)
    rowwise = field.capability(Rowwise)
    assert rowwise is not None
    assert rowwise.num_rows == 4
    many = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.stack([energy.function(x, many[:, k]) for k in range(3)], 1)
    torch.testing.assert_close(repeated(field, 3)(many.flatten(0, 1)).view(4, 3), expected)
    # So do those of a sum and of a scaling.
    both = 0.5 * (field + en.given(_pair(3), context=x))
    found = repeated(both, 3)(many.flatten(0, 1)).view(4, 3)
    torch.testing.assert_close(found, torch.stack([both(many[:, k]) for k in range(3)], 1))
    with pytest.raises(en.InputError, match="4 rows"):
        field(y[:3])


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.calls = nn.Linear(3, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def test_features_are_evaluated_once():
    features = Counted()
    energy = en.from_pair(
        lambda h, y: (h[:, :2] * y).sum(1) + y.square().sum(1), en.Real(3), en.Real(2), features=features
    )
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    features.calls = 0
    found = en.predict(energy, x, en.Descent(num_steps=50, num_starts=2))
    assert features.calls == 1
    # dE/dy = h + 2 y.
    torch.testing.assert_close(found.answers, -features.inner(x)[:, :2].detach() / 2, rtol=0, atol=1e-3)
    features.calls = 0
    loss = en.ConditionalRanking([0.5], num_noise=7)(energy, en.Batch(x, found.answers), torch.Generator())
    assert features.calls == 1
    loss.value.backward()
    assert features.inner.weight.grad is not None
    assert bool(features.inner.weight.grad[:2].any())
    # They are parameters of the energy.
    assert sum(p.numel() for p in energy.parameters()) == 16


class BatchMean(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, y: (y * x).sum(1, keepdim=True), r"squeeze"),
        (lambda x, y: (y * x).sum(), r"chain axis"),
        (lambda x, y: (y * x).sum(1).double(), r"dtype"),
        (lambda x, y: (y * (x - x.mean(0))).sum(1), r"BatchNorm"),
        (lambda x, y: ((y - y.mean(0)) * x).sum(1), r"BatchNorm"),
        (lambda x, y: (y * torch.rand_like(x)).sum(1), r"random"),
        (lambda x, y: (y * x).sum(1).log(), r"NaN"),
        (lambda x, y: (y * x).sum(1) / 0, r"NaN or infinite"),
    ],
)
def test_what_a_function_may_not_be(function, told):
    with pytest.raises(en.InputError, match=told):
        en.from_pair(function, en.Real(2), en.Real(2))


@pytest.mark.parametrize(
    ("features", "told"),
    [(nn.BatchNorm1d(2), "BatchNorm"), (nn.Dropout(0.5), "random"), (BatchMean(), "BatchNorm")],
)
def test_what_features_may_not_be(features, told):
    with pytest.raises(en.InputError, match=told):
        en.from_pair(lambda h, y: (h * y).sum(1), en.Real(2), en.Real(2), features=features)


def test_features_in_eval_mode_may():
    features = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).eval()
    en.from_pair(lambda h, y: (h * y).sum(1), en.Real(2), en.Real(2), features=features)


def test_wrong_rows():
    energy, (x, y) = _pair(), _rows(4)
    for wrong in (x[:, :2], x[0], x.where(x > 100, torch.nan)):
        with pytest.raises(en.InputError):
            en.given(energy, context=wrong)
    for wrong in (y[:3], y[:, :1], y.where(y > 100, torch.nan)):
        with pytest.raises(en.InputError):
            en.Conditioned(en.SlicedScoreMatching())(energy, en.Batch(x, wrong), torch.Generator())


# Conditioned: objectives of x as objectives of p(y | x).


def _numbers(loss, energy):
    return torch.autograd.grad(loss, list(energy.parameters()))


def test_score_matching_of_answers_by_hand():
    """s = -A (y - W x), and the trace of ds/dy is -tr A: value and gradient in closed form."""
    (x, y), energy = _rows(40), _pair()
    weights, precision = energy.parameters()
    gap = y - x @ weights.T
    symmetric = (precision + precision.T) / 2
    expected = (gap @ symmetric).square().sum(1).mean() / 2 - symmetric.trace()
    generator = torch.Generator().manual_seed(0)
    # With Rademacher directions v' A v is tr A plus the off-diagonal part: summed over all four it is exact.
    for objective in (en.ScoreMatching(), en.SlicedScoreMatching(num_projections=4000)):
        loss = en.Conditioned(objective)(energy, en.Batch(x, y), generator).value
        exact = isinstance(objective, en.ScoreMatching)
        # 160,000 signs of 2 A_12 each.
        error = 1e-12 if exact else 5 * 2 * 0.6 / (4000 * 40) ** 0.5
        assert abs(float(loss.detach() - expected.detach())) < error
        if exact:
            for one, other in zip(
                _numbers(loss, energy), torch.autograd.grad(expected, [weights, precision]), strict=True
            ):
                torch.testing.assert_close(one, other)


def test_the_minimum_of_score_matching_is_least_squares():
    """For a linear Gaussian the loss's stationary point is W of least squares and A of the residuals."""
    (x, y), energy = _rows(60), _pair()
    weights, precision = energy.parameters()
    solved = torch.linalg.lstsq(x, y).solution
    gap = y - x @ solved
    with torch.no_grad():
        weights.copy_(solved.T)
        precision.copy_(torch.linalg.inv(gap.T @ gap / len(x)))
    loss = en.Conditioned(en.ScoreMatching())(energy, en.Batch(x, y), torch.Generator()).value
    for slope in _numbers(loss, energy):
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)


def test_denoising_of_answers_by_hand():
    (x, y), energy = _rows(30), _pair()
    loss = en.Conditioned(en.DenoisingScoreMatching(noise_scale=0.4))(
        energy, en.Batch(x, y), torch.Generator().manual_seed(7)
    ).value
    noise = torch.randn(30, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    weights, precision = energy.parameters()
    score = -(y + 0.4 * noise - x @ weights.T) @ (precision + precision.T) / 2
    expected = (0.4 * score + noise).square().sum(1).mean() / 2
    torch.testing.assert_close(loss, expected)
    for one, other in zip(_numbers(loss, energy), torch.autograd.grad(expected, [weights, precision]), strict=True):
        torch.testing.assert_close(one, other)


def test_differences_and_noise_contrast_meet_the_right_inputs():
    """Losses that put partners beside the rows: each partner with the x of its row, by hand."""
    (x, y), energy = _rows(6), _pair()
    function = energy.function
    objective = en.Conditioned(en.FiniteDifferenceScoreMatching(step=0.05, num_projections=3))
    found = objective(energy, en.Batch(x, y), torch.Generator().manual_seed(4)).value
    signs = 2 * torch.randint(0, 2, (3, 6, 2), generator=torch.Generator().manual_seed(4)) - 1
    here = function(x, y)
    terms = []
    for v in 0.05 * signs.double():
        ahead, behind = function(x, y + v), function(x, y - v)
        slope = (behind - ahead) / 0.1
        terms.append(slope.square() / 2 - (ahead + behind - 2 * here) / 0.05**2)
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-9, atol=1e-9)

    objective = en.Conditioned(en.ConditionalNCE(scale=0.7, ratio=2))
    found = objective(energy, en.Batch(x, y), torch.Generator().manual_seed(4)).value
    noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rises = [function(x, y + 0.7 * noise[k * 6 : k * 6 + 6]) - here for k in range(2)]
    torch.testing.assert_close(found, 2 * nn.functional.softplus(-torch.cat(rises)).mean())


class Exactly(en.Objective):
    """A stand-in for chains that have forgotten where they began: exact draws."""

    def __init__(self, inner, draws):
        super().__init__()
        self.inner, self.draws = inner, draws

    def forward(self, energy, batch, generator):
        return self.inner.compare(energy, batch.x, self.draws, en.Info(*[torch.zeros(len(batch.x))] * 4))


@pytest.mark.parametrize(
    "sampler",
    [en.HMC(step_size=0.4, num_leapfrog=4), en.MALA(step_size=0.5), en.Langevin(step_size=0.05)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_contrastive_divergence_of_answers_is_the_likelihood_gradient(sampler):
    """Chains long enough, each with its own x: the gradient is that of -log p(y | x), within five standard errors."""
    (x, y), energy = _rows(4000), _pair()
    steps = 600 if isinstance(sampler, en.Langevin) else 60
    objective = en.Conditioned(en.ContrastiveDivergence(sampler, steps, start="noise"))
    loss = objective(energy, en.Batch(x, y), torch.Generator().manual_seed(0)).value
    found, exact = _numbers(loss, energy), _likelihood_gradient(energy, x, y)
    # A draw's part of the gradient: gap A x' for W (by far the noisiest) and gap gap' / 2 for A.
    covariance = torch.linalg.inv(PRECISION)
    spread = (PRECISION.diagonal()[:, None] * x.square().mean(0) / len(x)).sqrt()
    off = 2 / 4000**0.5 * (covariance.diagonal()[:, None] * covariance.diagonal()).sqrt() / 2
    # Unadjusted steps of size h leave the covariance (A - h A^2 / 4)^-1, which is A^-1 + h / 4 to first order.
    bias = 1.1 * 0.05 / 8 if isinstance(sampler, en.Langevin) else 0.0
    assert bool(((found[0] - exact[0]).abs() < 5 * spread).all())
    assert bool(((found[1] - (exact[1] + exact[1].T) / 2).abs() < 5 * off + bias).all())


def test_contrastive_divergence_refuses_chains_of_other_rows():
    (x, y), energy = _rows(4), _pair()
    with pytest.raises(en.InputError, match="PersistentCD"):
        en.Conditioned(en.PersistentCD(en.MALA(step_size=0.1), 1))
    with pytest.raises(en.InputError, match="rows"):
        en.Conditioned(Exactly(en.ContrastiveDivergence(en.MALA(step_size=0.1), 1), y[:3]))(
            energy, en.Batch(x, y), torch.Generator()
        )


@pytest.mark.parametrize(
    ("sampler", "num_steps"),
    [(en.HMC(step_size=0.4, num_leapfrog=4), 60), (en.MALA(step_size=0.5), 120)],
    ids=["HMC", "MALA"],
)
def test_chains_sample_their_own_rows(sampler, num_steps):
    """Two thousand chains on each of four x: means W x and the covariance of A, within five standard errors."""
    x, _ = _rows(4, seed=5)
    energy = _pair()
    field = repeated(en.given(energy, context=x), 2000)
    draws = en.sample(field, sampler, num_chains=8000, num_steps=num_steps, generator=3).x.view(4, 2000, 2)
    covariance = torch.linalg.inv(PRECISION)
    weights = next(energy.parameters()).detach()
    means = draws.mean(1) - x @ weights.T
    assert bool((means.abs() < 5 * (covariance.diagonal() / 2000).sqrt()).all())
    error = 5 * (2 / 2000) ** 0.5 * (covariance.diagonal()[:, None] * covariance.diagonal()).sqrt()
    for row in draws:
        assert bool(((row.T.cov() - covariance).abs() < error).all())
    # The rows' means are farther from each other than that: chains that met another's x would be seen.
    assert float((x @ weights.T).std(0).min()) > 20 * float((covariance.diagonal().max() / 2000).sqrt())


def test_draws_of_the_law_stay_draws_of_the_law():
    """Invariance: chains that begin at exact draws, each with its own x, are exact draws after the steps."""
    x, _ = _rows(6000, seed=6)
    energy = _pair()
    weights = next(energy.parameters()).detach()
    noise = torch.randn(6000, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    start = x @ weights.T + torch.linalg.solve_triangular(
        torch.linalg.cholesky(PRECISION).T, noise.T, upper=True
    ).T  # fmt: skip
    draws = en.sample(
        en.given(energy, context=x), en.HMC(step_size=0.6, num_leapfrog=3), start=start, num_steps=5, generator=1
    ).x
    assert float((draws - start).square().mean().sqrt()) > 0.5
    white = (draws - x @ weights.T) @ torch.linalg.cholesky(PRECISION)
    assert bool((white.mean(0).abs() < 5 / 6000**0.5).all())
    assert bool(((white.T.cov() - torch.eye(2)).abs() < 5 * (2 / 6000) ** 0.5).all())
    # Nothing of x is left in what is not explained by it.
    assert bool(((white.T @ x / 6000).abs() < 5 * x.square().mean(0).sqrt() / 6000**0.5).all())


def test_fit_finds_least_squares():
    """The whole way: fit, the likelihood by quadrature, and the prediction."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 2, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0]]) + 0.3 + 0.5 * torch.randn(500, 1, generator=generator)
    torch.manual_seed(0)
    mean, log_precision = nn.Linear(2, 1), nn.Parameter(torch.zeros(()))

    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_precision = mean, log_precision

        def forward(self, x, y):
            return self.log_precision.exp() * (y - self.mean(x)).square().sum(1) / 2

    energy = en.from_pair(Regression(), en.Real(2), en.Real(1, start_scale=2.0))
    adam = functools.partial(torch.optim.Adam, lr=0.05)
    likelihood = en.ConditionalLikelihood(num_nodes=60)
    en.fit(energy, likelihood, (x, y), num_steps=300, batch_size=500, optimizer=adam, progress=False)
    wide = torch.cat([x, torch.ones(500, 1)], 1).double()
    solved = torch.linalg.lstsq(wide, y.double()).solution
    residual = (y.double() - wide @ solved).square().mean()
    torch.testing.assert_close(mean.weight.detach().double(), solved[:2].T, rtol=0, atol=2e-3)
    assert float(log_precision.detach()) == pytest.approx(-float(residual.log()), abs=5e-3)
    found = en.predict(energy, x[:7], en.Descent(num_starts=3))
    torch.testing.assert_close(found.answers.double(), wide[:7] @ solved, rtol=0, atol=5e-3)
    _, slope = value_and_gradient(en.given(energy, context=x[:7]), found.answers)
    assert float(slope.abs().max()) < 1e-3


def test_classes_and_a_term_of_the_answer_together():
    torch.manual_seed(0)
    classifier = en.Classifier(nn.Linear(2, 3).double(), en.Real(2))
    prior = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    both = en.Jointly(classifier, en.from_pair(lambda x, y: y @ prior.to(y), en.Real(2), en.Categorical((), 3)))
    x = torch.randn(4, 2, dtype=torch.float64)
    found = en.predict(both, x, num_best=3)
    levels = (classifier.class_energies(x) + prior).sort(1)
    torch.testing.assert_close(found.best_energies, levels.values.detach())
    assert torch.equal(found.best, levels.indices)
    with pytest.raises(en.CapabilityError, match="taken together"):
        both(x)


def test_inputs_that_do_not_fit_a_classifier_are_told_as_such():
    classifier = en.Classifier(nn.Linear(2, 3), en.Real(2))
    with pytest.raises(en.InputError, match=r"x has shape \(4, 5\)"):
        en.predict(classifier, torch.zeros(4, 5))
    with pytest.raises(en.InputError, match="x: 1 of 2 rows"):
        en.predict(classifier, torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]))


def test_label_numbers_in_place_of_one_hot_answers_are_told_as_such():
    chain = en.LinearChain(nn.Linear(2, 3), en.Real((4, 2)), 3)
    with pytest.raises(en.InputError, match="one_hot"):
        en.given(chain, context=torch.zeros(2, 4, 2))(torch.zeros(2, 4, dtype=torch.int64))
