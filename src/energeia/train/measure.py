"""What is measured on held-out rows beside the objective, at every validation."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Energy, require
from energeia.core.errors import InputError, check_count
from energeia.core.record import Batch
from energeia.core.space import Binary, Categorical, Spin
from energeia.objectives import PseudoLikelihood
from energeia.partition.likelihood import log_likelihood
from energeia.partition.schedule import Levels


class Measure(ABC):
    """Numbers about an energy and held-out rows, for `fit(..., measures=[...])`.

    A number that is not finite counts as divergence, as those of the objective do. No measure changes the
    energy, nor the random numbers of the training.
    """

    @abstractmethod
    def __call__(self, energy: Energy, rows: Batch, generator: torch.Generator) -> dict[str, float]:
        """The numbers by name; the metrics hold them as validation/name."""

    @abstractmethod
    def check(self, energy: Energy, rows: Batch) -> None:
        """Raise `EnergeiaError` if it cannot be had; called before anything is trained."""


class HeldOutLikelihood(Measure):
    """log p of held-out rows with its interval, as `en.log_likelihood` gives it.

    Args:
        num_rows: rows to take, the first; None takes all.
        num_chains, levels, num_steps: effort where log Z is estimated, as of `log_likelihood`.

    Numbers: log_likelihood, log_likelihood_low and log_likelihood_high, in nats a row. They are exact and
    equal where log Z is a sum or has a closed form. The interval is that of log Z alone; the rows are what they are.
    """

    def __init__(
        self, *, num_rows: int | None = None, num_chains: int = 100, levels: Levels = 300, num_steps: int = 300
    ) -> None:
        check_count("HeldOutLikelihood", num_rows=num_rows or 1, num_chains=num_chains, num_steps=num_steps)
        self.num_rows, self.num_chains, self.levels, self.num_steps = num_rows, num_chains, levels, num_steps

    def __call__(self, energy: Energy, rows: Batch, generator: torch.Generator) -> dict[str, float]:
        """The mean of log p and the ends of its interval."""
        found = log_likelihood(
            energy,
            rows.x[: self.num_rows],
            num_chains=self.num_chains,
            levels=self.levels,
            num_steps=self.num_steps,
            generator=generator,
        )
        return {
            "log_likelihood": found.mean,
            "log_likelihood_low": found.low,
            "log_likelihood_high": found.high,
        }

    def check(self, energy: Energy, rows: Batch) -> None:
        """There are rows."""
        if len(rows.x) == 0:
            raise InputError("HeldOutLikelihood: needs at least one held-out row")


class HiddenUnits(Measure):
    """Monitors of an energy with hidden units, which tell trouble and measure no quality.

    Args:
        num_rows: rows to take, the first.

    Numbers: weight_norm, root mean square of the parameters with two axes and more; hidden_activity, mean of E[h|v];
    of hidden bits also always_off and always_on, the shares of units for which p(h = 1 | v) is below .01, or above
    .99, in every row; reconstruction_error, the mean over the rows of |v - E[v | E[h|v]]|^2; on discrete spaces
    pseudo_log_likelihood, in nats a row, of at most 100 sites at random scaled to all.

    A model that copies its input has a small reconstruction error, whatever its likelihood.
    """

    def __init__(self, *, num_rows: int = 200) -> None:
        check_count("HiddenUnits", num_rows=num_rows)
        self.num_rows = num_rows

    def __call__(self, energy: Energy, rows: Batch, generator: torch.Generator) -> dict[str, float]:
        """The monitors by name."""
        bipartite = self._bipartite(energy)
        x = rows.x[: self.num_rows]
        weights = [w.detach().flatten() for w in energy.parameters() if w.dim() > 1]
        with torch.no_grad():
            active = bipartite.hidden.mean(bipartite.hidden_parameters(x))
            again = bipartite.visible.mean(bipartite.visible_parameters(active))
        told = {
            "hidden_activity": float(active.mean()),
            "reconstruction_error": float((x - again).flatten(1).square().sum(1).mean()),
        }
        if weights:
            told["weight_norm"] = float(torch.cat(weights).square().mean().sqrt())
        if isinstance(bipartite.hidden, Binary):
            told["always_off"], told["always_on"] = idle_shares(active)
        if isinstance(energy.space, Binary | Spin | Categorical):
            told["pseudo_log_likelihood"] = self._pseudo(energy, x, generator)
        return told

    def check(self, energy: Energy, rows: Batch) -> None:
        """The energy has hidden units."""
        self._bipartite(energy)

    @staticmethod
    def _bipartite(energy: Energy) -> Bipartite:
        return require(energy, Bipartite, who="HiddenUnits", instead="leave this measure out")

    @staticmethod
    def _pseudo(energy: Energy, x: Tensor, generator: torch.Generator) -> float:
        sites = energy.space.num_dims
        if isinstance(energy.space, Categorical):
            sites //= energy.space.num_categories
        with torch.no_grad():
            return -float(PseudoLikelihood(num_sites=min(100, sites))(energy, Batch(x), generator).value)


def idle_shares(active: Tensor) -> tuple[float, float]:
    """Shares of hidden bits that are off, and on, in every row: E[h|v] `[B, *hidden]` below .01, above .99."""
    flat = active.flatten(1)
    return float((flat < 0.01).all(0).float().mean()), float((flat > 0.99).all(0).float().mean())
