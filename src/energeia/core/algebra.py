"""Energies made of energies: sum, scaling, mixture, and conditioning."""

import inspect
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.answers import Answering, Ragged, Rowwise, taken
from energeia.core.energy import Capability, Classes, Conditional, Contextual, Energy, Scored, dtype_and_device, require
from energeia.core.errors import CapabilityError, InputError
from energeia.core.space import Box, Real, Space


def _same_space(energies: Sequence[Energy], who: str) -> None:
    spaces = [energy.space for energy in energies]
    if not all(spaces[0].same_set(space) for space in spaces):
        raise InputError(f"{who}: energies live in different spaces: {', '.join(map(str, spaces))}")


def _as(view: object, kind: type[Capability]) -> Capability | None:
    """The view if it is of the kind."""
    return view if isinstance(view, kind) else None


def _scored(energies: Sequence[Energy]) -> Scored | None:
    """The first with a score model in it: then the whole has no E(x)."""
    return next((found for energy in energies if (found := energy.capability(Scored)) is not None), None)


class Sum(Energy):
    """E(x) = sum_i E_i(x): the normalised product of the densities.

    Keeps `Conditional` if every term has it with the same blocks, `Classes` if
    exactly one term has it (the others then shift all class energies alike), and `Rowwise` and `Ragged` if a term has
    it.
    """

    def __init__(self, *terms: Energy) -> None:
        flat = [inner for term in terms for inner in (term.energies() if isinstance(term, Sum) else [term])]
        _same_space(flat, "sum")
        super().__init__(flat[0].space)
        self.terms = nn.ModuleList(flat)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        total = self.terms[0](x)
        for term in self.terms[1:]:
            total = total + term(x)
        return total

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Classes`, `Conditional`, `Rowwise` or `Ragged` where the terms allow it, `Scored` where one is."""
        if kind is Scored:
            return _as(_scored(self.energies()), kind)
        found = [term.capability(kind) for term in self.energies()]
        present = [term for term in found if term is not None]
        view: object = None
        if kind is Rowwise and present:
            view = _RowwiseSum(self, [term for term in present if isinstance(term, Rowwise)])
        elif kind is Ragged and present:
            view = _RaggedSum([term for term in present if isinstance(term, Ragged)])
        elif kind is Classes and len(present) == 1:
            view = _SumClasses(self, found.index(present[0]))
        elif kind is Conditional and len(present) == len(found):
            parts = [part for part in present if isinstance(part, Conditional)]
            if _same_blocks(parts, self.space):
                view = _WeightedConditional(parts, [1.0] * len(parts))
        return _as(view, kind)

    def energies(self) -> list[Energy]:
        """The terms."""
        return [term for term in self.terms if isinstance(term, Energy)]


class Scaled(Energy):
    """E(x) = scale * E_1(x): the density to a power. scale = 1/T is temperature T. Keeps `Conditional`.

    Args:
        energy: what to scale.
        scale: a finite number, or a tensor `[B]` of one for each chain (tempering).
    """

    def __init__(self, energy: Energy, scale: float | Tensor) -> None:
        super().__init__(energy.space)
        if not isinstance(scale, Tensor):
            scale = float(scale)
            if not math.isfinite(scale):
                raise InputError(f"an energy is scaled by a finite number, got {scale}")
        self.energy = energy
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.scale * self.energy(x)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Conditional`, `Rowwise`, `Ragged` and `Scored` if the scaled energy has it."""
        if kind is Scored:
            return _as(_scored([self.energy]), kind)
        if kind is Ragged:
            return self.energy.capability(kind)
        if kind is Rowwise:
            rowwise = self.energy.capability(Rowwise)
            return _as(None if rowwise is None else _RowwiseScaled(self, rowwise), kind)
        part = self.energy.capability(Conditional) if kind is Conditional else None
        view = None if part is None else _WeightedConditional([part], [self.scale])
        return _as(view, kind)


class Mixture(Energy):
    """E(x) = -log sum_i w_i exp(-E_i(x)): either of the energies.

    The weights multiply the unnormalised densities: a component's share of the
    mixture is w_i Z_i / sum_j w_j Z_j. Drops every capability.
    """

    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None = None) -> None:
        if not energies:
            raise InputError("any_of needs at least one energy")
        _same_space(energies, "any_of")
        if _scored(energies) is not None:
            raise CapabilityError("any_of weighs densities against each other, and a score model has none")
        super().__init__(energies[0].space)
        self.energies = nn.ModuleList(energies)
        values = [1.0] * len(energies) if weights is None else [float(weight) for weight in weights]
        if len(values) != len(energies) or not all(0 < value < math.inf for value in values):
            raise InputError(f"any_of needs one positive weight for each of {len(energies)} energies, got {weights}")
        self.log_weights = [math.log(value) for value in values]

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        terms = [log_w - energy(x) for log_w, energy in zip(self.log_weights, self.energies, strict=True)]
        return -torch.stack(terms).logsumexp(0)


def any_of(*energies: Energy, weights: Sequence[float] | None = None) -> Energy:
    """A mixture: -log sum_i w_i exp(-E_i(x)). See `Mixture` for what the weights mean."""
    return Mixture(energies, weights)


def without(energy: Energy, other: Energy, *, weight: float = 1.0) -> Energy:
    """energy - weight * other: x likely under energy and unlikely under other.

    The result need not be normalisable: exp(-E) must still fall off, so on `Real`
    keep weight small, or use a bounded space (Du, Li & Mordatch 2020,
    Compositional Visual Generation with Energy Based Models).
    """
    return energy + (-weight) * other


def given(
    energy: Energy,
    *,
    label: int | Tensor | None = None,
    context: Tensor | None = None,
    observed: tuple[Tensor, Tensor] | None = None,
) -> Energy:
    """Bind what is known; the result is an energy of the rest. Give exactly one of three.

    Args:
        energy: what to condition.
        label: a class number, or one for each chain `[B]`: E(x, y = label), for `Classes`.
        context: what `Contextual` energies hold fast, which keep their other capabilities then; the inputs x of an
            `Answering` energy, of which the energy of the answers is left;
            for others, passed to `energy(x, context)`, for energies whose forward takes it.
        observed: (mask, values): bool mask `[*event]` and values `[*event]`; the
            observed entries are fixed and the space is the flat vector of the others
            (`Given.complete` puts them back in place). On `Real` and `Box`.
    """
    if sum(part is not None for part in (label, context, observed)) != 1:
        raise InputError("given(): give exactly one of label, context, observed")
    if label is not None:
        return GivenLabel(energy, label)
    if context is not None:
        contextual = energy.capability(Answering) or energy.capability(Contextual)
        if contextual is None and len(inspect.signature(energy.forward).parameters) < 2:
            raise InputError(
                f"given(context=...): {type(energy).__name__} takes x alone; for noise levels take "
                "en.NoiseConditional(network, space, levels=...), else an energy with forward(x, context)"
            )
        return GivenContext(energy, context) if contextual is None else contextual.within(context)
    assert observed is not None
    return GivenObserved(energy, *observed)


class GivenLabel(Energy):
    """E(x) = E(x, y = label): the density of x within a class."""

    label: Tensor

    def __init__(self, energy: Energy, label: int | Tensor) -> None:
        super().__init__(energy.space)
        self.energy = energy
        classes = require(energy, Classes, who="given(label=...)", instead="use en.Classifier(network, space)")
        value = torch.as_tensor(label, device=dtype_and_device(energy)[1])
        if value.dim() > 1 or value.is_floating_point() or value.dtype == torch.bool:
            raise InputError(f"label must be a class number or one for each chain [B], got {label!r}")
        if bool((value < 0).any()) or bool((value >= classes.num_classes).any()):
            raise InputError(f"label {label} is outside 0..{classes.num_classes - 1}")
        self.register_buffer("label", value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x, label) `[B]`."""
        classes = require(self.energy, Classes, who="given(label=...)", instead="")
        index = self.label.expand(len(x)) if self.label.dim() == 0 else self.label
        return classes.class_energies(x).gather(1, index.unsqueeze(1)).squeeze(1)


