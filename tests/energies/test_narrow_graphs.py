"""log Z, likelihoods and E(x) on graphs with cycles that are narrow: against all answers."""

import math

import pytest
import torch

import energeia as en
from energeia.energies.elimination import best_order, log_sum_of_rows
from energeia.search import all_energies

GRAPHS = {
    "ring": (5, [(0, 1), (2, 1), (2, 3), (3, 4), (4, 0)]),
    "two rings and a site": (7, [(0, 1), (1, 2), (2, 0), (4, 3), (4, 5), (3, 5)]),
    "complete": (4, [(0, 1), (0, 2), (3, 0), (1, 2), (3, 1), (2, 3)]),
}


def _listed(sites, tables, edges):
    """Scores of all labellings `[B, S]`, and the labellings."""
    number, size = sites.shape[1:]
    labels = torch.cartesian_prod(*[torch.arange(size)] * number)
    score = sites[:, torch.arange(number), labels].sum(2)
    for edge, (first, second) in enumerate(edges):
        score = score + tables[:, edge][:, labels[:, first], labels[:, second]]
    return score, labels


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_log_sum_and_its_gradient(name, shared):
    number, edges = GRAPHS[name]
    generator = torch.Generator().manual_seed(5)
    sites = torch.randn(3, number, 3, generator=generator, dtype=torch.float64)
    tables = torch.randn(1 if shared else 3, len(edges), 3, 3, generator=generator, dtype=torch.float64)
    sites[1, 2, 0] = -math.inf
    tables[0, 1, 2, 1] = -math.inf
    sites.requires_grad_(), tables.requires_grad_()
    found = log_sum_of_rows(sites, tables, torch.tensor(edges), best_order(number, edges, 3))
    score, _ = _listed(sites, tables.expand(3, -1, -1, -1), edges)
    expected = score.masked_fill(score.isneginf(), -1e9).logsumexp(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    ours = torch.autograd.grad((weight * found).sum(), (sites, tables))
    theirs = torch.autograd.grad((weight * expected).sum(), (sites, tables))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def _grid(height, width, present=None):
    torch.manual_seed(7)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, height * width * 2, dtype=torch.float64), torch.nn.Unflatten(1, (height, width, 2))
    )
    edges, kinds = en.lattice(height, width)
    crf = en.PairwiseCRF(
        network, en.Real(3), 2, sites=(height, width), edges=edges, kinds=kinds, joint="potts", present=present
    )
    crf.couplings.data.copy_(torch.tensor([0.8, -0.4]))
    return crf, torch.randn(3, 3, dtype=torch.float64)


def _holes(x):
    there = torch.ones(len(x), 3, 3, dtype=torch.bool)
    there[0, 1, 1] = there[2, 0, 0] = there[2, 2, 1] = False
    return there


@pytest.mark.parametrize("present", [None, _holes])
def test_the_likelihood_of_a_grid(present):
    crf, x = _grid(3, 3, present)
    field = en.given(crf, context=x)
    y = torch.randint(0, 2, (3, 3, 3), generator=torch.Generator().manual_seed(0))
    loss = en.ConditionalLikelihood()(crf, en.Batch(x, y), torch.Generator())
    states = field.space.enumerate(0, 2**9, dtype=torch.float64, device=torch.device("cpu"))
    # Labels of sites that are not there make no other answer: of those states one alone has a finite energy.
    log_z = (-all_energies(field, states)).logsumexp(1)
    there = torch.ones(3, 3, 3, 1) if present is None else present(x).unsqueeze(-1)
    right = field(torch.nn.functional.one_hot(y, 2).double() * there)
    expected = (right + log_z).mean()
    torch.testing.assert_close(loss.value, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(-crf(x), log_z, rtol=0, atol=1e-11)
    for one, other in zip(
        torch.autograd.grad(loss.value, list(crf.parameters())),
        torch.autograd.grad(expected, list(crf.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_an_ising_strip_has_onsagers_number():
    """Potts labels without fields are spins: log Z of 4 x 4 with open sides, and J = 2 K."""
    crf, x = _grid(4, 4)
    for parameter in crf.network.parameters():
        parameter.data.zero_()
    crf.couplings.data.fill_(0.8)
    lattice = en.IsingLattice((4, 4), coupling=torch.tensor(0.4, dtype=torch.float64), periodic=False)
    expected = en.variable_elimination(lattice).value + 24 * 0.4
    torch.testing.assert_close(-crf(x), expected.expand(3), rtol=0, atol=1e-10)


def test_a_wide_grid_is_told():
    crf, x = _grid(22, 22)
    with pytest.raises(en.InputError, match="too wide to sum out"):
        crf(x)
    y = torch.zeros(3, 22, 22, dtype=torch.int64)
    with pytest.raises(en.CapabilityError, match="PseudoLikelihood"):
        en.ConditionalLikelihood()(crf, en.Batch(x, y), torch.Generator())


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_another_temperature_of_a_long_chain(beta):
    """All its answers could not be listed; a chain with all potentials beta times as large says the same."""
    torch.manual_seed(1)
    chain = en.LinearChain(torch.nn.Linear(2, 4, dtype=torch.float64), en.Real((30, 2)), 4)
    for parameter in (chain.transitions, chain.start, chain.end):
        torch.nn.init.normal_(parameter)
    x, y = torch.randn(3, 30, 2, dtype=torch.float64), torch.randint(0, 4, (3, 30))
    loss = en.ConditionalLikelihood(beta=beta)(chain, en.Batch(x, y), torch.Generator()).value
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.mul_(beta)
    hot = en.ConditionalLikelihood()(chain, en.Batch(x, y), torch.Generator()).value
    torch.testing.assert_close(loss, hot / beta, rtol=1e-12, atol=0)
