"""Targets that are hard to sample and whose truth is known: curved, funnelled, split and hollow."""

import functools
import math

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count, check_finite, check_positive
from energeia.core.record import LogZ
from energeia.energies.truth import Moments, Table, Target, tabulate

_NUM_NODES = 2**15 + 1


class Banana(Target):
    """E(x) = x1^2 / (2 s^2) + (x2 + b (x1^2 - s^2))^2 / 2: a Gaussian bent into a crescent, on `Real(2)`.

    Args:
        curvature: b.
        scale: s, > 0, the standard deviation of x1.

    Both means are 0, sd x1 = s and sd x2 = sqrt(1 + 2 b^2 s^4): 10 and 4.3589 as given.
    log Z = log(2 pi s). Has the capabilities `Tractable` and `KnownMoments`.

    Reference: Haario, Saksman & Tamminen (1999), Adaptive proposal distribution for
    random walk Metropolis algorithm, https://doi.org/10.1007/s001800050022
    """

    def __init__(self, *, curvature: float = 0.03, scale: float = 10.0) -> None:
        check_positive("Banana", scale=scale)
        check_finite("Banana", curvature=curvature)
        super().__init__(2, scale / 2)
        self.curvature, self.scale = float(curvature), float(scale)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        first, second = x.unbind(1)
        straight = second + self.curvature * (first.square() - self.scale**2)
        return ((first / self.scale).square() + straight.square()) / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        return LogZ.exact(self._doubles(math.log(2 * math.pi * self.scale))[0], "Gaussian integral, volume kept")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, 2]`."""
        first, second = self._normals(num_chains, generator).unbind(1)
        first = self.scale * first
        return torch.stack([first, second - self.curvature * (first.square() - self.scale**2)], 1)

    def truth(self) -> Moments:
        """In closed form."""
        bend = 1 + 2 * self.curvature**2 * self.scale**4
        return Moments(self._doubles(0, 0), self._doubles(self.scale**2, bend))


class Funnel(Target):
    """v = x1 ~ N(0, s^2), the other coordinates N(0, e^v) given v, on `Real(d)`.

    E(x) = v^2 / (2 s^2) + (d - 1) v / 2 + e^-v sum_i>1 x_i^2 / 2.

    Args:
        num_dims: d, at least 2.
        scale: s, > 0.

    Means 0, sd v = s, sd of the others exp(s^2 / 4): 3 and 9.4877 as given.
    log Z = log s + d / 2 log 2 pi. Has the capabilities `Tractable` and `KnownMoments`.
    The variance of the others' squares is too large to estimate them from draws: compare
    v, or the signs of the others.

    Reference: Neal (2003), Slice sampling, section 8, https://doi.org/10.1214/aos/1056562461
    """

    def __init__(self, num_dims: int = 10, *, scale: float = 3.0) -> None:
        check_count("Funnel", num_dims=num_dims)
        if num_dims < 2:
            raise InputError("Funnel: num_dims counts v as well and must be at least 2, got 1")
        check_positive("Funnel", scale=scale)
        super().__init__(num_dims)
        self.scale = float(scale)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        v = x[:, 0]
        # Scaled before it is squared: exp(-v) alone would overflow at half the distance.
        others = (x[:, 1:] * (-v / 2).exp().unsqueeze(1)).square().sum(1)
        return (v / self.scale).square() / 2 + (self.space.num_dims - 1) / 2 * v + others / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        value = math.log(self.scale) + self.space.num_dims * math.log(2 * math.pi) / 2
        return LogZ.exact(self._doubles(value)[0], "Gaussian integrals, v last")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, d]`."""
        noise = self._normals(num_chains, generator)
        v = self.scale * noise[:, :1]
        return torch.cat([v, (v / 2).exp() * noise[:, 1:]], 1)

    def truth(self) -> Moments:
        """In closed form."""
        num_others = self.space.num_dims - 1
        variance = self._doubles(self.scale**2, *[math.exp(self.scale**2 / 2)] * num_others)
        return Moments(torch.zeros_like(variance), variance)


class DoubleWell(Target):
    """E(x) = sum_i b (x_i^2 - 1)^2 + tilt x_i: wells near -1 and 1 in every coordinate, on `Real(d)`.

    Args:
        num_dims: d; there are 2^d modes.
        barrier: b, > 0, the height between the wells where there is no tilt.
        tilt: positive makes the well near -1 the deeper one, by about 2 tilt. Beyond
            8 b / sqrt(27) in size one well is left.

    Has the capabilities `Tractable` and `KnownMoments`: log Z and moments by the
    trapezoid rule on a line, exact to rounding, as the coordinates are independent. The
    draws come from a table of 32,769 quantiles with straight lines between them, whose
    probabilities are right to better than 10^-6.

    >>> well = DoubleWell(1, barrier=3.0, tilt=0.5)
    >>> round(float(well.truth().mean), 4)
    -0.4177
    """

    def __init__(self, num_dims: int = 1, *, barrier: float = 2.0, tilt: float = 0.0) -> None:
        check_count("DoubleWell", num_dims=num_dims)
        check_positive("DoubleWell", barrier=barrier)
        check_finite("DoubleWell", tilt=tilt)
        super().__init__(num_dims)
        self.barrier, self.tilt = float(barrier), float(tilt)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return (self.barrier * (x.square() - 1).square() + self.tilt * x).sum(1)

    def log_z(self) -> LogZ:
        """log Z by quadrature, float64."""
        return LogZ.exact(self.space.num_dims * self._table().log_z(), "trapezoid rule in one dimension")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, d]`, by inverted cumulative probability."""
        return _quantiles(self._table(), (num_chains, self.space.num_dims), generator).to(self.zero.dtype)

    def truth(self) -> Moments:
        """By quadrature, float64."""
        table = self._table()
        mean = table.mean(table.grid)
        variance = table.mean((table.grid - mean).square())
        return Moments(mean.expand(self.space.num_dims).clone(), variance.expand(self.space.num_dims).clone())

    def _table(self) -> Table:
        # b (x^2 - 1)^2 - |tilt| |x| exceeds E(0) = b by 100 beyond the edge.
        edge = 1.0
        while self.barrier * (edge**2 - 1) ** 2 - abs(self.tilt) * edge < self.barrier + 100:
            edge *= 1.02
        grid = torch.linspace(-edge, edge, _NUM_NODES, dtype=torch.float64, device=self.zero.device)
        return tabulate(grid, -self.forward(grid.unsqueeze(1)))


