"""log Z of a pairwise model by summing out one site after another."""

import math

from energeia.core.energy import Energy
from energeia.core.record import LogZ
from energeia.energies.elimination import MOST_ENTRIES, Elimination


def variable_elimination(energy: Energy, *, max_entries: int = MOST_ENTRIES) -> LogZ:
    """log Z by variable elimination: exact, and fast where the graph is narrow.

    Sites are summed out in turn; each leaves a table over its neighbours of that time. On a chain, a tree or a ring
    of any length that costs N K^2 or K^3, on a strip of width w about N K^(w + 1): the transfer matrix. It is what a
    junction tree does for one sum.

    Args:
        energy: with `Pairwise`: `Ising`, `Potts`, `PairwiseMRF`, `BoltzmannMachine`, ...
        max_entries: of the largest table, 8 bytes each (and as much again for its sum); 2^27 are a gigabyte.

    Returns:
        `LogZ` of kind "exact", in float64. details: width of the order that was found, and log2_steps, the table
        entries visited.

    Raises:
        CapabilityError: no `Pairwise`.
        InputError: the graph is too wide; the message says how wide.

    Reference: Dechter (1999), Bucket elimination: a unifying framework for reasoning,
    https://doi.org/10.1016/S0004-3702(99)00059-4

    >>> import energeia as en
    >>> chain = en.Ising(10, [(i, i + 1) for i in range(9)], couplings=0.7)
    >>> round(float(en.variable_elimination(chain.double()).value), 5)
    8.9769
    """
    elimination = Elimination(energy, "variable_elimination", max_entries=max_entries)
    order = elimination.order
    steps = order.steps / math.log(2)
    return LogZ.exact(
        elimination.log_sum(), f"variable elimination, width {order.width}", width=order.width, log2_steps=steps
    )
