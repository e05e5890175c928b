"""Rows that lack sites: what is said of these makes no other answer. Against all answers listed by hand."""

import itertools

import pytest
import torch
from torch import nn

import energeia as en

THERE = torch.tensor([[True, True, True, True], [True, True, False, True]])
RING = [(0, 1), (1, 2), (2, 3), (3, 0)]


def _generator():
    return torch.Generator().manual_seed(0)


def _ring():
    """A ring of three labels, without exact inference of its own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (4, 3))).double()
    crf = en.PairwiseCRF(network, en.Real(4), 3, sites=4, edges=RING, present=lambda x: THERE)
    nn.init.normal_(crf.couplings)
    return crf, torch.randn(2, 4, dtype=torch.float64), THERE


def _chain():
    """A chain and a term of all labels, which counts those of label 0 and is no graph."""
    torch.manual_seed(1)
    space, padding = en.Real((4, 2)), -1.0
    chain = en.LinearChain(nn.Linear(2, 3).double(), space, 3, padding=padding)
    nn.init.normal_(chain.transitions)
    whole = en.from_pair(lambda x, y: 0.7 * (y[..., 0].sum(1) - 1) ** 2, space, chain.answers)
    x = torch.randn(2, 4, 2, dtype=torch.float64)
    there = torch.tensor([[True, True, True, True], [True, True, False, False]])
    x[~there] = padding
    return en.Jointly(chain, whole), x, there


def _listed(energy, x, there):
    """All labellings of each row, -1 where no site is, and their energies, each once: the best first."""
    field = en.given(energy, context=x)
    rows = []
    for row, mask in enumerate(there):
        places = mask.nonzero().flatten()
        found = []
        for labels in itertools.product(range(3), repeat=len(places)):
            y = torch.zeros(len(x), 4, 3, dtype=x.dtype)
            y[row, places, torch.tensor(labels)] = 1.0
            numbers = torch.full((4,), -1)
            numbers[places] = torch.tensor(labels)
            found.append((field(y)[row].detach(), numbers))
        found.sort(key=lambda pair: float(pair[0]))
        rows.append((torch.stack([level for level, _ in found]), torch.stack([numbers for _, numbers in found])))
    return rows


@pytest.mark.parametrize("made", [_ring, _chain])
def test_the_best_answers_are_different_ones(made):
    energy, x, there = made()
    found = en.predict(energy, x, num_best=12, marginals=True)
    assert found.exact
    assert found.marginals_exact
    for row, (levels, numbers) in enumerate(_listed(energy, x, there)):
        number = min(12, len(levels))
        torch.testing.assert_close(found.best_energies[row, :number], levels[:number])
        assert torch.equal(found.best[row, :number], numbers[:number])
        assert bool(found.best_energies[row, number:].isinf().all())
        hot = (numbers.unsqueeze(2) == torch.arange(3)).double()
        mean = ((-levels).softmax(0) @ hot.flatten(1)).view(4, 3)
        torch.testing.assert_close(found.marginals[row], mean)


@pytest.mark.parametrize("made", [_ring, _chain])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_every_answer_counts_once(made, beta):
    energy, x, there = made()
    listed = _listed(energy, x, there)
    y = torch.stack([numbers[2] for _, numbers in listed])
    value = en.ConditionalLikelihood(beta=beta)(energy, en.Batch(x, y), _generator()).value
    expected = torch.stack([levels[2] + (-beta * levels).logsumexp(0) / beta for levels, _ in listed]).mean()
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("made", [_ring, _chain])
def test_the_most_offending_answer_is_wrong_at_a_site_that_is_there(made):
    energy, x, there = made()
    listed = _listed(energy, x, there)
    y = torch.stack([numbers[0] for _, numbers in listed])
    value = en.Margin("hinge", margin=5.0)(energy, en.Batch(x, y), _generator()).value
    torch.testing.assert_close(value, torch.stack([5.0 + levels[0] - levels[1] for levels, _ in listed]).mean())


def test_annealing_of_a_sum_meets_zeros_where_no_site_is():
    energy, x, there = _chain()
    search = en.Annealing(en.GibbsWithGradients(), num_steps=200, num_temperatures=20)
    found = en.predict(energy, x, search, num_best=3)
    for row, (levels, numbers) in enumerate(_listed(energy, x, there)):
        torch.testing.assert_close(found.best_energies[row, :1], levels[:1])
        assert torch.equal(found.answers[row], numbers[0])
        known = found.best[row][found.best_energies[row].isfinite()]
        assert len(known.unique(dim=0)) == len(known)
