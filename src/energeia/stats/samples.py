"""How far samples are from data: a kernel distance, and a classifier that tries to tell them apart."""

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from energeia.core.errors import InputError, check_count, check_positive

# Kernel values held at once: bounds memory at 128 MiB in float64.
_MAX_ENTRIES = 2**24
# Rows whose pairwise distances give the default bandwidth.
_MAX_MEDIAN_ROWS = 2000


def mmd(x: Tensor, y: Tensor, *, bandwidth: float | None = None) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two samples.

        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j),
        k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)).

    Zero in expectation if both come from one distribution, so half of such values
    are below zero; at most 2.

    Args:
        x: real data `[N, *event]`, N >= 2. It alone sets the default bandwidth, so
            that values for several models are comparable.
        y: samples `[M, *event]`, M >= 2.
        bandwidth: width of the kernel, > 0, in units of x. Default: the median
            distance between two points of x (2,000 evenly spaced rows if there are more).

    Returns:
        A float64 scalar on the device of x.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a median
            distance of zero.

    What it does not see: differences finer than the bandwidth, and, in high
    dimensions, most of what the eye sees. Points must be independent: chains that
    have not mixed make it larger. Cost: (N + M)^2 distances, in bounded memory.

    >>> import torch
    >>> from energeia.stats.samples import mmd
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> round(mmd(x, x + 9, bandwidth=1.0).item(), 4)
    1.2131

    Reference: Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, A Kernel Two-Sample
    Test, https://jmlr.org/papers/v13/gretton12a.html
    """
    first, second = _rows("mmd", x, y)
    if bandwidth is None:
        bandwidth = median_distance(first, "mmd")
    check_positive("mmd", bandwidth=bandwidth)
    # Near the origin, |a|^2 + |b|^2 - 2ab loses least.
    centre = first.mean(0)
    first, second = first - centre, second - centre
    num_x, num_y = len(first), len(second)
    within_x = (_kernel_sum(first, first, bandwidth) - num_x) / (num_x * (num_x - 1))
    within_y = (_kernel_sum(second, second, bandwidth) - num_y) / (num_y * (num_y - 1))
    return within_x + within_y - 2 * _kernel_sum(first, second, bandwidth) / (num_x * num_y)


def classifier_test(x: Tensor, y: Tensor, *, seed: int = 0, num_folds: int = 5) -> float:
    """Held-out accuracy of a small network that is trained to tell x from y.

    0.5: it cannot tell them apart; 1: it always can. The larger set is thinned at
    random to the size of the other, so that guessing earns 0.5. Its standard error
    is about 0.35 / sqrt(min(N, M)).

    Args:
        x: real data `[N, *event]`.
        y: samples `[M, *event]`.
        seed: of the thinning, the folds and the weights of the network.
        num_folds: folds of the cross-validation, >= 2; each set needs 2 points a fold.

    Returns:
        Accuracy in [0, 1].

    Raises:
        InputError: shapes that do not fit, values that are not finite, too few points.

    What it does not see: whatever a network of 64 hidden units on standardised
    numbers, without convolutions, cannot learn from this many points, so 0.5 is weak
    evidence on images; a few missing modes, which move the accuracy only by their
    share; and memorised data, if the training data were the x: give held-out data.
    It also sees what does not matter: pixel noise of tiny size is enough for 1.
    Cost: num_folds trainings, seconds for a few thousand points.

    >>> import torch
    >>> from energeia.stats.samples import classifier_test
    >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> classifier_test(x, x + 10) > 0.95
    True

    Reference: Lopez-Paz & Oquab 2017, Revisiting Classifier Two-Sample Tests,
    https://arxiv.org/abs/1610.06545
    """
    check_count("classifier_test", num_folds=num_folds)
    first, second = (part.cpu().numpy() for part in _rows("classifier_test", x, y))
    size = min(len(first), len(second))
    if num_folds < 2 or size < 2 * num_folds:
        raise InputError(
            f"classifier_test: needs num_folds >= 2 and two points of each set a fold, "
            f"got {len(first)} and {len(second)} points for {num_folds} folds"
        )
    random = np.random.default_rng(seed)
    points = np.concatenate([part[random.permutation(len(part))[:size]] for part in (first, second)])
    labels = np.repeat([0, 1], size)
    # Enough epochs that training ends by early stopping, not by the limit.
    network = MLPClassifier((64,), alpha=1e-3, early_stopping=True, max_iter=1000, random_state=seed)
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    return float(np.mean(cross_val_score(make_pipeline(StandardScaler(), network), points, labels, cv=folds)))


def _rows(who: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets as float64 `[N, D]`, on the device of x."""
    if x.dim() == 0 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise InputError(
            f"{who}: x and y must be [N, *event] and [M, *event] with one event shape and at least 2 points each, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    for name, part in (("x", x), ("y", y)):
        if not bool(part.isfinite().all()):
            raise InputError(f"{who}: {name} holds values that are not finite; look for diverged chains first")
    first = x.detach().to(torch.float64).reshape(len(x), -1)
    return first, y.detach().to(first).reshape(len(y), -1)


def median_distance(x: Tensor, who: str) -> float:
    """The median distance between two rows of x `[N, D]`, of 2,000 evenly spaced ones if there are more."""
    stride = -(-len(x) // _MAX_MEDIAN_ROWS)
    median = torch.nn.functional.pdist(x[::stride]).median().item()
    if median == 0:
        raise InputError(f"{who}: more than half of the distances between points of x are zero; give a bandwidth")
    return median


def _kernel_sum(a: Tensor, b: Tensor, bandwidth: float) -> Tensor:
    """sum_ij k(a_i, b_j)."""
    scale = -0.5 / bandwidth**2
    square_b = b.square().sum(1)
    parts = []
    for block in a.split(max(1, _MAX_ENTRIES // len(b))):
        distance = block.square().sum(1, keepdim=True) + square_b - 2 * block @ b.T
        parts.append((scale * distance.clamp_min(0)).exp().sum())
    return torch.stack(parts).sum()
