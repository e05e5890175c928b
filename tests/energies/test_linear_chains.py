"""Chains against the list of all labelings, in float64."""

import itertools
import math

import pytest
import torch

from energeia.core.errors import CapabilityError, InputError
from energeia.energies.chain_filter import filtered, largest_range, open_chain
from energeia.energies.chains import (
    chain_best,
    chain_log_partition,
    chain_marginals,
    chain_pair_marginals,
    chain_sample,
    chain_score,
)

SHAPES = ("shared", "place", "row")
LENGTHS = torch.tensor([5, 1, 3, 4])


def potentials(shape, *, scale=1.0, spread=1.0, labels=3, places=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"shared": (labels, labels), "place": (places - 1, labels, labels)}
    size = sizes.get(shape, (4, places - 1, labels, labels))
    unary = spread * torch.randn(4, places, labels, generator=generator, dtype=torch.float64)
    return unary.to(dtype), (scale * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype)


def of_row(transitions, row, t):
    return transitions if transitions.dim() == 2 else transitions[t] if transitions.dim() == 3 else transitions[row, t]


def listed(unary, transitions, row, length):
    """All labelings of a row and their scores, by the definition."""
    unary, transitions = unary.double(), transitions.double()
    states = list(itertools.product(range(unary.shape[2]), repeat=length))
    scores = [
        sum(float(unary[row, t, k]) for t, k in enumerate(y))
        + sum(float(of_row(transitions, row, t)[y[t], y[t + 1]]) for t in range(length - 1))
        for y in states
    ]
    return torch.tensor(states), torch.tensor(scores, dtype=torch.float64)


def expected(unary, transitions, lengths):
    """log Z, marginals and pair marginals; rows without a labeling have zeros."""
    batch, places, labels = unary.shape
    log_z = torch.empty(batch, dtype=torch.float64)
    single = torch.zeros(batch, places, labels, dtype=torch.float64)
    pairs = torch.zeros(batch, places - 1, labels, labels, dtype=torch.float64)
    for row, length in enumerate(lengths.tolist()):
        states, scores = listed(unary, transitions, row, length)
        log_z[row] = scores.logsumexp(0)
        if log_z[row] == -math.inf:
            continue
        for y, p in zip(states.tolist(), (scores - log_z[row]).exp(), strict=True):
            for t, k in enumerate(y):
                single[row, t, k] += p
            for t in range(length - 1):
                pairs[row, t, y[t], y[t + 1]] += p
    return log_z, single, pairs


def with_garbage(unary, transitions, lengths):
    """NaN at every place that does not count."""
    unary, transitions = unary.clone(), transitions.clone()
    for row, length in enumerate(lengths.tolist()):
        unary[row, length:] = math.nan
        if transitions.dim() == 4:
            transitions[row, length - 1 :] = math.nan
    if transitions.dim() == 3:
        transitions[int(lengths.max()) - 1 :] = math.nan
    return unary, transitions


def in_logs(monkeypatch):
    """Only the way through log space."""
    monkeypatch.setattr("energeia.energies.chain_filter.largest_range", lambda dtype, size: -1.0)


def kind(unary, transitions, lengths=None):
    return type(filtered(open_chain("test", unary, transitions, lengths))[1]).__name__


def gradients(unary, transitions, lengths, weights=None):
    unary, transitions = unary.clone().requires_grad_(), transitions.clone().requires_grad_()
    log_z = chain_log_partition(unary, transitions, lengths)
    (log_z if weights is None else log_z * weights).sum().backward()
    return log_z.detach(), unary.grad, transitions.grad


