"""Classifiers: cross entropy alone, and joined with a model of x (JEM)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from energeia.core.energy import Classes, Energy, require
from energeia.core.errors import InputError, check_fraction
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.transform import Transform
from energeia.objectives.contrastive import Contrastive, contrast

_INSTEAD = "use en.Classifier(network, space)"


class CrossEntropy(Objective):
    """-log p(y|x), p(y|x) = softmax(-E(x, y)): an ordinary classifier. E(x) is not trained.

    Args:
        label_smoothing: share of the label spread evenly over all classes, 0 to 1.
        augment: `(x, generator) -> x`, random changes of x in training that keep its class.
    """

    def __init__(self, *, label_smoothing: float = 0.0, augment: Transform | None = None) -> None:
        super().__init__()
        check_fraction("CrossEntropy", label_smoothing=label_smoothing)
        self.label_smoothing, self.augment = label_smoothing, augment

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """Mean cross entropy of the batch; needs `Classes` and labels."""
        classes = require(energy, Classes, who="CrossEntropy", instead=_INSTEAD)
        x = batch.x if self.augment is None or not self.training else self.augment(batch.x, generator)
        logits = -classes.class_energies(x)
        value, metrics = _classification(logits, _labels(batch, "CrossEntropy"), self.label_smoothing)
        return Loss(value, {"loss": value.detach(), **metrics})


class Joint(Objective):
    """Train p(y|x) and p(x) together: cross entropy + weight (mean E(data) - mean E(negatives)).

    Args:
        negatives: where samples of the model come from.
        weight: of the generative part, > 0; for 0 use `CrossEntropy`.
        label_smoothing: share of the label spread evenly over all classes, 0 to 1.
        augment: `(x, generator) -> x`, random changes of x in training that keep its class,
            for the cross entropy alone: p(x) is learned from the data as they are.

    Negatives drawn at temperature T (`Langevin(temperature=T)`) make exp(-E / T) the model
    of x, while p(y|x) stays softmax(-E(x, y)): the generative part then weighs weight / T.
    With weight 1, T = 1 and exact samples the gradient is that of -log p(x, y). Data and
    negatives go through the network together.

    Reference: Grathwohl et al. (2020), https://arxiv.org/abs/1912.03263
    """

    def __init__(
        self,
        negatives: Contrastive,
        *,
        weight: float = 1.0,
        label_smoothing: float = 0.0,
        augment: Transform | None = None,
    ) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise InputError(f"Joint: weight must be a positive finite number, got {weight}; for 0 use CrossEntropy")
        check_fraction("Joint", label_smoothing=label_smoothing)
        self.negatives, self.weight = negatives, weight
        self.label_smoothing, self.augment = label_smoothing, augment

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The hybrid loss of the batch; needs `Classes` and labels."""
        classes = require(energy, Classes, who="Joint", instead=_INSTEAD)
        negatives, info = self.negatives.negatives(energy, batch, generator)
        augmented = [] if self.augment is None or not self.training else [self.augment(batch.x, generator)]
        logits = -classes.class_energies(torch.cat([batch.x, negatives, *augmented]))
        num_rows, num_contrasted = len(batch.x), len(batch.x) + len(negatives)
        shown = logits[num_contrasted:] if augmented else logits[:num_rows]
        cross_entropy, metrics = _classification(shown, _labels(batch, "Joint"), self.label_smoothing)
        energies = -logits[:num_contrasted].logsumexp(1)
        gap, contrast_metrics = contrast(energies[:num_rows], energies[num_rows:], info)
        value = cross_entropy + self.weight * gap
        return Loss(value, {"loss": value.detach(), **metrics, **contrast_metrics})


def _labels(batch: Batch, who: str) -> Tensor:
    if batch.y is None:
        raise InputError(f"{who}: the data has no labels; give fit (x, y), or use an unlabelled objective")
    return batch.y


def _classification(logits: Tensor, y: Tensor, label_smoothing: float) -> tuple[Tensor, dict[str, Tensor]]:
    value = functional.cross_entropy(logits, y, label_smoothing=label_smoothing)
    error = (logits.detach().argmax(1) != y).to(logits.dtype).mean()
    return value, {"cross_entropy": value.detach(), "error": error}
