"""What the densities of the plane are made of: parts that are normalised each, evaluated and drawn exactly."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from energeia.energies.gaussians import GaussianMixture


class Shape(nn.Module, ABC):
    """A density of the plane as a sum of parts, p(x) = sum_k p(k) p(x | k), all of them normalised.

    shares: p(k), `[K]`.
    """

    shares: Tensor

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.register_buffer("shares", shares)

    @abstractmethod
    def log_parts(self, x: Tensor) -> Tensor:
        """log p(k) p(x | k), `[B, K]`."""

    @abstractmethod
    def draw(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from p(x | k) for each of the parts `[B]`: `[B, 2]`."""


class Blurred(Shape):
    """Gaussians, the same number for each part, in a plane that is twisted: x is z turned by the angle t |z|^2.

    A twist keeps areas, so densities stay as they are. A curve drawn with a Gaussian pen is a row of Gaussians no
    farther apart than the pen is wide: their sum is even to one part in 10^8.

    Args:
        mixture: of K times n components, part after part.
        num_parts: K.
        twist: t.
    """

    def __init__(self, mixture: GaussianMixture, num_parts: int, *, twist: float = 0.0) -> None:
        super().__init__(mixture.weights.view(num_parts, -1).sum(1))
        self.mixture, self.twist = mixture, twist

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(k) p(x | k), `[B, K]`."""
        terms = self.mixture.log_components(turned(x, -self.twist)) - math.log(2 * math.pi)
        return terms.view(len(self.shares), -1, len(x)).logsumexp(1).T

    def draw(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of each part."""
        weights = self.mixture.weights.view(len(self.shares), -1)
        within = torch.multinomial(weights[part], 1, replacement=True, generator=generator).squeeze(1)
        return turned(self.mixture.draw(part * weights.shape[1] + within, generator), self.twist)


class Circles(Shape):
    """Circles about the origin drawn with a Gaussian pen: |x| is Rice distributed in each.

    p(x | k) = exp(-(r^2 + R^2) / 2 s^2) I_0(r R / s^2) / (2 pi s^2), r = |x|.

    Args:
        radii: R of the circles; each has the same share.
        width: s of the pen.
    """

    radii: Tensor

    def __init__(self, radii: Tensor, width: float) -> None:
        super().__init__(torch.full_like(radii, 1 / len(radii)))
        self.width = width
        self.register_buffer("radii", radii)

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(k) p(x | k), `[B, K]`."""
        variance = self.width**2
        radius = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        bessel = torch.special.i0e(radius * self.radii / variance).log()
        return bessel - (radius - self.radii).square() / (2 * variance) + (self.shares / (2 * math.pi * variance)).log()

    def draw(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """A point of the circle, and noise."""
        angle = 2 * math.pi * _uniform(len(part), self.radii, generator)
        circle = self.radii[part].unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)
        return circle + self.width * torch.randn(
            circle.shape, generator=generator, dtype=circle.dtype, device=circle.device
        )


class Board(Shape):
    """The black fields of a chessboard of four by four fields of side 1, their edges blurred by logistic noise.

    One coordinate has the density g(u) = sinh(a) / (cosh(a) + cosh(u / s)), u from the middle of the field and
    a = 1 / (2 s): the uniform density on a side of 1, blurred; its integral is 1.

    Args:
        softness: s of the edges.
        like: any number of the dtype.
    """

    middles: Tensor

    def __init__(self, softness: float, like: Tensor) -> None:
        fields = [(i - 1.5, j - 1.5) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
        super().__init__(torch.full((len(fields),), 1 / len(fields), dtype=like.dtype, device=like.device))
        self.softness = softness
        self.register_buffer("middles", torch.tensor(fields, dtype=like.dtype, device=like.device))

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(k) p(x | k), `[B, K]`."""
        half = 1 / (2 * self.softness)
        away = (x.unsqueeze(1) - self.middles) / self.softness
        # Twice numerator and denominator, in logs: hyperbolic functions overflow two squares away.
        numerator = half + math.log1p(-math.exp(-2 * half))
        edge = torch.full_like(away, half + math.log1p(math.exp(-2 * half)))
        log_side = numerator - torch.logaddexp(torch.logaddexp(away, -away), edge)
        return log_side.sum(2) + self.shares.log()

    def draw(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """A point of the field, and noise."""
        middle = self.middles[part]
        place = middle + _uniform(middle.shape, middle, generator) - 0.5
        return place + self.softness * torch.logit(_uniform(middle.shape, middle, generator), eps=1e-12)


class Mouth(Shape):
    """x1 ~ N(0, 1), x2 ~ N(0, s(x1)^2) with log s = level + rise tanh(x1): a funnel whose mouth has an end.

    The entropy is log 2 pi e + level, as tanh is odd.
    """

    def __init__(self, level: float, rise: float, like: Tensor) -> None:
        super().__init__(like.new_ones(1))
        self.level, self.rise = level, rise

    def log_parts(self, x: Tensor) -> Tensor:
        """log p(x), `[B, 1]`."""
        first, second = x[:, :1], x[:, 1:]
        log_width = self.level + self.rise * first.tanh()
        squares = first.square() + (second * (-log_width).exp()).square()
        return -squares / 2 - log_width - math.log(2 * math.pi)

    def draw(self, part: Tensor, generator: torch.Generator) -> Tensor:
        """x1 first."""
        noise = torch.randn(len(part), 2, generator=generator, dtype=self.shares.dtype, device=self.shares.device)
        first, second = noise[:, :1], noise[:, 1:]
        return torch.cat([first, second * (self.level + self.rise * first.tanh()).exp()], 1)


def turned(x: Tensor, twist: float) -> Tensor:
    """x `[B, 2]`, each row turned about the origin by the angle twist |x|^2."""
    if twist == 0:
        return x
    angle = twist * x.square().sum(1)
    cos, sin = angle.cos(), angle.sin()
    first, second = x.unbind(1)
    return torch.stack([cos * first - sin * second, sin * first + cos * second], 1)


def _uniform(shape: int | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
