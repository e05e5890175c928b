import itertools
import math

import pytest
import torch

import energeia as en
from energeia.energies.segments import (
    segment_best,
    segment_log_partition,
    segment_marginals,
    segment_sample,
    segment_scores,
    segmentation_score,
)
from energeia.energies.trees import Forest, tree_best, tree_log_partition, tree_marginals

INF = math.inf
# T, L, K by seed; in one L exceeds T.
SHAPES = [(1, 1, 1), (5, 3, 2), (4, 4, 3), (5, 1, 3), (3, 5, 2), (6, 2, 2), (5, 2, 3), (6, 4, 1)]
SEEDS = range(len(SHAPES))


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=_generator(seed))


def _model(seed, forbid=0.0, ragged=False):
    num_sites, most, size = SHAPES[seed]
    segments, transitions = _random(3, num_sites, most, size, seed=seed), _random(size, size, seed=seed + 100)
    g = _generator(seed + 200)
    for part in (segments, transitions):
        part[torch.rand(part.shape, generator=g) < forbid] = -INF
    lengths = torch.randint(1, num_sites + 1, (3,), generator=g) if ragged else None
    return segments, transitions, lengths


def _cuts(length, most):
    """All ways to cut length sites into parts of at most so many, as lists of (start, length)."""
    if length == 0:
        return [[]]
    return [
        [*before, (length - part, part)]
        for part in range(1, min(length, most) + 1)
        for before in _cuts(length - part, most)
    ]


def _listed(segments, transitions, lengths, row):
    """All segmentations of a row, lists of (start, length, label), and their scores, one by one."""
    num_sites, most, size = segments.shape[1:]
    length = num_sites if lengths is None else int(lengths[row])
    found, scores = [], []
    potentials, steps = segments[row].tolist(), transitions.tolist()
    for cut in _cuts(length, most):
        for labels in itertools.product(range(size), repeat=len(cut)):
            found.append([(start, part, label) for (start, part), label in zip(cut, labels, strict=True)])
            score = sum(potentials[start][part - 1][label] for start, part, label in found[-1])
            scores.append(score + sum(steps[a][b] for a, b in itertools.pairwise(labels)))
    return found, torch.tensor(scores, dtype=torch.float64)


def _sites(segmentation, num_sites):
    """Labels and starts of sites, as lists."""
    labels, starts = [-1] * num_sites, [False] * num_sites
    for start, part, label in segmentation:
        labels[start : start + part] = [label] * part
        starts[start] = True
    return tuple(labels), tuple(starts)


CASES = [(seed, forbid, ragged) for seed in SEEDS for forbid, ragged in ((0, False), (0.25, False), (0.1, True))]


def test_the_listing_itself():
    # Tribonacci numbers; and 1 + 2, 2 + 1, 1 + 1 + 1 with two labels each.
    assert [len(_cuts(length, 3)) for length in range(1, 7)] == [1, 2, 4, 7, 13, 24]
    segments, transitions, _ = _model(1)
    assert len(_listed(segments[:, :3, :2], transitions, None, 0)[0]) == 2 * 2**2 + 2**3


