"""Recovery likelihood: the truth has no gradient, chains are those of the conditional, the ladder leads to the data."""

import functools
import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.samplers.recovery import Tether


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


class Modes(en.Energy):
    """Data of two normals of unequal weight, with noise: -log sum_k w_k N(x; m_k, v_k + level^2)."""

    def __init__(self, log_odds=-1.2, means=(-2.0, 1.5), variances=(0.2, 0.5), *, start=6.0):
        super().__init__(en.Real(1, start))
        self.log_odds = nn.Parameter(_tensor(log_odds)[0])
        self.means, self.log_variances = nn.Parameter(_tensor(*means)), nn.Parameter(_tensor(*variances).log())

    def forward(self, x, level=None):
        level = _tensor(0.3)[0] if level is None else level
        spread = self.log_variances.exp() + level.reshape(-1, 1).square()
        log_weights = torch.stack([self.log_odds, 0 * self.log_odds]).log_softmax(0)
        return -(log_weights - (x - self.means).square() / (2 * spread) - spread.log() / 2).logsumexp(1)

    def shares(self):
        return torch.stack([self.log_odds, 0 * self.log_odds]).softmax(0).detach()

    def draw(self, number, generator):
        which = torch.multinomial(self.shares(), number, replacement=True, generator=generator)
        noise = torch.randn(number, generator=generator, dtype=torch.float64)
        return (self.means[which] + (self.log_variances[which] / 2).exp() * noise).detach().unsqueeze(1)


class Normal(en.Energy):
    """Data N(0, variance) in two dimensions, with noise."""

    def __init__(self, variance):
        super().__init__(en.Real(2, 3.0))
        self.variance = nn.Parameter(_tensor(variance)[0])

    def forward(self, x, level=None):
        level = _tensor(0.5)[0] if level is None else level
        return x.square().sum(1) / (2 * (self.variance + level.square()))


def _given_noisy(energy, level, variance, noisy, x):
    """-log of the unnormalised p(x_l | x_(l-1)) at nodes x for one noisy point: as the sampler makes it."""
    number = len(x)
    tether = Tether(noisy.expand(number, 1), variance.expand(number), energy.space)
    return (en.given(energy, context=level.expand(number)) + tether)(x)


@pytest.mark.parametrize("pair", [0, 1, 2])
def test_gradient_of_the_recovery_likelihood_is_zero_at_the_truth_alone(pair):
    """Quadrature over x_l and x_(l-1) of the true joint; the conditional of the model by quadrature too."""
    sampler = en.RecoveryLangevin(levels=(4.0, 2.0, 1.0, 0.3))
    level, variance = (part[0] for part in sampler.next_level(torch.tensor([pair])))
    assert (level.item(), variance.item()) == pytest.approx([(2.0, 12.0), (1.0, 3.0), (0.3, 0.91)][pair])
    truth = Modes()
    x, log_weight = integration_nodes(en.Real(1, 1.5), 160)
    noisy, log_noisy = integration_nodes(en.Real(1, 2.0), 160)
    with torch.no_grad():
        log_data = (log_weight - truth(x, level)).log_softmax(0)
        log_step = log_noisy - (noisy.T - x).square() / (2 * variance) - (2 * math.pi * variance).log() / 2
        joint = (log_data.unsqueeze(1) + log_step).exp()  # [x_l, x_(l-1)]
    assert joint.sum().item() == pytest.approx(1, abs=1e-6)

    def slope(model):
        value = torch.zeros((), dtype=torch.float64)
        for place in range(len(noisy)):
            energies = _given_noisy(model, level, variance, noisy[place], x)
            value = value + joint[:, place] @ energies + joint[:, place].sum() * (log_weight - energies).logsumexp(0)
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))])

    torch.testing.assert_close(slope(truth), torch.zeros(5).double(), rtol=0, atol=1e-6)
    other = Modes(-0.4, (-1.7, 1.2), (0.3, 0.4))
    assert slope(other).abs().max() > 1e-3


def test_tie_and_energy_are_the_true_posterior():
    """p(x_l | x_(l-1)) of normal data: mean and variance by the textbook."""
    model, level, variance = Normal(0.7), _tensor(0.5)[0], _tensor(1.3)[0]
    noisy, x = _tensor([1.1, -0.4]), torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).double()
    total = en.given(model, context=level.expand(40)) + Tether(noisy.expand(40, 2), variance.expand(40), model.space)
    precision = 1 / (0.7 + 0.25) + 1 / 1.3
    wanted = precision * (x - noisy / 1.3 / precision).square().sum(1) / 2
    difference = (total(x) - wanted).detach()
    torch.testing.assert_close(difference, difference[:1].expand(40))


