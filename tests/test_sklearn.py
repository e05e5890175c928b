"""The estimator: scikit-learn's own checks, exact likelihoods, and what it refuses."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import energeia as en
from energeia.sklearn import RBM

STATES = np.array(list(np.ndindex(*[2] * 5)), dtype=float)


def bits(rows=200, columns=5, seed=0):
    """Bits of which the second copies the first nine times of ten."""
    rng = np.random.default_rng(seed)
    X = (rng.random((rows, columns)) < np.linspace(0.2, 0.7, columns)).astype(float)
    X[:, 1] = np.where(rng.random(rows) < 0.9, X[:, 0], 1 - X[:, 0])
    return X


@parametrize_with_checks(
    [
        RBM(n_components=4, n_iter=2, binarize=0.0),
        RBM(n_components=4, n_iter=2, binarize=0.5, algorithm="cd", centred=True, decay=False, num_steps=2),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_without_binarize_the_checks_fail_by_the_range_of_their_data_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(RBM(n_components=4, n_iter=2), on_fail=None, on_skip=None)
    failed = [result for result in results if result["status"] == "failed"]
    assert failed
    for result in failed:
        # Some checks wrap what they met.
        cause = result["exception"].__cause__ or result["exception"].__context__ or result["exception"]
        assert isinstance(cause, en.InputError), result["check_name"]
        assert any(words in str(cause) for words in ("must lie between 0 and 1", "set binarize"))
    assert sum(result["status"] == "passed" for result in results) > 15


@pytest.mark.parametrize("algorithm", ["pcd", "cd"])
def test_likelihood_is_that_of_the_machine_by_enumeration(algorithm):
    model = RBM(n_components=3, batch_size=20, n_iter=20, algorithm=algorithm, random_state=1).fit(bits())
    W, b, c = model.components_.T.astype(float), model.intercept_visible_, model.intercept_hidden_
    hidden = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    joint = STATES @ W @ hidden.T + (STATES @ b)[:, None] + (hidden @ c)[None, :]
    exact = np.logaddexp.reduce(joint, 1) - np.logaddexp.reduce(joint.ravel())
    np.testing.assert_allclose(model.score_samples(STATES), exact, rtol=0, atol=1e-10)
    assert model.score(STATES[:7]) == pytest.approx(exact[:7].mean(), abs=1e-10)
    np.testing.assert_allclose(model.transform(STATES), 1 / (1 + np.exp(-(STATES @ W + c))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["pcd", "cd"])
@pytest.mark.parametrize("centred", [True, False])
def test_training_finds_the_dependence(algorithm, centred):
    X = bits(1000)
    fitted = {"batch_size": 50, "n_iter": 60, "learning_rate": 0.5, "random_state": 0}
    model = RBM(n_components=4, algorithm=algorithm, centred=centred, num_steps=3, **fitted).fit(X)
    p = X.mean(0)
    independent = (X * np.log(p) + (1 - X) * np.log(1 - p)).sum(1).mean()
    pair = X[:, 0] == X[:, 1]
    gain = np.log(2) + pair.mean() * np.log(pair.mean()) + (~pair).mean() * np.log((~pair).mean())
    # What independent units miss is what the first two columns say of each other, at most some 0.37 nats.
    assert model.score(X) > independent + 0.6 * gain * 0.7


def test_update_is_the_closed_form_gradient():
    """cd without centring: W goes by the rate times mean v p' of data minus that of the chains."""
    X = bits(30)
    model = RBM(n_components=3, batch_size=30, algorithm="cd", centred=False, random_state=0)
    model._begin(X)
    machine, before = model.rbm_, model.rbm_.weight.clone()
    data = torch.tensor(X, dtype=torch.float32)
    seen = []
    descend = machine.descend
    machine.descend = lambda x, v, hidden, step_size: seen.append(v) or descend(x, v, hidden, step_size=step_size)
    model._update(data, 0.3)
    p, q = (torch.sigmoid(part @ before) for part in (data, seen[0]))
    expected = before + 0.3 * (data.T @ p - seen[0].T @ q) / 30
    torch.testing.assert_close(machine.weight.data, expected, rtol=0, atol=1e-6)


def test_chains_of_pcd_live_on_and_those_of_cd_begin_at_data():
    X = np.ones((40, 6))
    X[:20] = 0
    kept = {}
    for algorithm in ("pcd", "cd"):
        model = RBM(n_components=2, batch_size=40, n_iter=1, learning_rate=1e-9, algorithm=algorithm, random_state=0)
        model.fit(X)
        with torch.no_grad():
            model.rbm_.weight.copy_(torch.full((6, 2), 40.0))
            model.rbm_.bias.fill_(-40.0)
            model.rbm_.hidden_bias.fill_(-120.0)
        model._hidden = torch.zeros(40, 2)
        model._update(torch.ones(40, 6), 1e-9)
        kept[algorithm] = float(model._hidden.mean())
    # A machine that copies: from hidden zeros it stays at zeros, from data of ones at ones.
    assert kept == {"pcd": 0.0, "cd": 1.0}


