"""What a sampler is, and the one loop that runs every sampler."""

import types
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor
from typing_extensions import TypeVar as TypeVarWithDefault

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import DivergenceError, InputError, check_count
from energeia.core.progress import progress_bar
from energeia.core.record import Draws, Info

Noise = tuple[Tensor, ...]


class ChainState(Protocol):
    """A NamedTuple of tensors, or tuples of them, that begin with the chain axis; all have the chains, x `[B, *event]`.

    Fields named `energy` and `gradient` are those of the energy at x, and change in
    proportion when the energy is scaled; nothing else in a state depends on the energy.
    """

    @property
    def x(self) -> Tensor:
        """The chains."""
        ...


# The default lets a field be typed as plain `Sampler`, which is what configuration files can be parsed to.
State = TypeVarWithDefault("State", bound=ChainState, default=Any)


class Sampler(ABC, Generic[State]):
    """A Markov transition. Subclasses are frozen dataclasses of hyperparameters.

    The random numbers of a step are drawn by `draw`, before it; `init` and `step`
    are functions of their arguments. So a run can be compiled, replayed and resumed.
    A state may hold the energy and gradient at x; both are stale once the energy's
    parameters change: call `init` again.

    `reversible` says that one step is in detailed balance with its target, which is
    more than leaving it unchanged; tempered transitions need it.
    """

    reversible: ClassVar[bool] = False

    @abstractmethod
    def init(self, energy: Energy, x: Tensor) -> State:
        """The state of chains that stand at x `[B, *event]`."""

    @abstractmethod
    def draw(self, state: State, generator: torch.Generator) -> Noise:
        """The random numbers of one step; depends on the shape, dtype and device of the state alone."""

    @abstractmethod
    def step(self, energy: Energy, state: State, noise: Noise) -> tuple[State, Info]:
        """One transition of every chain."""

    def warm_up(
        self, energy: Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["Sampler[State]", State]:
        """A tuned copy of this sampler and its state after num_steps; here nothing is tuned, the chains just run."""
        state, _ = advance(energy, self, self.init(energy, x), num_steps=num_steps, generator=generator)
        return self, state


Tree = TypeVar("Tree")


def map_tensors(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """The state with a function applied to each of its tensors (and those of others at the same place)."""
    if isinstance(tree, Tensor):
        return cast(Any, function(tree, *others))
    parts = [map_tensors(function, *matching) for matching in zip(cast(Any, tree), *cast(Any, others), strict=True)]
    # A NamedTuple takes its fields one by one, a plain tuple all in one.
    return cast(Any, tuple(parts) if type(tree) is tuple else type(tree)(*parts))


def rescale(state: State, factor: Tensor) -> State:
    """The state for the energy times a factor `[B]`: its cached `energy` and `gradient` in proportion."""
    fields: dict[str, Tensor] = cast(Any, state)._asdict()
    cached = {name: value for name, value in fields.items() if name in ("energy", "gradient")}
    scaled = {name: value * factor.view(-1, *[1] * (value.dim() - 1)) for name, value in cached.items()}
    return cast(Any, state)._replace(**scaled)


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
    compiled = _compiled(energy, sampler, state)
    total: Info | None = None
    for _ in range(num_steps // chunk):
        noises = [sampler.draw(state, generator) for _ in range(chunk)]
        # The gradients wanted here are those of x, which the compiled function takes itself.
        with torch.no_grad():
            state, info = compiled(state, noises)
        total = info if total is None else _add(total, info)
    assert total is not None
    return state, _over(total, num_steps // chunk)


def _steps(energy: Energy, sampler: Sampler[State], state: State, noises: Any) -> tuple[State, Info]:
    total: Info | None = None
    num_steps = 0
    for noise in noises:
        state, info = sampler.step(energy, state, noise)
        num_steps += 1
        # Sums as it goes, not a stack at the end: compiled, they never leave the registers.
        total = info if total is None else _add(total, info)
    assert total is not None
    return state, _over(total, num_steps)


def _add(total: Info, info: Info) -> Info:
    """The last energy, sums of acceptance and displacement, and whether any was divergent."""
    return Info(
        info.energy,
        total.acceptance + info.acceptance,
        total.displacement + info.displacement,
        total.divergent | info.divergent,
    )


def _over(total: Info, number: int) -> Info:
    """Sums as means."""
    if number == 1:
        return total
    return total._replace(acceptance=total.acceptance / number, displacement=total.displacement / number)


# A compiled function belongs to one energy and lives as long as it does, or until this many were made after it.
_MAX_COMPILED = 16
_COMPILED: "weakref.WeakKeyDictionary[Energy, dict[Any, Callable[..., Any]]]" = weakref.WeakKeyDictionary()


def _compiled(energy: Energy, sampler: Sampler[State], state: State) -> Callable[..., tuple[State, Info]]:
    functions = _COMPILED.setdefault(energy, {})
    if sampler not in functions:
        # What cannot work says so more clearly in an eager step than in a trace.
        sampler.step(energy, state, sampler.draw(state, torch.Generator(state.x.device).manual_seed(0)))
        # The closure must not keep the energy alive, or the cache would never let go of it.
        reference = weakref.ref(energy)

        def run(state: State, noises: Sequence[Noise]) -> tuple[State, Info]:
            alive = reference()
            assert alive is not None
            return _steps(alive, sampler, state, noises)

        if len(functions) == _MAX_COMPILED:
            functions.pop(next(iter(functions)))
        # A code object of its own: the compiler gives up on one that it has met with many others' constants.
        own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
        functions[sampler] = torch.compile(own)  # pyright: ignore[reportUnknownMemberType]
    return functions[sampler]


def sample(
    energy: Energy,
    sampler: Sampler[Any],
    *,
    num_steps: int,
    num_chains: int | None = None,
    start: Tensor | None = None,
    warmup: int = 0,
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
        warmup: steps before num_steps in which the sampler tunes itself to the energy
            (step size, mass, trajectory length, ladder: what it has); these are thrown
            away and the tuning is frozen. 0 runs the sampler as it was given.
        generator: random numbers, or a seed for them.
        keep: "last" keeps the last state; "all" every thin-th.
        thin: steps between kept states (default 1, or chunk); divides num_steps.
        chunk: compile chunks of this many steps (some seconds once, then faster on
            small energies); divides thin and num_steps.
        progress: show a bar; None shows it on a terminal only.

    Returns:
        `Draws` with x `[B, *event]`, kept `[T, B, *event]`, info `[T, B]` and the
        (tuned) sampler.

    Raises:
        InputError: an argument does not fit, with what would.
        DivergenceError: a chain became NaN or infinite.

    Memory: keep="all" holds num_steps / thin copies of the chains. Nothing but the
    warm-up is thrown away: slice `kept`.

    >>> import energeia as en
    >>> draws = en.sample(en.Gaussian(2), en.MALA(step_size=1.0), num_chains=500, num_steps=100)
    >>> draws.x.shape
    torch.Size([500, 2])
    """
    _check_kinds(energy, sampler, start, generator)
    x, generator = _starting(energy, num_chains, start, generator)
    interval = _interval(num_steps, keep, thin, chunk)
    if not isinstance(warmup, int) or warmup < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"sample(): warmup must be an integer of at least 0, got {warmup!r}")
    kept: list[Tensor] = []
    infos: list[Info] = []
    watched: list[Tensor] = []
    total, since = None, 0
    with progress_bar(progress) as bar:
        if warmup:
            bar.begin(f"warming up, {warmup} steps", None)
            sampler, state = sampler.warm_up(energy, x, num_steps=warmup, generator=generator)
            _check_finite(state.x, sampler, "the warm-up")
        else:
            state = sampler.init(energy, x)
        bar.begin("sampling", num_steps)
        for done in range(interval, num_steps + 1, interval):
            state, info = advance(energy, sampler, state, num_steps=interval, generator=generator, chunk=chunk)
            total, since = (info if total is None else _add(total, info)), since + 1
            if keep == "all" or done == num_steps:
                kept.append(state.x)
                infos.append(_over(total, since))
                total, since = None, 0
            watched.append(info.divergent)
            if len(watched) == _WATCH or done == num_steps:
                _check_finite(state.x, sampler, _when(watched, done, interval))
                watched.clear()
                bar.reached(done)
    info = Info(*(torch.stack(values) for values in zip(*infos, strict=True)))
    return Draws(state.x, torch.stack(kept), info, sampler, state)


# Intervals between looks at the chains, each of which waits for the device.
_WATCH = 50


def _when(watched: Sequence[Tensor], done: int, interval: int) -> str:
    """The step at which the first chain went wrong, as closely as was watched."""
    bad = torch.stack([divergent.any() for divergent in watched])
    first = int(bad.int().argmax()) if bool(bad.any()) else len(watched) - 1
    last = done - (len(watched) - 1 - first) * interval
    return f"step {last}" if interval == 1 else f"steps {last - interval + 1} to {last}"


def _check_kinds(energy: object, sampler: object, start: object, generator: object) -> None:
    """Raise `InputError` where an argument is not of its kind."""
    if not isinstance(energy, Energy):
        raise InputError(
            f"sample(): energy must be an Energy, got {_kind(energy)}; wrap a function or a module with "
            "en.from_module(function, space)"
        )
    if not isinstance(sampler, Sampler):
        hint = f"write {sampler.__name__}(...)" if isinstance(sampler, type) else "give one such as en.HMC()"
        raise InputError(f"sample(): sampler must be a Sampler, got {_kind(sampler)}; {hint}")
    if not isinstance(start, Tensor | None):
        raise InputError(f"sample(): start must be a tensor [B, *event], got {_kind(start)}")
    if not isinstance(generator, torch.Generator | int):
        raise InputError(f"sample(): generator must be a torch.Generator or a whole number, got {_kind(generator)}")


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _starting(
    energy: Energy, num_chains: int | None, start: Tensor | None, generator: torch.Generator | int
) -> tuple[Tensor, torch.Generator]:
    dtype, device = dtype_and_device(energy)
    if isinstance(generator, int):
        generator = torch.Generator(device if start is None else start.device).manual_seed(generator)
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
            f"use {f'{lower} or ' if lower else ''}{lower + interval}"
        )
    return interval


def _check_finite(x: Tensor, sampler: Sampler[Any], when: str) -> None:
    finite = x.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        raise DivergenceError(
            f"{int((~finite).sum())} of {len(x)} chains are no longer finite; the first went wrong in {when} of "
            f"{sampler} (chain {first} is one of them); use a smaller step_size, a sampler that can reject such "
            "steps (MALA, HMC), a bounded space or a gradient clamp"
        )
