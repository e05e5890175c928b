"""A scalar field on a square lattice."""

import math

import torch
from torch import Tensor

from energeia.core.energy import CLOSED, Capability
from energeia.core.errors import InputError, check_count
from energeia.core.record import LogZ
from energeia.energies.truth import KnownMoments, Moments, Target


class Phi4(Target):
    """The phi^4 lattice field: E(phi) = sum_links (phi_x - phi_y)^2 / 2 + sum_x m2 phi_x^2 / 2 + lam phi_x^4.

    On `Real((L, L))`, the L by L torus: every site has a link to its right and one
    downwards, so for L = 2 two links join a pair, and for L = 1 none counts.

    Args:
        size: L.
        mass_squared: m2; negative, with lam > 0, gives every site two wells.
        coupling: lam, >= 0.

    With lam = 0 the field is a Gaussian that the Fourier transform makes independent,
    sum_links = sum_k (4 sin^2(k1 / 2) + 4 sin^2(k2 / 2)) |phi_k|^2, and it has the
    capabilities `Tractable` and `KnownMoments`; with lam > 0 neither. For L = 1
    `exact_log_z` then integrates it.

    Raises:
        InputError: exp(-E) cannot be normalised: lam < 0, or lam = 0 and m2 <= 0.

    Reference: Montvay & Muenster (1994), Quantum fields on a lattice,
    https://doi.org/10.1017/CBO9780511470783

    >>> from energeia.core.energy import Tractable
    >>> free, interacting = Phi4(8, mass_squared=0.5), Phi4(8, mass_squared=-2.0, coupling=0.5)
    >>> free.capability(Tractable) is free, interacting.capability(Tractable) is None
    (True, True)
    """

    def __init__(self, size: int, *, mass_squared: float, coupling: float = 0.0) -> None:
        check_count("Phi4", size=size)
        stable = math.isfinite(mass_squared) and 0 <= coupling < math.inf and (coupling > 0 or mass_squared > 0)
        if not stable:
            raise InputError(
                f"Phi4: exp(-E) needs coupling > 0, or coupling = 0 and mass_squared > 0, "
                f"got coupling={coupling}, mass_squared={mass_squared}"
            )
        super().__init__((size, size))
        self.size, self.mass_squared, self.coupling = size, float(mass_squared), float(coupling)

    def forward(self, x: Tensor) -> Tensor:
        """E(phi) `[B]` of phi `[B, L, L]`."""
        square = x.square()
        # (a - b)^2 / 2 summed over the links of a torus is 2 a^2 a site less the products of neighbours.
        neighbours = x.roll(1, 1) + x.roll(1, 2)
        site = square * (2 + self.mass_squared / 2 + self.coupling * square) - x * neighbours
        return site.flatten(1).sum(1)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable` and `KnownMoments` without coupling."""
        if self.coupling > 0 and kind in (*CLOSED, KnownMoments):
            return None
        return super().capability(kind)

    def log_z(self) -> LogZ:
        """log Z of the free field, float64."""
        return LogZ.exact((math.log(2 * math.pi) - self._free_spectrum().log()).sum() / 2, "Fourier transform")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws of the free field `[num_chains, L, L]`: white noise, filtered."""
        filtering = self._free_spectrum().rsqrt().to(self.zero.dtype)
        return torch.fft.ifft2(torch.fft.fft2(self._normals(num_chains, generator)) * filtering).real

    def truth(self) -> Moments:
        """Of the free field: mean 0 and, at every site, the mean inverse of the spectrum."""
        variance = self._free_spectrum().reciprocal().mean().expand(self.size, self.size).clone()
        return Moments(torch.zeros_like(variance), variance)

    def _free_spectrum(self) -> Tensor:
        """In float64."""
        if self.coupling > 0:
            raise InputError(
                "Phi4: log Z, exact draws and moments are known for coupling = 0 only; use ais or a sampler"
            )
        wave = 4 * (math.pi * torch.arange(self.size, dtype=torch.float64) / self.size).sin().square()
        return (wave.unsqueeze(1) + wave + self.mass_squared).to(self.zero.device)
