"""log Z from the graph of a pairwise model: elimination, mean field, messages, perturbed maxima."""

import itertools
import math

import pytest
import torch

import energeia as en
from energeia.energies import pulled_maxima
from energeia.energies.elimination import best_order

LOOPS = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 3), (6, 7)]
TREES = [(0, 1), (2, 1), (2, 3), (5, 3), (6, 7)]


def _tables(edges, *, seed=0, size=3, sites=9):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(sites, size, generator=generator, dtype=torch.float64)
    b = 1.5 * torch.randn(len(edges), size, size, generator=generator, dtype=torch.float64)
    return en.PairwiseMRF(sites, edges, num_categories=size, site_tables=a, edge_tables=b)


def _spins(scale, *, seed=0, attractive=False):
    generator = torch.Generator().manual_seed(seed)
    couplings = scale * torch.randn(len(LOOPS), generator=generator, dtype=torch.float64)
    fields = 0.5 * torch.randn(9, generator=generator, dtype=torch.float64)
    return en.Ising(9, LOOPS, couplings=couplings.abs() if attractive else couplings, fields=fields)


def _machine(sites):
    weight = torch.randn(sites, sites, generator=torch.Generator().manual_seed(0), dtype=torch.float64).triu(1)
    return en.BoltzmannMachine(en.Binary(sites), weight=weight + weight.T)


def _torus(coupling):
    return en.IsingLattice((4, 4), coupling=torch.tensor(coupling, dtype=torch.float64))


MODELS = {
    "loops": lambda: _tables(LOOPS),
    "trees": lambda: _tables(TREES),
    "two states": lambda: _tables(LOOPS, size=2),
    "no edges": lambda: _tables([]),
    "spins": lambda: _spins(1.0),
    "Potts": lambda: en.Potts(5, LOOPS[:5], num_categories=4, couplings=torch.tensor(0.7, dtype=torch.float64)),
    "all with all": lambda: _machine(7),
}


@pytest.mark.parametrize("name", MODELS)
def test_elimination_is_enumeration(name):
    model = MODELS[name]()
    found = en.variable_elimination(model)
    assert float(found.value) == pytest.approx(float(en.exact_log_z(model).value), abs=1e-10)
    assert (found.kind, float(found.low)) == ("exact", float(found.value))


@pytest.mark.parametrize("name", MODELS)
def test_elimination_finds_the_most_likely_state(name):
    model = MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    size = getattr(model, "num_categories", 2)
    sites = model.space.num_dims // size if isinstance(model.space, en.Categorical) else model.space.num_dims
    pull = torch.randn(5, sites, size, generator=generator, dtype=torch.float64)
    listed = pulled_maxima(model, pull, solver="enumeration")
    torch.testing.assert_close(pulled_maxima(model, pull, solver="elimination"), listed)


def test_long_graphs():
    n, coupling = 500, torch.tensor(0.7, dtype=torch.float64)
    chain = [(i, i + 1) for i in range(n - 1)]
    expected = math.log(2) + (n - 1) * math.log(2 * math.cosh(0.7))
    found = en.variable_elimination(en.Ising(n, chain, couplings=coupling))
    assert (float(found.value), found.details["width"]) == (pytest.approx(expected, abs=1e-9), 1)
    assert float(en.bethe(en.Ising(n, chain, couplings=coupling)).value) == pytest.approx(expected, abs=1e-9)
    ring = en.variable_elimination(en.Ising(n, [*chain, (n - 1, 0)], couplings=coupling))
    expected = n * math.log(2 * math.cosh(0.7)) + math.log1p(math.tanh(0.7) ** n)
    assert (float(ring.value), ring.details["width"]) == (pytest.approx(expected, abs=1e-9), 2)


def test_chain_and_ring_of_ten():
    chain = [(i, i + 1) for i in range(9)]
    for edges, expected in ((chain, 8.976903869826), ([*chain, (9, 0)], 9.210654547333)):
        model = en.Ising(10, edges, couplings=torch.tensor(0.7, dtype=torch.float64))
        assert float(en.log_z(model).value) == pytest.approx(expected, abs=1e-9)
        assert float(en.variable_elimination(model).value) == pytest.approx(expected, abs=1e-9)


def test_the_order_is_as_narrow_as_the_graph():
    def grid(height, width):
        return en.IsingLattice((height, width), coupling=0.1, periodic=False).edges.tolist()

    assert best_order(20, [(i, i + 1) for i in range(19)], 2).width == 1
    assert best_order(200, grid(4, 50), 2).width == 4
    assert best_order(200, grid(50, 4), 2).width == 4
    assert best_order(6, list(itertools.combinations(range(6), 2)), 2).width == 5


def test_a_wide_graph_is_refused_with_its_width():
    model = _machine(40)
    with pytest.raises(en.InputError, match=r"too wide .* width 39 means tables of 2\^40 entries"):
        en.variable_elimination(model)
    with pytest.raises(en.InputError, match=r"width 6 .* more than 8"):
        en.variable_elimination(_torus(0.1), max_entries=8)


# Figures of others: mean field, Bethe, exact, tree-reweighted with equal chances of all edges.
PUBLISHED = {
    0.4: (13.546604849, 13.858134251, 14.561093024, 15.994534563),
    0.2: (11.090354889, 11.726133188, 11.771470359, 12.416169038),
}


