"""Energy discrepancy: exact on small discrete spaces, by quadrature on the line, and both of its limits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.objectives.discrepancy import contrast_terms


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _symmetric(size):
    weight = _random(size, size)
    return (weight + weight.T).fill_diagonal_(0.0) / 2


SPACES = {
    "bits": (lambda: en.BoltzmannMachine(3, weight=_symmetric(3), bias=_random(3, seed=1)), 0.3, "uniform"),
    "spins": (lambda: en.BoltzmannMachine(en.Spin(3), weight=_symmetric(3), bias=_random(3, seed=1)), 0.15, "uniform"),
    "categories": (
        lambda: en.PairwiseMRF(
            2, [(0, 1)], num_categories=4, site_tables=_random(2, 4), edge_tables=_random(1, 4, 4, seed=1)
        ),
        0.6,
        "uniform",
    ),
    "ring": (
        lambda: en.PairwiseMRF(
            2, [(0, 1)], num_categories=4, site_tables=_random(2, 4), edge_tables=_random(1, 4, 4, seed=1)
        ),
        0.8,
        "ring",
    ),
}


def _kernel(space, noise, moves):
    """q(y|x) for all states, from that of one site."""
    number = space.num_categories if isinstance(space, en.Categorical) else 2
    one = torch.zeros(number, number, dtype=torch.float64)
    for state in range(number):
        one[state, state] += 1 - noise
        others = [k for k in range(number) if k != state] if moves == "uniform" else [state - 1, (state + 1) % number]
        for other in others:
            one[state, other] += noise / len(others)
    whole = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(space.num_dims // (number if isinstance(space, en.Categorical) else 1)):
        # The first site is the least digit of a state's number.
        whole = torch.kron(one, whole)
    return whole


def _expected(energy, data, kernel, num_samples, stabilisation):
    """The loss on average over rows, noise and points: sums over all of them."""
    states, _ = integration_nodes(energy.space)
    level = energy(states)
    total = torch.zeros((), dtype=torch.float64)
    picks = torch.cartesian_prod(*[torch.arange(len(states))] * num_samples).view(-1, num_samples)
    for between in range(len(states)):
        chance = kernel[between][picks].prod(1)
        for row in range(len(states)):
            terms = contrast_terms(level[row] - level[picks], stabilisation)
            total = total + data[row] * kernel[row, between] * (chance @ terms)
    return total


def _population(energy, data, kernel):
    """As many points as there are, weighed: what the loss tends to as M grows."""
    states, _ = integration_nodes(energy.space)
    level = energy(states)
    total = torch.zeros((), dtype=torch.float64)
    for between in range(len(states)):
        rise = level.unsqueeze(1) - level
        terms = contrast_terms(rise, 0.0, kernel[between].log())
        total = total + (data * kernel[:, between]) @ terms
    return total


def _moved(energy, by=0.7):
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(by)
    return energy


def _gradients(value, energy):
    return torch.autograd.grad(value, list(energy.parameters()))


@pytest.mark.parametrize("name", SPACES)
def test_limit_of_many_points_is_a_difference_of_divergences(name):
    """KL(q || p) - KL(Pq || Pp), value and gradient; zero with its gradient at the truth."""
    make, noise, moves = SPACES[name]
    truth = make()
    kernel = _kernel(truth.space, noise, moves)
    torch.testing.assert_close(kernel, kernel.T)
    states, _ = integration_nodes(truth.space)
    data = (-truth(states)).softmax(0).detach()
    entropy, after = -(data * data.log()).sum(), kernel @ data
    for model in (truth, _moved(make())):
        found = _population(model, data, kernel) - entropy - (after * after.log()).sum()
        p = (-model(states)).softmax(0)
        wanted = (data * (data / p).log()).sum() - (after * (after / (kernel @ p)).log()).sum()
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        one, other = _gradients(found, model), _gradients(wanted, model)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        size = max(float(part.abs().max()) for part in one)
        assert size < 1e-12 if model is truth else size > 1e-3


@pytest.mark.parametrize(("name", "num_samples"), [("bits", 2), *((name, 1) for name in SPACES)])
def test_gradient_is_zero_at_the_truth_for_few_points_with_w_of_one_alone(name, num_samples):
    make, noise, moves = SPACES[name]
    truth = make()
    kernel = _kernel(truth.space, noise, moves)
    states, _ = integration_nodes(truth.space)
    data = (-truth(states)).softmax(0).detach()
    for gradient in _gradients(_expected(truth, data, kernel, num_samples, 1.0), truth):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    other = _gradients(_expected(truth, data, kernel, num_samples, 0.25), truth)
    assert max(float(part.abs().max()) for part in other) > 1e-3
    away = _moved(make())
    assert max(float(p.abs().max()) for p in _gradients(_expected(away, data, kernel, num_samples, 1.0), away)) > 1e-3


@pytest.mark.parametrize("name", SPACES)
def test_noise_moves_states_as_its_kernel_says(name):
    make, noise, moves = SPACES[name]
    space = make().space
    kernel, objective = _kernel(space, noise, moves), en.EnergyDiscrepancy(noise, moves=moves)
    states, _ = integration_nodes(space)
    number, copies = len(states), 20_000
    rows = states.repeat_interleave(copies, 0)
    moved = objective.perturb(space, rows, torch.Generator().manual_seed(0))
    space.check(moved)
    where = (moved.flatten(1) @ _random(moved[0].numel())).unsqueeze(1) - states.flatten(1) @ _random(moved[0].numel())
    place = where.abs().argmin(1)
    counts = torch.zeros(number, number, dtype=torch.float64)
    counts.index_put_((torch.arange(number).repeat_interleave(copies), place), _tensor(1.0)[0], accumulate=True)
    error = (kernel * (1 - kernel) / copies).sqrt()
    assert bool(((counts / copies - kernel).abs() <= 5 * error + 1e-12).all())


@pytest.mark.parametrize(("name", "num_samples"), [("bits", 2), ("spins", 1), ("categories", 1), ("ring", 1)])
def test_loss_and_gradient_average_to_their_expectation(name, num_samples):
    """The whole objective, over many draws, against the sums; 5 standard errors."""
    make, noise, moves = SPACES[name]
    model = _moved(make())
    states, _ = integration_nodes(model.space)
    kernel = _kernel(model.space, noise, moves)
    data = _tensor(*torch.arange(1.0, len(states) + 1)) / sum(range(1, len(states) + 1))
    wanted = _expected(model, data, kernel, num_samples, 1.0)
    parameters = list(model.parameters())
    wanted = torch.cat([wanted.detach().view(1), *(part.flatten() for part in torch.autograd.grad(wanted, parameters))])
    objective = en.EnergyDiscrepancy(noise, num_samples=num_samples, moves=moves)
    generator = torch.Generator().manual_seed(0)
    rows = states.repeat_interleave((data * 136 * 50).round().long(), 0)
    found = []
    for _ in range(60):
        value = objective(model, en.Batch(rows), generator).value
        gradients = torch.autograd.grad(value, parameters)
        found.append(torch.cat([value.detach().view(1), *(part.flatten() for part in gradients)]))
    found = torch.stack(found)
    error = found.std(0) / math.sqrt(len(found))
    assert bool(((found.mean(0) - wanted).abs() <= 5 * error + 1e-12).all())
    assert (error / (1 + wanted.abs())).max() < 0.01


def test_noise_that_leaves_nothing_is_maximum_likelihood():
    """Bits that are flipped with probability 1/2: E(x) + log mean exp(-E), whose gradient is the likelihood's."""
    model = SPACES["bits"][0]()
    states, _ = integration_nodes(model.space)
    data = torch.arange(1.0, 9.0).double() / 36
    found = _population(model, data, _kernel(model.space, 0.5, "uniform"))
    wanted = data @ model(states) + (-model(states)).logsumexp(0)
    torch.testing.assert_close(found, wanted - math.log(8), rtol=1e-12, atol=1e-12)


