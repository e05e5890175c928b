"""Watches a run, and says what is wrong with it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from energeia.core.errors import InputError, check_count


@dataclass(frozen=True)
class Guard:
    """What counts as a run gone wrong, and what to do then.

    Args:
        action: "rewind" goes back to the last good checkpoint with learning rates times
            `shrink`; "stop" raises `DivergenceError` with the cause.
        max_gap: largest |mean E(data) - mean E(negatives)|, in nats.
        max_gradient_norm: largest norm of the parameters' gradient, before clipping.
        min_acceptance: least mean acceptance of the chains; 0 never triggers.
        max_rewinds: rewinds of a run before it stops after all.
        shrink: factor on the learning rates at each rewind, in (0, 1).

    The gradient norm and every metric, in training and in validation, must be finite.
    Everything is gathered on the device and looked at when the run logs, validates or
    saves: what a bad gradient has changed by then is never logged, saved or delivered.
    Every rewind is written to the metrics.
    """

    action: Literal["rewind", "stop"] = "rewind"
    max_gap: float = 1e3
    max_gradient_norm: float = 1e6
    min_acceptance: float = 0.0
    max_rewinds: int = 5
    shrink: float = 0.5

    def __post_init__(self) -> None:
        if self.action not in ("rewind", "stop"):
            raise InputError(f'Guard: action must be "rewind" or "stop", got {self.action!r}')
        if not (self.max_gap > 0 and self.max_gradient_norm > 0 and 0 <= self.min_acceptance <= 1):
            raise InputError(f"Guard: need max_gap > 0, max_gradient_norm > 0 and 0 <= min_acceptance <= 1, got {self}")
        check_count("Guard", max_rewinds=self.max_rewinds)
        if not 0 < self.shrink < 1:
            raise InputError(f"Guard: shrink must lie between 0 and 1, got {self.shrink}")


class Window:
    """Sums and extremes of the metrics since the last log line, kept on the device without waiting for it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._counts: list[int] = []
        self._sums = self._extremes = torch.empty(0)

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in the metrics of one step. A phase of training may bring new ones and leave others out."""
        numbers = torch.stack([value.detach().double() for value in metrics.values()])
        # What a checkpoint held comes from the CPU.
        sums, extremes = self._sums.to(numbers), self._extremes.to(numbers)
        new = [name for name in metrics if name not in self._names]
        if new:
            self._names, self._counts = self._names + new, self._counts + [0] * len(new)
            sums, extremes = (torch.cat([kept, kept.new_zeros(len(new))]) for kept in (sums, extremes))
        if list(metrics) != self._names:
            places = torch.tensor([self._names.index(name) for name in metrics], device=numbers.device)
            numbers = torch.zeros_like(sums).index_copy(0, places, numbers)
        # Infinity and NaN spread through maximum(), so one bad step in a window is seen.
        self._sums, self._extremes = sums + numbers, torch.maximum(extremes, numbers.abs())
        self._counts = [count + (name in metrics) for name, count in zip(self._names, self._counts, strict=True)]

    def means(self) -> dict[str, float]:
        """Mean of every metric over the steps that had it; waits for the device."""
        sums = self._sums.tolist()
        return {name: total / count for name, total, count in zip(self._names, sums, self._counts, strict=True)}

    def cause(self, guard: Guard) -> str | None:
        """What is wrong, in words, or None."""
        worst = dict(zip(self._names, self._extremes.tolist(), strict=True))
        bounds = {"gap": guard.max_gap, "gradient_norm": guard.max_gradient_norm}
        for name, bound in bounds.items():
            if bound < worst.get(name, 0.0) < math.inf:
                return f"{name.replace('_', ' ')} {worst[name]:.4g} exceeds max_{name} {bound:g}"
        acceptance = self.means().get("acceptance", 1.0)
        if acceptance < guard.min_acceptance:
            return f"mean acceptance {acceptance:.3g} is below min_acceptance {guard.min_acceptance:g}"
        return not_finite(worst)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, so that a resumed run logs the same means."""
        return {"names": self._names, "sums": self._sums, "extremes": self._extremes, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved window."""
        self._names, self._counts = list(state["names"]), list(state["counts"])
        self._sums, self._extremes = state["sums"], state["extremes"]


def not_finite(metrics: Mapping[str, float]) -> str | None:
    """Which of the metrics are NaN or infinite, in words, or None."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    return f"{', '.join(bad)} {'is' if len(bad) == 1 else 'are'} not finite" if bad else None
