"""Where x lives: real vectors, boxes, bits, spins and categories."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from energeia.core.errors import InputError


def as_shape(shape: "int | tuple[int, ...]", who: str, *, empty: bool = False) -> tuple[int, ...]:
    """The event shape as a tuple; `InputError` naming who if it is empty (where it may not be) or a size is below 1."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not (sizes or empty) or any(size < 1 for size in sizes):
        raise InputError(f"{who}: event shape {sizes} is empty or has a size below 1; sizes are at least 1")
    return sizes


@dataclass(frozen=True)
class Space(ABC):
    """The set that x belongs to, with the shape of one event.

    Args:
        shape: shape of one x without the chain axis; an int n means (n,).
    """

    shape: int | tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape, type(self).__name__))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one x; a batch of chains is `[B, *event_shape]`."""
        return as_shape(self.shape, type(self).__name__)

    @property
    def num_dims(self) -> int:
        """Number of numbers in one x."""
        return math.prod(self.event_shape)

    @abstractmethod
    def start(
        self,
        num_chains: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Start points `[num_chains, *event]`, on the generator's device."""

    @abstractmethod
    def contains(self, x: Tensor) -> Tensor:
        """Which of the x `[B, *event]` belong to the space: bool `[B]`."""

    def same_set(self, other: "Space") -> bool:
        """Whether the same x belong to both; where chains start does not matter."""
        return self == other

    def check(self, x: Tensor, name: str = "x") -> None:
        """Raise `InputError` unless x is a floating `[B, *event]` inside the space."""
        if tuple(x.shape[1:]) != self.event_shape or x.dim() == 0:
            raise InputError(
                f"{name} has shape {tuple(x.shape)}, but {self} expects [B, {', '.join(map(str, self.event_shape))}]"
                f"{self._advice(x)}"
            )
        if not x.is_floating_point():
            raise InputError(
                f"{name} has dtype {x.dtype}; energies are differentiated, so give a floating dtype: x.float()"
            )
        outside = ~self.contains(x)
        if bool(outside.any()):
            row = int(outside.nonzero()[0, 0])
            raise InputError(
                f"{name}: {int(outside.sum())} of {len(x)} rows lie outside {self}; the first is row {row}, "
                f"with values from {x[row].min().item():g} to {x[row].max().item():g}{self._advice(x)}"
            )

    def _advice(self, x: Tensor) -> str:
        """What to do about x that does not fit, where that can be guessed."""
        return ""


@runtime_checkable
class Enumerable(Protocol):
    """A discrete space: its states can be listed and drawn site by site."""

    @property
    def num_states(self) -> int:
        """How many states there are."""
        ...

    def enumerate(self, first: int, last: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """States number first to last (exclusive), `[last - first, *event]`."""
        ...

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """Sites drawn from their natural parameters with one uniform each: of one shape, any."""
        ...


def _digits(first: int, last: int, base: int, num_sites: int, device: torch.device) -> Tensor:
    """The numbers first..last-1 written in the base, least digit first: `[last - first, num_sites]`."""
    number = torch.arange(first, last, device=device).unsqueeze(1)
    place = torch.tensor([base**site for site in range(num_sites)], device=device)
    return number.div(place, rounding_mode="floor") % base


def uniform_numbers(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype | None) -> Tensor:
    """Uniform on [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)


def all_events(condition: Tensor) -> Tensor:
    """Whether a condition `[B, *event]` holds all over each event: `[B]`."""
    return condition.flatten(1).all(1)


def _all_bits(x: Tensor) -> Tensor:
    """Whether events are all 0 and 1: a quarter of the time of comparisons on the CPU. NaN and infinity are not."""
    return (x * x - x).flatten(1).abs().amax(1) == 0


@dataclass(frozen=True)
class Real(Space):
    """All real x of a shape. Chains start from N(0, start_scale^2).

    Args:
        shape: event shape.
        start_scale: standard deviation of the start points, > 0.
    """

    start_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_scale < math.inf:
            raise InputError(f"Real: start_scale must be a positive finite number, got {self.start_scale}")

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Normal start points."""
        shape = (num_chains, *self.event_shape)
        return self.start_scale * torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)

    def same_set(self, other: Space) -> bool:
        """Whether the same x belong to both; where chains start does not matter."""
        return isinstance(other, Real) and self.event_shape == other.event_shape

    def contains(self, x: Tensor) -> Tensor:
        """True where every entry is finite."""
        return all_events(x.isfinite())


