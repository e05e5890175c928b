"""Answers y to inputs x: what an energy E(x, y) offers, and the search for the answer of least energy."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.space import Categorical, Space


@runtime_checkable
class Answering(Protocol):
    """Capability: an answer y beside x, with E(x) = -log sum_y exp(-E(x, y)) where that can be had.

    `given(energy, context=x)` is `within(x)`, the energy E(x, .) of the answers.
    """

    @property
    def answers(self) -> Space:
        """Where y lives, as samplers see it: labels are one-hot there."""
        ...

    def within(self, context: Tensor) -> Energy:
        """The energy of the answers to x `[B, *event]`, one for each row: it has `Rowwise`."""
        ...

    def present(self, x: Tensor) -> Tensor | None:
        """Which sites of the answers are there, bool `[B, *sites]`; None where all are."""
        ...


@runtime_checkable
class Rowwise(Protocol):
    """Capability: an energy for each row, E_b(y): row b of y belongs to it."""

    @property
    def num_rows(self) -> int:
        """B."""
        ...

    def take(self, index: Tensor) -> Energy:
        """The energies of the rows index `[C]` (int64, each as often as wanted). What x says is not computed again."""
        ...


@runtime_checkable
class Ragged(Protocol):
    """Capability: rows may lack sites. These are zeros in y, and an answer is one whatever is said of them."""

    @property
    def sites_there(self) -> Tensor | None:
        """bool `[B, *sites]`; None where all are."""
        ...


class Best(NamedTuple):
    """The answers of least energy, the best first.

    answers: `[B, k, *event]`; energies: `[B, k]`, inf (and an answer of zeros) where there are fewer than k.
    """

    answers: Tensor
    energies: Tensor


@runtime_checkable
class Solvable(Protocol):
    """Capability: exact inference, for every row at once. Sites that are not there are zeros."""

    def log_partition(self) -> Tensor:
        """log sum_y exp(-E_b(y)) `[B]`, with its graph."""
        ...

    def best(self, num_best: int) -> Best:
        """The answers of least energy."""
        ...

    def marginals(self) -> Tensor:
        """E[y] `[B, *event]`: of labels the chance of each."""
        ...

    def draw(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Independent answers `[B, num_draws, *event]`."""
        ...


@runtime_checkable
class Tiltable(Protocol):
    """Capability: a linear term added, or a factor, keeps all that the energy offers."""

    def tilted(self, slope: Tensor, offset: Tensor) -> Energy:
        """E_b(y) + slope_b . y + offset_b; slope `[B, *event]`, offset `[B]`."""
        ...

    def scaled(self, factor: float) -> Energy:
        """factor E_b(y), factor > 0."""
        ...


class Found(NamedTuple):
    """What a search finds.

    answers: `[B, k, *event]`, the best first; energies: `[B, k]`, inf where a search knows of fewer than k.
    exact: whether no answer can be better than the first, nor any other better than the k-th.
    method: what was done, in words.
    """

    answers: Tensor
    energies: Tensor
    exact: bool
    method: str


class Search(ABC):
    """A search for the y of least E_b(y), for every row b: to the minimum what a sampler is to a draw.

    A frozen dataclass of its settings.
    """

    @abstractmethod
    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The best answers of every row.

        Args:
            energy: of the answers, such as `given(energy, context=x)`; of one row if it has no `Rowwise`.
            generator: source of all random numbers.
            num_best: k >= 1.
        """


class Tilt(Energy):
    """E_b(y) = slope_b . y + offset_b: the linear term of `tilted`. Capability: `Rowwise`."""

    slope: Tensor
    offset: Tensor

    def __init__(self, space: Space, slope: Tensor, offset: Tensor) -> None:
        super().__init__(space)
        self.register_buffer("slope", slope, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E_b(y) `[B]`."""
        return (self.slope * x).flatten(1).sum(1) + self.offset

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.slope)

    def take(self, index: Tensor) -> "Tilt":
        """The rows index `[C]`."""
        return Tilt(self.space, self.slope[index], self.offset[index])


