"""Searches of labels on graphs against all labellings listed."""

import sys

import pytest
import torch
from torch import nn

import energeia as en
from energeia.energies.fields import Field
from energeia.energies.structure import Structure
from energeia.search import all_energies, suitable

RING = [(i, (i + 1) % 6) for i in range(6)]
SPARSE = [(0, 3), (1, 4), (2, 5), (3, 4), (0, 5), (4, 6), (6, 1)]
GRAPHS = {"2x3": (2, 3), "3x3": (3, 3), "ring": (6, RING), "random": (7, SPARSE)}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=_generator(seed))


def _structure(graph):
    first, second = GRAPHS[graph]
    if isinstance(second, int):
        return Structure(first * second, *en.lattice(first, second)), (first, second)
    return Structure(first, second), (first,)


def _field(graph, num_labels=2, *, seed=0, rows=3, kind="table", masked=False):
    """Rows with unary terms of their own; tables by kind of edge, or for each row and edge; or potts with J > 0."""
    structure, sites = _structure(graph)
    unary = _random(rows, structure.num_sites, num_labels, seed=seed)
    if kind == "potts":
        strength = _random(structure.num_kinds, seed=seed + 1).abs()
        tables = strength[:, None, None] * torch.eye(num_labels, dtype=torch.float64)
    elif kind == "table":
        tables = _random(structure.num_kinds, num_labels, num_labels, seed=seed + 1)
    else:
        tables = _random(rows, len(structure.edges), num_labels, num_labels, seed=seed + 1)
    present = None
    if masked:
        present = torch.rand(rows, structure.num_sites, generator=_generator(seed + 2)) < 0.7
        present[:, 1] = True
    return Field(structure, sites, unary, tables, present, _random(rows, seed=seed + 3))


def _labellings(field):
    """Every labelling as numbers `[S, N]`."""
    size, num_sites = field.unary.shape[-1], field.structure.num_sites
    return torch.cartesian_prod(*[torch.arange(size)] * num_sites)


def _truth(field):
    """For each row the sorted energies of all different labellings, from the definition alone."""
    found = []
    for row in range(field.num_rows):
        there = [True] * field.structure.num_sites if field.present is None else field.present[row].tolist()
        labels = _labellings(field)
        labels = labels[(labels * ~torch.tensor(there) == 0).all(1)]
        energy = field.offset[row].repeat(len(labels))
        for site, is_there in enumerate(there):
            if is_there:
                energy = energy - field.unary[row, site][labels[:, site]]
        for number, (first, second) in enumerate(field.structure.edges.tolist()):
            if there[first] and there[second]:
                shared = field.tables.dim() == 3
                table = field.tables[field.structure.kinds[number]] if shared else field.tables[row, number]
                energy = energy - table[labels[:, first], labels[:, second]]
        found.append(energy.sort().values)
    return found


def _energy_of(field, answers):
    return torch.stack([field(answers[:, place]) for place in range(answers.shape[1])], 1)


def _check(field, found, num_best):
    """What holds of every search: energies are those of the answers, sorted, all different, never below the truth."""
    assert found.answers.shape == (field.num_rows, num_best, *field.space.event_shape)
    known = found.energies.isfinite()
    torch.testing.assert_close(found.energies[known], _energy_of(field, found.answers)[known], rtol=0, atol=1e-10)
    assert bool((found.energies[:, 1:] >= found.energies[:, :-1] - 1e-12).all())
    labels = found.answers.sum(-1).flatten(2)
    expected = (
        torch.ones_like(labels) if field.present is None else field.present.unsqueeze(1).expand_as(labels).double()
    )
    assert torch.equal(labels[known], expected[known])
    for row, truth in enumerate(_truth(field)):
        assert float(found.energies[row, 0]) >= float(truth[0]) - 1e-10
        answers = found.answers[row][known[row]].flatten(1)
        assert len(answers.unique(dim=0)) == len(answers)


def _check_exact(field, found, num_best):
    _check(field, found, num_best)
    assert found.exact
    for row, truth in enumerate(_truth(field)):
        number = min(num_best, len(truth))
        torch.testing.assert_close(found.energies[row, :number], truth[:number], rtol=0, atol=1e-7)
        assert bool(found.energies[row, number:].isinf().all())


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("num_labels", "kind"), [(2, "table"), (3, "table"), (2, "rows"), (3, "rows")])
def test_exact_searches_find_the_k_best(graph, num_labels, kind, masked):
    for seed in (0, 10):
        field = _field(graph, num_labels, seed=seed, kind=kind, masked=masked)
        _check_exact(field, en.Elimination().find(field, _generator(), num_best=4), 4)
        _check_exact(field, en.Enumeration().find(field, _generator(), num_best=4), 4)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("masked", [False, True])
