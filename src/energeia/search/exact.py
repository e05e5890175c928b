"""Searches that cannot miss the best answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.answers import Found, Rowwise, Search, Solvable, repeated, rows_of_energy, sites_there, trimmed
from energeia.core.energy import Energy, dtype_and_device, require
from energeia.core.errors import InputError, check_count
from energeia.core.nodes import integration_nodes
from energeia.core.space import Box, Enumerable, Real

MOST_STATES = 2**16
_AT_ONCE = 2**18


@dataclass(frozen=True)
class Exact(Search):
    """The exact inference of the energy's own structure: Viterbi on a chain, max-product on a tree, segments.

    Needs an energy with `Solvable`. Cost: for the k best of a chain O(T K^2 k) a row.
    """

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best answers; nothing is random."""
        check_count("Exact", num_best=num_best)
        solvable = require(
            energy,
            Solvable,
            who="Exact",
            instead="its graph has cycles or it is no graph: take en.Enumeration where answers are few, en.MinimumCut "
            "for two labels that agree, en.MaxProduct, en.IteratedModes or en.Annealing otherwise",
        )
        with torch.no_grad():
            answers, energies = solvable.best(num_best)
        return Found(answers, energies, True, "exact inference of the energy's structure")


@dataclass(frozen=True)
class Enumeration(Search):
    """Every answer is tried: exact for labels, bits and spins; on a grid for real answers of one to three dimensions.

    Args:
        num_nodes: values tried in each real dimension, the nodes of quadrature: over a `Box` from side to side, over
            `Real` all the line, densest where the space starts.

    At most 2^16 answers. Cost: an evaluation of each for every row.
    """

    num_nodes: int = 200

    def find(self, energy: Energy, generator: torch.Generator, *, num_best: int = 1) -> Found:
        """The k best answers; nothing is random."""
        check_count("Enumeration", num_best=num_best, num_nodes=self.num_nodes)
        states, whole = self._states(energy)
        with torch.no_grad():
            levels = all_energies(energy, states)
        number = min(num_best, len(states))
        energies, index = levels.topk(number, 1, largest=False)
        answers = trimmed(energy, states[index])
        answers = answers * energies.isfinite().view(*energies.shape, *[1] * (states.dim() - 1))
        if number < num_best:
            missing = num_best - number
            answers = torch.cat([answers, answers.new_zeros(len(answers), missing, *states.shape[1:])], 1)
            energies = torch.cat([energies, energies.new_full((len(energies), missing), torch.inf)], 1)
        way = "all answers tried" if whole else f"answers on a grid tried, {self.num_nodes} values in a dimension"
        return Found(answers, energies, whole, way)

    def _states(self, energy: Energy) -> tuple[Tensor, bool]:
        dtype, device = dtype_and_device(energy)
        space = energy.space
        if isinstance(space, Enumerable):
            if space.num_states > MOST_STATES:
                raise InputError(
                    f"Enumeration: {space} has {space.num_states:.3g} states, more than 2^16; take another search: "
                    "en.predict chooses one"
                )
            return space.enumerate(0, space.num_states, dtype=dtype, device=device), True
        if isinstance(space, Real | Box) and self.num_nodes**space.num_dims <= MOST_STATES:
            return integration_nodes(space, self.num_nodes, dtype=dtype, device=device)[0], False
        raise InputError(
            f"Enumeration: {space} has no answers that could be listed, or {self.num_nodes} nodes in a dimension are "
            "more than 2^16 in all; take en.Descent"
        )


def all_energies(energy: Energy, states: Tensor) -> Tensor:
    """E_b(y) of every row for each of the states `[S, *event]`: `[B, S]`, with its graph where there is one.

    States that differ at sites that are not there alone are one answer: of these the first, with label 0 at such sites,
    has its energy, the others inf.
    """
    num_rows = rows_of_energy(energy)
    if energy.capability(Rowwise) is None:
        return energy(states).unsqueeze(0)
    there = sites_there(energy)
    parts: list[Tensor] = []
    for some in states.split(max(1, _AT_ONCE // (num_rows * max(1, states[0].numel())))):
        tried = trimmed(energy, some.expand(num_rows, *some.shape))
        values = repeated(energy, len(some))(tried.flatten(0, 1)).view(num_rows, len(some))
        if there is not None:
            again = (some[..., 0] == 0) & ~there.unsqueeze(1)
            values = values.masked_fill(again.flatten(2).any(2), torch.inf)
        parts.append(values)
    return torch.cat(parts, 1)
