"""The page that shows what a run found."""

from pathlib import Path

from energeia.report import hidden as hidden_plots
from energeia.report import likelihood as likelihood_plots
from energeia.report import pictures, plots
from energeia.report.findings import Answered, Findings
from energeia.report.html import Section, write_report
from energeia.report.readings import readings


def render(path: str | Path, findings: Findings) -> Path:
    """Write the report of a run to an HTML file and return its path.

    Args:
        path: the file to write.
        findings: what the run found.

    >>> import tempfile
    >>> from energeia.report.findings import Findings
    >>> from energeia.report.page import render
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     render(f"{folder}/report.html", Findings("An empty run")).name
    'report.html'
    """
    return write_report(
        path,
        title=findings.title,
        introduction=findings.introduction,
        summary=findings.summary,
        sections=build_sections(findings),
    )


def build_sections(findings: Findings) -> list[Section]:
    """The sections of the page, in reading order; what was not recorded becomes one line where it would stand."""
    if findings.answers is not None:
        sections = [
            _answers(findings, findings.answers),
            _training(findings),
            _rewinds(findings),
            _comparisons(findings),
            _settings(findings),
            _machine(findings),
        ]
        return [section for section in sections if section is not None]
    sections = [
        _samples(findings),
        _film(findings),
        _likelihood(findings),
        _training(findings),
        _rewinds(findings),
        _hidden(findings),
        _energies(findings),
        _chains(findings),
        _classification(findings),
        _ood(findings),
        _comparisons(findings),
        _settings(findings),
        _machine(findings),
    ]
    return [section for section in sections if section is not None]


def _samples(findings: Findings) -> Section:
    title = "Real data and samples"
    if findings.samples is None:
        return Section(title, note="No samples were drawn in this run.")
    if findings.real is None:
        figure = pictures.image_grid(findings.samples, title="samples")
        text = "Points that the model's chains ended at. No real data was given to set beside them."
        return Section(title, text, [(figure, "Samples of the model.")])
    text = (
        "Left, data the model should imitate; right, what its chains produced. Look for the same variety and the "
        "same sharpness. The same sample over and over means the model has lost modes; specks or blurs mean the "
        "chains have not arrived or the model gives weight to what is no data."
    )
    figure = pictures.real_and_samples(findings.real, findings.samples)
    return Section(title, text, [(figure, "Real data on the left, samples of the model on the right.")])


def _answers(findings: Findings, found: Answered) -> Section:
    site, row = findings.answer_names
    text = (
        f"Of held-out data {found.site_error:.2%} of the {site}s and {found.row_error:.2%} of the {row}s are read "
        f"wrongly by the answer of least energy; of another {found.second_right:.2%} of the {row}s the second answer "
        "is right. The gap between the energies of the two says how sure the choice is"
    )
    text += (
        "."
        if found.gap_auroc is None
        else f": it is larger where the answer is right than where it is wrong in {found.gap_auroc:.1%} of such pairs."
    )
    figures = []
    if findings.readings:
        text += (
            f"\n\nIn the first figure stand {row}s that were read wrongly, then some read rightly, of both those with "
            "the smallest gaps first; below each the first reading, wrong labels in orange, and the second, what it "
            "changes in blue."
        )
        figures.append((readings(findings.readings), f"Some {row}s with the first and the second reading and the gap."))
    if found.confusion is not None:
        text += (
            f"\n\nIn the confusion matrix everything off the diagonal is a mistake; look for {site}s that are taken "
            "for one another."
        )
        figure = plots.confusion(found.confusion, names=findings.class_names)
        figures.append((figure, f"Confusion matrix: true {site} by the one that was read."))
    if found.reliability is not None:
        text += (
            f"\n\nThe last figure asks whether p(y | x) comes true, {site} by {site}: of those read with 80% "
            f"confidence, 80% should be right. The expected calibration error is {found.reliability.ece:.3f}. Losses "
            "that only widen margins do not train probabilities, and need not pass."
        )
        figures.append((plots.reliability_diagram(found.reliability), "Accuracy against confidence."))
    return Section("Answers", text, figures)


