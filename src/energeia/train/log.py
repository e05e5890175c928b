"""Where metrics go: a JSON line each, TensorBoard if asked for, and one line on the terminal."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from energeia.core.errors import InputError

Record = dict[str, Any]
METRICS = "metrics.jsonl"
_SHOWN = ("loss", "energy_data", "energy_negatives", "gap", "acceptance", "error")


class Log:
    """Keeps the records of a run, and writes them as they come.

    Args:
        folder: run directory for metrics.jsonl, or None to keep them in memory alone.
        num_steps: for the progress line.
        progress: show the line; None on a terminal only.
        tensorboard: write TensorBoard events beside (needs the extra `tensorboard`).
        since: drop records of later steps: a resumed run writes them again.
    """

    def __init__(
        self, folder: Path | None, *, num_steps: int, progress: bool | None, tensorboard: bool, since: int
    ) -> None:
        self.records = [] if folder is None else [r for r in read_metrics(folder) if r["step"] <= since]
        self._file = None
        if folder is not None:
            self._file = (folder / METRICS).open("w", encoding="utf-8")
            self._file.writelines(_line(record) for record in self.records)
            self._file.flush()
        self._writer = _tensorboard_writer(folder) if tensorboard and folder is not None else None
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        shown = sys.stderr.isatty() if progress is None else progress
        self._bar = Progress(*columns, *times, disable=not shown)
        self._task = self._bar.add_task("training", total=num_steps, completed=since)
        self._bar.start()

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record; it holds "step" and scalars, or an event in words."""
        self.records.append(dict(record))
        if self._file is not None:
            self._file.write(_line(record))
            self._file.flush()
        if self._writer is not None:
            for name, value in record.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._writer.add_scalar(name, value, record["step"])
        if "event" in record:
            self._bar.print(f"step {record['step']}: {record['event']}: {record.get('cause', '')}")
        shown = "  ".join(f"{name.replace('_', ' ')} {record[name]:.3g}" for name in _SHOWN if name in record)
        if shown:
            self._bar.update(self._task, completed=record["step"], description=shown)

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
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("tensorboard=True needs TensorBoard: pip install energeia[tensorboard]") from error
    return SummaryWriter(str(folder / "tensorboard"))
