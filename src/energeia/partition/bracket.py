"""log Z between an estimate from below and one from above, with as much effort as an accuracy takes."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from energeia.core.energy import Energy, Tractable, dtype_and_device
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.progress import Bar, progress_bar
from energeia.core.record import LogZ
from energeia.core.sampler import Sampler, advance
from energeia.core.warn import warn
from energeia.partition.ais import Plan, downwards, make_plan, upwards
from energeia.partition.bridge import acceptance_ratio
from energeia.partition.journal import Journal
from energeia.partition.schedule import Levels, refined
from energeia.partition.smc import systematic
from energeia.partition.walk import Path as Way
from energeia.partition.walk import Progress, Watch, begin
from energeia.partition.weights import together

_FEW = 5.0
# Standard errors between the sides, the wrong way round, that chance does not make.
_FAR = 4.0


class Effort(TypedDict, total=False):
    """What `bracket` may be told of its effort, and whatever passes that on to it."""

    num_chains: int
    levels: Levels
    num_steps: int
    tolerance: float | None
    max_levels: int
    checkpoint: Path | str | None
    generator: torch.Generator | int
    progress: bool | None


def bracket(
    energy: Energy,
    rows: Tensor | None = None,
    *,
    base: Energy | None = None,
    path: Way | None = None,
    sampler: Sampler | None = None,
    num_chains: int = 100,
    levels: Levels = 1000,
    num_steps: int = 1000,
    tolerance: float | None = None,
    max_levels: int = 64_000,
    checkpoint: Path | str | None = None,
    generator: torch.Generator | int = 0,
    progress: bool | None = False,
) -> LogZ:
    """log Z annealed from below and from above.

    Args:
        energy: the model.
        rows: `[N, *event]` near the model: data, or draws. The chains from whose ends the annealing from
            above starts begin at them. None begins those chains where the annealing from below ended, drawn by its
            weights.
        base: where annealing from below starts; None is fitted to the ends of a short run of chains begun far and
            wide, and to some rows: what rows do not know of, the other side may still find.
        path, sampler: as of `ais`.
        num_chains, levels: effort of annealing, each way.
        num_steps: steps of those chains. Where the model has exact draws (`Tractable`) these are taken instead,
            and the method says so.
        tolerance: the half width that the interval is to have, in nats, > 0: levels and steps are doubled until it
            is reached, or levels would pass max_levels; the method says which. None makes one round.
        max_levels: see there.
        checkpoint: a file, ending in .safetensors, that is written every minute; a call with the same arguments goes
            on from there, on a CPU to the bit.
        generator: random numbers, or a seed for them.
        progress: show a bar with the running estimate; None shows it on a terminal only.

    Returns:
        `LogZ` of kind "approximate". Its interval covers both estimates with their bootstrap intervals: low is
        the lowest end and high the highest (`enclosing`). value is the acceptance ratio of both (Crooks, Bennett)
        where the sampler is reversible, else the middle. What neither way finds of the model is missed by both:
        no interval tells of a mode that neither chains nor rows have ever been in.

        details: lower, upper, contradicted, reversible, and history, a dictionary for each round.

    Warns: where the estimate from above lies below that from below by more than their errors, so that chains have
    not mixed; where few weights carry an estimate; where E grows too slowly to be normalised, or a base does not
    cover the rows.

    Raises:
        InputError: E falls far from the data in most directions of `Real`.
        DivergenceError: E is not finite where chains go.

    Reference: Grosse, Ghahramani & Adams (2015), Sandwiching the marginal likelihood using
    bidirectional Monte Carlo, https://arxiv.org/abs/1511.02543; Crooks (1999), Entropy production fluctuation
    theorem and the nonequilibrium work relation, https://arxiv.org/abs/cond-mat/9901352
    """
    check_count("bracket", num_chains=num_chains, num_steps=num_steps, max_levels=max_levels)
    if tolerance is not None:
        check_positive("bracket", tolerance=tolerance)
    if isinstance(generator, int):
        generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(generator)
    if rows is not None:
        energy.space.check(rows, "bracket: rows")
        if len(rows) == 0:
            raise InputError("bracket: rows are empty; give some, or None")
    began = time.perf_counter()
    plan = make_plan("bracket", energy, rows, path or base, sampler, levels, generator)
    journal = Journal(None if checkpoint is None else Path(checkpoint), _identity(energy, plan, rows), generator)
    chains = None
    if rows is not None:
        chains = rows[torch.randint(len(rows), (num_chains,), generator=generator, device=rows.device)]
    history: list[dict[str, float]] = []
    with progress_bar(progress) as bar:
        while True:
            round_ = _Round(energy, plan, journal, bar, num_chains, len(history))
            lower, upper, chains = round_.run(chains, num_steps * 2 ** len(history))
            found = _joined(plan.sampler.reversible, lower, upper)
            history.append(_told(found, time.perf_counter() - began))
            if tolerance is None or float(found.high - found.low) <= 2 * tolerance:
                break
            if 2 * history[-1]["levels"] > max_levels:
                break
            laid = refined(plan.schedule)
            plan = plan._replace(schedule=laid, walk=plan.walk.with_step_sizes(laid.step_sizes))
    return _concluded(found, history, tolerance)


class _Round:
    """One annealing up and one down."""

    def __init__(self, energy: Energy, plan: Plan, journal: Journal, bar: Bar, num_chains: int, number: int) -> None:
        self._energy, self._plan, self._journal, self._bar = energy, plan, journal, bar
        self._num_chains, self._number = num_chains, number

    def run(self, chains: Tensor | None, num_steps: int) -> tuple[LogZ, LogZ, Tensor]:
        """The estimates from below and from above, and the draws from which the second started."""
        plan, journal, number = self._plan, self._journal, self._number

        def up(start: Progress | None, watch: Watch | None) -> Progress:
            first = start or begin(plan.path.draw_start(self._num_chains, plan.walk.generator))
            return upwards(plan, first, self._bar, watch)

        ended = journal.part(f"{number} up", up)
        lower = plan.below(ended)
        exact = self._energy.capability(Tractable)
        if chains is None:
            chains = ended.x[systematic(ended.log_weights.softmax(0).unsqueeze(0), plan.walk.generator)[0]]
        drawn = journal.part(f"{number} draws", lambda *_: begin(self._draws(chains, num_steps, exact)))

        def down(start: Progress | None, watch: Watch | None) -> Progress:
            return downwards(plan, start or begin(drawn.x), self._bar, watch)

        upper = plan.above(journal.part(f"{number} down", down), exact=exact is not None)
        return lower, upper, drawn.x

    def _draws(self, chains: Tensor, num_steps: int, exact: Tractable | None) -> Tensor:
        generator = self._plan.walk.generator
        if exact is not None:
            return exact.sample_exact(len(chains), generator)
        sampler = self._plan.sampler
        self._bar.begin("chains of the model", num_steps)
        state = sampler.init(self._energy, chains)
        done = 0
        while done < num_steps:
            part = min(100, num_steps - done)
            state, _ = advance(self._energy, sampler, state, num_steps=part, generator=generator)
            done += part
            self._bar.reached(done)
        return state.x


def merged(parts: Sequence[LogZ]) -> LogZ:
    """Brackets from independent chains as one: all weights of each side together, and the last round of each."""
    lower, upper = (together([part.details[side] for part in parts]) for side in ("lower", "upper"))
    found = _joined(parts[0].details["reversible"], lower, upper)
    rounds = [part.details["history"][-1] for part in parts]
    return _concluded(found, [_told(found, max(float(round_["seconds"]) for round_ in rounds))], None)


def _joined(reversible: bool, lower: LogZ, upper: LogZ) -> LogZ:
    """Both sides, with the acceptance ratio of both as the value where steps down are those up turned round."""
    found = enclosing(lower, upper)
    found.details["reversible"] = reversible
    if not reversible or found.details["contradicted"]:
        return found
    ratio = acceptance_ratio(lower.details["log_estimates"], upper.details["log_estimates"])
    return found._replace(value=ratio.value, standard_error=ratio.standard_error)


def _told(found: LogZ, seconds: float) -> dict[str, float]:
    """A round as plain numbers."""
    lower, upper = found.details["lower"], found.details["upper"]
    return {
        "levels": lower.details["num_levels"],
        "num_chains": lower.details["num_chains"],
        "seconds": seconds,
        "value": float(found.value),
        "low": float(found.low),
        "high": float(found.high),
        "lower": float(lower.value),
        "upper": float(upper.value),
        "lower_size": lower.details["effective_sample_size"],
        "upper_size": upper.details["effective_sample_size"],
    }


def _concluded(found: LogZ, history: list[dict[str, float]], tolerance: float | None) -> LogZ:
    """The last round, with what it did not reach in its method and in warnings."""
    method = found.method
    half = float(found.high - found.low) / 2
    if tolerance is not None:
        reached = half <= tolerance
        method += (
            f"; within the {tolerance:g} nats asked for"
            if reached
            else (f"; {half:.2g} nats each way where {tolerance:g} were asked for, and max_levels is reached")
        )
        if not reached:
            warn(f"log Z: {half:.2g} nats each way, not {tolerance:g}: allow more max_levels")
    last = history[-1]
    few = min(last["lower_size"], last["upper_size"])
    if few < min(_FEW, last["num_chains"]):
        side = "from below" if last["lower_size"] == few else "from above"
        method += f"; {few:.1f} of {last['num_chains']:.0f} weights carry the estimate {side}"
        warn(
            f"log Z: {few:.1f} effective weights of {last['num_chains']:.0f} carry the estimate {side}; "
            "take more levels",
        )
    if found.details["contradicted"]:
        gap = last["lower"] - last["upper"]
        told = f"the estimate from above lies {gap:.2g} nats below that from below"
        warn(f"log Z: {told}: the chains have not mixed; take more steps or levels")
    return found._replace(method=method, details={**found.details, "history": history})


def enclosing(lower: LogZ, upper: LogZ) -> LogZ:
    """log Z from one estimate below and one above: the interval from the outer ends of both, and its middle.

    Its standard error is a quarter of the interval. Its details hold lower, upper and contradicted: whether
    the estimate from above lies below that from below by more than their errors, of which the method tells.
    """
    ends = torch.stack([torch.stack(list(estimate.details["interval"])) for estimate in (lower, upper)])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    contradicted = bool(lower.value - upper.value > _FAR * lower.standard_error.hypot(upper.standard_error))
    method = f"{lower.method} and {upper.method}"
    if contradicted:
        gap = float(lower.value - upper.value)
        method += (
            f"; the estimate from above lies {gap:.2g} nats below that from below, so the chains have not mixed and "
            "neither is to be believed"
        )
    details = {"lower": lower, "upper": upper, "contradicted": contradicted}
    return LogZ((low + high) / 2, (high - low) / 4, "approximate", low, high, method, details)


def _identity(energy: Energy, plan: Plan, rows: Tensor | None) -> Any:
    """What decides the estimate."""
    return (
        repr(energy.space),
        dict(plan.path.at(0.5).state_dict()),
        plan.schedule.shares,
        plan.schedule.step_sizes,
        repr(plan.sampler),
        rows,
    )
