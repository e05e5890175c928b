"""Semi-Markov conditional random fields: answers are segments with labels."""

import torch
from torch import Tensor, nn

from energeia.core.answers import Best
from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError, check_count
from energeia.core.space import Categorical, Space
from energeia.energies.crf import check_features, sites_there, unary_terms
from energeia.energies.segments import (
    segment_best,
    segment_log_partition,
    segment_marginals,
    segment_sample,
    segment_scores,
    segmentation_score,
)


class SemiMarkovCRF(Energy):
    """E(x, y) = -sum over segments (s, e, k) of [sum_(t=s..e) u_t(x)[k] + d[e - s + 1, k]] - sum w[k, next k].

    Args:
        network: the terms u of single sites, as of `LinearChain`.
        space: where x lives, event `(T, *features)`.
        num_labels: K, at least 1.
        max_length: L, the longest segment, >= 1.
        padding, per_site: as of `LinearChain`.
        repeats: whether a segment may follow one of its own label.

    d (how long segments of a label are) and w are learnt: what a chain cannot say, whose lengths are geometric. An
    answer is a number for each site `[B, T]`: K + k where a segment of label k begins, k where it goes on (`codes`,
    `segments_of` turn them from and to segments). Other sequences of numbers are no segmentation: their energy is
    infinite.

    Capability: `Answering`. `given(energy, context=x)` is a `SegmentField`, with exact inference. E(x, y) cannot be
    differentiated in y. Cost: the network, and O(T (L K + K^2)) a row.

    Reference: Sarawagi & Cohen (2004), Semi-Markov conditional random fields for information extraction.
    https://papers.nips.cc/paper/2004/hash/eb06b9db06012a7a4179b8f3cb5384d3-Abstract.html

    >>> import torch, energeia as en
    >>> energy = en.SemiMarkovCRF(torch.nn.Linear(3, 2), en.Real((6, 3)), 2, max_length=4)
    >>> found = en.predict(energy, torch.zeros(1, 6, 3), num_best=2)
    >>> found.answers.shape, found.exact
    (torch.Size([1, 6]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        space: Space,
        num_labels: int,
        *,
        max_length: int,
        padding: float | None = None,
        per_site: bool = False,
        repeats: bool = False,
    ) -> None:
        super().__init__(space)
        check_count("SemiMarkovCRF", num_labels=num_labels, max_length=max_length)
        if len(space.event_shape) < 2:
            raise InputError(f"SemiMarkovCRF: x is a sequence of features (T, *features), got the event {space}")
        if num_labels == 1 and not repeats:
            raise InputError("SemiMarkovCRF: with one label segments follow their own: give repeats=True")
        self.network, self.num_labels, self.padding, self.per_site = network, num_labels, padding, per_site
        self.max_length, self.repeats = max_length, repeats
        self.answers = Categorical(space.event_shape[0], 2 * num_labels)
        dtype, device = dtype_and_device(network)
        self.lengths = nn.Parameter(torch.zeros(max_length, num_labels, dtype=dtype, device=device))
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) = -log sum_y exp(-E(x, y)) `[B]`."""
        return -self.within(x).log_partition()

    def present(self, x: Tensor) -> Tensor | None:
        """Which sites are there, bool `[B, T]`; None where all must be."""
        return sites_there("SemiMarkovCRF", x, self.padding)

    def within(self, context: Tensor) -> "SegmentField":
        """The energy of the segmentations of each row of x `[B, T, *features]`; T may differ from the space's."""
        check_features(self, context, self.space.event_shape[1:], 2)
        present = self.present(context)
        unary = unary_terms(self.network, context, present, self.num_labels, per_site=self.per_site)
        transitions = self.transitions
        if not self.repeats:
            own = torch.eye(self.num_labels, dtype=torch.bool, device=unary.device)
            transitions = transitions.masked_fill(own, -torch.inf)
        segments = segment_scores(unary, self.max_length, length_scores=self.lengths)
        return SegmentField(segments, transitions, None if present is None else present.sum(1))


