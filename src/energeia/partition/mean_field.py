"""Naive mean field: the best distribution of independent sites, and the lower bound that it gives."""

import math

import torch
from torch import Tensor

from energeia.core.energy import Energy, Pairwise, dtype_and_device, require
from energeia.core.errors import check_count, check_positive
from energeia.core.record import LogZ
from energeia.energies.colouring import Graph


def mean_field(
    energy: Energy,
    *,
    num_starts: int = 20,
    tolerance: float = 1e-10,
    max_sweeps: int = 2000,
    generator: torch.Generator | int = 0,
) -> LogZ:
    """A lower bound of log Z by naive mean field.

    log Z >= max_q sum_i q_i . a_i + sum_(ij) q_i b_ij q_j + sum_i H(q_i) over independent sites q. Sites that have no
    edge between them are set to their best at once, colour by colour, so that the bound rises with every sweep.

    Args:
        energy: with `Pairwise`.
        num_starts: random starts, of which the best is taken: the bound has many maxima where couplings are strong.
        tolerance: rise of the bound in a sweep at which a start is done, in nats.
        max_sweeps: when to stop if it is not; the bound holds then as well.
        generator: random numbers, or a seed for them.

    Returns:
        `LogZ` of kind "lower". details: marginals `[N, K]` of the best start, values `[num_starts]`, sweeps.

    Reference: Wainwright & Jordan (2008), Graphical models, exponential families, and variational inference,
    https://doi.org/10.1561/2200000001

    >>> import energeia as en
    >>> lattice = en.IsingLattice((4, 4), coupling=0.4)
    >>> round(float(en.mean_field(lattice).value), 4)
    13.5466
    """
    check_count("mean_field", num_starts=num_starts, max_sweeps=max_sweeps)
    check_positive("mean_field", tolerance=tolerance)
    pairwise = require(energy, Pairwise, who="mean_field", instead="take en.log_z, which asks for no graph")
    if isinstance(generator, int):
        generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(generator)
    with torch.no_grad():
        sites, tables = pairwise.site_log_potentials().double(), pairwise.edge_log_potentials().double()
        graph = Graph(len(sites), pairwise.edges.cpu(), "mean_field")
        first, second = pairwise.edges.unbind(1)
        colours = [graph.sites(colour).to(first) for colour in range(graph.num_colours)]
        shape = (num_starts, *sites.shape)
        q = torch.randn(shape, generator=generator, dtype=torch.float64, device=sites.device).softmax(2)

        def fields() -> Tensor:
            """What the edges say of every site, `[S, N, K]`."""
            found = torch.zeros_like(q)
            found.index_add_(1, first, torch.einsum("mkl,sml->smk", tables, q[:, second]))
            return found.index_add_(1, second, torch.einsum("mkl,smk->sml", tables, q[:, first]))

        def bound() -> Tensor:
            entropy = -torch.special.xlogy(q, q).sum((1, 2))
            return (q * (sites + fields() / 2)).sum((1, 2)) + entropy

        value, sweeps = bound(), 0
        while sweeps < max_sweeps:
            sweeps += 1
            for own in colours:
                q[:, own] = (sites + fields())[:, own].softmax(2)
            before, value = value, bound()
            if float((value - before).max()) < tolerance:
                break
    best = int(value.argmax())
    nothing = torch.full_like(value[best], math.inf)
    details = {"marginals": q[best], "values": value, "sweeps": sweeps}
    method = f"mean field, the best of {num_starts} starts"
    return LogZ(value[best], torch.zeros_like(value[best]), "lower", value[best], nothing, method, details)
