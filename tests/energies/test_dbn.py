"""Deep belief networks against enumeration of all their layers."""

import pytest
import torch
from torch import nn

import energeia as en


def _network(sizes=(3, 4, 2, 3), scale=1.0, seed=0):
    torch.manual_seed(seed)
    network = en.DBN(sizes[0], sizes[1:]).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return network


def _bits(size):
    return en.Binary(size).enumerate(0, 2**size, dtype=torch.float64, device=torch.device("cpu"))


def _bernoulli(natural, bits):
    p = natural.sigmoid()
    return (bits * p + (1 - bits) * (1 - p)).prod(-1)


def _probabilities(network):
    """p(v, h_1, ..., h_(L-1)) written out, `[2^n_0, ...]`, for L = 2 or 3."""
    top, states = network.top, [_bits(size) for size in network.sizes[:-1]]
    p = (states[-1] @ top.bias).exp()
    p = p * (1 + (states[-1] @ top.weight + top.hidden_bias).exp()).prod(1)
    p = p / p.sum()
    for layer in reversed(range(len(states) - 1)):
        natural = network.biases[layer] + states[layer + 1] @ network.weights[layer].T
        given = _bernoulli(natural.unsqueeze(0), states[layer].unsqueeze(1))
        p = given.view(*given.shape, *[1] * (p.dim() - 1)) * p.unsqueeze(0)
    return p.detach()


@pytest.mark.parametrize("sizes", [(3, 2, 4), (3, 4, 2, 3)])
def test_energy_is_that_of_the_directed_layers(sizes):
    network = _network(sizes)
    p = _probabilities(network)
    found = (-network(_bits(3)) - network.log_z().value).exp()
    torch.testing.assert_close(found, p.flatten(1).sum(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(en.exact_log_z(network).value, network.log_z().value, rtol=1e-10, atol=1e-10)


def test_samples_have_the_distribution():
    network = _network()
    p = _probabilities(network).flatten(1).sum(1)
    exact = network.sample_exact(4000, torch.Generator().manual_seed(0))
    for draws in (network.sample(4000, num_steps=60), exact):
        places = (draws @ torch.tensor([1.0, 2, 4], dtype=torch.float64)).long()
        counts = torch.bincount(places, minlength=8) / 4000
        assert bool(((counts - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all())


def test_bound_is_the_expectation_over_recognition():
    """E_q[E(v, h) + log q(h|v)] by the sum over h, against many draws; and tight with the exact posterior."""
    network = _network((3, 2, 3))
    v, h = _bits(3)[[5]], _bits(2)
    q = _bernoulli(network.upward(1, v), h).detach()
    with torch.no_grad():
        energy = network.joint_energy([v.expand(4, 3), h])
        expected = (q * (energy + q.log())).sum()
        draws = network.variational_energy(v.expand(20_000, 3), torch.Generator().manual_seed(0))
        assert expected > network(v)[0]
        assert (draws.mean() - expected).abs() < 5 * draws.std() / 20_000**0.5
        # No weights: the posterior is that of independent bits, and every draw gives E(v).
        network.weights[0].zero_()
        network.top.weight.zero_()
        network.recognition_weights[0].zero_()
        network.recognition_biases[0].copy_(network.top.bias)
        draws = network.variational_energy(v.expand(50, 3), torch.Generator().manual_seed(0))
        torch.testing.assert_close(draws, network(v).expand(50), rtol=1e-10, atol=1e-10)


def test_stacked_machines_keep_their_weights():
    torch.manual_seed(0)
    machines = [en.RBM(5, 4, weight_scale=1.0), en.RBM(4, 3, weight_scale=1.0)]
    network = en.DBN.stacked(machines)
    x = en.Binary(5).start(6, torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.upward(1, x), machines[0].hidden_parameters(x))
    h = machines[0].transform(x)
    torch.testing.assert_close(network.downward(0, h), machines[0].visible_parameters(h))
    with torch.no_grad():
        features = machines[1].hidden_parameters(h).sigmoid()
    torch.testing.assert_close(network.transform(x), features)
    torch.testing.assert_close(network.log_z().value, machines[1].log_z().value)
    with pytest.raises(en.InputError, match="visible one of the next"):
        en.DBN.stacked([machines[0], machines[0]])
    with pytest.raises(en.InputError, match="machines of bits"):
        en.DBN.stacked([en.RBM(en.Real(5), 4), machines[1]])


def test_the_network_computes_the_features():
    network = _network((5, 4, 3)).float()
    x = en.Binary(5).start(6, torch.Generator().manual_seed(0))
    classifier = network.network(num_outputs=2)
    last = list(classifier)[-1]
    assert isinstance(last, nn.Linear)
    torch.testing.assert_close(classifier(x), last(network.transform(x)))
    assert not any(p.data_ptr() == own.data_ptr() for p in classifier.parameters() for own in network.parameters())


def test_what_cannot_be_done_is_said():
    with pytest.raises(en.InputError, match="variational_bound"):
        en.DBN(784, (500, 10))(torch.zeros(2, 784))
    with pytest.raises(en.InputError, match=r"en\.RBM"):
        en.DBN(4, (3,))
    with pytest.raises(en.InputError, match="bits"):
        en.DBN(en.Spin(4), (3, 2))
