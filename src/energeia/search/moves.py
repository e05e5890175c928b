"""Searches that walk: iterated conditional modes, and annealing with any sampler."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.answers import Found, Search, repeated, rows_of_energy, trimmed
from energeia.core.energy import Conditional, Energy, dtype_and_device, require
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.sampler import Sampler, advance
from energeia.core.space import Binary, Categorical, Spin
from energeia.energies.fields import Field


@dataclass(frozen=True)
class IteratedModes(Search):
    """Iterated conditional modes (ICM): every site in turn takes its best label given the others, until none moves.

    Args:
        num_starts: starts for each row, >= 1. Where the energy is a `Field` the first is the best label of every site
            alone (the noisy picture, in restoration); the others are the space's start points.
        max_sweeps: sweeps over all sites at most.

    Needs an energy with `Conditional` on labels, bits or spins: blocks of sites that are not joined move at once. Ends
    in a local minimum; approximate. Cost: num_starts times a few sweeps a row.

    Reference: Besag (1986), On the statistical analysis of dirty pictures.
    https://doi.org/10.1111/j.2517-6161.1986.tb01412.x
    """

    num_starts: int = 10
    max_sweeps: int = 100

    def __post_init__(self) -> None:
        check_count("IteratedModes", num_starts=self.num_starts, max_sweeps=self.max_sweeps)

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best of the local minima that were met."""
        check_count("IteratedModes", num_best=num_best)
        with torch.no_grad():
            many, start = starts(energy, self.num_starts, generator)
            if isinstance(energy, Field):
                start[:: self.num_starts] = energy.one_hot(energy.unary.argmax(2).unsqueeze(1)).squeeze(1)
            ends, sweeps = modes(many, start, self.max_sweeps)
            answers, energies = shortlist(energy, ends.unflatten(0, (-1, self.num_starts)), num_best)
        return Found(answers, energies, False, f"iterated conditional modes, {self.num_starts} starts, {sweeps} sweeps")


@dataclass(frozen=True)
class Annealing(Search):
    """Simulated annealing: chains of a sampler on E / T while T falls, each remembering its best.

    Args:
        sampler: of the answers: `Gibbs()`, `GibbsWithGradients(...)`, `Langevin(...)`, `HMC(...)`, or
            `ParallelTempering(...)` over one of them (then hottest = coldest = 1 leaves all to its ladder).
        num_steps: steps of the sampler in all, at least num_temperatures.
        num_temperatures: temperatures, falling by a constant factor.
        hottest, coldest: the first and the last T, > 0.
        num_starts: chains for each row.

    Where the energy has `Conditional` on labels the best are made better by `IteratedModes`. Approximate; slow enough
    cooling finds the minimum, but slow enough is not known. Cost: num_starts times num_steps steps a row.

    Reference: Kirkpatrick, Gelatt & Vecchi (1983), Optimization by simulated annealing.
    https://doi.org/10.1126/science.220.4598.671
    """

    sampler: Sampler
    num_steps: int = 500
    num_temperatures: int = 50
    hottest: float = 2.0
    coldest: float = 0.05
    num_starts: int = 10

    def __post_init__(self) -> None:
        check_count(
            "Annealing",
            num_steps=self.num_steps,
            num_temperatures=self.num_temperatures,
            num_starts=self.num_starts,
        )
        check_positive("Annealing", hottest=self.hottest, coldest=self.coldest)
        if self.num_temperatures > self.num_steps or self.coldest > self.hottest:
            raise InputError(
                "Annealing: num_steps is at least num_temperatures and hottest at least coldest, got "
                f"num_steps={self.num_steps}, num_temperatures={self.num_temperatures}, hottest={self.hottest}, "
                f"coldest={self.coldest}"
            )

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best of the answers that the chains remember."""
        check_count("Annealing", num_best=num_best)
        ratio = math.log(self.coldest / self.hottest) / max(1, self.num_temperatures - 1)
        with torch.no_grad():
            many, x = starts(energy, self.num_starts, generator)
            best, level = x, many(trimmed(many, x))
            for number in range(self.num_temperatures):
                target = many * (1 / (self.hottest * math.exp(ratio * number)))
                state = self.sampler.init(target, x)
                share = self.num_steps * (number + 1) // self.num_temperatures
                for _ in range(share - self.num_steps * number // self.num_temperatures):
                    state, _ = advance(target, self.sampler, state, num_steps=1, generator=generator)
                    x = state.x
                    value = many(trimmed(many, x))
                    better = value < level
                    best = torch.where(better.view(-1, *[1] * (x.dim() - 1)), x, best)
                    level = torch.where(better, value, level)
            if many.capability(Conditional) is not None and isinstance(energy.space, Binary | Spin | Categorical):
                best, _ = modes(many, best)
            answers, energies = shortlist(energy, best.unflatten(0, (-1, self.num_starts)), num_best)
        method = f"annealing with {type(self.sampler).__name__}, {self.num_starts} chains of {self.num_steps} steps"
        return Found(answers, energies, False, method)


def starts(energy: Energy, num_starts: int, generator: torch.Generator) -> tuple[Energy, Tensor]:
    """The energy with every row `num_starts` over, and a start point for each."""
    dtype, _ = dtype_and_device(energy)
    many = repeated(energy, num_starts)
    return many, energy.space.start(rows_of_energy(energy) * num_starts, generator, dtype=dtype)


def modes(energy: Energy, x: Tensor, max_sweeps: int = 100) -> tuple[Tensor, int]:
    """Iterated conditional modes from x `[B, *event]`: where they end, and after how many sweeps."""
    space = energy.space
    if not isinstance(space, Binary | Spin | Categorical):
        raise InputError(f"IteratedModes is for labels, bits and spins, got {space}; take en.Descent")
    conditional = require(
        energy, Conditional, who="IteratedModes", instead="take en.Annealing with a sampler that needs no blocks"
    )
    blocks = list(conditional.split(x))
    sweep, moved = 0, True
    while moved and sweep < max_sweeps:
        sweep, moved = sweep + 1, False
        for block, old in enumerate(blocks):
            new = _mode(space, conditional.natural_parameters(tuple(blocks), block), old)
            moved = moved or not torch.equal(new, old)
            blocks[block] = new
    return conditional.join(tuple(blocks)), sweep


def _mode(space: Binary | Spin | Categorical, natural: Tensor, old: Tensor) -> Tensor:
    """The most likely states; those that are as likely as any stay, or ties would move for ever."""
    if isinstance(space, Categorical):
        own = natural.gather(-1, old.argmax(-1, keepdim=True))
        new = torch.nn.functional.one_hot(natural.argmax(-1), natural.shape[-1]).to(old)
        return torch.where(own >= natural.amax(-1, keepdim=True), old, new)
    low = -1.0 if isinstance(space, Spin) else 0.0
    return torch.where(natural == 0, old, torch.where(natural > 0, 1.0, low).to(old))


def shortlist(energy: Energy, tried: Tensor, num_best: int) -> tuple[Tensor, Tensor]:
    """The k best different ones of the answers tried `[B, S, *event]`, and their energies; inf where there are fewer.

    For k >= 2, where the energy has `Conditional` on labels, bits or spins, the k - 1 best changes of one site of the
    best answer are tried too: chains that all end in one minimum would say nothing of the runner-up.
    """
    tried = trimmed(energy, tried)
    values = _values(energy, tried)
    if num_best > 1:
        best = _picked(tried, values.argmin(1, keepdim=True)).squeeze(1)
        near = _best_changes(energy, best, num_best - 1)
        tried = torch.cat([tried, near], 1)
        values = torch.cat([values, _values(energy, near)], 1)
    # A NaN comes first, so that it is seen.
    order = torch.where(values.isnan(), -torch.inf, values).argsort(dim=1, stable=True)
    values, tried = values.gather(1, order), _picked(tried, order)
    # Of equal answers the first stays.
    flat = tried.flatten(2)
    same = (flat.unsqueeze(1) == flat.unsqueeze(2)).all(3).tril(-1).any(2)
    order = same.to(torch.int8).argsort(dim=1, stable=True)
    values = values.masked_fill(same, torch.inf).gather(1, order)
    answers, missing = _picked(tried, order), num_best - tried.shape[1]
    answers = torch.where(_as_event(values.isinf(), answers), torch.zeros_like(answers), answers)
    if missing > 0:
        answers = torch.cat([answers, answers.new_zeros(len(answers), missing, *answers.shape[2:])], 1)
        values = torch.cat([values, values.new_full((len(values), missing), torch.inf)], 1)
    return answers[:, :num_best], values[:, :num_best]


def _values(energy: Energy, tried: Tensor) -> Tensor:
    """E `[B, S]` of the answers tried `[B, S, *event]`."""
    if not tried.shape[1]:
        return tried.new_zeros(len(tried), 0)
    return repeated(energy, tried.shape[1])(tried.flatten(0, 1)).view(tried.shape[:2])


def _picked(tried: Tensor, order: Tensor) -> Tensor:
    """Each row's answers in an order `[B, S]`."""
    return tried.gather(1, _as_event(order, tried).expand(*order.shape, *tried.shape[2:]))


