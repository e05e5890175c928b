"""What pseudo-likelihood, ratio matching and minimum probability flow share: every site given all others."""

from abc import abstractmethod

import torch
from torch import Tensor

from energeia.core.answers import Rowwise, repeated
from energeia.core.energy import Conditional, Energy, Local
from energeia.core.errors import CapabilityError, InputError, check_count
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Binary, Categorical, Spin
from energeia.objectives.rows import rows_of

Discrete = Binary | Spin | Categorical


class SiteScore(Objective):
    """mean over the rows of sum_i S(p(. | x without i), x_i), with S a strictly proper score.

    The conditionals of a model need no Z. Whatever S, if the data are draws of a model
    of the family then the expectation of the loss is least at its conditionals, and these determine
    a positive p(x): the estimate is consistent. No sampling, and no bias but that of finitely many rows;
    what differs between scores is the variance, and what a wrong model is fitted to.

    Args:
        num_sites: sites taken at every update, at random and the same for all rows, scaled up to
            all: unbiased, and num_sites / N of the cost. None takes all.

    Needs a `Binary`, `Spin` or `Categorical` space. Cost: with `Local` or `Conditional` the natural
    parameters of all sites, about one evaluation of E; with any other energy one evaluation for every other
    state of every site, side by side: N (K - 1) + 1 times the rows of the batch, which is what
    num_sites is for.

    A column of the data that never varies, or two sites of which one determines the other,
    have no finite optimum: their parameters grow for ever, slowly. Drop them or add weight decay (`Penalised`).
    """

    def __init__(self, *, num_sites: int | None = None) -> None:
        super().__init__()
        check_count(type(self).__name__, num_sites=1 if num_sites is None else num_sites)
        self.num_sites = num_sites

    @abstractmethod
    def score(self, log_odds: Tensor) -> Tensor:
        """S `[B, S]` of `log_odds`, log p(other state) / p(state of x), `[B, S, K - 1]`."""

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over the rows of the sum over the sites."""
        who = type(self).__name__
        space = _discrete(energy, who)
        rows_of(energy, batch, who)
        total = space.num_dims // (space.num_categories if isinstance(space, Categorical) else 1)
        chosen, share = None, 1.0
        if self.num_sites is not None:
            if self.num_sites > total:
                raise InputError(f"{who}: num_sites={self.num_sites}, but {space} has only {total} sites")
            chosen = torch.randperm(total, generator=generator, device=generator.device)[: self.num_sites]
            share = total / self.num_sites
        scores = self.score(log_odds(energy, space, batch.x, chosen)) * _there(space, batch.x, chosen)
        value = share * scores.mean(0).sum()
        return Loss(value, {"loss": value.detach()})


def surprise(log_odds: Tensor) -> Tensor:
    """-log p(state of x) = log(1 + sum of the odds of all other states), `[B, S]`."""
    others = log_odds.squeeze(2) if log_odds.shape[2] == 1 else log_odds.logsumexp(2)
    return -torch.nn.functional.logsigmoid(-others)


def log_odds(energy: Energy, space: Discrete, x: Tensor, chosen: Tensor | None) -> Tensor:
    """log p(x_i = other | rest) / p(x_i | rest), `[B, S, K - 1]`, for the chosen sites `[S]` (None: all).

    The other states come in the order in which they follow the present one, round and round.
    """
    natural = _natural(energy, x)
    if natural is None:
        return _by_evaluation(energy, space, x, chosen)
    shape = (len(x), -1, space.num_categories) if isinstance(space, Categorical) else (len(x), -1)
    state, natural = x.reshape(shape), natural.reshape(shape)
    if chosen is not None:
        state, natural = state[:, chosen], natural[:, chosen]
    if isinstance(space, Categorical):
        others = [(state.roll(turn, 2) * natural).sum(2) for turn in range(1, space.num_categories)]
        return torch.stack(others, 2) - (state * natural).sum(2, keepdim=True)
    return (_to_other(space, state) * natural).unsqueeze(2)


def _natural(energy: Energy, x: Tensor) -> Tensor | None:
    """Natural parameters of every site given the rest `[B, *event]`, if the energy has them."""
    local = energy.capability(Local)
    if local is not None:
        return local.local_parameters(x)
    conditional = energy.capability(Conditional)
    if conditional is None:
        return None
    blocks = conditional.split(x)
    return conditional.join(
        tuple(conditional.natural_parameters(blocks, block) for block in range(conditional.num_blocks))
    )


def _by_evaluation(energy: Energy, space: Discrete, x: Tensor, chosen: Tensor | None) -> Tensor:
    """E(x) - E(x with one site changed), all in one pass through the energy."""
    size = space.num_categories if isinstance(space, Categorical) else 1
    sites = x.reshape(len(x), -1, size)
    chosen = torch.arange(sites.shape[1], device=x.device) if chosen is None else chosen
    place = torch.arange(len(chosen), device=x.device)
    changed: list[Tensor] = []
    for turn in range(1, max(size, 2)):
        state = sites[:, chosen]
        other = state.roll(turn, 2) if isinstance(space, Categorical) else state + _to_other(space, state)
        moved = sites.unsqueeze(1).repeat(1, len(chosen), 1, 1)
        moved[:, place, chosen] = other
        changed.append(moved)
    rows = torch.stack(changed, 2).flatten(0, 2).view(-1, *space.event_shape)
    if energy.capability(Rowwise) is None:
        here, there = energy(torch.cat([x, rows])).split([len(x), len(rows)])
    else:
        here, there = energy(x), repeated(energy, len(rows) // len(x))(rows)
    return here.view(-1, 1, 1) - there.view(len(x), len(chosen), -1)


def _to_other(space: Binary | Spin, state: Tensor) -> Tensor:
    """What is added to the state to make it the other."""
    return -2 * state if isinstance(space, Spin) else 1 - 2 * state


def _there(space: Discrete, x: Tensor, chosen: Tensor | None) -> Tensor | float:
    """1 where a site is there and 0 where it is not (answers of rows with fewer sites are zeros there), `[B, S]`."""
    if not isinstance(space, Categorical):
        return 1.0
    there = x.flatten(1).view(len(x), -1, space.num_categories).sum(2)
    return there if chosen is None else there[:, chosen]


def _discrete(energy: Energy, who: str) -> Discrete:
    space = energy.space
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(
            f"{who} changes x one site at a time and needs a Binary, Spin or Categorical space, but the energy lives "
            f"on {space}; if x are bits or spins, put the energy on en.Binary or en.Spin, else use ScoreMatching or "
            "NoiseContrast"
        )
    return space