class Line(en.Energy):
    """E(x) = -a x + b x^2 / 2 + c x^4."""

    def __init__(self, a, b, c):
        super().__init__(en.Real(1))
        self.natural = nn.Parameter(_tensor(a, b, c))

    def forward(self, x):
        x = x[:, 0]
        return -self.natural[0] * x + self.natural[1] * x**2 / 2 + self.natural[2] * x**4


class Far(en.Energy):
    """Two Gaussians of sd 1 at -6 and 6; the parameter is the log odds of the first."""

    def __init__(self, log_odds):
        super().__init__(en.Real(1, 6.0))
        self.log_odds = nn.Parameter(_tensor(log_odds)[0])

    def forward(self, x):
        x = x[:, 0]
        return -torch.stack([self.log_odds - (x + 6) ** 2 / 2, -((x - 6) ** 2) / 2]).logsumexp(0)


def _hermite(number):
    """Nodes and probabilities of a standard normal."""
    node, weight = np.polynomial.hermite_e.hermegauss(number)
    return torch.from_numpy(node), torch.from_numpy(weight / weight.sum())


def _on_the_line(model, truth, noise, num_samples, num_nodes=32):
    """The loss for M = 1 or infinity with w = 1 or 0, by quadrature over x, the noise there and the noise back."""
    x, log_weight = integration_nodes(truth.space, 200)
    with torch.no_grad():
        data = (log_weight - truth(x)).softmax(0)
    node, chance = _hermite(num_nodes)
    level = model(x)
    places, log_width = integration_nodes(truth.space, 300)
    if num_samples == 1:
        # The way there and back is one normal of twice the variance.
        if noise < 1:
            near = x + math.sqrt(2) * noise * node
            rise = level.unsqueeze(1) - model(near.reshape(-1, 1)).view_as(near)
            return data @ (contrast_terms(rise.reshape(-1, 1), 1.0).view_as(rise) @ chance)
        density = (log_width - (x - places[:, 0]).square() / (4 * noise**2)).exp() / (2 * noise * math.sqrt(math.pi))
        rise = level.unsqueeze(1) - model(places)
        return data @ (contrast_terms(rise.reshape(-1, 1), 1.0).view_as(rise) * density).sum(1)
    between = x + noise * node  # [X, Y]
    if noise < 1:
        near = between.unsqueeze(2) + noise * node
        rise = level.view(-1, 1, 1) - model(near.reshape(-1, 1)).view_as(near)
        log_shares = chance.log().expand_as(rise)
        return data @ (contrast_terms(rise.flatten(0, 1), 0.0, log_shares.flatten(0, 1)).view_as(between) @ chance)
    # Nodes of the whole line, weighed with the density of the noise there.
    square = (between.unsqueeze(2) - places[:, 0]).square() / (2 * noise**2)
    log_shares = log_width - square - math.log(noise * math.sqrt(2 * math.pi))
    rise = level.view(-1, 1, 1) - model(places)
    terms = contrast_terms(rise.expand_as(square).flatten(0, 1), 0.0, log_shares.flatten(0, 1)).view_as(between)
    return data @ (terms @ chance)