def test_minimum_cuts_find_the_k_best(graph, masked):
    for seed in (0, 10, 20):
        field = _field(graph, seed=seed, kind="potts", masked=masked)
        _check_exact(field, en.MinimumCut().find(field, _generator(), num_best=5), 5)
        # Tables that are no potts but agree, one for each row and edge.
        tables = _random(3, len(field.structure.edges), 2, 2, seed=seed)
        excess = tables[..., 0, 0] + tables[..., 1, 1] - tables[..., 0, 1] - tables[..., 1, 0]
        tables[..., 0, 0] += (0.1 - excess).clamp_min(0)
        other = Field(field.structure, field.sites, field.unary, tables, field.present, field.offset)
        _check_exact(other, en.MinimumCut().find(other, _generator(), num_best=2), 2)


def test_sites_that_are_certain_leave_the_cut_as_exact_as_it_was():
    """Capacities are rounded to 30 bits of the largest: site terms of 1e12 would round all others away."""
    structure = Structure(7, [(i, (i + 1) % 6) for i in range(6)])
    tables = torch.eye(2, dtype=torch.float64).expand(6, 2, 2) * _random(6, seed=3).abs().view(6, 1, 1)
    for seed in range(5):
        unary = _random(3, 7, 2, seed=seed)
        unary[0, 0, 1] += 1e12
        unary[1, 6, 0] += 1e12
        unary[2, 3, 0] -= 1e9
        for strength in (0.0, 1.0):
            field = Field(structure, (7,), unary, strength * tables)
            found = en.MinimumCut().find(field, _generator())
            best = en.Enumeration().find(field, _generator())
            assert torch.equal(found.answers, best.answers)


def test_maxflow_is_the_same_cut():
    pytest.importorskip("maxflow", reason="PyMaxflow, the extra cut, is not installed")
    for graph in GRAPHS:
        for masked in (False, True):
            field = _field(graph, kind="potts", masked=masked)
            _check_exact(field, en.MinimumCut(solver="maxflow").find(field, _generator(), num_best=3), 3)


def test_maxflow_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "maxflow", None)
    with pytest.raises(en.CapabilityError, match=r"energeia\[cut\]"):
        en.MinimumCut(solver="maxflow").find(_field("2x3", kind="potts"), _generator())


def test_rounding_of_a_cut_is_of_the_largest_capacity():
    """A site that is held down by 1e6 does not blur a choice of 1e-2 elsewhere, as rounding by the sum would."""
    structure = Structure(400, [(i, i + 1) for i in range(399)] + [(0, 399)])
    unary = torch.zeros(1, 400, 2, dtype=torch.float64)
    unary[0, 0, 0] = 1e6
    unary[0, 200:, 1] = 1e-2
    tables = 1e-3 * torch.eye(2, dtype=torch.float64).expand(400, 2, 2)
    field = Field(structure, (400,), unary, tables)
    labels = en.MinimumCut().find(field, _generator()).answers[0, 0].argmax(-1)
    assert labels[200:].all()
    assert labels[0] == 0


