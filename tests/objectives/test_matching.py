"""Energy matching: the flow in closed form, pairs of least distance, two phases, and samples of the whole."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.objectives.matching import assign


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


class Quadratic(en.Energy):
    """E(x) = -a'x + b |x|^2 / 2."""

    def __init__(self, a, b, start=1.0):
        super().__init__(en.Real(len(a), start))
        self.a, self.b = nn.Parameter(_tensor(*a)), nn.Parameter(_tensor(b)[0])

    def forward(self, x):
        return (-self.a * x + self.b * x.square() / 2).sum(1)


def test_pairs_are_those_of_least_distance():
    generator = torch.Generator().manual_seed(0)
    noise, x = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    found = assign(noise, x)
    costs = [(noise[list(order)] - x).square().sum().item() for order in itertools.permutations(range(6))]
    assert (found - x).square().sum().item() == pytest.approx(min(costs), rel=1e-12)
    assert min(costs) < costs[0] - 0.1
    line = assign(noise[:, :1], x[:, :1])[x[:, 0].argsort(), 0]
    assert torch.equal(line, line.sort().values)


def test_noise_that_only_has_to_be_shifted_leaves_nothing_to_learn():
    """Rows are the noise plus m: at V = -m'x the loss is zero, with its gradient; elsewhere it is the closed form."""
    temperature, shift = 0.2, _tensor(3.0, -1.0)
    space = en.Real(2)
    noise = space.start(50, torch.Generator().manual_seed(3), dtype=torch.float64)
    batch = en.Batch(noise + shift)
    truth = Quadratic((shift / temperature).tolist(), 0.0)
    objective = en.EnergyMatching(temperature=temperature, until=0.7)
    loss = objective(truth, batch, torch.Generator().manual_seed(3))
    assert abs(loss.value.item()) < 1e-25
    for gradient in torch.autograd.grad(loss.value, list(truth.parameters())):
        assert gradient.abs().max() < 1e-12
    model = Quadratic((4.0, 1.0), 0.8)
    found = torch.autograd.grad(
        objective(model, batch, torch.Generator().manual_seed(3)).value, list(model.parameters())
    )
    generator = torch.Generator().manual_seed(3)
    space.start(50, generator, dtype=torch.float64)
    time = 0.7 * torch.rand(50, generator=generator, dtype=torch.float64)
    place = noise + time.unsqueeze(1) * shift
    residual = temperature * (0.8 * place - model.a.detach()) + shift
    wanted_a = -2 * temperature * residual.mean(0)
    wanted_b = 2 * temperature * (residual * place).sum(1).mean()
    torch.testing.assert_close(found[0], wanted_a, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1], wanted_b, rtol=1e-10, atol=1e-12)


def test_velocity_of_a_normal_is_that_of_its_optimal_map():
    """Data N(m, c^2) of noise N(0, 1): x_1 = m + c x_0. V = -alpha x + beta x^2 / 2 least squares, averaged over t."""
    mean, scale = 1.5, 0.4
    generator = torch.Generator().manual_seed(0)
    model = Quadratic((0.0,), 0.0)
    rows = mean + scale * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    objective = en.EnergyMatching(temperature=1.0)
    for step in range(250):
        batch = en.Batch(rows[torch.randperm(20_000, generator=generator)[:200]])
        if step == 180:
            optimizer.param_groups[0]["lr"] = 0.003
        optimizer.zero_grad()
        objective(model, batch, generator).value.backward()
        optimizer.step()
    # Normal equations of u = m + (c - 1) x_0 on x_t = t m + (1 - t + t c) x_0 over t and x_0.
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    shrink = 1 - t + t * scale
    mean_x, mean_xx = (t * mean).mean(), ((t * mean).square() + shrink.square()).mean()
    mean_xu = (t * mean * mean + shrink * (scale - 1)).mean()
    slope = (mean_xu - mean_x * mean) / (mean_xx - mean_x.square())
    # -V' = a - b x
    assert model.b.item() == pytest.approx(-slope.item(), abs=0.06)
    assert model.a.item() == pytest.approx((mean - slope * mean_x).item(), abs=0.06)


