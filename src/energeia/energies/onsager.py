"""Closed forms of the square-lattice Ising model without field: Kaufman's for a torus, Onsager's and Yang's for all."""

import math

import torch
from scipy.integrate import quad
from torch import Tensor

# Beyond it the two ground states are all there is, to the last digit.
_COLD = 50.0


def kaufman_log_z(height: int, width: int, coupling: float | Tensor) -> Tensor:
    """log Z of the Ising model on a height x width torus, E = -K sum_<ij> s_i s_j, float64.

    Z = (2 sinh 2K)^(mn/2) [prod 2 cosh(m g_(2k+1) / 2) + prod 2 sinh(m g_(2k+1) / 2) + prod 2 cosh(m g_(2k) / 2)
    + prod 2 sinh(m g_(2k) / 2)] / 2, k = 0..n-1, cosh g_l = cosh 2K coth 2K - cos(pi l / n), g_0 = 2K + ln tanh K.

    Args:
        height, width: m and n, even for K < 0.
        coupling: K, of any sign; sizes are even, so that the sign does not matter.

    Reference: Kaufman (1949), Crystal statistics II. https://doi.org/10.1103/PhysRev.76.1232

    >>> from energeia.energies import kaufman_log_z
    >>> round(float(kaufman_log_z(4, 4, 0.4)), 9)
    14.561093024
    """
    size = abs(float(coupling))
    sites = height * width
    if size == 0:
        return torch.tensor(sites * math.log(2), dtype=torch.float64)
    if size > _COLD:
        return torch.tensor(2 * sites * size + math.log(2), dtype=torch.float64)
    sinh = math.sinh(2 * size)
    number = torch.arange(2 * width, dtype=torch.float64)
    # cosh g - 1 = (sinh 2K - 1)^2 / sinh 2K + 2 sin^2(pi l / 2n): no cancellation at the critical point.
    half = (sinh - 1) ** 2 / (2 * sinh) + (math.pi * number / (2 * width)).sin().square()
    g = 2 * half.sqrt().asinh()
    g[0] = 2 * size + math.log(math.tanh(size))
    logs: list[Tensor] = []
    signs: list[float] = []
    for angles in (g[1::2], g[0::2]):
        y = height * angles.abs() / 2
        logs.append((y + (-2 * y).exp().log1p()).sum())
        signs.append(1.0)
        logs.append((y + (-(-2 * y).expm1()).log()).sum())
        signs.append(-1.0 if float(angles[0]) < 0 else 1.0)
    both = torch.stack(logs)
    most = both.max()
    total = (torch.tensor(signs, dtype=torch.float64) * (both - most).exp()).sum().log() + most
    return total - math.log(2) + sites / 2 * (2 * size + math.log(-math.expm1(-4 * size)))


def onsager_log_z(coupling: float) -> float:
    """log Z of one site of the infinite square lattice: log(2 cosh 2K) + (1 / 2 pi) int_0^pi log((1 + w) / 2).

    w = sqrt(1 - k^2 sin^2 t), k = 2 sinh 2K / cosh^2 2K.

    Reference: Onsager (1944), Crystal statistics I. https://doi.org/10.1103/PhysRev.65.117

    >>> from energeia.energies import onsager_log_z
    >>> round(onsager_log_z(0.4), 10)
    0.8793638208
    """
    size = min(abs(coupling), _COLD)
    k = 2 * math.sinh(2 * size) / math.cosh(2 * size) ** 2

    def integrand(t: float) -> float:
        return math.log((1 + math.sqrt(max(0.0, 1 - (k * math.sin(t)) ** 2))) / 2)

    integral = quad(integrand, 0, math.pi / 2, epsabs=1e-13, epsrel=1e-13, limit=500)[0]
    closed = 2 * size + math.log1p(math.exp(-4 * size))
    return closed + integral / math.pi + 2 * (abs(coupling) - size)


def yang_magnetisation(coupling: float) -> float:
    """The spontaneous magnetisation of the infinite square lattice: (1 - sinh(2K)^-4)^(1/8) above K_c, else 0.

    K_c = ln(1 + sqrt 2) / 2 = .4407. For K > 0.

    Reference: Yang (1952), The spontaneous magnetization of a two-dimensional Ising model.
    https://doi.org/10.1103/PhysRev.85.808
    """
    sinh = math.sinh(2 * min(coupling, _COLD))
    return (1 - sinh**-4) ** 0.125 if sinh > 1 else 0.0