def test_each_level_has_its_steps_its_context_and_its_step_size():
    seen = []

    class Flat(en.Energy):
        def forward(self, x, level=None):
            seen.append(level)
            return 0 * x.sum(1) + level

    sampler = en.RecoveryLangevin(levels=(4.0, 2.0, 1.0), num_steps=2, step_size=0.5)
    energy = Flat(en.Real(1))
    state = sampler.init(energy, torch.full((1, 1), 3.0).double())
    for _ in range(6):
        before = state
        state, info = sampler.step(energy, state, (torch.ones(1, 1).double(),))
        seen[-1] = (seen[-1].item(), before.x.item(), state.noisy.item(), state.x.item(), info.energy.item())
    assert [one[0] for one in seen] == [2.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    starts = [one[1] for one in seen]
    # Tied to where the level began; the last tie stays.
    assert [one[2] for one in seen] == [starts[0], starts[0], *[starts[2]] * 4]
    for place, (level, start, tie, end, value) in enumerate(seen):
        variance, high = (12.0, 4.0) if place < 2 else (3.0, 2.0)
        step = 0.5 * variance * level**2 / high**2
        assert end == pytest.approx(start - step / 2 * (start - tie) / variance + math.sqrt(step))
        assert value == pytest.approx(level + (start - tie) ** 2 / (2 * variance))


def test_chains_of_a_level_are_those_of_the_conditional():
    """Normal data: after many steps, the mean and (uncorrected) variance of p(x_l | x_(l-1)), 5 standard errors."""
    model, number = Normal(0.7), 20_000
    sampler = en.RecoveryLangevin(levels=(2.0, 0.5), num_steps=200, step_size=0.3)
    noisy = _tensor([1.1, -0.4]).expand(number, 2).contiguous()
    x = en.sample(model, sampler, start=noisy, num_steps=200, generator=1).x
    precision = 1 / (0.7 + 0.25) + 1 / 3.75
    step = 0.3 * 3.75 * 0.25 / 4
    mean, variance = noisy[0] / 3.75 / precision, 1 / precision / (1 - step * precision / 4)
    assert bool(((x.mean(0) - mean).abs() < 5 * (variance / number) ** 0.5).all())
    assert bool(((x.var(0) - variance).abs() < 5 * variance * (2 / number) ** 0.5).all())


def test_gradient_of_the_objective_is_that_of_its_chains():
    """Normal data and model: x_l and the end of K steps are normal; d/dv in closed form, for each pair of levels."""
    model, true, number_of_steps = Normal(1.4), 0.7, 6
    sampler = en.RecoveryLangevin(levels=(3.0, 1.5, 0.5), num_steps=number_of_steps, step_size=0.5)
    generator = torch.Generator().manual_seed(0)
    objective, found = en.DiffusionRecovery(sampler), []
    for _ in range(200):
        rows = math.sqrt(true) * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
        value = objective(model, en.Batch(rows), generator).value
        found += torch.autograd.grad(value, [model.variance])
    found = torch.stack(found)
    wanted = []
    for high, low in ((3.0, 1.5), (1.5, 0.5)):
        between, spread = high**2 - low**2, 1.4 + low**2
        step = 0.5 * between * low**2 / high**2
        precision = 1 / spread + 1 / between
        shrink, pull = 1 - step / 2 * precision, step / 2 / between
        # x = a noisy + normal of variance b
        a, b = 1.0, 0.0
        for _ in range(number_of_steps):
            a, b = shrink * a + pull, shrink**2 * b + step
        second = a**2 * (true + high**2) + b
        # E = |x|^2 / (2 (v + s^2)), two dimensions
        wanted.append(-(true + low**2 - second) / spread**2)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - sum(wanted) / 2) < 5 * error
    assert error < 0.1 * abs(sum(wanted) / 2)
    # The model is too wide, and descent makes it narrower.
    assert sum(wanted) > 0.1


