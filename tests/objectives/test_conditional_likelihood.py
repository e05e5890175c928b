"""log Z(x) of answers by enumeration and against closed forms."""

import math

import pytest
import torch
from answered import LISTED, assert_same, loss_of, waves
from small_truths import parameter, random
from torch import nn

import energeia as en


def by_enumeration(case, beta):
    """-log p(y | x) / beta of every row, with the sum over answers written out."""
    table = case.table()
    right = table.gather(1, case.right().unsqueeze(1))[:, 0]
    return right + torch.exp(-beta * table).sum(1).log() / beta


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("beta", [1.0, 0.3, 2.5])
def test_likelihood_by_enumeration(name, beta):
    case = LISTED[name]()
    loss = loss_of(en.ConditionalLikelihood(beta=beta), case.energy, case.batch())
    assert_same(loss.value, by_enumeration(case, beta).mean(), case.energy)
    torch.testing.assert_close(
        loss.metrics["log_z"], torch.exp(-beta * case.table()).sum(1).log().mean().detach(), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("beta", [1.0, 0.3, 2.5])
def test_empirical_error_by_enumeration(name, beta):
    case = LISTED[name]()
    loss = loss_of(en.MinimumEmpiricalError(beta=beta), case.energy, case.batch())
    table = case.table()
    chances = torch.exp(-beta * table) / torch.exp(-beta * table).sum(1, keepdim=True)
    expected = (1 - chances.gather(1, case.right().unsqueeze(1))).mean()
    assert_same(loss.value, expected, case.energy)


def test_limits_of_beta():
    """A large beta: the perceptron, and the share of wrong best answers."""
    case = LISTED["classes"]()
    table, right = case.table(), case.right()
    perceptron = (table.gather(1, right.unsqueeze(1))[:, 0] - table.min(1).values).mean()
    loss = loss_of(en.ConditionalLikelihood(beta=2000.0), case.energy, case.batch())
    assert_same(loss.value, perceptron, case.energy, tolerance=1e-6)
    wrong = (table.argmin(1) != right).double().mean()
    torch.testing.assert_close(
        loss_of(en.MinimumEmpiricalError(beta=2000.0), case.energy, case.batch()).value, wrong, rtol=0, atol=1e-10
    )
    assert 0 < wrong < 1


def test_cross_entropy_of_a_classifier():
    case = LISTED["classes"]()
    logits = case.energy.network(case.x)
    loss = loss_of(en.ConditionalLikelihood(), case.energy, case.batch())
    assert_same(loss.value, torch.nn.functional.cross_entropy(logits, case.y), case.energy)


# Real answers.


class Normal(nn.Module):
    """E(x, y) = (y - w x - b)^2 / (2 s^2), s = exp(c): p(y | x) is normal."""

    def __init__(self):
        super().__init__()
        self.theta = parameter(0.7, -0.3, -0.5)

    def forward(self, x, y):
        w, b, c = self.theta
        return (y - w * x - b).square().sum(1) / (2 * torch.exp(2 * c))


@pytest.mark.parametrize("beta", [1.0, 0.4, 3.0])
def test_quadrature_of_a_normal_against_its_closed_form(beta):
    function = Normal()
    energy = en.from_pair(function, en.Real(1), en.Real(1))
    x, y = random(7, 1, seed=3), random(7, 1, seed=4)
    w, b, c = function.theta
    level = (y - w * x - b).square()[:, 0] / (2 * torch.exp(2 * c))
    log_z = c + 0.5 * math.log(2 * math.pi / beta)
    loss = loss_of(en.ConditionalLikelihood(beta=beta), energy, en.Batch(x, y))
    assert_same(loss.value, (level + log_z / beta).mean(), energy)
    loss = loss_of(en.MinimumEmpiricalError(beta=beta), energy, en.Batch(x, y))
    assert_same(loss.value, (1 - torch.exp(-beta * level - log_z)).mean(), energy)
    # By hand: the mean of dE/dw is that of -(y - w x - b) x / s^2, and log Z does not depend on w and b.
    slope = -((y - w * x - b) * x).mean() * torch.exp(-2 * c)
    torch.testing.assert_close(
        torch.autograd.grad(loss_of(en.ConditionalLikelihood(beta=beta), energy, en.Batch(x, y)).value, function.theta)[
            0
        ][0],
        slope.detach(),
        rtol=1e-9,
        atol=1e-9,
    )


def test_quadrature_of_a_box_against_the_error_function():
    function = Normal()
    energy = en.from_pair(function, en.Real(1), en.Box(1, low=-1.0, high=0.5))
    x, y = random(7, 1, seed=3), random(7, 1, seed=4).clamp(-1, 0.5)
    w, b, c = function.theta
    mean, scale = w * x + b, torch.exp(c)
    mass = torch.special.ndtr((0.5 - mean) / scale) - torch.special.ndtr((-1 - mean) / scale)
    log_z = (mass * scale * math.sqrt(2 * math.pi)).log()
    expected = ((y - mean).square() / (2 * scale**2) + log_z).mean()
    assert_same(loss_of(en.ConditionalLikelihood(), energy, en.Batch(x, y)).value, expected, energy)


def test_two_real_dimensions():
    function = Normal()
    energy = en.from_pair(function, en.Real(2), en.Real(2))
    x, y = random(3, 2, seed=3), random(3, 2, seed=4)
    w, b, c = function.theta
    level = (y - w * x - b).square().sum(1) / (2 * torch.exp(2 * c))
    loss = loss_of(en.ConditionalLikelihood(num_nodes=120), energy, en.Batch(x, y))
    assert_same(loss.value, (level + 2 * c + math.log(2 * math.pi)).mean(), energy)


def test_several_minima_against_a_fine_trapezium():
    energy, function, x, y = waves()
    line = torch.linspace(-3, 3, 40_001, dtype=torch.float64).unsqueeze(1)
    weight = torch.full((40_001,), 6 / 40_000, dtype=torch.float64)
    weight[[0, -1]] /= 2
    levels = torch.stack([function(row.expand(40_001, 1), line) for row in x])
    expected = (function(x, y) + (torch.exp(-levels) * weight).sum(1).log()).mean()
    assert_same(loss_of(en.ConditionalLikelihood(), energy, en.Batch(x, y)).value, expected, energy, tolerance=1e-8)


def test_bits_by_listing():
    theta = parameter(0.7, -0.4)

    class Bits(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = theta

        def forward(self, x, y):
            return -(y * (x * self.theta)).sum(1) + 1.1 * y[:, 0] * y[:, 1]

    energy = en.from_pair(Bits(), en.Real(2), en.Binary(2))
    x, y = random(4, 2, seed=3), torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]])
    total = 0.0
    for row, right in zip(x, y.tolist(), strict=True):
        levels = {
            (a, b): -(a * row[0] * theta[0] + b * row[1] * theta[1]) + 1.1 * a * b for a in (0, 1) for b in (0, 1)
        }
        total = total + levels[tuple(right)] + sum(torch.exp(-level) for level in levels.values()).log()
    assert_same(loss_of(en.ConditionalLikelihood(), energy, en.Batch(x, y)).value, total / 4, energy)


