import math

import numpy as np
import pytest
import torch
from scipy import special, stats

import energeia as en
from energeia import energies as e

DOUBLE = torch.float64
EFFECTS = np.array([28, 8, -3, 7, -1, 1, 18, 12.0])
ERRORS = np.array([15, 10, 16, 11, 9, 11, 10, 18.0])


def test_eight_schools_energy_is_the_model():
    """Against scipy's densities, up to the constant that the docstring leaves out."""
    energy = e.EightSchools().double()
    x = torch.randn(20, 10, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    mu, tau, theta = (part.numpy() for part in energy.parameters_of(x))
    log_p = stats.norm(0, 5).logpdf(mu) + stats.halfcauchy(0, 5).logpdf(tau) + np.log(tau)
    log_p += stats.norm.logpdf(theta, mu[:, None], tau[:, None]).sum(1) + 8 * np.log(tau)
    log_p += stats.norm.logpdf(EFFECTS, theta, ERRORS).sum(1)
    constant = log_p + energy(x).numpy()
    np.testing.assert_allclose(constant, constant[0], rtol=1e-10)


def test_eight_schools_truth_by_quadrature_in_the_plane():
    """theta integrates out: y_j ~ N(mu, sigma_j^2 + tau^2); mu and log tau remain."""
    energy = e.EightSchools().double()
    mu, log_tau = np.meshgrid(np.linspace(-45, 45, 1201), np.linspace(-36, 9, 1801), indexing="ij")
    tau = np.exp(log_tau)
    log_p = -(mu**2) / 50 - np.log1p(tau**2 / 25) + log_tau
    means, spreads = [], [0.0, 0.0]
    for effect, error in zip(EFFECTS, ERRORS, strict=True):
        spread = error**2 + tau**2
        log_p += np.log(2 * np.pi * error**2 / spread) / 2 - (effect - mu) ** 2 / (2 * spread)
        means.append(tau * (effect - mu) / spread)
        spreads.append(error**2 / spread)
    share = special.softmax(log_p)
    log_z = special.logsumexp(log_p) + math.log(90 / 1200 * 45 / 1800)
    assert energy.log_z().value.item() == pytest.approx(log_z, abs=1e-9)
    truth = energy.truth()
    given = (mu, log_tau, *means)
    expected = [(share * values).sum() for values in given]
    assert truth.mean.tolist() == pytest.approx(expected, abs=1e-9)
    for index, (values, spread) in enumerate(zip(given, spreads, strict=True)):
        variance = (share * (spread + (values - expected[index]) ** 2)).sum()
        assert truth.variance[index].item() == pytest.approx(variance, rel=1e-9)
    # posteriordb's reference draws, with their standard errors.
    assert abs(expected[0] - 4.4105) < 4 * 0.033
    assert abs((share * tau).sum() - 3.6021) < 4 * 0.032
    assert (share * tau).sum() == pytest.approx(3.5977, abs=5e-5)


def test_eight_schools_draws():
    """Marginals by quadrature of log tau, and the conditionals of mu and z."""
    energy = e.EightSchools().double()
    x = energy.sample_exact(200_000, torch.Generator().manual_seed(1))
    tau = energy.parameters_of(x).tau
    weight = 1 / (torch.tensor(ERRORS) ** 2 + tau[:, None] ** 2)
    precision = weight.sum(1) + 1 / 25
    mu = (x[:, 0] - weight @ torch.tensor(EFFECTS) / precision) * precision.sqrt()
    assert stats.kstest(mu.numpy(), stats.norm.cdf).pvalue > 1e-6
    for school in (0, 2):
        square = torch.tensor(ERRORS[school] ** 2)
        slope = tau / (square + tau**2)
        z = (x[:, 2 + school] - slope * (EFFECTS[school] - x[:, 0])) / (square / (square + tau**2)).sqrt()
        assert stats.kstest(z.numpy(), stats.norm.cdf).pvalue > 1e-6
    # 3.5977 is E[tau] by quadrature; posteriordb's reference draws say 3.6021 +- .032.
    assert abs(tau.mean() - 3.5977) < 5 * tau.std() / 447


def test_mala_finds_the_schools():
    energy = e.EightSchools()
    start = energy.sample_exact(4_000, torch.Generator().manual_seed(2))
    x = en.sample(energy, en.MALA(step_size=0.25), start=start, num_steps=60, generator=4).x
    truth = energy.truth()
    assert bool(((x.mean(0) - truth.mean).abs() < 5 * (truth.variance / 4_000).sqrt()).all())


def test_logistic_regression_is_bernoulli_and_normal():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 4, generator=generator, dtype=DOUBLE)
    labels = (torch.rand(30, generator=generator) < 0.4).long()
    energy = e.LogisticRegression(features, labels, prior_scale=1.7)
    w = torch.randn(6, 5, generator=generator, dtype=DOUBLE)
    bernoulli = torch.distributions.Bernoulli(logits=w[:, :1] + w[:, 1:] @ features.T)
    prior = torch.distributions.Normal(0.0, 1.7)
    log_p = bernoulli.log_prob(labels.double()).sum(1) + prior.log_prob(w).sum(1)
    constant = 5 * math.log(1.7 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(energy(w), -log_p - constant)
    assert energy.capability(en.Tractable) is None
    assert energy.capability(e.KnownMoments) is None


def test_breast_cancer_has_the_mode_that_scikit_learn_finds():
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    energy = e.LogisticRegression.breast_cancer(prior_scale=2.0, dtype=DOUBLE)
    assert energy.space.event_shape == (31,)
    table, labels = load_breast_cancer(return_X_y=True)
    table = np.concatenate([np.ones((len(table), 1)), StandardScaler().fit_transform(table)], 1)
    model = LogisticRegression(C=4.0, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(table, labels)
    _, gradient = en.value_and_gradient(energy, torch.tensor(model.coef_))
    assert gradient.abs().max() < 1e-3
    assert en.value_and_gradient(energy, torch.zeros(1, 31, dtype=DOUBLE))[1].abs().max() > 100


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (torch.zeros(3), torch.zeros(3), r"\[N, num_features\], got \[3\]"),
        (torch.full((3, 1), math.nan), torch.zeros(3), "must be finite floats"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "labels must be 0 or 1"),
        (torch.zeros(3, 2), torch.zeros(4), "one for each of 3 rows"),
    ],
)
def test_wrong_data_are_refused(features, labels, words):
    with pytest.raises(en.InputError, match=words):
        e.LogisticRegression(features, labels)