@pytest.mark.parametrize(("seed", "forbid", "ragged"), CASES)
def test_sums_marginals_and_best_answers_by_enumeration(seed, forbid, ragged):
    segments, transitions, lengths = _model(seed, forbid, ragged)
    num_sites, _, size = SHAPES[seed]
    log_z = segment_log_partition(segments, transitions, lengths=lengths)
    chances, sites = segment_marginals(segments, transitions, lengths=lengths)
    best = segment_best(segments, transitions, num_best=9, lengths=lengths)
    assert best.labels.dtype == torch.int64
    for row in range(3):
        listed, scores = _listed(segments, transitions, lengths, row)
        total = scores.logsumexp(0)
        torch.testing.assert_close(log_z[row], total, rtol=1e-12, atol=1e-12)
        weights = (scores - total).exp() if total > -INF else torch.zeros_like(scores)
        expected, by_site = torch.zeros_like(segments[0]), torch.zeros(num_sites, size, dtype=torch.float64)
        for segmentation, weight in zip(listed, weights, strict=True):
            for start, part, label in segmentation:
                expected[start, part - 1, label] += weight
                by_site[start : start + part, label] += weight
        torch.testing.assert_close(chances[row], expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(sites[row], by_site, rtol=1e-12, atol=1e-14)
        number = min(9, int((scores > -INF).sum()))
        ordered = scores.sort(descending=True).values[:number]
        torch.testing.assert_close(best.scores[row, :number], ordered, rtol=1e-12, atol=1e-12)
        score_of = {_sites(each, num_sites): float(s) for each, s in zip(listed, scores, strict=True)}
        pairs = zip(best.labels[row].tolist(), best.starts[row].tolist(), strict=True)
        found = [(tuple(labels), tuple(starts)) for labels, starts in pairs]
        assert len(set(found[:number])) == number
        assert [score_of[each] for each in found[:number]] == pytest.approx(ordered.tolist(), abs=1e-12)
        assert set(found[number:]) <= {((-1,) * num_sites, (False,) * num_sites)}
        assert bool((best.scores[row, number:] == -INF).all())


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_segmentations_come_out_when_all_are_asked_for(seed, ragged):
    segments, transitions, lengths = _model(seed, ragged=ragged)
    counts = [len(_listed(segments, transitions, lengths, row)[0]) for row in range(3)]
    best = segment_best(segments, transitions, num_best=max(counts) + 2, lengths=lengths)
    assert (best.scores > -INF).sum(1).tolist() == counts
    log_z = segment_log_partition(segments, transitions, lengths=lengths)
    torch.testing.assert_close(best.scores.logsumexp(1), log_z, rtol=1e-12, atol=1e-12)
    few = min(counts)
    given = (best.labels[:, :few], best.starts[:, :few])
    scores = segmentation_score(segments, transitions, *given, lengths=lengths)
    torch.testing.assert_close(scores, best.scores[:, :few], rtol=1e-12, atol=1e-12)
    single = segmentation_score(segments, transitions, *(part[:, 0] for part in given), lengths=lengths)
    torch.testing.assert_close(single, best.scores[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("seed", "forbid", "ragged"), CASES)
def test_gradients_are_chances_and_expected_transitions(seed, forbid, ragged):
    segments, transitions, lengths = _model(seed, forbid, ragged)
    segments.requires_grad_(True)
    transitions.requires_grad_(True)
    segment_log_partition(segments, transitions, lengths=lengths).sum().backward()
    chances = segment_marginals(segments.detach(), transitions.detach(), lengths=lengths).segments
    torch.testing.assert_close(segments.grad, chances, rtol=1e-12, atol=1e-13)
    expected = torch.zeros_like(transitions)
    for row in range(3):
        listed, scores = _listed(segments.detach(), transitions.detach(), lengths, row)
        if float(scores.max()) > -INF:
            for segmentation, weight in zip(listed, scores.softmax(0), strict=True):
                for (*_, one), (*_, other) in itertools.pairwise(segmentation):
                    expected[one, other] += weight
    if SHAPES[seed][0] > 1:
        torch.testing.assert_close(transitions.grad, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", [2, 4, 5])
def test_first_and_second_derivatives(seed):
    segments, transitions, lengths = _model(seed, ragged=True)
    given = (segments[:2].requires_grad_(True), transitions.requires_grad_(True))
    lengths = lengths[:2]
    assert torch.autograd.gradcheck(lambda s, t: segment_log_partition(s, t, lengths=lengths), given)
    assert torch.autograd.gradgradcheck(lambda s, t: segment_log_partition(s, t, lengths=lengths), given)
    assert torch.autograd.gradcheck(lambda s, t: tuple(segment_marginals(s, t, lengths=lengths)), given)


def test_the_gradient_of_a_best_score_is_its_segmentation():
    segments, transitions, _ = _model(1)
    segments.requires_grad_(True)
    best = segment_best(segments, transitions, num_best=3)
    best.scores[:, 2].sum().backward()
    expected = torch.zeros_like(segments)
    for row in range(3):
        labels, starts = best.labels[row, 2].tolist(), best.starts[row, 2].nonzero().flatten().tolist()
        for start, stop in itertools.pairwise([*starts, 5]):
            expected[row, start, stop - start - 1, labels[start]] = 1
    assert torch.equal(segments.grad, expected)


def test_rows_in_which_nothing_is_possible():
    # Segments of at most two sites that may not follow each other: a row of two has one label, a row of three nothing.
    segments = _random(2, 3, 2, 1, seed=1).requires_grad_(True)
    transitions = torch.full((1, 1), -INF, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 2])
    log_z = segment_log_partition(segments, transitions, lengths=lengths)
    assert log_z.tolist() == pytest.approx([-INF, float(segments[1, 0, 1, 0].detach())], abs=1e-14)
    log_z.sum().backward()
    expected = torch.zeros(2, 3, 2, 1, dtype=torch.float64)
    expected[1, 0, 1] = 1
    assert torch.equal(segments.grad, expected)
    assert transitions.grad.tolist() == [[0]]
    chances, sites = segment_marginals(segments.detach(), transitions.detach(), lengths=lengths)
    torch.testing.assert_close(chances, expected)
    assert sites.tolist() == [[[0], [0], [0]], [[1], [1], [0]]]
    best = segment_best(segments, transitions, lengths=lengths)
    assert best.labels.tolist() == [[[-1, -1, -1]], [[0, 0, -1]]]
    assert best.starts.tolist() == [[[False] * 3], [[True, False, False]]]
    with pytest.raises(en.InputError, match=r"1 of 2 rows \(the first is row 0\) have no possible segmentation"):
        segment_sample(segments, transitions, _generator(0), lengths=lengths)


def test_what_goes_beyond_the_end_is_not_read():
    segments, transitions, _ = _model(2)
    lengths = torch.tensor([4, 2, 1])
    torn = segments.clone()
    for row, length in enumerate(lengths.tolist()):
        for start, part in itertools.product(range(4), range(4)):
            if start + part >= length:
                torn[row, start, part] = math.nan
    torn.requires_grad_(True)
    log_z = segment_log_partition(torn, transitions, lengths=lengths)
    cut = segment_log_partition(segments[1:2, :2, :2], transitions)
    torch.testing.assert_close(log_z[1:2], cut, rtol=1e-13, atol=1e-13)
    log_z.sum().backward()
    assert bool(torn.grad.isfinite().all())
    best = segment_best(torn.detach(), transitions, num_best=2, lengths=lengths)
    assert best.labels[1, :, 2:].tolist() == [[-1, -1], [-1, -1]]
    labels, starts = best.labels.clone(), best.starts.clone()
    labels[1, :, 2:] = 99
    starts[1, :, 3] = True
    scores = segmentation_score(torn, transitions, labels, starts, lengths=lengths)
    torch.testing.assert_close(scores.detach(), best.scores, rtol=1e-12, atol=1e-12)
    torn.grad = None
    scores.sum().backward()
    assert bool(torn.grad.isfinite().all())
    assert float(torn.grad.sum()) == float(best.starts.sum())


@pytest.mark.parametrize(
    ("seed", "forbid", "ragged"), [(1, 0, False), (2, 0.1, True), (4, 0, False), (5, 0.2, False), (6, 0, True)]
)
def test_draws_come_as_often_as_they_should(seed, forbid, ragged):
    segments, transitions, lengths = _model(seed, forbid, ragged)
    num_sites, number = SHAPES[seed][0], 20_000
    labels, starts = segment_sample(segments, transitions, _generator(seed), num_samples=number, lengths=lengths)
    tested = 0
    for row in range(3):
        listed, scores = _listed(segments, transitions, lengths, row)
        drawn, times = torch.cat([labels[row], starts[row].long()], 1).unique(dim=0, return_counts=True)
        times_of = {tuple(each): int(n) for each, n in zip(drawn.tolist(), times, strict=True)}
        keys = [tuple([*y, *map(int, begun)]) for y, begun in (_sites(each, num_sites) for each in listed)]
        assert set(times_of) <= set(keys)
        counts = torch.tensor([times_of.get(key, 0) for key in keys]).double()
        expected = scores.softmax(0) * number
        assert float(counts[expected == 0].sum()) == 0
        few = expected < 5
        counts = torch.cat([counts[~few], counts[few].sum().view(1)])
        expected = torch.cat([expected[~few], expected[few].sum().view(1)])
        counts, expected = counts[expected > 0], expected[expected > 0]
        freedom = len(expected) - 1
        if freedom > 3:
            tested += 1
            statistic = float(((counts - expected) ** 2 / expected).sum())
            assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
    assert tested >= 1


def test_draws_follow_their_generator():
    segments, transitions, _ = _model(1)
    segments.requires_grad_(True)
    draws = [segment_sample(segments, transitions, _generator(s), num_samples=50) for s in (1, 1, 2)]
    assert torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][0], draws[2][0])