@pytest.mark.parametrize("num_labels", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_max_product_is_exact_on_trees(num_labels, masked):
    tree = Structure(6, [(0, 1), (1, 2), (1, 3), (4, 3), (3, 5)])
    for seed in range(5):
        unary, tables = _random(4, 6, num_labels, seed=seed), _random(5, num_labels, num_labels, seed=seed + 1)
        present = (torch.rand(4, 6, generator=_generator(seed)) < 0.8) if masked else None
        if present is not None:
            present[:, 0] = True
        field = Field(tree, (6,), unary, tables, present)
        found = en.MaxProduct(num_rounds=200, damping=0.0, tolerance=1e-9).find(field, _generator())
        assert "NOT" not in found.method
        _check_exact(field, found, 1)


def test_max_product_does_not_call_ties_exact():
    """Of whole numbers, where what each site likes best need not go together, and no single change helps."""
    unary = [[1, 1, 0], [-1, 0, 0], [-1, 0, 0], [0, 0, 0], [1, 1, 0]]
    tables = [
        [[-1, 1, 0], [-1, -1, 1], [-1, 1, -1]],
        [[1, -1, 1], [0, 1, 1], [0, 1, 0]],
        [[1, -1, 0], [-1, 1, 0], [0, 1, 0]],
        [[-1, -1, 0], [-1, -1, -1], [-1, -1, 1]],
    ]
    tree = Structure(5, [(0, 1), (0, 2), (1, 3), (3, 4)])
    unary, tables = torch.tensor([unary], dtype=torch.float64), torch.tensor(tables, dtype=torch.float64)
    field = Field(tree, (5,), unary, tables)
    found, best = (search.find(field, _generator()) for search in (en.MaxProduct(), en.Exact()))
    assert float(found.energies[0, 0]) > float(best.energies[0, 0])
    assert not found.exact
    field = Field(tree, (5,), unary + _random(1, 5, 3), tables)
    found, best = (search.find(field, _generator()) for search in (en.MaxProduct(), en.Exact()))
    assert torch.equal(found.answers, best.answers)
    assert found.exact


@pytest.mark.parametrize("graph", GRAPHS)
def test_max_product_on_cycles(graph):
    num_right = 0
    for seed in range(0, 60, 10):
        for masked in (False, True):
            field = _field(graph, 3 if graph != "3x3" else 2, seed=seed, masked=masked)
            found = en.MaxProduct().find(field, _generator(), num_best=3)
            _check(field, found, 3)
            assert not found.exact
        # Easy: site terms that outweigh the tables.
        easy = Field(field.structure, field.sites, 20 * field.unary, field.tables, field.present, field.offset)
        best = en.MaxProduct().find(easy, _generator()).energies[:, 0]
        torch.testing.assert_close(best, torch.stack([truth[0] for truth in _truth(easy)]), rtol=0, atol=1e-9)
        num_right += 1
    assert num_right == 6


def _no_flip_improves(field, answers):
    """Whether no other label at one site has less energy, tried one by one."""
    size = field.unary.shape[-1]
    for site in range(field.structure.num_sites):
        flat = answers.reshape(field.num_rows, -1, size)
        there = flat[:, site].sum(1, keepdim=True)
        for label in range(size):
            changed = flat.clone()
            changed[:, site] = there * torch.eye(size, dtype=flat.dtype)[label]
            if bool((field(changed.view_as(answers)) < field(answers) - 1e-10).any()):
                return False
    return True


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("masked", [False, True])
def test_iterated_modes_end_in_local_minima(graph, masked):
    for seed, kind in ((0, "table"), (10, "rows"), (20, "potts")):
        field = _field(graph, 2 if graph == "3x3" else 3, seed=seed, kind=kind, masked=masked)
        found = en.IteratedModes(num_starts=1).find(field, _generator(seed))
        _check(field, found, 1)
        assert not found.exact
        assert _no_flip_improves(field, found.answers[:, 0])


def test_iterated_modes_can_miss_the_minimum():
    """Of strong couplings, from the best labels of sites alone: `exact` must not be claimed. More starts miss less."""
    structure, sites = _structure("3x3")
    field = Field(structure, sites, _random(60, 9, 2), 2 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2))
    truth = torch.stack([each[0] for each in _truth(field)])
    missed = [
        int((en.IteratedModes(num_starts=number).find(field, _generator()).energies[:, 0] > truth + 1e-9).sum())
        for number in (1, 10)
    ]
    assert 60 > missed[0] > missed[1]


def test_iterated_modes_start_at_the_best_labels_of_sites_alone():
    """A labelling that no single change improves is where they begin and end, though a better one is far away."""
    structure, sites = _structure("3x3")
    unary = torch.zeros(1, 9, 2, dtype=torch.float64)
    unary[:, :, 0] = 0.1
    unary[:, :1, 0] = -5.0
    field = Field(structure, sites, unary, 4 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2))
    labels = en.IteratedModes(num_starts=1).find(field, _generator()).answers.argmax(-1).flatten()
    assert labels.tolist() == [0] * 9
    assert en.MinimumCut().find(field, _generator()).answers.argmax(-1).flatten().tolist() == [1] * 9