class SegmentField(Energy):
    """E_b(y) of segmentations, for every row b.

    Args:
        segments: log potentials `[B, T, L, K]`, by start, length - 1 and label; transitions: `[K, K]`.
        lengths: sites of each row `[B]`; None for T. offset: a constant for each row `[B]`.

    Capabilities: `Rowwise`, `Ragged`, `Solvable`, `Explicit`, `Tiltable`.
    """

    segments: Tensor
    transitions: Tensor
    offset: Tensor

    def __init__(
        self, segments: Tensor, transitions: Tensor, lengths: Tensor | None = None, offset: Tensor | None = None
    ) -> None:
        num_rows, num_sites, _, num_labels = segments.shape
        super().__init__(Categorical(num_sites, 2 * num_labels))
        self._lengths, self._num_labels = lengths, num_labels
        self.register_buffer("segments", segments, persistent=False)
        self.register_buffer("transitions", transitions, persistent=False)
        self.register_buffer("offset", segments.new_zeros(num_rows) if offset is None else offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E_b(y) `[B]`, infinite where y is no segmentation."""
        if len(x) != self.num_rows:
            raise InputError(f"this energy has {self.num_rows} rows, each for its own x; there are {len(x)} answers")
        numbers = x.argmax(2)
        labels, starts = segments_of(numbers, self._num_labels)
        valid = self._valid(labels, starts)
        # A row that is none is scored as a segment for every site, and then thrown away.
        alone = torch.ones_like(starts)
        safe = torch.where(valid.unsqueeze(1), labels, torch.zeros_like(labels))
        cut = torch.where(valid.unsqueeze(1), starts, alone)
        score = segmentation_score(self.segments, self.transitions, safe, cut, lengths=self._lengths)
        return torch.where(valid, self.offset - score, torch.inf)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.segments)

    @property
    def sites_there(self) -> Tensor | None:
        """Sites that are there, bool `[B, T]`; None for all."""
        if self._lengths is None:
            return None
        return torch.arange(self.segments.shape[1], device=self.segments.device) < self._lengths.unsqueeze(1)

    def take(self, index: Tensor) -> "SegmentField":
        """The rows index `[C]`."""
        lengths = None if self._lengths is None else self._lengths[index]
        return SegmentField(self.segments[index], self.transitions, lengths, self.offset[index])

    def tilted(self, slope: Tensor, offset: Tensor) -> "SegmentField":
        """E_b(y) + slope_b . y + offset_b."""
        goes_on, begins = slope.split(self._num_labels, 2)
        added = segment_scores(-goes_on, self.segments.shape[2]) + (goes_on - begins).unsqueeze(2)
        return SegmentField(self.segments + added, self.transitions, self._lengths, self.offset + offset)

    def scaled(self, factor: float) -> "SegmentField":
        """factor E_b(y), factor > 0."""
        return SegmentField(factor * self.segments, factor * self.transitions, self._lengths, factor * self.offset)

    def log_partition(self) -> Tensor:
        """log sum_y exp(-E_b(y)) `[B]`."""
        return segment_log_partition(self.segments, self.transitions, lengths=self._lengths) - self.offset

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_b(y) `[B]`."""
        return -self(x) - self.log_partition()

    def marginals(self) -> Tensor:
        """The chance of each number at each site `[B, T, 2 K]`: going on, then beginning."""
        found = segment_marginals(self.segments, self.transitions, lengths=self._lengths)
        begins = found.segments.sum(2)
        return torch.cat([(found.sites - begins).clamp_min(0), begins], 2)

    def best(self, num_best: int) -> Best:
        """The k segmentations of least energy."""
        found = segment_best(self.segments, self.transitions, num_best=num_best, lengths=self._lengths)
        return Best(self._one_hot(found.labels, found.starts), self.offset.unsqueeze(1) - found.scores)

    def draw(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Independent segmentations `[B, num_draws, T, 2 K]`."""
        labels, starts = segment_sample(
            self.segments, self.transitions, generator, num_samples=num_draws, lengths=self._lengths
        )
        return self._one_hot(labels, starts)

    def _one_hot(self, labels: Tensor, starts: Tensor) -> Tensor:
        """As y `[B, k, T, 2 K]`; zeros where the label is -1."""
        places = torch.arange(2 * self._num_labels, device=labels.device)
        return (codes(labels, starts, self._num_labels).unsqueeze(-1) == places).to(self.segments.dtype)

    def _valid(self, labels: Tensor, starts: Tensor) -> Tensor:
        """Which rows `[B, T]` are segmentations: they begin with a start, keep a segment's label, and end in time."""
        num_sites, most = self.segments.shape[1:3]
        site = torch.arange(num_sites, device=labels.device)
        last_start = torch.where(starts, site, -num_sites).cummax(1).values
        goes_on = ~starts[:, 1:] & (labels[:, 1:] != labels[:, :-1])
        wrong = torch.cat([~starts[:, :1], goes_on], 1) | (site - last_start >= most)
        if self._lengths is not None:
            wrong = wrong & (site < self._lengths.unsqueeze(1))
        return ~wrong.any(1)


def codes(labels: Tensor, starts: Tensor, num_labels: int) -> Tensor:
    """What `SemiMarkovCRF` answers with, from the labels of sites and where segments start (-1 stays -1)."""
    return torch.where(labels < 0, labels, labels + num_labels * starts.long())


def segments_of(numbers: Tensor, num_labels: int) -> tuple[Tensor, Tensor]:
    """The labels of sites and where segments start, from the numbers that `SemiMarkovCRF` answers with."""
    labels = torch.where(numbers < 0, numbers, numbers % num_labels)
    return labels, numbers >= num_labels
