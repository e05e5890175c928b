"""Tell-tale signs, looked for before annealing: an energy that cannot be normalised, a base that does not cover."""

import math

import torch
from torch import Tensor

from energeia.core.energy import Energy, Tractable
from energeia.core.errors import InputError
from energeia.core.space import Real
from energeia.core.warn import warn

_NUM_RAYS = 64
_NEAR, _FAR = 1e2, 1e4
# Nats by which rows may lie above all draws of a base.
_MARGIN = 3.0
_NUM_DRAWS = 200


def check_bounded(who: str, energy: Energy, rows: Tensor, generator: torch.Generator) -> None:
    """Warn if exp(-E) seems to have no integral over `Real`: E must grow faster than D log |x|.

    It looks along 64 random rays from the mean of the rows, between 100 and 10,000 times their spread. A sign and
    no proof: no number of looks makes one.

    Raises:
        InputError: E falls along more than half of them.
    """
    if not isinstance(energy.space, Real) or len(rows) < 2:
        return
    dims = energy.space.num_dims
    middle, spread = rows.mean(0), rows.std(0).clamp_min(1e-3)
    shape = (_NUM_RAYS, *energy.space.event_shape)
    ray = torch.randn(shape, generator=generator, dtype=rows.dtype, device=rows.device) * spread
    with torch.no_grad():
        near, far = (energy(middle + distance * ray).double() for distance in (_NEAR, _FAR))
    flat = (far - near) <= dims * math.log(_FAR / _NEAR)
    if not bool(flat.any()):
        return
    falls = int((far < near).sum())
    told = f"it falls in {falls} of them" if falls else "it hardly grows"
    message = (
        f"{who}: far from the data E does not grow fast enough in {int(flat.sum())} of {_NUM_RAYS} directions "
        f"({told}), so exp(-E) can hardly be normalised on {energy.space}; add a Gaussian to it "
        "(energy + en.Gaussian(...)), or take a bounded space (en.Box)"
    )
    if falls > _NUM_RAYS // 2:
        raise InputError(message)
    warn(message)


def warn_if_uncovered(base: Energy, rows: Tensor, generator: torch.Generator) -> None:
    """Warn if rows of a model on `Real` lie where a base hardly ever is: above the energies of all its own draws."""
    tractable = base.capability(Tractable)
    if not isinstance(base.space, Real) or tractable is None:
        return
    with torch.no_grad():
        draws = tractable.sample_exact(max(len(rows), _NUM_DRAWS), generator)
        own, theirs = base(draws).double(), base(rows).double()
    most = own.max() + _MARGIN
    outside = theirs > most
    if bool(outside.float().mean() > 0.01):
        warn(
            f"log Z: the base {type(base).__name__} does not cover the model: {int(outside.sum())} of {len(rows)} rows "
            f"lie up to {float(theirs.max() - own.max()):.3g} nats above all {len(draws)} draws of it; widen it, or "
            "leave it out to have one fitted",
        )