@pytest.mark.parametrize("ragged", [False, True])
def test_segments_of_one_site_are_a_chain(ragged):
    unary, table = _random(2, 5, 3, seed=7), _random(3, 3, seed=8)
    lengths = torch.tensor([5, 3]) if ragged else None
    segments = segment_scores(unary, 1)
    log_z = segment_log_partition(segments, table, lengths=lengths)
    for row in range(2):
        length = 5 if lengths is None else int(lengths[row])
        y = torch.tensor(list(itertools.product(range(3), repeat=length)))
        scores = sum(unary[row, t, y[:, t]] for t in range(length))
        scores = scores + sum(table[y[:, t], y[:, t + 1]] for t in range(length - 1))
        torch.testing.assert_close(log_z[row], scores.logsumexp(0), rtol=1e-12, atol=1e-12)
    chain, tables = Forest(5, [(i, i + 1) for i in range(4)]), table.expand(4, 3, 3)
    present = None if lengths is None else torch.arange(5) < lengths.unsqueeze(1)
    torch.testing.assert_close(log_z, tree_log_partition(unary, tables, chain, present=present))
    sites = segment_marginals(segments, table, lengths=lengths).sites
    torch.testing.assert_close(sites, tree_marginals(unary, tables, chain, present=present).sites)
    best = segment_best(segments, table, num_best=6, lengths=lengths)
    assert torch.equal(best.labels, tree_best(unary, tables, chain, num_best=6, present=present).labels)


