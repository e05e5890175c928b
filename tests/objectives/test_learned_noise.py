"""Noise that learns: right gradients for both players, and what fixed noise and turns change."""

import math

import pytest
import torch
from small_truths import TRUTHS, density, moved, noise_of, parameter, random, whole
from torch import nn

import energeia as en


class Normal(nn.Module):
    """A trainable normal distribution."""

    def __init__(self, mean, log_scale):
        super().__init__()
        self.mean, self.log_scale = parameter(mean), parameter(log_scale)

    def forward(self):
        return torch.distributions.Independent(torch.distributions.Normal(self.mean, self.log_scale.exp()), 1)


def _flow(mean=0.4, log_scale=0.3):
    return en.Flow(Normal(mean, log_scale), en.Real(1))


def _bits():
    noise = en.Autoregressive(en.Binary(3)).double()
    return moved(noise, 0.5)


def _expected(energy, noise, p, x, log_weight, log_z, ratio=1, held=None, share=0.0):
    """L as a function of the parameters of both players."""
    log_q = noise.log_prob(x)
    if held is not None:
        log_q = torch.logaddexp(math.log(share) - held(x) - held.log_z().value, math.log(1 - share) + log_q)
    log_u = -energy(x) - log_z - log_q - math.log(ratio)
    near = p > 1e-100
    data = p[near] @ nn.functional.softplus(-log_u[near])
    # Further out exp(log q) is 0 and its gradient 0 times infinity.
    near = log_q > -300
    return data + ratio * (log_weight + log_q)[near].exp() @ nn.functional.softplus(log_u[near])


