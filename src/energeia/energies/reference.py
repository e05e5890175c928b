"""Energies with a known log Z and exact draws: where annealing starts and tests end."""

import math

import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Capability, Conditional, Energy
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Binary, Box, Categorical, Real, Spin
from energeia.core.units import Normal, Units
from energeia.energies.truth import Moments


class Gaussian(Energy):
    """E(x) = sum_i (x_i - mean_i)^2 / (2 scale_i^2), a diagonal Gaussian on `Real`.

    Args:
        shape: event shape.
        mean, scale: numbers or tensors of the event shape; scale > 0.

    log Z = sum_i log(scale_i sqrt(2 pi)). Has the capabilities `Tractable` and `Factorised`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, shape: int | tuple[int, ...], *, mean: float | Tensor = 0.0, scale: float | Tensor = 1.0
    ) -> None:
        space = Real(shape)
        super().__init__(space)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=_dtype(mean, scale)).expand(space.event_shape).clone())
        self.register_buffer(
            "scale", torch.as_tensor(scale, dtype=_dtype(mean, scale)).expand(space.event_shape).clone()
        )
        if not bool((self.scale > 0).all()):
            raise InputError(f"Gaussian: scale must be positive everywhere, its least is {self.scale.min().item():g}")

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return (((x - self.mean) / self.scale) ** 2).flatten(1).sum(1) / 2

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        value = (self.scale.double().log() + math.log(2 * math.pi) / 2).sum()
        return LogZ.exact(value, "Gaussian integral")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        shape = (num_chains, *self.space.event_shape)
        noise = torch.randn(shape, generator=generator, dtype=self.scale.dtype, device=self.scale.device)
        return self.mean + self.scale * noise

    def truth(self) -> Moments:
        """Mean and variance."""
        return Moments(self.mean.double(), self.scale.double().square())

    @property
    def visible(self) -> Units:
        """Normal units of precision 1 / scale^2."""
        return Normal(self.scale.square().reciprocal())

    @property
    def natural(self) -> Tensor:
        """mean / scale^2."""
        return self.mean / self.scale.square()


class Uniform(Energy):
    """E(x) = 0 on a `Box`: log Z = sum_i log(high - low). Has the capability `Tractable`."""

    zero: Tensor

    def __init__(self, space: Box) -> None:
        if not isinstance(space, Box):
            raise InputError(f"Uniform: needs a Box, got {space}")
        super().__init__(space)
        self.box = space
        # Carries dtype and device, so that .double() and .to(device) mean something.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Zeros `[B]`, joined to x so that the gradient exists."""
        return (x * 0).flatten(1).sum(1)

    def log_z(self) -> LogZ:
        """log of the volume, float64."""
        volume = self.box.num_dims * math.log(self.box.high - self.box.low)
        return LogZ.exact(torch.tensor(volume, dtype=torch.float64, device=self.zero.device), "volume of the box")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        return self.box.start(num_chains, generator, dtype=self.zero.dtype)


class Independent(Energy):
    """E(x) = -sum(natural * x): every site by itself, on `Binary`, `Spin`, `Categorical` or `Counts`.

    Args:
        space: the discrete space.
        natural: natural parameters of the event shape; logits on `Binary`, fields on
            `Spin`, log weights on `Categorical` and of words on `Counts`.

    Has the capabilities `Tractable`, `Factorised` and, but on `Counts`, `Conditional` (one block of all sites).
    """

    natural: Tensor

    def __init__(self, space: Binary | Spin | Categorical | Counts, natural: Tensor) -> None:
        if not isinstance(space, Binary | Spin | Categorical | Counts):
            raise InputError(f"Independent: needs a Binary, Spin, Categorical or Counts space, got {space}")
        if tuple(natural.shape) != space.event_shape:
            raise InputError(
                f"Independent: natural has shape {tuple(natural.shape)}, expected the event shape {space.event_shape}"
            )
        super().__init__(space)
        self.discrete = space
        self.register_buffer("natural", natural.detach().clone())

    def capability(self, kind: type[Capability]) -> Capability | None:
        """What it has; counts of words are not sites that Gibbs sampling could visit."""
        return None if kind is Conditional and isinstance(self.discrete, Counts) else super().capability(kind)

    @property
    def visible(self) -> Units:
        """The space itself."""
        return self.discrete

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return -(self.natural * x).flatten(1).sum(1)

    def log_z(self) -> LogZ:
        """log Z in closed form, float64."""
        value = self.discrete.log_partition(self.natural.double().unsqueeze(0))[0]
        return LogZ.exact(value, "product over sites")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        shape = (num_chains, *self.space.event_shape)
        uniform = torch.rand(shape, generator=generator, dtype=self.natural.dtype, device=self.natural.device)
        return self.discrete.from_natural(self.natural.expand(shape), uniform)

    @property
    def num_blocks(self) -> int:
        """One: the sites do not see each other."""
        return 1

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """x itself."""
        return (x,)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """The only block."""
        return blocks[0]

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """The natural parameters, the same for every x."""
        return self.natural.expand_as(blocks[0])


def _dtype(*values: float | Tensor) -> torch.dtype:
    tensors = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return tensors[0].dtype if tensors else torch.get_default_dtype()
