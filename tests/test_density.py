"""The density estimator: scikit-learn's own checks, quadrature, draws, thresholds, and what it refuses."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import energeia as en
from energeia.energies import Planar
from energeia.sklearn import density

# scikit-learn's checks have few rows: a third held out, so that the network is trained.
SMALL = {"n_updates": 5, "validation_fraction": 0.34, "hidden_layer_sizes": (4,)}
GRID = (np.arange(400) + 0.5) / 400


@parametrize_with_checks([en.Density(n_components=2, **SMALL), en.Density(**SMALL, fourier_features=False)])
@pytest.mark.filterwarnings("ignore:Density. .* columns")
def test_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def skewed(rows: int, seed: int = 0) -> np.ndarray:
    """Exponential in the first column, from 100 on and 50 long; uniform in the second, a thousandth wide."""
    rng = np.random.default_rng(seed)
    return np.column_stack([100 + 50 * rng.exponential(size=rows), 1e-3 * rng.random(rows)])


def log_skewed(X: np.ndarray) -> np.ndarray:
    return stats.expon.logpdf(X[:, 0], 100, 50) + stats.uniform.logpdf(X[:, 1], 0, 1e-3)


@pytest.fixture(scope="module")
def tilted() -> en.Density:
    model = en.Density(n_components=1, random_state=0, n_updates=400).fit(skewed(4000))
    assert model.gain_ > 0.3
    return model


def plane(model: en.Density) -> tuple[np.ndarray, float]:
    """Middles of the cells of a plane that reaches eight deviations, and the area of a cell."""
    axes = [centre + scale * (GRID - 0.5) * 16 for centre, scale in zip(model.mean_, model.scale_, strict=True)]
    area = float(np.prod([axis[1] - axis[0] for axis in axes]))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2), area


def test_it_integrates_to_one_in_the_units_of_the_columns(tilted: en.Density) -> None:
    x, area = plane(tilted)
    total = np.exp(tilted.score_samples(x)).sum() * area
    # The rule is exact to 1e-4 here (a Gaussian's integral by it is).
    low, high = tilted.log_z_interval()
    assert high - low < 0.01
    # log Z too low by e makes the integral exp(e).
    assert np.log(total) == pytest.approx(0, abs=high - low)


def test_the_network_brings_it_near_the_truth(tilted: en.Density) -> None:
    X = skewed(4000, seed=1)
    gap = log_skewed(X).mean() - tilted.score(X)
    mixture = en.Density(n_components=1, random_state=0, n_updates=0).fit(skewed(4000))
    # The edges of an exponential and a uniform law; a Gaussian is left .6 above.
    assert log_skewed(X).mean() - mixture.score(X) > 0.55
    assert 0 < gap < 0.2
    assert mixture.gain_ == 0
    assert mixture.log_z_interval()[0] == mixture.log_z_interval()[1]


def test_draws_follow_the_density(tilted: en.Density) -> None:
    draws = tilted.sample(4000, random_state=3)
    x, area = plane(tilted)
    share = np.exp(tilted.score_samples(x)) * area
    for column in (0, 1):
        edges = np.quantile(draws[:, column], [0.1, 0.3, 0.5, 0.7, 0.9])
        below = [(share * (x[:, column] <= edge)).sum() for edge in edges]
        # 4,000 draws, of which a few are repeated.
        np.testing.assert_allclose(below, [0.1, 0.3, 0.5, 0.7, 0.9], atol=4 * np.sqrt(0.25 / 4000) * 1.3)
    np.testing.assert_array_equal(draws, tilted.sample(4000, random_state=3))
    assert not np.array_equal(tilted.sample(5), tilted.sample(5))


def test_units_add_their_logarithm_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3))
    scale, shift = np.array([1e6, 1.0, 1e-6]), np.array([5.0, -3.0, 0.0])
    plain, scaled = (en.Density(random_state=0, n_updates=20).fit(rows) for rows in (X, X * scale + shift))
    np.testing.assert_allclose(
        scaled.score_samples(X * scale + shift), plain.score_samples(X) - np.log(scale).sum(), atol=1e-6
    )


def test_a_gaussian_is_left_alone_and_is_scipys() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]])
    model = en.Density(random_state=0, n_updates=200).fit(X)
    assert (model.gain_, model.n_components_) == (0.0, 1)
    assert model.energy_ is model.base_
    # Correlations are shrunk, so in units of the columns.
    covariance = ledoit_wolf((X - X.mean(0)) / X.std(0, ddof=1))[0] * np.outer(X.std(0, ddof=1), X.std(0, ddof=1))
    truth = stats.multivariate_normal(X.mean(0), covariance).logpdf(X)
    np.testing.assert_allclose(model.score_samples(X), truth, atol=1e-6)
    draws = model.sample(20_000, random_state=0)
    np.testing.assert_allclose(np.cov(draws.T), np.cov(X.T), atol=0.05)


def test_predict_calls_the_asked_share_of_the_training_rows_outliers() -> None:
    X = skewed(1000)
    for share in (0.02, 0.2):
        model = en.Density(random_state=0, n_updates=20, contamination=share).fit(X)
        assert (model.predict(X) == -1).mean() == pytest.approx(share, abs=0.002)
        np.testing.assert_array_equal(model.predict(X) == -1, model.decision_function(X) < 0)
        np.testing.assert_allclose(model.decision_function(X), model.score_samples(X) - model.offset_)
    assert model.predict([[100.0, 0.5], [1e6, 0.0005]]).tolist() == [-1, -1]
    np.testing.assert_array_equal(en.Density(random_state=0, n_updates=20).fit_predict(X) == -1, model_share(X, 0.05))


def model_share(X: np.ndarray, share: float) -> np.ndarray:
    scores = en.Density(random_state=0, n_updates=20).fit(X).score_samples(X)
    return scores < np.quantile(scores, share)


def test_seeds_decide_everything_and_torchs_stream_stays() -> None:
    X = skewed(500)
    before = torch.random.get_rng_state()
    one, two, other = (en.Density(random_state=seed, n_updates=30, n_components=1).fit(X) for seed in (0, 0, 1))
    torch.testing.assert_close(torch.random.get_rng_state(), before, rtol=0, atol=0)
    assert one.gain_ > 0
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))
    assert not np.array_equal(one.score_samples(X), other.score_samples(X))


def test_it_is_copied_and_pickled_as_estimators_are(tilted: en.Density) -> None:
    X = skewed(50, seed=5)
    again = pickle.loads(pickle.dumps(tilted))
    np.testing.assert_array_equal(again.score_samples(X), tilted.score_samples(X))
    np.testing.assert_array_equal(again.sample(5, random_state=0), tilted.sample(5, random_state=0))
    assert clone(tilted).get_params() == tilted.get_params()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), en.Density(n_updates=0, random_state=0)),
        {"density__n_components": [1, 4]},
        cv=2,
    ).fit(skewed(300))
    assert search.best_params_ == {"density__n_components": 4}


def test_fourier_features_see_what_a_plain_network_does_not() -> None:
    truth = Planar("checkerboard", dtype=torch.float64)
    X, test = (truth.sample_exact(n, torch.Generator().manual_seed(n)) for n in (4000, 3000))
    gaps = {
        features: float(-truth(test).mean())
        - en.Density(n_components=4, random_state=0, n_updates=300, fourier_features=features)
        .fit(X.numpy())
        .score(test.numpy())
        for features in (True, False)
    }
    assert gaps[True] < 0.2
    assert gaps[False] > gaps[True] + 0.1


def test_log_z_is_bracketed_where_importance_sampling_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.exp(np.random.default_rng(0).normal(size=(300, 3)))
    model = en.Density(n_components=1, random_state=0, n_updates=200, hidden_layer_sizes=(32,), fourier_features=False)
    sampled = model.fit(X).log_z_interval()
    assert model.gain_ > 0
    # As if no number of draws were enough.
    monkeypatch.setattr(density, "_ENOUGH", 1e9)
    monkeypatch.setattr(density, "_MOST_DRAWS", 2**10)
    with pytest.warns(UserWarning, match="log Z was hard to find") as told:
        bracketed = model.fit(X).log_z_interval()
    # Long tails lie outside a normal; the user chose its number of components, and no base of an annealing.
    (message,) = [str(one.message) for one in told if one.category is UserWarning]
    assert message.startswith("Density: all of score_samples may be off by")
    assert "more n_components" in message
    assert "leave it out" not in message
    assert sampled != bracketed
    # Both hold log Z.
    assert max(sampled[0], bracketed[0]) < min(sampled[1], bracketed[1])
    assert bracketed[1] - bracketed[0] < 0.1


def test_a_warning_for_columns_that_have_no_density() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    X[:, 1] = 7.1
    with pytest.warns(UserWarning, match=r"1 of 3 columns never vary \(the first is number 1\)"):
        model = en.Density(random_state=0, n_updates=0).fit(X)
    assert model.scale_[1] == 1
    X[:, 1] = rng.integers(0, 10, 100)
    with pytest.warns(UserWarning, match=r"repeat their values \(the first is number 1: 10 values in 100 rows\)"):
        en.Density(random_state=0, n_updates=0).fit(X)
    X[:, 1] += rng.random(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        en.Density(random_state=0, n_updates=0).fit(X)


def test_a_warning_for_draws_that_repeat() -> None:
    model = en.Density(n_components=1, random_state=0, n_updates=100).fit(skewed(400))
    # A model that its mixture hardly reaches.
    model.energy_ = en.Gaussian(2, scale=1e-4).double()
    with pytest.warns(UserWarning, match="3000 draws come from .* effective ones"):
        assert model.sample(3000, random_state=0).shape == (3000, 2)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_components": 0}, "n_components must be an integer of at least 1, got 0"),
        ({"n_updates": -1}, "n_updates must be an integer of at least 0, got -1"),
        ({"batch_size": 1.5}, "batch_size must be an integer"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \(0, 1\), got 1.0"),
        ({"contamination": 0.6}, r"contamination must be in \(0, 0.5\], got 0.6"),
        ({"fourier_features": "yes"}, "fourier_features must be True, False or 'auto', got 'yes'"),
        ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes\[1\] must be"),
        ({"n_components": 99}, "99 is more than the 45 rows"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(en.InputError, match=words):
        en.Density(**parameters).fit(skewed(50))


@pytest.mark.parametrize(
    ("X", "words"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], "contains NaN"),
        ([[1.0, np.inf], [0.0, 1.0]], "infinity"),
        ([[1.0, 2.0]], "minimum of 2 is required"),
        ([1.0, 2.0], "2D array"),
    ],
)
def test_rows_that_are_none(X: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        en.Density().fit(X)


def test_few_rows_are_a_gaussian() -> None:
    model = en.Density(random_state=0).fit(skewed(20))
    assert (model.n_components_, model.gain_) == (1, 0.0)
    assert np.isfinite(model.score_samples(skewed(20))).all()
    with pytest.raises(en.InputError, match="n_samples must be an integer of at least 1"):
        model.sample(0)