def _film(findings: Findings) -> Section:
    title = "Sampling, step by step"
    if findings.frames is None:
        return Section(title, note="No sampling film was recorded in this run.")
    text = (
        "Chains on their way from start to sample; for images each row is one chain and time runs to the right. A"
        " chain should leave its start and then keep changing among likely points. A row that freezes early is "
        "stuck; one that looks good and then falls apart shows energies that are too low somewhere off the data."
    )
    figure = pictures.film(findings.frames, steps=findings.frame_steps)
    return Section(title, text, [(figure, "States of several chains at increasing step numbers.")])


def _likelihood(findings: Findings) -> Section | None:
    records = findings.records or []
    curve = any(plots.VALIDATION + plots.LIKELIHOOD_KEYS[0] in record for record in records)
    if not findings.likelihood and not curve:
        return None
    text = (
        "The logarithm of the probability, or density, that the model gives to held-out rows, in nats a row: the higher"
        " the better. Where log Z is a sum over all states it is exact. Else log Z is estimated from below by "
        "annealing from a base of independent units to the model, and from above by annealing back from the model's "
        "own chains; the interval runs from one to the other, with the bootstrap interval of each. It can be "
        "trusted as far as those chains have mixed: a wide one says that the model is hard to sample."
    )
    figures = []
    if curve:
        figure = likelihood_plots.likelihood_curve(records, steps_per_epoch=findings.steps_per_epoch)
        figures.append((figure, "Log-likelihood of validation rows over training, with its interval."))
    if findings.bracket:
        figure = likelihood_plots.bracket_curve(findings.bracket)
        figures.append((figure, "Log Z from below and from above as the number of levels grows."))
    table = [["", ""], *([name, value] for name, value in (findings.likelihood or {}).items())]
    return Section("Likelihood", text, figures, table if findings.likelihood else None)


def _hidden(findings: Findings) -> Section | None:
    found = findings.hidden
    if found is None:
        return None
    text = (
        "First the filters: what each hidden unit adds to the visible ones, largest first; grey is nothing, white makes"
        " a one likelier. Filters that look like noise have not been used. Then, for rows the model was not trained "
        "on, the reconstruction: the mean of the visible units given the means of the hidden ones. It shows what "
        "the hidden units keep of a row and is no measure of the model, as one that copies its input does it "
        "perfectly. Last, how active the hidden units are: units at zero or one throughout carry nothing."
    )
    figures = [(hidden_plots.filters(found.filters), "Filters of the hidden units, largest norm first.")]
    if findings.real is not None and pictures.as_pictures(findings.real) is not None:
        pair = pictures.real_and_samples(
            findings.real, found.reconstructions, rows=4, names=("data", "reconstructions")
        )
        figures.append((pair, "Held-out data on the left, their reconstructions on the right."))
    figures.append((hidden_plots.activity(found.activity), "Histogram of hidden activity, and the mean of each unit."))
    records = findings.records or []
    keys = [key for key in plots.HIDDEN_KEYS if any(plots.VALIDATION + key in record for record in records)]
    if keys:
        figures.append((plots.curves(records, keys=keys), "Monitors of the hidden units on validation rows."))
    return Section("Hidden units", text, figures)


def _training(findings: Findings) -> Section:
    title = "Training"
    keys = plots.loss_keys(findings.records or [])
    if findings.records is None or not keys:
        return Section(title, note="No training curves were recorded in this run.")
    text = (
        "Each part of the loss over training, and over held-out data where it was measured. The loss of an "
        "energy-based model is often a difference of energies and need not fall: steady is good, growing swings "
        "are not. Held-out curves that turn away from the training ones show overfitting."
    )
    figure = plots.curves(findings.records, keys=keys)
    return Section(title, text, [(figure, f"Curves over training of {', '.join(map(plots.words, keys))}.")])


def _rewinds(findings: Findings) -> Section | None:
    if findings.records is None:
        return None
    title = "Rewinds"
    rewinds = plots.rewinds_in(findings.records)
    if not rewinds:
        return Section(title, note="None: training never had to go back to an earlier checkpoint.")
    text = (
        "Training went wrong at these steps, was set back to an earlier checkpoint and went on with a smaller "
        "learning rate. One or two are no cause for worry; many say that the step sizes or the learning rate are "
        "too large."
    )
    names = ("step", "cause", "to_step", "learning_rate")
    rows = [[_cell(record.get(name)) for name in names] for record in rewinds]
    return Section(title, text, table=[["at step", "cause", "back to", "learning rate"], *rows])


