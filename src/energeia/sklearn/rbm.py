"""A restricted Boltzmann machine as an estimator, in BernoulliRBM's place."""

import copy
import math
import time
from collections.abc import Iterator
from typing import Any, Literal, cast

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.preprocessing import binarize as above
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from energeia.core.energy import Tractable
from energeia.core.errors import DivergenceError, InputError, check_count, check_positive
from energeia.core.space import Binary
from energeia.core.warn import warn
from energeia.energies import rbm as machines
from energeia.energies.layers import draw_units
from energeia.energies.reference import Independent
from energeia.partition import bracket, exact_log_z
from energeia.sklearn.common import plain, seed_from

_NUM_CHAINS, _LEVELS = 200, 1000
_AT_ONCE = 10_000


class RBM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A restricted Boltzmann machine of bits, as a transformer of scikit-learn.

    E(v, h) = -v'W h - b'v - c'h; features are E[h|v] = sigmoid(c + W'v).

    It takes `sklearn.neural_network.BernoulliRBM`'s place in a pipeline, with its parameters and
    fitted attributes, and differs in this: the learning rate falls, rows are shuffled, b begins at the
    data's log odds and W larger, rows outside [0, 1] are refused, and `score_samples` is the
    log-likelihood. For other units, other samplers, validation and checkpoints: `en.RBM`
    with `en.fit`, or on the machine that this holds, `rbm_`.

    Args:
        n_components: number of hidden units.
        learning_rate: step of gradient descent, > 0; where it begins if it falls.
        batch_size: rows an update, and, for "pcd", number of chains.
        n_iter: passes over the data in `fit`, >= 0.
        algorithm: where the chains of the model's side start: "pcd" goes on with those of the update
            before (Tieleman 2008; their hidden units are kept, drawn with the weights before the
            update), "cd" at the batch (Hinton 2002): quicker features, a worse density.
        num_steps: Gibbs steps of the chains an update, >= 1.
        centred: whether gradients are centred (see `en.RBM`). Known for better densities; hidden units are then
            on half the time, and serve a linear classifier less than the rarer ones found without.
        decay: whether the learning rate falls linearly to zero in the course of `fit`.
        weight_scale: standard deviation of the first W, > 0; None is 1 / sqrt(n_features).
        binarize: values above this threshold are taken for 1 and others for 0, in training and later;
            None takes values in [0, 1] as they are and refuses others. A value between is then the
            probability of a 1, and stands for the bit in the data's half of the gradient.
        random_state: of the weights, the order of the rows and the chains. Torch's own stream stays as it is.
        verbose: whether each pass prints its error of reconstruction and its time.

    Attributes (fitted):
        components_: W' `(n_components, n_features)`. intercept_hidden_: c. intercept_visible_: b.
        rbm_: the machine itself, an `en.RBM`. n_features_in_, feature_names_in_: as everywhere.

    Weights are learned in float32, whatever the data comes in; features are computed in the data's
    float type and likelihoods in float64. Sparse rows (CSR) become dense batch by batch. Columns
    that never vary raise a warning: they cost time and teach nothing.

    >>> import numpy as np, energeia as en
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> model = en.sklearn.RBM(n_components=2, batch_size=2, n_iter=50, random_state=0).fit(X)
    >>> model.transform(X).shape
    (4, 2)
    >>> bool(np.isclose(np.exp(model.score_samples(np.array(list(np.ndindex(2, 2, 2))))).sum(), 1))
    True

    Reference: Smolensky (1986); Hinton (2002); Tieleman (2008), Training restricted Boltzmann machines
    using approximations to the likelihood gradient. https://doi.org/10.1145/1390156.1390290
    """

    rbm_: machines.RBM

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float = 0.1,
        batch_size: int = 50,
        n_iter: int = 10,
        algorithm: Literal["pcd", "cd"] = "pcd",
        num_steps: int = 1,
        centred: bool = False,
        decay: bool = True,
        weight_scale: float | None = None,
        binarize: float | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        # scikit-learn clones by these names, and wants them stored unchecked.
        self.n_components, self.learning_rate, self.batch_size = n_components, learning_rate, batch_size
        self.n_iter, self.algorithm, self.num_steps, self.centred = n_iter, algorithm, num_steps, centred
        self.decay, self.weight_scale, self.binarize = decay, weight_scale, binarize
        self.random_state, self.verbose = random_state, verbose

    @property
    def components_(self) -> np.ndarray:
        """Weights `(n_components, n_features)`."""
        return self.rbm_.weight.detach().numpy().T

    @property
    def intercept_hidden_(self) -> np.ndarray:
        """Biases of the hidden units `(n_components,)`."""
        return self.rbm_.hidden_bias.detach().numpy()

    @property
    def intercept_visible_(self) -> np.ndarray:
        """Biases of the visible units `(n_features,)`."""
        return self.rbm_.bias.detach().numpy()

    @property
    def _n_features_out(self) -> int:
        return self.rbm_.hidden_space.num_dims

    def fit(self, X: Any, y: Any = None) -> "RBM":
        """Learn from rows X `(n_samples, n_features)`, dense or sparse, from new weights; y is not used.

        Raises:
            InputError (a ValueError): values outside [0, 1], with NaN or infinity, or parameters out of
            range. DivergenceError: weights left the finite numbers; the learning rate is too large.
        """
        self._check_parameters()
        rows = self._validated(X, reset=True)
        _warn_of_constants(rows)
        self._begin(rows)
        held = _held(rows)
        updates, done = self.n_iter * math.ceil(rows.shape[0] / self.batch_size), 0
        for number in range(self.n_iter):
            began = time.perf_counter()
            for index in torch.randperm(rows.shape[0], generator=self._generator).split(self.batch_size):
                share = 1 - done / updates if self.decay else 1.0
                self._update(_batch(held, index), self.learning_rate * share)
                done += 1
            self._check_finite()
            if self.verbose:
                self._say(held, number + 1, time.perf_counter() - began)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "RBM":
        """One update with all rows of X, at learning_rate; begins where there is nothing yet. y is not used."""
        self._check_parameters()
        first = "rbm_" not in vars(self)
        rows = self._validated(X, reset=first)
        if first:
            self._begin(rows)
        self._update(torch.cat([part.float() for part in _parts(rows)]), self.learning_rate)
        self._check_finite()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """E[h|v] of rows X, `(n_samples, n_components)`."""
        check_is_fitted(self)
        rows = self._validated(X, reset=False, dtype=(np.float64, np.float32))
        machine = self._machine(torch.float64 if rows.dtype == np.float64 else torch.float32)
        with torch.no_grad():
            parts = [machine.hidden.mean(machine.hidden_parameters(part)) for part in _parts(rows)]
        return torch.cat(parts).numpy()

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(v) of rows of bits X, `(n_samples,)`, in nats: -E(v) - log Z.

        log Z is exact where the visible or the hidden units are few enough to be listed (at most 22). Else it
        is the middle of `log_z_interval`, estimated at the first call after training and kept.

        It is comparable between models, deterministic, and sums to one over all v, unlike the
        pseudo-likelihood that BernoulliRBM draws at random and that ranks models otherwise.
        Values between 0 and 1 have no probability and are refused: set `binarize`.
        """
        check_is_fitted(self)
        rows = self._validated(X, reset=False, dtype=np.float64)
        machine = self._machine(torch.float64)
        low, high = self.log_z_interval()
        values: list[Tensor] = []
        with torch.no_grad():
            for part in _parts(rows):
                if not bool(((part == 0) | (part == 1)).all()):
                    raise InputError(
                        "RBM.score_samples: X has values between 0 and 1, and the model gives probabilities to bits "
                        "alone; give bits, or set binarize, for instance to 0.5"
                    )
                values.append(-machine(part) - (low + high) / 2)
        return torch.cat(values).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`: what a grid search without labels goes by."""
        return float(self.score_samples(X).mean())

    def log_z_interval(self) -> tuple[float, float]:
        """log Z from below and from above; equal where it is exact.

        Two standard errors below annealed importance sampling from independent units of the data's
        means, and two above reverse annealing from the chains of training, run on. The upper end
        holds as far as those have mixed. Cost: some 3,000 Gibbs steps of 200 chains, once.
        """
        check_is_fitted(self)
        if self._log_z is None:
            self._log_z = _bracket(self.rbm_, self._mean, self._hidden)
        return self._log_z

    def sample(self, n_samples: int = 1, *, num_steps: int = 1000, random_state: Any = None) -> np.ndarray:
        """Draws of v, `(n_samples, n_features)`: exact where a side can be listed, else the ends of Gibbs chains.

        Args:
            n_samples: how many, each a chain of its own.
            num_steps: Gibbs steps of each chain, from noise.
            random_state: of the draws; None takes new ones at each call.
        """
        check_is_fitted(self)
        check_count("RBM.sample", n_samples=n_samples)
        generator = torch.Generator().manual_seed(seed_from(check_random_state(random_state)))
        if self.rbm_.capability(Tractable) is not None:
            return self.rbm_.sample_exact(n_samples, generator).numpy()
        return self.rbm_.sample(n_samples, num_steps=num_steps, generator=generator).numpy()

    def __sklearn_tags__(self) -> Any:
        tags = cast(Any, super()).__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.binarize is None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        counts = {"n_components": self.n_components, "batch_size": self.batch_size, "num_steps": self.num_steps}
        # numpy's integers come from grids of parameters.
        check_count("RBM", **{name: plain(value) for name, value in counts.items()})
        scale = 1.0 if self.weight_scale is None else self.weight_scale
        check_positive("RBM", learning_rate=plain(self.learning_rate), weight_scale=plain(scale))
        n_iter = plain(self.n_iter)
        if not isinstance(n_iter, int) or n_iter < 0:
            raise InputError(f"RBM: n_iter must be an integer of at least 0, got {self.n_iter!r}")
        if self.algorithm not in ("pcd", "cd"):
            raise InputError(f'RBM: algorithm must be "pcd" or "cd", got {self.algorithm!r}')

    def _validated(self, X: Any, *, reset: bool, dtype: Any = (np.float32, np.float64)) -> Any:
        """X as numbers in [0, 1], or bits; an array or a CSR matrix."""
        rows: Any = validate_data(cast(Any, self), X, accept_sparse="csr", reset=reset, dtype=dtype)
        if self.binarize is not None:
            return above(rows, threshold=self.binarize)
        values = rows.data if sparse.issparse(rows) else rows
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if low < 0 or high > 1:
            raise InputError(
                f"RBM: X must lie between 0 and 1, bits or probabilities of bits, got values from {low:g} to {high:g}; "
                "scale it (sklearn.preprocessing.MinMaxScaler), or set binarize, the threshold above which a value is 1"
            )
        return rows

    def _begin(self, rows: Any) -> None:
        """New weights, chains and random numbers."""
        self._generator = torch.Generator().manual_seed(seed_from(check_random_state(self.random_state)))
        self._mean = torch.from_numpy(np.asarray(rows.mean(0), dtype=np.float32).ravel())
        # The first weights come from the generator; torch's own stream must not notice.
        with torch.random.fork_rng(devices=[]):
            machine = machines.RBM(rows.shape[1], int(self.n_components), mean=self._mean, centred=bool(self.centred))
        with torch.no_grad():
            scale = rows.shape[1] ** -0.5 if self.weight_scale is None else self.weight_scale
            machine.weight.normal_(0, scale, generator=self._generator)
        self.rbm_ = machine.float().requires_grad_(False)
        self._hidden = torch.zeros(int(self.batch_size), int(self.n_components))
        self._log_z: tuple[float, float] | None = None

    def _update(self, x: Tensor, rate: float) -> None:
        """One step of gradient descent: five products with W, as the gradient takes what the chains have met."""
        machine = self.rbm_
        persistent = self.algorithm == "pcd"
        natural = machine.hidden_parameters(x)
        h = self._hidden if persistent else draw_units(machine.hidden, natural, self._generator)
        v, others = x, natural
        for left in reversed(range(self.num_steps)):
            v = draw_units(machine.visible, machine.visible_parameters(h), self._generator)
            others = machine.hidden_parameters(v)
            if left > 0 or persistent:
                h = draw_units(machine.hidden, others, self._generator)
        self._hidden, self._log_z = h, None
        machine.recentre(x, hidden=natural)
        machine.descend(x, v, torch.cat([natural, others]), step_size=rate)

    def _check_finite(self) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.rbm_.parameters()):
            raise DivergenceError(
                f"RBM: weights are no longer finite with learning_rate={self.learning_rate}; take a smaller one"
            )

    def _say(self, rows: Any, number: int, seconds: float) -> None:
        """A line on a pass: the error of reconstruction of the first rows, a monitor and no more."""
        x = _batch(rows, torch.arange(min(rows.shape[0], 1000)))
        machine = self.rbm_
        natural = machine.visible_parameters(machine.hidden.mean(machine.hidden_parameters(x)))
        error = torch.nn.functional.binary_cross_entropy_with_logits(natural, x, reduction="sum") / len(x)
        print(f"[RBM] pass {number} of {self.n_iter}: reconstruction {float(error):.3f} nats a row, {seconds:.2f} s")

    def _machine(self, dtype: torch.dtype) -> machines.RBM:
        """The machine, or a copy of another dtype."""
        return self.rbm_ if dtype == torch.float32 else copy.deepcopy(self.rbm_).to(dtype)


def _bracket(machine: machines.RBM, mean: Tensor, hidden: Tensor) -> tuple[float, float]:
    """The ends of log Z, from the means of the data and chains of which the hidden units are known."""
    if machine.capability(Tractable) is not None:
        value = float(exact_log_z(copy.deepcopy(machine).double()).value)
        return value, value
    base = Independent(Binary(len(mean)), mean.clamp(1e-3, 1 - 1e-3).logit())
    generator = torch.Generator().manual_seed(0)
    h = hidden[torch.arange(_NUM_CHAINS) % len(hidden)]
    rows = draw_units(machine.visible, machine.visible_parameters(h), generator)
    found = bracket(
        machine, rows, base=base, num_chains=_NUM_CHAINS, levels=_LEVELS, num_steps=_LEVELS, generator=generator
    )
    return float(found.low), float(found.high)


def _parts(rows: Any) -> Iterator[Tensor]:
    """Rows as dense tensors of their dtype, some at a time."""
    for first in range(0, rows.shape[0], _AT_ONCE):
        part = rows[first : first + _AT_ONCE]
        yield torch.from_numpy(part.toarray() if sparse.issparse(part) else np.array(part))


def _held(rows: Any) -> Any:
    """Rows as batches are taken from them: a tensor, or sparse as they are."""
    return rows.astype(np.float32) if sparse.issparse(rows) else torch.tensor(rows, dtype=torch.float32)


def _batch(held: Any, index: Tensor) -> Tensor:
    return held.index_select(0, index) if isinstance(held, Tensor) else torch.from_numpy(held[index.numpy()].toarray())


def _warn_of_constants(rows: Any) -> None:
    """A warning where columns never vary."""
    low, high = rows.min(0), rows.max(0)
    same = np.asarray((low.toarray() == high.toarray()) if sparse.issparse(rows) else low == high).ravel()
    if same.any() and rows.shape[0] > 1:
        warn(
            f"RBM: {int(same.sum())} of {len(same)} columns never vary (the first is number {int(same.argmax())}); "
            "leave them out, for instance with sklearn.feature_selection.VarianceThreshold",
        )
