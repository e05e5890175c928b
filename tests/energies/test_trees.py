import itertools
import math

import pytest
import torch

import energeia as en
from energeia.energies import Potts
from energeia.energies.trees import (
    Forest,
    tree_best,
    tree_log_partition,
    tree_marginals,
    tree_sample,
    tree_score,
)

INF = math.inf
# Sites and labels by seed.
SHAPES = [(1, 1), (2, 3), (3, 2), (4, 1), (5, 3), (6, 2), (7, 3), (7, 2), (1, 3), (4, 2), (3, 3), (6, 3)]
SEEDS = range(len(SHAPES))


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=_generator(seed))


def _edges(num_sites, seed, joined=0.8):
    """A random forest: sites and edges in random order, edges turned at random."""
    g = _generator(seed)
    names = torch.randperm(num_sites, generator=g).tolist()
    edges = []
    for site in range(1, num_sites):
        if torch.rand((), generator=g) < joined:
            pair = [names[site], names[int(torch.randint(0, site, (), generator=g))]]
            edges.append(tuple(pair if torch.rand((), generator=g) < 0.5 else pair[::-1]))
    return [edges[i] for i in torch.randperm(len(edges), generator=g).tolist()]


def _model(seed, forbid=0.0, batched=None):
    """unary [3, N, K], tables, edges; sizes, tables' batch and forbidden entries vary with the seed."""
    num_sites, size = SHAPES[seed]
    edges = _edges(num_sites, seed)
    unary = _random(3, num_sites, size, seed=seed)
    batched = seed % 2 if batched is None else batched
    tables = _random(*([3] if batched else []), len(edges), size, size, seed=seed + 100)
    g = _generator(seed + 200)
    for part in (unary, tables):
        part[torch.rand(part.shape, generator=g) < forbid] = -INF
    return unary, tables, edges


def _listed(unary, tables, edges, row, present=None):
    """All labelings of a row, -1 where sites are absent, and their scores, one by one."""
    num_sites, size = unary.shape[1:]
    tables = tables if tables.dim() == 4 else tables.expand(len(unary), *tables.shape)
    here = [present is None or bool(present[row, i]) for i in range(num_sites)]
    labels = torch.tensor(list(itertools.product(*(range(size) if each else [-1] for each in here))))
    scores = torch.zeros(len(labels), dtype=torch.float64)
    for i in range(num_sites):
        scores += unary[row, i, labels[:, i]] if here[i] else 0.0
    for e, (i, j) in enumerate(edges):
        scores += tables[row, e, labels[:, i], labels[:, j]] if here[i] and here[j] else 0.0
    return labels, scores


def _present(seed, num_sites):
    return torch.rand(3, num_sites, generator=_generator(seed)) < 0.7


CASES = [(seed, forbid, ragged) for seed in SEEDS for forbid, ragged in ((0, False), (0.3, False), (0.2, True))]


