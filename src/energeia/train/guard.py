"""Watches a run, and says what is wrong with it."""

import math
from dataclasses import dataclass
from typing import Literal

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
        max_rewinds: rewinds before it stops after all.
        shrink: factor on the learning rates at each rewind, in (0, 1).

    Loss and gradient norm must always be finite. Everything is gathered on the device
    and looked at when the run logs. Every rewind is written to the metrics.
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
            raise InputError(
                f"Guard: need max_gap > 0, max_gradient_norm > 0 and 0 <= min_acceptance <= 1, got {self}"
            )
        check_count("Guard", max_rewinds=self.max_rewinds)
        if not 0 < self.shrink < 1:
            raise InputError(f"Guard: shrink must lie between 0 and 1, got {self.shrink}")


class Window:
    """Sums of the metrics since the last log line, kept on the device without waiting for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.extremes: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Take in the metrics of one step."""
        self.count += 1
        for name, value in metrics.items():
            number = value.detach().double()
            self.sums[name] = self.sums[name] + number if name in self.sums else number
            # Infinity and NaN spread through maximum(), so one bad step in a window is seen.
            extreme = -number if name == "acceptance" else number.abs()
            self.extremes[name] = torch.maximum(self.extremes[name], extreme) if name in self.extremes else extreme

    def means(self) -> dict[str, float]:
        """Mean of every metric in the window; waits for the device."""
        return {name: (value / self.count).item() for name, value in self.sums.items()}

    def cause(self, guard: Guard) -> str | None:
        """What is wrong, in words, or None."""
        worst = {name: value.item() for name, value in self.extremes.items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(worst.get(name, 0.0)):
                return f"{name} is not finite"
        if worst.get("gap", 0.0) > guard.max_gap or math.isnan(worst.get("gap", 0.0)):
            return f"energy gap {worst['gap']:.4g} exceeds max_gap {guard.max_gap:g}"
        if worst.get("gradient_norm", 0.0) > guard.max_gradient_norm:
            return f"gradient norm {worst['gradient_norm']:.4g} exceeds max_gradient_norm {guard.max_gradient_norm:g}"
        if self.count and "acceptance" in self.sums:
            mean = (self.sums["acceptance"] / self.count).item()
            if mean < guard.min_acceptance or math.isnan(mean):
                return f"mean acceptance {mean:.3g} is below min_acceptance {guard.min_acceptance:g}"
        return None

    def state_dict(self) -> dict[str, object]:
        """For the checkpoint, so that a resumed run logs the same means."""
        return {"sums": self.sums, "extremes": self.extremes, "count": self.count}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a saved window."""
        sums, extremes, count = state["sums"], state["extremes"], state["count"]
        assert isinstance(sums, dict) and isinstance(extremes, dict) and isinstance(count, int)
        self.sums, self.extremes, self.count = dict(sums), dict(extremes), count
