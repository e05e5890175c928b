"""Any function of an input and an answer as an energy E(x, y), and energies of the same answers taken together."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from energeia.core.algebra import Sum
from energeia.core.answers import Answering
from energeia.core.energy import Classes, Energy, dtype_and_device, require, validate
from energeia.core.errors import CapabilityError, InputError
from energeia.core.space import Categorical, Space
from energeia.energies.fields import Field
from energeia.energies.structure import Structure


class Pair(Energy):
    """E(x, y) = function(features(x), y), as `from_pair` makes it."""

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], space: Space, answers: Space, features: nn.Module | None
    ) -> None:
        super().__init__(space)
        self.function, self.answers, self.features = function, answers, features

    def forward(self, x: Tensor) -> Tensor:
        """An error: E(x) would take a sum over all answers."""
        raise CapabilityError(
            "E(x) = -log sum_y exp(-E(x, y)) is not known for an energy of any function of x and y; "
            "en.given(energy, context=x) is the energy of the answers, en.predict finds the best of them"
        )

    def present(self, x: Tensor) -> None:
        """All sites are there."""
        return

    def within(self, context: Tensor) -> "Bound":
        """The energy of the answers to each row of x `[B, *event]`."""
        self.space.check(context, "x")
        found = context if self.features is None else cast(Tensor, self.features(context))
        return Bound(self.function, self.answers, found)


class Bound(Energy):
    """E_b(y) = function(features_b, y): row b of y belongs to row b of the features. Capability: `Rowwise`."""

    bound: Tensor

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], answers: Space, features: Tensor) -> None:
        super().__init__(answers)
        self.function = function
        self.register_buffer("bound", features, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E_b(y) `[B]`."""
        if len(x) != len(self.bound):
            raise InputError(f"this energy has {len(self.bound)} rows, each for its own x; there are {len(x)} answers")
        return self.function(self.bound, x)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.bound)

    def take(self, index: Tensor) -> "Bound":
        """The rows index `[C]`."""
        return Bound(self.function, self.space, self.bound[index])


def from_pair(
    function: Callable[[Tensor, Tensor], Tensor],
    space: Space,
    answers: Space,
    *,
    features: nn.Module | None = None,
) -> Energy:
    """Use any module or function of an input and an answer as an energy E(x, y).

    Args:
        function: maps (x `[B, *event]`, y `[B, *answers]`) to energies `[B]`, low = y goes well with x, each row from
            its own alone. Labels (`Categorical`) come to it one-hot, so that it can be differentiated. Parameters of a
            module are trained by `fit`.
        space: where x lives.
        answers: where y lives.
        features: a module of x that is evaluated once for an x, however many answers are tried; function then gets its
            output `[B, ...]` instead of x.

    Returns:
        an energy with `Answering`. E(x) itself is an error, as it would take a sum over all answers.

    Raises:
        InputError: the output is not `[B]`, mixes rows, is random or not finite, tried once on start points.

    >>> import torch, energeia as en
    >>> energy = en.from_pair(lambda x, y: (y - x).square().sum(1), en.Real(2), en.Real(2))
    >>> en.given(energy, context=torch.zeros(3, 2))(torch.ones(3, 2))
    tensor([2., 2., 2.])
    """
    energy = Pair(function, space, answers, features)
    dtype, device = dtype_and_device(energy)
    generator = torch.Generator(device).manual_seed(0)
    x, y = space.start(4, generator, dtype=dtype), answers.start(4, generator, dtype=dtype)
    # The rows differ in x too: each row's energy may come from its own x and its own y alone.
    with torch.no_grad():
        validate(YourFunction(energy, x), y)
    return energy


# The name is what errors call it.
class YourFunction(nn.Module):
    """y's energy, with an x for each y: a copy of the first row's company has its x too."""

    def __init__(self, energy: Energy, x: Tensor) -> None:
        super().__init__()
        self._energy, self._x = energy, x

    def forward(self, y: Tensor) -> Tensor:
        """E of each pair `[B]`."""
        answering = require(self._energy, Answering, who="from_pair", instead="")
        alike = len(y) > 1 and bool((y == y[:1]).all())
        return answering.within(self._x[:1].expand_as(self._x) if alike else self._x)(y)


class Jointly(Energy):
    """E(x, y) = sum_i E_i(x, y) of energies with the same answers: a chain and a global term, say.

    Args:
        energies: each with `Answering` or `Classes`, on the same spaces of x and of y.

    This is not the sum of the E_i(x), in which every energy would have its own y summed out. E(x) itself is an error:
    the sum keeps no exact inference of its terms, but objectives and searches list its answers where they are few.
    """

    def __init__(self, *energies: Energy) -> None:
        super().__init__(energies[0].space)
        self.energies = nn.ModuleList(energies)
        parts = self._parts()
        self.answers = parts[0].answers
        for energy, part in zip(energies, parts, strict=True):
            if not (energy.space.same_set(self.space) and part.answers.same_set(self.answers)):
                raise InputError(
                    f"Jointly: all energies have the same x and the same answers, but {type(energy).__name__} has "
                    f"{energy.space} and {part.answers}, and the first {self.space} and {self.answers}"
                )

    def forward(self, x: Tensor) -> Tensor:
        """An error: E(x) would take a sum over all answers."""
        raise CapabilityError(
            "E(x) = -log sum_y exp(-E(x, y)) is not known for energies taken together; en.given(energy, context=x) is "
            "the energy of the answers, en.predict finds the best of them"
        )

    def present(self, x: Tensor) -> Tensor | None:
        """Sites that are there for all of the energies."""
        masks = [mask for part in self._parts() if (mask := part.present(x)) is not None]
        return None if not masks else torch.stack(masks).all(0)

    def within(self, context: Tensor) -> Sum:
        """The energy of the answers to each row of x."""
        return Sum(*(part.within(context) for part in self._parts()))

    def _parts(self) -> list[Answering]:
        return [answering(energy, "Jointly") for energy in self.energies if isinstance(energy, Energy)]


class ClassAnswers(nn.Module):
    """The classes of an energy with `Classes` as answers, `Answering`: one site, y `[B]` in 0..K-1."""

    def __init__(self, energy: Energy, classes: Classes) -> None:
        super().__init__()
        self.energy = energy
        self._classes = classes
        self.answers = Categorical((), classes.num_classes)

    def present(self, x: Tensor) -> None:
        """The one site is there."""
        return

    def within(self, context: Tensor) -> Field:
        """E(x, .) of each row of x."""
        self.energy.space.check(context, "x")
        unary = -self._classes.class_energies(context).unsqueeze(1)
        return Field(_ONE_SITE, (), unary, unary.new_zeros(0, *[self.answers.num_categories] * 2))


_ONE_SITE = Structure(1, torch.empty(0, 2, dtype=torch.int64))


def answering(energy: Energy, who: str) -> Answering:
    """The energy as one of inputs and answers; classes are answers too.

    Raises:
        CapabilityError: it has neither `Answering` nor `Classes`.
    """
    found = energy.capability(Answering)
    if found is not None:
        return found
    classes = energy.capability(Classes)
    if classes is not None:
        return ClassAnswers(energy, classes)
    return require(
        energy,
        Answering,
        who=who,
        instead="take en.from_pair(function, space, answers), en.LinearChain, en.PairwiseCRF or en.Classifier",
    )
