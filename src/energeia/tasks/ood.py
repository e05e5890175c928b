"""Telling foreign data from a model's own."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Classes, Energy, validate
from energeia.core.errors import DivergenceError, InputError, check_count
from energeia.core.gradient import value_and_gradient
from energeia.core.space import Box, Real


class Detection(NamedTuple):
    """How well one score tells the model's own data from one foreign set.

    auroc: P(score_in > score_out) + P(equal) / 2: 1 perfect, 0.5 blind, below 0.5 the wrong way round.
    aupr: average precision with own data as the positives; depends on the sizes of the sets.
    fpr_at_95_tpr: share of foreign points let through where 95% of own points are.
    score_in, score_out: the scores themselves, float64 `[N]` and `[M]` on the CPU; high = own.
    """

    auroc: float
    aupr: float
    fpr_at_95_tpr: float
    score_in: Tensor
    score_out: Tensor


def detect(score_in: Tensor, score_out: Tensor) -> Detection:
    """`Detection` from the scores of own `[N]` and foreign `[M]` points, high = own; neither may be empty.

    >>> import torch
    >>> from energeia.tasks.ood import detect
    >>> detect(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])).auroc
    0.875
    """
    # Takes a second, which those who ask for something else need not wait for.
    from sklearn.metrics import average_precision_score, roc_auc_score

    own, foreign = (part.detach().to("cpu", torch.float64) for part in (score_in, score_out))
    for name, part in (("score_in", own), ("score_out", foreign)):
        if part.dim() != 1 or len(part) == 0 or bool(part.isnan().any()):
            raise InputError(f"detect: {name} must be numbers [N], N >= 1, got shape {tuple(part.shape)}, or NaN in it")
    scores = torch.cat([own, foreign]).numpy()
    truth = torch.cat([torch.ones(len(own)), torch.zeros(len(foreign))]).numpy()
    # The highest threshold that lets at least 95% of own points through.
    rank = -(-95 * len(own) // 100)
    threshold = own.sort(descending=True).values[rank - 1]
    let_through = float((foreign >= threshold).double().mean())
    auroc, aupr = float(roc_auc_score(truth, scores)), float(average_precision_score(truth, scores))
    return Detection(auroc, aupr, let_through, own, foreign)


def ood(
    energy: Energy, x_in: Tensor, foreign: Mapping[str, Tensor], *, batch_size: int = 1024
) -> dict[str, dict[str, Detection]]:
    """Can the energy tell its own held-out data from foreign sets it never saw?

    Scores, each high for own data:

    - "energy": -E(x), which is log p(x) but for a constant;
    - "confidence": max_y p(y | x), for an energy with `Classes`;
    - "gradient_norm": -|dE/dx|, high where x stands in a broad valley rather than on
      a slope (the approximate mass of Grathwohl et al.), on `Real` and `Box`.

    Args:
        energy: the model.
        x_in: held-out data of the kind it was trained on `[N, *event]`.
        foreign: sets of other data, each `[M, *event]` with the same scaling. Take
            uniform noise and at least one real set; noise alone is easy.
        batch_size: points in one evaluation.

    Returns:
        `Detection` by name of the foreign set, then by score: result["noise"]["energy"].auroc.

    Raises:
        InputError: a set of the wrong shape or outside the space.
        DivergenceError: scores that are not finite.

    What it does not do: no threshold is chosen. A density may well give simple
    foreign images more probability than its own data (AUROC below 0.5): that is a
    finding, not a bug (Nalisnick et al. 2019). The energy is used in the mode it is
    in: call `.eval()` first. Cost: one forward and one backward evaluation a point.

    >>> import torch, energeia as en
    >>> from energeia.tasks.ood import ood
    >>> energy = en.from_module(lambda x: x.square().sum(1) / 2, en.Real(2))
    >>> ood(energy, torch.zeros(5, 2), {"far": torch.full((5, 2), 9.0)})["far"]["energy"].auroc
    1.0

    References: Grathwohl et al. 2020, Your classifier is secretly an energy based model,
    https://arxiv.org/abs/1912.03263; Hendrycks & Gimpel 2017, A Baseline for Detecting
    Misclassified and Out-of-Distribution Examples, https://arxiv.org/abs/1610.02136;
    Nalisnick et al. 2019, Do Deep Generative Models Know What They Don't Know?,
    https://arxiv.org/abs/1810.09136
    """
    check_count("ood", batch_size=batch_size)
    if not foreign:
        raise InputError("ood: give at least one foreign set, {name: x}")
    for name, x in {"x_in": x_in, **foreign}.items():
        energy.space.check(x, name)
        if len(x) == 0:
            raise InputError(f"ood: {name} is empty")
    validate(energy, x_in[:4].repeat(2, *[1] * (x_in.dim() - 1)))
    own = _scores(energy, x_in, "x_in", batch_size)
    result: dict[str, dict[str, Detection]] = {}
    for name, x in foreign.items():
        other = _scores(energy, x, name, batch_size)
        result[name] = {score: detect(own[score], other[score]) for score in own}
    return result


def _scores(energy: Energy, x: Tensor, name: str, batch_size: int) -> dict[str, Tensor]:
    """Every score the energy allows, float64 `[N]` on the CPU."""
    parts = [_batch_scores(energy, part) for part in x.split(batch_size)]
    scores = {score: torch.cat([part[score] for part in parts]) for score in parts[0]}
    for score, values in scores.items():
        if not bool(values.isfinite().all()):
            raise DivergenceError(
                f"ood: the {score} of {int((~values.isfinite()).sum())} of {len(x)} points of {name} is not finite; "
                "check the weights of the energy and the range of the data"
            )
    return scores


def _batch_scores(energy: Energy, x: Tensor) -> dict[str, Tensor]:
    scores: dict[str, Tensor] = {}
    if isinstance(energy.space, Real | Box):
        values, gradients = value_and_gradient(energy, x)
        scores["energy"] = -values
        scores["gradient_norm"] = -gradients.flatten(1).norm(dim=1)
    else:
        with torch.no_grad():
            scores["energy"] = -energy(x)
    classes = energy.capability(Classes)
    if classes is not None:
        with torch.no_grad():
            # In float32 a sure classifier rounds to exactly 1 and the ranking is lost.
            scores["confidence"] = (-classes.class_energies(x)).double().softmax(1).amax(1)
    return {score: values.detach().to("cpu", torch.float64) for score, values in scores.items()}
