"""Do stated probabilities come true?"""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count


class Reliability(NamedTuple):
    """Confidence against accuracy, in equal bins of confidence over [0, 1].

    bin_confidence, bin_accuracy: means in each bin, float64 `[num_bins]`, NaN where the bin is empty.
    bin_count: points in each bin, int64 `[num_bins]`.
    ece: expected calibration error, in [0, 1]; 0 is perfect.
    """

    bin_confidence: Tensor
    bin_accuracy: Tensor
    bin_count: Tensor
    ece: float


def reliability(probabilities: Tensor, labels: Tensor, num_bins: int = 15) -> Reliability:
    """Compare how sure a classifier is with how often it is right.

    The confidence of a point is the probability of its most probable class. Bin m
    holds the points with confidence in ((m - 1) / M, m / M], and

        ECE = sum_m (n_m / N) |accuracy_m - confidence_m|.

    Args:
        probabilities: p(y | x) `[N, K]`, rows that sum to 1.
        labels: true classes `[N]`, integers in 0..K-1.
        num_bins: M, >= 1.

    Returns:
        `Reliability`, on the CPU.

    Raises:
        InputError: rows that are not probabilities, or labels that do not fit them.

    What it does not do: it looks at the top class alone, depends on the number of
    bins, and is biased upwards when bins hold few points. A classifier that always
    answers with the class frequencies is calibrated too: read it beside the accuracy.

    >>> import torch
    >>> from energeia.stats.calibration import reliability
    >>> sure = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    >>> round(reliability(sure, torch.tensor([0, 1])).ece, 3)
    0.4

    Reference: Guo, Pleiss, Sun & Weinberger 2017, On Calibration of Modern Neural
    Networks, https://arxiv.org/abs/1706.04599
    """
    check_count("reliability", num_bins=num_bins)
    _check(probabilities, labels)
    confidence, predicted = probabilities.detach().to("cpu", torch.float64).max(1)
    correct = (predicted == labels.cpu()).to(torch.float64)
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    # Rounding may put a confidence a little above 1; it belongs to the last bin.
    index = torch.bucketize(confidence, edges[1:-1])
    count = torch.bincount(index, minlength=num_bins)
    summed_confidence = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, index, confidence)
    summed_accuracy = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, index, correct)
    # sum_m n_m / N |a_m - c_m|: n_m cancels against the means, and empty bins add nothing.
    ece = (summed_accuracy - summed_confidence).abs().sum() / len(labels)
    return Reliability(summed_confidence / count, summed_accuracy / count, count, float(ece))


def _check(probabilities: Tensor, labels: Tensor) -> None:
    if probabilities.dim() != 2 or len(probabilities) == 0 or not probabilities.is_floating_point():
        raise InputError(
            f"reliability: probabilities must be floating [N, K] with N >= 1, "
            f"got {tuple(probabilities.shape)} {probabilities.dtype}"
        )
    error = (probabilities.sum(1) - 1).abs().max()
    if bool(probabilities.min() < 0) or not bool(error < 1e-3):
        raise InputError(
            f"reliability: rows of probabilities must be >= 0 and sum to 1, got a minimum of "
            f"{probabilities.min().item():g} and sums up to {error.item():g} away from 1; apply softmax to logits first"
        )
    check_labels("reliability", labels, num_points=len(probabilities), num_classes=probabilities.shape[1])


def check_labels(who: str, labels: Tensor, *, num_points: int, num_classes: int) -> None:
    """Raise `InputError` unless labels are integers `[num_points]` in 0..num_classes - 1."""
    if tuple(labels.shape) != (num_points,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"{who}: labels must be integers [{num_points}], got {tuple(labels.shape)} {labels.dtype}; "
            "one class number for each point"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(f"{who}: labels must lie in 0..{num_classes - 1}, got {low} to {high}")