SAMPLERS = {"gibbs": en.Gibbs(), "gradients": en.GibbsWithGradients()}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("masked", [False, True])
def test_annealing_finds_the_minimum_of_small_graphs(sampler, masked):
    for graph in GRAPHS:
        field = _field(graph, 2, kind="rows", masked=masked)
        search = en.Annealing(SAMPLERS[sampler], num_steps=100, num_temperatures=25, num_starts=5)
        found = search.find(field, _generator(), num_best=2)
        _check(field, found, 2)
        assert not found.exact
        truth = torch.stack([each[0] for each in _truth(field)])
        torch.testing.assert_close(found.energies[:, 0], truth, rtol=0, atol=1e-9)


def test_annealing_with_replicas():
    """Of an energy that is the same for all rows, and of one that is not."""
    model = en.BoltzmannMachine(en.Spin(6), weight=_symmetric(6), bias=_random(6))
    states = model.space.enumerate(0, 64, dtype=torch.float64, device=torch.device("cpu"))
    tempering = en.ParallelTempering(en.Gibbs(), temperatures=(1.0, 2.0, 4.0))
    search = en.Annealing(tempering, num_steps=60, num_temperatures=1, hottest=1.0, coldest=1.0, num_starts=3)
    found = search.find(model, _generator())
    torch.testing.assert_close(found.energies[0, 0], model(states).min(), rtol=0, atol=1e-10)
    field = _field("2x3")
    truth = torch.stack([each[0] for each in _truth(field)])
    torch.testing.assert_close(search.find(field, _generator()).energies[:, 0], truth, rtol=0, atol=1e-10)


def _symmetric(size):
    weight = _random(size, size)
    return (weight + weight.T).fill_diagonal_(0.0)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("num_labels", [2, 3, 4])
def test_expansions_are_within_twice_the_potts_terms(graph, num_labels):
    """sum of site terms + V of the answer <= that of the best with V twice, V = sum J [y_i != y_j]."""
    if num_labels ** _structure(graph)[0].num_sites > 20_000:
        num_labels = 2
    for seed in range(0, 50, 10):
        for masked in (False, True):
            field = _field(graph, num_labels, seed=seed, kind="potts", masked=masked)
            found = en.AlphaExpansion().find(field, _generator(), num_best=2)
            _check(field, found, 2)
            assert not found.exact
            apart = Field(field.structure, field.sites, field.unary, field.tables * 0, field.present, field.offset)
            agreed = _energy_of(apart, found.answers) - found.energies
            most = field.edge_tables()[..., 0, 0].sum(1)
            # V = most - agreed; with V twice the best is that of tables twice, plus most.
            twice = Field(field.structure, field.sites, field.unary, 2 * field.tables, field.present, field.offset)
            bound = torch.stack([truth[0] for truth in _truth(twice)]) + 2 * most
            assert bool((apart(found.answers[:, 0]) + most - agreed[:, 0] <= bound + 1e-9).all())
            # No single expansion is left that would help, and it is no worse than where it began.
            start = field.one_hot(field.unary.argmax(2).unsqueeze(1))[:, 0]
            assert bool((found.energies[:, 0] <= field(start) + 1e-9).all())
            assert _no_expansion_improves(field, found.answers[:, 0], found.energies[:, 0])


def _no_expansion_improves(field, answers, energies):
    size, num_sites = field.unary.shape[-1], field.structure.num_sites
    labels = answers.reshape(field.num_rows, num_sites, size).argmax(2)
    takes = torch.cartesian_prod(*[torch.tensor([False, True])] * num_sites)
    for label in range(size):
        tried = torch.where(takes.unsqueeze(0), label, labels.unsqueeze(1))
        values = _energy_of(field, field.one_hot(tried))
        if bool((values < energies.unsqueeze(1) - 1e-7).any()):
            return False
    return True


def test_expansions_that_no_cut_gives():
    field = _field("2x3", 3, kind="table")
    with pytest.raises(en.CapabilityError, match=r"equal labels.*MaxProduct"):
        en.AlphaExpansion().find(field, _generator())


