"""What a finished run is worth: its numbers, on held-out rows."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from energeia import settings
from energeia.core.answers import Answering
from energeia.core.energy import Bipartite, Classes, Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.positive import Positive
from energeia.core.random import seed_of
from energeia.core.record import Batch
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.data.augment import Dequantize
from energeia.partition.bracket import Effort
from energeia.partition.choose import is_exact
from energeia.partition.likelihood import LogLikelihood, bits_per_dimension, log_likelihood
from energeia.run import Run, draw
from energeia.stats.samples import classifier_test, mmd
from energeia.tasks.assess import Assessment, assess
from energeia.tasks.classify import Classification, classify
from energeia.tasks.ood import Detection, ood
from energeia.tasks.spell import are_letters
from energeia.train.log import read_metrics
from energeia.train.validate import split_batches, validate_objective

_LEAST_ROWS = 10


class HiddenLayer(NamedTuple):
    """What the held-out rows do to hidden units, and they to the rows.

    activity: E[h|v] `[N, hidden]`. reconstructions: E[v | E[h|v]], `[N, *event]`.
    filters: what each hidden unit adds to the natural parameters of v, `[hidden, *event]`: the weights of an RBM.
    """

    activity: Tensor
    reconstructions: Tensor
    filters: Tensor


class Answers(NamedTuple):
    """What the held-out rows of an energy of inputs and answers show.

    assessment: the two best answers to each row, and how often they are right. right: the answers of the data.
    """

    assessment: Assessment
    right: Tensor


class Examination(NamedTuple):
    """What `examine` finds: plain numbers for JSON, and the tensors for pictures."""

    numbers: dict[str, Any]
    classification: Classification | None
    detections: dict[str, dict[str, Detection]]
    real: Tensor
    samples: Tensor | None
    energies: dict[str, Tensor]
    hidden: HiddenLayer | None
    answers: Answers | None = None


def examine(
    run: Run,
    *,
    split: str | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    log_z: Effort | None = None,
    bin_width: float | None = None,
) -> Examination:
    """Everything that can be measured of a run on held-out rows; writes nothing.

    Args:
        run: a run loaded with its data.
        split: "test" or "validation"; None is test if there is one, else validation.
        num_samples: samples to compare with the rows; None as many as there are rows, 1000 at most.
        seed: of everything random here.
        log_z: effort for log Z of any energy (`en.log_z`); None asks for log p only where it is cheap and sure.
        bin_width: spacing of the levels of x, over which rows are spread for log p (dequantisation): bits per
            dimension on continuous spaces.

    numbers holds accuracy, error and ece (None without classes), losses of the
    objective, ood (AUROC by foreign set and score), samples (two-sample distances to
    the rows, with those of other real rows beside them), log_likelihood (its mean in nats a row, the
    interval of that, how log Z was got, and bits per dimension; None where it was not asked for and neither
    a sum nor block Gibbs chains give it), hidden (mean activity and reconstruction error, None without such units),
    answers (errors of an energy with `Answering`; None for others), seconds and settings. An energy with `Answering` is
    no model of x: it has neither samples nor ood nor log_likelihood.
    """
    started = time.perf_counter()
    splits = run.built.source.splits()
    held_out = {name: part for name, part in (("test", splits.test), ("validation", splits.validation)) if part}
    split = split or next(iter(held_out), "test")
    rows = held_out.get(split)
    if rows is None:
        has = " and ".join(held_out) or "neither test nor validation rows: set --data.test_fraction"
        raise InputError(f"there is no {split!r} part in this data; it has {has}")
    energy = run.energy
    generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(seed_of(seed, "evaluate"))
    losses = validate_objective(
        energy, run.built.objective, split_batches(rows, run.built.fitting["batch_size"]), generator
    )
    about = {"run": str(run.folder), "step": run.step, "split": split, "rows": len(rows.x)}
    if energy.capability(Answering) is not None:
        if log_z is not None or bin_width is not None:
            raise InputError(f"--log-z and --bin-width are of models of x, and {type(energy).__name__} is none")
        return _examine_answers(run, rows, losses, about, started)
    found = None
    if rows.y is not None and energy.capability(Classes) is not None:
        found = classify(energy, rows.x, rows.y)
    noise = _noise(energy, rows.x, seed)
    detections = ood(energy, rows.x, {"uniform noise": noise, **splits.foreign})
    num = num_samples or min(len(rows.x), 1000)
    samples = draw(run, num=num, seed=seed).x
    drawn = time.perf_counter() - started
    with torch.no_grad():
        energies = {"data": energy(rows.x), "samples": energy(samples), "uniform noise": energy(noise)}
    likelihood = _likelihood(energy, rows.x, seed, log_z, bin_width)
    hidden = _hidden(energy, rows.x)
    numbers: dict[str, Any] = {
        **about,
        "accuracy": None if found is None else found.accuracy,
        "error": None if found is None else found.error,
        "ece": None if found is None else found.ece,
        "losses": losses,
        "ood": {name: {score: d.auroc for score, d in scores.items()} for name, scores in detections.items()},
        "log_likelihood": likelihood,
        "hidden": None
        if hidden is None
        else {
            "units": hidden.activity.shape[1],
            "activity": float(hidden.activity.mean()),
            "reconstruction_error": float((rows.x - hidden.reconstructions).flatten(1).square().sum(1).mean()),
        },
        "samples": _distances(rows.x, samples, splits.train.x, seed),
        "answers": None,
        "seconds": {"training": _training_seconds(run.folder), "evaluation": round(drawn, 3)},
        "settings": settings.plain(run.config),
    }
    return Examination(numbers, found, detections, rows.x, samples, energies, hidden)


def _examine_answers(
    run: Run, rows: Batch, losses: dict[str, float], about: dict[str, Any], started: float
) -> Examination:
    """What can be measured of an energy of inputs and answers."""
    if rows.y is None:
        raise InputError("the held-out rows have no answers y to compare with")
    found = assess(run.energy, rows.x, rows.y)
    gap = found.prediction.gap
    numbers: dict[str, Any] = {
        **about,
        "accuracy": None,
        "error": None,
        "ece": None if found.reliability is None else found.reliability.ece,
        "losses": losses,
        "ood": {},
        "log_likelihood": None,
        "hidden": None,
        "samples": None,
        "answers": {
            "names": ["letter", "word"] if are_letters(run.built.source.class_names) else ["label", "row"],
            "sites": found.num_sites,
            "site_error": found.site_error,
            "row_error": found.row_error,
            "second_right": found.second_right,
            "gap_auroc": found.gap_auroc,
            "mean_gap": None if gap is None else float(gap.mean()),
            "exact": found.prediction.exact,
            "method": found.prediction.method,
        },
        "seconds": {
            "training": _training_seconds(run.folder),
            "evaluation": round(time.perf_counter() - started, 3),
        },
        "settings": settings.plain(run.config),
    }
    return Examination(numbers, None, {}, rows.x, None, {}, None, Answers(found, rows.y))


def _likelihood(
    energy: Energy, x: Tensor, seed: int, effort: Effort | None, bin_width: float | None
) -> dict[str, Any] | None:
    """log p of rows as plain numbers; unless asked for, None where annealing needs chains that are not sure to move."""
    if effort is None:
        if not is_exact(energy) and energy.capability(Bipartite) is None:
            return None
        effort = {}
    effort = {"generator": seed_of(seed, "likelihood"), **effort}
    continuous = isinstance(energy.space, Real | Box)
    if bin_width is not None and continuous:
        x = _dequantised(energy.space, x, bin_width, seed)
    found: LogLikelihood = log_likelihood(energy, x, **effort)
    bits = None
    if bin_width is not None or isinstance(energy.space, Binary | Spin | Categorical):
        bits = bits_per_dimension(found, energy.space, bin_width=bin_width)._asdict()
    log_z = found.log_z
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "exact": log_z.kind == "exact",
        "method": log_z.method,
        "why": log_z.details["why"],
        "log_z": {name: float(getattr(log_z, name)) for name in ("value", "low", "high")},
        "contradicted": log_z.details.get("contradicted", False),
        "history": log_z.details.get("history", []),
        "bits_per_dimension": bits,
        "bin_width": bin_width if continuous else None,
    }


def _dequantised(space: Space, x: Tensor, bin_width: float, seed: int) -> Tensor:
    """Rows spread over their bins: above each level where that stays in the space, else about it."""
    centred = not isinstance(space, Box)
    generator = torch.Generator().manual_seed(seed_of(seed, "dequantisation"))
    spread = Dequantize(bin_width, centred=centred)(x, generator)
    try:
        space.check(spread, "rows with noise")
    except InputError as error:
        raise InputError(
            f"bin_width {bin_width:g}: levels up to {float(x.max()):g} and noise above them leave {space}; scale the "
            "data so that the highest level lies one bin below the end, as l / 256 for bytes on [0, 1]"
        ) from error
    return spread


def _hidden(energy: Energy, x: Tensor) -> HiddenLayer | None:
    bipartite = energy.capability(Bipartite)
    if bipartite is None:
        return None
    with torch.no_grad():
        natural = bipartite.hidden_parameters(x)
        mean = bipartite.hidden.mean(natural)
        again = bipartite.visible.mean(bipartite.visible_parameters(mean))
        # Linear in h, so that unit vectors give the weights of any machine of two layers.
        units = torch.eye(mean[0].numel(), dtype=x.dtype, device=x.device).view(-1, *mean.shape[1:])
        filters = bipartite.visible_parameters(units) - bipartite.visible_parameters(torch.zeros_like(units[:1]))
    return HiddenLayer(mean.flatten(1), again, filters)


def _distances(held_out: Tensor, samples: Tensor, train: Tensor, seed: int) -> dict[str, float | int | None]:
    """Two-sample distances of the samples to the held-out rows, and of other real rows to them.

    None of the classifier's accuracy where there are too few rows for its folds.
    """
    num = min(len(held_out), len(samples), len(train))
    generator = torch.Generator().manual_seed(seed_of(seed, "distances"))
    # Files are often sorted by class, so the first rows are not like the others.
    real, drawn, other = (x[torch.randperm(len(x), generator=generator)[:num]] for x in (held_out, samples, train))
    enough = num >= _LEAST_ROWS
    return {
        "rows": num,
        "mmd2": _mmd(real, drawn),
        "mmd2_real": _mmd(real, other),
        "classifier_accuracy": classifier_test(real, drawn) if enough else None,
        "classifier_accuracy_real": classifier_test(real, other) if enough else None,
    }


def _mmd(real: Tensor, other: Tensor) -> float | None:
    """None where it says nothing: fewer than two rows, or more than half of them equal."""
    if len(real) < 2 or not bool(torch.pdist(real.flatten(1)).median() > 0):
        return None
    return float(mmd(real, other))


def _noise(energy: Energy, x: Tensor, seed: int) -> Tensor:
    """Uniform noise over the box, or over the range of the data where the space has no bounds; else its start points.

    Those of bits, spins and categories are uniform over all states.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "uniform noise"))
    uniform = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    space = energy.space
    if not isinstance(space, Box | Real | Positive):
        return space.start(len(x), generator, dtype=x.dtype)
    low, high = (space.low, space.high) if isinstance(space, Box) else (float(x.min()), float(x.max()))
    return low + (high - low) * uniform


def _training_seconds(folder: Path) -> float | None:
    seconds = [record["seconds"] for record in read_metrics(folder) if "seconds" in record]
    return seconds[-1] if seconds else None
