import math

import pytest
import torch

import energeia as en
from energeia import testing
from energeia.core.energy import Conditional, Pairwise
from energeia.energies import Ising, IsingLattice, Potts

CRITICAL = math.log(1 + math.sqrt(2)) / 2


def _f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# A triangle with a tail, and a site by itself: three colours, unequal degrees.
EDGES = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 2]])
MODELS = {
    "ising": lambda: Ising(5, EDGES, couplings=_random(4), fields=_random(5)),
    "one coupling": lambda: Ising((5, 1), EDGES, couplings=_f64(0.7).squeeze(), fields=_f64(-0.3).squeeze()),
    "no edges": lambda: Ising(3, [], couplings=1.0, fields=_random(3)),
    "grid of events": lambda: Ising((2, 3), [(0, 4), (5, 1), (1, 0)], couplings=_random(3), fields=_random(2, 3)),
    "torus": lambda: IsingLattice((4, 4), coupling=_f64(0.3).squeeze(), field=_random(4, 4)),
    "open": lambda: IsingLattice((3, 4), coupling=_f64(0.3).squeeze(), field=_random(3, 4), periodic=False),
    "row": lambda: IsingLattice((1, 2), coupling=_f64(-0.8).squeeze(), field=_f64(0.2).squeeze(), periodic=False),
    "potts": lambda: Potts(5, EDGES, num_categories=3, couplings=_random(4), fields=_random(5, 3)),
    "potts, one field": lambda: Potts((2, 2), [(0, 3), (1, 0)], num_categories=3, couplings=-0.5, fields=_random(3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_energies_and_their_blocks(name):
    testing.check_energy(MODELS[name]().double())


@pytest.mark.parametrize("name", MODELS)
def test_pairwise_potentials_sum_to_minus_the_energy(name):
    energy = MODELS[name]().double()
    pairwise = energy.capability(Pairwise)
    assert pairwise is not None
    space = energy.space
    x = space.enumerate(0, min(space.num_states, 4096), dtype=torch.float64, device=torch.device("cpu"))
    # Categories of every site, counted from the state's number alone.
    base = space.num_categories if isinstance(space, en.Categorical) else 2
    number = torch.arange(len(x)).unsqueeze(1)
    index = number // base ** torch.arange(round(math.log(space.num_states, base))) % base
    sites, tables = pairwise.site_log_potentials(), pairwise.edge_log_potentials()
    total = sites[torch.arange(len(sites)), index].sum(1)
    for (i, j), table in zip(pairwise.edges.tolist(), tables, strict=True):
        total = total + table[index[:, i], index[:, j]]
    torch.testing.assert_close(total, -energy(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("coupling", "log_z"),
    [
        (0.2, 11.771470358541583),
        (0.4, 14.561093023844046),
        (CRITICAL, 15.52191545875528),
        (0.6, 20.056532884346808),
    ],
)
def test_kaufmans_log_z(coupling, log_z):
    torus = IsingLattice((4, 4), coupling=torch.tensor(coupling, dtype=torch.float64))
    assert en.exact_log_z(torus).value.item() == pytest.approx(log_z, abs=1e-8)
    graph = Ising(16, torus.edges, couplings=torch.tensor(coupling, dtype=torch.float64))
    assert graph.num_blocks == 2
    assert en.exact_log_z(graph).value.item() == pytest.approx(log_z, abs=1e-8)


def test_chain_and_ring():
    chain = [(i, i + 1) for i in range(9)]
    coupling = torch.tensor(0.7, dtype=torch.float64)
    assert en.exact_log_z(Ising(10, chain, couplings=coupling)).value.item() == pytest.approx(8.976903869826, abs=1e-8)
    ring = Ising(10, [*chain, (9, 0)], couplings=coupling)
    assert en.exact_log_z(ring).value.item() == pytest.approx(9.210654547333, abs=1e-8)
    line = IsingLattice((1, 10), coupling=coupling, periodic=False)
    assert en.exact_log_z(line).value.item() == pytest.approx(8.976903869826, abs=1e-8)


def test_potts_of_two_categories_is_ising_and_rings_have_their_closed_form():
    ising = Ising(5, EDGES, couplings=_random(4))
    potts = Potts(5, EDGES, num_categories=2, couplings=2 * _random(4))
    # s s' = 2 [x = x'] - 1
    expected = en.exact_log_z(ising).value + _random(4).sum()
    torch.testing.assert_close(en.exact_log_z(potts).value, expected, rtol=1e-12, atol=1e-12)
    # Eigenvalues of the transfer matrix: e^J + K - 1 once, e^J - 1 for the K - 1 others.
    for coupling in (0.8, -1.3):
        ring = Potts(5, [(i, (i + 1) % 5) for i in range(5)], num_categories=3, couplings=_f64(coupling).squeeze())
        expected = math.log((math.exp(coupling) + 2) ** 5 + 2 * (math.exp(coupling) - 1) ** 5)
        assert en.exact_log_z(ring).value.item() == pytest.approx(expected, abs=1e-10)


def test_the_colouring_separates_neighbours_and_uses_two_colours_where_two_suffice():
    generator = torch.Generator().manual_seed(1)
    for num_edges in (0, 20, 60, 300):
        every = torch.combinations(torch.arange(30))
        edges = every[torch.randperm(len(every), generator=generator)[:num_edges]]
        graph = Ising(30, edges, couplings=1.0).graph
        colour = torch.empty(30, dtype=torch.int64)
        for block in range(graph.num_colours):
            colour[graph.sites(block)] = block
        assert bool((colour[edges[:, 0]] != colour[edges[:, 1]]).all())
    # A tree and a bipartite graph with its sites in random order.
    tree = [(i, int(torch.randint(0, i, (), generator=generator))) for i in range(1, 200)]
    assert Ising(200, tree, couplings=1.0).num_blocks == 2
    side = torch.randperm(60, generator=generator)
    pairs = torch.cartesian_prod(side[:30], side[30:])
    assert Ising(60, pairs[torch.randperm(900, generator=generator)[:400]], couplings=1.0).num_blocks == 2
    assert Ising(6, torch.combinations(torch.arange(6)), couplings=1.0).num_blocks == 6


def test_parameters_are_trained():
    data = torch.tensor([[1.0, 1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]]).double()
    energy = Ising(3, [(0, 1), (1, 2)], couplings=_f64(0.1, -0.2), fields=_f64(0.0, 0.3, -0.1))
    energy_of_data = energy(data).mean()
    nodes = energy.space.enumerate(0, 8, dtype=torch.float64, device=torch.device("cpu"))
    weight = (-energy(nodes)).softmax(0).detach()
    gradients = torch.autograd.grad(energy_of_data - weight @ energy(nodes), [energy.couplings, energy.fields])
    # The gradient of the log-likelihood is the difference of the moments.
    first, second = energy.edges.unbind(1)
    moments = [
        (x[:, first] * x[:, second] * w.unsqueeze(1)).sum(0) for x, w in ((data, torch.ones(4) / 4), (nodes, weight))
    ]
    torch.testing.assert_close(gradients[0], moments[1] - moments[0])
    torch.testing.assert_close(gradients[1], weight @ nodes - data.mean(0))


def test_capabilities():
    energy = MODELS["potts"]()
    assert energy.capability(Conditional) is not None
    assert (0.5 * energy).capability(Conditional) is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ising(3, [(0, 3)], couplings=1.0), r"edge 0, \(0, 3\), has a site outside 0\.\.2"),
        (lambda: Ising(3, [(0, 1), (-1, 1)], couplings=1.0), r"edge 1, \(-1, 1\), has a site outside"),
        (lambda: Ising(3, [(0, 1), (2, 2)], couplings=1.0), r"edge 1, \(2, 2\), joins a site with itself"),
        (lambda: Ising(3, [(0, 1), (1, 2), (1, 0)], couplings=1.0), r"edge 0, \(0, 1\), is listed twice"),
        (lambda: Ising(3, torch.tensor([0, 1]), couplings=1.0), r"pairs of site numbers \[M, 2\], got \(2,\)"),
        (lambda: Ising(3, torch.rand(2, 2), couplings=1.0), "float32"),
        (lambda: Ising(3, EDGES[:3], couplings=torch.ones(2)), r"couplings has shape \(2,\), expected one number or"),
        (lambda: Ising(3, EDGES[:3], couplings=1.0, fields=torch.ones(2)), r"fields has shape \(2,\)"),
        (lambda: Ising(3, EDGES[:3], couplings=math.nan), "couplings must be finite"),
        (lambda: Potts(3, EDGES[:3], num_categories=1, couplings=1.0), "num_categories"),
        (lambda: Potts(3, EDGES[:3], num_categories=3, couplings=1.0, fields=torch.ones(2)), r"\(3,\) or \(3, 3\)"),
        (lambda: IsingLattice((5, 6), coupling=1.0), "even sizes of at least 4"),
        (lambda: IsingLattice((2, 6), coupling=1.0), "join the same sites twice"),
        (lambda: IsingLattice((6, 5), coupling=1.0, periodic=False), "width must be even"),
        (lambda: IsingLattice((6,), coupling=1.0), r"shape is \(height, width\)"),
        (lambda: IsingLattice((4, 4), coupling=torch.ones(2)), "coupling has shape"),
    ],
)
def test_wrong_input_gets_words(make, words):
    with pytest.raises(en.InputError, match=words):
        make()
