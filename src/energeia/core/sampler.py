"""What a sampler is, and the one loop that runs every sampler."""

import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import DivergenceError, InputError, check_count
from energeia.core.record import Draws, Info

Noise = tuple[Tensor, ...]


class ChainState(Protocol):
    """What every sampler's state has: the chains `x` `[B, *event]`."""

    @property
    def x(self) -> Tensor:
        """The chains."""
        ...


State = TypeVar("State", bound=ChainState)


class Sampler(ABC, Generic[State]):
    """A Markov transition. Subclasses are frozen dataclasses of hyperparameters.

    The random numbers of a step are drawn by `draw`, before it; `init` and `step`
    are functions of their arguments. So a run can be compiled, replayed and resumed.
    A state may hold the energy and gradient at x; both are stale once the energy's
    parameters change: call `init` again.
    """

    @abstractmethod
    def init(self, energy: Energy, x: Tensor) -> State:
        """The state of chains that stand at x `[B, *event]`."""

    @abstractmethod
    def draw(self, state: State, generator: torch.Generator) -> Noise:
        """The random numbers of one step; depends on the shape, dtype and device of the state alone."""

    @abstractmethod
    def step(self, energy: Energy, state: State, noise: Noise) -> tuple[State, Info]:
        """One transition of every chain."""


