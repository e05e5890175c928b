"""Everything a training run is made of, and its state as one dictionary."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from energeia.core.energy import Energy
from energeia.core.errors import CheckpointError
from energeia.core.objective import Objective
from energeia.core.random import Streams
from energeia.core.warn import warn
from energeia.train.checkpoint import checkpoints, newest_good, read_state, read_weights, write_checkpoint
from energeia.train.engine import Engine
from energeia.train.guard import Window
from energeia.train.loader import Loader

Select = Literal["best", "last"]
Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
CHECKPOINTS = "checkpoints"
PREFIXES = ("energy", "average", "best")


class RunState:
    """The parts of a run that change as it goes.

    `weights` and `local` together are all of it: loading both continues the run to
    the bit. Chains and the streams of random numbers belong to one process; weights
    are the same in all.
    """

    def __init__(
        self,
        energy: Energy,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        streams: Streams,
        loader: Loader,
        average_decay: float | None,
    ) -> None:
        self.energy, self.objective, self.optimizer = energy, objective, optimizer
        self.streams, self.loader = streams, loader
        self.scheduler = None if scheduler is None else scheduler(optimizer)
        multi = None if average_decay is None else get_ema_multi_avg_fn(average_decay)
        self.average = None if multi is None else AveragedModel(energy, multi_avg_fn=multi)
        self.window = Window()
        self.best: dict[str, Tensor] = {}
        self.step, self.best_value, self.worse = 0, float("inf"), 0
        self.rewinds, self.rate_scale, self.num_records = 0, 1.0, 0

    @property
    def judged(self) -> Energy:
        """The energy that is validated and delivered: the averaged one if there is one."""
        averaged = None if self.average is None else self.average.module
        return averaged if isinstance(averaged, Energy) else self.energy

    @property
    def learning_rate(self) -> float:
        """That of the first group of parameters in the next update."""
        return float(self.optimizer.param_groups[0]["lr"]) * self.rate_scale

    def update(self) -> None:
        """Move the weights by their gradients, and the schedule, the average and the step number on."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        # The schedule knows nothing of rewinds: it finds its own rates again.
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * self.rate_scale
        self.optimizer.step()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        if self.scheduler is not None:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.energy)
        self.step += 1

    def note_validation(self, value: float) -> None:
        """Take note of a validation value; keep the weights if it is the least so far."""
        if value < self.best_value:
            self.best_value, self.worse = value, 0
            self.best = copy.deepcopy(self.judged.state_dict())
        else:
            self.worse += 1

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether more validations than that in a row brought nothing."""
        return patience is not None and self.worse > patience

    def weights(self) -> dict[str, Tensor]:
        """All weights that users may want, each name with its prefix."""
        parts = {"energy": self.energy.state_dict(), "best": self.best}
        parts["average"] = {} if self.average is None else self.average.module.state_dict()
        return {f"{prefix}.{name}": tensor for prefix in PREFIXES for name, tensor in parts[prefix].items()}

    def local(self) -> dict[str, Any]:
        """What else there is, of this process; tensors and plain values."""
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "num_averaged": 0 if self.average is None else int(self.average.n_averaged),
            "streams": self.streams.state_dict(),
            "loader": self.loader.state_dict(),
            "window": self.window.state_dict(),
            "numbers": [self.step, self.best_value, self.worse, self.rewinds, self.rate_scale, self.num_records],
        }

    def snapshot(self) -> Snapshot:
        """A copy of the whole state, in memory."""
        return copy.deepcopy(self.weights()), copy.deepcopy(self.local())

    def load(self, weights: dict[str, Tensor], local: dict[str, Any]) -> None:
        """Become the saved state."""
        weights, local = copy.deepcopy(weights), copy.deepcopy(local)
        self.energy.load_state_dict(unprefixed(weights, "energy"))
        self.best = unprefixed(weights, "best")
        if self.average is not None:
            self.average.module.load_state_dict(unprefixed(weights, "average"))
            self.average.n_averaged.fill_(local["num_averaged"])
        self.objective.load_state_dict(local["objective"])
        self.optimizer.load_state_dict(local["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(local["scheduler"])
        self.streams.load_state_dict(local["streams"])
        self.loader.load_state_dict(local["loader"])
        self.window.load_state_dict(local["window"])
        self.step, self.best_value, self.worse, self.rewinds, self.rate_scale, self.num_records = local["numbers"]

    def rewind(self, good: Snapshot, shrink: float) -> None:
        """Become a good state again, with learning rates `shrink` times those that failed."""
        rewinds, scale = self.rewinds + 1, self.rate_scale * shrink
        self.load(*good)
        self.rewinds, self.rate_scale = rewinds, scale

    def open(self, folder: Path, engine: Engine, *, resume: bool) -> None:
        """Begin a run directory with a checkpoint of the start, or go on from its newest whole checkpoint."""
        if resume:
            for warning in self._resume(folder / CHECKPOINTS, engine):
                warn(warning)
        elif any(engine.gather(bool(checkpoints(folder / CHECKPOINTS)))):
            raise CheckpointError(
                f"{folder} already holds a run; it is never overwritten. Give another run_dir, or resume=True to go on"
            )
        else:
            self.save(folder, engine)

    def save(self, folder: Path, engine: Engine) -> None:
        """Write a checkpoint: the weights once, the rest for every process."""
        local = engine.gather(self.local())
        problem: str | None = None
        if engine.rank == 0:
            try:
                write_checkpoint(folder / CHECKPOINTS, self.step, self.weights(), {"ranks": local})
            except CheckpointError as error:
                problem = str(error)
        problem = engine.gather(problem)[0]
        if problem is not None:
            raise CheckpointError(problem)

    def _resume(self, folder: Path, engine: Engine) -> list[str]:
        """Load the newest whole checkpoint; returns warnings about newer, damaged ones."""
        path, told = newest_good(folder)
        ranks = read_state(path)["ranks"]
        if len(ranks) != engine.world_size:
            raise CheckpointError(
                f"the run was made with devices={len(ranks)}, not {engine.world_size}; resume it with the same number"
            )
        try:
            self.load(read_weights(path), ranks[engine.rank])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} does not fit: {error}. Resume with the energy, objective, data and settings of the run"
            ) from error
        return told


def unprefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, without it."""
    return {name.removeprefix(prefix + "."): value for name, value in weights.items() if name.startswith(prefix + ".")}


def chosen_weights(weights: dict[str, Tensor], select: Select) -> dict[str, Tensor]:
    """The weights a run delivers: the best validated ones, else the averaged, else the last."""
    order = ("best", "average", "energy") if select == "best" else ("average", "energy")
    return next(part for part in (unprefixed(weights, name) for name in order) if part)
