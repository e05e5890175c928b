"""Contrastive divergence: lower the energy of data, raise that of the model's own samples."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from energeia.core.answers import Rowwise
from energeia.core.energy import Centred, Contrastable, Energy
from energeia.core.errors import InputError, check_chunk, check_count
from energeia.core.objective import Objective
from energeia.core.record import Batch, Info, Loss
from energeia.core.sampler import Sampler, advance
from energeia.objectives.replay import Replay
from energeia.objectives.rows import rows_of


class Contrastive(Objective):
    """mean E(data) - mean E(negatives), with negatives from a chain that targets the model.

    Its gradient is that of -log p(data), averaged, when the negatives are exact draws:
    d/dt (-log p(x)) = d/dt E(x) - E_model[d/dt E]. The value itself is not a
    likelihood; only its gradient means something, and its sign says which side is lower.
    """

    @abstractmethod
    def negatives(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Info]:
        """Samples of the model `[N, *event]`, detached, and what the chains report."""

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrastive loss; data and negatives go through the network together."""
        rows_of(energy, batch, type(self).__name__)
        negatives, info = self.negatives(energy, batch, generator)
        return self.compare(energy, batch.x, negatives, info)

    def compare(self, energy: Energy, x: Tensor, negatives: Tensor, info: Info) -> Loss:
        """The contrastive loss of data x and negatives that are at hand, `[N, *event]` and `[M, *event]`."""
        centred = energy.capability(Centred)
        if centred is not None and self.training:
            centred.recentre(x)
        closed = energy.capability(Contrastable)
        if closed is None:
            if energy.capability(Rowwise) is None:
                data, others = energy(torch.cat([x, negatives])).split([len(x), len(negatives)])
            else:  # Its rows are those of the data, and of their own negatives.
                data, others = energy(x), energy(negatives)
            value, metrics = contrast(data, others, info)
        else:
            data, others, gradients = closed.contrast(x, negatives)
            gap, metrics = contrast(data, others, info)
            value = with_gradients(gap, list(energy.parameters()), gradients)
        return Loss(value, {"loss": value.detach(), **metrics})


class _WithGradients(torch.autograd.Function):
    """A number whose gradient is known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        return None, None, *(slopes[0] * gradient for gradient in ctx.saved_tensors)


def with_gradients(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar whose backward pass gives these gradients, one for each parameter."""
    found: Any = _WithGradients.apply(value, gradients, *parameters)
    return found


def contrast(energy_data: Tensor, energy_negatives: Tensor, info: Info) -> tuple[Tensor, dict[str, Tensor]]:
    """mean E(data) - mean E(negatives), and what to log of it."""
    data, negatives = energy_data.mean(), energy_negatives.mean()
    gap = data - negatives
    metrics = {
        "energy_data": data.detach(),
        "energy_negatives": negatives.detach(),
        "gap": gap.detach(),
        "acceptance": info.acceptance.mean(),
        "displacement": info.displacement.mean(),
    }
    return gap, metrics


class ContrastiveDivergence(Contrastive):
    """CD-k: negatives are k steps of a sampler away from their start.

    Args:
        sampler: the transition; k = num_steps of it.
        num_steps: k >= 1.
        start: "data": chains start at the batch (Hinton 2002); "noise": at the space's
            start points, as many as the batch (short-run training, Nijkamp et al. 2019,
            whose samples are good after k steps and not in the long run).
        chunk: compile this many steps into one function; None runs eagerly.

    Biased for finite k. Reference: Hinton (2002), Training products of experts by
    minimizing contrastive divergence. https://doi.org/10.1162/089976602760128018
    """

    def __init__(
        self,
        sampler: Sampler,
        num_steps: int = 20,
        *,
        start: Literal["data", "noise"] = "data",
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_chunk("ContrastiveDivergence", num_steps, chunk)
        if start not in ("data", "noise"):
            raise InputError(f'ContrastiveDivergence: start must be "data" or "noise", got {start!r}')
        self.sampler, self.num_steps, self.start, self.chunk = sampler, num_steps, start, chunk

    def negatives(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Info]:
        """As many samples as the batch has rows."""
        x = batch.x if self.start == "data" else energy.space.start(len(batch.x), generator, dtype=batch.x.dtype)
        state = self.sampler.init(energy, x.detach())
        state, info = advance(
            energy, self.sampler, state, num_steps=self.num_steps, generator=generator, chunk=self.chunk
        )
        return state.x, info


class PersistentCD(Contrastive):
    """Persistent contrastive divergence: the chains go on where the last update left them.

    Args:
        sampler: the transition.
        num_steps: steps of each chain an update, >= 1.
        num_chains: negatives an update, in each process.
        capacity: chains that live in the buffer, >= num_chains; None is num_chains, which
            moves every chain at every update (Tieleman 2008). A larger buffer moves a
            random part of it (replay, Du & Mordatch 2019).
        fresh: share of the chains that restart from noise each time, 0 to 1.
        chunk: compile this many steps into one function; None runs eagerly.

    Biased while the model moves faster than the chains mix; the smaller the learning
    rate, the less. In eval mode the chains are used and left where they were.

    Reference: Tieleman (2008), Training restricted Boltzmann machines using
    approximations to the likelihood gradient. https://doi.org/10.1145/1390156.1390290
    """

    def __init__(
        self,
        sampler: Sampler,
        num_steps: int = 20,
        *,
        num_chains: int = 100,
        capacity: int | None = None,
        fresh: float = 0.0,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        check_chunk("PersistentCD", num_steps, chunk)
        check_count("PersistentCD", num_chains=num_chains)
        if capacity is not None and capacity < num_chains:
            raise InputError(f"PersistentCD: capacity {capacity} is less than num_chains {num_chains}")
        self.sampler, self.num_steps, self.num_chains, self.chunk = sampler, num_steps, num_chains, chunk
        self.replay = Replay(num_chains if capacity is None else capacity, fresh=fresh)

    def negatives(self, energy: Energy, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Info]:
        """num_chains samples, from the buffer and back to it."""
        slots, x = self.replay.take(self.num_chains, energy.space, generator, dtype=batch.x.dtype)
        state = self.sampler.init(energy, x)
        state, info = advance(
            energy, self.sampler, state, num_steps=self.num_steps, generator=generator, chunk=self.chunk
        )
        if self.training:
            self.replay.put(slots, state.x)
        return state.x, info