def test_forbidden_self_transitions_make_each_labelling_one_segmentation():
    # Without limits on the length, and with segments that score their sites, a chain with free transitions comes out.
    unary, table = _random(2, 5, 3, seed=1), _random(3, 3, seed=2)
    table.fill_diagonal_(0.0)
    apart = table.clone().fill_diagonal_(-INF)
    found = segment_log_partition(segment_scores(unary, 5), apart)
    chain = Forest(5, [(i, i + 1) for i in range(4)])
    torch.testing.assert_close(found, tree_log_partition(unary, table.expand(4, 3, 3), chain), rtol=1e-12, atol=1e-12)


def test_scores_of_segments_from_their_sites():
    unary, by_length = _random(2, 6, 3, seed=1), _random(4, 3, seed=2)
    unary[0, 2, 1] = -INF
    unary.requires_grad_(True)
    found = segment_scores(unary, 4, length_scores=by_length)
    for row, start, part, label in itertools.product(range(2), range(6), range(4), range(3)):
        end = start + part + 1
        expected = float(unary[row, start:end, label].sum().detach() + by_length[part, label]) if end <= 6 else -INF
        assert float(found[row, start, part, label].detach()) == pytest.approx(expected, abs=1e-12)
    segment_log_partition(found, torch.zeros(3, 3, dtype=torch.float64)).sum().backward()
    sites = segment_marginals(found.detach(), torch.zeros(3, 3, dtype=torch.float64)).sites
    torch.testing.assert_close(unary.grad, sites, rtol=1e-12, atol=1e-13)
    # A long row in single precision: a difference of sums from the first site would be off by 1e-2.
    far = torch.full((1, 50_000, 1), 10.1)
    assert float(segment_scores(far, 3)[0, -3, 2, 0]) == pytest.approx(30.3, abs=1e-5)