@pytest.mark.parametrize(("seed", "forbid", "ragged"), CASES)
def test_sums_marginals_and_best_answers_by_enumeration(seed, forbid, ragged):
    unary, tables, edges = _model(seed, forbid)
    forest = Forest(unary.shape[1], edges)
    size = unary.shape[2]
    present = _present(seed, unary.shape[1]) if ragged else None
    log_z = tree_log_partition(unary, tables, forest, present=present)
    sites, pairs = tree_marginals(unary, tables, forest, present=present)
    best = tree_best(unary, tables, forest, num_best=7, present=present)
    for row in range(3):
        labels, scores = _listed(unary, tables, edges, row, present)
        total = scores.logsumexp(0)
        torch.testing.assert_close(log_z[row], total, rtol=1e-12, atol=1e-12)
        chance = (scores - total).exp() if total > -INF else torch.zeros_like(scores)
        for site in range(unary.shape[1]):
            expected = torch.stack([chance[labels[:, site] == k].sum() for k in range(size)])
            torch.testing.assert_close(sites[row, site], expected, rtol=1e-12, atol=1e-14)
        for e, (i, j) in enumerate(edges):
            for k, m in itertools.product(range(size), repeat=2):
                both = chance[(labels[:, i] == k) & (labels[:, j] == m)].sum()
                torch.testing.assert_close(pairs[row, e, k, m], both, rtol=1e-12, atol=1e-14)
        possible = int((scores > -INF).sum())
        number = min(7, possible)
        ordered = scores.sort(descending=True).values[:number]
        torch.testing.assert_close(best.scores[row, :number], ordered, rtol=1e-12, atol=1e-12)
        score_of = {tuple(y.tolist()): float(s) for y, s in zip(labels, scores, strict=True)}
        found = [tuple(y) for y in best.labels[row, :number].tolist()]
        assert len(set(found)) == number
        assert [score_of[y] for y in found] == pytest.approx(ordered.tolist(), abs=1e-12)
        assert bool((best.scores[row, number:] == -INF).all())
        assert bool((best.labels[row, number:] == -1).all())


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 7, 8, 9, 10])
def test_all_labelings_come_out_when_all_are_asked_for(seed):
    unary, tables, edges = _model(seed)
    forest = Forest(unary.shape[1], edges)
    count = unary.shape[2] ** unary.shape[1]
    best = tree_best(unary, tables, forest, num_best=count + 3)
    torch.testing.assert_close(best.scores.logsumexp(1), tree_log_partition(unary, tables, forest))
    assert len(best.labels[0].unique(dim=0)) == count + 1
    assert bool((best.scores[:, :count].diff() <= 0).all())
    given = tree_score(unary, tables, forest, best.labels[:, :count])
    torch.testing.assert_close(given, best.scores[:, :count], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tree_score(unary, tables, forest, best.labels[:, 0]), best.scores[:, 0])