def test_objective_rests_at_the_truth_of_unequal_modes():
    """The expected gradient within 5 errors of zero, with chains long and fine; away it is not."""
    sampler = en.RecoveryLangevin(levels=(4.0, 2.6, 1.7, 1.1, 0.7, 0.45, 0.3), num_steps=60, step_size=0.2)
    truth, other = Modes(), Modes(-0.2, (-1.7, 1.2), (0.3, 0.4))
    generator = torch.Generator().manual_seed(0)
    scores = []
    for model in (truth, other):
        found = []
        for _ in range(12):
            loss = en.DiffusionRecovery(sampler)(model, en.Batch(truth.draw(500, generator)), generator)
            gradients = torch.autograd.grad(loss.value, list(model.parameters()))
            found.append(torch.cat([part.flatten() for part in gradients]))
        found = torch.stack(found)
        scores.append((found.mean(0).abs() / (found.std(0) / math.sqrt(12))).max().item())
    assert scores[0] < 5
    assert scores[1] > 10


def test_down_the_ladder_lie_the_data_with_the_weights_of_their_modes():
    """From one normal at the top to shares of .23 and .77; Langevin at the bottom alone keeps what it was given."""
    truth, number = Modes(means=(-4.0, 3.0)), 4000
    levels = tuple(8.0 * 0.7**rung for rung in range(10))
    sampler = en.RecoveryLangevin(levels=levels, num_steps=100, step_size=0.2)
    share = truth.shares()
    mean = float(share @ truth.means.detach())
    spread = float(share @ (truth.log_variances.exp() + truth.means.square()).detach()) - mean**2 + levels[0] ** 2
    generator = torch.Generator().manual_seed(0)
    start = mean + math.sqrt(spread) * torch.randn(number, 1, generator=generator, dtype=torch.float64)
    x = en.sample(truth, sampler, start=start, num_steps=100 * (len(levels) - 1), generator=generator).x
    nodes, log_weight = integration_nodes(en.Real(1, 2.0), 300)
    with torch.no_grad():
        chance = (log_weight - truth(nodes, _tensor(levels[-1]))).softmax(0)
    # Between the modes, and on both sides of each.
    for place in (-4.3, -3.7, -0.6, 2.5, 3.3):
        wanted = chance[nodes[:, 0] < place].sum().item()
        assert (x < place).double().mean().item() == pytest.approx(wanted, abs=0.03)
    short = en.Langevin(step_size=0.05)
    stuck = en.sample(truth, short, start=-4 + 0 * start, num_steps=900, generator=generator).x
    assert (stuck < -0.6).double().mean() > 0.95


def test_fit_learns_the_data():
    truth = Modes()
    data = truth.draw(4000, torch.Generator().manual_seed(0))
    model = Modes(0.0, (-1.0, 1.0), (0.5, 0.5))
    sampler = en.RecoveryLangevin(levels=(4.0, 2.4, 1.4, 0.8, 0.5, 0.3), num_steps=20, step_size=1.0)
    adam = functools.partial(torch.optim.Adam, lr=0.05)
    en.fit(model, en.DiffusionRecovery(sampler), data, num_steps=120, batch_size=500, seed=0, optimizer=adam)
    torch.testing.assert_close(model.means.detach(), truth.means.detach(), rtol=0, atol=0.15)
    torch.testing.assert_close(model.shares(), truth.shares(), rtol=0, atol=0.05)


def test_wrong_arguments():
    ladder = en.RecoveryLangevin(levels=(1.0, 0.5))
    with pytest.raises(en.CapabilityError, match="DiffusionRecovery adds normal noise"):
        en.DiffusionRecovery(ladder)(en.Uniform(en.Box(2)), en.Batch(torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(en.CapabilityError, match="use AnnealedLangevin there"):
        ladder.init(en.Uniform(en.Box(2)), torch.zeros(1, 2))
    with pytest.raises(en.InputError, match="rows lie outside"):
        en.DiffusionRecovery(ladder)(Normal(1.0), en.Batch(torch.full((1, 2), math.nan)), torch.Generator())
    for levels in ((1.0,), (1.0, 2.0), (1.0, 0.0)):
        with pytest.raises(en.InputError, match="level"):
            en.RecoveryLangevin(levels=levels)
    with pytest.raises(en.InputError, match="leave warmup out and give num_steps=30"):
        en.sample(Normal(1.0), ladder, num_chains=3, num_steps=5, warmup=5)