@pytest.mark.parametrize("bad", [-0.1, 7.0])
def test_values_outside_are_refused(bad):
    X = bits()
    X[3, 2] = bad
    with pytest.raises(en.InputError, match=r"must lie between 0 and 1.*MinMaxScaler"):
        RBM(n_components=2).fit(X)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        RBM(n_components=2).fit(sparse.csr_matrix(X))
    model = RBM(n_components=2, n_iter=1).fit(bits())
    for method in (model.transform, model.score_samples, model.partial_fit):
        with pytest.raises(en.InputError, match="must lie between 0 and 1"):
            method(X)


def test_binarize_is_a_threshold_at_every_door():
    X = 10 * np.random.default_rng(0).random((50, 4)) - 5
    held = {"n_components": 2, "n_iter": 3, "random_state": 0}
    one, other = RBM(binarize=1.0, **held).fit(X), RBM(**held).fit((X > 1).astype(float))
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(one.transform(X), other.transform((X > 1).astype(float)))
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples((X > 1).astype(float)))


def test_probabilities_have_features_and_no_likelihood():
    X = np.random.default_rng(0).random((50, 4))
    model = RBM(n_components=2, n_iter=1).fit(X)
    assert model.transform(X).shape == (50, 2)
    with pytest.raises(en.InputError, match="set binarize"):
        model.score_samples(X)


def test_columns_that_never_vary_are_told():
    X = bits()
    X[:, 3] = 1
    for rows in (X, sparse.csr_matrix(X)):
        with pytest.warns(UserWarning, match=r"1 of 5 columns never vary \(the first is number 3\)"):
            RBM(n_components=2, n_iter=1).fit(rows)


@pytest.mark.parametrize(
    "wrong", [{"n_components": 0}, {"learning_rate": 0}, {"n_iter": -1}, {"algorithm": "sml"}, {"num_steps": 1.5}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(en.InputError, match=next(iter(wrong))):
        RBM(**wrong).fit(bits())


def test_weights_that_left_the_finite_numbers_are_told():
    model = RBM(n_components=2, n_iter=1, random_state=0).fit(bits())
    # Where too large a rate leads.
    with torch.no_grad():
        model.rbm_.weight.fill_(torch.inf)
    with pytest.raises(en.DivergenceError, match="smaller"):
        model.partial_fit(bits())


def test_sparse_rows_and_other_dtypes_train_the_same():
    X = bits()
    held = {"n_components": 3, "n_iter": 3, "random_state": 0}
    dense = RBM(**held).fit(X)
    for rows in (sparse.csr_matrix(X), X.astype(np.float32), X.astype(int), X.tolist()):
        other = RBM(**held).fit(rows)
        np.testing.assert_allclose(other.components_, dense.components_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(dense.transform(sparse.csr_matrix(X)), dense.transform(X), rtol=0, atol=1e-12)


def test_partial_fit_goes_on_after_a_pickle():
    X = bits()
    first = RBM(n_components=3, batch_size=10, random_state=0)
    for part in np.array_split(X, 10):
        first.partial_fit(part)
    second = pickle.loads(pickle.dumps(first))
    for model in (first, second):
        model.partial_fit(X[:20])
    np.testing.assert_array_equal(first.components_, second.components_)
    again = clone(first)
    assert not [name for name in vars(again) if name.endswith("_")]


def test_a_seed_is_a_run_and_torch_own_stream_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models = [RBM(n_components=3, n_iter=2, random_state=seed).fit(bits()) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(models[0].components_, models[1].components_)
    assert not np.array_equal(models[0].components_, models[2].components_)


def test_draws_follow_the_model():
    model = RBM(n_components=3, batch_size=20, n_iter=40, learning_rate=0.5, random_state=1).fit(bits())
    draws = model.sample(20_000, random_state=0)
    share = np.bincount(draws.astype(int) @ (1 << np.arange(4, -1, -1)), minlength=32) / 20_000
    p = np.exp(model.score_samples(STATES))
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-12).all()


def test_bracket_holds_the_exact_value(monkeypatch):
    X = bits(500, columns=8)
    model = RBM(n_components=5, batch_size=50, n_iter=20, learning_rate=0.5, random_state=0).fit(X)
    exact, same = model.log_z_interval()
    assert exact == same
    monkeypatch.setattr(en.energies.rbm, "_MOST_LISTED", 2)
    model._log_z = None
    low, high = model.log_z_interval()
    assert low < exact < high
    assert high - low < 0.5
    assert model.log_z_interval() is model._log_z
    model.partial_fit(X)
    assert model._log_z is None


def test_in_a_pipeline_with_names():
    X = bits(400)
    y = (X[:, 0] + X[:, 4] > 0).astype(int)
    pipe = make_pipeline(RBM(n_components=6, batch_size=10, n_iter=50, random_state=0), LogisticRegression(C=100))
    assert pipe.fit(X, y).score(X, y) > 0.9
    assert list(pipe[:-1].get_feature_names_out()) == [f"rbm{i}" for i in range(6)]


def test_verbose_says_a_line_a_pass(capsys):
    RBM(n_components=2, n_iter=3, verbose=1).fit(bits())
    assert capsys.readouterr().out.count("reconstruction") == 3
