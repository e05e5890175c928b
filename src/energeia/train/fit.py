"""The training loop."""

import functools
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import CheckpointError, DivergenceError, InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.random import Streams, seed_of
from energeia.core.record import Batch
from energeia.train.checkpoint import checkpoints
from energeia.train.engine import Engine
from energeia.train.guard import Guard, Window
from energeia.train.loader import Data, Loader, Transform, as_batch
from energeia.train.log import Log, Record
from energeia.train.state import RunState, Select, chosen_weights
from energeia.train.validate import split_batches, validate_objective

OptimizerFactory = Callable[[Any], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]
CHECKPOINTS = "checkpoints"


class Result(NamedTuple):
    """What `fit` returns.

    energy: the energy that was given, now trained (averaged or best weights if asked for).
    records: every line of the metrics. step: updates made. stopped: why it ended.
    rewinds: how often the guard went back.
    """

    energy: Energy
    records: list[Record]
    step: int
    stopped: Literal["num_steps", "patience", "interrupted"]
    rewinds: int


def fit(
    energy: Energy,
    objective: Objective,
    data: Data,
    *,
    num_steps: int = 1000,
    batch_size: int = 64,
    optimizer: OptimizerFactory | None = None,
    scheduler: SchedulerFactory | None = None,
    transform: Transform | None = None,
    gradient_clip: float | None = None,
    average_decay: float | None = None,
    validation: Data | None = None,
    validate_every: int | None = None,
    monitor: str = "loss",
    select: Select = "last",
    patience: int | None = None,
    guard: Guard = Guard(),
    log_every: int = 50,
    checkpoint_every: int = 500,
    run_dir: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str | None = None,
    tensorboard: bool = False,
    progress: bool | None = None,
) -> Result:
    """Train an energy. It is changed in place and returned.

    Args:
        energy, objective, data: what is trained, by which loss, on x `[N, *event]`,
            (x, y), or a map-style dataset.
        num_steps, batch_size: updates, and rows each; the batch is shared among devices.
        optimizer: from parameters to a torch optimizer; None is Adam(lr=1e-3).
        scheduler: from the optimizer to a torch schedule, moved on every update.
        transform: augmentation `(x, generator) -> x` of each batch.
        gradient_clip: largest gradient norm; larger gradients are scaled to it.
        average_decay: keep an exponential moving average of the weights, in (0, 1), and
            validate and deliver that.
        validation: data for the objective in eval mode, every validate_every updates
            (None: once an epoch).
        monitor: the validation metric that select and patience look at, low = good.
        select: deliver the "best" validated weights or the "last".
        patience: stop once more than this many validations in a row brought no new best.
        guard: what counts as divergence, and what to do.
        log_every, checkpoint_every: updates between log lines, and between checkpoints.
        run_dir: directory for metrics.jsonl and checkpoints; None keeps all in memory.
        resume: go on from the newest whole checkpoint of run_dir, to the bit.
        seed: of all random numbers of the run (not of the weights: they exist already).
        devices, accelerator, precision: see `Engine`.
        tensorboard, progress: see `Log`.

    Raises:
        InputError: data or settings do not fit. DivergenceError: the guard gave up; the
        energy then holds the last good weights. CheckpointError: run_dir is in use or full.

    SIGINT and SIGTERM write a checkpoint and end the run with stopped = "interrupted".
    """
    check_count("fit()", num_steps=num_steps, log_every=log_every, checkpoint_every=checkpoint_every)
    dtype, _ = dtype_and_device(energy)
    engine = Engine(devices=devices, accelerator=accelerator, precision=precision, dtype=dtype)
    streams = Streams(seed, rank=engine.rank, device=engine.device)
    loader = Loader(data, batch_size=batch_size, generator=streams["data"], transform=transform, shares=devices)
    _check_data(energy, loader.peek(), "data")
    held_out = None if validation is None else _validation_batches(energy, validation, batch_size)
    _check_settings(gradient_clip, average_decay, patience, select, held_out is not None)
    parameters = [p for p in (*energy.parameters(), *objective.parameters()) if p.requires_grad]
    if not parameters:
        raise InputError(f"fit(): {type(energy).__name__} has no trainable parameters")
    made = (optimizer or functools.partial(torch.optim.Adam, lr=1e-3))(parameters)
    module, made = engine.setup(energy, objective, made)
    run = RunState(energy, objective, made, scheduler, streams, loader, average_decay)
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None:
        _open_folder(folder, run, engine, resume=resume)
    every = validate_every or loader.batches_per_epoch
    stopped: Literal["num_steps", "patience", "interrupted"] = "num_steps"
    log = Log(
        folder if engine.rank == 0 else None,
        num_steps=num_steps,
        progress=progress if engine.rank == 0 else False,
        tensorboard=tensorboard,
        since=run.step,
    )
    good, started = run.snapshot(), time.perf_counter()
    with _signals() as interrupted, _closing(log):
        while run.step < num_steps:
            module.train()
            batch, weight = engine.share(loader.next())
            made.zero_grad(set_to_none=True)
            loss = module(batch, streams["noise"], weight)
            engine.backward(loss.value)
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if gradient_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip, norm)
            made.step()
            run.after_update()
            run.window.add({**loss.metrics, "gradient_norm": norm})
            last = run.step == num_steps
            due_log, due_save = run.step % log_every == 0 or last, run.step % checkpoint_every == 0 or last
            due_validation = held_out is not None and (run.step % every == 0 or last)
            stop_now = interrupted.is_set() and engine.world_size == 1
            if due_log or due_save or due_validation or stop_now:
                reports = engine.gather((run.window.cause(guard), run.window.means(), interrupted.is_set()))
                stop_now = any(report[2] for report in reports)
                causes = [report[0] for report in reports if report[0] is not None]
                if causes:
                    _rewind(run, good, guard, causes[0], log)
                    continue
                if due_log:
                    means = {key: sum(r[1][key] for r in reports) / len(reports) for key in reports[0][1]}
                    rate = made.param_groups[0]["lr"]
                    log.write({"step": run.step, **means, "learning_rate": rate, "seconds": _seconds(started)})
                    run.window = Window()
            if due_validation and held_out is not None:
                metrics = engine.gather(_validate(run, objective, held_out, seed, engine))[0]
                log.write({"step": run.step, **{f"validation/{key}": value for key, value in metrics.items()}})
                if monitor not in metrics:
                    raise InputError(f"fit(): monitor {monitor!r} is not among {', '.join(sorted(metrics))}")
                if not run.improved(metrics[monitor]) and patience is not None and run.worse > patience:
                    stopped = "patience"
            if stop_now:
                stopped = "interrupted"
            if due_save or stopped != "num_steps":
                good = run.snapshot()
                if folder is not None:
                    run.save(folder / CHECKPOINTS, engine)
            if stopped != "num_steps":
                break
    energy.load_state_dict(chosen_weights(run.weights(), select))
    energy.eval()
    return Result(energy, log.records, run.step, stopped, run.rewinds)