def advance(
    energy: Energy,
    sampler: Sampler[State],
    state: State,
    *,
    num_steps: int,
    generator: torch.Generator,
    chunk: int | None = None,
) -> tuple[State, Info]:
    """Run num_steps transitions from a state: the loop beneath `sample` and every objective.

    Args:
        energy, sampler, state: what runs, and from where.
        num_steps: number of transitions, >= 1; a multiple of chunk.
        generator: source of all random numbers, on the device of the chains.
        chunk: compile this many transitions into one function (None: run eagerly).

    Returns:
        The state, and the `Info` of the block: energy of the last step, mean
        acceptance and displacement, whether any step was divergent; each `[B]`.

    It checks nothing: `sample` is the public door.
    """
    if chunk is None:
        noises = (sampler.draw(state, generator) for _ in range(num_steps))
        return _steps(energy, sampler, state, noises)
    compiled = _compiled(energy, sampler)
    infos: list[Info] = []
    for _ in range(num_steps // chunk):
        noises = [sampler.draw(state, generator) for _ in range(chunk)]
        # The gradients wanted here are those of x, which the compiled function takes itself.
        with torch.no_grad():
            state, info = compiled(state, noises)
        infos.append(info)
    return state, _join(infos)


def _steps(energy: Energy, sampler: Sampler[State], state: State, noises: Any) -> tuple[State, Info]:
    infos: list[Info] = []
    for noise in noises:
        state, info = sampler.step(energy, state, noise)
        infos.append(info)
    return state, _join(infos)


def _join(infos: Sequence[Info]) -> Info:
    """The `Info` of a run of equally long blocks."""
    if len(infos) == 1:
        return infos[0]
    acceptance = torch.stack([info.acceptance for info in infos]).mean(0)
    displacement = torch.stack([info.displacement for info in infos]).mean(0)
    divergent = torch.stack([info.divergent for info in infos]).any(0)
    return Info(infos[-1].energy, acceptance, displacement, divergent)


# A compiled function belongs to one energy and lives as long as it does.
_COMPILED: "weakref.WeakKeyDictionary[Energy, dict[Any, Callable[..., Any]]]" = weakref.WeakKeyDictionary()


def _compiled(energy: Energy, sampler: Sampler[State]) -> Callable[..., tuple[State, Info]]:
    functions = _COMPILED.setdefault(energy, {})
    if sampler not in functions:
        # The closure must not keep the energy alive, or the cache would never let go of it.
        reference = weakref.ref(energy)

        def run(state: State, noises: Sequence[Noise]) -> tuple[State, Info]:
            alive = reference()
            assert alive is not None
            return _steps(alive, sampler, state, noises)

        functions[sampler] = torch.compile(run)  # pyright: ignore[reportUnknownMemberType]
    return functions[sampler]


def sample(
    energy: Energy,
    sampler: Sampler[Any],
    *,
    num_steps: int,
    num_chains: int | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | int = 0,
    keep: Literal["last", "all"] = "last",
    thin: int | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Draws:
    """Run many chains of a sampler on an energy.

    Args:
        energy: the target, p(x) proportional to exp(-E(x)).
        sampler: the transition.
        num_steps: transitions of each chain, >= 1.
        num_chains: chains that start from `energy.space.start`; or give start.
        start: start points `[B, *event]`, in the dtype and on the device of the energy.
        generator: random numbers, or a seed for them.
        keep: "last" keeps the last state; "all" every thin-th.
        thin: steps between kept states (default 1, or chunk); divides num_steps.
        chunk: compile chunks of this many steps (some seconds once, then faster on
            small energies); divides thin and num_steps.
        progress: show a bar; None shows it on a terminal only.

    Returns:
        `Draws` with x `[B, *event]`, kept `[T, B, *event]` and info `[T, B]`.

    Raises:
        InputError: an argument does not fit, with what would.
        DivergenceError: a chain became NaN or infinite.

    Memory: keep="all" holds num_steps / thin copies of the chains. Nothing is
    thrown away as burn-in: slice `kept`.

    >>> import energeia as en
    >>> draws = en.sample(en.Gaussian(2), en.MALA(step_size=1.0), num_chains=500, num_steps=100)
    >>> draws.x.shape
    torch.Size([500, 2])
    """
    x, generator = _starting(energy, num_chains, start, generator)
    interval = _interval(num_steps, keep, thin, chunk)
    state = sampler.init(energy, x)
    kept: list[Tensor] = []
    infos: list[Info] = []
    with _progress_bar(progress) as bar:
        task = bar.add_task("sampling", total=num_steps)
        for done in range(interval, num_steps + 1, interval):
            state, info = advance(energy, sampler, state, num_steps=interval, generator=generator, chunk=chunk)
            if keep == "all" or done == num_steps:
                kept.append(state.x)
                infos.append(info)
            if bar.live.is_started or done == num_steps:
                _check_finite(state.x, sampler, done)
                bar.update(task, completed=done)
    return Draws(state.x, torch.stack(kept), Info(*(torch.stack(values) for values in zip(*infos, strict=True))))


def _starting(
    energy: Energy, num_chains: int | None, start: Tensor | None, generator: torch.Generator | int
) -> tuple[Tensor, torch.Generator]:
    dtype, device = dtype_and_device(energy)
    if isinstance(generator, int):
        generator = torch.Generator(device).manual_seed(generator)
    if (num_chains is None) == (start is None):
        raise InputError("sample(): give either num_chains or start")
    if start is None:
        check_count("sample()", num_chains=num_chains or 0)
        x = energy.space.start(num_chains or 0, generator, dtype=dtype)
    else:
        energy.space.check(start, "start")
        x = start.detach().clone()
    validate(energy, x)
    return x, generator


def _interval(num_steps: int, keep: str, thin: int | None, chunk: int | None) -> int:
    """Steps between records."""
    check_count("sample()", num_steps=num_steps, thin=1 if thin is None else thin, chunk=1 if chunk is None else chunk)
    if keep not in ("last", "all"):
        raise InputError(f'sample(): keep must be "last" or "all", got {keep!r}')
    interval = thin or chunk or 1
    if chunk is not None and interval % chunk:
        raise InputError(f"sample(): thin={thin} is not a multiple of chunk={chunk}; whole chunks are compiled")
    if num_steps % interval:
        lower = num_steps // interval * interval
        raise InputError(
            f"sample(): num_steps={num_steps} is not a multiple of {'thin' if thin else 'chunk'}={interval}; "
            f"use {lower or interval} or {lower + interval}"
        )
    return interval


def _progress_bar(progress: bool | None) -> Progress:
    shown = sys.stderr.isatty() if progress is None else progress
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not shown, console=Console(stderr=True))


def _check_finite(x: Tensor, sampler: Sampler[Any], done: int) -> None:
    finite = x.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        raise DivergenceError(
            f"{int((~finite).sum())} of {len(x)} chains are no longer finite after {done} steps of {sampler} "
            f"(the first is chain {first}); use a smaller step_size, a bounded space or a gradient clamp"
        )