@dataclass(frozen=True)
class Box(Space):
    """Each number of x between low and high. Chains start uniformly.

    Args:
        shape: event shape.
        low, high: bounds of every number, low < high.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"Box: need finite low < high, got low={self.low}, high={self.high}")

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform start points."""
        uniform = uniform_numbers((num_chains, *self.event_shape), generator, dtype)
        return self.low + (self.high - self.low) * uniform

    def contains(self, x: Tensor) -> Tensor:
        """True where every entry is within the bounds."""
        return all_events((x >= self.low) & (x <= self.high))

    def reflect(self, x: Tensor) -> Tensor:
        """Fold x back into the box at its walls, as often as needed.

        Folding is a symmetric map, so a Gaussian step followed by it has the
        symmetric density a Metropolis walk or Langevin step needs; NaN stays NaN.
        """
        return self.bounce(x, x)[0]

    def bounce(self, x: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Fold x back into the box, and turn the velocity where the number of walls met is odd.

        A free flight between hard walls: it keeps volumes and can be run backwards.
        """
        width = self.high - self.low
        offset = torch.remainder(x - self.low, 2 * width)
        folded = (self.low + (width - (offset - width).abs())).clamp(self.low, self.high)
        # Where x is inside already it is returned as it came: folding would cost rounding.
        inside = (x >= self.low) & (x <= self.high)
        return torch.where(inside, x, folded), torch.where(inside | (offset <= width), velocity, -velocity)


@dataclass(frozen=True)
class Binary(Space):
    """Every site 0 or 1, held in a floating tensor. Chains start from fair coins."""

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Fair coin flips."""
        return uniform_numbers((num_chains, *self.event_shape), generator, dtype).round()

    def contains(self, x: Tensor) -> Tensor:
        """True where every entry is 0 or 1."""
        return _all_bits(x)

    def _advice(self, x: Tensor) -> str:
        if bool((x.abs() == 1).all()):
            return "; these look like spins: give (x + 1) / 2, or a model on en.Spin"
        return (
            "; cut them into bits, as (x >= threshold).float() or energeia.data.Binarised(source), or take a model on "
            "en.Real"
            if tuple(x.shape[1:]) == self.event_shape
            else ""
        )

    @property
    def num_states(self) -> int:
        """2 to the number of sites."""
        return 2**self.num_dims

    def enumerate(self, first: int, last: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """States first to last - 1; bit i of the number is site i."""
        return _digits(first, last, 2, self.num_dims, device).to(dtype).view(-1, *self.event_shape)

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """x with p(x_i = 1) = sigmoid(natural_i), a function of its inputs alone (of one shape, any)."""
        # In place: a comparison that makes booleans first, to be converted, takes three times as long.
        return natural.sigmoid().gt_(uniform)

    def log_partition(self, natural: Tensor) -> Tensor:
        """sum_i log(1 + exp(natural_i)), `[B]`."""
        # Beyond torch's own threshold of 20 it would be off by 2e-9, which float64 sees.
        return torch.nn.functional.softplus(natural, threshold=40).flatten(1).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """E[x] = sigmoid(natural)."""
        return natural.sigmoid()


@dataclass(frozen=True)
class Spin(Space):
    """Every site -1 or +1, held in a floating tensor. Chains start from fair coins."""

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Fair coin flips."""
        return 2 * uniform_numbers((num_chains, *self.event_shape), generator, dtype).round() - 1

    def contains(self, x: Tensor) -> Tensor:
        """True where every entry is -1 or +1."""
        return all_events(x.abs() == 1)

    def _advice(self, x: Tensor) -> str:
        bits = bool(((x == 0) | (x == 1)).all())
        return "; these look like bits: give 2 * x - 1, or a model on en.Binary" if bits else ""

    @property
    def num_states(self) -> int:
        """2 to the number of sites."""
        return 2**self.num_dims

    def enumerate(self, first: int, last: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """States first to last - 1; bit i of the number is site i, 0 for -1."""
        return 2 * _digits(first, last, 2, self.num_dims, device).to(dtype).view(-1, *self.event_shape) - 1

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """x with p(x_i) proportional to exp(natural_i x_i), a function of its inputs alone (of one shape, any)."""
        return 2 * (2 * natural).sigmoid().gt_(uniform) - 1

    def log_partition(self, natural: Tensor) -> Tensor:
        """sum_i log(exp(natural_i) + exp(-natural_i)), `[B]`."""
        return (torch.nn.functional.softplus(2 * natural, threshold=40) - natural).flatten(1).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """E[x] = tanh(natural)."""
        return natural.tanh()


@dataclass(frozen=True)
class Categorical(Space):
    """Every site one of K categories, held one-hot in a floating tensor.

    The event shape is `(*sites, K)`: x has the shape of its natural parameters
    and energies of it can be differentiated.

    Args:
        shape: shape of the sites, without the category axis; () is one site, such as the class of a picture.
        num_categories: K, at least 2.
    """

    num_categories: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.sites)
        if self.num_categories < 2:
            raise InputError(f"Categorical: num_categories must be at least 2, got {self.num_categories}")

    @property
    def sites(self) -> tuple[int, ...]:
        """Shape of the sites."""
        return as_shape(self.shape, "Categorical", empty=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(*sites, K)`."""
        return (*self.sites, self.num_categories)

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform categories."""
        uniform = uniform_numbers((num_chains, *self.event_shape), generator, dtype)
        return self.from_natural(torch.zeros_like(uniform), uniform)

    def contains(self, x: Tensor) -> Tensor:
        """True where every site is one-hot."""
        return _all_bits(x) & all_events(x.sum(-1) == 1)

    def one_hot(self, index: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Category numbers 0..K-1, `[B, *sites]`, as x `[B, *sites, K]`.

        Raises:
            InputError: a number is not a category, with the first of them.
        """
        sites = self.sites
        if index.is_floating_point() or index.dtype == torch.bool or tuple(index.shape[1:]) != sites:
            raise InputError(
                f"labels must be whole numbers (int64) of shape [{', '.join(['B', *map(str, sites)])}], got "
                f"{index.dtype} of shape {[*index.shape]}"
            )
        outside = (index < 0) | (index >= self.num_categories)
        if bool(outside.any()):
            place = [int(number) for number in outside.nonzero()[0]]
            where = f"row {place[0]}" + (f" at site {place[1:]}" if sites else "")
            raise InputError(
                f"labels: {int(outside.sum())} categories are outside 0..{self.num_categories - 1}; the first is "
                f"{int(index[tuple(place)])}, in {where}; count from 0, or take a larger num_categories"
            )
        return torch.nn.functional.one_hot(index.long(), self.num_categories).to(dtype or torch.get_default_dtype())

    def _advice(self, x: Tensor) -> str:
        whole = tuple(x.shape[1:]) == self.sites
        return "; for category numbers 0..K-1 give space.one_hot(numbers)" if whole else ""

    @property
    def num_states(self) -> int:
        """K to the number of sites."""
        return self.num_categories ** (self.num_dims // self.num_categories)

    def enumerate(self, first: int, last: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """States first to last - 1; the number in base K is the categories, first site least."""
        num_sites = self.num_dims // self.num_categories
        digit = _digits(first, last, self.num_categories, num_sites, device)
        return torch.nn.functional.one_hot(digit, self.num_categories).to(dtype).view(-1, *self.event_shape)

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """x with p(category k) = softmax(natural)_k, a function of its inputs alone (`[..., K]` each)."""
        # The largest of natural + Gumbel noise; u = 0 and u near 1 would make a logarithm infinite.
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -(-(uniform.clamp_min(tiny)).log()).clamp_min(tiny).log()
        index = (natural + gumbel).argmax(-1)
        return torch.nn.functional.one_hot(index, self.num_categories).to(natural.dtype)

    def log_partition(self, natural: Tensor) -> Tensor:
        """sum over the sites of logsumexp over the categories, `[B]`."""
        return natural.logsumexp(-1).flatten(1).sum(1)

    def mean(self, natural: Tensor) -> Tensor:
        """E[x] = softmax(natural)."""
        return natural.softmax(-1)