@pytest.mark.parametrize(("seed", "forbid", "ragged"), CASES)
def test_gradients_are_the_marginals(seed, forbid, ragged):
    unary, tables, edges = _model(seed, forbid, batched=True)
    forest = Forest(unary.shape[1], edges)
    present = _present(seed, unary.shape[1]) if ragged else None
    unary.requires_grad_(True)
    tables.requires_grad_(True)
    tree_log_partition(unary, tables, forest, present=present).sum().backward()
    found = tree_marginals(unary.detach(), tables.detach(), forest, present=present)
    torch.testing.assert_close(unary.grad, found.sites, rtol=1e-12, atol=1e-13)
    if edges:
        torch.testing.assert_close(tables.grad, found.edges, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", [2, 4, 10])
def test_first_and_second_derivatives(seed):
    unary, tables, edges = _model(seed, batched=False)
    forest = Forest(unary.shape[1], edges)
    given = (unary.requires_grad_(True), tables.requires_grad_(True))
    assert torch.autograd.gradcheck(lambda u, t: tree_log_partition(u, t, forest), given)
    assert torch.autograd.gradgradcheck(lambda u, t: tree_log_partition(u, t, forest), given)
    assert torch.autograd.gradcheck(lambda u, t: tuple(tree_marginals(u, t, forest)), given)


def test_the_gradient_of_a_best_score_is_its_labelling():
    unary, tables, edges = _model(6, batched=True)
    forest = Forest(unary.shape[1], edges)
    unary.requires_grad_(True)
    best = tree_best(unary, tables, forest, num_best=3)
    best.scores[:, 2].sum().backward()
    expected = torch.nn.functional.one_hot(best.labels[:, 2], unary.shape[2]).double()
    torch.testing.assert_close(unary.grad, expected, rtol=0, atol=0)


def test_a_row_in_which_nothing_is_possible():
    forest = Forest(3, [(0, 1), (1, 2)])
    unary, tables = _random(2, 3, 2), _random(2, 2, 2, seed=1)
    # Both rows forbid label 0 of site 0; the second also label 1 of site 2, so that the table's forbidden pairs bite.
    unary[:, 0, 0] = -INF
    unary[1, 2, 1] = -INF
    tables[0, 1, 0] = -INF
    tables[1, 1, 0] = -INF
    unary.requires_grad_(True)
    tables.requires_grad_(True)
    log_z = tree_log_partition(unary, tables, forest)
    assert log_z.tolist()[1] == -INF
    # One labelling is left in the first: 1, 1, 1.
    assert float(log_z[0].detach()) == pytest.approx(
        float((unary[0, :, 1].sum() + tables[:, 1, 1].sum()).detach()), abs=1e-12
    )
    log_z.sum().backward()
    assert unary.grad.tolist() == [[[0, 1], [0, 1], [0, 1]], [[0, 0]] * 3]
    assert tables.grad.tolist() == [[[0, 0], [0, 1]]] * 2
    assert float(tree_marginals(unary, tables, forest).sites[1].abs().sum().detach()) == 0
    assert tree_best(unary, tables, forest).labels.tolist() == [[[1, 1, 1]], [[-1, -1, -1]]]
    with pytest.raises(en.InputError, match=r"1 of 2 rows \(the first is row 1\) forbid all"):
        tree_sample(unary, tables, forest, _generator(0))


def test_what_absent_sites_say_is_not_read():
    unary, tables, edges = _model(6, batched=True)
    forest = Forest(7, edges)
    present = torch.ones(3, 7, dtype=torch.bool)
    present[0, 2:5] = False
    present[1] = False
    present[1, 6] = True
    torn, broken = unary.clone(), tables.clone()
    torn[~present] = math.nan
    for e, (i, j) in enumerate(edges):
        broken[~(present[:, i] & present[:, j]), e] = math.nan
    torn.requires_grad_(True)
    broken.requires_grad_(True)
    log_z = tree_log_partition(torn, broken, forest, present=present)
    torch.testing.assert_close(log_z, tree_log_partition(unary, tables, forest, present=present), rtol=0, atol=0)
    assert float(log_z[1].detach()) == pytest.approx(float(unary[1, 6].logsumexp(0)), abs=1e-12)
    log_z.sum().backward()
    assert float(torn.grad[~present].abs().sum()) == 0
    assert float(torn.grad.sum()) == pytest.approx(float(present.sum()), abs=1e-10)
    assert bool(broken.grad.isfinite().all())
    best = tree_best(torn, broken, forest, present=present)
    assert bool(((best.labels[:, 0] == -1) == ~present).all())
    torch.testing.assert_close(tree_score(torn, broken, forest, best.labels, present=present), best.scores)
    drawn = tree_sample(torn, broken, forest, _generator(0), num_samples=4, present=present)
    assert bool(((drawn == -1) == ~present.unsqueeze(1)).all())


@pytest.mark.parametrize(("seed", "forbid"), [(2, 0.0), (4, 0.2), (5, 0.0), (6, 0.3), (11, 0.1)])
def test_draws_come_as_often_as_they_should(seed, forbid):
    unary, tables, edges = _model(seed, forbid)
    forest = Forest(unary.shape[1], edges)
    rows = (tree_log_partition(unary, tables, forest) > -INF).nonzero().flatten()
    unary, tables = unary[rows], tables[rows] if tables.dim() == 4 else tables
    num_samples = 20_000
    drawn = tree_sample(unary, tables, forest, _generator(seed), num_samples=num_samples)
    assert drawn.dtype == torch.int64
    size = unary.shape[2]
    weights = size ** torch.arange(unary.shape[1] - 1, -1, -1)
    for row in range(len(rows)):
        _, scores = _listed(unary, tables, edges, row)
        expected = scores.softmax(0) * num_samples
        counts = torch.bincount((drawn[row] * weights).sum(1), minlength=len(scores)).double()
        assert float(counts[expected == 0].sum()) == 0
        # Cells of fewer than five are taken together.
        few = expected < 5
        counts = torch.cat([counts[~few], counts[few].sum().view(1)])
        expected = torch.cat([expected[~few], expected[few].sum().view(1)])
        counts, expected = counts[expected > 0], expected[expected > 0]
        freedom = len(expected) - 1
        assert freedom > 3
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)