@pytest.mark.parametrize("coupling", PUBLISHED)
def test_published_bounds_of_the_torus(coupling):
    model = _torus(coupling)
    trees = en.tree_reweighted(model, num_updates=0)
    found = (en.mean_field(model), en.bethe(model), en.exact_log_z(model), trees)
    for each, expected, kind in zip(found, PUBLISHED[coupling], ("lower", "lower", "exact", "upper"), strict=True):
        assert float(each.value) == pytest.approx(expected, abs=1e-4)
        assert each.kind == kind
    torch.testing.assert_close(trees.details["appearance"], torch.full((32,), 15 / 32, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(5))
def test_bounds_bound(seed):
    for model in (_spins(1.0, seed=seed), _tables(LOOPS, seed=seed)):
        exact = float(en.exact_log_z(model).value)
        lower = en.mean_field(model)
        upper, loose = en.tree_reweighted(model), en.tree_reweighted(model, num_updates=0)
        assert float(lower.value) < exact < float(upper.value) < float(loose.value) + 1e-9
        assert (float(lower.low), float(lower.high)) == (float(lower.value), math.inf)
        assert (float(upper.low), float(upper.high)) == (-math.inf, float(upper.value))
        both = en.gumbel_bounds(model, num_perturbations=200)
        assert both.low < exact < both.high
    assert float(en.bethe(_spins(1.0, seed=seed, attractive=True)).value) < float(
        en.exact_log_z(_spins(1.0, seed=seed, attractive=True)).value
    )


def test_better_trees_give_a_better_bound():
    """Strong and weak couplings: trees through the strong ones."""
    couplings = torch.tensor([2.0, 0.1, 2.0, 2.0, 0.1, 0.1], dtype=torch.float64)
    model = en.Ising(4, list(itertools.combinations(range(4), 2)), couplings=couplings, fields=couplings[:4] / 5)
    exact, best = float(en.exact_log_z(model).value), float(en.tree_reweighted(model, num_updates=200).value)
    even = float(en.tree_reweighted(model, num_updates=0).value)
    assert exact < best < exact + 0.5 * (even - exact)


@pytest.mark.parametrize("method", [en.bethe, en.tree_reweighted])
def test_messages_are_exact_on_forests(method):
    model = _tables(TREES)
    found, exact = method(model), en.exact_log_z(model)
    assert found.kind == "exact"
    assert float(found.value) == pytest.approx(float(exact.value), abs=1e-10)
    states = model.space.enumerate(0, model.space.num_states, dtype=torch.float64, device=torch.device("cpu"))
    with torch.no_grad():
        chance = (-model(states)).softmax(0)
    torch.testing.assert_close(found.details["marginals"], (chance.view(-1, 1, 1) * states).sum(0))


def test_messages_that_do_not_converge_are_told():
    model = en.Ising(
        (6, 6),
        en.IsingLattice((6, 6), coupling=0.1).edges,
        couplings=torch.randn(72, generator=torch.Generator().manual_seed(1)) * 2,
        fields=torch.linspace(-1, 1, 36).view(6, 6),
    )
    for method in (en.bethe, en.tree_reweighted):
        found = method(model, max_rounds=5)
        assert (found.kind, float(found.low), float(found.high)) == ("approximate", -math.inf, math.inf)
        assert "NOT converged" in found.method
        assert not found.details["converged"]


def test_bethe_is_no_bound_where_couplings_disagree():
    found = en.bethe(_spins(0.5))
    assert found.details["converged"]
    assert (found.kind, float(found.low)) == ("approximate", -math.inf)
    assert "no bound" in found.method


def test_mean_field_of_independent_sites_is_exact():
    model = _tables([])
    for found in (en.mean_field(model), en.bethe(model), en.tree_reweighted(model)):
        assert float(found.value) == pytest.approx(float(en.exact_log_z(model).value), abs=1e-10)


def test_gumbel_noise_gives_log_z_of_independent_sites():
    model = _tables([])
    exact = float(en.exact_log_z(model).value)
    upper = en.gumbel_bounds(model, num_perturbations=4000).details["upper"]
    assert float(upper.value) == pytest.approx(exact, abs=5 * float(upper.standard_error))


def test_refusals():
    rbm = en.RBM(4, 3)
    for method in (en.variable_elimination, en.mean_field, en.bethe, en.tree_reweighted):
        with pytest.raises(en.CapabilityError, match="Pairwise"):
            method(rbm)
    with pytest.raises(en.CapabilityError, match="Binary, Spin or Categorical"):
        en.gumbel_bounds(en.Gaussian(2))
    model = _spins(1.0)
    for wrong, words in (
        (lambda: en.bethe(model, damping=1.0), "damping"),
        (lambda: en.bethe(model, num_starts=-1), "num_starts"),
        (lambda: en.tree_reweighted(model, num_updates=-1), "num_updates"),
        (lambda: en.tree_reweighted(model, appearance=torch.ones(8)), "sums to 8"),
        (lambda: en.tree_reweighted(model, appearance=torch.zeros(8)), r"\(0, 1\]"),
        (lambda: en.gumbel_bounds(model, num_perturbations=1), "num_perturbations"),
    ):
        with pytest.raises(en.InputError, match=words):
            wrong()


def test_log_z_takes_the_narrow_way():
    edges = en.IsingLattice((8, 8), coupling=0.1).edges
    model = en.Ising((8, 8), edges, couplings=torch.tensor(0.3, dtype=torch.float64))
    found = en.log_z(model)
    assert (found.kind, found.details["why"]) == ("exact", "its graph is narrow, of width 15")
    assert float(found.value) == pytest.approx(float(en.energies.kaufman_log_z(8, 8, 0.3)), abs=1e-9)
