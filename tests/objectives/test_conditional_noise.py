"""Conditional noise contrast: expectations over all pairs, and score matching where steps are small."""

import numpy as np
import pytest
import torch
from small_truths import TRUTHS, density, moved, random, whole

import energeia as en
from energeia.core.gradient import value_and_gradient

DISCRETE = {
    "bits": TRUTHS["bits"],
    "categorical": TRUTHS["categorical"],
    "spins": lambda: en.Ising(4, [(0, 1), (1, 2), (2, 0), (3, 2)], couplings=random(4), fields=random(4, seed=1)),
}


def _kernel(space, states, num_flips):
    """Chances of y given x: of those that differ at 1, 2, ... sites, all alike."""
    differ = (states[:, None] != states).flatten(2)
    if isinstance(space, en.Categorical):
        number = differ.view(*differ.shape[:2], -1, space.num_categories).any(3).sum(2)
    else:
        number = differ.sum(2)
    kernel = torch.zeros(number.shape, dtype=torch.float64)
    for flips in range(1, num_flips + 1):
        chosen = number == flips
        kernel[chosen] = 1 / num_flips / chosen.sum(1)[0]
    torch.testing.assert_close(kernel.sum(1), torch.ones(len(states)).double())
    return kernel


def _gradient(value, energy):
    return torch.autograd.grad(value, list(energy.parameters()))


@pytest.mark.parametrize("num_flips", [1, 2])
@pytest.mark.parametrize("name", DISCRETE)
def test_the_expected_gradient_on_discrete_spaces(name, num_flips):
    energy = DISCRETE[name]()
    states, log_weight = whole(energy.space)
    p, kernel = density(energy, states, log_weight), _kernel(energy.space, states, num_flips)
    objective = en.ConditionalNCE(num_flips=num_flips)

    def expected():
        level = energy(states)
        return (p[:, None] * kernel * objective.terms(level - level[:, None])).sum()

    for found in _gradient(expected(), energy):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    moved(energy)
    away = _gradient(expected(), energy)
    assert min(float(found.abs().max()) for found in away) > 1e-3
    # As published: log(1 + phi(y) / phi(x)), twice.
    phi = (-energy(states)).exp()
    torch.testing.assert_close(expected(), 2 * (p[:, None] * kernel * (1 + phi / phi[:, None]).log()).sum())
    # What forward draws is that expectation.
    rows = torch.multinomial(p, 40_000, replacement=True, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        level = energy(states)
        terms = objective.terms(level - level[:, None])
        loss = objective(energy, en.Batch(states[rows]), torch.Generator().manual_seed(1)).value
        variance = (p[:, None] * kernel * terms.square()).sum() - expected() ** 2
    assert abs(loss - expected()) < 5 * (variance / 40_000).sqrt()


def _hermite(num_nodes=40):
    node, weight = np.polynomial.hermite_e.hermegauss(num_nodes)
    weight = torch.tensor(weight.tolist(), dtype=torch.float64)
    return torch.tensor(node.tolist(), dtype=torch.float64), weight / weight.sum()


def _expected(objective, energy, p, x):
    """Over the nodes x of p, and over steps of one dimension by quadrature."""
    step, weight = _hermite()
    near = p > 1e-30
    x, p = x[near], p[near]
    y = (x + objective.scale * step).unsqueeze(2)
    rise = energy(y.flatten(0, 1)).view(len(x), len(step)) - energy(x)[:, None]
    return (p[:, None] * weight * objective.terms(rise)).sum()


@pytest.mark.parametrize("name", ["exponential family", "mixture"])
def test_the_expected_gradient_on_a_line(name):
    energy = TRUTHS[name]()
    x, log_weight = whole(energy.space)
    p = density(energy, x, log_weight)
    objective = en.ConditionalNCE(scale=0.8)
    for found in _gradient(_expected(objective, energy, p, x), energy):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-6)
    moved(energy)
    assert min(float(found.abs().max()) for found in _gradient(_expected(objective, energy, p, x), energy)) > 1e-3


@pytest.mark.parametrize("name", ["exponential family", "mixture"])
def test_small_steps_are_score_matching(name):
    energy = TRUTHS[name]()
    x, log_weight = whole(energy.space)
    p = density(energy, x, log_weight)
    moved(energy)
    near = p > 1e-30
    # Hyvarinen's loss with E'' = d/dx E', on a line.
    point = x[near].requires_grad_()
    slope = value_and_gradient(energy, point, create_graph=True)[1]
    curvature = torch.autograd.grad(slope.sum(), point, create_graph=True)[0]
    matching = _gradient((p[near] * (slope.square() / 2 - curvature)[:, 0]).sum(), energy)
    errors = []
    for scale in (0.02, 0.01):
        found = _gradient(_expected(en.ConditionalNCE(scale=scale), energy, p, x) * 2 / scale**2, energy)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, matching, strict=True)))
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_forward_draws_steps_of_that_scale():
    energy = TRUTHS["gaussian"]()
    x = random(50_000, 2)
    objective = en.ConditionalNCE(scale=0.7, ratio=2)
    y = objective.disturbed(energy.space, x, torch.Generator().manual_seed(1))
    step = (y - x) / 0.7
    assert step.mean(0).abs().max() < 5 / 50_000**0.5
    assert (step.T @ step / len(step) - torch.eye(2)).abs().max() < 5 * (2 / 50_000) ** 0.5
    loss = objective(energy, en.Batch(x), torch.Generator().manual_seed(2))
    twice = objective.disturbed(energy.space, x.repeat(2, 1), torch.Generator().manual_seed(2))
    torch.testing.assert_close(loss.value, objective.terms(energy(twice) - energy(x).repeat(2)).mean())


def test_steps_in_a_box_are_folded_and_stay_symmetric():
    space = en.Box(1, low=-1.0, high=0.5)
    objective = en.ConditionalNCE(scale=0.9)
    start = space.start(400_000, torch.Generator().manual_seed(0), dtype=torch.float64)
    y = objective.disturbed(space, start, torch.Generator().manual_seed(1))
    space.check(y)
    # Symmetric and from the uniform: as often from a to b as from b to a.
    first, last = start[:, 0] < -0.6, start[:, 0] > 0.2
    there, back = (first & (y[:, 0] > 0.2)).sum(), (last & (y[:, 0] < -0.6)).sum()
    assert min(there, back) > 1000
    assert abs(there - back) < 5 * (there + back).sqrt()


def test_wrong_arguments():
    with pytest.raises(en.InputError, match="scale"):
        en.ConditionalNCE(scale=0.0)
    with pytest.raises(en.InputError, match="only 3 sites"):
        en.ConditionalNCE(num_flips=4)(TRUTHS["bits"](), en.Batch(torch.ones(2, 3).double()), torch.Generator())
    positive = en.from_module(lambda x: x.sum(1), en.Positive(2))
    with pytest.raises(en.CapabilityError, match="unconstrained"):
        en.ConditionalNCE()(positive, en.Batch(torch.ones(2, 2)), torch.Generator())
