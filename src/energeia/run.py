"""A run directory and what can be done with it: train, resume, sample, evaluate, report."""

import datetime
import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor

from energeia import settings
from energeia.core.algebra import given
from energeia.core.answers import Answering
from energeia.core.energy import Classes, Energy, dtype_and_device
from energeia.core.errors import CheckpointError, InputError, check_count
from energeia.core.random import Streams
from energeia.core.record import Batch, Draws
from energeia.core.sampler import sample
from energeia.tasks.restore import denoise
from energeia.train import Result, fit
from energeia.train.checkpoint import checkpoints, newest_good, read_state, read_weights
from energeia.train.state import CHECKPOINTS, chosen_weights

EVALUATION, REPORT = "evaluation.json", "report.html"


class Run(NamedTuple):
    """A trained run, read from its directory."""

    folder: Path
    config: Namespace
    built: settings.Built
    energy: Energy
    step: int
    warnings: list[str]


def default_folder(name: str) -> Path:
    """runs/NAME-DATE-TIME."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def train(config: Namespace, folder: Path) -> Result:
    """Train as the settings say, into a new run directory.

    Raises:
        CheckpointError: the directory exists and is not empty.
        InputError: settings or data do not fit; then no directory is left behind.
    """
    first = is_first_process()
    if first and folder.exists() and any(folder.iterdir()):
        raise CheckpointError(
            f"{folder} exists and is not empty; nothing is overwritten. Choose another --out, or: "
            f"energeia resume {folder}"
        )
    built = settings.build(config)
    if first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            settings.save(folder, config, built.source)
        except OSError as error:
            raise CheckpointError(f"cannot write the run directory {folder}: {error}") from error
    try:
        return _fit(built, folder, resume=False)
    except InputError:
        # Found before the first update: the next try may use the same name.
        if first and not checkpoints(folder / CHECKPOINTS):
            for name in (settings.CONFIG, settings.DATA):
                (folder / name).unlink()
            folder.rmdir()
        raise


def resume(folder: Path, *, trust: bool = False) -> Result:
    """Go on from the newest whole checkpoint, with the settings the run was started with."""
    config = settings.load(folder, trust=trust, with_data=True)
    return _fit(settings.build(config), folder, resume=True)


def _fit(built: settings.Built, folder: Path, *, resume: bool) -> Result:
    splits = built.source.splits()
    return fit(
        built.energy,
        built.objective,
        _pair(splits.train),
        validation=None if splits.validation is None else _pair(splits.validation),
        run_dir=folder,
        resume=resume,
        **built.fitting,
    )


def load(folder: Path, *, trust: bool = False, with_data: bool = True) -> Run:
    """The model of a run directory, with the weights it delivers.

    Raises:
        CheckpointError: no run, no whole checkpoint, or classes of others without trust.
    """
    config = settings.load(folder, trust=trust, with_data=with_data)
    path, warnings = newest_good(folder / CHECKPOINTS)
    built = settings.build(config)
    try:
        built.energy.load_state_dict(chosen_weights(read_weights(path), built.fitting["select"]))
        # Persistent chains belong to the objective: its losses are those of the run with them alone.
        built.objective.load_state_dict(read_state(path)["ranks"][0]["objective"])
    except (KeyError, RuntimeError, StopIteration) as error:
        raise CheckpointError(f"{path} does not fit {folder / settings.CONFIG}: {error}") from error
    built.energy.eval()
    return Run(folder, config, built, built.energy, int(path.name.removeprefix("step-")), warnings)


def start_points(run: Run, *, num: int, seed: int = 0) -> Tensor:
    """Where `draw` starts its chains with this seed."""
    dtype, device = dtype_and_device(run.energy)
    return run.energy.space.start(num, Streams(seed, device=device)["chains"], dtype=dtype)


def draw(
    run: Run,
    *,
    num: int,
    label: int | None = None,
    num_steps: int | None = None,
    warmup: int | None = None,
    seed: int = 0,
    num_frames: int = 1,
) -> Draws:
    """Samples from fresh chains, by the sampler of the settings; the last state denoised if they say so.

    Args:
        run: a loaded run.
        num: number of samples, one chain each.
        label: draw from p(x | class) instead of p(x); for classifiers.
        num_steps, warmup: steps of each chain, and of its warm-up; None is that of the settings.
        seed: of the start points and the noise.
        num_frames: states to keep along each chain, the last included.
    """
    check_count("draw", num=num, num_steps=run.built.sampling.num_steps if num_steps is None else num_steps)
    energy = run.energy
    if energy.capability(Answering) is not None:
        raise InputError(
            f"{type(energy).__name__} is an energy of answers to x, and no model of x to draw from; its answers: "
            f"energeia predict {run.folder} --data FILE"
        )
    if label is not None:
        if energy.capability(Classes) is None:
            raise InputError(f"--class {label}: {type(energy).__name__} has no classes; leave it out")
        energy = given(energy, label=label)
    device = dtype_and_device(run.energy)[1]
    steps = num_steps or run.built.sampling.num_steps
    thin = max(1, steps // num_frames)
    draws = sample(
        energy,
        run.built.sampling.sampler,
        num_steps=steps // thin * thin,
        start=start_points(run, num=num, seed=seed),
        generator=Streams(seed, device=device)["noise"],
        warmup=run.built.sampling.warmup if warmup is None else warmup,
        keep="all" if num_frames > 1 else "last",
        thin=thin,
    )
    variance = run.built.sampling.denoise
    if variance is None:
        return draws
    x = denoise(energy, draws.x, variance=variance)
    return draws._replace(x=x, kept=torch.cat([draws.kept[:-1], x.unsqueeze(0)]))


def versions() -> dict[str, str]:
    """The machine and the versions of what computed."""
    names = ("energeia", "torch", "lightning-fabric", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads",
        "processor": _processor(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def as_json(values: Any) -> str:
    """Values as JSON, which knows no NaN and no infinity: they become null."""
    return json.dumps(_finite(values), indent=1, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file under a temporary name, and rename it."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(as_json(values) + "\n")
    temporary.replace(path)


def _pair(batch: Batch) -> Any:
    return batch.x if batch.y is None else (batch.x, batch.y)


def is_first_process() -> bool:
    """Whether this is the process the user started, and not one started for a further device."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
