"""Scores of every site given all others: pseudo-likelihood, ratio matching, minimum probability flow."""

import functools
import math

import pytest
import torch

import energeia as en
from energeia.core.nodes import integration_nodes

SCORES = [en.PseudoLikelihood, en.RatioMatching, en.MinimumProbabilityFlow]


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _symmetric(size):
    weight = _random(size, size)
    return (weight + weight.T).fill_diagonal_(0.0) / 3


def _rbm():
    torch.manual_seed(1)
    rbm = en.RBM(4, 3, weight_scale=1.0, centred=False).double()
    with torch.no_grad():
        rbm.bias += torch.linspace(-1, 1, 4)
        rbm.hidden_bias += torch.linspace(-0.5, 1, 3)
    return rbm


EDGES = [(0, 1), (1, 2), (2, 0), (3, 2)]
MODELS = {
    "bits": lambda: en.BoltzmannMachine(5, weight=_symmetric(5), bias=_random(5, seed=1)),
    "spins": lambda: en.BoltzmannMachine(en.Spin((2, 2)), weight=_symmetric(4), bias=_random(4, seed=1)),
    "ising": lambda: en.Ising(4, EDGES, couplings=_random(4), fields=_random(4, seed=1)),
    "mrf": lambda: en.PairwiseMRF(
        (2, 2), EDGES, num_categories=3, site_tables=_random(4, 3), edge_tables=_random(4, 3, 3, seed=1)
    ),
    "rbm": _rbm,
}


class Weighted(en.Energy):
    """Hides every capability: what is left is E(x)."""

    def __init__(self, energy):
        super().__init__(energy.space)
        self.energy = energy

    def forward(self, x):
        return self.energy(x)


def _changed(space, x):
    """For every site, the list of x `[*event]` with another state there."""
    if isinstance(space, en.Categorical):
        flat = x.reshape(-1, space.num_categories)
        for site in range(len(flat)):
            others = []
            for category in range(space.num_categories):
                if flat[site, category] == 0:
                    other = flat.clone()
                    other[site] = 0.0
                    other[site, category] = 1.0
                    others.append(other.view_as(x))
            yield others
        return
    for site in range(x.numel()):
        other = x.clone().flatten()
        other[site] = -other[site] if isinstance(space, en.Spin) else 1 - other[site]
        yield [other.view_as(x)]


