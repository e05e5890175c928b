"""Searches for the answer of least energy: to minima what samplers are to draws."""

from energeia.search.choose import suitable
from energeia.search.cut import Elimination, MinimumCut
from energeia.search.descent import Descent, descend, unrolled
from energeia.search.exact import Enumeration, Exact, all_energies
from energeia.search.messages import MaxProduct
from energeia.search.moves import Annealing, IteratedModes

__all__ = [
    "Annealing",
    "Descent",
    "Elimination",
    "Enumeration",
    "Exact",
    "IteratedModes",
    "MaxProduct",
    "MinimumCut",
    "all_energies",
    "descend",
    "suitable",
    "unrolled",
]
