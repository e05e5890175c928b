"""What flows: plain named tuples, with no behaviour."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from energeia.core.sampler import Sampler


class Batch(NamedTuple):
    """Rows of data.

    x: `[B, *event]`; y: class numbers `[B]` (int64), or answers as an `Answering` energy takes them (label numbers
    `[B, *sites]`, or real numbers), or None where there are none.
    """

    x: Tensor
    y: Tensor | None = None


class Loss(NamedTuple):
    """What an objective returns.

    value: scalar to minimise, with its graph; metrics: detached scalars to log.
    """

    value: Tensor
    metrics: dict[str, Tensor]


class Info(NamedTuple):
    """What one sampling step says of every chain, each `[B]`.

    energy: E where the step ended if the sampler knows it (Metropolis kinds),
        else where it began (Langevin and BlockGibbs, which do not pay for another evaluation).
    acceptance: acceptance probability of the step; 1 for samplers that never reject.
    displacement: root mean square change of the entries of x.
    divergent: True where the proposal or the energy was not finite.
    """

    energy: Tensor
    acceptance: Tensor
    displacement: Tensor
    divergent: Tensor


class Draws(NamedTuple):
    """What `sample` returns.

    x: the last state of every chain `[B, *event]`.
    kept: kept states `[T, B, *event]` (T = 1 unless `keep="all"`).
    info: `Info` of the kept steps, each `[T, B]`; divergent says whether any step
        since the one kept before was divergent, and acceptance and displacement
        are the means over those steps.
    sampler: what made them: the sampler given, tuned if there was a warm-up. Pass it
        on to sample more without another warm-up.
    state: its last state, with all that the sampler keeps beside x (a momentum, the
        replicas and swap rates of a ladder).
    """

    x: Tensor
    kept: Tensor
    info: Info
    sampler: "Sampler[Any]"
    state: Any


class LogZ(NamedTuple):
    """What is known of log Z = log integral exp(-E(x)) dx, in nats; tensors are float64 scalars.

    value: the estimate.
    standard_error: its standard error from random numbers, or the error of quadrature; 0 if there is neither.
    kind: "exact"; "lower" or "upper", a bound, or one on average; else "approximate".
    low, high: the ends between which log Z lies, with 95 % confidence where random numbers are in it. An end that
        the method says nothing of is infinite: that of "lower" above, that of "upper" below.
    method: how it was got, in words.
    details: what else there is to know, by name.
    """

    value: Tensor
    standard_error: Tensor
    kind: Literal["exact", "lower", "upper", "approximate"]
    low: Tensor
    high: Tensor
    method: str
    details: dict[str, Any]

    @classmethod
    def exact(cls, value: Tensor, method: str, **details: Any) -> "LogZ":
        """One without error."""
        value = value.detach().double()
        return cls(value, torch.zeros_like(value), "exact", value, value, method, details)