def _as_event(numbers: Tensor, tried: Tensor) -> Tensor:
    """`[B, S]` as `[B, S, 1, ...]`."""
    return numbers.view(*numbers.shape, *[1] * (tried.dim() - 2))


def _best_changes(energy: Energy, x: Tensor, number: int) -> Tensor:
    """The changes of one site of x `[B, *event]` that cost least, `[B, S, *event]` with S <= number."""
    space, conditional = energy.space, energy.capability(Conditional)
    if conditional is None or not isinstance(space, Binary | Spin | Categorical):
        return x.new_zeros(len(x), 0, *x.shape[1:])
    blocks = conditional.split(x)
    natural = conditional.join(
        tuple(conditional.natural_parameters(blocks, block) for block in range(conditional.num_blocks))
    )
    size = space.num_categories if isinstance(space, Categorical) else 1
    sites, natural = x.reshape(len(x), -1, size), natural.reshape(len(x), -1, size)
    if isinstance(space, Categorical):
        # To another label; sites that are not there have none.
        costs = (natural * sites).sum(2, keepdim=True) - natural
        costs = costs.masked_fill((sites > 0) | (sites.sum(2, keepdim=True) == 0), torch.inf)
    else:
        low = -1.0 if isinstance(space, Spin) else 0.0
        costs = natural * (2 * sites - 1 - low)
    least, where = costs.flatten(1).topk(min(number, costs[0].numel()), 1, largest=False)
    site, label = where // size, where % size
    if isinstance(space, Categorical):
        new = torch.nn.functional.one_hot(label, size).to(x)
    else:
        new = (1 + low - sites.gather(1, site.unsqueeze(2))).to(x)
    moved = sites.unsqueeze(1).expand(-1, where.shape[1], -1, -1)
    moved = moved.scatter(2, site.view(*site.shape, 1, 1).expand(-1, -1, 1, size), new.unsqueeze(2))
    moved = torch.where(least.isinf().view(*least.shape, 1, 1), sites.unsqueeze(1), moved)
    return moved.reshape(*where.shape, *x.shape[1:])