def test_mean_field_solves_its_equations_and_bounds_log_z():
    for seed, masked in ((0, False), (10, True)):
        for size in (2, 3):
            field = _field("2x3", size, seed=seed, masked=masked)
            found = en.mean_field_marginals(field, tolerance=1e-12, max_sweeps=2000)
            q = found.marginals.view(field.num_rows, -1, size)
            total = field.unary.clone()
            for number, (first, second) in enumerate(field.structure.edges.tolist()):
                table = field.tables[field.structure.kinds[number]]
                there = 1.0 if field.present is None else field.present[:, [first, second]].all(1).double().unsqueeze(1)
                total[:, second] += there * (q[:, first] @ table)
                total[:, first] += there * (q[:, second] @ table.T)
            expected = total.softmax(2)
            if field.present is not None:
                expected = expected * field.present.unsqueeze(2)
            torch.testing.assert_close(q, expected, rtol=0, atol=1e-9)
            exact = torch.stack([(-truth).logsumexp(0) for truth in _truth(field)])
            assert bool((found.bounds <= exact).all())
            # Without edges it is exact.
            bare = Field(field.structure, field.sites, field.unary, 0 * field.tables, field.present, field.offset)
            free = en.mean_field_marginals(bare)
            exact = torch.stack([(-truth).logsumexp(0) for truth in _truth(bare)])
            torch.testing.assert_close(free.bounds, exact, rtol=0, atol=1e-9)


def test_modes_of_the_mean_field():
    field = _field("2x3", 3, masked=True)
    found = en.MeanFieldModes().find(field, _generator(), num_best=3)
    _check(field, found, 3)
    assert not found.exact
    q = en.mean_field_marginals(field).marginals
    modes = field.there(torch.nn.functional.one_hot(q.argmax(-1), 3).double().view(3, 6, 3)).view_as(q)
    alone = en.MeanFieldModes().find(field, _generator())
    assert torch.equal(alone.answers[:, 0], modes)
    assert "NOT" in en.MeanFieldModes(max_sweeps=1).find(field, _generator()).method


APPROXIMATE = {
    "modes": en.IteratedModes(num_starts=1),
    "max-product": en.MaxProduct(),
    "annealing": en.Annealing(en.Gibbs(), num_steps=50, num_temperatures=10, num_starts=2),
    "expansion": en.AlphaExpansion(),
}


@pytest.mark.parametrize("search", APPROXIMATE)
@pytest.mark.parametrize("masked", [False, True])
def test_runners_up_of_approximate_searches(search, masked):
    """Every answer is known, and none of a single change of the best one is better than the runner-up told."""
    field = _field("2x3", 3, kind="potts", masked=masked)
    found = APPROXIMATE[search].find(field, _generator(), num_best=4)
    _check(field, found, 4)
    assert bool(found.energies.isfinite().all())
    best = found.answers[:, :1].reshape(3, 6, 3)
    for row in range(3):
        near = []
        for site in range(6):
            for label in range(3):
                changed = best.clone()
                changed[row, site] = torch.eye(3, dtype=torch.float64)[label] * best[row, site].sum()
                if not torch.equal(changed, best):
                    near.append(field(changed.view(3, 2, 3, 3))[row])
        near = torch.stack(near).sort().values
        assert bool((found.energies[row, 1:] <= near[:3] + 1e-10).all())


@pytest.mark.parametrize("space", [en.Binary(5), en.Spin(5)])
def test_runners_up_of_bits_and_spins(space):
    model = en.BoltzmannMachine(space, weight=_symmetric(5), bias=_random(5))
    states = space.enumerate(0, 32, dtype=torch.float64, device=torch.device("cpu"))
    found = en.IteratedModes(num_starts=1).find(model, _generator(), num_best=6)
    best = found.answers[0, 0]
    near = [s for s in states if int((s != best).sum()) <= 1]
    expected = model(torch.stack(near)).sort().values
    torch.testing.assert_close(found.energies[0], expected, rtol=0, atol=1e-10)


def test_fewer_answers_than_asked_for():
    one = Structure(1, torch.empty(0, 2, dtype=torch.int64))
    field = Field(one, (), _random(2, 1, 3), torch.zeros(0, 3, 3, dtype=torch.float64))
    for search in (en.Exact(), en.Enumeration(), en.Elimination(), en.IteratedModes(), en.MaxProduct()):
        found = search.find(field, _generator(), num_best=5)
        expected = (-field.unary[:, 0]).sort(1).values
        torch.testing.assert_close(found.energies[:, :3], expected, rtol=0, atol=1e-12)
        assert bool(found.energies[:, 3:].isinf().all())
    bit = Field(one, (), _random(2, 1, 2), torch.zeros(0, 2, 2, dtype=torch.float64))
    found = en.MinimumCut().find(bit, _generator(), num_best=3)
    torch.testing.assert_close(found.energies[:, :2], (-bit.unary[:, 0]).sort(1).values, rtol=0, atol=1e-12)
    assert bool(found.energies[:, 2].isinf().all())


