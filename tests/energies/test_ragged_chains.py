"""Chains of sequences of other lengths than the space's, and what networks say of sites that are not there."""

import pytest
import torch
from torch import nn

import energeia as en


class NotANumber(nn.Module):
    """Log potentials that are NaN or -inf where no site is, as of attention over nothing."""

    def __init__(self, value):
        super().__init__()
        self.linear, self.value = nn.Linear(2, 3).double(), value

    def forward(self, x):
        return torch.where((x == 0).all(-1, keepdim=True), self.value, self.linear(x))


def _rows():
    x = torch.randn(2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[1, 2:] = -1.0
    return x, torch.tensor([[0, 1, 2, 0], [1, 2, -1, -1]])


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_a_network_says_of_sites_that_are_not_there_is_not_read(value):
    torch.manual_seed(0)
    network, (x, y) = NotANumber(value), _rows()
    chain, plain = (en.LinearChain(net, en.Real((4, 2)), 3, padding=-1.0) for net in (network, network.linear))
    objective = en.ConditionalLikelihood()
    for energy in (chain, plain):
        nn.init.constant_(energy.transitions, 0.3)
    found, expected = (objective(energy, en.Batch(x, y), torch.Generator()).value for energy in (chain, plain))
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(value, network.linear.weight)[0] for value in (found, expected))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("objective", [en.ConditionalLikelihood(), en.StructuredHinge(), en.Margin(), en.Perceptron()])
@pytest.mark.parametrize("num_sites", [1, 2])
def test_objectives_take_other_lengths_than_the_spaces(objective, num_sites):
    torch.manual_seed(0)
    network = nn.Linear(2, 3).double()
    short = en.LinearChain(network, en.Real((num_sites, 2)), 3)
    chain = en.LinearChain(network, en.Real((4, 2)), 3)
    x, y = _rows()
    batch = en.Batch(x[:, :num_sites], y[:, :num_sites])
    values = [objective(energy, batch, torch.Generator()).value for energy in (short, chain)]
    torch.testing.assert_close(*values, rtol=0, atol=0)
