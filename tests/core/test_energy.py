import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.energy import validate


class _Broadcast(nn.Module):
    def forward(self, x):
        return x.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_Broadcast(), "squeeze"),
        (lambda x: x.sum(), "keep the chain axis"),
        (lambda x: x, "an energy returns"),
        (lambda x: x.double().sum(1), "one dtype"),
        (lambda x: (x.sum(1) * 0 - 1).sqrt(), "NaN"),
        (nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)), "BatchNorm"),
        (nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.Linear(64, 1), nn.Flatten(0)), "Dropout"),
    ],
)
def test_energies_that_are_none_are_refused_in_words(function, words):
    torch.manual_seed(0)
    with pytest.raises(en.InputError, match=words):
        en.from_module(function, en.Real(2))


def test_batchnorm_and_dropout_are_fine_in_eval_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1), nn.Flatten(0))
    energy = en.from_module(network.eval(), en.Real(2))
    validate(energy, torch.randn(5, 2))


def test_modules_keep_their_parameters_and_functions_have_none():
    assert len(list(en.from_module(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), en.Real(2)).parameters())) == 2
    assert not list(en.from_module(lambda x: x.sum(1), en.Real(2)).parameters())


def test_missing_capability_names_the_method_and_what_to_use():
    with pytest.raises(en.CapabilityError, match=r"class_energies.*Gaussian does not offer; use en.Classifier"):
        en.given(en.Gaussian(2), label=1)


def test_value_and_gradient_match_autograd_and_leave_parameters_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).double()
    energy = en.from_module(network, en.Real(3))
    x = torch.randn(6, 3, dtype=torch.float64)
    before = x.clone()
    values, gradient = en.value_and_gradient(energy, x)
    torch.testing.assert_close(x, before)
    assert not x.requires_grad
    assert not values.requires_grad
    assert all(p.grad is None and p.requires_grad for p in energy.parameters())
    step = 1e-6
    for column in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[column] = step
        difference = (energy(x + shift) - energy(x - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, column], difference.detach(), atol=1e-8, rtol=1e-7)
    torch.testing.assert_close(en.score(energy, x), -gradient)


def test_gradient_works_where_gradients_are_off():
    with torch.no_grad():
        values, gradient = en.value_and_gradient(en.Gaussian(2), torch.ones(3, 2))
    torch.testing.assert_close(gradient, torch.ones(3, 2))
    torch.testing.assert_close(values, torch.ones(3))


def test_create_graph_reaches_the_parameters():
    weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    class Quadratic(en.Energy):
        def __init__(self):
            super().__init__(en.Real(1))
            self.weight = weight

        def forward(self, x):
            return self.weight * x.square().sum(1) / 2

    _, gradient = en.value_and_gradient(Quadratic(), torch.ones(1, 1, dtype=torch.float64), create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4.0)


def test_gradient_has_a_graph_where_x_has_one():
    energy = en.from_module(lambda x: x.pow(4).sum(1), en.Real(1))
    x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    for options, kept in (({}, True), ({"create_graph": False}, False)):
        values, gradient = en.value_and_gradient(energy, x, **options)
        assert values.requires_grad == gradient.requires_grad == kept
    (second,) = torch.autograd.grad(en.value_and_gradient(energy, x)[1].sum(), x)
    assert second.item() == pytest.approx(12.0)
    assert not en.value_and_gradient(energy, x.detach())[1].requires_grad
    assert not en.score(energy, x).requires_grad
    with torch.no_grad():
        assert not en.value_and_gradient(energy, x)[1].requires_grad
