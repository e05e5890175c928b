"""Real rows as bits in Gray code, in which neighbours differ in one bit, and back."""

import math

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count, check_finite
from energeia.core.record import Batch
from energeia.data.source import Contents, Source, Splits

_MOST_BITS = 24


def gray_code(x: Tensor, *, low: float, high: float, num_bits: int = 16) -> Tensor:
    """Every coordinate of x cut into 2^num_bits cells of [low, high), each cell as its number in Gray code.

    Cell k = floor(2^n (x - low) / (high - low)) becomes the bits of k XOR floor(k / 2), the highest first.

    Args:
        x: rows `[B, d]`.
        low, high: the range, low < high.
        num_bits: n of each coordinate, 1 to 24. In float32 cells narrower than its rounding stay empty.

    Returns:
        `[B, d num_bits]` of 0 and 1 in the dtype of x: the bits of the first coordinate, then of the next.

    Raises:
        InputError: a value is outside [low, high).

    >>> gray_code(torch.tensor([[0.0, 0.26], [0.51, 0.99]]), low=0.0, high=1.0, num_bits=2)
    tensor([[0., 0., 0., 1.],
            [1., 1., 1., 0.]])

    Reference: Gray (1953), Pulse code communication, US patent 2632058. As a benchmark of discrete energies: Dai,
    Singh, Dai, Sutton & Schuurmans (2020), Learning discrete energy-based models via auxiliary-variable local
    exploration, https://arxiv.org/abs/2011.05363; Zhang, Malkin, Liu, Volokhova, Courville & Bengio (2022),
    Generative flow networks for discrete probabilistic modeling, https://arxiv.org/abs/2202.01361
    """
    _check("gray_code", low, high, num_bits)
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError(f"gray_code: x must be floating rows [B, d], got {x.dtype} {tuple(x.shape)}")
    outside = ~((x >= low) & (x < high)).all(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise InputError(
            f"gray_code: {int(outside.sum())} of {len(x)} rows lie outside [{low:g}, {high:g}) or are not finite; the "
            f"first is row {row}, {x[row].tolist()}; widen low and high, or leave such rows out"
        )
    # float64: the quotient of a value just below high would round up to one past the last cell.
    cell = ((x.double() - low) / (high - low) * 2**num_bits).long().clamp_max(2**num_bits - 1)
    code = cell ^ (cell >> 1)
    return (code.unsqueeze(2) >> _places(num_bits, x) & 1).to(x.dtype).flatten(1)


def from_gray_code(bits: Tensor, *, low: float, high: float, num_bits: int = 16) -> Tensor:
    """The middles of the cells that bits `[B, d num_bits]` stand for, `[B, d]`: the inverse of `gray_code`.

    A row comes back within half a cell, (high - low) / 2^(num_bits + 1) in each coordinate.

    Raises:
        InputError: the bits are not 0 and 1, or not whole coordinates.

    >>> from_gray_code(torch.tensor([[1.0, 1.0, 1.0, 0.0]]), low=0.0, high=1.0, num_bits=2)
    tensor([[0.6250, 0.8750]])
    """
    _check("from_gray_code", low, high, num_bits)
    if bits.dim() != 2 or bits.shape[1] % num_bits or not bool(((bits == 0) | (bits == 1)).all()):
        raise InputError(
            f"from_gray_code: bits must be 0 or 1, [B, a multiple of num_bits = {num_bits}], got {tuple(bits.shape)} "
            f"with values from {float(bits.min()) if bits.numel() else math.nan:g} to "
            f"{float(bits.max()) if bits.numel() else math.nan:g}"
        )
    code = bits.long().view(len(bits), -1, num_bits)
    # A bit of the number is the parity of all bits of the code above and at it.
    cell = (code.cumsum(2) % 2 << _places(num_bits, bits)).sum(2)
    middle = low + (high - low) * (cell.double() + 0.5) / 2**num_bits
    return middle.to(bits.dtype)


class GrayCoded(Source):
    """The rows of a source of vectors as bits in Gray code (`gray_code`): a discrete problem that can be looked at.

    Args:
        source: where the values come from; its events are vectors.
        low, high: the range that is cut into cells.
        num_bits: bits of each coordinate; 16 of both of a plane are the 32 bits of the literature.

    Labels and splits stay as they are, and so do foreign sets, coded alike.

    Raises:
        InputError: events are no vectors, or a row lies outside the range.

    Example:
        >>> from energeia.data import Toy
        >>> GrayCoded(Toy("spirals")).splits().train.x.shape
        torch.Size([20000, 32])
    """

    def __init__(self, source: Source, *, low: float = -4.0, high: float = 4.0, num_bits: int = 16) -> None:
        super().__init__()
        _check("GrayCoded", low, high, num_bits)
        self.source, self.bottom, self.top, self.num_bits = source, low, high, num_bits

    def load(self) -> Contents:
        """Read the source and code it."""
        whole, splits = self.source, self.source.splits()
        if len(whole.event_shape) != 1:
            raise InputError(f"GrayCoded: events must be vectors, got shape {whole.event_shape}")

        def coded(x: Tensor) -> Tensor:
            return gray_code(x, low=self.bottom, high=self.top, num_bits=self.num_bits)

        def part(batch: Batch | None) -> Batch | None:
            return None if batch is None else Batch(coded(batch.x), batch.y)

        train = Batch(coded(splits.train.x), splits.train.y)
        foreign = {name: coded(x) for name, x in splits.foreign.items()}
        bits = Splits(train, part(splits.validation), part(splits.test), foreign)
        shape = (whole.event_shape[0] * self.num_bits,)
        return Contents(bits, shape, whole.num_classes, 0.0, 1.0, False, whole.class_names)


def _places(num_bits: int, like: Tensor) -> Tensor:
    """Places of the bits, the highest first."""
    return torch.arange(num_bits - 1, -1, -1, device=like.device)


def _check(who: str, low: float, high: float, num_bits: int) -> None:
    check_finite(who, low=low, high=high)
    check_count(who, num_bits=num_bits)
    if not low < high or num_bits > _MOST_BITS:
        raise InputError(
            f"{who}: needs low < high and at most {_MOST_BITS} bits, got low={low}, high={high}, num_bits={num_bits}"
        )
