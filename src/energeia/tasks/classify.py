"""How well an energy with classes classifies, and how far its probabilities can be believed."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Classes, Energy, require, validate
from energeia.core.errors import DivergenceError, check_count
from energeia.stats.calibration import Reliability, check_labels, reliability


class Classification(NamedTuple):
    """What `classify` finds; tensors are on the CPU.

    accuracy, error: share of points right and wrong.
    ece: expected calibration error, that of `reliability`.
    cross_entropy: mean of -log p(y | x), in nats.
    confusion: points of true class i that were called j, int64 `[K, K]`.
    reliability: confidence against accuracy, bin by bin.
    probabilities: p(y | x), float64 `[N, K]`.
    """

    accuracy: float
    error: float
    ece: float
    cross_entropy: float
    confusion: Tensor
    reliability: Reliability
    probabilities: Tensor


@torch.no_grad()
def classify(energy: Energy, x: Tensor, y: Tensor, *, batch_size: int = 1024, num_bins: int = 15) -> Classification:
    """Classify x by p(y | x) = exp(-E(x, y)) / sum_k exp(-E(x, k)) and compare with y. Z is not needed.

    Args:
        energy: one with `Classes`, such as `Classifier`.
        x: points `[N, *event]` of the energy's space, N >= 1.
        y: true classes `[N]`, integers in 0..K-1.
        batch_size: points in one evaluation.
        num_bins: bins of the calibration.

    Returns:
        `Classification`.

    Raises:
        CapabilityError: the energy has no classes.
        InputError: x outside the space, labels that do not fit, dropout left on.
        DivergenceError: class energies that are not finite.

    What it does not do: it says nothing of p(x). The energy is used in the mode it
    is in: call `.eval()` first. Cost: one evaluation of the class energies a point.

    >>> import torch, energeia as en
    >>> from energeia.tasks.classify import classify
    >>> network = torch.nn.Linear(1, 2)
    >>> _ = network.weight.data.copy_(torch.tensor([[-5.0], [5.0]])), network.bias.data.zero_()
    >>> energy = en.Classifier(network, en.Real(1))
    >>> classify(energy, torch.tensor([[-1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0])).confusion
    tensor([[1, 1],
            [0, 1]])

    Reference: Grathwohl et al. 2020, Your classifier is secretly an energy based model,
    https://arxiv.org/abs/1912.03263
    """
    check_count("classify", batch_size=batch_size)
    classes = require(energy, Classes, who="classify", instead="use en.Classifier(network, space)")
    energy.space.check(x)
    check_labels("classify", y, num_points=len(x), num_classes=classes.num_classes)
    validate(energy, x[:4].repeat(2, *[1] * (x.dim() - 1)))
    logits = torch.cat([-classes.class_energies(part).cpu().double() for part in x.split(batch_size)])
    if not bool(logits.isfinite().all()):
        raise DivergenceError(
            f"classify: the class energies of {int((~logits.isfinite().all(1)).sum())} of {len(x)} points are not "
            "finite; check the weights of the energy and the range of x"
        )
    labels = y.cpu().long()
    log_probabilities = logits.log_softmax(1)
    probabilities = log_probabilities.exp()
    calibration = reliability(probabilities, labels, num_bins)
    pairs = labels * classes.num_classes + logits.argmax(1)
    confusion = torch.bincount(pairs, minlength=classes.num_classes**2).view(-1, classes.num_classes)
    accuracy = int(confusion.diagonal().sum()) / len(x)
    cross_entropy = float(torch.nn.functional.nll_loss(log_probabilities, labels))
    return Classification(accuracy, 1 - accuracy, calibration.ece, cross_entropy, confusion, calibration, probabilities)
