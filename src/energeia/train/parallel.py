"""Sampling and log Z on several processes or devices: the chains are dealt out, what they found is gathered."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError, check_count
from energeia.core.random import Streams
from energeia.core.record import Draws, Info, LogZ
from energeia.core.sampler import Sampler, sample
from energeia.partition.bracket import bracket, merged
from energeia.train.engine import Engine


def sample_parallel(
    energy: Energy,
    sampler: Sampler,
    *,
    num_steps: int,
    num_chains: int | None = None,
    start: Tensor | None = None,
    devices: int,
    accelerator: str = "auto",
    seed: int = 0,
    warmup: int = 0,
    keep: Literal["last", "all"] = "last",
    thin: int | None = None,
    chunk: int | None = None,
) -> Draws:
    """`sample` on several processes, each with its share of the chains and a stream of random numbers of its own.

    Args:
        energy, sampler, num_steps, num_chains, start, warmup, keep, thin, chunk: as for
            `sample`; num_chains is the number in all, dealt out as evenly as can be.
        devices: number of processes, each with a device. The running script is started
            again for each further process, so everything before this call is run by each.
        accelerator: "auto", "cpu" or "cuda".
        seed: process r samples with the stream "noise" of `Streams(seed, rank=r)`.

    Returns:
        the same `Draws` in every process, on the CPU, chains in order of rank. It equals
        what `share` and `join` give in one process with these streams. Each
        process tunes itself on its own chains; `sampler` is that of the first, and
        `state` the tuple of all.

    Raises:
        InputError: as `sample`, or fewer chains than processes.
    """
    check_count("sample_parallel()", devices=devices)
    engine = Engine(devices=devices, accelerator=accelerator, precision=None, dtype=dtype_and_device(energy)[0])
    energy = energy.to(engine.device)
    if (num_chains is None) == (start is None):
        raise InputError("sample_parallel(): give either num_chains or start")
    shares = share(num_chains if start is None else len(start), devices)
    size = shares[engine.rank]
    draws = sample(
        energy,
        sampler,
        num_steps=num_steps,
        num_chains=size if start is None else None,
        start=None if start is None else start.split(shares)[engine.rank].to(engine.device),
        generator=Streams(seed, rank=engine.rank, device=engine.device)["noise"],
        warmup=warmup,
        keep=keep,
        thin=thin,
        chunk=chunk,
        progress=None if engine.rank == 0 else False,
    )
    return join(engine.gather(draws))


def share(num_chains: int | None, devices: int) -> list[int]:
    """How many chains each process runs."""
    if num_chains is None or num_chains < devices:
        raise InputError(f"{devices} processes need at least as many chains, got {num_chains}")
    return [num_chains // devices + (rank < num_chains % devices) for rank in range(devices)]


def join(parts: list[Draws]) -> Draws:
    """The draws of all processes as one, on the CPU."""
    infos = zip(*(part.info for part in parts), strict=True)
    return Draws(
        torch.cat([part.x.cpu() for part in parts]),
        torch.cat([part.kept.cpu() for part in parts], 1),
        Info(*(torch.cat([value.cpu() for value in values], 1) for values in infos)),
        parts[0].sampler,
        tuple(part.state for part in parts),
    )


def log_z_parallel(
    energy: Energy,
    rows: Tensor | None = None,
    *,
    devices: int,
    accelerator: str = "auto",
    seed: int = 0,
    num_chains: int = 100,
    levels: int = 1000,
    num_steps: int = 1000,
    tolerance: float | None = None,
    max_levels: int = 64_000,
    checkpoint: Path | str | None = None,
) -> LogZ:
    """`bracket` on several processes, each with its share of the chains and random numbers of its own.

    Args:
        energy, rows, num_chains, levels, num_steps, tolerance, max_levels: as of `bracket`; num_chains is the number
            in all. Each round lays its levels anew.
        devices, accelerator: as of `sample_parallel`.
        seed: process r anneals with the stream "noise" of `Streams(seed, rank=r)`.
        checkpoint: a file ending in .safetensors; each process and round keeps one beside it.

    Returns:
        the same `LogZ` in every process, on the CPU: what `partition.merged` makes of the brackets of all.

    Raises:
        InputError: as `bracket`, or fewer chains than processes.
    """
    check_count("log_z_parallel()", devices=devices, levels=levels)
    engine = Engine(devices=devices, accelerator=accelerator, precision=None, dtype=dtype_and_device(energy)[0])
    energy = energy.to(engine.device)
    size = share(num_chains, devices)[engine.rank]
    generator = Streams(seed, rank=engine.rank, device=engine.device)["noise"]
    history: list[dict[str, float]] = []
    while True:
        kept = None
        if checkpoint is not None:
            kept = Path(checkpoint).with_suffix(f".{len(history)}-{engine.rank}.safetensors")
        own = bracket(
            energy,
            None if rows is None else rows.to(engine.device),
            num_chains=size,
            levels=levels,
            num_steps=num_steps,
            checkpoint=kept,
            generator=generator,
            progress=None if engine.rank == 0 else False,
        )
        found = merged(engine.gather(_on_cpu(own)))
        history += found.details["history"]
        found.details["history"] = history
        if tolerance is None or float(found.high - found.low) <= 2 * tolerance or 2 * levels > max_levels:
            return found
        levels, num_steps = 2 * levels, 2 * num_steps


def _on_cpu(value: Any) -> Any:
    """The same with all tensors on the CPU, through tuples and dictionaries."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [_on_cpu(part) for part in value]
        return tuple(parts) if type(value) is tuple else type(value)(*parts)
    return value