class GivenContext(Energy):
    """E(x) = energy(x, context)."""

    context: Tensor

    def __init__(self, energy: Energy, context: Tensor) -> None:
        super().__init__(energy.space)
        self.energy = energy
        self.register_buffer("context", context.to(dtype_and_device(energy)[1]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """energy(x, context) `[B]`."""
        return self.energy(x, self.context)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Scored` if the energy is."""
        return _as(_scored([self.energy]), kind) if kind is Scored else super().capability(kind)


class GivenObserved(Energy):
    """The energy of the entries that were not observed, as a flat vector."""

    mask: Tensor
    values: Tensor

    def __init__(self, energy: Energy, mask: Tensor, values: Tensor) -> None:
        whole = energy.space
        if mask.shape != whole.event_shape or values.shape != whole.event_shape or mask.dtype != torch.bool:
            raise InputError(
                f"given(observed=(mask, values)): both need the event shape {whole.event_shape} and mask dtype bool, "
                f"got {tuple(mask.shape)} {mask.dtype} and {tuple(values.shape)}"
            )
        device = dtype_and_device(energy)[1]
        mask, values = mask.to(device), values.to(device)
        start = whole.start(1, torch.Generator(device).manual_seed(0), dtype=values.dtype)[0]
        whole.check(torch.where(mask, values, start).unsqueeze(0), "given(observed=...): values")
        num_free = int((~mask).sum())
        if num_free == 0:
            raise InputError("given(observed=...): everything is observed, nothing is left to sample")
        if isinstance(whole, Box):
            space: Real | Box = Box(num_free, whole.low, whole.high)
        elif isinstance(whole, Real):
            space = Real(num_free, whole.start_scale)
        else:
            raise InputError(f"given(observed=...) is for Real and Box spaces, got {whole}")
        super().__init__(space)
        self.energy = energy
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("values", values, persistent=False)

    def complete(self, x: Tensor) -> Tensor:
        """The whole event `[B, *event]` from the free entries `[B, num_free]`."""
        whole = self.values.to(x.dtype).expand(len(x), *self.values.shape)
        return whole.masked_scatter(~self.mask, x)

    def forward(self, x: Tensor) -> Tensor:
        """E of the completed x, `[B]`."""
        return self.energy(self.complete(x))


class _RowwiseSum:
    """`Rowwise` of a sum in which a term has it."""

    def __init__(self, total: Sum, parts: Sequence[Rowwise]) -> None:
        self._total = total
        self.num_rows = max(part.num_rows for part in parts)

    def take(self, index: Tensor) -> Energy:
        return Sum(*(taken(term, lambda _: index) for term in self._total.energies()))


class _RaggedSum:
    """`Ragged` of a sum: sites that are there for all of the terms."""

    def __init__(self, parts: Sequence[Ragged]) -> None:
        self._parts = parts

    @property
    def sites_there(self) -> Tensor | None:
        masks = [mask for part in self._parts if (mask := part.sites_there) is not None]
        return torch.stack(masks).all(0) if masks else None


class _RowwiseScaled:
    """`Rowwise` of a scaling."""

    def __init__(self, scaled: Scaled, part: Rowwise) -> None:
        self._scaled, self._part = scaled, part
        self.num_rows = part.num_rows

    def take(self, index: Tensor) -> Energy:
        scale = self._scaled.scale
        return Scaled(self._part.take(index), scale[index] if isinstance(scale, Tensor) and scale.dim() > 0 else scale)


class _SumClasses:
    """`Classes` of a sum in which one term has them."""

    def __init__(self, total: Sum, index: int) -> None:
        self._classes = require(total.terms[index], Classes, who="sum", instead="")  # type: ignore[arg-type]
        self._others = [term for number, term in enumerate(total.terms) if number != index]
        self.num_classes = self._classes.num_classes

    def class_energies(self, x: Tensor) -> Tensor:
        energies = self._classes.class_energies(x)
        for other in self._others:
            energies = energies + other(x).unsqueeze(1)
        return energies


class _WeightedConditional:
    """`Conditional` of a weighted sum: natural parameters add and scale."""

    def __init__(self, parts: Sequence[Conditional], weights: Sequence[float | Tensor]) -> None:
        self._parts, self._weights = parts, weights

    @property
    def num_blocks(self) -> int:
        return self._parts[0].num_blocks

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        return self._parts[0].split(x)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        return self._parts[0].join(blocks)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        total: Tensor | None = None
        for weight, part in zip(self._weights, self._parts, strict=True):
            natural = part.natural_parameters(blocks, block)
            if isinstance(weight, Tensor):
                weight = weight.view(-1, *[1] * (natural.dim() - 1))
            total = weight * natural if total is None else total + weight * natural
        assert total is not None
        return total


def _same_blocks(parts: Sequence[Conditional], space: Space) -> bool:
    """Whether all parts keep the same sites at the same places of the same blocks."""
    number = torch.arange(space.num_dims).view(1, *space.event_shape)
    layouts = [part.split(number) for part in parts]
    return all(len(layout) == len(layouts[0]) and all(map(torch.equal, layout, layouts[0])) for layout in layouts)
