import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes


def test_classifier_energies_are_those_of_its_logits():
    torch.manual_seed(0)
    network = nn.Linear(2, 4)
    energy, x = en.Classifier(network, en.Real(2)), torch.randn(5, 2)
    torch.testing.assert_close(energy.class_energies(x), -network(x))
    torch.testing.assert_close(energy(x), -network(x).exp().sum(1).log())
    assert energy.num_classes == 4


@pytest.mark.parametrize("network", [nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 3), nn.Flatten(0)), nn.Identity()])
def test_classifier_wants_logits(network):
    if isinstance(network, nn.Identity):
        with pytest.raises(en.InputError, match="expected logits"):
            en.Classifier(network, en.Real((2, 2)))
    else:
        with pytest.raises(en.InputError, match=r"expected logits \[B, K\]"):
            en.Classifier(network, en.Real(2))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5)])
def test_convnet_and_mlp_fit_any_picture(shape):
    x = torch.zeros(2, *shape)
    assert en.ConvNet(shape, 10, channels=(4, 4, 4), hidden=8)(x).shape == (2, 10)
    assert en.MLP(shape, 10, widths=(4,))(x).shape == (2, 10)
    with pytest.raises(en.InputError, match="use MLP for vectors"):
        en.ConvNet((8,), 1)
    with pytest.raises(en.InputError, match="choose one of"):
        en.MLP(2, activation="gelu2")


def test_gaussian_log_z_and_draws():
    mean, scale = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)
    energy = en.Gaussian(2, mean=mean, scale=scale)
    assert energy.log_z().value.item() == pytest.approx(math.log(2 * math.pi * 0.5 * 2.0), rel=1e-12)
    x = energy.sample_exact(100_000, torch.Generator().manual_seed(0))
    assert bool(((x.mean(0) - mean).abs() < 5 * scale / 316).all())
    assert bool(((x.std(0) / scale - 1).abs() < 5 / 447).all())
    with pytest.raises(en.InputError, match="positive everywhere"):
        en.Gaussian(2, scale=0.0)


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)])
def test_independent_log_z_by_enumeration(space):
    torch.manual_seed(0)
    energy = en.Independent(space, torch.randn(space.event_shape, dtype=torch.float64))
    x, _ = integration_nodes(space)
    assert energy.log_z().value.item() == pytest.approx((-energy(x)).logsumexp(0).item(), rel=1e-12)
    draws = energy.sample_exact(50_000, torch.Generator().manual_seed(0))
    weights = (-energy(x)).softmax(0).view(-1, *[1] * (x.dim() - 1))
    assert (draws.mean(0) - (weights * x).sum(0)).abs().max() < 5 / 220


def test_references_refuse_other_spaces():
    with pytest.raises(en.InputError, match="needs a Box"):
        en.Uniform(en.Real(2))
    with pytest.raises(en.InputError, match="expected the event shape"):
        en.Independent(en.Binary(3), torch.zeros(2))
    with pytest.raises(en.InputError, match="Binary, Spin, Categorical or Counts"):
        en.Independent(en.Real(3), torch.zeros(3))


def test_whole_numbers_do_not_truncate_a_gaussian():
    energy = en.Gaussian(2, mean=torch.tensor([2, 2]), scale=0.7)
    assert energy.mean.dtype == energy.scale.dtype == torch.float32
    torch.testing.assert_close(energy(torch.zeros(1, 2)), torch.tensor([2 * 4 / 0.98]))