def _by_hand(objective, energy, x):
    """The published formula for one row, from energies alone."""
    total = torch.zeros((), dtype=torch.float64)
    here = energy(x.unsqueeze(0))[0]
    for others in _changed(energy.space, x):
        energies = energy(torch.stack(others))
        chances = torch.cat([-here.view(1), -energies]).softmax(0)
        if isinstance(objective, en.PseudoLikelihood):
            total = total - chances[0].log()
        elif isinstance(objective, en.RatioMatching):
            total = total + ((1 - chances[0]) ** 2 + (chances[1:] ** 2).sum()) / 2
        else:
            total = total + ((here - energies) / 2).exp().sum()
    return total


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("score", SCORES)
def test_value_and_gradient_are_those_of_the_formula(score, name, hidden):
    energy = MODELS[name]()
    states, _ = integration_nodes(energy.space)
    rows = states[[0, 1, 6, 6, len(states) - 3]]
    loss = score()(Weighted(energy) if hidden else energy, en.Batch(rows), torch.Generator())
    expected = sum(_by_hand(score(), energy, row) for row in rows) / len(rows)
    torch.testing.assert_close(loss.value, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(loss.value, list(energy.parameters()))
    wanted = torch.autograd.grad(expected, list(energy.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def _expected_gradient(objective, energy, probabilities, states):
    """Of the loss under a distribution over all states."""
    losses = [objective(energy, en.Batch(state.unsqueeze(0)), torch.Generator()).value for state in states]
    total = (probabilities * torch.stack(losses)).sum()
    return torch.autograd.grad(total, list(energy.parameters()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("score", SCORES)
def test_the_expected_gradient_is_zero_at_the_truth_alone(score, name):
    energy = MODELS[name]()
    states, _ = integration_nodes(energy.space)
    truth = (-energy(states)).softmax(0).detach()
    for gradient in _expected_gradient(score(), energy, truth, states):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter *= 0.8
    away = _expected_gradient(score(), energy, truth, states)
    assert max(float(gradient.abs().max()) for gradient in away) > 1e-3


def test_probability_flow_is_how_fast_the_data_are_left():
    """d/dt of KL(data || data moved by the master equation for a time t), at 0, for rows without neighbours."""
    energy = MODELS["bits"]()
    states, _ = integration_nodes(energy.space)
    level = energy(states).detach()
    neighbours = (states.unsqueeze(1) - states).abs().sum(2) == 1
    # Column x: rates from x to x'; probability is kept.
    rates = torch.where(neighbours, ((level.unsqueeze(0) - level.unsqueeze(1)) / 2).exp(), 0.0)
    rates = rates - torch.diag(rates.sum(0))
    torch.testing.assert_close(rates @ (-level).softmax(0), torch.zeros(32, dtype=torch.float64))
    data = torch.zeros(32, dtype=torch.float64)
    data[[0, 3, 31]] = 1 / 3
    time = 1e-6
    moved = torch.linalg.matrix_exp(rates * time) @ data
    kept = data > 0
    divergence = (data[kept] * (data[kept] / moved[kept]).log()).sum()
    loss = en.MinimumProbabilityFlow()(energy, en.Batch(states[[0, 3, 31]]), torch.Generator())
    assert loss.value.item() == pytest.approx(float(divergence) / time, rel=1e-4)


def test_pseudo_likelihood_is_the_gradient_of_cd_1_with_random_sites():
    """N times the expected change of E in one update of a random site is the gradient of both."""
    energy = MODELS["ising"]()
    states, _ = integration_nodes(energy.space)
    row = states[5:6]
    wanted = torch.autograd.grad(
        en.PseudoLikelihood()(energy, en.Batch(row), torch.Generator()).value, list(energy.parameters())
    )
    total = torch.zeros((), dtype=torch.float64)
    for (other,) in _changed(energy.space, row[0]):
        chance = torch.stack([-energy(row)[0], -energy(other.unsqueeze(0))[0]]).softmax(0)[1].detach()
        total = total + chance * (energy(row)[0] - energy(other.unsqueeze(0))[0])
    for one, other in zip(torch.autograd.grad(total, list(energy.parameters())), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["bits", "mrf", "rbm"])
@pytest.mark.parametrize("score", SCORES)
def test_some_sites_are_all_sites_on_average(score, name):
    energy = MODELS[name]()
    states, _ = integration_nodes(energy.space)
    batch = en.Batch(states[[1, 4, 11]])
    whole = score()(energy, batch, torch.Generator()).value
    total_sites = 5 if name == "bits" else 4
    generator = torch.Generator().manual_seed(0)
    values = [score(num_sites=1)(energy, batch, generator).value.detach() for _ in range(60)]
    different = sorted({round(float(value), 9) for value in values})
    assert len(different) == total_sites
    assert sum(different) / total_sites == pytest.approx(float(whole.detach()), rel=1e-8)
    together = score(num_sites=total_sites)(energy, batch, generator).value
    torch.testing.assert_close(together, whole, rtol=1e-12, atol=1e-12)


def test_far_odds_stay_exact():
    energy = en.Independent(en.Binary(2), torch.tensor([40.0, -60.0], dtype=torch.float64))
    batch = en.Batch(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    value = en.PseudoLikelihood()(energy, batch, torch.Generator()).value
    assert value.item() == pytest.approx((40 + 60 + 2 * math.exp(-40) + 2 * math.exp(-60)) / 2, rel=1e-14)
    likely = en.Batch(batch.x[:1])
    assert en.PseudoLikelihood()(energy, likely, torch.Generator()).value.item() == pytest.approx(
        math.exp(-40) + math.exp(-60), rel=1e-12
    )


def test_wrong_arguments():
    with pytest.raises(en.CapabilityError, match="PseudoLikelihood changes x one site at a time"):
        en.PseudoLikelihood()(en.Gaussian(2), en.Batch(torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(en.InputError, match="only 5 sites"):
        en.RatioMatching(num_sites=6)(MODELS["bits"](), en.Batch(torch.zeros(1, 5).double()), torch.Generator())
    with pytest.raises(en.InputError, match="num_sites"):
        en.MinimumProbabilityFlow(num_sites=0)


@pytest.mark.parametrize("score", SCORES)
def test_couplings_are_recovered_with_fit(score):
    energy = en.Ising(4, EDGES, couplings=_random(4) / 3, fields=_random(4, seed=1) / 3)
    states, _ = integration_nodes(energy.space)
    counts = (10_000 * (-energy(states)).softmax(0)).round().long()
    data = states.repeat_interleave(counts, 0)
    model = en.Ising(4, EDGES, couplings=torch.zeros(4).double(), fields=torch.zeros(4).double())
    adam = functools.partial(torch.optim.Adam, lr=0.05)
    en.fit(model, score(), data, num_steps=150, batch_size=len(data), optimizer=adam)
    for found, truth in zip(model.parameters(), energy.parameters(), strict=True):
        torch.testing.assert_close(found, truth, rtol=0, atol=5e-3)
