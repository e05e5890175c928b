"""Paths between energies against sums over the hidden units."""

import pytest
import torch

import energeia as en
from energeia import testing
from energeia.core.path import between, log_volume, tempered
from energeia.energies import Enumerated


def _machine(visible=None, hidden=2):
    torch.manual_seed(0)
    machine = en.RBM(visible or en.Binary(3), hidden, weight_scale=1.0).double()
    with torch.no_grad():
        machine.bias.normal_()
        machine.hidden_bias.normal_()
    return machine


def _base(space):
    natural = torch.linspace(-0.5, 0.9, space.num_dims, dtype=torch.float64).view(space.event_shape)
    return en.Independent(space, natural)


def _summed(machine, share, x, base=None):
    """-log sum_h exp(-(1 - share) E_0(x) - share E(x, h))."""
    h = machine.hidden_space.enumerate(0, machine.hidden_space.num_states, dtype=torch.float64, device=x.device)
    joint = -(x.flatten(1) @ machine.weight + machine.hidden_bias) @ h.flatten(1).T
    joint = share * (joint - (x.flatten(1) @ machine.bias).unsqueeze(1))
    if base is not None:
        joint = joint + (1 - share) * base(x).unsqueeze(1)
    return -(-joint).logsumexp(1)


def _states(space):
    return space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))


@pytest.mark.parametrize("visible", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_hidden_units_are_heated_and_then_summed_out(visible, share):
    machine, base, x = _machine(visible), _base(visible), _states(visible)
    with torch.no_grad():
        torch.testing.assert_close(between(base, machine, share)(x), _summed(machine, share, x, base))
        if share > 0:
            torch.testing.assert_close(tempered(machine, share)(x), _summed(machine, share, x))
        if share == 0:
            torch.testing.assert_close(between(base, machine, 0.0)(x), base(x) - log_volume(machine))


def test_each_chain_may_have_its_own_share():
    machine, x = _machine(), _states(en.Binary(3))
    share = torch.linspace(0.1, 1.0, len(x), dtype=torch.float64)
    with torch.no_grad():
        expected = torch.cat([_summed(machine, s, row.unsqueeze(0)) for s, row in zip(share, x, strict=True)])
        torch.testing.assert_close(tempered(machine, share)(x), expected)


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_block_gibbs_samples_the_path(share):
    machine = _machine(en.Binary(3), en.Spin(2))
    target = Enumerated(between(_base(machine.space), machine, share)).double()
    testing.check_sampler(en.BlockGibbs(), target, num_steps=5)


def test_real_units_change_their_precision_on_the_way():
    torch.manual_seed(1)
    machine = en.RBM(en.Real(1), 3, weight_scale=1.0).double()
    with torch.no_grad():
        machine.log_variance.fill_(-0.7)
    base = en.Gaussian(1, mean=torch.tensor([0.5]).double(), scale=torch.tensor([2.0]).double())
    path = between(base, machine, 0.6)
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        p = (-path(x)).softmax(0)
    start = torch.full((4000, 1), 0.2, dtype=torch.float64)
    draws = en.sample(path, en.BlockGibbs(), start=start, num_steps=60).x
    mean, variance = float(p @ x[:, 0]), float(p @ (x[:, 0] - p @ x[:, 0]).square())
    assert abs(float(draws.mean()) - mean) < 5 * (variance / 4000) ** 0.5
    assert abs(float(draws.var()) / variance - 1) < 5 * (2 / 4000) ** 0.5 * 1.5


def test_without_hidden_units_a_path_is_a_sum():
    energy, base = en.Gaussian(2).double(), en.Gaussian(2, scale=torch.tensor([3.0, 1.0]).double())
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(between(base, energy, 0.25)(x), 0.75 * base(x) + 0.25 * energy(x))
    assert float(log_volume(energy)) == 0


def test_a_base_of_another_kind_is_refused():
    machine = _machine()
    with pytest.raises(en.CapabilityError, match=r"Factorised.*en\.Independent"):
        between(en.from_module(lambda x: x.sum(1), en.Binary(3)), machine, 0.5)