class Ring(Target):
    """E(x) = (|x| - r)^2 / (2 s^2): a circle of radius r drawn with a pen of width s, on `Real(2)`.

    Args:
        radius: r, > 0.
        width: s, > 0.

    log Z = log 2 pi (s^2 exp(-r^2 / 2 s^2) + r s sqrt(pi / 2) (1 + erf(r / s sqrt 2))).
    Has the capabilities `Tractable` and `KnownMoments`. The radius of a draw comes from
    a table of 32,769 quantiles, right to better than 10^-6 in probability.
    """

    def __init__(self, *, radius: float = 4.0, width: float = 0.5) -> None:
        check_positive("Ring", radius=radius, width=width)
        super().__init__(2, radius)
        self.radius, self.width = float(radius), float(width)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return ((torch.linalg.vector_norm(x, dim=1) - self.radius) / self.width).square() / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        return LogZ.exact(self._doubles(math.log(2 * math.pi * self._radial_integrals()[1]))[0], "error function")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, 2]`, the radius by inverted cumulative probability."""
        low, high = max(0.0, self.radius - 14 * self.width), self.radius + 14 * self.width
        grid = torch.linspace(low, high, _NUM_NODES, dtype=torch.float64, device=self.zero.device)
        table = tabulate(grid, grid.log() - ((grid - self.radius) / self.width).square() / 2)
        radius = _quantiles(table, (num_chains,), generator)
        direction = self._normals(num_chains, generator).double()
        direction = direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
        return (radius.unsqueeze(1) * direction).to(self.zero.dtype)

    def truth(self) -> Moments:
        """In closed form."""
        integrals = self._radial_integrals()
        variance = integrals[3] / integrals[1] / 2
        return Moments(self._doubles(0, 0), self._doubles(variance, variance))

    def _radial_integrals(self) -> list[float]:
        """Integrals over rho > 0 of rho^k exp(-(rho - r)^2 / (2 s^2)), k = 0..3, by parts."""
        r, s = self.radius, self.width
        found = [s * math.sqrt(math.pi / 2) * (1 + math.erf(r / s / math.sqrt(2)))]
        found.append(s**2 * math.exp(-((r / s) ** 2) / 2) + r * found[0])
        for k in (1, 2):
            found.append(r * found[k] + k * s**2 * found[k - 1])
        return found


class Rosenbrock(Target):
    """The hybrid Rosenbrock density: a narrow curved valley, in any number of dimensions, with exact draws.

    E(x) = a (x1 - mu)^2 + b sum_j sum_i (x_ji - x_j,i-1^2)^2, i = 2..length, x_j1 = x1,
    on `Real(1 + num_blocks (length - 1))`: x1 first, then block after block.

    Args:
        num_blocks: number of chains of coordinates that hang on x1; 1 with length 2 is
            the plane curve.
        length: coordinates of a block with x1, 2 to 5.
        a, b: > 0, sharpness along and across the valley.
        mu: where x1 is centred.

    log Z = d / 2 log pi - log(a) / 2 - (d - 1) log(b) / 2. Has the capabilities
    `Tractable` and `KnownMoments`. As given the tails of the later coordinates of long
    blocks are so heavy that averages over draws do not show their variance.

    Reference: Pagani, Wiegand & Nadarajah (2022), An n-dimensional Rosenbrock distribution
    for Markov chain Monte Carlo testing, https://doi.org/10.1111/sjos.12532
    """

    def __init__(
        self, num_blocks: int = 1, length: int = 2, *, a: float = 0.05, b: float = 5.0, mu: float = 1.0
    ) -> None:
        check_count("Rosenbrock", num_blocks=num_blocks, length=length)
        if not 2 <= length <= 5:
            raise InputError(f"Rosenbrock: length must be 2 to 5, got {length}; longer blocks overflow")
        check_positive("Rosenbrock", a=a, b=b)
        check_finite("Rosenbrock", mu=mu)
        super().__init__(1 + num_blocks * (length - 1))
        self.num_blocks, self.length = num_blocks, length
        self.a, self.b, self.mu = float(a), float(b), float(mu)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        blocks = x[:, 1:].unflatten(1, (self.num_blocks, self.length - 1))
        first = x[:, :1].unsqueeze(1).expand(-1, self.num_blocks, 1)
        before = torch.cat([first, blocks[:, :, :-1]], 2)
        across = (blocks - before.square()).square().flatten(1).sum(1)
        return self.a * (x[:, 0] - self.mu).square() + self.b * across

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        d = self.space.num_dims
        value = (d * math.log(math.pi) - math.log(self.a) - (d - 1) * math.log(self.b)) / 2
        return LogZ.exact(self._doubles(value)[0], "Gaussian integrals, last coordinates first")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, d]`."""
        noise = self._normals(num_chains, generator)
        first = self.mu + noise[:, :1] / math.sqrt(2 * self.a)
        columns, current = [], first.expand(-1, self.num_blocks)
        for step in noise[:, 1:].unflatten(1, (self.num_blocks, self.length - 1)).unbind(2):
            current = current.square() + step / math.sqrt(2 * self.b)
            columns.append(current)
        return torch.cat([first, torch.stack(columns, 2).flatten(1)], 1)

    def truth(self) -> Moments:
        """In closed form: the moments of a coordinate from twice as high ones of the coordinate before."""
        first = [_moment(power, 1, self.a, self.b, self.mu) for power in (1, 2)]
        block = [[_moment(power, i, self.a, self.b, self.mu) for i in range(2, self.length + 1)] for power in (1, 2)]
        mean = self._doubles(first[0], *block[0] * self.num_blocks)
        return Moments(mean, self._doubles(first[1], *block[1] * self.num_blocks) - mean.square())


@functools.cache
def _moment(power: int, index: int, a: float, b: float, mu: float) -> float:
    """E[x_index^power] of a block of `Rosenbrock`."""
    variance = 1 / (2 * a) if index == 1 else 1 / (2 * b)
    total = 0.0
    for even in range(0, power + 1, 2):
        rest = power - even
        centre = mu**rest if index == 1 else _moment(2 * rest, index - 1, a, b, mu)
        total += math.comb(power, even) * centre * math.prod(range(1, even, 2)) * variance ** (even // 2)
    return total


def _quantiles(table: Table, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=table.grid.device)
    return table.quantile(uniform)
