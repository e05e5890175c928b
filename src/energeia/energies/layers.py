"""Layers of units: what Boltzmann machines with hidden units share."""

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.positive import Positive
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.space import Binary, Categorical, Real, Space, Spin
from energeia.core.units import Units


def units_space(who: str, name: str, value: int | Space) -> Space:
    """A space whose sites can be units; an int is that many bits."""
    space = Binary(value) if isinstance(value, int) else value
    if not isinstance(space, Binary | Spin | Categorical | Real | Positive):
        raise InputError(
            f"{who}: {name} must be a number of bits or one of the spaces Binary, Spin, Categorical, Real and "
            f"Positive, got {value!r}"
        )
    return space


def counting_units(space: Space) -> Units:
    """A discrete space as the units that it is."""
    assert isinstance(space, Binary | Spin | Categorical)
    return space


def middle(space: Space) -> Tensor:
    """The mean of units with natural parameters 0, flat."""
    level = {Binary: 0.5, Spin: 0.0, Real: 0.0, Positive: (2 / torch.pi) ** 0.5}.get(type(space))
    if isinstance(space, Categorical):
        level = 1 / space.num_categories
    assert level is not None
    return torch.full((space.num_dims,), level)


def checked_statistic(name: str, value: Tensor, space: Space) -> Tensor:
    """A mean or variance of data as a flat vector, or `InputError`."""
    if not isinstance(value, Tensor) or value.numel() != space.num_dims or not bool(value.isfinite().all()):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name} must be finite, of the event shape {space.event_shape}, got {shape}")
    return value.flatten()


def first_bias(space: Space, mean: Tensor) -> Tensor:
    """b with which independent units have this mean (flat), kept off the ends by a thousandth."""
    if isinstance(space, Binary):
        return mean.clamp(1e-3, 1 - 1e-3).logit()
    if isinstance(space, Spin):
        return mean.clamp(-1 + 2e-3, 1 - 2e-3).atanh()
    if isinstance(space, Categorical):
        return mean.clamp_min(1e-3).log()
    return mean


def draw_units(units: Units, natural: Tensor, generator: torch.Generator) -> Tensor:
    """A draw of units from their natural parameters `[B, *sites]`."""
    bits = random_bits(tuple(natural.shape), generator, dtype=natural.dtype)
    return units.from_natural(natural, uniform_from_bits(bits))