def test_draws_follow_their_generator_and_leave_no_graph():
    unary, tables, edges = _model(6)
    forest = Forest(7, edges)
    unary.requires_grad_(True)
    first, again, other = (tree_sample(unary, tables, forest, _generator(s), num_samples=50) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num_sites", [1, 2, 6, 301])
def test_a_chain_is_a_product_of_matrices(num_sites):
    unary, table = _random(4, num_sites, 3, seed=2), _random(3, 3, seed=3)
    forest = Forest(num_sites, [(i, i + 1) for i in range(num_sites - 1)])
    assert forest.depth == num_sites // 2
    row = unary[:, :1].exp()
    shift = torch.zeros(4, dtype=torch.float64)
    for site in range(1, num_sites):
        row = (row @ table.exp()) * unary[:, site : site + 1].exp()
        size = row.sum((1, 2))
        row, shift = row / size.view(-1, 1, 1), shift + size.log()
    expected = row.sum((1, 2)).log() + shift
    found = tree_log_partition(unary, table.expand(num_sites - 1, 3, 3), forest)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_best_of_a_long_chain_and_of_a_wide_star_by_plain_loops():
    # Viterbi, site by site.
    unary, table = _random(200, 3, seed=4), _random(3, 3, seed=5)
    value = unary[0]
    for site in range(1, 200):
        value = (value.unsqueeze(1) + table).amax(0) + unary[site]
    chain = Forest(200, [(i, i + 1) for i in range(199)])
    best = tree_best(unary.unsqueeze(0), table.expand(199, 3, 3), chain, num_best=4)
    assert float(best.scores[0, 0]) == pytest.approx(float(value.max()), abs=1e-10)
    given = tree_score(unary.unsqueeze(0), table.expand(199, 3, 3), chain, best.labels)
    torch.testing.assert_close(given, best.scores, rtol=1e-12, atol=1e-10)
    assert len(best.labels[0].unique(dim=0)) == 4
    # Independent sites around a hub with one label: the second best changes the site where that costs least.
    star = Forest(50, [(0, i) for i in range(1, 50)])
    sites = _random(1, 50, 2, seed=6)
    sites[0, 0, 1] = -INF
    best = tree_best(sites, torch.zeros(49, 2, 2, dtype=torch.float64), star, num_best=2)
    gap = (sites[0, 1:, 0] - sites[0, 1:, 1]).abs().min()
    assert float(best.scores[0, 0] - best.scores[0, 1]) == pytest.approx(float(gap), abs=1e-12)


def test_depth_and_trees():
    assert Forest(6, []).depth == 0
    assert Forest(6, []).num_trees == 6
    assert Forest(6, [(i, 5) for i in range(5)]).depth == 1
    balanced = Forest(31, [((i - 1) // 2, i) for i in range(1, 31)])
    assert (balanced.depth, balanced.num_trees) == (4, 1)
    assert Forest(7, [(6, 0), (0, 3), (3, 1), (4, 2)]).num_trees == 3


def test_a_potts_model_on_a_tree():
    edges = _edges(6, 3, joined=1.0)
    model = Potts(6, edges, num_categories=3, couplings=_random(5, seed=1), fields=_random(6, 3, seed=2))
    found = tree_log_partition(model.site_log_potentials().unsqueeze(0), model.edge_log_potentials(), Forest(6, edges))
    torch.testing.assert_close(found[0], en.exact_log_z(model).value, rtol=1e-12, atol=1e-12)


def test_single_precision_and_large_potentials():
    unary, tables, edges = _model(6, batched=True)
    forest = Forest(7, edges)
    exact = tree_log_partition(unary, tables, forest)
    found = tree_log_partition(unary.float(), tables.float(), forest)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    assert tree_marginals(unary.float(), tables.float(), forest).edges.dtype == torch.float32
    # Energies far beyond what exp can hold: the best labelling is all that counts.
    hot = tree_log_partition(1e5 * unary.float(), 1e5 * tables.float(), forest)
    best = tree_best(1e5 * unary, 1e5 * tables, forest)
    torch.testing.assert_close(hot.double(), best.scores[:, 0].detach(), rtol=1e-6, atol=0)


def test_single_precision_on_a_long_chain():
    # log Z is beyond 10^4, where the last digit of single precision is worth 1e-3.
    forest = Forest(5000, [(i, i + 1) for i in range(4999)])
    unary, tables = 2 * _random(1, 5000, 3, seed=1), 2 * _random(4999, 3, 3, seed=2)
    exact = tree_marginals(unary, tables, forest)
    found = tree_marginals(unary.float(), tables.float(), forest)
    torch.testing.assert_close(found.sites.double(), exact.sites, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.edges.double(), exact.edges, rtol=0, atol=1e-4)
    given = unary.float().requires_grad_(True)
    log_z = tree_log_partition(given, tables.float(), forest)
    assert float(log_z.detach()) == pytest.approx(float(tree_log_partition(unary, tables, forest)), rel=3e-7)
    log_z.sum().backward()
    torch.testing.assert_close(given.grad.double(), exact.sites, rtol=0, atol=1e-4)
    best = tree_best(unary.float(), tables.float(), forest)
    assert torch.equal(best.labels, tree_best(unary, tables, forest).labels)


TREE = Forest(3, [(0, 1), (1, 2)])
U, T = torch.zeros(2, 3, 2), torch.zeros(2, 2, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Forest(4, [(0, 1), (1, 2), (2, 3), (3, 1)]), r"cycle of 3 sites .*en\.log_z .*en\.bethe .*annealing"),
        (lambda: Forest(3, [(0, 0)]), r"edge 0, \(0, 0\), joins a site with itself"),
        (lambda: Forest(3, [(0, 1), (1, 0)]), r"edge 0, \(0, 1\), is listed twice"),
        (lambda: Forest(3, [(0, 3)]), r"has a site outside 0\.\.2"),
        (lambda: Forest(0, []), "num_sites must be an integer of at least 1, got 0"),
        (lambda: tree_log_partition(U[0], T, TREE), r"unary has shape \(3, 2\), expected \[B, 3, K\]"),
        (lambda: tree_log_partition(torch.zeros(2, 4, 2), T, TREE), r"unary has shape \(2, 4, 2\), expected \[B, 3"),
        (lambda: tree_marginals(U, T[:1], TREE), r"tables have shape \(1, 2, 2\), expected \[M, K, K\] = \[2, 2, 2\]"),
        (lambda: tree_marginals(U, T.expand(3, 2, 2, 2), TREE), r"or \[B, M, K, K\] = \[2, 2, 2, 2\]"),
        (lambda: tree_best(U, T.double(), TREE), r"unary is torch\.float32 on cpu, tables is torch\.float64"),
        (lambda: tree_best(U.long(), T.long(), TREE), "floating numbers"),
        (lambda: tree_best(U, T, TREE, num_best=0), "num_best must be an integer of at least 1, got 0"),
        (lambda: tree_sample(U, T, TREE, _generator(0), num_samples=0), "num_samples must be"),
        (lambda: tree_log_partition(U + math.nan, T, TREE), r"unary\[0, 0, 0\] is nan"),
        (lambda: tree_log_partition(U, T + INF, TREE), r"tables\[0, 0, 0, 0\] is inf; .*forbid the others"),
        (lambda: tree_log_partition(U, T, TREE, present=torch.ones(2, 3)), r"present is bool \[2, 3\], got .*float32"),
        (lambda: tree_score(U, T, TREE, torch.zeros(2, 4).long()), r"labels are integers \[2, 3\] or \[2, S, 3\], got"),
        (lambda: tree_score(U, T, TREE, torch.zeros(2, 3)), "float32"),
        (lambda: tree_score(U, T, TREE, torch.full((2, 3), 2)), r"labels lie in 0\.\.1, got 2\.\.2"),
    ],
)
def test_wrong_input_gets_words(make, words):
    with pytest.raises(en.InputError, match=words):
        make()


def test_the_cycle_is_named():
    # A long tail, and a ring of four hung from it: 5, 2, 7, 4.
    edges = [(0, 1), (1, 3), (3, 5), (5, 2), (2, 7), (4, 7), (5, 4), (6, 7)]
    with pytest.raises(en.InputError) as caught:
        Forest(8, edges)
    named = str(caught.value).split("(")[1].split(")")[0]
    ring = [int(site) for site in named.split(", ")]
    assert sorted(ring) == [2, 4, 5, 7]
    joined = {frozenset(edge) for edge in edges}
    assert all(frozenset((one, other)) in joined for one, other in zip(ring, [*ring[1:], ring[0]], strict=True))
