"""Contenders in turn (A B A B), their rates and whether they end in the same distribution."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.harness import Row, progress

OURS = "Energeia"


class Setting(NamedTuple):
    """What a family of works is run with. cores: that the process may use; rounds: timed calls of each contender."""

    quick: bool
    cores: int

    @property
    def rounds(self) -> int:
        """Timed calls of each contender."""
        return 2 if self.quick else 3

    def name(self, work: str) -> str:
        """The work and the cores it ran on."""
        return f"{work}; {self.cores} core{'s' if self.cores > 1 else ''}"


@dataclass(frozen=True)
class Contender:
    """One library on one work.

    who: its name, with the usage where there are several. make: returns the function to be
    timed, which runs all steps and returns its end state `[B, ...]` (or what `score` takes).
    counts: whether it is one of the peers the others are divided by; False shows it as information.
    """

    who: str
    make: Callable[[], Callable[[], Any]]
    counts: bool = True


def named(package: str, usage: str = "") -> str:
    """Library, version and usage: `blackjax 1.7.1, NUTS`."""
    return f"{package} {version(package)}{', ' if usage else ''}{usage}"


class Run(NamedTuple):
    """What a contender showed. seconds: of each timed call; first: of the call that also compiled."""

    who: str
    first: float
    seconds: list[float]
    end: Any


def race(contenders: Sequence[Contender], rounds: int) -> tuple[list[Run], list[tuple[str, str]]]:
    """Run each once to compile, then all in turn; runs, and (who, error) of those that could not."""
    functions: list[tuple[str, float, Callable[[], Any]]] = []
    failed: list[tuple[str, str]] = []
    for contender in contenders:
        # Peers fail in ways of their own; whatever it is, it is reported and the others run.
        try:
            began = time.perf_counter()
            function = contender.make()
            function()
            functions.append((contender.who, time.perf_counter() - began, function))
        except Exception as error:
            if contender.who.startswith(OURS):
                raise
            failed.append((contender.who, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"))
    seconds: dict[str, list[float]] = {who: [] for who, _, _ in functions}
    ends: dict[str, Any] = {}
    for _ in range(rounds):
        for who, _, function in functions:
            began = time.perf_counter()
            ends[who] = function()
            seconds[who].append(time.perf_counter() - began)
    return [Run(who, first, seconds[who], ends[who]) for who, first, _ in functions], failed


def compare(
    work: str,
    contenders: Sequence[Contender],
    setting: Setting,
    *,
    amount: float,
    unit: str,
    score: Callable[[Any], float] | None = None,
    moments: Callable[[Any], np.ndarray] | None = None,
    tolerance: float = 0.25,
) -> list[Row]:
    """Rows of one work: rates, compile times, failures in words, and how far apart the end states are.

    The ratio of a rate is to that of the fastest peer that counts and samples the target. Compile
    times are those of a first use, reported on one core alone.

    Args:
        work: what is done; the number of cores is added.
        contenders: the first is Energeia's.
        setting: rounds and cores.
        amount: how much of `unit` one call does (steps); the rate is amount / seconds.
        unit: of the rate, without "/s".
        score: what one call is worth, in place of amount (an effective sample size).
        moments: numbers of an end state that must agree between all; default mean and
            variance over the chains, averaged over the dimensions.
        tolerance: a contender whose moments are further from the middle of all than this,
            relative to the largest, does not sample the target: it is reported, not compared.
    """
    # Compiled functions of another work must not make this one's shapes dynamic.
    torch.compiler.reset()
    name = setting.name(work)
    progress(name)
    runs, failed = race(contenders, setting.rounds)
    rates = {run.who: (score(run.end) if score else amount) / statistics.median(run.seconds) for run in runs}
    found = {run.who: (moments or mean_and_variance)(run.end) for run in runs}
    middle = np.median(np.stack(list(found.values())), axis=0)
    apart = {who: float(np.abs(values - middle).max() / np.abs(middle).max()) for who, values in found.items()}
    agreeing = [who for who in rates if apart[who] < tolerance]
    peers = [contender.who for contender in contenders if contender.counts and not contender.who.startswith(OURS)]
    best = max((rates[who] for who in peers if who in agreeing), default=None)
    rows: list[Row] = []
    for run in runs:
        rate = rates[run.who]
        if run.who in agreeing:
            rows.append(Row(name, run.who, rate, f"{unit}/s", 0, None if best is None else rate / best))
        else:
            rows.append(Row(name, run.who, rate, f"{unit}/s, of another distribution: no comparison", 0))
        compiling = max(run.first - statistics.median(run.seconds), 0.0)
        if setting.cores == 1:
            rows.append(Row(f"{name}: before the first result", run.who, compiling, "s to compile", 0))
        spread = (max(run.seconds) - min(run.seconds)) / statistics.median(run.seconds)
        progress(
            f"  {run.who:42s} {rate:10.4g} {unit}/s, {(rate / best) if best else 0:5.2f} of the best peer, "
            f"spread {spread:4.0%}, compile {compiling:5.1f} s, ends at {np.array2string(found[run.who], precision=3)}"
            + ("" if run.who in agreeing else ", ANOTHER DISTRIBUTION")
        )
    for who, error in failed:
        rows.append(Row(name, who, 0.0, f"could not run: {error}", 0))
        progress(f"  {who:42s} could not run: {error}")
    furthest = max(apart[who] for who in agreeing)
    rows.append(Row(f"{name}: largest difference of the end states", "all", furthest, "relative", 0))
    return rows


def mean_and_variance(end: Any) -> np.ndarray:
    """Mean and variance over the chains, averaged over the dimensions."""
    x = np.asarray(end, dtype=np.float64)
    x = x.reshape(len(x), -1)
    return np.array([x.mean(), x.var(0).mean()])
