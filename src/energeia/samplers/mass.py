"""The mass matrix: in which units a continuous sampler moves."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from energeia.core.errors import InputError


class Mass(ABC):
    """M of the kinetic energy p' M^-1 p / 2, kept as a square root of its inverse: A A' = M^-1.

    Good masses have M^-1 near the covariance of the target. All samplers work with the
    whitened momentum xi = A' p, which is N(0, I): its velocity is A xi and a force f
    acts on it as A' f. So each needs two functions of A alone.
    """

    @abstractmethod
    def spread(self, z: Tensor) -> Tensor:
        """A z: whitened momenta or noise `[B, *event]` to velocities."""

    @abstractmethod
    def gather(self, force: Tensor) -> Tensor:
        """A' f: forces `[B, *event]` to whitened ones."""

    @abstractmethod
    def whiten(self, x: Tensor) -> Tensor:
        """A^-1 x: positions `[B, *event]` in units in which the target should have unit covariance."""

    @abstractmethod
    def check(self, who: str, x: Tensor) -> None:
        """Raise `InputError` unless it fits chains x `[B, *event]` in shape and dtype."""

    @property
    @abstractmethod
    def keeps_axes(self) -> bool:
        """Whether A is diagonal, so that walls along the axes stay walls."""


@dataclass(frozen=True, eq=False)
class DiagonalMass(Mass):
    """A = diag(scale), M = diag(1 / scale^2).

    Args:
        scale: standard deviations of the target: a number, or a tensor `[*event]`, > 0.

    Two masses are equal only if they are the same object.
    """

    scale: float | Tensor

    def __post_init__(self) -> None:
        scale = torch.as_tensor(self.scale)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise InputError(f"DiagonalMass: scale must be positive and finite, its least is {scale.min().item():g}")

    def spread(self, z: Tensor) -> Tensor:
        """scale * z."""
        return self.scale * z

    def gather(self, force: Tensor) -> Tensor:
        """scale * f."""
        return self.scale * force

    def whiten(self, x: Tensor) -> Tensor:
        """x / scale."""
        return x / self.scale

    def check(self, who: str, x: Tensor) -> None:
        """The scale has the event shape, or is one number."""
        if isinstance(self.scale, Tensor):
            if self.scale.dim() and self.scale.shape != x.shape[1:]:
                raise InputError(
                    f"{who}: the scale of the mass has shape {tuple(self.scale.shape)}, x has the event shape "
                    f"{tuple(x.shape[1:])}; give one number, or one for each"
                )
            _check_dtype(who, self.scale, x)

    @property
    def keeps_axes(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True, eq=False)
class DenseMass(Mass):
    """A = the lower Cholesky factor of a covariance, M its inverse; on the flattened event of d numbers.

    Args:
        covariance: `[d, d]`, symmetric positive definite, that of the target at best.

    Cost: d^2 a step and chain, twice. Two masses are equal only if they are the same object.
    """

    covariance: Tensor
    factor: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.covariance.dim() != 2 or self.covariance.shape[0] != self.covariance.shape[1]:
            raise InputError(f"DenseMass: covariance must be [d, d], got {tuple(self.covariance.shape)}")
        if not bool(self.covariance.isfinite().all()):
            raise InputError("DenseMass: covariance is not finite")
        if not torch.allclose(self.covariance, self.covariance.T, rtol=1e-4, atol=0.0):
            raise InputError("DenseMass: covariance must be symmetric; give (C + C') / 2 if it is so but for rounding")
        found: tuple[Tensor, Tensor] = cast(Any, torch.linalg).cholesky_ex(self.covariance)
        factor, failed = found
        if bool(failed):
            raise InputError("DenseMass: covariance is not positive definite; add a little to its diagonal")
        object.__setattr__(self, "factor", factor)

    def spread(self, z: Tensor) -> Tensor:
        """L z."""
        return (z.flatten(1) @ self.factor.T).view_as(z)

    def gather(self, force: Tensor) -> Tensor:
        """L' f."""
        return (force.flatten(1) @ self.factor).view_as(force)

    def whiten(self, x: Tensor) -> Tensor:
        """L^-1 x."""
        return (x.flatten(1) @ self.factor.inverse().T).view_as(x)

    def check(self, who: str, x: Tensor) -> None:
        """The covariance is that of the flattened event."""
        size = x.flatten(1).shape[1]
        if len(self.factor) != size:
            raise InputError(
                f"{who}: the covariance of the mass is {list(self.factor.shape)}, but x has {size} numbers: "
                f"give [{size}, {size}]"
            )
        _check_dtype(who, self.factor, x)

    @property
    def keeps_axes(self) -> bool:
        """False."""
        return False


@dataclass(frozen=True, eq=False)
class TemperedMass(Mass):
    """A mass for chains at different temperatures: A sqrt(T), as a Gaussian grows when it is heated.

    Args:
        mass: that at temperature 1, or None for the identity.
        root: sqrt(T) of every chain `[B]`.
    """

    mass: Mass | None
    root: Tensor

    def _times(self, values: Tensor) -> Tensor:
        return self.root.view(-1, *[1] * (values.dim() - 1)) * values

    def spread(self, z: Tensor) -> Tensor:
        """sqrt(T) A z."""
        return self._times(spread(self.mass, z))

    def gather(self, force: Tensor) -> Tensor:
        """sqrt(T) A' f."""
        return self._times(gather(self.mass, force))

    def whiten(self, x: Tensor) -> Tensor:
        """A^-1 x / sqrt(T)."""
        return whiten(self.mass, x) / self.root.view(-1, *[1] * (x.dim() - 1))

    def check(self, who: str, x: Tensor) -> None:
        """As the mass at temperature 1."""
        if self.mass is not None:
            self.mass.check(who, x)

    @property
    def keeps_axes(self) -> bool:
        """As the mass at temperature 1."""
        return self.mass is None or self.mass.keeps_axes


def _check_dtype(who: str, of_mass: Tensor, x: Tensor) -> None:
    if of_mass.dtype != x.dtype or of_mass.device != x.device:
        raise InputError(
            f"{who}: the mass is {of_mass.dtype} on {of_mass.device}, the chains are {x.dtype} on {x.device}; "
            "make it from a tensor .to(x)"
        )


@runtime_checkable
class HasMass(Protocol):
    """A sampler with a mass."""

    @property
    def mass(self) -> Mass | None:
        """The mass, None for the identity."""
        ...


def spread(mass: Mass | None, z: Tensor) -> Tensor:
    """A z; None is the identity."""
    return z if mass is None else mass.spread(z)


def gather(mass: Mass | None, force: Tensor) -> Tensor:
    """A' f; None is the identity."""
    return force if mass is None else mass.gather(force)


def whiten(mass: Mass | None, x: Tensor) -> Tensor:
    """A^-1 x; None is the identity."""
    return x if mass is None else mass.whiten(x)