def test_single_precision():
    segments, transitions, lengths = _model(2, ragged=True)
    exact = segment_log_partition(segments, transitions, lengths=lengths)
    found = segment_log_partition(segments.float(), transitions.float(), lengths=lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    assert segment_marginals(segments.float(), transitions.float(), lengths=lengths).sites.dtype == torch.float32
    hot = segment_log_partition(1e5 * segments.float(), 1e5 * transitions.float(), lengths=lengths)
    best = segment_best(1e5 * segments, 1e5 * transitions, lengths=lengths)
    torch.testing.assert_close(hot.double(), best.scores[:, 0], rtol=1e-6, atol=0)


def test_single_precision_on_a_long_row():
    # log Z is beyond 10^4, where the last digit of single precision is worth 1e-3.
    segments, transitions = 2 * _random(1, 3000, 4, 3, seed=1), 2 * _random(3, 3, seed=2)
    exact = segment_marginals(segments, transitions)
    found = segment_marginals(segments.float(), transitions.float())
    torch.testing.assert_close(found.sites.double(), exact.sites, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.segments.double(), exact.segments, rtol=0, atol=1e-4)
    given = segments.float().requires_grad_(True)
    log_z = segment_log_partition(given, transitions.float())
    assert float(log_z.detach()) == pytest.approx(float(segment_log_partition(segments, transitions)), rel=3e-7)
    log_z.sum().backward()
    torch.testing.assert_close(given.grad.double(), exact.segments, rtol=0, atol=1e-4)


S, T = torch.zeros(2, 4, 2, 3), torch.zeros(3, 3)
Y = torch.zeros(2, 4, dtype=torch.int64)
EVERY = torch.ones(2, 4, dtype=torch.bool)


def _starting(*sites):
    starts = torch.zeros(2, 4, dtype=torch.bool)
    starts[:, list(sites)] = True
    return starts


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: segment_log_partition(S[0], T), r"segments have shape \(4, 2, 3\), expected \[B, T, L, K\]"),
        (lambda: segment_log_partition(S[:, :0], T), r"segments have shape \(2, 0, 2, 3\), .*at least 1"),
        (lambda: segment_marginals(S, T[:2]), r"transitions have shape \(2, 3\), expected \[K, K\] = \[3, 3\]"),
        (lambda: segment_best(S, T.double()), r"segments is torch\.float32 on cpu, transitions is torch\.float64"),
        (lambda: segment_best(S, T, num_best=0), "num_best must be an integer of at least 1, got 0"),
        (lambda: segment_sample(S, T, _generator(0), num_samples=-1), "num_samples must be"),
        (lambda: segment_log_partition(S + math.nan, T), r"segments\[0, 0, 0, 0\] is nan"),
        (lambda: segment_log_partition(S, T + INF), r"transitions\[0, 0\] is inf"),
        (lambda: segment_best(S, T, lengths=torch.tensor([4, 5])), r"lengths lie in 1\.\.T = 4, got 4\.\.5"),
        (lambda: segment_best(S, T, lengths=torch.tensor([0, 4])), r"got 0\.\.4; leave empty rows out"),
        (lambda: segment_best(S, T, lengths=torch.tensor([4.0, 4.0])), r"lengths are integers \[2\], got .*float32"),
        (lambda: segment_best(S, T, lengths=torch.tensor([4])), r"lengths are integers \[2\], got \(1,\)"),
        (lambda: segment_scores(S[0, 0], 2), r"unary has shape \(2, 3\), expected \[B, T, K\]"),
        (lambda: segment_scores(S[:, :, 0], 0), "max_length must be"),
        (
            lambda: segment_scores(S[:, :, 0], 2, length_scores=T),
            r"length_scores has shape \(3, 3\), expected .*\[2, 3\]",
        ),
        (
            lambda: segmentation_score(S, T, Y[:, :3], EVERY),
            r"labels are integers \[2, 4\] or \[2, S, 4\], got \(2, 3\)",
        ),
        (lambda: segmentation_score(S, T, Y, Y), "starts are bool of the shape of labels"),
        (lambda: segmentation_score(S, T, Y, _starting(1, 2)), "site 0: no segment begins at the first site"),
        (lambda: segmentation_score(S, T, Y + 3, EVERY), r"a label outside 0\.\.2"),
        (lambda: segmentation_score(S, T, Y, _starting(0, 1)), "row 0, .*site 3: a segment of more than L = 2 sites"),
        (lambda: segmentation_score(S, T, torch.arange(4) % 2 + Y, _starting(0, 2)), "site 1: the label changes"),
    ],
)
def test_wrong_input_gets_words(make, words):
    with pytest.raises(en.InputError, match=words):
        make()
