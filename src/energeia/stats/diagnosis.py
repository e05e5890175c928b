"""What the diagnostics of chains come to: a table, and in words what is wrong."""

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from energeia.core.errors import check_count
from energeia.core.record import Draws

# Vehtari et al. 2021: beyond these the other numbers of the table cannot be relied on.
MAX_R_HAT = 1.01
MIN_ESS = 400
# Far below every optimum, of which the random walk's .234 is the lowest.
MIN_ACCEPTANCE = 0.1
MIN_SWAP_RATE = 0.1
_MAX_ROWS = 12
_WIDTH = 80


@runtime_checkable
class Ladder(Protocol):
    """What the state of parallel chains at several temperatures offers."""

    @property
    def swap_rate(self) -> Tensor:
        """Mean acceptance of swaps between neighbouring temperatures `[R - 1]`."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """Diagnostics of every dimension and of the energy, which is the last row. Print it.

    names: of the D dimensions, then "energy".
    mean, sd: of all draws, float64 `[D + 1]`.
    mcse_mean, mcse_sd: Monte Carlo standard errors of these two `[D + 1]`.
    quantiles: 5 % and 95 % `[D + 1, 2]`.
    ess_bulk, ess_tail: effective sample sizes of the middle and of those quantiles `[D + 1]`.
    r_hat: rank-normalised split R-hat `[D + 1]`; infinite where every chain stays at a value of its own.
    num_draws, num_chains: T and B.
    warnings: what speaks against the draws, in words; notes: what to know beside that.

    Standard errors, ESS and R-hat are NaN where all draws have the same value.
    """

    names: tuple[str, ...]
    mean: Tensor
    sd: Tensor
    mcse_mean: Tensor
    mcse_sd: Tensor
    quantiles: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    r_hat: Tensor
    num_draws: int
    num_chains: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if there is no warning."""
        return not self.warnings

    def worst(self, count: int) -> list[int]:
        """At most count dimensions (never the energy), those farthest beyond the bounds of R-hat and ESS first."""
        check_count("worst", count=count)
        shortfall = MIN_ESS / torch.minimum(self.ess_bulk, self.ess_tail)
        beyond = torch.maximum((self.r_hat - 1) / (MAX_R_HAT - 1), shortfall)[:-1]
        known = beyond.where(~beyond.isnan(), -math.inf)
        return known.argsort(descending=True, stable=True)[:count].tolist()

    def __str__(self) -> str:
        num_dims = len(self.names) - 1
        rows = list(range(num_dims)) if num_dims < _MAX_ROWS else self.worst(_MAX_ROWS - 1)
        lines = [f"{self.num_draws:,} kept states of {counted(self.num_chains, 'chain')}", ""]
        lines += [line.rstrip() for line in _table(self, [*rows, num_dims]).splitlines()]
        notes = list(self.notes)
        if len(rows) < num_dims:
            notes.insert(0, f"{num_dims - len(rows):,} of {num_dims:,} dimensions are not shown: the worst stand above")
        lines += [_wrapped(note, "  ") for note in notes]
        lines += [_wrapped(warning, "! ") for warning in self.warnings] or ["  no warnings"]
        return "\n".join(lines)

    __repr__ = __str__


def all_warnings(result: Summary, draws: Draws, *, frozen: Tensor, stuck: Tensor, num_broken: int) -> tuple[str, ...]:
    """What speaks against the draws.

    Args:
        result: the numbers.
        draws: what they were taken from.
        frozen: dimensions in which each chain stays at a value of its own, bool `[D]`.
        stuck: chains that stay where they are in all dimensions, bool `[B]`.
        num_broken: kept states whose energy is not finite.
    """
    found = [*_stillness(result, frozen, stuck), *_mixing(result, draws), *_steps(draws), *_swaps(draws.state)]
    if num_broken:
        number = draws.info.energy.numel()
        found.append(f"the energy is not finite in {num_broken:,} of {number:,} kept states: look at those states")
    return tuple(found)


def all_notes(result: Summary, same: Tensor, *, max_chains: int) -> tuple[str, ...]:
    """What to know beside the warnings.

    Args:
        result: the numbers.
        same: dimensions with one value in all draws, bool `[D]`.
        max_chains: how many chains R-hat, ESS and MCSE were taken from at most.
    """
    notes: list[str] = []
    if bool(same.any()):
        first = int(same.int().argmax())
        one = f"is {result.mean[first]:.4g}" if int(same.sum()) == 1 else "have a single value"
        notes.append(f"{_which(same, result.names, first, 'such as')} {one} in all draws of all chains")
    if result.num_chains == 1:
        notes.append("one chain: R-hat compares its halves alone; start several from different places")
    if result.num_chains > max_chains:
        notes.append(
            f"R-hat, ESS and MCSE come from {max_chains:,} of the {result.num_chains:,} chains; ESS is scaled to all"
        )
    return tuple(notes)