LINES = {"quartic": (Line, (0.7, -1.0, 0.3), (0.4, -0.5, 0.2)), "far": (Far, (0.9,), (0.1,))}


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("name", LINES)
def test_gradient_on_the_line_is_zero_at_the_truth(name, noise):
    make, true, _ = LINES[name]
    truth = make(*true)
    for num_samples in (1, None):
        value = _on_the_line(truth, truth, noise, num_samples, 60)
        (gradient,) = torch.autograd.grad(value, list(truth.parameters()))
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("num_samples", "share"), [(1, 0.5), (None, 1.0)])
def test_little_noise_is_score_matching(num_samples, share):
    """The gradient is M / (M + 1) noise^2 that of E[s^2 / 2 + ds/dx]; what is left falls as noise^2."""
    truth, model = Line(*LINES["quartic"][1]), Line(*LINES["quartic"][2])
    x, log_weight = integration_nodes(truth.space, 200)
    with torch.no_grad():
        data = (log_weight - truth(x)).softmax(0)
    a, b, c = model.natural
    slope, bend = (-a + b * x + 4 * c * x**3)[:, 0], (b + 12 * c * x**2)[:, 0]
    (wanted,) = torch.autograd.grad(data @ (slope**2 / 2 - bend), [model.natural])
    found = []
    for noise in (0.06, 0.03):
        value = _on_the_line(model, truth, noise, num_samples)
        found += torch.autograd.grad(value / (share * noise**2), [model.natural])
    errors = [(one - wanted).norm() / wanted.norm() for one in found]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    # Without the term in noise^2, what is left is of the fourth order.
    assert ((4 * found[1] - found[0]) / 3 - wanted).norm() / wanted.norm() < errors[1] / 5