class _Table(nn.Module):
    """Numbers `[*shape]` that are learnt, plus x."""

    def __init__(self, *shape, seed=0):
        super().__init__()
        self.table = nn.Parameter(_random(*shape, seed=seed))

    def forward(self, x):
        return self.table + 0.3 * x.sum(1).view(-1, *[1] * self.table.dim())


def _crf(sites=(2, 3), num_labels=2, *, joint="potts", strength=0.5, per_row=False, present=None):
    edges, kinds = en.lattice(*sites)
    shape = (len(edges),) if joint != "table" else (len(edges), num_labels, num_labels)
    crf = en.PairwiseCRF(
        _Table(*sites, num_labels),
        en.Real(2),
        num_labels,
        sites=sites,
        edges=edges,
        kinds=kinds,
        joint=joint,
        joint_network=_Table(*shape, seed=1) if per_row else None,
        present=present,
    ).double()
    with torch.no_grad():
        same = 1.0 if joint != "table" else torch.eye(num_labels, dtype=torch.float64)
        crf.couplings += strength * same
    return crf


def _x(rows=3):
    return _random(rows, 2, seed=7)


@pytest.mark.parametrize("per_row", [False, True])
def test_couplings_that_stay_attractive(per_row):
    """w = softplus(what is learnt + the network's) [y_i = y_j], however low that is."""
    crf = _crf(joint="attractive", strength=-2.0, per_row=per_row)
    with torch.no_grad():
        crf.couplings += _random(2, seed=4)
    x = _x()
    raw = crf.couplings[crf.structure.kinds].expand(3, 7)
    raw = raw + crf.joint_network(x) if per_row else raw
    expected = (1 + raw.detach().exp()).log()[..., None, None] * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        field = en.given(crf, context=x)
    torch.testing.assert_close(field.edge_tables().expand(3, 7, 2, 2), expected, rtol=0, atol=1e-12)
    _check_exact(field, en.MinimumCut().find(field, _generator(), num_best=3), 3)


def test_the_search_that_fits():
    def chosen(field):
        return type(suitable(field))

    assert chosen(_field("2x3")) is en.Enumeration
    assert chosen(en.given(_crf((5, 5)), context=_x())) is en.MinimumCut
    assert chosen(en.given(_crf((5, 5), strength=-0.5), context=_x())) is en.Elimination
    assert chosen(en.given(_crf((5, 5), 3), context=_x())) is en.Elimination
    assert chosen(en.given(_crf((20, 20), 3), context=_x())) is en.AlphaExpansion
    assert chosen(en.given(_crf((20, 20), 3, strength=-0.5), context=_x())) is en.Annealing
    assert chosen(en.given(_crf((20, 20), strength=-0.5), context=_x())) is en.Annealing
    tree = en.PairwiseCRF(_Table(3, 2), en.Real(2), 2, sites=3, edges=[(0, 1), (0, 2)]).double()
    assert chosen(en.given(tree, context=_x())) is en.Exact


@pytest.mark.parametrize("per_row", [False, True])
def test_predict_on_a_grid(per_row):
    crf, x = _crf(joint="table", per_row=per_row), _x()
    field = en.given(crf, context=x)
    truth = torch.stack(_truth(field)).detach()
    found = en.predict(crf, x, num_best=3, marginals=True)
    assert found.exact
    assert found.marginals_exact
    torch.testing.assert_close(found.best_energies, truth[:, :3], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.gap, truth[:, 1] - truth[:, 0], rtol=0, atol=1e-9)
    assert torch.equal(found.answers, found.best[:, 0])
    again = field(torch.nn.functional.one_hot(found.answers, 2).double()).detach()
    torch.testing.assert_close(found.energies, again, rtol=0, atol=1e-12)
    states = field.space.enumerate(0, 64, dtype=torch.float64, device=torch.device("cpu"))
    chances = (-all_energies(field, states)).softmax(1).detach()
    torch.testing.assert_close(found.marginals, torch.einsum("bs,shwk->bhwk", chances, states), rtol=0, atol=1e-12)
    approximate = en.predict(crf, x, en.IteratedModes(), num_best=2)
    assert not approximate.exact
    assert bool((approximate.gap >= 0).all())


