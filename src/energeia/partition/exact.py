"""log Z by summing or integrating over the whole space."""

import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Energy, Normalised, dtype_and_device
from energeia.core.nodes import integration_nodes
from energeia.core.record import LogZ
from energeia.core.space import Enumerable

_RESOLVED = 1e-3


def exact_log_z(energy: Energy, *, num_nodes: int = 200) -> LogZ:
    """log Z of a tractable energy, a small discrete space, or 1 to 2 real dimensions.

    Args:
        energy: the energy; float64 gives about 14 digits.
        num_nodes: quadrature nodes per real dimension.

    Returns:
        `LogZ` of kind "exact", or "approximate" where quadrature has not settled to 1e-3
        nats. Its standard_error is then the change from half as many nodes, which bounds
        the error once the nodes resolve the energy.

    Raises:
        InputError: the space is too large to enumerate or integrate.

    >>> import energeia as en
    >>> round(float(en.exact_log_z(en.Gaussian(1).double()).value), 6)
    0.918939
    """
    closed = energy.capability(Normalised)
    if closed is not None:
        return closed.log_z()
    value = _integrate(energy, num_nodes)
    if isinstance(energy.space, Enumerable | Counts):
        return LogZ.exact(value, "enumeration")
    error = (value - _integrate(energy, max(2, num_nodes // 2))).abs()
    kind = "exact" if bool(error < _RESOLVED) else "approximate"
    method = f"Gauss-Legendre quadrature, {num_nodes} nodes a dimension"
    return LogZ(value, error, kind, value - error, value + error, method, {"num_nodes": num_nodes})


def _integrate(energy: Energy, num_nodes: int) -> Tensor:
    dtype, device = dtype_and_device(energy)
    x, log_weight = integration_nodes(energy.space, num_nodes, dtype=dtype, device=device)
    with torch.no_grad():
        parts = [energy(part).double() for part in x.split(2**16)]
    return (log_weight.double() - torch.cat(parts)).logsumexp(0)
