"""The ladder of objectives, a few steps of each kind of case: what it measures, and what it says of rows it lacks."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not shipped")


@pytest.fixture
def ladder(monkeypatch, tmp_path, capsys):
    """Runs it with options, and gives the figures by who and unit, and what was printed."""
    monkeypatch.syspath_prepend(ROOT)
    main = importlib.import_module("benchmarks.objectives.__main__").main

    def run(*options):
        path = tmp_path / "rows.json"
        monkeypatch.setattr(sys, "argv", ["objectives", "--quick", "--json", str(path), *options])
        main()
        records = json.loads(path.read_text()) if path.is_file() else []
        return {(record["who"], record["unit"]): record["value"] for record in records}, capsys.readouterr().out

    return run


def test_a_table_is_judged_like_its_yardstick(ladder):
    methods = ["Gaussian mixture", "noise contrast, mixture", "kernel density"]
    found, _ = ladder("--rung", "tabular", "--densities", "wine", "--methods", *methods)
    unit = "nats a row, test"
    # After a few updates the network is still nearly the mixture that it stands on; the kernel is another density.
    assert found["noise contrast, mixture", unit] == pytest.approx(found["Gaussian mixture", unit], abs=0.1)
    assert abs(found["kernel density", unit] - found["Gaussian mixture", unit]) > 0.2
    low, high = (found["noise contrast, mixture", f"nats a row, {end} end"] for end in ("low", "high"))
    assert low < found["noise contrast, mixture", unit] < high


def test_the_mixture_of_scikit_learn_is_the_same_density_as_an_energy(ladder):
    tabular = importlib.import_module("benchmarks.objectives.tabular")
    train, test = tabular.data("wine", 0)
    for kind in ("full", "tied", "diag"):
        fitted = tabular.GaussianMixture(2, covariance_type=kind, reg_covar=0.1, random_state=0).fit(train.double())
        energy = tabular.tractable(fitted)
        log_q = -energy(test).double() - energy.log_z().value
        torch.testing.assert_close(log_q, torch.as_tensor(fitted.score_samples(test.double())), atol=1e-3, rtol=1e-4)


def test_rows_that_are_not_there_are_skipped_with_the_way_to_get_them(ladder, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    found, told = ladder("--rung", "tabular", "--densities", "California housing", "--methods", "Gaussian")
    assert found == {}
    assert "skipped: California housing" in told
    assert "fetch_california_housing" in told


def test_bits_of_a_plane_are_held_against_their_truth(ladder):
    method = "pseudo-likelihood"
    found, _ = ladder("--rung", "discrete", "--densities", "mixture, 16 bits", "--methods", method)
    gap = found[method, "nats above the truth"]
    # By a sum over all states, and by 10,000 rows.
    assert found[method, "nats above the truth, test rows"] == pytest.approx(gap, abs=0.1)
    assert 0 < gap < 4


def test_pictures_are_binarised_and_judged(ladder, monkeypatch, tmp_path):
    binarised = importlib.import_module("benchmarks.objectives.binarised")
    monkeypatch.setattr(binarised, "MNIST", tmp_path / "pictures.npz")
    # Blocks of four equal pixels, each on with a probability of its own; all of the first row is dark.
    generator = np.random.default_rng(0)
    share = np.linspace(0, 0.5, 14)[:, None] * np.linspace(0.2, 1, 14)
    on = generator.random((600, 14, 14)) < share
    pixels = (255 * on).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    labels = np.arange(600) % 10
    np.savez(binarised.MNIST, x_train=pixels[:500], y_train=labels[:500], x_test=pixels[500:], y_test=labels[500:])
    methods = ["independent bits", "CD-10", "ratio matching"]
    found, _ = ladder("--rung", "binarised", "--methods", *methods)
    mean = (on[:500].sum(0) + 0.5) / 501
    kept = on[:500].any(0)
    by_hand = np.where(on[500:], np.log(mean), np.log1p(-mean))[:, kept].sum(1).mean()
    unit = "nats a row, test"
    assert found["independent bits", unit] == pytest.approx(by_hand, abs=1e-4)
    for method in methods[1:]:
        assert found[method, unit] == pytest.approx(by_hand, abs=3.0)


def test_a_file_that_is_no_mnist_is_named(ladder, monkeypatch, tmp_path):
    binarised = importlib.import_module("benchmarks.objectives.binarised")
    monkeypatch.setattr(binarised, "MNIST", tmp_path / "other.npz")
    np.savez(binarised.MNIST, x_train=np.zeros((50, 8, 8), np.uint8), y_train=np.arange(50) % 10)
    found, told = ladder("--rung", "binarised", "--methods", "independent bits")
    assert found == {}
    assert "skipped: MNIST cannot be had" in told
    assert "other.npz" in told
