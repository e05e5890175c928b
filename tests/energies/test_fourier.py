"""Fourier features: the formula, their scale, and that a checkpoint holds them."""

import math

import pytest
import torch

import energeia as en


def test_it_is_an_mlp_of_x_and_its_waves() -> None:
    torch.manual_seed(0)
    network = en.FourierMLP((2, 3), 4, num_frequencies=5, widths=(8,)).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    flat = x.reshape(7, 6)
    waves = torch.stack([flat @ network.frequencies[:, number] for number in range(5)], 1)
    expected = network.network(torch.cat([flat, waves.sin(), waves.cos()], 1))
    torch.testing.assert_close(network(x), expected)
    assert network(x).shape == (7, 4)
    assert torch.autograd.gradcheck(network, x.requires_grad_(True))


@pytest.mark.parametrize(("num_dims", "scale"), [(1, 1.0), (50, 4.0)])
def test_waves_of_standard_rows_turn_by_the_scale(num_dims: int, scale: float) -> None:
    torch.manual_seed(0)
    network = en.FourierMLP(num_dims, num_frequencies=4000, scale=scale)
    angles = torch.randn(2000, num_dims) @ network.frequencies
    # 4,000 frequencies (times dims): the root of their mean square has an error of at most 1/sqrt(8000).
    assert float(angles.square().mean().sqrt()) == pytest.approx(scale, rel=0.06)


def test_frequencies_are_no_parameters_and_part_of_a_checkpoint() -> None:
    one, two = en.FourierMLP(2), en.FourierMLP(2)
    assert "frequencies" not in dict(one.named_parameters())
    x = torch.randn(5, 2)
    assert not torch.equal(one(x), two(x))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)


def test_one_wave_by_hand() -> None:
    network = en.FourierMLP(1, num_frequencies=1, scale=1.0, widths=()).double()
    network.frequencies.fill_(2 * math.pi)
    x = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    weight, bias = network.network.state_dict().values()
    expected = weight[0, 0] * x + weight[0, 1] * (2 * math.pi * x).sin() + weight[0, 2] * (2 * math.pi * x).cos() + bias
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    ("arguments", "words"), [({"scale": 0.0}, "scale"), ({"num_frequencies": 0}, "num_frequencies")]
)
def test_what_it_refuses(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(en.InputError, match=f"FourierMLP: {words} must be"):
        en.FourierMLP(2, **arguments)
