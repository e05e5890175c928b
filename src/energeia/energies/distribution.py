"""Any torch.distributions.Distribution as an energy."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, distributions

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.random import global_from
from energeia.core.record import LogZ
from energeia.core.space import Space


class Distribution(Energy):
    """E(x) = -log p(x) of a distribution of `torch.distributions`: log Z = 0, and infinite where p is zero.

    Args:
        distribution: with an empty batch shape and the event shape of the space. It is copied, and its tensors are
            constants: for one that is trained, give `Flow` a module that returns it.
        space: where its draws lie: `Real`, or `Binary` for Bernoulli, `Categorical` for OneHotCategorical.

    Has the capabilities `Tractable` and `Explicit`. Draws take a seed from the generator they are given, and torch's
    global random numbers stay as they were. `.to(device)` and `.double()` move the distribution's tensors. A
    checkpoint does not hold them: build the energy again with the same distribution.

    Raises:
        InputError: the shapes differ, or draws do not lie in the space.

    >>> import torch, energeia as en
    >>> student = torch.distributions.StudentT(torch.tensor([3.0, 5.0]), loc=1.0)
    >>> noise = en.Distribution(torch.distributions.Independent(student, 1), en.Real(2))
    >>> noise.sample_exact(4, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 2])
    """

    zero: Tensor

    def __init__(self, distribution: distributions.Distribution, space: Space) -> None:
        super().__init__(space)
        batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
        if batch or event != space.event_shape:
            advice = (
                f"; wrap it: torch.distributions.Independent(distribution, {len(batch)})"
                if batch + event == space.event_shape
                else ""
            )
            raise InputError(
                f"Distribution: {type(distribution).__name__} has batch shape {batch} and event shape {event}; "
                f"on {space} they must be () and {space.event_shape}{advice}"
            )
        self._distribution: distributions.Distribution = _mapped(distribution, lambda tensor: tensor.detach().clone())
        # Points that cannot be drawn have infinite energy here; torch would raise.
        _unchecked(self._distribution)
        places: set[torch.device] = set()
        _mapped(distribution, lambda tensor: (places.add(tensor.device), tensor)[1])
        with global_from(torch.Generator(places.pop() if places else "cpu").manual_seed(0)):
            example = self._distribution.sample((4,))
        space.check(example, f"what {type(distribution).__name__} draws")
        # Carries dtype and device, so that .double() and .to(device) mean something.
        self.register_buffer("zero", torch.zeros((), dtype=example.dtype, device=example.device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distribution":
        super()._apply(fn, recurse)
        self._distribution = _mapped(self._distribution, fn)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """-log p(x) `[B]`."""
        return -self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) `[B]`, -inf outside the support."""
        found: Any = self._distribution.support
        inside = found.check(x)
        return torch.where(inside, self._distribution.log_prob(x), -torch.inf)

    def log_z(self) -> LogZ:
        """0."""
        return LogZ.exact(self.zero, "a normalised density")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        with global_from(generator), torch.no_grad():
            return self._distribution.sample((num_chains,))


def _mapped(part: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a distribution, or of a part of one, with a function applied to its tensors."""
    if isinstance(part, Tensor):
        return function(part)
    if isinstance(part, list):
        return [_mapped(item, function) for item in part]
    if isinstance(part, distributions.Distribution | distributions.Transform):
        twin = copy.copy(part)
        # A transform's state leaves out the weak reference to its inverse.
        state = cast(dict[str, Any], part.__getstate__())
        twin.__dict__ = {name: _mapped(value, function) for name, value in state.items()}
        return twin
    return part


def _unchecked(part: Any) -> None:
    """Turn off torch's own validation, all the way down."""
    if isinstance(part, distributions.Distribution):
        part._validate_args = False
        for value in vars(part).values():
            _unchecked(value)