def _mean_gradient(objective, energy, draw, parameters, repeats):
    """The average of the loss's gradient, and its standard error, number by number."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(repeats):
        gradient = torch.autograd.grad(objective(energy, en.Batch(draw(generator)), generator).value, parameters)
        found.append(torch.cat([part.flatten() for part in gradient]))
    found = torch.stack(found)
    return found.mean(0), found.std(0) / repeats**0.5


CASES = {
    "pathwise": ("exponential family", lambda: _flow(), en.FlowContrast, None),
    "pathwise, mixed": ("exponential family", lambda: _flow(), en.FlowContrast, 0.3),
    "by reward on a line": ("exponential family", lambda: _flow(), en.AdversarialNCE, 0.3),
    "by reward on bits": ("bits", lambda: _bits(), en.AdversarialNCE, 0.4),
}


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_each_player_gets_its_gradient(case, ratio):
    name, make, kind, share = CASES[case]
    energy, noise = TRUTHS[name](), make()
    x, log_weight = whole(energy.space)
    p = density(energy, x, log_weight)
    moved(energy)
    held = None if share is None else noise_of(energy.space)
    log_z = float((log_weight - energy(x)).logsumexp(0).detach()) + 0.2
    settings = {} if share is None else {"fixed_noise": held, "share": share}
    objective = kind(noise, ratio=ratio, log_z=log_z, **settings).double()
    players = [*energy.parameters(), *noise.parameters()]
    total = _expected(energy, noise, p, x, log_weight, log_z, ratio, held, share or 0.0)
    wanted = [part.flatten() for part in torch.autograd.grad(total, players)]
    cut = len(list(energy.parameters()))
    wanted = torch.cat([*wanted[:cut], *[-part for part in wanted[cut:]]])

    def draw(generator):
        return x[torch.multinomial(p, 1000, replacement=True, generator=generator)]

    found, error = _mean_gradient(objective, energy, draw, players, 60)
    assert ((found - wanted).abs() < 5 * error + 1e-12).all()
    # Both are seen, and far from their errors.
    assert ((wanted[-2:].abs() / error[-2:]) > 8).any()
    assert ((wanted[:2].abs() / error[:2]) > 8).any()


def test_the_energy_is_taught_as_by_noise_contrast():
    energy, flow = TRUTHS["exponential family"](), _flow()
    batch = en.Batch(random(50, 1))
    plain = en.NoiseContrast(flow, ratio=2, log_z=0.7)
    learned = en.FlowContrast(flow, ratio=2, log_z=0.7)
    losses = [made(energy, batch, torch.Generator().manual_seed(3)) for made in (plain, learned)]
    assert losses[0].value.item() == losses[1].value.item()
    assert losses[0].metrics["accuracy"] == losses[1].metrics["accuracy"]
    one, other = (torch.autograd.grad(loss.value, list(energy.parameters()))[0] for loss in losses)
    torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
    assert losses[1].metrics["noise_log_prob"].item() == pytest.approx(float(flow.log_prob(batch.x).mean().detach()))


def test_nothing_is_left_to_learn_where_flow_energy_and_data_agree():
    """p = q = data: the energy's and the flow's expected gradients vanish, by quadrature over fresh draws."""
    flow = _flow()
    energy = en.Flow(Normal(0.4, 0.3), en.Real(1))
    x, log_weight = whole(en.Real(1))
    p = density(energy, x, log_weight)
    total = _expected(energy, flow, p, x, log_weight, 0.0)
    assert total.item() == pytest.approx(2 * math.log(2))
    for found in torch.autograd.grad(total, [*energy.parameters(), *flow.parameters()]):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-10)
    objective = en.FlowContrast(flow, log_z=0.0).double()

    def draw(generator):
        return energy.sample_exact(1000, generator)

    found, error = _mean_gradient(objective, energy, draw, [*energy.parameters(), *flow.parameters()], 60)
    assert (found.abs() < 5 * error + 1e-12).all()


def test_turns_leave_the_other_player_alone():
    energy, flow = TRUTHS["exponential family"](), _flow()
    objective = en.FlowContrast(flow, turns=(2, 1), log_z=0.0).double()
    batch = en.Batch(random(20, 1))
    moves = []
    for number in range(6):
        players = [*energy.parameters(), objective.log_z, *flow.parameters()]
        for each in players:
            each.grad = None
        loss = objective(energy, batch, torch.Generator().manual_seed(number))
        loss.value.backward()
        moves.append([each.grad is not None for each in players])
        objective.eval()
        objective(energy, batch, torch.Generator())
        objective.train()
    one, other = [True, True, False, False], [False, False, True, True]
    assert moves == [one, one, other] * 2
    joint, energy_only = (
        en.FlowContrast(flow, log_z=0.0, turns=turns)(energy, batch, torch.Generator().manual_seed(0))
        for turns in (None, (1, 1))
    )
    assert joint.value.item() == energy_only.value.item()


@pytest.mark.parametrize("turns", [None, (1, 1)])
def test_the_flow_comes_to_the_data(turns):
    """Both start wrong; the data are normal, so both can be right."""
    data = 0.5 * random(4000, 1) + 1.0
    flow, energy = _flow(-0.5, 0.4), en.Flow(Normal(0.0, 0.0), en.Real(1))
    objective = en.FlowContrast(flow, turns=turns)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.02, betas=(0.5, 0.9))  # noqa: E731
    en.fit(energy, objective, data, num_steps=400 if turns is None else 600, batch_size=500, optimizer=adam)
    for player in (flow, energy):
        assert player.flow.mean.item() == pytest.approx(1.0, abs=0.12)
        assert player.flow.log_scale.item() == pytest.approx(math.log(0.5), abs=0.25)


def test_wrong_players():
    with pytest.raises(en.CapabilityError, match="Reparameterised"):
        en.FlowContrast(en.Autoregressive(en.Binary(3)))
    with pytest.raises(en.CapabilityError, match="Explicit"):
        en.AdversarialNCE(en.Gaussian(2), en.Gaussian(2))
    with pytest.raises(en.InputError, match="no trainable parameters"):
        en.AdversarialNCE(en.KernelDensity(torch.zeros(2, 1), 1.0), en.Gaussian(1))
    with pytest.raises(en.InputError, match="share"):
        en.FlowContrast(_flow(), fixed_noise=en.Gaussian(1), share=1.0)
    with pytest.raises(en.InputError, match=r"turns\[1\]"):
        en.FlowContrast(_flow(), turns=(1, 0))
    with pytest.raises(en.InputError, match="the noise lives on"):
        en.FlowContrast(_flow())(TRUTHS["gaussian"](), en.Batch(random(3, 2)), torch.Generator())
