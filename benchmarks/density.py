"""`Density` where one takes scikit-learn's KernelDensity or GaussianMixture: log-likelihoods, outliers, seconds.

The plane: nats above the truth, on 10,000 test rows of known log p. Tables: nats a row of standardised columns, a fifth
held out. Outliers: trained on benign tumours alone, the area under the curve of log p of the others, against the
malignant ones. The yardsticks get their bandwidth, or number of components and kind of covariance, by five-fold
cross-validation, and are fitted again to all rows; `Density` as it comes.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.objectives import tabular
from energeia.energies import Planar
from energeia.energies.planar import PlanarName

PLANES: tuple[tuple[PlanarName, int], ...] = (
    ("checkerboard", 20_000),
    ("spirals", 20_000),
    ("rings", 20_000),
    ("two_moons", 2000),
    ("checkerboard", 2000),
    ("two_moons", 300),
    ("spirals", 300),
)
TABLES = ("breast cancer", "wine", "digits, dequantised")


def main(quick: bool) -> Sequence[Row]:
    """All of it."""
    rows: list[Row] = []
    for seed in (0,) if quick else (0, 1, 2):
        for name, number in PLANES[-2:] if quick else PLANES:
            rows += _plane(name, number, seed)
        for name in TABLES[1:2] if quick else TABLES:
            train, test = (part.double().numpy() for part in tabular.data(name, seed))
            rows += _judged(f"table: {name}", train, test, None, seed)
        rows += _outliers(seed)
        progress(f"seed {seed} done")
    return rows


def estimators(num_columns: int, seed: int) -> dict[str, Any]:
    """Those compared, by name."""
    # Standardised columns; in many of them kernels are wide.
    widths = np.geomspace(0.02, 2.0, 13)
    # Of the largest tables, all covariances of 64 components do not fit the rows.
    numbers = [1, 2, 4, 8, 16, 32, 64] if num_columns <= 4 else [1, 2, 3, 5, 8, 12]
    kinds = ["full"] if num_columns <= 4 else ["full", "tied", "diag"]
    mixtures = {"n_components": numbers, "covariance_type": kinds}
    return {
        "Density": en.Density(random_state=seed),
        "KernelDensity": GridSearchCV(KernelDensity(), {"bandwidth": widths}, cv=5),
        "GaussianMixture": GridSearchCV(GaussianMixture(reg_covar=1e-3, random_state=seed), mixtures, cv=5),
    }


def _plane(name: PlanarName, number: int, seed: int) -> list[Row]:
    truth = Planar(name, dtype=torch.float64)
    train, test = (
        truth.sample_exact(n, torch.Generator().manual_seed(seed + s)) for n, s in ((number, 0), (10_000, 99))
    )
    mean, deviation = train.mean(0), train.std(0)
    best = float(-truth(test).mean() + deviation.log().sum())
    white = [((rows - mean) / deviation).numpy() for rows in (train, test)]
    return _judged(f"plane: {name}, {number:,} rows", white[0], white[1], best, seed)


def _judged(work: str, train: np.ndarray, test: np.ndarray, best: float | None, seed: int) -> list[Row]:
    rows: list[Row] = []
    for who, estimator in estimators(train.shape[1], seed).items():
        if who == "GaussianMixture":
            smallest = len(train) * 4 // 5
            numbers = [number for number in estimator.param_grid["n_components"] if number <= smallest // 2]
            estimator.set_params(param_grid={**estimator.param_grid, "n_components": numbers})
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(train)
        fitted = time.process_time() - began
        chosen = estimator.best_estimator_ if isinstance(estimator, GridSearchCV) else estimator
        began = time.process_time()
        score = float(chosen.score_samples(test).mean())
        scored = time.process_time() - began
        value, unit = (score, "nats a row, test") if best is None else (best - score, "nats above the truth, test rows")
        rows += [
            Row(work, who, value, unit, seed),
            Row(work, who, fitted, "s to fit", seed),
            Row(work, who, 1e6 * scored / len(test), "us to score a row", seed),
        ]
        if isinstance(chosen, en.Density):
            low, high = chosen.log_z_interval()
            rows.append(Row(work, who, high - low, "width of the interval of log Z", seed))
        progress(f"{work}, {who}: {value:.4g}, {fitted:.1f} s")
    return rows


def _outliers(seed: int) -> list[Row]:
    """The area under the curve, malignant against benign."""
    X, benign = (np.asarray(part, dtype=float) for part in load_breast_cancer(return_X_y=True))
    order = np.random.default_rng(seed).permutation(len(X))
    X, benign = X[order], benign[order]
    normal = X[benign == 1]
    cut = len(normal) * 4 // 5
    mean, deviation = normal[:cut].mean(0), normal[:cut].std(0)
    train = (normal[:cut] - mean) / deviation
    test = (np.concatenate([normal[cut:], X[benign == 0]]) - mean) / deviation
    strange = np.arange(len(test)) >= len(normal) - cut
    rows: list[Row] = []
    others = {
        **estimators(train.shape[1], seed),
        "IsolationForest": IsolationForest(random_state=seed),
        "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
    }
    for who, estimator in others.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(train)
        score = estimator.score_samples(test)
        rows.append(
            Row("outliers: malignant among benign", who, roc_auc_score(strange, -score), "area under the curve", seed)
        )
        if isinstance(estimator, en.Density):
            wrong = float((estimator.predict(test[~strange]) == -1).mean())
            rows.append(Row("outliers: malignant among benign", who, wrong, "benign test rows called outliers", seed))
    return rows


if __name__ == "__main__":
    run("density", main)
