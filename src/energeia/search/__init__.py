"""Searches for the answer of least energy: to minima what samplers are to draws."""

from energeia.search.choose import suitable
from energeia.search.cut import Elimination, MinimumCut
from energeia.search.descent import Descent, descend, unrolled
from energeia.search.exact import Enumeration, Exact, all_energies
from energeia.search.expansion import AlphaExpansion
from energeia.search.mean_field import MeanField, MeanFieldModes, mean_field_marginals
from energeia.search.messages import MaxProduct
from energeia.search.moves import Annealing, IteratedModes

__all__ = [
    "AlphaExpansion",
    "Annealing",
    "Descent",
    "Elimination",
    "Enumeration",
    "Exact",
    "IteratedModes",
    "MaxProduct",
    "MeanField",
    "MeanFieldModes",
    "MinimumCut",
    "all_energies",
    "descend",
    "mean_field_marginals",
    "suitable",
    "unrolled",
]
