"""A run's examination as pages and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from energeia import examination, run, settings
from energeia.core.record import Draws
from energeia.report import chains as chain_plots
from energeia.report import likelihood as likelihood_plots
from energeia.report import page, pictures
from energeia.report.readings import Reading, as_sites
from energeia.report.style import evenly
from energeia.train.log import Record, read_metrics


def headline(numbers: dict[str, Any]) -> dict[str, str]:
    """The figures to show first, written out, from `Examination.numbers`."""
    told: dict[str, str] = {}
    if numbers["answers"] is not None:
        told |= _about_answers(numbers)
    if numbers["error"] is not None:
        told[f"{numbers['split']} error"] = f"{numbers['error']:.2%}"
        told["expected calibration error"] = f"{numbers['ece']:.3f}"
    if numbers["log_likelihood"] is not None:
        told[f"{numbers['split']} log p, nats a row"] = written_likelihood(numbers["log_likelihood"])
        told |= _about_log_z(numbers["log_likelihood"])
    for name in ("loss", "cross_entropy"):
        if name in numbers["losses"]:
            told[f"{numbers['split']} {name.replace('_', ' ')}"] = f"{numbers['losses'][name]:.4g}"
    samples = numbers["samples"]
    if samples is not None:
        told["samples: MMD² to real (real to real)"] = f"{samples['mmd2']:.4f} ({samples['mmd2_real']:.4f})"
    if samples is not None and samples["classifier_accuracy"] is not None:
        told["samples: told from real (real from real)"] = (
            f"{samples['classifier_accuracy']:.1%} ({samples['classifier_accuracy_real']:.1%})"
        )
    for name, scores in numbers["ood"].items():
        told[f"AUROC against {name}, by energy"] = f"{scores['energy']:.3f}"
    if numbers["seconds"]["training"] is not None:
        told["training time"] = f"{numbers['seconds']['training']:.0f} s"
    return told


def written_likelihood(found: dict[str, Any]) -> str:
    """The mean, with its interval unless it is exact."""
    interval = "" if found["exact"] else f" ({found['low']:.2f} to {found['high']:.2f})"
    return f"{found['mean']:.2f}{interval}"


def _about_answers(numbers: dict[str, Any]) -> dict[str, str]:
    found, split = numbers["answers"], numbers["split"]
    site, row = found["names"]
    told = {
        f"{split} {site} error": f"{found['site_error']:.2%}",
        f"{split} {row} error": f"{found['row_error']:.2%}",
        f"{row}s whose second answer is right": f"{found['second_right']:.2%}",
    }
    if found["gap_auroc"] is not None:
        told["gap larger if right than if wrong"] = f"{found['gap_auroc']:.1%}"
    if numbers["ece"] is not None:
        told[f"expected calibration error, by {site}"] = f"{numbers['ece']:.3f}"
    if not found["exact"]:
        told["answers by"] = f"{found['method']}, approximate"
    return told


def _likelihood(numbers: dict[str, Any]) -> dict[str, str] | None:
    found = numbers["log_likelihood"]
    if found is None:
        return None
    return {
        f"log p of {numbers['rows']} {numbers['split']} rows, mean": written_likelihood(found),
        **_about_log_z(found),
    }


def _about_log_z(found: dict[str, Any]) -> dict[str, str]:
    """log Z, bits per dimension where they are known, and how log Z was got."""
    log_z = found["log_z"]
    interval = "" if found["exact"] else f" ({log_z['low']:.2f} to {log_z['high']:.2f})"
    told = {"log Z": f"{log_z['value']:.2f}{interval}", "log Z by": found["method"]}
    bits = found["bits_per_dimension"]
    if bits is not None:
        interval = "" if found["exact"] else f" ({bits['low']:.4f} to {bits['high']:.4f})"
        width = found["bin_width"]
        about = "" if width is None else f", x dequantised over {width:g}"
        told[f"bits per dimension{about}"] = f"{bits['value']:.4f}{interval}"
    return told


def rounds(numbers: dict[str, Any]) -> list[dict[str, float]] | None:
    """The rounds of the bracket, if there are some to compare."""
    found = numbers["log_likelihood"]
    return found["history"] if found is not None and len(found["history"]) > 1 else None


def save_bracket(numbers: dict[str, Any], path: Path) -> Path:
    """A picture of log Z from both sides as the number of levels grew."""
    likelihood_plots.bracket_curve(numbers["log_likelihood"]["history"]).savefig(path, dpi=150)
    return path


def save_chains(draws: Draws, path: Path) -> list[Path]:
    """Traces, autocorrelation and energies of the chains, in PNG files named after the path."""
    figures = {
        "trace": chain_plots.trace(draws),
        "autocorrelation": chain_plots.autocorrelation(draws),
        "energies": chain_plots.energies(draws),
    }
    paths = {name: path.with_name(f"{path.stem}-{name}.png") for name in figures}
    for name, figure in figures.items():
        figure.savefig(paths[name], dpi=150)
    return list(paths.values())


def write(loaded: run.Run, found: examination.Examination) -> Path:
    """Write RUN/report.html and RUN/evaluation.json; returns the path of the report."""
    run.write_json(loaded.folder / run.EVALUATION, found.numbers)
    if found.answers is not None:
        return _write_answers(loaded, found, found.answers)
    frames = run.draw(loaded, num=6, num_frames=8)
    interval = loaded.built.sampling.num_steps // len(frames.kept)
    chains = {
        "sampler": str(loaded.built.sampling.sampler),
        "steps a sample": str(loaded.built.sampling.num_steps),
        "mean acceptance": f"{float(frames.info.acceptance.mean()):.3f}",
        "mean displacement a step": f"{float(frames.info.displacement.mean()):.4g}",
        "divergent steps": str(int(frames.info.divergent.sum())),
    }
    space = loaded.energy.space
    findings = page.Findings(
        **_common(loaded, found, f"on {space}"),
        real=found.real,
        samples=found.samples,
        frames=torch.cat([run.start_points(loaded, num=6).unsqueeze(0), frames.kept]).cpu(),
        frame_steps=[interval * k for k in range(len(frames.kept) + 1)],
        energies=found.energies,
        classification=found.classification,
        likelihood=_likelihood(found.numbers),
        bracket=rounds(found.numbers),
        steps_per_epoch=-(-len(loaded.built.source.splits().train.x) // loaded.built.fitting["batch_size"]),
        hidden=found.hidden,
        ood=found.detections,
        chains=chains,
    )
    return page.render(loaded.folder / run.REPORT, findings)


def _common(loaded: run.Run, found: examination.Examination, where: str) -> dict[str, Any]:
    """What every page has."""
    versions = run.versions()
    return {
        "title": f"{loaded.folder.name}",
        "introduction": (
            f"{type(loaded.energy).__name__} {where}, trained for {loaded.step} steps and judged on "
            f"{found.numbers['rows']} {found.numbers['split']} rows that it was not trained on."
        ),
        "summary": headline(found.numbers),
        "records": still_valid(read_metrics(loaded.folder)),
        "class_names": loaded.built.source.class_names,
        "machine": {name: versions.pop(name) for name in ("machine", "processor")},
        "versions": versions,
        "settings": settings.as_yaml(loaded.config),
    }


def _write_answers(loaded: run.Run, found: examination.Examination, answers: examination.Answers) -> Path:
    """The page of an energy of inputs and answers."""
    findings = page.Findings(
        **_common(loaded, found, f"of x on {loaded.energy.space}"),
        answers=answers.assessment,
        readings=some_readings(found.real, answers, loaded.built.source.class_names),
        answer_names=tuple(found.numbers["answers"]["names"]),
    )
    return page.render(loaded.folder / run.REPORT, findings)


def some_readings(
    x: Tensor, answers: examination.Answers, names: Sequence[str] | None, *, num: int = 4
) -> list[Reading] | None:
    """Rows to show: wrong ones, then right ones, of each half with the smallest gaps and half spread over the rest.

    Args:
        x: rows `[N, T, *site]`.
        answers: to them.
        names: of the labels; None for numbers.
        num: rows of each kind.

    Returns:
        None where sites are no pictures, or a second answer is not known.
    """
    sites, found = as_sites(x), answers.assessment.prediction
    if sites is None or found.gap is None or answers.right.dim() != 2 or not bool(found.gap.isfinite().all()):
        return None
    wrong = ((found.answers != answers.right) & (found.answers >= 0)).any(1)
    order = found.gap.argsort()
    chosen: list[int] = []
    for kind in (order[wrong[order]], order[~wrong[order]]):
        rest = kind[num // 2 :]
        chosen += kind[: num // 2].tolist() + [int(rest[place]) for place in evenly(len(rest), num - num // 2)]

    def written(labels: Tensor) -> list[str]:
        return [str(label) if names is None else str(names[label]) for label in labels.tolist()]

    shown: list[Reading] = []
    for row in chosen:
        there = found.answers[row] >= 0
        first, second = (written(best[there]) for best in found.best[row, :2])
        right = written(answers.right[row, there])
        shown.append(Reading(sites[row, there], right, first, second, float(found.gap[row])))
    return shown or None


def save_samples(loaded: run.Run, x: Tensor, path: Path) -> Path:
    """Write a picture of samples and return its path."""
    pictures.image_grid(x).savefig(path)
    return path


def still_valid(records: list[Record]) -> list[Record]:
    """The records without those that a later rewind took back; what happened stays."""
    kept: list[Record] = []
    for record in records:
        if record.get("event") == "rewind":
            kept = [old for old in kept if old["step"] <= record["to_step"] or "event" in old]
        kept.append(record)
    return kept
