"""The objective, and further measures, on held-out data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.objective import Objective
from energeia.core.random import seed_of
from energeia.core.record import Batch
from energeia.train.engine import Engine
from energeia.train.measure import Measure
from energeia.train.state import RunState


def validate_objective(
    energy: Energy, objective: Objective, batches: list[Batch], generator: torch.Generator
) -> dict[str, float]:
    """Mean metrics of the objective in eval mode over batches, weighted by their rows.

    The energy is judged in eval mode too; every part of both is left in the mode it
    had. No persistent chain is moved. The generator is the only source of random numbers.
    """
    dtype, device = dtype_and_device(energy)
    sums: dict[str, torch.Tensor] = {}
    with _in_eval_mode(energy, objective):
        for batch in batches:
            there = Batch(batch.x.to(device, dtype), None if batch.y is None else batch.y.to(device))
            for name, value in objective(energy, there, generator).metrics.items():
                weighted = value.double() * len(batch.x)
                sums[name] = sums[name] + weighted if name in sums else weighted
    total = sum(len(batch.x) for batch in batches)
    return {name: value.item() / total for name, value in sums.items()}


@contextmanager
def _in_eval_mode(*parts: torch.nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every module is in the mode it had."""
    modes = [(module, module.training) for part in parts for module in part.modules()]
    for part in parts:
        part.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Judge:
    """The held-out metrics of a run, from random numbers of the step's own.

    Args:
        objective: judged in eval mode.
        held_out: validation rows, or None.
        rows: of the training data, for the rehearsal.
        batch_size: rows at a time.
        monitor: the metric that must be there.
        measures: what else to measure of the held-out rows.
        seed: of the run.
        engine: the first process judges, and tells the others.
    """

    def __init__(
        self,
        objective: Objective,
        held_out: Batch | None,
        *,
        rows: Batch,
        batch_size: int,
        monitor: str,
        measures: Sequence[Measure] = (),
        seed: int,
        engine: Engine,
    ) -> None:
        self._objective, self._monitor, self._seed, self._engine = objective, monitor, seed, engine
        self._held_out, self._measures = held_out, tuple(measures)
        self._batches = [] if held_out is None else split_batches(held_out, batch_size)
        self._rehearsal = self._batches[:1] or split_batches(rows, batch_size)[:1]

    def rehearse(self, energy: Energy) -> None:
        """Try one batch, so that what does not fit is found before anything is trained or written.

        Raises:
            InputError: the objective cannot be had of this energy and data, or has no such metric to monitor.
        """
        if self._measures and self._held_out is None:
            raise InputError("fit(): measures are taken of held-out rows: give validation=...")
        for measure in self._measures:
            assert self._held_out is not None
            measure.check(energy, self._held_out)
        generator = torch.Generator(self._engine.device).manual_seed(0)
        metrics = validate_objective(energy, self._objective, self._rehearsal, generator)
        if self._batches and self._monitor not in metrics:
            raise InputError(f"fit(): monitor {self._monitor!r} is not among the metrics: {', '.join(sorted(metrics))}")

    def __call__(self, run: RunState) -> dict[str, float]:
        """Metrics of the energy that the run would deliver, named validation/...; none without held-out data."""
        metrics: dict[str, float] = {}
        if self._batches and self._engine.rank == 0:
            generator = torch.Generator(self._engine.device)
            generator.manual_seed(seed_of(self._seed, f"validation/{run.step}"))
            metrics = validate_objective(run.judged, self._objective, self._batches, generator)
            for measure in self._measures:
                metrics |= self._measured(measure, run)
        return self._engine.gather({f"validation/{name}": value for name, value in metrics.items()})[0]

    def _measured(self, measure: Measure, run: RunState) -> dict[str, float]:
        """Numbers of one measure, whose random numbers do not depend on which others there are."""
        assert self._held_out is not None
        energy = run.judged
        dtype, device = dtype_and_device(energy)
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(self._seed, f"measure/{type(measure).__name__}/{run.step}"))
        y = self._held_out.y
        rows = Batch(self._held_out.x.to(device, dtype), None if y is None else y.to(device))
        with _in_eval_mode(energy):
            return measure(energy, rows, generator)


def split_batches(batch: Batch, batch_size: int) -> list[Batch]:
    """The rows in order, batch_size at a time."""
    if batch.y is None:
        return [Batch(x) for x in batch.x.split(batch_size)]
    return [Batch(x, y) for x, y in zip(batch.x.split(batch_size), batch.y.split(batch_size), strict=True)]
