"""A bar on the terminal for what takes a while."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A bar on the terminal, or nothing: making one takes longer than a short run."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    @property
    def shown(self) -> bool:
        """Whether anybody sees it: what is costly to tell need not be found out otherwise."""
        return self._progress is not None

    def begin(self, what: str, total: int | None) -> None:
        """Show what is done next."""
        if self._progress is not None:
            self._what = what
            self._task = self._progress.add_task(what, total=total)

    def reached(self, done: int, result: str = "") -> None:
        """Move on, and show what has come out so far."""
        if self._progress is not None:
            told = f"{self._what}  {result}" if result else self._what
            self._progress.update(self._task, completed=done, description=told)


@contextmanager
def progress_bar(progress: bool | None) -> Generator[Bar]:
    """Bars until the end of the block: True shows them, None on a terminal alone."""
    shown = sys.stderr.isatty() if progress is None else progress
    if not shown:
        yield Bar(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        yield Bar(bar)
