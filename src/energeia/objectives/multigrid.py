"""Multi-grid contrastive divergence: pictures are sampled small first, and each size starts from the one before."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_chunk
from energeia.core.objective import Objective
from energeia.core.record import Batch, Info, Loss
from energeia.core.sampler import Sampler, advance
from energeia.core.space import Box, Real
from energeia.objectives.contrastive import contrast


class MultigridCD(Objective):
    """sum over sizes s of mean E_s(data, shrunk to s) - mean E_s(negatives of s).

    The negatives of a size are num_steps of a sampler away from those of the size below, enlarged; those of the
    smallest from single colours, the means of the rows. So chains are short and still begin where only what is fine
    is missing: what would take long chains, where things are in the picture, is decided where pictures are small.

    Args:
        coarse: energies of smaller pictures (channels, height, width), the smallest first; sides of each divide those
            of the next, those of the last divide the sides of the data. They are part of this objective and train
            with the energy of the data, each with its own term.
        sampler: the transition, the same at all sizes.
        num_steps: steps at each size, >= 1.
        chunk: compile this many steps into one function; None runs eagerly.

    Shrinking takes means of blocks of pixels, enlarging repeats pixels. Biased for finite num_steps, as all short
    chains are: a size is at rest where num_steps from enlarged negatives lead to the distribution of the data of that
    size, and exp(-E_s) need not be it. Fails where the smallest size already has modes that its chains do not find.

    Cost: at each size num_steps gradients and one evaluation of data and negatives; all smaller sizes together cost
    about a third of the largest if sides double. For `Real` and `Box` spaces of pictures.

    Reference: Gao, Lu, Zhou, Zhu & Wu (2018), Learning generative ConvNets via multi-grid modeling and sampling.
    https://arxiv.org/abs/1709.08868

    >>> import torch, energeia as en
    >>> def network(side):
    ...     return en.Neural(en.ConvNet((1, side, side), channels=(4,)), en.Box((1, side, side)))
    >>> objective = en.MultigridCD([network(2), network(4)], en.Langevin(step_size=0.1), 5)
    >>> loss = objective(network(8), en.Batch(torch.zeros(3, 1, 8, 8)), torch.Generator().manual_seed(0))
    >>> loss.value.backward()
    """

    def __init__(
        self, coarse: Sequence[Energy], sampler: Sampler, num_steps: int = 20, *, chunk: int | None = None
    ) -> None:
        super().__init__()
        check_chunk("MultigridCD", num_steps, chunk)
        if not coarse:
            raise InputError("MultigridCD: give at least one energy of smaller pictures, or use ContrastiveDivergence")
        self.coarse = nn.ModuleList(coarse)
        self.sampler, self.num_steps, self.chunk = sampler, num_steps, chunk
        for below, above in itertools.pairwise(self._energies(None)):
            _check_sizes(below, above)

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The sum of the contrastive losses of all sizes."""
        _check_sizes(self._energies(None)[-1], energy)
        energy.space.check(batch.x, "MultigridCD: x")
        found = self.negatives(energy, batch.x.mean((2, 3)), generator)
        total, metrics = torch.zeros((), dtype=batch.x.dtype, device=batch.x.device), dict[str, Tensor]()
        for one, (negatives, info) in zip(self._energies(energy), found, strict=True):
            energies = one(torch.cat([_shrunk(batch.x, one), negatives]))
            value, metrics = contrast(energies[: len(batch.x)], energies[len(batch.x) :], info)
            total = total + value
        # The energies and the gap of the largest size, which is the model of the data.
        return Loss(total, {**metrics, "loss": total.detach()})

    def negatives(self, energy: Energy, colours: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Info]]:
        """Samples of all sizes, the smallest first and the energy's last, from the colour of each, `[B, channels]`.

        What the trained models draw: give the mean colours of rows of data.
        """
        x, found = colours[:, :, None, None], list[tuple[Tensor, Info]]()
        for one in self._energies(energy):
            state = self.sampler.init(one, _enlarged(x, one))
            state, info = advance(
                one, self.sampler, state, num_steps=self.num_steps, generator=generator, chunk=self.chunk
            )
            x = state.x
            found.append((x, info))
        return found

    def _energies(self, energy: Energy | None) -> list[Energy]:
        coarse = [one for one in self.coarse if isinstance(one, Energy)]
        return coarse if energy is None else [*coarse, energy]


def _shrunk(x: Tensor, energy: Energy) -> Tensor:
    """Pictures x `[B, C, H, W]` in the size of the energy: means of blocks of pixels."""
    height, width = energy.space.event_shape[1:]
    return functional.avg_pool2d(x, (x.shape[2] // height, x.shape[3] // width))


def _enlarged(x: Tensor, energy: Energy) -> Tensor:
    """Pictures x `[B, C, h, w]` in the size of the energy: blocks of equal pixels."""
    height, width = energy.space.event_shape[1:]
    return x.repeat_interleave(height // x.shape[2], 2).repeat_interleave(width // x.shape[3], 3)


def _check_sizes(below: Energy, above: Energy) -> None:
    """Raise unless both are of pictures, and the sides of the first divide those of the second."""
    for energy in (below, above):
        if not isinstance(energy.space, Real | Box) or len(energy.space.event_shape) != 3:
            raise CapabilityError(
                "MultigridCD needs pictures (channels, height, width) on a Real or Box space, but an energy lives on "
                f"{energy.space}; use ContrastiveDivergence there"
            )
    small, large = below.space.event_shape, above.space.event_shape
    divides = all(b % a == 0 for a, b in zip(small[1:], large[1:], strict=True))
    if small[0] != large[0] or not divides or small == large:
        raise InputError(
            f"MultigridCD: sizes must grow by whole factors with the channels the same, such as (1, 4, 4), (1, 8, 8), "
            f"got {small} before {large}"
        )
