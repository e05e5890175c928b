"""How often the answers of an energy are right, and whether it knows which."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.answers import Search, Solvable
from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.space import Binary, Categorical
from energeia.energies.pair import answering
from energeia.stats.calibration import Reliability, check_labels, reliability
from energeia.tasks.ood import detect
from energeia.tasks.predict import Prediction, predict


class Assessment(NamedTuple):
    """What `assess` finds; tensors are on the CPU.

    prediction: the two best answers to every row, as `predict` gives them.
    num_sites: sites that are there, in all rows.
    site_error: share of sites whose label is wrong in the best answer: of words, the letter error.
    row_error: share of rows whose best answer is wrong anywhere: of words, the word error.
    second_right: share of rows whose second answer is the right one.
    gap_auroc: chance that the gap of a right answer is larger than that of a wrong one, 0.5 where it says nothing; None
        where all are right or all wrong, or a gap is not known.
    confusion: sites of true label i that were called j, int64 `[K, K]`; None for bits.
    reliability: the largest marginal p(y_i | x) of each site against how often it is right; None for bits, and where
        marginals are not exact.
    """

    prediction: Prediction
    num_sites: int
    site_error: float
    row_error: float
    second_right: float
    gap_auroc: float | None
    confusion: Tensor | None
    reliability: Reliability | None


def assess(
    energy: Energy,
    x: Tensor,
    y: Tensor,
    method: Search | None = None,
    *,
    batch_size: int = 256,
    generator: torch.Generator | int = 0,
) -> Assessment:
    """Predict the answers to x and compare them with y.

    Args:
        energy: with `Answering` or `Classes`, its answers labels or bits.
        x: `[N, *event]`.
        y: right answers `[N, *sites]`; where a site is not there any number will do.
        method, batch_size, generator: as of `predict`.

    Returns:
        `Assessment`.

    Raises:
        InputError: y does not fit, or the answers are real numbers, which are never equal.

    The energy is used in the mode it is in: call `.eval()` first. Cost: that of `predict` with the two best answers,
    and the marginals where they are exact.

    >>> import torch, energeia as en
    >>> network = torch.nn.Linear(1, 2)
    >>> _ = network.weight.data.copy_(torch.tensor([[-1.0], [1.0]])), network.bias.data.zero_()
    >>> chain = en.LinearChain(network, en.Real((3, 1)), 2, per_site=True, padding=9.0)
    >>> x = torch.tensor([[-1.0, 2.0, 3.0], [1.0, 1.0, 9.0]]).unsqueeze(2)
    >>> found = en.assess(chain, x, torch.tensor([[0, 1, 0], [1, 1, -1]]))
    >>> found.site_error, found.row_error
    (0.2, 0.5)
    """
    found = answering(energy, "assess")
    if not isinstance(found.answers, Categorical | Binary):
        raise InputError(
            f"assess: counts wrong labels and bits, but the answers lie on {found.answers}; compare those of "
            "en.predict with y by a distance"
        )
    device = dtype_and_device(energy)[1]
    with torch.no_grad():
        exact = found.within(x[:1].to(device)).capability(Solvable) is not None
        present = found.present(x.to(device))
    marginals = exact and isinstance(found.answers, Categorical)
    told = predict(energy, x, method, num_best=2, marginals=marginals, batch_size=batch_size, generator=generator)
    prediction = told._replace(
        **{name: part.cpu() for name, part in told._asdict().items() if isinstance(part, Tensor)}
    )
    there = torch.ones_like(prediction.answers, dtype=torch.bool) if present is None else present.cpu()
    right = y.cpu()
    if right.shape != there.shape:
        raise InputError(f"assess: y has shape {tuple(right.shape)}, expected an answer for each site {[*there.shape]}")
    if isinstance(found.answers, Categorical):
        num_labels = found.answers.num_categories
        check_labels("assess", right[there], num_points=int(there.sum()), num_classes=num_labels)
    wrong = ((prediction.best != right.unsqueeze(1)) & there.unsqueeze(1)).unsqueeze(-1)
    wrong_rows = wrong.flatten(2).any(2) | prediction.best_energies.isinf()
    confusion, calibration = None, None
    if isinstance(found.answers, Categorical):
        size = found.answers.num_categories
        pairs = right[there] * size + prediction.answers[there]
        confusion = torch.bincount(pairs, minlength=size**2).view(size, size)
    if prediction.marginals is not None:
        chances = prediction.marginals[there].double()
        calibration = reliability(chances / chances.sum(1, keepdim=True), right[there])
    return Assessment(
        prediction,
        int(there.sum()),
        float(wrong[:, 0, ..., 0][there].double().mean()),
        float(wrong_rows[:, 0].double().mean()),
        float((~wrong_rows[:, 1]).double().mean()),
        _auroc(prediction.gap, wrong_rows[:, 0]),
        confusion,
        calibration,
    )


def _auroc(gap: Tensor | None, wrong: Tensor) -> float | None:
    if gap is None or bool(wrong.all()) or not bool(wrong.any()) or not bool(gap.isfinite().all()):
        return None
    return detect(gap[~wrong], gap[wrong]).auroc