def _energies(findings: Findings) -> Section:
    title = "Energies"
    if not findings.energies:
        return Section(title, note="No energies were recorded in this run.")
    text = (
        "The energy the model gives to each kind of point; low means likely. Data and samples should lie on one "
        "another, noise far to the right. Samples well to the left of the data mean that chains find points the "
        "model likes better than data; noise beside the data means it has not learnt where the data is."
    )
    figure = plots.energy_histograms(findings.energies)
    return Section(title, text, [(figure, f"Histograms of the energies of {', '.join(findings.energies)}.")])


def _chains(findings: Findings) -> Section:
    title = "The chains"
    recorded = any(key in record for record in findings.records or [] for key in plots.CHAIN_KEYS)
    if not recorded and not findings.chains:
        return Section(title, note="No acceptance or step statistics were recorded in this run.")
    text = (
        "How the sampler moved while the model was trained. Acceptance near 0 means steps too long, near 1 steps "
        "that could be longer (samplers that never reject show 1). Displacement is the root mean square change in"
        " a step. The gap is the energy of data less that of the chains' points: it should stay near zero, and "
        "one that runs away is the usual first sign of trouble. So is a gradient norm that grows without end."
    )
    figures = []
    if recorded and findings.records is not None:
        figures.append((plots.chain_statistics(findings.records), "Statistics of the chains over training."))
    table = [["", ""], *([name, value] for name, value in findings.chains.items())] if findings.chains else None
    return Section(title, text, figures, table)


def _classification(findings: Findings) -> Section | None:
    found = findings.classification
    if found is None:
        return None
    text = (
        f"On held-out data {found.accuracy:.2%} of the points get the right class, with a cross entropy of "
        f"{found.cross_entropy:.4g} nats. In the first figure everything off the diagonal is a mistake; look for "
        "classes that are taken for one another.\n\n"
        "The second asks whether the classifier knows what it does not know: of the points it calls with 80% "
        f"confidence, 80% should be right. The expected calibration error, {found.reliability.ece:.3f}, is the "
        "mean distance from that."
    )
    figures = [
        (plots.confusion(found.confusion, names=findings.class_names), "Confusion matrix: true class by called class."),
        (plots.reliability_diagram(found.reliability), "Accuracy against confidence, and the points in each bin."),
    ]
    return Section("Classification", text, figures)


def _ood(findings: Findings) -> Section:
    title = "Foreign data"
    if not findings.ood:
        return Section(title, note="No foreign data was tried in this run.")
    text = (
        "Can the model tell data it was never meant for from its own? AUROC is the chance that an own point "
        "scores higher than a foreign one: 1 is perfect, 0.5 is blind, below 0.5 the foreign set looks more "
        "likely than the model's own data. Noise is easy; the real sets count. AUPR is the average precision "
        "with own data as the positives. FPR is the share of foreign points that pass where 95% of own points "
        "do: lower is better."
    )
    header = ["foreign set", "score", "AUROC", "AUPR", "FPR"]
    rows = [
        [name, plots.words(score), f"{found.auroc:.3f}", f"{found.aupr:.3f}", f"{found.fpr_at_95_tpr:.1%}"]
        for name, scores in findings.ood.items()
        for score, found in scores.items()
    ]
    first = next(iter(findings.ood.values()))
    by_energy = {name: scores["energy"].score_out for name, scores in findings.ood.items() if "energy" in scores}
    figures = []
    if "energy" in first:
        figure = plots.ood_scores(first["energy"].score_in, by_energy)
        figures.append((figure, f"Scores of own data and of {', '.join(by_energy)}."))
    return Section(title, text, figures, [header, *rows])


def _comparisons(findings: Findings) -> Section | None:
    if not findings.comparisons:
        return None
    return Section("Comparisons", "This run beside others.", findings.comparisons)


def _settings(findings: Findings) -> Section:
    title = "Settings"
    if findings.settings is None:
        return Section(title, note="The settings of this run were not recorded.")
    text = "Every setting of the run, defaults included. Saved to a file, it starts the same run again."
    return Section(title, text, code=("Show all settings", findings.settings))


def _machine(findings: Findings) -> Section:
    title = "Machine and versions"
    rows = [[name, value] for part in (findings.machine, findings.versions) for name, value in (part or {}).items()]
    if not rows:
        return Section(title, note="The machine and the versions were not recorded.")
    return Section(title, table=[["", ""], *rows])


def _cell(value: object) -> str:
    if value is None:
        return "not recorded"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
