"""The training loop."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import DivergenceError, check_count
from energeia.core.objective import Objective
from energeia.core.random import Streams
from energeia.core.transform import Transform
from energeia.train.check import check_data, check_schedule, check_settings, held_out_rows, trainable, warn_of_constants
from energeia.train.engine import Engine
from energeia.train.guard import Guard, Window, not_finite
from energeia.train.interrupt import asked_to_stop
from energeia.train.loader import Data, Loader
from energeia.train.log import Log, Record
from energeia.train.measure import Measure
from energeia.train.state import RunState, Select, Snapshot, chosen_weights
from energeia.train.validate import Judge

OptimizerFactory = Callable[[Any], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


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
    measures: Sequence[Measure] = (),
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
    """Train an energy. It is changed in place and returned, on the device it came from and in eval mode.

    Args:
        energy: what is trained.
        objective: the loss.
        data: x `[N, *event]`, (x, y), or a map-style dataset.
        num_steps: updates, counted from the start of the run.
        batch_size: rows an update; they are shared among devices.
        optimizer: from parameters to a torch optimizer; None is Adam(lr=1e-3).
        scheduler: from the optimizer to a torch schedule, moved on every update.
        transform: augmentation `(x, generator) -> x` of each batch.
        gradient_clip: largest gradient norm; larger gradients are scaled to it.
        average_decay: keep an exponential moving average of the weights, in (0, 1), and
            validate and deliver that.
        validation: data for the objective in eval mode.
        validate_every: updates between validations; None is once an epoch.
        measures: what else to measure of the validation data then, such as `HeldOutLikelihood()`.
        monitor: the validation metric that select and patience look at, low = good.
        select: deliver the "best" validated weights or the "last".
        patience: stop once more than this many validations in a row brought no new best.
        guard: what counts as divergence, and what to do.
        log_every: updates between log lines, each the mean since the one before.
        checkpoint_every: updates between checkpoints.
        run_dir: directory for metrics.jsonl and checkpoints; None keeps all in memory.
        resume: go on from the newest whole checkpoint of run_dir, to the bit.
        seed: of all random numbers of the run (not of the weights: they exist already).
        devices: processes, each with a device; the script is started again for each.
        accelerator: "auto", "cpu" or "cuda".
        precision: "32-true", "64-true" or "bf16-true"; None is that of the energy.
        tensorboard: write TensorBoard events into run_dir too.
        progress: show a progress line; None shows it on a terminal only.

    Raises:
        InputError: data or settings do not fit. DivergenceError: the guard gave up; the
        energy then holds the last good weights. CheckpointError: run_dir is in use or full.

    SIGINT and SIGTERM write a checkpoint and end the run with stopped = "interrupted".
    A checkpoint is written before the first update too, so a run can always be resumed.
    The energy trains in the mode it is in: one with dropout or BatchNorm, whose chains
    are random or depend on each other in training mode, must be given in eval mode.
    """
    check_count("fit()", num_steps=num_steps, log_every=log_every, checkpoint_every=checkpoint_every)
    if validate_every is not None:
        check_count("fit()", validate_every=validate_every)
    check_settings(
        gradient_clip=gradient_clip,
        average_decay=average_decay,
        patience=patience,
        select=select,
        validated=validation is not None,
    )
    dtype, home = dtype_and_device(energy)
    engine = Engine(devices=devices, accelerator=accelerator, precision=precision, dtype=dtype)
    streams = Streams(seed, rank=engine.rank, device=engine.device)
    loader = Loader(data, batch_size=batch_size, generator=streams["data"], transform=transform)
    check_data(energy, loader.peek(), "data")
    warn_of_constants(energy, data)
    held_out = held_out_rows(energy, validation)
    parameters = trainable(energy, objective)
    made = (optimizer or functools.partial(torch.optim.Adam, lr=1e-3))(parameters)
    module, made = engine.setup(energy, objective, made)
    run = RunState(energy, objective, made, scheduler, streams, loader, average_decay)
    check_schedule(run.scheduler, num_steps)
    judge = Judge(
        objective,
        held_out,
        rows=loader.peek(),
        batch_size=batch_size,
        monitor=monitor,
        measures=measures,
        seed=seed,
        engine=engine,
    )
    judge.rehearse(energy)
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None:
        run.open(folder, engine, resume=resume)
    objective.train()
    good = run.snapshot()
    every = {"log": log_every, "save": checkpoint_every}
    if held_out is not None:
        every["validate"] = validate_every or loader.batches_per_epoch
    with (
        Log(
            folder if engine.rank == 0 else None,
            num_steps=num_steps,
            progress=progress if engine.rank == 0 else False,
            tensorboard=tensorboard,
            since=run.step,
            num_records=run.num_records,
        ) as log,
        asked_to_stop() as asked,
    ):
        while run.step < num_steps and not run.out_of_patience(patience):
            batch, weight = engine.share(loader.next())
            made.zero_grad(set_to_none=True)
            loss = module(batch, streams["noise"], weight)
            engine.backward(loss.value)
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if gradient_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip, norm)
            run.update()
            run.window.add({**loss.metrics, "gradient_norm": norm})

            due = {name for name, interval in every.items() if run.step % interval == 0 or run.step == num_steps}
            if not due and not (asked.is_set() and engine.world_size == 1):
                continue
            causes, means, stops = zip(
                *engine.gather((run.window.cause(guard), run.window.means(), asked.is_set())), strict=True
            )
            cause = next((cause for cause in causes if cause is not None), None)
            judgement = judge(run) if cause is None and "validate" in due else {}
            cause = cause or not_finite(judgement)
            if cause is not None:
                _rewind(run, good, guard, cause, log)
                continue
            if "log" in due:
                mean = {name: sum(each[name] for each in means) / len(means) for name in means[0]}
                log.write({"step": run.step, **mean, "learning_rate": run.learning_rate, "seconds": log.seconds})
                run.window = Window()
            if judgement:
                log.write({"step": run.step, **judgement})
                run.note_validation(judgement[f"validation/{monitor}"])
            if "save" in due or run.out_of_patience(patience) or any(stops):
                run.num_records = log.num_records
                good = run.snapshot()
                if folder is not None:
                    run.save(folder, engine)
            if any(stops):
                break
    energy.load_state_dict(chosen_weights(run.weights(), select))
    energy.to(home).eval()
    finished = "num_steps" if run.step >= num_steps else "patience" if run.out_of_patience(patience) else "interrupted"
    return Result(energy, log.records, run.step, finished, run.rewinds)


def _rewind(run: RunState, good: Snapshot, guard: Guard, cause: str, log: Log) -> None:
    """Go back to the last good state with smaller steps, or give up with the cause."""
    at, rewinds = run.step, run.rewinds
    run.rewind(good, guard.shrink)
    if guard.action == "stop" or rewinds >= guard.max_rewinds:
        tried = f" after {rewinds} rewinds" if rewinds else ""
        log.write({"step": at, "event": "diverged", "cause": cause})
        raise DivergenceError(
            f"training diverged by step {at}{tried}: {cause}. The energy holds the last good weights, of "
            f"step {run.step}. Lower the learning rate or the sampler's step_size, take more sampling steps, or clip "
            "the gradient"
        )
    log.write({"step": at, "event": "rewind", "cause": cause, "to_step": run.step, "learning_rate": run.learning_rate})
