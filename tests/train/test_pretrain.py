"""Greedy training of deep models."""

import pytest
import torch

import energeia as en
from energeia import testing
from energeia.energies.copied import Copied
from energeia.train.pretrain import compose


def _bits(size):
    return en.Binary(size).enumerate(0, 2**size, dtype=torch.float64, device=torch.device("cpu"))


def _machine():
    torch.manual_seed(0)
    machine = en.RBM(3, 2, weight_scale=1.0).double()
    with torch.no_grad():
        machine.bias.copy_(torch.tensor([0.3, -0.5, 0.8]))
        machine.hidden_bias.copy_(torch.tensor([-0.7, 0.4]))
    return machine


@pytest.mark.parametrize(("below", "above"), [(2, 1), (1, 2), (2, 3)])
def test_copies_by_enumeration(below, above):
    machine = _machine()
    pair = Copied(machine, below=below, above=above)
    testing.check_energy(pair)
    testing.check_sampler(en.BlockGibbs(), en.Enumerated(pair))
    x, h = _bits(3 * below), _bits(2 * above)
    seen, hidden = x.view(-1, below, 3).sum(1), h.view(-1, above, 2).sum(1)
    joint = seen @ machine.weight @ hidden.T + above * (seen @ machine.bias)[:, None] + hidden @ machine.hidden_bias
    torch.testing.assert_close(-pair(x), joint.logsumexp(1), rtol=1e-10, atol=1e-10)


def test_a_unit_in_the_middle_is_driven_as_by_the_mean_of_its_machines():
    torch.manual_seed(0)
    pairs = []
    for sizes, copies in (((4, 3), (2, 1)), ((3, 5), (1, 1)), ((5, 2), (1, 2))):
        machine = en.RBM(*sizes, weight_scale=1.0).double()
        with torch.no_grad():
            machine.bias.normal_()
            machine.hidden_bias.normal_()
        pairs.append(Copied(machine, below=copies[0], above=copies[1]))
    dbm = en.DBM(4, (3, 5, 2)).double()
    with torch.no_grad():
        compose(dbm, pairs)
        v, h1, h2, h3 = (
            en.Binary(size).start(6, torch.Generator().manual_seed(size)).double() for size in (4, 3, 5, 2)
        )
        first = (pairs[0].hidden_parameters(v.repeat(1, 2)) + pairs[1].visible_parameters(h2)) / 2
        second = (pairs[1].hidden_parameters(h1) + pairs[2].visible_parameters(h3.repeat(1, 2))) / 2
        odd = dbm.joint.hidden_parameters(torch.cat([v, h2], 1))
        even = dbm.joint.visible_parameters(torch.cat([h1, h3], 1))
    torch.testing.assert_close(odd[:, :3], first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(even[:, 4:], second, rtol=1e-12, atol=1e-12)
    # The ends are driven from one side, as in their machines.
    with torch.no_grad():
        torch.testing.assert_close(even[:, :4], pairs[0].visible_parameters(h1)[:, :4], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(odd[:, 3:], pairs[2].hidden_parameters(h2)[:, :2], rtol=1e-12, atol=1e-12)


def _copies():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 1, generator=generator).gt(0.5).float().repeat(1, 5)
    return (x + torch.rand(2000, 5, generator=generator).lt(0.1).float()) % 2


@pytest.mark.parametrize("model", [en.DBM, en.DBN])
def test_pretraining_raises_the_likelihood(model):
    x = _copies()
    torch.manual_seed(0)
    machine = model(5, (3, 3))
    start = en.log_likelihood(machine, x).mean
    en.pretrain(machine, x, num_steps=300, optimizer=lambda p: torch.optim.SGD(p, lr=0.2))
    # Fair bits have -3.47, the truth -2.32.
    assert start < -3.4
    assert en.log_likelihood(machine, x).mean > -2.8


def test_other_models_are_refused():
    with pytest.raises(en.InputError, match=r"en\.DBM"):
        en.pretrain(en.RBM(4, 2), torch.zeros(3, 4))
    with pytest.raises(en.InputError, match="outside"):
        en.pretrain(en.DBN(4, (2, 2)), torch.full((3, 4), 7.0))
