"""The errors Energeia raises on purpose. Each says what was given, what was expected, what to do."""

import math


class EnergeiaError(Exception):
    """Base of every error raised on purpose."""


class InputError(EnergeiaError, ValueError):
    """An argument, a file or an energy is not what is needed."""


class CapabilityError(EnergeiaError, TypeError):
    """An energy lacks a method that the caller needs."""


class DivergenceError(EnergeiaError, ArithmeticError):
    """Chains or training left the finite numbers."""


class CheckpointError(EnergeiaError, RuntimeError):
    """A run directory or a checkpoint cannot be written, read or trusted."""


def check_positive(who: str, **values: object) -> None:
    """Raise `InputError` unless every value is a finite number above zero."""
    for name, value in values.items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise InputError(f"{who}: {name} must be a positive finite number, got {value!r}")


def check_finite(who: str, **values: object) -> None:
    """Raise `InputError` unless every value is a finite number."""
    for name, value in values.items():
        if not (isinstance(value, int | float) and math.isfinite(value)):
            raise InputError(f"{who}: {name} must be a finite number, got {value!r}")


def check_count(who: str, **values: object) -> None:
    """Raise `InputError` unless every value is an integer of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{who}: {name} must be an integer of at least 1, got {value!r}")


def check_chunk(who: str, num_steps: int, chunk: int | None) -> None:
    """Raise `InputError` unless num_steps can be run in whole compiled chunks."""
    check_count(who, num_steps=num_steps, chunk=1 if chunk is None else chunk)
    if chunk is not None and num_steps % chunk:
        raise InputError(f"{who}: num_steps={num_steps} is not a multiple of chunk={chunk}; whole chunks are compiled")


def check_fraction(who: str, **values: object) -> None:
    """Raise `InputError` unless every value lies in [0, 1]."""
    for name, value in values.items():
        if not (isinstance(value, int | float) and 0 <= value <= 1):
            raise InputError(f"{who}: {name} must lie between 0 and 1, got {value!r}")