# What cannot be had.


@pytest.mark.parametrize("objective", [en.ConditionalLikelihood, en.MinimumEmpiricalError])
def test_what_cannot_be_summed_is_told_with_what_to_do(objective):
    who = objective.__name__
    far = en.from_pair(lambda x, y: (y - x).square().sum(1), en.Real(4), en.Real(4))
    with pytest.raises(en.CapabilityError, match=f"{who}: log Z.x. over answers on Real.*en.ConditionalRanking"):
        loss_of(objective(), far, en.Batch(random(2, 4), random(2, 4)))
    bits = en.from_pair(lambda x, y: (y - x).square().sum(1), en.Real(20), en.Binary(20))
    with pytest.raises(en.CapabilityError, match=f"{who}: .*Binary.*ContrastiveDivergence"):
        loss_of(objective(), bits, en.Batch(random(2, 20), torch.zeros(2, 20)))


@pytest.mark.parametrize("objective", [en.ConditionalLikelihood, en.MinimumEmpiricalError])
def test_bad_settings_are_told(objective):
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(en.InputError, match=f"{objective.__name__}: beta must be a positive finite number"):
            objective(beta=beta)
    with pytest.raises(en.InputError, match=f"{objective.__name__}: num_nodes must be an integer"):
        objective(num_nodes=0)
