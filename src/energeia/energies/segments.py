"""Semi-Markov models: sums, maxima, chances and draws of segmentations; exact, in log space, many at once.

A segmentation of sites 0..T-1 cuts them into neighbouring segments (start, length, label), length at most L:

    score = sum over segments of segments[start, length - 1, label]
            + sum over neighbouring segments of transitions[label, next label],    p = exp(score) / Z.

All functions take

- segments: log potentials (negative energies) `[B, T, L, K]`; -inf forbids a segment. What goes beyond the end is not
  read (it may be NaN). L may exceed T.
- transitions: `[K, K]`, from the row to the column; -inf forbids. With zeros on the diagonal a stretch of one label may
  be cut into several segments, and each way to cut it counts; -inf there makes segments as long as they can be.
- lengths: sites of each row `[B]`, integers in 1..T; None: T in all.

and raise InputError for shapes that do not fit, NaN and +inf. Values have the dtype of the potentials. Cost of one
pass: O(B T (L K + K^2)) and T steps of few tensor operations. With L = 1 this is a chain (`energies.trees` takes half
the steps there).

Reference: Sarawagi & Cohen (2004), Semi-Markov conditional random fields for information extraction,
https://papers.nips.cc/paper/2004/hash/eb06b9db06012a7a4179b8f3cb5384d3-Abstract.html
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from energeia.core.errors import InputError, check_count
from energeia.energies.log_space import check_alike, draw, levelled, log_sum_exp, shares, top
from energeia.energies.segment_model import SegmentModel, check_segments, earlier, later, segment_model


class SegmentMarginals(NamedTuple):
    """Chance of every segment `[B, T, L, K]` (by start, length - 1, label), and of labels of sites `[B, T, K]`."""

    segments: Tensor
    sites: Tensor


class BestSegmentations(NamedTuple):
    """Labels of sites `[B, R, T]` int64, where segments start `[B, R, T]` bool, and scores `[B, R]`; best first."""

    labels: Tensor
    starts: Tensor
    scores: Tensor


def segment_log_partition(segments: Tensor, transitions: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """log Z, the log of the sum of exp(score) over all segmentations, `[B]`; -inf where none is possible.

    Gradients by autograd are the chances of segments and the expected numbers of transitions, and zero where log Z is
    -inf. Arguments: see the module.

    >>> import torch
    >>> from energeia.energies.segments import segment_log_partition
    >>> segment_log_partition(torch.zeros(1, 3, 3, 1), torch.zeros(1, 1)).exp()  # 3, 2 + 1, 1 + 2, 1 + 1 + 1
    tensor([4.])
    """
    return _forward(segment_model("segment_log_partition", segments, transitions, lengths)).log_z


def segment_marginals(segments: Tensor, transitions: Tensor, *, lengths: Tensor | None = None) -> SegmentMarginals:
    """p(segment) and p(label of a site), by a pass to the end and one back, each segment's chance given the next.

    Zeros beyond the end of a row, and in rows where no segmentation is possible. Arguments: see the module. Cost: two
    passes, and B T L K numbers for a handful of times.
    """
    model = segment_model("segment_marginals", segments, transitions, lengths)
    ahead = _forward(model)
    # Chances of a segment's length given where it ends and its label, and of the label before given where and what
    # begins, [B, T, K, L] and [B, T, K, K of the one before].
    length_given = shares(torch.stack(ahead.length_logits, 1))
    before_given = shares(_label_logits(model, ahead))
    last = shares(ahead.last)
    final = torch.arange(model.num_sites, device=last.device) == model.final.unsqueeze(1)
    ended = last.unsqueeze(1) * final.unsqueeze(2)
    # Chances of segments that begin l sites before the current one, by l.
    begun = torch.zeros_like(length_given[:, 0])
    found: list[Tensor] = []
    for time in reversed(range(model.num_sites)):
        here = ended[:, time]
        if time + 1 < model.num_sites:
            begun_next, begun = begun[..., 0], torch.cat([begun[..., 1:], torch.zeros_like(begun[..., :1])], -1)
            here = here + (before_given[:, time] * begun_next.unsqueeze(2)).sum(1)
        here = here.unsqueeze(2) * length_given[:, time]
        begun = begun + here
        found.append(here)
    # [B, K, L, T], by end; then by start.
    chances = earlier(torch.stack(found[::-1], 3), 0.0)
    # Chance that a segment begins d sites before and reaches here, by d.
    reaching = chances.flip(2).cumsum(2).flip(2)
    sites = later(reaching, 0.0).sum(2)
    return SegmentMarginals(chances.permute(0, 3, 2, 1), sites.mT)


def segment_best(
    segments: Tensor, transitions: Tensor, *, num_best: int = 1, lengths: Tensor | None = None
) -> BestSegmentations:
    """The num_best segmentations of the highest scores, exactly, all of them different.

    Args:
        segments, transitions, lengths: see the module.
        num_best: R, at least 1.

    Returns:
        labels `[B, R, T]`, -1 beyond the end of a row; starts `[B, R, T]`; scores `[B, R]` in descending order, with
        their graph. Where fewer segmentations are possible the others have score -inf, labels -1 and no starts.
        Two that differ only in where they are cut are different. Those of equal score come in any order.

    Cost: R times that of a pass, with selections in place of sums.
    """
    check_count("segment_best", num_best=num_best)
    model = segment_model("segment_best", segments, transitions, lengths)
    rows, size, number = len(segments), model.size, num_best
    one_way = segments.new_full((number,), -math.inf)
    one_way[0] = 0.0
    entered = one_way.expand(rows, size, number)
    window = segments.new_full((rows, size, model.most, number), -math.inf)
    ended: list[Tensor] = []
    levels: list[Tensor] = []
    # Of what ends here: length and rank on entering; of what begins here: label and rank of what ended before.
    by_length: list[Tensor] = []
    by_label: list[Tensor] = [torch.zeros(rows, size, number, dtype=torch.int64, device=segments.device)]
    for time in range(model.num_sites):
        window = torch.cat([entered.unsqueeze(2), window[:, :, :-1]], 2)
        best, choice = top((window + model.ending[time].unsqueeze(3)).flatten(2), number)
        best, highest = levelled(best, (1, 2))
        levels.append(highest)
        ended.append(best)
        by_length.append(choice)
        if time + 1 < model.num_sites:
            window = window - highest.unsqueeze(3)
            entered, choice = top((best.unsqueeze(1) + model.into.unsqueeze(2)).flatten(2), number)
            by_label.append(choice)
    scores, node = top(_at(torch.stack(ended, 1), model.final).flatten(1), number)
    scores = scores + _taken_off(levels).unsqueeze(1)
    # [B, T K R], where a node is label R + rank.
    lengths_of, nodes_before = (torch.stack(part, 1).flatten(1) for part in (by_length, by_label))

    def take_length(end: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        chosen = lengths_of.gather(1, end * size * number + node)
        return chosen // number, node - node % number + chosen % number

    def take_before(start: Tensor, node: Tensor) -> Tensor:
        return nodes_before.gather(1, start * size * number + node)

    possible = scores > -math.inf
    labels, starts = _trace(model, possible, node, number, take_length, take_before)
    return BestSegmentations(labels, starts, scores)


def segment_sample(
    segments: Tensor,
    transitions: Tensor,
    generator: torch.Generator,
    *,
    num_samples: int = 1,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Independent exact draws: labels `[B, num_samples, T]` int64 (-1 beyond the end), starts of segments, bool.

    Args:
        segments, transitions, lengths: see the module.
        generator: of the noise, on its own device.
        num_samples: for each row.

    Raises:
        InputError: also where no segmentation of a row is possible.

    From the end backwards, each segment given the next. Cost: one pass, and O(B num_samples (L + K)) for each segment.
    """
    check_count("segment_sample", num_samples=num_samples)
    with torch.no_grad():
        model = segment_model("segment_sample", segments, transitions, lengths)
        ahead = _forward(model)
        impossible = ahead.log_z == -math.inf
        if bool(impossible.any()):
            raise InputError(
                f"segment_sample: {int(impossible.sum())} of {len(segments)} rows (the first is row "
                f"{int(impossible.nonzero()[0, 0])}) have no possible segmentation to draw: look for -inf in segments "
                f"and transitions, and whether segments of at most {model.most} sites can fill the row"
            )
        by_length = torch.stack(ahead.length_logits, 1).flatten(1, 2)
        by_label = _label_logits(model, ahead).flatten(1, 2)
        size = model.size

        def take_length(end: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            return draw(_at(by_length, end * size + label), generator), label

        def take_before(start: Tensor, label: Tensor) -> Tensor:
            # Rows that are done have no segment before.
            return draw(_at(by_label, (start - 1).clamp_min(0) * size + label), generator)

        label = draw(ahead.last.unsqueeze(1).expand(-1, num_samples, -1), generator)
        return _trace(model, torch.ones_like(label, dtype=torch.bool), label, 1, take_length, take_before)


def segmentation_score(
    segments: Tensor, transitions: Tensor, labels: Tensor, starts: Tensor, *, lengths: Tensor | None = None
) -> Tensor:
    """Score of given segmentations, `[B]` or `[B, S]`, with its graph.

    Args:
        segments, transitions, lengths: see the module.
        labels: of sites, `[B, T]` or `[B, S, T]`, in 0..K-1 and the same throughout a segment.
        starts: of the shape of labels, bool, True where a segment begins; the first site is one.

    What lies beyond the end of a row is not read. log p = segmentation_score - segment_log_partition.

    Raises:
        InputError: also for a segment of more than L sites, or one whose labels differ.
    """
    known, final = check_segments("segmentation_score", segments, transitions, lengths)
    rows, num_sites, most, size = segments.shape
    fits = labels.dim() in (2, 3) and (labels.shape[0], labels.shape[-1]) == (rows, num_sites)
    if not fits or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"segmentation_score: labels are integers [{rows}, {num_sites}] or [{rows}, S, {num_sites}], got "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
    if starts.dtype != torch.bool or starts.shape != labels.shape:
        raise InputError(
            f"segmentation_score: starts are bool of the shape of labels, {tuple(labels.shape)}, got "
            f"{tuple(starts.shape)} of {starts.dtype}"
        )
    places = torch.arange(num_sites, device=segments.device)
    inside = (places <= final.unsqueeze(1)).unsqueeze(1)
    y, first = (part if part.dim() == 3 else part.unsqueeze(1) for part in (labels.long(), starts))
    y, first = y.where(inside, 0), first & inside
    # Sites since the segment's start; and the last site of every segment, at which its potential is taken.
    since = places - torch.where(first, places, 0).cummax(2).values
    _check_segmentation(y, first, since, inside, most, size)
    stops = torch.cat([first[..., 1:] | ~inside[..., 1:], torch.ones_like(first[..., :1])], 2) & inside
    place = ((places - since) * most + since) * size + y
    total = known.flatten(1).gather(1, place.flatten(1)).view_as(y).where(stops, 0.0).sum(2)
    steps = transitions[y[..., :-1], y[..., 1:]].where(first[..., 1:], 0.0)
    return (total + steps.sum(2)).view(labels.shape[:-1])


def segment_scores(unary: Tensor, max_length: int, *, length_scores: Tensor | None = None) -> Tensor:
    """Segments `[B, T, L, K]` that score the sum of their sites, and something for their length.

    segments[b, t, l, k] = sum_(d = 0..l) unary[b, t + d, k] + length_scores[l, k], -inf beyond the last site.

    Args:
        unary: `[B, T, K]`; -inf forbids a label at a site.
        max_length: L, at least 1.
        length_scores: `[L, K]`, for segments of l + 1 sites.

    Sums begin at each start anew, so they lose nothing to cancellation and -inf stays where it is.
    """
    check_count("segment_scores", max_length=max_length)
    if unary.dim() != 3 or min(unary.shape[1:]) < 1:
        raise InputError(
            f"segment_scores: unary has shape {tuple(unary.shape)}, expected [B, T, K], T and K at least 1"
        )
    check_alike("segment_scores", unary=unary, length_scores=unary if length_scores is None else length_scores)
    windows = pad(unary, (0, 0, 0, max_length - 1), value=-math.inf).unfold(1, max_length, 1)
    sums = windows.transpose(2, 3).cumsum(2)
    if length_scores is None:
        return sums
    if tuple(length_scores.shape) != (max_length, unary.shape[2]):
        raise InputError(
            f"segment_scores: length_scores has shape {tuple(length_scores.shape)}, expected [L, K] = "
            f"[{max_length}, {unary.shape[2]}]"
        )
    return sums + length_scores


class _Forward(NamedTuple):
    """Log sums over all that comes before, each up to a constant, but for log Z `[B]`.

    length_logits: T parts `[B, K, L]`, of segments that end here; ended `[B, T, K]`: summed over their lengths; last
    `[B, K]`: those at the end of the row.
    """

    log_z: Tensor
    length_logits: list[Tensor]
    ended: Tensor
    last: Tensor


def _forward(model: SegmentModel) -> _Forward:
    entered = torch.zeros_like(model.ending[0][..., 0])
    window = torch.full_like(model.ending[0], -math.inf)
    logits: list[Tensor] = []
    all_ended: list[Tensor] = []
    levels: list[Tensor] = []
    for time, ending in enumerate(model.ending):
        window = torch.cat([entered.unsqueeze(2), window[..., :-1]], 2)
        logits.append(window + ending)
        ended, highest = levelled(log_sum_exp(logits[-1]), 1)
        all_ended.append(ended)
        levels.append(highest)
        if time + 1 < model.num_sites:
            window = window - highest.unsqueeze(2)
            entered = log_sum_exp(ended.unsqueeze(1) + model.into)
    ended = torch.stack(all_ended, 1)
    last = _at(ended, model.final)
    return _Forward(log_sum_exp(last) + _taken_off(levels), logits, ended, last)


def _taken_off(levels: list[Tensor]) -> Tensor:
    """The sum of parts of B numbers each, `[B]`; beyond the last site of a row nothing ends, and they are zero."""
    return torch.stack([each.flatten() for each in levels], 1).sum(1)


def _label_logits(model: SegmentModel, ahead: _Forward) -> Tensor:
    """Log weights of the labels before, by the start (from the second site on) and label, `[B, T - 1, K, K]`."""
    return ahead.ended[:, :-1].unsqueeze(2) + model.into


def _trace(
    model: SegmentModel,
    alive: Tensor,
    node: Tensor,
    ranks: int,
    take_length: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    take_before: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Labels and starts `[B, S, T]` of segmentations that are followed from their ends backwards.

    alive: `[B, S]`, those that are possible. node: label * ranks + rank of the last segment. take_length gives a
    segment's length - 1 and its node on entering, from its end and node; take_before the node before a start.
    """
    num_sites = model.num_sites
    # One place more, for those that are done.
    labels = torch.full((*node.shape, num_sites + 1), -1, dtype=torch.int64, device=node.device)
    end = model.final.unsqueeze(1).expand_as(node)
    dead = ~alive
    while not bool(dead.all()):
        length, entry = take_length(end, node)
        start = (end - length).clamp_min(0)
        labels.scatter_(2, start.masked_fill(dead, num_sites).unsqueeze(2), (entry // ranks).unsqueeze(2))
        dead = dead | (start == 0)
        node = take_before(start, entry)
        end = (start - 1).clamp_min(0)
    labels = labels[..., :-1]
    starts = labels >= 0
    places = torch.arange(num_sites, device=node.device)
    labels = labels.gather(2, torch.where(starts, places, 0).cummax(2).values)
    return labels.masked_fill(places > model.final.view(-1, 1, 1), -1), starts


def _at(table: Tensor, places: Tensor) -> Tensor:
    """Rows of `[B, P, ...]` at places `[B]` or `[B, S]`: `[B, ...]` or `[B, S, ...]`."""
    rows = torch.arange(len(table), device=table.device)
    return table[rows if places.dim() == 1 else rows.unsqueeze(1), places]


def _check_segmentation(y: Tensor, first: Tensor, since: Tensor, inside: Tensor, most: int, size: int) -> None:
    changed = torch.zeros_like(first)
    changed[..., 1:] = (y[..., 1:] != y[..., :-1]) & ~first[..., 1:]
    unopened = torch.zeros_like(first)
    unopened[..., 0] = ~first[..., 0]
    for bad, what in (
        (unopened, "no segment begins at the first site; set starts there"),
        ((y < 0) | (y >= size), f"a label outside 0..{size - 1}"),
        (since >= most, f"a segment of more than L = {most} sites; cut it, or give segments a larger L"),
        (changed, "the label changes within a segment; set starts there"),
    ):
        wrong = bad & inside
        if bool(wrong.any()):
            row, which, site = wrong.nonzero()[0].tolist()
            raise InputError(f"segmentation_score: row {row}, segmentation {which}, site {site}: {what}")
