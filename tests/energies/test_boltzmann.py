import pytest
import torch

import energeia as en
from energeia import testing
from energeia.core.energy import Pairwise


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _symmetric(size, seed=0):
    weight = _random(size, size, seed=seed)
    return (weight + weight.T).fill_diagonal_(0.0) / 2


def _machine(space, seed=0):
    return en.BoltzmannMachine(space, weight=_symmetric(space.num_dims, seed), bias=_random(space.num_dims, seed=1))


def _states(space):
    return space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))


SPACES = [en.Binary(5), en.Spin((2, 3))]


@pytest.mark.parametrize("space", SPACES)
def test_the_energy_is_that_of_the_equation(space):
    machine, states = _machine(space), _states(space)
    for x, energy in zip(states.flatten(1), machine(states), strict=True):
        expected = -(x @ machine.weight @ x + machine.bias @ x)
        torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_blocks_local_parameters_and_potentials_are_the_conditionals(space):
    machine, states = _machine(space), _states(space)
    testing.check_energy(machine)
    blocks = machine.split(states)
    natural = machine.join(tuple(machine.natural_parameters(blocks, site) for site in range(machine.num_blocks)))
    torch.testing.assert_close(machine.local_parameters(states), natural, rtol=1e-12, atol=1e-12)
    index = (states.flatten(1) > 0).long()
    sites, tables = machine.site_log_potentials(), machine.edge_log_potentials()
    total = sites[torch.arange(len(sites)), index].sum(1)
    for (i, j), table in zip(machine.edges.tolist(), tables, strict=True):
        total = total + table[index[:, i], index[:, j]]
    torch.testing.assert_close(total, -machine(states), rtol=1e-12, atol=1e-12)


def test_it_is_ising_with_half_the_coupling():
    machine = _machine(en.Spin(5))
    couplings = 2 * machine.weight.detach()[tuple(machine.pairs.T)]
    ising = en.Ising(5, machine.pairs, couplings=couplings, fields=machine.bias.detach())
    states = _states(en.Spin(5))
    torch.testing.assert_close(machine(states), ising(states), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_the_diagonal_takes_no_part_and_gradients_are_symmetric(space):
    machine, states = _machine(space), _states(space)
    before = machine(states)
    with torch.no_grad():
        machine.weight.fill_diagonal_(3.0)
    torch.testing.assert_close(machine(states), before)
    testing.check_energy(machine)
    (gradient,) = torch.autograd.grad(machine(states[3:9]).sum(), machine.weight)
    torch.testing.assert_close(gradient, gradient.T, rtol=1e-12, atol=1e-12)
    assert not gradient.diagonal().any()


def test_a_lopsided_weight_acts_through_its_symmetric_part():
    machine, states = _machine(en.Binary(5)), _states(en.Binary(5))
    before, local = machine(states), machine.local_parameters(states)
    skew = _random(5, 5, seed=3)
    with torch.no_grad():
        machine.weight += skew - skew.T
    torch.testing.assert_close(machine(states), before)
    torch.testing.assert_close(machine.local_parameters(states), local)
    testing.check_energy(machine)


@pytest.mark.parametrize("space", SPACES)
def test_the_closed_gradient_is_that_of_autograd(space):
    machine, states = _machine(space), _states(space)
    data, negatives = states[[1, 5, 5, 9]], states[[0, 2, 30]]
    energy_data, energy_negatives, gradients = machine.contrast(data, negatives)
    loss = machine(data).mean() - machine(negatives).mean()
    torch.testing.assert_close(energy_data.mean() - energy_negatives.mean(), loss)
    expected = torch.autograd.grad(loss, list(machine.parameters()))
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gibbs_samples_the_enumerated_distribution():
    machine = en.Enumerated(_machine(en.Binary(4)))
    testing.check_sampler(en.Gibbs(), machine)


def test_clusters_sample_a_ferromagnet_of_bits():
    weight = _symmetric(4).abs()
    machine = en.BoltzmannMachine(4, weight=weight, bias=-weight.sum(1) + torch.linspace(-0.3, 0.3, 4))
    testing.check_sampler(en.SwendsenWang(), en.Enumerated(machine), num_steps=10)


def test_annealing_finds_log_z():
    machine = _machine(en.Spin(8))
    base = en.Independent(en.Spin(8), machine.bias.detach() / 2)
    found, exact = en.ais(machine, base=base, levels=40, num_chains=200), en.exact_log_z(machine)
    assert abs(found.value.item() - exact.value.item()) < 5 * found.standard_error.item() + 0.01
    assert 0 < found.standard_error.item() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": en.Categorical(2, num_categories=3)}, "PairwiseMRF"),
        ({"space": 2, "weight": torch.ones(2, 2)}, "zero diagonal"),
        ({"space": 2, "weight": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}, "symmetric"),
        ({"space": 2, "weight": torch.zeros(3, 3)}, r"\[2, 2\]"),
        ({"space": 2, "weight": torch.full((2, 2), float("nan"))}, "finite"),
        ({"space": 2, "bias": torch.zeros(3)}, "bias must be 2"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(en.InputError, match=message):
        en.BoltzmannMachine(**arguments)


EDGES = torch.tensor([[0, 1], [2, 1], [2, 0], [3, 2]])


def _mrf():
    return en.PairwiseMRF(
        (5, 1), EDGES, num_categories=3, site_tables=_random(5, 3), edge_tables=_random(4, 3, 3, seed=1)
    )


def test_mrf_energy_blocks_and_tables():
    mrf = _mrf()
    testing.check_energy(mrf)
    pairwise = mrf.capability(Pairwise)
    assert pairwise is not None
    states = _states(mrf.space)
    index = states.view(len(states), 5, 3).argmax(2)
    total = pairwise.site_log_potentials()[torch.arange(5), index].sum(1)
    for (i, j), table in zip(EDGES.tolist(), pairwise.edge_log_potentials(), strict=True):
        total = total + table[index[:, i], index[:, j]]
    torch.testing.assert_close(mrf(states), -total, rtol=1e-12, atol=1e-12)


def test_mrf_without_edges_and_with_the_tables_of_potts():
    alone = en.PairwiseMRF(2, [], num_categories=3, site_tables=_random(2, 3))
    testing.check_energy(alone)
    coupling, fields = _random(4), _random(5, 3)
    potts = en.Potts(5, EDGES, num_categories=3, couplings=coupling, fields=fields)
    same = en.PairwiseMRF(
        5, EDGES, num_categories=3, site_tables=fields, edge_tables=potts.edge_log_potentials().detach()
    )
    states = _states(potts.space)
    torch.testing.assert_close(potts(states), same(states), rtol=1e-12, atol=1e-12)
    assert potts.num_blocks == same.num_blocks


def test_gibbs_samples_the_mrf():
    testing.check_sampler(en.Gibbs(), en.Enumerated(_mrf()), num_chains=2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site_tables": torch.zeros(2, 2)}, r"site_tables must be .* \(2, 3\)"),
        ({"edge_tables": torch.zeros(1, 3, 2)}, r"edge_tables must be .* \(1, 3, 3\)"),
        ({"site_tables": torch.tensor([[0.0, -float("inf"), 0.0]] * 2)}, "not -inf"),
    ],
)
def test_wrong_tables(arguments, message):
    with pytest.raises(en.InputError, match=message):
        en.PairwiseMRF(2, [(0, 1)], num_categories=3, **arguments)