@pytest.mark.parametrize("lengths", [None, LENGTHS, torch.tensor([3, 1, 2, 3])], ids=["full", "ragged", "short"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("logs", [False, True], ids=["scaled", "logs"])
def test_values_marginals_and_gradients_are_those_of_the_list(monkeypatch, shape, lengths, logs):
    if logs:
        in_logs(monkeypatch)
    unary, transitions = potentials(shape)
    assert kind(unary, transitions) == ("Logs" if logs else "Scaled")
    full = torch.full((4,), 5) if lengths is None else lengths
    log_z, single, pairs = expected(unary, transitions, full)
    unary, transitions = with_garbage(unary, transitions, full)
    torch.testing.assert_close(chain_log_partition(unary, transitions, lengths), log_z)
    torch.testing.assert_close(chain_marginals(unary, transitions, lengths), single)
    torch.testing.assert_close(chain_pair_marginals(unary, transitions, lengths), pairs)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    value, for_unary, for_transitions = gradients(unary, transitions, lengths, weights)
    torch.testing.assert_close(value, log_z)
    torch.testing.assert_close(for_unary, single * weights[:, None, None])
    weighted = pairs * weights[:, None, None, None]
    summed = {"shared": weighted.sum((0, 1)), "place": weighted.sum(0), "row": weighted}[shape]
    torch.testing.assert_close(for_transitions, summed)
    assert not for_unary[1, full[1] :].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("logs", [False, True], ids=["scaled", "logs"])
def test_gradients_are_the_slope(monkeypatch, shape, logs):
    if logs:
        in_logs(monkeypatch)
    unary, transitions = potentials(shape)
    inputs = (unary.requires_grad_(), transitions.requires_grad_())
    assert torch.autograd.gradcheck(lambda u, a: chain_log_partition(u, a, LENGTHS), inputs)


def test_a_second_derivative_is_refused():
    unary, transitions = potentials("shared")
    unary.requires_grad_()
    (slope,) = torch.autograd.grad(chain_log_partition(unary, transitions).sum(), unary, create_graph=True)
    with pytest.raises(CapabilityError, match="differentiable once"):
        slope.square().sum().backward()
    with pytest.raises(CapabilityError, match="Detach"):
        (unary + chain_marginals(unary, transitions)).sum().backward()


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_the_list(shape):
    unary, transitions = potentials(shape)
    for row, length in enumerate(LENGTHS.tolist()):
        states, scores = listed(unary, transitions, row, length)
        labels = torch.full((4, len(states), 5), -1)
        labels[:, :, : int(LENGTHS.max())] = 0
        labels[row, :, :length], labels[row, :, length:] = states, -1
        found = chain_score(*with_garbage(unary, transitions, LENGTHS), labels, LENGTHS)
        torch.testing.assert_close(found[row], scores)
    one = chain_score(unary, transitions, labels[:, 7], LENGTHS)
    torch.testing.assert_close(one[3], scores[7])
    inputs = (unary.requires_grad_(), transitions.requires_grad_())
    assert torch.autograd.gradcheck(lambda u, a: chain_score(u, a, labels[:, :3], LENGTHS), inputs)


def forbidden(shape, seed=0, dtype=torch.float64):
    """Forbidden labels and transitions here and there; row 2 has no labeling at all, and another row survives."""
    unary, transitions = potentials(shape, seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + 100)
    unary = unary.masked_fill(torch.rand(unary.shape, generator=generator) < 0.2, -math.inf)
    transitions = transitions.masked_fill(torch.rand(transitions.shape, generator=generator) < 0.3, -math.inf)
    transitions[..., 2, 0] = -math.inf
    unary[2, 1] = -math.inf
    return unary, transitions


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("only_labels", [False, True], ids=["both", "labels"])
def test_what_is_forbidden_has_probability_zero(shape, seed, only_labels):
    unary, transitions = forbidden(shape, seed)
    if only_labels:
        transitions = potentials(shape, seed=seed)[1]
    assert kind(unary, transitions) == ("Scaled" if only_labels else "Logs")
    log_z, single, pairs = expected(unary, transitions, LENGTHS)
    assert log_z[2] == -math.inf
    assert (log_z > -math.inf).any()
    value, for_unary, for_transitions = gradients(unary, transitions, LENGTHS)
    torch.testing.assert_close(value, log_z)
    torch.testing.assert_close(for_unary, single)
    assert not for_unary[single == 0].any()
    summed = {"shared": pairs.sum((0, 1)), "place": pairs.sum(0), "row": pairs}[shape]
    torch.testing.assert_close(for_transitions, summed)
    assert not for_transitions[summed == 0].any()
    torch.testing.assert_close(chain_pair_marginals(unary, transitions, LENGTHS), pairs)


def adversarial(dtype, spread, seed, places=5):
    """Transitions that just fit scaled probabilities, from end to end of their range, and unary potentials
    that span hundreds of nats: labels that look hopeless win by what comes after."""
    generator = torch.Generator().manual_seed(seed)
    most = 0.999 * largest_range(dtype, 3)
    transitions = most * torch.randint(0, 2, (3, 3), generator=generator).double()
    transitions[0, 0], transitions[1, 1] = 0, most
    unary = spread * (torch.rand(4, places, 3, generator=generator, dtype=torch.float64) - 0.5)
    # Near ties between what transitions gain and what unary potentials cost.
    unary[:2] = (
        most * torch.randint(-2, 3, (2, places, 3), generator=generator) * torch.tensor([1.0, 0.5]).view(2, 1, 1)
    )
    return unary.to(dtype), transitions.to(dtype)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spread", [1, 100, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_potentials_lose_nothing(dtype, spread, seed):
    unary, transitions = adversarial(dtype, spread, seed)
    assert kind(unary, transitions) == "Scaled"
    log_z, single, _ = expected(unary, transitions, LENGTHS)
    value, for_unary, _ = gradients(unary, transitions, LENGTHS)
    # log Z is as exact as its own last places, and so are the potentials that it is the sum of.
    scale = max(1.0, float(unary.abs().max()), float(log_z.abs().max()))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(value.double(), log_z, rtol=0, atol=8 * eps * scale)
    torch.testing.assert_close(for_unary.double(), single, rtol=0, atol=8 * eps * scale)


def test_beyond_the_range_scaled_probabilities_would_be_wrong(monkeypatch):
    # Label 1 costs 120 nats at the first place and saves 130 at the next step. In float32 exp(-120) is 0.
    unary = torch.tensor([[[0.0, -120.0], [0.0, 0.0]]])
    transitions = torch.tensor([[-130.0, -130.0], [0.0, 0.0]])
    log_z, single, _ = expected(unary, transitions, torch.tensor([2]))
    value, for_unary, _ = gradients(unary, transitions, None)
    torch.testing.assert_close(value.double(), log_z, rtol=1e-6, atol=0)
    torch.testing.assert_close(for_unary.double(), single, rtol=0, atol=2e-5)
    monkeypatch.setattr("energeia.energies.chain_filter.largest_range", lambda dtype, size: math.inf)
    assert abs(float(chain_log_partition(unary, transitions)) - float(log_z)) > 5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_agree_on_many_labels(monkeypatch, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    unary = 40 * torch.randn(6, 60, 11, generator=generator, dtype=torch.float64)
    transitions = 2 * torch.randn(11, 11, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([60, 1, 17, 33, 59, 2])
    assert kind(unary.to(dtype), transitions.to(dtype)) == "Scaled"
    scaled = gradients(unary.to(dtype), transitions.to(dtype), lengths)
    in_logs(monkeypatch)
    assert kind(unary.to(dtype), transitions.to(dtype)) == "Logs"
    # What float32 makes of the potentials is the same on both sides.
    logs = gradients(unary.to(dtype), transitions.to(dtype), lengths)
    exact = gradients(unary.to(dtype).double(), transitions.to(dtype).double(), lengths)
    atol = 2e-4 if dtype == torch.float32 else 1e-12
    for one, other, true in zip(scaled, logs, exact, strict=True):
        torch.testing.assert_close(one.double(), true, rtol=10 * torch.finfo(dtype).eps, atol=atol)
        torch.testing.assert_close(other.double(), true, rtol=10 * torch.finfo(dtype).eps, atol=atol)


@pytest.mark.parametrize("logs", [False, True], ids=["scaled", "logs"])
def test_a_long_chain_stays_exact_in_float32(monkeypatch, logs):
    if logs:
        in_logs(monkeypatch)
    generator = torch.Generator().manual_seed(3)
    unary = 5 * torch.randn(2, 2000, 4, generator=generator)
    transitions = torch.randn(4, 4, generator=generator)
    value, for_unary, for_transitions = gradients(unary, transitions, None)
    monkeypatch.undo()
    exact = gradients(unary.double(), transitions.double(), None)
    assert (exact[0] > 10_000).all()
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(for_unary.double(), exact[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(for_transitions.double(), exact[2], rtol=1e-5, atol=1e-3)
    # Independent places: the sum of a term for each, in closed form.
    free = chain_log_partition(unary, torch.zeros(4, 4))
    torch.testing.assert_close(free.double(), unary.double().logsumexp(2).sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_best", [1, 2, 7, 100])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [potentials, forbidden])
def test_the_best_labelings_are_those_of_the_list(make, shape, num_best):
    unary, transitions = make(shape)
    dirty = with_garbage(unary, transitions, LENGTHS)
    labels, scores = chain_best(*dirty, LENGTHS, num_best)
    assert labels.shape == (4, num_best, 5)
    for row, length in enumerate(LENGTHS.tolist()):
        states, true = listed(unary, transitions, row, length)
        order = [n for n in true.argsort(descending=True).tolist() if true[n] > -math.inf][:num_best]
        torch.testing.assert_close(scores[row, : len(order)], true[order])
        assert labels[row, : len(order), :length].tolist() == states[order].tolist()
        assert (scores[row, len(order) :] == -math.inf).all()
        assert (labels[row, len(order) :] == -1).all()
        assert (labels[row, :, length:] == -1).all()


@pytest.mark.parametrize("num_best", [1, 3, 27, 40])
def test_ties_give_different_labelings_of_the_same_scores(num_best):
    generator = torch.Generator().manual_seed(0)
    unary = torch.randint(0, 2, (4, 3, 3), generator=generator).double()
    transitions = torch.randint(0, 2, (3, 3), generator=generator).double()
    labels, scores = chain_best(unary, transitions, None, num_best)
    for row in range(4):
        _, true = listed(unary, transitions, row, 3)
        there = min(num_best, 27)
        assert scores[row, :there].tolist() == true.sort(descending=True).values[:there].tolist()
        assert len({tuple(y) for y in labels[row, :there].tolist()}) == there
        assert chain_score(unary, transitions, labels[:, :there]).tolist() == scores[:, :there].tolist()


def test_the_score_of_the_best_has_the_slope_of_its_labels():
    unary, transitions = potentials("shared")
    labels, scores = chain_best(unary.requires_grad_(), transitions.requires_grad_(), LENGTHS)
    scores.sum().backward()
    chosen = torch.nn.functional.one_hot(labels[:, 0].clamp_min(0), 3) * (labels[:, 0] >= 0)[..., None]
    assert unary.grad.tolist() == chosen.double().tolist()
    assert float(transitions.grad.sum()) == float((LENGTHS - 1).sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("logs", [False, True], ids=["scaled", "logs"])
def test_draws_have_the_probabilities_of_the_list(monkeypatch, shape, logs):
    if logs:
        in_logs(monkeypatch)
    unary, transitions = potentials(shape, places=4)
    lengths = torch.tensor([4, 1, 3, 2])
    unary[0, 1, 2] = -math.inf
    generator = torch.Generator().manual_seed(1)
    number = 40_000
    dirty = with_garbage(unary, transitions, lengths)
    draws = chain_sample(*dirty, lengths, num_samples=number, generator=generator)
    for row, length in enumerate(lengths.tolist()):
        assert (draws[row, :, length:] == -1).all()
        states, scores = listed(unary, transitions, row, length)
        p = (scores - scores.logsumexp(0)).exp()
        code = (draws[row, :, :length] * 3 ** torch.arange(length).flip(0)).sum(1)
        counts = torch.bincount(code, minlength=len(states)).double()
        assert counts[p == 0].sum() == 0
        error = (p * (1 - p) * number).sqrt().clamp_min(1)
        assert ((counts - p * number).abs() <= 5 * error).all()


def test_draws_avoid_what_is_forbidden_and_say_what_is_impossible():
    unary, transitions = forbidden("row")
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match=r"row \d has no labeling"):
        chain_sample(unary, transitions, LENGTHS, generator=generator)
    possible = (expected(unary, transitions, LENGTHS)[0] > -math.inf).nonzero()[:, 0]
    unary, transitions, lengths = unary[possible], transitions[possible], LENGTHS[possible]
    draws = chain_sample(unary.float(), transitions.float(), lengths, num_samples=500, generator=generator)
    assert (chain_score(unary, transitions, draws, lengths) > -math.inf).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    unary, transitions = potentials("shared", dtype=dtype)
    with pytest.raises(InputError, match="convert with"):
        chain_log_partition(unary, transitions)


WRONG = {
    "two dimensions": (lambda u, a: (u[0], a, None), r"expected \[B, T, K\]"),
    "no place": (lambda u, a: (u[:, :0], a, None), r"each at least 1"),
    "labels": (lambda u, a: (u, a[:2], None), r"transitions has shape \(2, 3\)"),
    "places": (lambda u, a: (u, a.expand(5, 3, 3), None), r"\(4, 3, 3\) \(by place\)"),
    "rows": (lambda u, a: (u, a.expand(3, 4, 3, 3), None), r"\(4, 4, 3, 3\) \(by row and place\)"),
    "mixed": (lambda u, a: (u, a.float(), None), "convert with"),
    "empty row": (lambda u, a: (u, a, torch.tensor([5, 0, 3, 4])), "run from 0 to 5, expected 1 to T = 5"),
    "too long": (lambda u, a: (u, a, torch.tensor([5, 6, 3, 4])), "run from 3 to 6"),
    "lengths": (lambda u, a: (u, a, torch.tensor([5, 5])), r"expected int64 of shape \(4,\)"),
    "float lengths": (lambda u, a: (u, a, LENGTHS.float()), "expected int64"),
    "NaN": (lambda u, a: (u.index_fill(1, torch.tensor([2]), math.nan), a, LENGTHS), "unary has NaN"),
    "infinite": (lambda u, a: (u.index_fill(1, torch.tensor([2]), math.inf), a, LENGTHS), "unary has NaN or"),
    "NaN transition": (lambda u, a: (u, a.index_fill(0, torch.tensor([2]), math.nan), LENGTHS), "transitions has NaN"),
}


@pytest.mark.parametrize("function", [chain_log_partition, chain_marginals, chain_pair_marginals, chain_best])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(function, case):
    make, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        function(*make(*potentials("shared")))


def test_wrong_labels_are_named():
    unary, transitions = potentials("shared")
    with pytest.raises(InputError, match=r"must lie in 0\.\.2"):
        chain_score(unary, transitions, torch.full((4, 5), 3))
    with pytest.raises(InputError, match="expected int64 of shape"):
        chain_score(unary, transitions, torch.zeros(4, 4, dtype=torch.int64))
    with pytest.raises(InputError, match="num_best"):
        chain_best(unary, transitions, None, 0)


@pytest.mark.parametrize("logs", [False, True], ids=["scaled", "logs"])
def test_one_place(monkeypatch, logs):
    if logs:
        in_logs(monkeypatch)
    unary, _ = potentials("shared", places=1)
    for transitions in (torch.zeros(3, 3), torch.zeros(0, 3, 3), torch.zeros(4, 0, 3, 3)):
        value, for_unary, for_transitions = gradients(unary, transitions.double(), None)
        torch.testing.assert_close(value, unary[:, 0].logsumexp(1))
        torch.testing.assert_close(for_unary, unary.softmax(2))
        assert for_transitions.shape == transitions.shape
        assert not for_transitions.any()
        labels, _ = chain_best(unary, transitions.double(), None, 2)
        assert labels[:, :, 0].tolist() == unary[:, 0].topk(2).indices.tolist()
