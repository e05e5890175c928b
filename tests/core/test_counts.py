"""Counts of words: the list of documents, and multinomial draws against their exact distribution."""

import itertools

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.counts import Counts, Multinomial
from energeia.core.nodes import integration_nodes


def _natural(num_words):
    return torch.randn(num_words, generator=torch.Generator().manual_seed(num_words)).double() * 1.3


def _code(x):
    return x.double() @ 100.0 ** torch.arange(x.shape[1]).double()


def _check_draws(drawn, total, natural):
    """Chi-square of rows of counts against the multinomial distribution."""
    x, log_orders = Counts(len(natural), total).points(dtype=torch.float64, device=torch.device("cpu"))
    p = (log_orders + x @ natural.log_softmax(0)).exp()
    assert (p.sum() - 1).abs() < 1e-12
    order = _code(x).sort()
    place = torch.searchsorted(order.values, _code(drawn))
    assert torch.equal(order.values[place], _code(drawn)), "counts that do not add up to the number of words"
    counts = torch.bincount(order.indices[place], minlength=len(x)).double()
    expected = p * len(drawn)
    often = expected >= 5
    if bool(often.all()):
        observed, wanted = counts, expected
    else:
        observed = torch.cat([counts[often], counts[~often].sum(0, keepdim=True)])
        wanted = torch.cat([expected[often], expected[~often].sum(0, keepdim=True)])
    assert stats.chisquare(observed.numpy(), wanted.numpy()).pvalue > 3e-7


@pytest.mark.parametrize(("num_words", "total"), [(5, 3), (4, 4), (3, 7), (2, 9), (4, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_multinomial(num_words, total, dtype):
    """Word by word where there are as many uniforms as words, count by count where there are not."""
    natural = _natural(num_words)
    uniform = torch.rand(40_000, num_words, generator=torch.Generator().manual_seed(0), dtype=dtype)
    drawn = Counts(num_words, total).from_natural(natural.to(dtype).expand(40_000, -1), uniform)
    assert drawn.dtype == dtype
    _check_draws(drawn, total, natural)


@pytest.mark.parametrize("num_words", [3, 8])
def test_each_row_keeps_its_number_of_words(num_words):
    """Lengths 2, 4 and 6 in one tensor, in either way of drawing; each is multinomial by itself."""
    space = Counts(num_words, total=6, least=2)
    totals = torch.tensor([2, 4, 6]).double().repeat(20_000)
    x = Multinomial(totals, 6).from_natural(torch.zeros(60_000, num_words).double(), torch.rand(60_000, num_words))
    torch.testing.assert_close(x.sum(1), totals)
    natural = _natural(num_words)
    uniform = torch.rand(60_000, num_words, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    drawn = space.keeping(x).from_natural(natural.expand(60_000, -1), uniform)
    for row, total in enumerate((2, 4, 6)):
        _check_draws(drawn[row::3], total, natural)


def test_extreme_uniforms_and_parameters_stay_in_the_space():
    for num_words, total in ((6, 4), (4, 200)):
        space = Counts(num_words, total)
        natural = torch.tensor([[-1e3, 1e3, 0.0, 1e-3] + [5.0] * (num_words - 4)]).expand(3, -1)
        for dtype in (torch.float32, torch.float64):
            eps = torch.finfo(dtype).eps
            uniform = torch.tensor([[0.0], [0.5], [1 - eps / 2]], dtype=dtype).expand(3, num_words)
            drawn = space.from_natural(natural.to(dtype), uniform)
            space.check(drawn)
            assert bool((drawn[:, 1] == total).all())
            flat = space.from_natural(torch.zeros(3, num_words, dtype=dtype), uniform)
            space.check(flat)


def test_points_are_all_documents():
    """The orders of all count vectors together are all K^D sequences, each counted where it belongs."""
    space = Counts(3, total=4)
    x, log_orders = integration_nodes(space)
    sequences = torch.tensor(list(itertools.product(range(3), repeat=4)))
    tally = torch.stack([(sequences == word).sum(1) for word in range(3)], 1).double()
    values, orders = tally.unique(dim=0, return_counts=True)
    order = _code(x).argsort()
    again = _code(values).argsort()
    assert len(x) == space.num_points == 15
    torch.testing.assert_close(x[order], values[again])
    torch.testing.assert_close(log_orders[order].exp(), orders[again].double())


def test_mean_and_log_partition_are_sums_over_documents():
    space, natural = Counts(4, total=3), _natural(4)
    x, log_orders = integration_nodes(space)
    weight = log_orders + x @ natural
    torch.testing.assert_close(space.log_partition(natural[None])[0], weight.logsumexp(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(space.mean(natural[None])[0], weight.softmax(0) @ x, rtol=1e-13, atol=0)
    several = space.keeping(x)
    torch.testing.assert_close(several.mean(natural.expand(len(x), -1)), (3 * natural.softmax(0)).expand(len(x), -1))


def test_independent_words_are_the_unigram_model():
    space = Counts(4, total=3)
    energy = en.Independent(space, _natural(4))
    x, log_orders = integration_nodes(space)
    torch.testing.assert_close(energy.log_z().value, (log_orders - energy(x)).logsumexp(0))
    torch.testing.assert_close(en.exact_log_z(energy).value, energy.log_z().value)
    _check_draws(energy.sample_exact(20_000, torch.Generator().manual_seed(0)), 3, _natural(4))
    assert energy.capability(en.Conditional) is None
    rows = energy.sample_exact(500, torch.Generator().manual_seed(1))
    fitted = en.fitted_base(space, rows)
    wanted = (rows.sum(0) + 0.25) / (rows.sum() + 1)
    torch.testing.assert_close(fitted.natural.softmax(0), wanted, rtol=1e-3, atol=1e-3)


def test_start_points_are_uniform_words():
    x = Counts(3, total=5).start(30_000, torch.Generator().manual_seed(0), dtype=torch.float64)
    _check_draws(x, 5, torch.zeros(3).double())


def test_what_is_no_document_is_refused():
    space = Counts(3, total=5, least=2)
    good = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 3.0]])
    space.check(good)
    bad = torch.tensor([[1.0, 0.0, 0.0], [2.0, 2.0, 2.0], [1.5, 1.5, 0.0], [-1.0, 2.0, 2.0], [float("nan"), 2.0, 1.0]])
    assert not bool(space.contains(bad).any())
    for ask in (lambda: space.start(3, torch.Generator()), lambda: space.num_points, lambda: space.mean(good)):
        with pytest.raises(en.InputError, match="one number of words"):
            ask()
    with pytest.raises(en.InputError, match="least <= total"):
        Counts(3, total=2, least=3)
    with pytest.raises(en.InputError, match="number of words"):
        Counts((2, 2), total=2)
