"""The Curie-Weiss model: every spin with every other, solved by a sum over the magnetisation."""

import math

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Spin


class CurieWeiss(Energy):
    """E(s) = -(K / 2N) M^2 - h M, M = sum_i s_i, spins s_i = -1 or +1.

    Args:
        num_spins: N >= 1.
        coupling: K = beta J; without field it has one phase for K < 1 and two, of M near +-m N, beyond.
        field: h, in units of kT.

    Both are parameters. Capabilities: `Tractable` (Z is a sum over the N + 1 values of M; a draw takes M, then which
    spins are up), `Conditional` (a block for each spin) and `Pairwise`. Cost: O(N) for E.

    Reference: Kochmański, Paszkiewicz & Wolski (2013), Curie-Weiss magnet: a simple model of phase transition.
    https://doi.org/10.1088/0143-0807/34/6/1555

    >>> from energeia.energies import CurieWeiss
    >>> round(float(CurieWeiss(100, coupling=1.5).double().log_z().value), 6)
    81.790688
    """

    def __init__(self, num_spins: int, *, coupling: float, field: float = 0.0) -> None:
        if num_spins < 1:
            raise InputError(f"CurieWeiss: num_spins must be at least 1, got {num_spins}")
        if not (math.isfinite(coupling) and math.isfinite(field)):
            raise InputError(f"CurieWeiss: coupling and field must be finite, got {coupling} and {field}")
        super().__init__(Spin(num_spins))
        self.coupling = nn.Parameter(torch.tensor(float(coupling)))
        self.field = nn.Parameter(torch.tensor(float(field)))

    @property
    def num_spins(self) -> int:
        """N."""
        return self.space.num_dims

    def forward(self, x: Tensor) -> Tensor:
        """E(s) `[B]`."""
        total = x.sum(1)
        return -self.coupling / (2 * self.num_spins) * total.square() - self.field * total

    def magnetisation(self) -> tuple[Tensor, Tensor]:
        """All values of M `[N + 1]` and log of their probabilities times Z, float64."""
        number = self.num_spins
        up = torch.arange(number + 1, dtype=torch.float64, device=self.coupling.device)
        total = 2 * up - number
        ways = math.lgamma(number + 1) - torch.lgamma(up + 1) - torch.lgamma(number - up + 1)
        coupling, field = self.coupling.detach().double(), self.field.detach().double()
        return total, ways + coupling / (2 * number) * total.square() + field * total

    def log_z(self) -> LogZ:
        """log of the sum over M."""
        return LogZ.exact(self.magnetisation()[1].logsumexp(0), "a sum over the magnetisation")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """M, then a random choice of the spins that are up."""
        chance = self.magnetisation()[1].softmax(0)
        up = torch.multinomial(chance, num_chains, replacement=True, generator=generator)
        shape = (num_chains, self.num_spins)
        rank = torch.rand(shape, generator=generator, dtype=torch.float64, device=up.device).argsort(1).argsort(1)
        return torch.where(rank < up.unsqueeze(1), 1.0, -1.0).to(self.coupling)

    @property
    def num_blocks(self) -> int:
        """N."""
        return self.num_spins

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every spin `[B, 1]`."""
        return x.split(1, 1)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, N]`."""
        return torch.cat(blocks, 1)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """h + (K / N) times the sum of the others, `[B, 1]`."""
        others = sum((x for number, x in enumerate(blocks) if number != block), torch.zeros_like(blocks[block]))
        return self.field + self.coupling / self.num_spins * others

    @property
    def edges(self) -> Tensor:
        """All pairs of sites."""
        return torch.combinations(torch.arange(self.num_spins, device=self.coupling.device)).view(-1, 2)

    def site_log_potentials(self) -> Tensor:
        """-h and +h, and M^2's own s_i^2 = 1, `[N, 2]`."""
        own = self.coupling / (2 * self.num_spins)
        return torch.stack([own - self.field, own + self.field]).expand(self.num_spins, 2)

    def edge_log_potentials(self) -> Tensor:
        """(K / N) s s', `[M, 2, 2]`."""
        agreement = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=self.coupling.dtype, device=self.coupling.device)
        return (self.coupling / self.num_spins * agreement).expand(len(self.edges), 2, 2)