def test_after_its_warm_up_the_loss_is_the_sum_of_both():
    energy = Quadratic((0.3, -0.2), 0.7)
    rows = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    contrastive = en.ContrastiveDivergence(en.Langevin(step_size=0.1), 3, start="noise")
    flow = en.EnergyMatching(temperature=0.5)
    both = en.EnergyMatching(contrastive, temperature=0.5, weight=0.3, warmup=2)
    parameters = list(energy.parameters())

    def gradient(objective):
        generator = torch.Generator().manual_seed(0)
        value = objective(energy, en.Batch(rows), generator).value
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)]), generator

    first, generator = gradient(flow)
    for _ in range(2):
        torch.testing.assert_close(gradient(both)[0], first)
    both.eval()
    value = contrastive(energy, en.Batch(rows), generator).value
    second = torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)])
    for _ in range(2):
        torch.testing.assert_close(gradient(both)[0], first + 0.3 * second)
    assert int(both.num_done) == 2
    resumed = en.EnergyMatching(contrastive, temperature=0.5, weight=0.3, warmup=2)
    resumed.load_state_dict(both.state_dict())
    torch.testing.assert_close(gradient(resumed)[0], first + 0.3 * second)


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.0])
def test_noise_of_the_sampler_comes_in_as_time_goes_by(turn):
    energy = Quadratic((2.0,), 0.0)
    sampler = en.FlowLangevin(temperature=0.3, num_steps=4, turn=turn)
    state, seen = sampler.init(energy, torch.zeros(1, 1).double()), []
    for _ in range(6):
        before = state.x
        state, _ = sampler.step(energy, state, (torch.ones(1, 1).double(),))
        # The drift is -(T / n) dE/dx = .3 * 2 / 4.
        seen.append((state.x - before).item() - 0.15)
    rise = {0.0: [0, 0.25, 0.5, 0.75, 1, 1], 0.5: [0, 0, 0, 0.5, 1, 1], 1.0: [0, 0, 0, 0, 1, 1]}[turn]
    assert seen == pytest.approx([math.sqrt(2 * 0.3 / 4 * share) for share in rise])


def test_at_last_it_is_langevin():
    energy, x = Quadratic((0.4,), 1.2), torch.randn(5, 1).double()
    sampler = en.FlowLangevin(temperature=0.3, num_steps=4)
    state = sampler.init(energy, x)._replace(num_done=torch.full((5,), 7))
    noise = (torch.randn(5, 1).double(),)
    plain = en.Langevin(step_size=2 * 0.3 / 4)
    wanted = plain.step(energy, plain.init(energy, x), noise)[0].x
    torch.testing.assert_close(sampler.step(energy, state, noise)[0].x, wanted)


def test_two_phases_learn_unequal_modes_on_the_line():
    """Modes 6 apart with shares .25 and .75: the flow carries noise to both, and chains from it weigh them."""
    generator = torch.Generator().manual_seed(0)
    which = (torch.rand(4000, generator=generator) < 0.75).float()
    data = (6 * which - 3 + 0.4 * torch.randn(4000, generator=generator)).unsqueeze(1)
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(1, widths=(64, 64)), en.Real(1, 1.0))
    sampler = en.FlowLangevin(temperature=0.5, num_steps=20)
    contrastive = en.ContrastiveDivergence(sampler, 25, start="noise")
    objective = en.EnergyMatching(contrastive, temperature=0.5, until=0.8, weight=0.5, warmup=200)
    adam = functools.partial(torch.optim.Adam, lr=3e-3)
    en.fit(energy, objective, data, num_steps=300, batch_size=128, seed=0, optimizer=adam)
    x = en.sample(energy, sampler, num_chains=4000, num_steps=25).x
    assert (x > 0).float().mean().item() == pytest.approx(0.75, abs=0.06)
    assert x[x > 0].mean().item() == pytest.approx(3, abs=0.3)
    assert x[x < 0].mean().item() == pytest.approx(-3, abs=0.3)


def test_wrong_arguments():
    with pytest.raises(en.CapabilityError, match="EnergyMatching moves points of noise"):
        en.EnergyMatching()(en.Uniform(en.Box(2)), en.Batch(torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(en.CapabilityError, match="FlowLangevin flows from normal noise"):
        en.FlowLangevin(0.1).init(en.Uniform(en.Box(2)), torch.zeros(1, 2))
    with pytest.raises(en.InputError, match="leave warmup out"):
        en.sample(en.Gaussian(1), en.FlowLangevin(0.1), num_chains=2, num_steps=3, warmup=4)
    with pytest.raises(en.InputError, match="rows lie outside"):
        en.EnergyMatching()(en.Gaussian(1), en.Batch(torch.tensor([[math.nan]])), torch.Generator())
    for wrong in ({"until": 1.5}, {"warmup": -1}, {"temperature": 0.0}, {"weight": 0.0}):
        with pytest.raises(en.InputError, match=next(iter(wrong))):
            en.EnergyMatching(**wrong)