def tilted(energy: Energy, slope: Tensor, offset: Tensor) -> Energy:
    """E_b(y) + slope_b . y + offset_b: pulls the answers this way or that; slope `[B, *event]`, offset `[B]`."""
    found = energy.capability(Tiltable)
    return energy + Tilt(energy.space, slope, offset) if found is None else found.tilted(slope, offset)


def rows_of_energy(energy: Energy) -> int:
    """For how many rows the energy has an E_b(y); 1 without `Rowwise`."""
    rowwise = energy.capability(Rowwise)
    return 1 if rowwise is None else rowwise.num_rows


def repeated(energy: Energy, times: int) -> Energy:
    """Every row's energy `times` over, neighbours: `[B times]` rows; the energy itself without `Rowwise`."""
    if times == 1:
        return energy
    return taken(energy, lambda rows: rows.repeat_interleave(times))


def tiled(energy: Energy, times: int) -> Energy:
    """All rows' energies `times` over, one set after another: `[times B]` rows; the energy itself without `Rowwise`."""
    return taken(energy, lambda rows: rows.repeat(times))


def taken(energy: Energy, order: Callable[[Tensor], Tensor]) -> Energy:
    """The energies of the rows in an order, a function of their numbers 0..B-1; the energy itself without `Rowwise`."""
    rowwise = energy.capability(Rowwise)
    if rowwise is None:
        return energy
    return rowwise.take(order(torch.arange(rowwise.num_rows, device=dtype_and_device(energy)[1])))


def sites_there(energy: Energy) -> Tensor | None:
    """Which sites the rows of an energy of labels have, bool `[B, *sites]`; None where all are."""
    ragged = energy.capability(Ragged)
    return None if ragged is None else ragged.sites_there


def trimmed(energy: Energy, y: Tensor) -> Tensor:
    """Answers `[B, *event]`, or k for each row `[B, k, *event]`, with zeros at sites that are not there."""
    there = sites_there(energy)
    if there is None:
        return y
    there = there if y.dim() == there.dim() + 1 else there.unsqueeze(1)
    return y * there.unsqueeze(-1)


def encoded(space: Space, y: Tensor, dtype: torch.dtype, present: Tensor | None = None) -> Tensor:
    """Answers as data has them, as samplers see them: label numbers `[B, *sites]` one-hot, others as they are.

    Sites that are not there become zeros, whatever number stands there.

    Raises:
        InputError: labels outside 0..K-1, values outside the space, NaN.
    """
    if isinstance(space, Categorical):
        if y.is_floating_point() or tuple(y.shape[1:]) != space.sites:
            raise InputError(
                f"the answers are {y.dtype} of shape {tuple(y.shape)}; expected label numbers (int64) of shape "
                f"[{', '.join(map(str, ['B', *space.sites]))}]"
            )
        if present is not None:
            y = y.where(present, torch.zeros_like(y))
        outside = (y < 0) | (y >= space.num_categories)
        if bool(outside.any()):
            place = tuple(int(number) for number in outside.nonzero()[0])
            raise InputError(
                f"the answers have {int(outside.sum())} labels outside 0..{space.num_categories - 1}; the first is "
                f"{int(y[place])}, in row {place[0]}{f' at site {place[1:]}' if place[1:] else ''}; number the labels "
                "from 0, or give the energy more of them"
            )
        hot = space.one_hot(y, dtype=dtype)
        return hot if present is None else hot * present.unsqueeze(-1)
    values = y.to(dtype)
    space.check(values, "y")
    return values


def decoded(space: Space, event: Tensor, present: Tensor | None = None) -> Tensor:
    """Answers `[..., *event]` as data has them: label numbers `[..., *sites]`, -1 at sites that are not there."""
    if not isinstance(space, Categorical):
        return event
    labels = event.argmax(-1)
    return labels if present is None else labels.where(present, torch.full_like(labels, -1))
