"""Layers of bits in a row, every other one summed out: the energy of a deep Boltzmann machine that is tractable."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from energeia.core.energy import CLOSED, Capability, Energy
from energeia.core.errors import InputError, check_count, check_fraction, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Binary
from energeia.core.units import Units
from energeia.energies.layers import checked_statistic, first_bias
from energeia.energies.rbm import RBM

_MOST_LISTED = 22


class DeepJoint(Energy):
    """E(h_0, h_2, ...) of even layers of bits, odd ones summed out of -sum_l h_(l-1)'W_l h_l - sum_l b_l'h_l.

    Even layers see only odd ones and the other way round, so this is a restricted Boltzmann machine
    between them, with a weight that is zero where layers are no neighbours. Its log Z is that of the
    whole machine; `BlockGibbs`, `ais`, `ParallelTempering` and contrastive objectives work on it as it is.

    Args:
        sizes: bits of each layer, the lowest first; two layers or more.
        mean: mean of the data for the lowest layer `[sizes[0]]`: its first b and offset.
        centred: whether gradients are centred, as for `RBM`.
        weight_scale: standard deviation of the first weights, > 0.

    x is the even layers side by side, `[B, sizes[0] + sizes[2] + ...]`; `rows` and `layers` go between them.
    `recentre` moves the offsets towards the means of all layers at rows x.

    Capabilities: `Bipartite`, `Contrastable`, `Centred`; `Tractable` if the smaller side has at most 22 bits.

    Reference: Salakhutdinov & Hinton (2009), Deep Boltzmann machines,
    https://proceedings.mlr.press/v5/salakhutdinov09a.html; Melchior, Fischer & Wiskott (2016), How to center
    deep Boltzmann machines, https://jmlr.org/papers/v17/14-237.html

    >>> import energeia as en
    >>> joint = en.DBM(4, (3, 2)).joint
    >>> joint.space, joint.hidden
    (Binary(shape=(6,)), Binary(shape=(3,)))
    """

    offset: Tensor

    def __init__(
        self, sizes: Sequence[int], *, mean: Tensor | None = None, centred: bool = True, weight_scale: float = 0.01
    ) -> None:
        if len(sizes) < 2:
            raise InputError(f"DeepJoint: needs two layers or more, got sizes {tuple(sizes)}")
        check_count("DeepJoint", **{f"sizes[{place}]": size for place, size in enumerate(sizes)})
        check_positive("DeepJoint", weight_scale=weight_scale)
        super().__init__(Binary(sum(sizes[::2])))
        self.sizes, self.centred = tuple(sizes), centred
        pairs = itertools.pairwise(sizes)
        self.weights = nn.ParameterList([weight_scale * torch.randn(below, above) for below, above in pairs])
        self.biases = nn.ParameterList([torch.zeros(size) for size in sizes])
        self.register_buffer("offset", torch.full((sum(sizes),), 0.5))
        if mean is not None:
            space = Binary(sizes[0])
            with torch.no_grad():
                self.offset[: sizes[0]] = checked_statistic("mean", mean, space)
                self.biases[0].copy_(first_bias(space, self.offset[: sizes[0]]))

    @property
    def offsets(self) -> tuple[Tensor, ...]:
        """The offset of each layer."""
        return self.offset.split(self.sizes)

    @property
    def visible(self) -> Units:
        """The bits of the even layers."""
        return Binary(sum(self.sizes[::2]))

    @property
    def hidden(self) -> Units:
        """The bits of the odd layers."""
        return Binary(sum(self.sizes[1::2]))

    def rows(self, layers: Sequence[Tensor]) -> Tensor:
        """x `[B, even]` of all layers, lowest first."""
        return torch.cat(list(layers[::2]), 1)

    def layers(self, x: Tensor, h: Tensor) -> list[Tensor]:
        """All layers, lowest first, of even ones x and odd ones h."""
        even, odd = x.split(self.sizes[::2], 1), h.split(self.sizes[1::2], 1)
        return [(even, odd)[number % 2][number // 2] for number in range(len(self.sizes))]

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        weights, biases = self.learning()
        natural = self.side(1, x, weights, biases)
        return -(x @ torch.cat(biases[::2])) - self.hidden.log_partition(natural)

    def learning(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases, whose gradients are centred if this is."""
        if not (self.centred and torch.is_grad_enabled()):
            return list(self.weights), list(self.biases)
        found: Any = _Centre.apply(len(self.sizes), *self.weights, *self.biases, *self.offsets)
        return list(found[: len(self.weights)]), list(found[len(self.weights) :])

    def side(self, first: int, others: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Natural parameters of the layers first, first + 2, ..., side by side, given the layers between them."""
        between = others.split(self.sizes[1 - first :: 2], 1)
        naturals: list[Tensor] = []
        for layer in range(first, len(self.sizes), 2):
            natural = biases[layer]
            if layer > 0:
                natural = torch.addmm(natural, between[(layer - 1) // 2], weights[layer - 1])
            if layer + 1 < len(self.sizes):
                natural = torch.addmm(natural, between[(layer + 1) // 2], weights[layer].T)
            naturals.append(natural)
        return naturals[0] if len(naturals) == 1 else torch.cat(naturals, 1)

    def visible_energy(self, x: Tensor) -> Tensor:
        """-sum of b_l'h_l over even layers, `[B]`."""
        return -(x @ torch.cat(list(self.biases)[::2]))

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """Natural parameters of the odd layers given the even ones, `[B, odd]`."""
        return self.side(1, x, list(self.weights), list(self.biases))

    def visible_parameters(self, h: Tensor) -> Tensor:
        """Natural parameters of the even layers given the odd ones, `[B, even]`."""
        return self.side(0, h, list(self.weights), list(self.biases))

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means; rows may be means of bits."""
        with torch.no_grad():
            x = torch.cat([data, negatives])
            natural = self.hidden_parameters(x)
            energies = self.visible_energy(x) - self.hidden.log_partition(natural)
            gradients = self._gradient(self.layers(x, natural.sigmoid()), len(data))
        return energies[: len(data)], energies[len(data) :], gradients

    def _gradient(self, layers: Sequence[Tensor], num_data: int) -> tuple[Tensor, ...]:
        """-sum_rows r (h - o)(h' - o')' and so on, r the weight of a row: 1 / N for data, -1 / M for negatives."""
        num_rows = len(layers[0])
        share = layers[0].new_full((num_rows,), -1 / num_data)
        share[num_data:] = 1 / (num_rows - num_data)
        offsets = self.offsets if self.centred else [torch.zeros_like(offset) for offset in self.offsets]
        # Shares add up to zero: an offset changes the sums of no layer, only those of products.
        distances = [layer - offset for layer, offset in zip(layers, offsets, strict=True)]
        weighted = [distance * share.unsqueeze(1) for distance in distances]
        for_weights = [below.T @ above for below, above in zip(distances, weighted[1:], strict=False)]
        for_biases = [each.sum(0) for each in weighted]
        return (*for_weights, *_shifted(for_weights, for_biases, offsets))

    def recentre(self, x: Tensor, rate: float = 0.01) -> None:
        """Move the offsets by a rate, 0 to 1, towards the means of the layers at rows x `[B, even]`.

        The model stays as it is. Means of the odd layers are taken of every eighth row.
        """
        check_fraction("recentre", rate=rate)
        if not self.centred:
            return
        with torch.no_grad():
            h = self.hidden_parameters(x[::8]).sigmoid().mean(0, keepdim=True)
            means = self.layers(x.mean(0, keepdim=True), h)
            self.offset.lerp_(torch.cat(means, 1)[0], rate)

    def as_rbm(self) -> RBM:
        """A restricted Boltzmann machine of the same distribution, with copies of the weights in one matrix."""
        even, odd = sum(self.sizes[::2]), sum(self.sizes[1::2])
        machine = RBM(even, odd, centred=False).to(self.offset)
        # A row each for the input from every even bit to the odd layers: the natural parameters less the biases.
        ones = torch.eye(even, dtype=self.offset.dtype, device=self.offset.device)
        with torch.no_grad():
            machine.bias.copy_(torch.cat(list(self.biases)[::2]))
            machine.hidden_bias.copy_(torch.cat(list(self.biases)[1::2]))
            machine.weight.copy_(self.hidden_parameters(ones) - machine.hidden_bias)
        return machine

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable` where a side is small enough to be listed."""
        if kind in CLOSED and min(sum(self.sizes[::2]), sum(self.sizes[1::2])) > _MOST_LISTED:
            return None
        return super().capability(kind)

    def log_z(self) -> LogZ:
        """log Z by listing the smaller side, float64 sums; `InputError` if it has more than 22 bits."""
        return self.as_rbm().log_z()

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, even]`; it lists the smaller side each time."""
        return self.as_rbm().sample_exact(num_chains, generator)


def _shifted(
    for_weights: Sequence[Tensor], for_biases: Sequence[Tensor], offsets: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of biases that go with centred gradients of the weights on both sides."""
    found: list[Tensor] = []
    for layer, gradient in enumerate(for_biases):
        if layer > 0:
            gradient = torch.addmv(gradient, for_weights[layer - 1].T, offsets[layer - 1], alpha=-1)
        if layer < len(for_weights):
            gradient = torch.addmv(gradient, for_weights[layer], offsets[layer + 1], alpha=-1)
        found.append(gradient)
    return tuple(found)


class _Centre(torch.autograd.Function):
    """Weights and biases as they are; backwards, gradients g become J J'g, J the way from centred to plain ones."""

    @staticmethod
    def forward(num_layers: int, *tensors: Tensor) -> Any:
        return tuple(tensor.view_as(tensor) for tensor in tensors[: 2 * num_layers - 1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.num_layers = inputs[0]
        ctx.save_for_backward(*inputs[-inputs[0] :])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        offsets: tuple[Tensor, ...] = ctx.saved_tensors
        for_biases = gradients[ctx.num_layers - 1 :]
        for_weights: list[Tensor] = []
        for layer, gradient in enumerate(gradients[: ctx.num_layers - 1]):
            gradient = torch.addr(gradient, offsets[layer], for_biases[layer + 1], alpha=-1)
            for_weights.append(torch.addr(gradient, for_biases[layer], offsets[layer + 1], alpha=-1))
        return None, *for_weights, *_shifted(for_weights, for_biases, offsets), *[None] * len(offsets)
