"""The search that fits an energy of answers."""

import torch

from energeia.core.answers import Search, Solvable
from energeia.core.energy import Conditional, Energy
from energeia.core.errors import InputError
from energeia.core.space import Box, Enumerable, Real
from energeia.energies.fields import NARROW, Field
from energeia.samplers.gibbs import Gibbs
from energeia.samplers.gradient import GibbsWithGradients
from energeia.search.cut import Elimination, MinimumCut
from energeia.search.descent import Descent
from energeia.search.exact import Enumeration, Exact
from energeia.search.expansion import AlphaExpansion, likes_equals
from energeia.search.moves import Annealing

MOST_LISTED = 4096


def suitable(energy: Energy) -> Search:
    """The first of these that the energy allows; all but the last three are exact.

    `Exact` (chains, trees, segments); `Enumeration` (at most 4096 answers); `MinimumCut` (two labels that like to
    agree); `Elimination` (graphs so narrow that tables have at most 2^16 entries); `AlphaExpansion`
    (labels that like equal neighbours); `Annealing` (other labels); `Descent` (real answers).
    """
    if energy.capability(Solvable) is not None:
        return Exact()
    space = energy.space
    if isinstance(space, Enumerable) and space.num_states <= MOST_LISTED:
        return Enumeration()
    if isinstance(energy, Field):
        if _agrees(energy):
            return MinimumCut()
        if energy.structure.entries(energy.unary.shape[-1]) <= NARROW:
            return Elimination()
        if likes_equals(energy):
            return AlphaExpansion()
    if energy.capability(Conditional) is not None:
        return Annealing(Gibbs())
    if isinstance(space, Enumerable):
        return Annealing(GibbsWithGradients())
    if isinstance(space, Real | Box):
        return Descent()
    raise InputError(f"there is no search for answers on {space}; give one: method=...")


def _agrees(field: Field) -> bool:
    """Whether a minimum cut gives the best answer."""
    if field.unary.shape[-1] != 2:
        return False
    with torch.no_grad():
        tables = field.tables
        return bool((tables[..., 0, 0] + tables[..., 1, 1] >= tables[..., 0, 1] + tables[..., 1, 0]).all())
