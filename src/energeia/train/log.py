"""Where metrics go: a JSON line each, TensorBoard if asked for, and one line on the terminal."""

import errno
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from energeia.core.errors import CheckpointError, InputError

Record = dict[str, Any]
METRICS = "metrics.jsonl"
_SHOWN = ("loss", "energy_data", "energy_negatives", "gap", "acceptance", "error")


class Log:
    """Keeps the records of a run, and writes them as they come; close it, or use it in a `with`.

    Args:
        folder: run directory for metrics.jsonl, or None to keep them in memory alone.
        num_steps: for the progress line.
        progress: show the line, on standard error; None on a terminal only.
        tensorboard: write TensorBoard events beside (needs the extra `tensorboard`).
        since: the step the run goes on from.
        num_records: records of the folder to keep: what came later is written again.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        num_steps: int,
        progress: bool | None,
        tensorboard: bool,
        since: int,
        num_records: int,
    ) -> None:
        self._writer = _tensorboard_writer(folder, since) if tensorboard and folder is not None else None
        self.records = [] if folder is None else read_metrics(folder)[:num_records]
        # Counted apart from the records, as only the first process has those of before.
        self.num_records = num_records
        self._path = None if folder is None else folder / METRICS
        self._file = None if self._path is None else _rewritten(self._path, self.records)
        self._seconds = next((r["seconds"] for r in reversed(self.records) if "seconds" in r), 0.0)
        self._started = time.perf_counter()
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        shown = sys.stderr.isatty() if progress is None else progress
        self._bar = Progress(*columns, *times, console=Console(stderr=True), disable=not shown)
        self._task = self._bar.add_task("training", total=num_steps, completed=since)
        self._bar.start()

    @property
    def seconds(self) -> float:
        """Time spent training, with what the log held when it was opened."""
        return round(self._seconds + time.perf_counter() - self._started, 3)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record; it holds "step" and finite scalars, or an event in words.

        Raises:
            CheckpointError: it cannot be written, as on a full disk.
        """
        self.records.append(dict(record))
        self.num_records += 1
        if self._file is not None and self._path is not None:
            try:
                line = _line(record)
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise CheckpointError(_full(self._path, error)) from error
        if self._writer is not None:
            for name, value in record.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._writer.add_scalar(name, value, record["step"])
        if "event" in record:
            self._bar.print(f"step {record['step']}: {record['event']}: {record.get('cause', '')}")
        shown = "  ".join(f"{name.replace('_', ' ')} {record[name]:.3g}" for name in _SHOWN if name in record)
        if shown:
            self._bar.update(self._task, completed=record["step"], description=shown)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and the progress line."""
        self._bar.stop()
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()


def read_metrics(folder: Path) -> list[Record]:
    """The records of a run directory; a last line cut short by a crash is left out."""
    path = folder / METRICS
    if not path.exists():
        return []
    records: list[Record] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _rewritten(path: Path, records: list[Record]) -> Any:
    """The file with these records alone, open to append; what was there is lost only once they are written."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(b"".join(_line(record) for record in records))
        temporary.replace(path)
        # Unbuffered: a line that cannot be written fails here and not when the file is closed.
        return path.open("ab", buffering=0)
    except OSError as error:
        raise CheckpointError(_full(path, error)) from error


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False) + "\n").encode()


def _full(path: Path, error: OSError) -> str:
    return (
        f"cannot write {path}: {error}. The checkpoints are as they were; free some space, then: "
        f"energeia resume {path.parent}"
    )


def _tensorboard_writer(folder: Path, since: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("tensorboard=True needs TensorBoard: pip install energeia[tensorboard]") from error
    # Tells TensorBoard to drop what an interrupted run wrote beyond its last checkpoint.
    return SummaryWriter(str(folder / "tensorboard"), purge_step=since + 1)
