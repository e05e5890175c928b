"""A network that sees fine detail: its inputs are waves of random directions and lengths."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.errors import check_count, check_positive
from energeia.energies.neural import MLP, Activation


class FourierMLP(nn.Module):
    """MLP of (x, sin Wx, cos Wx), with frequencies W drawn once and fixed: `[B, *event]` to `[B, num_outputs]`.

    Args:
        event_shape: shape of one x, about standardised; it is flattened.
        num_outputs: 1 for an energy, K for a classifier.
        num_frequencies: rows of W.
        scale: standard deviation of Wx for standardised x, in radians, > 0: entries of W are normal with standard
            deviation scale / sqrt(d).
        widths, activation: of the `MLP`.

    A plain MLP learns first what varies slowly, and of many narrow edges nothing in the time that one has. Too large a
    scale learns the noise of few rows: 1 for hundreds of rows, or for tens of columns; 3 for thousands of few columns.

    W is a buffer, drawn from torch's own stream as weights are, and part of a checkpoint.

    >>> import torch, energeia as en
    >>> energy = en.Neural(en.FourierMLP(2), en.Real(2)) + en.Gaussian(2)
    >>> energy(torch.zeros(5, 2)).shape
    torch.Size([5])

    Reference: Rahimi & Recht (2007), Random features for large-scale kernel machines; Tancik et al. (2020), Fourier
    features let networks learn high frequency functions in low dimensional domains, https://arxiv.org/abs/2006.10739
    """

    frequencies: Tensor

    def __init__(
        self,
        event_shape: int | tuple[int, ...],
        num_outputs: int = 1,
        *,
        num_frequencies: int = 64,
        scale: float = 3.0,
        widths: Sequence[int] = (128, 128),
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_count("FourierMLP", num_frequencies=num_frequencies)
        check_positive("FourierMLP", scale=scale)
        shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        num_dims = int(torch.Size(shape).numel())
        self.register_buffer("frequencies", torch.randn(num_dims, num_frequencies) * (scale / math.sqrt(num_dims)))
        self.network = MLP(num_dims + 2 * num_frequencies, num_outputs, widths=widths, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, num_outputs]`."""
        flat = x.flatten(1)
        angles = flat @ self.frequencies
        return self.network(torch.cat([flat, angles.sin(), angles.cos()], 1))
