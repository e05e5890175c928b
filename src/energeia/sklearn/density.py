"""A density of real rows as an estimator, in KernelDensity's place: a fitted mixture, tilted by a network."""

import copy
import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from energeia.core.energy import Energy, Tractable
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.space import Real
from energeia.core.warn import warn
from energeia.energies import MLP, FourierMLP, Neural, fitted_noise
from energeia.objectives import NoiseContrast
from energeia.partition import bracket
from energeia.partition.weights import Mean, mean_of
from energeia.sklearn.common import plain, seed_from
from energeia.train import fit

_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
# From draws of a finer mixture than this the network finds nothing to tell the rows by, and learns nothing.
_MOST_TILTED = 8
# Columns up to which edges are sharp enough, and rows dense enough, for Fourier features.
_FEW_COLUMNS = 4
# Rows for each component of a mixture, and for each of its columns, at least; with fewer held-out rows than these
# there is nothing to choose by.
_ROWS_EACH, _ROWS_EACH_COLUMN, _FEWEST_HELD = 10, 5, 5
_AT_ONCE, _MOST_DRAWS = 2**14, 2**19
# Standard error of log Z by importance sampling that is good enough, and effective draws for it to be believed.
_SMALL_ERROR, _ENOUGH = 0.002, 1000.0
_FEW_VALUES = 0.5


