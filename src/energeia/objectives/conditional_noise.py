"""Conditional noise contrast: each row against disturbed copies of itself."""

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.objectives.rows import beside, rows_of
from energeia.samplers.flips import check_flips, flipped


class ConditionalNCE(Objective):
    """mean 2 log(1 + exp(E(x) - E(y))), with y a disturbed copy of the row x: conditional noise contrast.

    Which of x and y came first? Disturbances are symmetric, as likely from x to y as from y to x, so that their
    density cancels, and so does Z.

    Args:
        scale: standard deviation of the normal step on `Real` and `Box` (where it is folded back at the walls), in
            the units of x, > 0.
        num_flips: on `Binary`, `Spin` and `Categorical`, the most sites that are changed: 1 to that many, to other
            states, all equally likely.
        ratio: disturbed copies of each row, >= 1.

    Consistent up to a constant of the energy, with no noise density to be known: the noise is near the data by itself.
    As scale goes to 0 the loss goes to 2 log 2 + scale^2 / 2 times that of score matching. It inherits its blindness:
    the weight of modes that a step hardly ever leads between is not learned. A large scale sees it, and tells little
    where nearly all y are far from the data: a metric to look at is accuracy, between 1/2 (steps too small) and 1
    (too large). About the spread of the data is a good start. The variance grows as scale goes to 0.

    Cost: one pass of 1 + ratio rows for each row, no gradient to x. Value in nats; 2 log 2 is what chance gives.
    Metrics: loss, accuracy, energy_data, energy_noise.

    Reference: Ceylan & Gutmann (2018), Conditional noise-contrastive estimation of unnormalised models,
    https://arxiv.org/abs/1806.03664

    >>> import torch, energeia as en
    >>> batch = en.Batch(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))
    >>> loss = en.ConditionalNCE(scale=1.0)(en.Gaussian(2), batch, torch.Generator().manual_seed(1))
    >>> bool(0.5 < loss.metrics["accuracy"] < 1)
    True
    """

    def __init__(self, *, scale: float = 1.0, num_flips: int = 1, ratio: int = 1) -> None:
        super().__init__()
        check_positive("ConditionalNCE", scale=scale)
        check_count("ConditionalNCE", num_flips=num_flips, ratio=ratio)
        self.scale, self.num_flips, self.ratio = float(scale), num_flips, ratio

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrast of the batch with disturbed copies."""
        rows = rows_of(energy, batch, "ConditionalNCE")
        copies = rows.repeat(self.ratio, *[1] * (rows.dim() - 1))
        here, there = beside(energy, rows, self.disturbed(energy.space, copies, generator))
        here = here.repeat(self.ratio)
        value = self.terms(there - here).mean()
        metrics = {
            "loss": value.detach(),
            "accuracy": ((here < there).to(value) + (here <= there).to(value)).mean() / 2,
            "energy_data": here.detach().mean(),
            "energy_noise": there.detach().mean(),
        }
        return Loss(value, metrics)

    def terms(self, rise: Tensor) -> Tensor:
        """What a pair costs where E rises by this from x to y, `[B]`."""
        return 2 * torch.nn.functional.softplus(-rise, threshold=40)

    def disturbed(self, space: Space, x: Tensor, generator: torch.Generator) -> Tensor:
        """y `[B, *event]`."""
        if isinstance(space, Real | Box):
            step = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            moved = x + self.scale * step
            return space.reflect(moved) if isinstance(space, Box) else moved
        if not isinstance(space, Binary | Spin | Categorical):
            raise CapabilityError(
                f"ConditionalNCE disturbs rows on Real, Box, Binary, Spin or Categorical, but the energy lives on "
                f"{space}; use en.unconstrained(energy), or NoiseContrast with noise of that space"
            )
        check_flips(self.num_flips, space, "ConditionalNCE")
        sites, states = torch.rand(2, len(x), self.num_flips, generator=generator, dtype=torch.float64, device=x.device)
        how_many = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
        return flipped(space, x, sites, states, how_many)