def _rewind(run: RunState, good: Any, guard: Guard, cause: str, log: Log) -> None:
    """Go back to the last good state with smaller steps, or give up with the cause."""
    at, rewinds = run.step, run.rewinds
    rates = [group["lr"] for group in run.optimizer.param_groups]
    run.load(*good)
    if guard.action == "stop" or rewinds >= guard.max_rewinds:
        tried = f" after {rewinds} rewinds" if rewinds else ""
        log.write({"step": at, "event": "diverged", "cause": cause})
        raise DivergenceError(
            f"training diverged at step {at}{tried}: {cause}. The energy holds the weights of step {run.step}. "
            "Lower the learning rate or the sampler's step_size, take more sampling steps, or clip the gradient"
        )
    # Earlier rewinds of the same state have shrunk the rates already; go below what just failed.
    run.rewinds = rewinds + 1
    run.shrink(guard.shrink * rates[0] / run.optimizer.param_groups[0]["lr"])
    rate = run.optimizer.param_groups[0]["lr"]
    log.write({"step": at, "event": "rewind", "cause": cause, "to_step": run.step, "learning_rate": rate})


def _validate(run: RunState, objective: Objective, batches: list[Batch], seed: int, engine: Engine) -> dict[str, float]:
    """The metrics of the held-out data, from a stream of this step's own, in the first process."""
    if engine.rank != 0:
        return {}
    generator = torch.Generator(engine.device).manual_seed(seed_of(seed, f"validation/{run.step}"))
    return validate_objective(run.judged, objective, batches, generator)


def _validation_batches(energy: Energy, data: Data, batch_size: int) -> list[Batch]:
    if not isinstance(data, Tensor | tuple | list):
        generator = torch.Generator().manual_seed(0)
        whole = Loader(data, batch_size=10**9, generator=generator).next()
    else:
        whole = as_batch(data)
    _check_data(energy, whole, "validation data")
    return split_batches(whole, batch_size)


def _check_data(energy: Energy, batch: Batch, name: str) -> None:
    dtype, device = dtype_and_device(energy)
    if batch.x.dtype != dtype:
        raise InputError(
            f"{name} is {batch.x.dtype} and the energy is {dtype}; make them equal: data.to({dtype}) or "
            f"energy.to({batch.x.dtype})"
        )
    if not bool(batch.x.isfinite().all()):
        place = [int(i) for i in (~batch.x.isfinite()).nonzero()[0]]
        raise InputError(
            f"{name} has {int((~batch.x.isfinite()).sum())} values that are NaN or infinite; the first is in row "
            f"{place[0]}, column {place[1:] if len(place) > 2 else place[-1]}; remove or fill them"
        )
    energy.space.check(batch.x, name)
    if len(batch.x) > 1:
        validate(energy, batch.x[:8].to(device))


def _check_settings(
    gradient_clip: float | None, average_decay: float | None, patience: int | None, select: str, validated: bool
) -> None:
    if gradient_clip is not None:
        check_positive("fit()", gradient_clip=gradient_clip)
    if average_decay is not None and not 0 < average_decay < 1:
        raise InputError(f"fit(): average_decay must lie between 0 and 1, got {average_decay}")
    if select not in ("best", "last"):
        raise InputError(f'fit(): select must be "best" or "last", got {select!r}')
    if not validated and (patience is not None or select == "best"):
        raise InputError("fit(): patience and select='best' need validation data: give validation=...")


def _open_folder(folder: Path, run: RunState, engine: Engine, *, resume: bool) -> None:
    if resume:
        for warning in run.resume(folder / CHECKPOINTS, engine):
            warnings.warn(warning, stacklevel=3)
    elif checkpoints(folder / CHECKPOINTS):
        raise CheckpointError(
            f"{folder} already holds a run; it is never overwritten. Give another run_dir, or resume=True to go on"
        )
    elif engine.rank == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot make the run directory {folder}: {error}") from error


def _seconds(started: float) -> float:
    return round(time.perf_counter() - started, 3)


@contextmanager
def _closing(log: Log) -> Iterator[None]:
    try:
        yield
    finally:
        log.close()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal acts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in numbers:
        signal.signal(number, note)
    try:
        yield event
    finally:
        for number in numbers:
            signal.signal(number, before[number])