class Density(OutlierMixin, BaseEstimator):
    """log p(x) of rows of real numbers, where p is an energy-based model, as an estimator of scikit-learn.

    p(x) = q(x) exp(-f(x)) / Z: a mixture of Gaussians q, fitted by EM, and a network f that is trained to tell the
    rows from draws of q (`NoiseContrast`), so that what is left of f is what the mixture has wrong. It takes the
    place of `sklearn.neighbors.KernelDensity`, or of `GaussianMixture`, and of `IsolationForest` where the question
    is which rows are unlike the others.

    Args:
        n_components: of the mixture; None is the best on held-out rows of 1, 2, 4, ..., 64 alone, and of up to 8
            with a network.
        hidden_layer_sizes: of the network f.
        fourier_features: whether f is a `FourierMLP` (of scale 3), which sees sharp edges, or an `MLP`; "auto" is True
            for up to 4 columns.
        n_updates: steps of Adam, >= 0; 0 is the mixture alone. The weights kept are those that were best on held-out
            rows, and it ends early once they get no better.
        batch_size: rows an update.
        learning_rate: of Adam, > 0; it falls to zero.
        noise_ratio: draws of q for each row, >= 1.
        validation_fraction: of the rows, held out to choose by, in (0, 1).
        contamination: share of the training rows that `predict` calls outliers, in (0, 0.5].
        random_state: of the rows held out, EM, weights, batches and noise. Torch's own stream stays as it is.
        verbose: whether a line of progress is shown.

    Attributes (fitted):
        energy_: E(x) = -log q(x) + f(x) up to a constant, an `en.Energy`, of standardised columns, float64.
        base_: q. mean_, scale_: of the columns `(n_features,)`. offset_: the threshold of log p of `predict`.
        n_components_: of q. gain_: held-out nats a row that f is worth, against the best mixture alone; 0 where it
        was worth nothing and left out. n_features_in_, feature_names_in_: as everywhere.

    Nats are those of the columns' own units. Columns are standardised, so units do not matter otherwise, and a column
    that never varies raises a warning. So does one whose values repeat: a density has no bound where a value comes
    again and again; spread whole numbers by uniform noise first (X + rng.random(X.shape)).

    A tenth of the rows is held out. The network never learns from them; a mixture does, once it is chosen. With fewer
    than 50 rows there is nothing to choose by: a single Gaussian, shrunk as Ledoit & Wolf (2004) do, and no network.

    Cost: some seconds on one core for 20,000 rows of a few columns, most of it EM for 64 components; a row is scored
    in one pass of the mixture and of f, whatever the number of training rows was.

    What it does not do: rows with gaps, sparse rows, categories, sample weights. Far from all rows f is what the
    network makes of it; q keeps p small there.

    >>> import numpy as np, energeia as en
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 1)) ** 2
    >>> model = en.Density(random_state=0, n_updates=200).fit(X)
    >>> grid = np.linspace(-2, 20, 4000)[:, None]
    >>> round(float(np.exp(model.score_samples(grid)).sum() * 22 / 4000), 1)
    1.0
    >>> model.predict([[1.0], [100.0]])
    array([ 1, -1])

    Reference: Gutmann & Hyvarinen (2012), Noise-contrastive estimation of unnormalized statistical models,
    https://jmlr.org/papers/v13/gutmann12a.html
    """

    energy_: Energy
    base_: Energy
    mean_: np.ndarray
    scale_: np.ndarray
    offset_: float
    gain_: float
    n_components_: int

    def __init__(
        self,
        n_components: int | None = None,
        *,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        fourier_features: bool | str = "auto",
        n_updates: int = 1500,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        noise_ratio: int = 4,
        validation_fraction: float = 0.1,
        contamination: float = 0.05,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        # scikit-learn clones by these names, and wants them stored unchecked.
        self.n_components, self.hidden_layer_sizes = n_components, hidden_layer_sizes
        self.fourier_features, self.n_updates = fourier_features, n_updates
        self.batch_size, self.learning_rate, self.noise_ratio = batch_size, learning_rate, noise_ratio
        self.validation_fraction, self.contamination = validation_fraction, contamination
        self.random_state, self.verbose = random_state, verbose

    def fit(self, X: Any, y: Any = None) -> "Density":
        """Learn from rows X `(n_samples, n_features)`; y is not used.

        Raises:
            InputError (a ValueError): NaN, infinity, one row alone, or parameters out of range.
            DivergenceError: the network's training was given up; take a smaller learning_rate.
        """
        self._check_parameters()
        rows = self._rows(X, reset=True)
        _warn_of_columns(rows)
        state = check_random_state(self.random_state)
        self.mean_, deviation = rows.mean(0), rows.std(0)
        # A mean of large numbers is rounded: what is left of a constant column is no deviation.
        self.scale_ = np.where(deviation > 1e-12 * (1 + np.abs(self.mean_)), deviation, 1.0)
        white = self._white(rows)[torch.from_numpy(state.permutation(len(rows)))]
        number = round(self.validation_fraction * len(rows))
        held, kept = (white[:number], white[number:]) if number >= _FEWEST_HELD else (white[:0], white)
        seed = seed_from(state)
        found = self._mixtures(kept, held, seed)
        best = _best(found)
        self.base_, self.energy_, self.n_components_, self.gain_ = best.energy, best.energy, best.number, 0.0
        self._log_z, self._log_z_error = _log_z_of(best.energy), 0.0
        if len(held) > 0:
            coarse = [one for one in found if one.number <= _MOST_TILTED] or found
            tilted = self.n_updates > 0 and self._tilt(_best(coarse), kept, held, seed, best.scores)
            if not tilted:
                # Chosen: it may learn from all rows.
                self.base_ = self.energy_ = _fitted(white, best.number, seed)
                self._log_z = _log_z_of(self.base_)
        self.offset_ = float(np.quantile(self.score_samples(rows), self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of rows X, `(n_samples,)`, in nats."""
        check_is_fitted(self)
        white = self._white(self._rows(X, reset=False))
        jacobian = float(np.log(self.scale_).sum())
        with torch.no_grad():
            energies = torch.cat([self.energy_(part) for part in white.split(_AT_ONCE)])
        return (-energies - self._log_z - jacobian).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, what a grid search goes by; y is not used. (`KernelDensity` has their sum.)"""
        return float(self.score_samples(X).mean())

    def decision_function(self, X: Any) -> np.ndarray:
        """log p(x) above the threshold, `(n_samples,)`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for rows like the others and -1 for outliers, `(n_samples,)`: those less likely than the least likely
        `contamination` of the training rows. Of new rows, which are a little less likely, it calls a few more.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def log_z_interval(self) -> tuple[float, float]:
        """log Z of `energy_` from below and from above: what `score_samples` may be off by, all rows alike.

        Two standard errors of importance sampling from q, and where its weights are too uneven for that, an
        annealed `bracket`. Equal for the mixture alone.
        """
        check_is_fitted(self)
        return self._log_z - 2 * self._log_z_error, self._log_z + 2 * self._log_z_error

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Draws of p, `(n_samples, n_features)`: draws of q, ten effective ones for each, taken by their weights.

        Args:
            n_samples: how many.
            random_state: of the draws; None takes new ones at each call.

        Raises a warning where the weights are so uneven that draws repeat.
        """
        check_is_fitted(self)
        check_count("Density.sample", n_samples=plain(n_samples))
        generator = torch.Generator().manual_seed(seed_from(check_random_state(random_state)))
        if self.energy_ is self.base_:
            chosen = _tractable(self.base_).sample_exact(n_samples, generator)
        else:
            pool = _weighted(self.base_, self.energy_, generator, effective=10.0 * n_samples)
            effective = pool.mean.effective_sample_size
            if effective < n_samples:
                warn(
                    f"Density.sample: {n_samples} draws come from {effective:.0f} effective ones: the mixture is "
                    "far from the model and draws repeat. For chains that move: en.sample(model.energy_, en.HMC(...))",
                )
            share = (pool.log_weight - pool.log_weight.logsumexp(0)).exp()
            chosen = pool.x[torch.multinomial(share, n_samples, replacement=True, generator=generator)]
        return chosen.numpy() * self.scale_ + self.mean_

    def _check_parameters(self) -> None:
        counts = {"batch_size": self.batch_size, "noise_ratio": self.noise_ratio}
        if self.n_components is not None:
            counts["n_components"] = self.n_components
        counts |= {f"hidden_layer_sizes[{number}]": size for number, size in enumerate(self.hidden_layer_sizes)}
        check_count("Density", **{name: plain(value) for name, value in counts.items()})
        check_positive("Density", learning_rate=plain(self.learning_rate))
        if self.fourier_features not in (True, False, "auto"):
            raise InputError(f"Density: fourier_features must be True, False or 'auto', got {self.fourier_features!r}")
        updates = plain(self.n_updates)
        if not isinstance(updates, int) or updates < 0:
            raise InputError(f"Density: n_updates must be an integer of at least 0, got {self.n_updates!r}")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"Density: validation_fraction must be in (0, 1), got {self.validation_fraction!r}")
        if not 0 < self.contamination <= 0.5:
            raise InputError(f"Density: contamination must be in (0, 0.5], got {self.contamination!r}")

    def _rows(self, X: Any, *, reset: bool) -> np.ndarray:
        least = 2 if reset else 1
        return cast(
            np.ndarray, validate_data(cast(Any, self), X, reset=reset, dtype=np.float64, ensure_min_samples=least)
        )

    def _white(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy((rows - self.mean_) / self.scale_)

    def _mixtures(self, kept: Tensor, held: Tensor, seed: int) -> "list[_Mixture]":
        """Those that q is chosen from."""
        each = max(_ROWS_EACH, _ROWS_EACH_COLUMN * kept.shape[1])
        numbers = [number for number in _COMPONENTS if number == 1 or number * each <= len(kept)]
        if self.n_components is not None:
            numbers = [int(self.n_components)]
        elif len(held) == 0:
            numbers = [1]
        found: list[_Mixture] = []
        for number in numbers:
            energy = _fitted(kept, number, seed)
            found.append(_Mixture(energy, number, -energy(held) - _log_z_of(energy)))
            if number > 4 * _best(found).number:
                break
        return found

    def _tilt(self, mixture: "_Mixture", kept: Tensor, held: Tensor, seed: int, others: Tensor) -> bool:
        """Train f on a mixture; both stay if held-out rows are likelier than by `others`, beyond one standard error."""
        # In float32, for training.
        base = copy.deepcopy(mixture.energy).float()
        tilt = Neural(self._network(kept.shape[1], seed), base.space)
        updates = int(self.n_updates)
        fit(
            tilt + base,
            NoiseContrast(base, ratio=int(self.noise_ratio)),
            kept.float(),
            num_steps=updates,
            batch_size=min(int(self.batch_size), len(kept)),
            optimizer=functools.partial(torch.optim.Adam, lr=float(self.learning_rate)),
            scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates),
            average_decay=0.99,
            validation=held.float(),
            validate_every=max(1, updates // 40),
            select="best",
            patience=10,
            log_every=max(1, updates // 10),
            checkpoint_every=updates,
            seed=seed,
            accelerator="cpu",
            progress=bool(self.verbose),
        )
        energy = tilt.double().requires_grad_(False) + mixture.energy
        log_z, error = _estimated(energy, mixture.energy, kept, seed)
        with torch.no_grad():
            gains = -energy(held) - log_z - others
        if not _better(gains):
            return False
        gain = float(gains.mean())
        self.base_, self.energy_, self.n_components_, self.gain_ = mixture.energy, energy, mixture.number, gain
        self._log_z, self._log_z_error = log_z, error
        return True

    def _network(self, num_columns: int, seed: int) -> torch.nn.Module:
        sharp = num_columns <= _FEW_COLUMNS if self.fourier_features == "auto" else self.fourier_features
        widths = tuple(int(size) for size in self.hidden_layer_sizes)
        # The first weights come from the seed; torch's own stream must not notice.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return FourierMLP(num_columns, widths=widths) if sharp else MLP(num_columns, widths=widths)


class _Mixture(NamedTuple):
    """scores: log p of held-out rows."""

    energy: Energy
    number: int
    scores: Tensor


def _better(gains: Tensor) -> bool:
    """Whether held-out rows are likelier, beyond one standard error."""
    return len(gains) > 1 and float(gains.mean()) > float(gains.std()) / math.sqrt(len(gains))


def _best(mixtures: "list[_Mixture]") -> _Mixture:
    """The smallest that none is better than, going up."""
    best = mixtures[0]
    for mixture in mixtures[1:]:
        if _better(mixture.scores - best.scores):
            best = mixture
    return best


def _fitted(rows: Tensor, number: int, seed: int) -> Energy:
    with warnings.catch_warnings():
        # Held-out rows say which number is best; that EM could have gone on does not matter to them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kind = "gaussian" if number == 1 else "mixture"
        return fitted_noise(Real(rows.shape[1]), rows, kind=kind, num_components=number, seed=seed)


class _Pool(NamedTuple):
    """Draws x `[N, d]` of q, and logs `[N]` of exp(-E) / q without their Z; mean: of exp(-E) / q."""

    x: Tensor
    log_weight: Tensor
    mean: Mean


def _weighted(
    base: Energy, energy: Energy, generator: torch.Generator, *, effective: float, error: float = math.inf
) -> _Pool:
    """Draws until so many are effective and the standard error of log Z is that small, or there are too many."""
    drawn: list[Tensor] = []
    logs: list[Tensor] = []
    while True:
        drawn.append(_tractable(base).sample_exact(_AT_ONCE, generator))
        with torch.no_grad():
            logs.append(base(drawn[-1]) - energy(drawn[-1]))
        log_weight = torch.cat(logs)
        mean = mean_of(log_weight)
        enough = mean.effective_sample_size >= effective and float(mean.standard_error) <= error
        if enough or len(log_weight) >= _MOST_DRAWS:
            return _Pool(torch.cat(drawn), log_weight, mean)


def _estimated(energy: Energy, base: Energy, rows: Tensor, seed: int) -> tuple[float, float]:
    """log Z and its standard error, by importance sampling from q where that can be believed, else annealed."""
    generator = torch.Generator().manual_seed(seed)
    mean = _weighted(base, energy, generator, effective=_ENOUGH, error=_SMALL_ERROR).mean
    if mean.effective_sample_size >= _ENOUGH:
        return float(mean.value) + _log_z_of(base), float(mean.standard_error)
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        found = bracket(energy, rows, base=base, generator=generator)
    middle, half = float(found.low + found.high) / 2, float(found.high - found.low) / 2
    if doubts:
        # Up to what they advise, which concerns arguments of `bracket`.
        told = "; ".join(str(doubt.message).partition(";")[0] for doubt in doubts)
        warn(
            f"Density: all of score_samples may be off by {half:.2g} nats or more, as log Z was hard to find ({told}): "
            "the model is far from its mixture. Give the mixture more n_components, or take it alone: n_updates=0"
        )
    return middle, half / 2


def _tractable(energy: Energy) -> Tractable:
    found = energy.capability(Tractable)
    assert found is not None
    return found


def _log_z_of(energy: Energy) -> float:
    return float(_tractable(energy).log_z().value)


def _warn_of_columns(rows: np.ndarray) -> None:
    """Warnings where a density of the columns has no bound."""
    if len(rows) < 2 * _ROWS_EACH:
        return
    different = np.array([len(np.unique(column)) for column in rows.T])
    constant, few = different == 1, (different > 1) & (different < _FEW_VALUES * len(rows))
    if constant.any():
        warn(
            f"Density: {int(constant.sum())} of {len(constant)} columns never vary (the first is number "
            f"{int(constant.argmax())}); leave them out, for instance with sklearn.feature_selection.VarianceThreshold",
        )
    if few.any():
        at = int(few.argmax())
        warn(
            f"Density: {int(few.sum())} of {len(few)} columns repeat their values (the first is number {at}: "
            f"{int(different[at])} values in {len(rows)} rows); a density has no bound there. Spread whole numbers "
            "first: X + numpy.random.default_rng(0).random(X.shape)",
        )