def _stillness(result: Summary, frozen: Tensor, stuck: Tensor) -> Iterator[str]:
    """Chains, or else dimensions, that stay where they are."""
    if bool(stuck.any()):
        which = f"chain {int(stuck.int().argmax())}" if int(stuck.sum()) == 1 else f"{int(stuck.sum()):,}"
        yield f"{which} of {counted(len(stuck), 'chain')} never moved: use a smaller step_size, or another start"
    elif bool(frozen.any()):
        which = _which(frozen, result.names, int(frozen.int().argmax()), "such as")
        yield f"{which} never moved, and the chains differ there: use a sampler that can change it"


def _mixing(result: Summary, draws: Draws) -> Iterator[str]:
    """R-hat and ESS beyond their bounds."""
    # What never moved has its own warning.
    moved = result.r_hat.isfinite()
    high = moved & (result.r_hat > MAX_R_HAT)
    if bool(high.any()):
        worst = result.r_hat.where(high, -math.inf)
        which = _which(high, result.names, int(worst.argmax()))
        yield f"R-hat {worst.max():.4g} for {which}: run longer, or temper if the chains sit in different modes"
    least = torch.minimum(result.ess_bulk, result.ess_tail)
    low = moved & (least < MIN_ESS)
    if bool(low.any()):
        worst = int(least.where(low, math.inf).argmin())
        part = "bulk" if result.ess_bulk[worst] <= result.ess_tail[worst] else "tail"
        acceptance = draws.info.acceptance.mean().item()
        steps = f", or take larger steps (acceptance {acceptance:.3g})" if 0.95 < acceptance < 1 else ""
        which = _which(low, result.names, worst)
        yield f"{part} ESS {least[worst]:,.0f} for {which}, below {MIN_ESS}: run longer{steps}"


def _steps(draws: Draws) -> Iterator[str]:
    """Divergent and rejected steps."""
    divergent, acceptance = draws.info.divergent, draws.info.acceptance.mean().item()
    if bool(divergent.any()):
        share, chains = 100 * divergent.double().mean().item(), int(divergent.any(0).sum())
        yield (
            f"{share:.2g} % of the kept steps ({int(divergent.sum()):,}, in {chains:,} of "
            f"{counted(divergent.shape[1], 'chain')}) were divergent: use a smaller step_size, or a warm-up "
            "with target_acceptance nearer to 1"
        )
    if not acceptance >= MIN_ACCEPTANCE:
        yield f"acceptance {acceptance:.2g}: use a smaller step_size, or let warmup=... find one"


def _swaps(state: Any) -> Iterator[str]:
    """Neighbouring temperatures that hardly ever swap."""
    rates = state.swap_rate.detach().flatten().tolist() if isinstance(state, Ladder) else []
    for place, rate in enumerate(rates):
        if rate < MIN_SWAP_RATE:
            between = f"{place} and {place + 1} (of 0 to {len(rates)})"
            yield f"swap rate {rate:.2g} between temperatures {between}: put one between"


def _which(chosen: Tensor, names: Sequence[str], example: int, introduced: str = "worst") -> str:
    """The chosen rows in words: `x[3]`, or `2 of 10 dimensions and the energy (worst x[3])`."""
    num_dims = len(names) - 1
    count = int(chosen[:num_dims].sum())
    energy = len(chosen) > num_dims and bool(chosen[num_dims])
    if count == 0:
        return "the energy"
    if count == 1:
        return names[int(chosen.int().argmax())] + " and the energy" * energy
    return f"{count:,} of {num_dims:,} dimensions{' and the energy' * energy} ({introduced} {names[example]})"


def counted(number: int, noun: str) -> str:
    """`1 chain`, `4 chains`."""
    return f"{number:,} {noun}{'s' if number > 1 else ''}"


def _wrapped(text: str, mark: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=mark, subsequent_indent="  ")


def _table(result: Summary, rows: Sequence[int]) -> str:
    # The left side gives way: a name that is too long is cut, a number never.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("", min_width=6)
    for name in ("mean", "sd", "mcse", "5 %", "95 %", "bulk ESS", "tail ESS", "R-hat"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        error = result.mcse_mean[row].item()
        values = (result.mean[row], result.sd[row], result.mcse_mean[row], *result.quantiles[row])
        sizes = [_size(ess[row].item()) for ess in (result.ess_bulk, result.ess_tail)]
        cells = [*(_number(value.item(), error) for value in values), *sizes, f"{result.r_hat[row]:.3f}"]
        # Text, as a name such as x[0] would be read as markup.
        name = Text(result.names[row], no_wrap=True, overflow="ellipsis")
        table.add_row(name, *("-" if cell == "nan" else cell for cell in cells))
    page = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    with page.capture() as capture:
        page.print(table)
    return capture.get()


def _number(value: float, error: float) -> str:
    """As many decimals as two digits of the error have."""
    if not 1e-5 < error < 1e5 or abs(value) >= 1e6:
        return f"{value:.3g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    # Adding zero takes the sign off a rounded -0.
    return f"{round(value, places) + 0.0:,.{places}f}"


def _size(ess: float) -> str:
    return f"{ess / 1000:,.0f}k" if ess >= 1e5 else f"{ess:,.0f}"
