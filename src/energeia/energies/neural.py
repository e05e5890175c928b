"""Networks to start from, and an energy that is a network with one output."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import InputError, check_count
from energeia.core.space import Space

Activation = Literal["silu", "elu", "softplus", "tanh", "relu", "leaky_relu", "sigmoid"]

# A product with so few columns takes matrix libraries several times as long as its arithmetic.
_NARROW = 4


class _Linear(nn.Linear):
    """nn.Linear; compiled on a CPU, a layer of few inputs or one output is a sum inside the kernels beside it."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() and input.device.type == "cpu":
            if self.out_features == 1:
                return (input * self.weight[0]).sum(-1, keepdim=True) + self.bias
            if self.in_features <= _NARROW:
                return (_stored(input).unsqueeze(-1) * _stored(self.weight.t())).sum(-2) + self.bias
        return super().forward(input)


class _SiLU(nn.SiLU):
    """nn.SiLU; compiled, its derivative uses the sigmoid of its value, instead of a second exponential."""

    def forward(self, input: Tensor) -> Tensor:
        return input * input.sigmoid() if torch.compiler.is_compiling() else super().forward(input)


def _stored(x: Tensor) -> Tensor:
    """The same numbers, put into memory once: the compiler would compute or gather them where each is needed."""
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": _SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}


def activation_of(name: str) -> nn.Module:
    """The module of that name, or `InputError`."""
    if name not in _ACTIVATIONS:
        raise InputError(f"activation {name!r} is unknown; choose one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


class MLP(nn.Sequential):
    """A fully connected network: `[B, *event]` to `[B, num_outputs]`.

    Args:
        event_shape: shape of one x; it is flattened.
        num_outputs: 1 for an energy, K for a classifier.
        widths: sizes of the hidden layers.
        activation: between the layers; smooth ones (silu, elu, softplus, tanh) give
            Langevin dynamics a gradient that changes smoothly.
    """

    def __init__(
        self,
        event_shape: int | tuple[int, ...],
        num_outputs: int = 1,
        *,
        widths: Sequence[int] = (128, 128),
        activation: Activation = "silu",
    ) -> None:
        check_count("MLP", num_outputs=num_outputs, **{f"widths[{i}]": width for i, width in enumerate(widths)})
        shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        sizes = [int(torch.Size(shape).numel()), *widths]
        layers: list[nn.Module] = [nn.Flatten()]
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [_Linear(size_in, size_out), activation_of(activation)]
        super().__init__(*layers, _Linear(sizes[-1], num_outputs))


class ConvNet(nn.Sequential):
    """A small convolutional network for pictures: `[B, C, H, W]` to `[B, num_outputs]`.

    3x3 convolutions; the first keeps the size, each further one halves it; then one
    hidden layer. No normalisation: a chain's energy is its own.

    Args:
        event_shape: (channels, height, width) of one x.
        num_outputs: 1 for an energy, K for a classifier.
        channels: channels of the convolutions.
        hidden: size of the hidden layer.
        activation: between the layers.
    """

    def __init__(
        self,
        event_shape: tuple[int, int, int],
        num_outputs: int = 1,
        *,
        channels: Sequence[int] = (32, 64, 64),
        hidden: int = 128,
        activation: Activation = "silu",
    ) -> None:
        if len(event_shape) != 3:
            raise InputError(
                f"ConvNet: event_shape is (channels, height, width), got {tuple(event_shape)}; use MLP for vectors"
            )
        check_count("ConvNet", num_outputs=num_outputs, hidden=hidden)
        depth, height, width = event_shape
        layers: list[nn.Module] = []
        for number, size in enumerate(channels):
            stride = 1 if number == 0 else 2
            layers += [nn.Conv2d(depth, size, 3, stride=stride, padding=1), activation_of(activation)]
            depth, height, width = size, (height - 1) // stride + 1, (width - 1) // stride + 1
        layers += [nn.Flatten(), nn.Linear(depth * height * width, hidden), activation_of(activation)]
        super().__init__(*layers, nn.Linear(hidden, num_outputs))


class Neural(Energy):
    """E(x) = network(x), for a network with one output, `[B, 1]` or `[B]`.

    Args:
        network: maps `[B, *event]` to `[B, 1]` or `[B]`.
        space: where x lives.

    The same as `from_module` for those who build models from YAML.
    """

    def __init__(self, network: nn.Module, space: Space) -> None:
        super().__init__(space)
        self.network = network
        dtype, device = dtype_and_device(network)
        validate(self, space.start(4, torch.Generator(device).manual_seed(0), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        values = cast(Callable[[Tensor], Tensor], self.network)(x)
        return values.squeeze(1) if values.dim() == 2 and values.shape[1] == 1 else values
