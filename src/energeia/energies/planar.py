"""Eight densities of the plane on which density models are compared, each with its truth."""

import functools
import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from energeia.core.energy import Capability, Classes, Energy
from energeia.core.errors import InputError, check_count
from energeia.core.record import Batch, LogZ
from energeia.core.space import Real
from energeia.energies.gaussians import GaussianMixture, four_gaussians
from energeia.energies.shapes import Blurred, Board, Circles, Mouth, Shape

PlanarName = Literal["mixture", "rings", "two_moons", "pinwheel", "spirals", "checkerboard", "swiss_roll", "funnel"]
PLANAR: tuple[PlanarName, ...] = get_args(PlanarName)

_MOUTH_LEVEL, _MOUTH_RISE = -0.9, 1.2
_SOFTNESS = 0.02


class Planar(Energy):
    """A density of the plane whose truth is known: E(x) = -log p(x), so log Z = 0.

    | name | what it is | parts |
    | --- | --- | --- |
    | mixture | four Gaussians with shares .1, .2, .3, .4 (`four_gaussians`, a third in size) | the Gaussians |
    | rings | four circles of radii .6, 1.2, 1.8, 2.4, noise of .1 | the circles |
    | two_moons | two half circles that reach into each other, noise of .12 | the moons |
    | pinwheel | five Gaussian arms, twisted | the arms |
    | spirals | two spirals of three half turns, noise of .08 | the spirals |
    | checkerboard | eight of the sixteen fields of side 1, edges soft by .02 | the fields |
    | swiss_roll | one spiral, denser inside, noise of .12 | one |
    | funnel | x1 ~ N(0, 1), x2 ~ N(0, s^2), log s = -.9 + 1.2 tanh x1 | one |

    All are about as wide as a standard normal and lie within [-4, 4]^2, but for 3 draws in 10,000 of the funnel.

    Args:
        name: one of these.
        dtype: of the energy.

    Has the capabilities `Tractable` and, where there are several parts, `Classes`: E(x, y) = -log p(y) p(x | y)
    with y the part that x belongs to, which makes it a truth for classifiers and joint models too.

    Nothing here is approximate: curves are rows of Gaussians (at most 246), the rings are Rice densities, the fields
    are blurred by logistic noise, the pinwheel is a mixture in a twisted plane, and that is what is drawn from.

    Raises:
        InputError: no such name.

    >>> import torch
    >>> moons = Planar("two_moons")
    >>> x, y = moons.sample_labelled(1000, torch.Generator().manual_seed(0))
    >>> x.shape, y.unique()
    (torch.Size([1000, 2]), tensor([0, 1]))
    >>> round(float(moons.entropy()), 6)
    1.447113
    """

    def __init__(self, name: PlanarName, *, dtype: torch.dtype = torch.float32) -> None:
        if name not in _SHAPES:
            raise InputError(f"Planar: there is no density {name!r}; choose one of {', '.join(_SHAPES)}")
        super().__init__(Real(2))
        self.name: PlanarName = name
        self.shape = _SHAPES[name]().to(dtype)
        self.num_classes = len(self.shape.shares)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) = -log p(x), `[B]`."""
        return -self.shape.log_parts(x).logsumexp(1)

    def class_energies(self, x: Tensor) -> Tensor:
        """-log p(y) p(x | y) of every part y, `[B, K]`."""
        return -self.shape.log_parts(x)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Classes` where there is more than one part."""
        return None if kind is Classes and self.num_classes == 1 else super().capability(kind)

    def log_z(self) -> LogZ:
        """0, float64."""
        return LogZ.exact(torch.zeros((), dtype=torch.float64, device=self.shape.shares.device), "normalised")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, 2]`."""
        return self.sample_labelled(num_chains, generator).x

    def sample_labelled(self, num_rows: int, generator: torch.Generator) -> Batch:
        """Independent draws x `[num_rows, 2]` and the part that each was drawn from, y `[num_rows]`."""
        check_count("Planar", num_rows=num_rows)
        part = torch.multinomial(self.shape.shares, num_rows, replacement=True, generator=generator)
        return Batch(self.shape.draw(part, generator), part)

    def entropy(self) -> Tensor:
        """-E[log p(x)] in nats, float64: what the mean of -log q(x) over draws x cannot be below, whatever q is.

        That of the funnel is in closed form. The others by the trapezoid rule, once a process: twice as many nodes
        a side change them by less than 10^-10.
        """
        return _entropy(self.name).to(self.shape.shares.device)


@functools.cache
def _entropy(name: PlanarName) -> Tensor:
    if name == "funnel":
        return torch.tensor(math.log(2 * math.pi) + 1 + _MOUTH_LEVEL, dtype=torch.float64)
    return entropy_on_grid(Planar(name, dtype=torch.float64), _SOFTNESS / 2 if name == "checkerboard" else _SOFTNESS)


def entropy_on_grid(energy: Energy, spacing: float, *, edge: float = 4.5) -> Tensor:
    """-integral p log p for E = -log p, by the trapezoid rule on [-edge, edge]^2, where p vanishes at the border."""
    line = torch.arange(-round(edge / spacing), round(edge / spacing) + 1, dtype=torch.float64) * spacing
    total = torch.zeros((), dtype=torch.float64)
    # Some rows of the grid at a time: a row of Gaussians has 200 numbers for each point.
    for part in line.split(16):
        values = energy(torch.cartesian_prod(part, line))
        total += (values * (-values).exp()).sum()
    return total * spacing**2


def _mixture() -> Shape:
    """Four Gaussians a third in size."""
    whole = four_gaussians(dtype=torch.float64)
    return Blurred(GaussianMixture(whole.means / 3, whole.factors @ whole.factors.mT / 9, whole.weights), 4)


def _rings() -> Shape:
    """Four circles."""
    return Circles(torch.tensor([0.6, 1.2, 1.8, 2.4], dtype=torch.float64), 0.1)


def _two_moons() -> Shape:
    """The half circles of scikit-learn, moved to the middle and 1.3 times as large."""

    def outer(t: Tensor) -> Tensor:
        return 1.3 * torch.stack([t.cos() - 0.5, t.sin() - 0.25], 1)

    return _drawn([outer, lambda t: -outer(t)], (0.0, math.pi), width=0.12)


def _spirals() -> Shape:
    """Two spirals, even along their length."""

    def arm(t: Tensor) -> Tensor:
        return 2 / (3 * math.pi) * t.unsqueeze(1) * torch.stack([-t.cos(), t.sin()], 1)

    return _drawn([arm, lambda t: -arm(t)], (0.0, 3 * math.pi), width=0.08)


def _swiss_roll() -> Shape:
    """The roll of scikit-learn, seen from its side and a seventh in size, even in the angle."""

    def roll(t: Tensor) -> Tensor:
        return t.unsqueeze(1) / 7 * torch.stack([t.cos(), t.sin()], 1)

    return _drawn([roll], (1.5 * math.pi, 4.5 * math.pi), width=0.12, even_in_t=True)


def _pinwheel() -> Shape:
    """Five Gaussians around the middle, each long outwards, in a twisted plane."""
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    outwards = torch.stack([angle.cos(), angle.sin()], 1)
    along = outwards.unsqueeze(2) * outwards.unsqueeze(1)
    across = torch.eye(2, dtype=torch.float64) - along
    even = torch.full((5,), 0.2, dtype=torch.float64)
    return Blurred(GaussianMixture(1.4 * outwards, 0.4**2 * along + 0.14**2 * across, even), 5, twist=0.15)


def _drawn(
    parts: list[Callable[[Tensor], Tensor]], between: tuple[float, float], *, width: float, even_in_t: bool = False
) -> Shape:
    """Curves of the same length drawn with a Gaussian pen, evenly along their length or in t."""
    means: list[Tensor] = []
    weights: list[Tensor] = []
    for curve in parts:
        t = torch.linspace(*between, 20_001, dtype=torch.float64)
        steps = torch.linalg.vector_norm(curve(t).diff(dim=0), dim=1)
        length = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        number = math.ceil(length[-1].item() / width)
        # Ends of the pieces and, in between, their middles.
        places = torch.linspace(0, 1, 2 * number + 1, dtype=torch.float64) * length[-1]
        found = t[torch.searchsorted(length, places).clamp_max(len(t) - 1)]
        means.append(curve(found[1::2]))
        weights.append(found[::2].diff() if even_in_t else torch.ones(number, dtype=torch.float64))
    whole = torch.cat(means)
    covariances = width**2 * torch.eye(2, dtype=torch.float64).expand(len(whole), 2, 2)
    return Blurred(GaussianMixture(whole, covariances, torch.cat(weights)), len(parts))


_SHAPES: dict[str, Callable[[], Shape]] = {
    "mixture": _mixture,
    "rings": _rings,
    "two_moons": _two_moons,
    "pinwheel": _pinwheel,
    "spirals": _spirals,
    "checkerboard": lambda: Board(_SOFTNESS, torch.zeros((), dtype=torch.float64)),
    "swiss_roll": _swiss_roll,
    "funnel": lambda: Mouth(_MOUTH_LEVEL, _MOUTH_RISE, torch.zeros((), dtype=torch.float64)),
}