def test_much_noise_is_maximum_likelihood():
    """The gradient tends to E_data[dE] - E_model[dE]; what is left falls as 1 / noise^2 or faster."""
    for name in LINES:
        make, true, other = LINES[name]
        truth, model = make(*true), make(*other)
        parameters = list(model.parameters())
        x, log_weight = integration_nodes(truth.space, 300)
        with torch.no_grad():
            data = (log_weight - truth(x)).softmax(0)
        (wanted,) = torch.autograd.grad(data @ model(x) + (log_weight - model(x)).logsumexp(0), parameters)
        errors = []
        for noise in (20.0, 40.0):
            (found,) = torch.autograd.grad(_on_the_line(model, truth, noise, None, 60), parameters)
            errors.append(float((found - wanted).norm() / wanted.norm()))
        assert errors[1] < 0.03
        assert errors[1] < errors[0] / 3


def test_modes_that_the_noise_does_not_connect_are_not_weighed():
    """Modes 12 sd apart: noise of .5 has no gradient for their odds, noise of 6 has that of the likelihood nearly."""
    truth, model = Far(0.9), Far(0.1)

    def slope(noise):
        return torch.autograd.grad(_on_the_line(model, truth, noise, None, 60), [model.log_odds])[0].item()

    likelihood = torch.sigmoid(_tensor(0.1)).item() - torch.sigmoid(_tensor(0.9)).item()
    assert abs(slope(0.5)) < 1e-6
    assert 0.3 * likelihood > slope(6.0) > likelihood


def test_terms_are_the_published_formula():
    rise = _random(3, 4)
    for stabilisation in (0.0, 0.3, 1.0):
        wanted = (stabilisation / 4 + rise.exp().mean(1)).log()
        torch.testing.assert_close(contrast_terms(rise, stabilisation), wanted)
    huge = contrast_terms(_tensor([2000.0, -5.0], [-2000.0, -3000.0]), 1.0)
    torch.testing.assert_close(huge, _tensor(2000 - math.log(2), -math.log(2)))


def test_real_noise_has_its_standard_deviation_twice():
    """E of a linear energy at x_j: mean rise 0, variance 2 noise^2; and all points of a row share the noise there."""
    model = en.from_module(lambda x: x.flatten(1).sum(1), en.Real((2, 2)))
    rows = torch.zeros(4000, 2, 2, dtype=torch.float64)
    objective = en.EnergyDiscrepancy(0.7, num_samples=2)
    generator = torch.Generator().manual_seed(0)
    between = objective.perturb(model.space, rows, generator)
    near = objective.perturb(model.space, between.repeat_interleave(2, 0), generator)
    level = model(near).view(-1, 2)
    assert between.std().item() == pytest.approx(0.7, rel=0.03)
    assert level.var().item() == pytest.approx(4 * 2 * 0.49, rel=0.1)
    assert torch.corrcoef(level.T)[0, 1].item() == pytest.approx(0.5, abs=0.06)
    loss = objective(model, en.Batch(rows), torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss.value, contrast_terms(model(rows).unsqueeze(1) - level, 1.0).mean())


def test_wrong_arguments():
    with pytest.raises(en.InputError, match=r"at 0\.5 nothing is left"):
        en.EnergyDiscrepancy(0.6)(SPACES["bits"][0](), en.Batch(torch.zeros(1, 3).double()), torch.Generator())
    with pytest.raises(en.InputError, match="these look like spins"):
        en.EnergyDiscrepancy(0.3)(SPACES["bits"][0](), en.Batch(-torch.ones(1, 3).double()), torch.Generator())
    with pytest.raises(en.CapabilityError, match="Real, Binary, Spin and Categorical"):
        en.EnergyDiscrepancy(0.3)(en.Uniform(en.Box(2)), en.Batch(torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(en.InputError, match="rows lie outside"):
        en.EnergyDiscrepancy(0.3)(en.Gaussian(1), en.Batch(torch.tensor([[math.nan]])), torch.Generator())
    for wrong in ({"noise": 0.0}, {"noise": 1.0, "num_samples": 0}, {"noise": 1.0, "stabilisation": -1.0}):
        with pytest.raises(en.InputError):
            en.EnergyDiscrepancy(**wrong)
    with pytest.raises(en.InputError, match="moves"):
        en.EnergyDiscrepancy(0.5, moves="grid")
