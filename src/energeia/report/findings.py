"""What a page is made of: what a run found, as the report sees it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from matplotlib.figure import Figure
from torch import Tensor

from energeia.report.plots import Record
from energeia.report.readings import Reading
from energeia.stats.calibration import Reliability


class Classified(Protocol):
    """What the page needs of a classification; `energeia.tasks.classify.Classification` has it."""

    @property
    def accuracy(self) -> float:
        """Share of points right."""
        ...

    @property
    def cross_entropy(self) -> float:
        """Mean of -log p(y | x), in nats."""
        ...

    @property
    def confusion(self) -> Tensor:
        """Counts `[K, K]`, rows true."""
        ...

    @property
    def reliability(self) -> Reliability:
        """Confidence against accuracy."""
        ...


class Detected(Protocol):
    """What the page needs of a detection of foreign data; `energeia.tasks.ood.Detection` has it."""

    @property
    def auroc(self) -> float:
        """P(own score > foreign score)."""
        ...

    @property
    def aupr(self) -> float:
        """Average precision, own data positive."""
        ...

    @property
    def fpr_at_95_tpr(self) -> float:
        """Foreign share that passes where 95% of own points do."""
        ...

    @property
    def score_in(self) -> Tensor:
        """Scores of own points `[N]`."""
        ...

    @property
    def score_out(self) -> Tensor:
        """Scores of foreign points `[M]`."""
        ...


class Layered(Protocol):
    """What the page needs of hidden units on held-out rows; `energeia.examination.HiddenLayer` has it."""

    @property
    def activity(self) -> Tensor:
        """E[h|v] `[N, hidden]`."""
        ...

    @property
    def reconstructions(self) -> Tensor:
        """E[v | E[h|v]], `[N, *event]`, in the order of `Findings.real`."""
        ...

    @property
    def filters(self) -> Tensor:
        """What each hidden unit adds to the visible ones, `[hidden, *event]`."""
        ...


class Answered(Protocol):
    """What the page needs of answers to held-out rows; `energeia.tasks.assess.Assessment` has it."""

    @property
    def site_error(self) -> float:
        """Share of labels that are wrong."""
        ...

    @property
    def row_error(self) -> float:
        """Share of rows with a wrong label."""
        ...

    @property
    def second_right(self) -> float:
        """Share of rows whose second answer is right."""
        ...

    @property
    def gap_auroc(self) -> float | None:
        """P(gap of a right answer > gap of a wrong one)."""
        ...

    @property
    def confusion(self) -> Tensor | None:
        """Counts `[K, K]`, rows true."""
        ...

    @property
    def reliability(self) -> Reliability | None:
        """Marginals of labels against accuracy."""
        ...


class Findings(NamedTuple):
    """Everything the page can show. What is None is left out, and the page says so.

    title, introduction: of the page.
    summary: headline figures by name, already written out: {"test accuracy": "97.9 %"}.
    real, samples: `[N, *event]`.
    frames, frame_steps: states of chains over time `[T, N, *event]`, and their step numbers.
    records: what the run logged: training, validation ("validation/..." keys) and rewinds ("event": "rewind").
    energies: energies `[N]` by name; put data first, then samples and noise.
    classification: accuracy, confusion and calibration on held-out data.
    class_names: of the classes.
    answers: of an energy of inputs and answers; it is no model of x, and the page says nothing of samples and chains.
    readings: some rows that are sequences of pictures, with their two best answers.
    answer_names: what labels and rows are called, such as ("letter", "word").
    likelihood: log p of held-out rows and how it was got, in words: {"log p": "-70.1 (-70.3 to -69.9)"}.
    bracket: rounds of the bracket around log Z, where it is not exact.
    steps_per_epoch: for curves over epochs.
    hidden: hidden units on the real rows.
    ood: detections by name of the foreign set, then by score.
    chains: further numbers on the chains, such as R-hat and effective sample size.
    comparisons: further figures, such as those of a twin run, each with its description.
    settings: every setting, as YAML.
    machine, versions: what it ran on and with, by name.
    """

    title: str
    introduction: str = ""
    summary: Mapping[str, str] | None = None
    real: Tensor | None = None
    samples: Tensor | None = None
    frames: Tensor | None = None
    frame_steps: Sequence[int] | None = None
    records: Sequence[Record] | None = None
    energies: Mapping[str, Tensor] | None = None
    classification: Classified | None = None
    class_names: Sequence[str] | None = None
    answers: Answered | None = None
    readings: Sequence[Reading] | None = None
    answer_names: tuple[str, str] = ("label", "row")
    likelihood: Mapping[str, str] | None = None
    bracket: Sequence[Mapping[str, float]] | None = None
    steps_per_epoch: float | None = None
    hidden: Layered | None = None
    ood: Mapping[str, Mapping[str, Detected]] | None = None
    chains: Mapping[str, str] | None = None
    comparisons: Sequence[tuple[Figure, str]] | None = None
    settings: str | None = None
    machine: Mapping[str, str] | None = None
    versions: Mapping[str, str] | None = None