def test_marginals_of_a_large_grid_are_told_to_be_approximate():
    """Of couplings so weak that loopy sums are right to second order, against sums by elimination."""
    crf, x = _crf((4, 5), strength=0.05), _x(2)
    found = en.predict(crf, x, marginals=True)
    assert found.exact
    assert not found.marginals_exact
    row = en.given(crf, context=x[:1]).row(0)
    expected = torch.autograd.functional.jacobian(lambda u: _log_z(row, u), row.site_log_potentials().detach())
    torch.testing.assert_close(found.marginals[0].flatten(0, 1), expected, rtol=0, atol=1e-5)
    strong = en.predict(_crf((4, 5), strength=1.0), x, marginals=True)
    assert not strong.marginals_exact


def _log_z(row, unary):
    """By the transfer of 2^4 states of a column, written apart from the library."""
    states = torch.cartesian_prod(*[torch.arange(2)] * 4)
    tables, edges = row.edge_log_potentials().detach(), row.edges.tolist()
    number = {(first, second): tables[place] for place, (first, second) in enumerate(edges)}
    message = torch.zeros(16, dtype=torch.float64)
    for column in range(5):
        own = sum(unary[5 * r + column][states[:, r]] for r in range(4))
        own = own + sum(number[5 * r + column, 5 * r + 5 + column][states[:, r], states[:, r + 1]] for r in range(3))
        if column:
            across = sum(
                number[5 * r + column - 1, 5 * r + column][states[:, r].unsqueeze(1), states[:, r].unsqueeze(0)]
                for r in range(4)
            )
            message = (message.unsqueeze(1) + across).logsumexp(0)
        message = message + own
    return message.logsumexp(0)


def test_what_does_not_fit_is_refused():
    grid = _field("2x3")
    with pytest.raises(en.CapabilityError, match=r"cycles.*MinimumCut"):
        en.Exact().find(grid, _generator())
    apart = en.given(_crf(strength=-0.5), context=_x())
    with pytest.raises(en.CapabilityError, match=r"favour agreement, but 7 of 7 edges.*Elimination"):
        en.MinimumCut().find(apart, _generator())
    with pytest.raises(en.CapabilityError, match=r"two labels, these answers have 3.*AlphaExpansion"):
        en.MinimumCut().find(_field("2x3", 3), _generator())
    machine = en.BoltzmannMachine(en.Binary(3))
    for search in (en.MinimumCut(), en.Elimination(), en.MaxProduct(), en.AlphaExpansion(), en.MeanFieldModes()):
        with pytest.raises(en.CapabilityError, match=r"labels on a graph.*BoltzmannMachine"):
            search.find(machine, _generator())
        with pytest.raises(en.InputError, match="num_best"):
            search.find(_field("2x3", kind="potts"), _generator(), num_best=0)
    with pytest.raises(en.InputError, match=r"3 rows.*have 2"):
        grid(torch.zeros(2, 2, 3, 2, dtype=torch.float64))
    with pytest.raises(en.InputError, match="solver must be one of scipy, maxflow"):
        en.MinimumCut(solver="fast")
    with pytest.raises(en.InputError, match="NaN or infinite; the first is in row 1"):
        en.predict(_crf(), torch.tensor([[0.0, 0.0], [0.0, torch.nan]], dtype=torch.float64))
    with pytest.raises(en.InputError, match="no rows"):
        en.predict(_crf(), _x()[:0])
    with pytest.raises(en.InputError, match="damping"):
        en.MaxProduct(damping=1.0)


@pytest.mark.parametrize(
    "search", [None, en.MinimumCut(), en.Elimination(), en.MaxProduct(), en.IteratedModes(), en.AlphaExpansion()]
)
def test_weights_that_are_nan(search):
    crf = _crf((5, 5) if search is None else (2, 3))
    with torch.no_grad():
        crf.network.table[0, 1, 0] = torch.nan
    with pytest.raises(en.DivergenceError, match="NaN"):
        en.predict(crf, _x(), search)


def test_a_mask_that_leaves_nothing():
    crf = _crf(present=lambda x: (x[:, :1, None] > 0).expand(-1, 2, 3))
    with pytest.raises(en.InputError, match="row 1 has no site"):
        en.predict(crf, torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64))
