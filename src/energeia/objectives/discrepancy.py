"""Energy discrepancy: data against points that come from them by noise and back, without scores or chains."""

import math
from typing import Literal

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Binary, Categorical, Real, Space, Spin
from energeia.core.warn import warn
from energeia.objectives.rows import energies_of, rows_of
from energeia.samplers.flips import from_index, num_categories, to_index

# Nats by which a point that tells nothing is less likely than its row.
_FAR = 10.0
Moves = Literal["uniform", "ring"]


class EnergyDiscrepancy(Objective):
    """mean over rows x of log(w/M + 1/M sum_j exp(E(x) - E(x_j))): x_j is x after noise, and noise once more.

    Noise with a symmetric kernel, q(y|x) = q(x|y), takes a row x to y; M points x_j are drawn from q(.|y). As M grows
    with any w this is E(x) - E_q(y), E_q(y) = -log sum_x q(y|x) exp(-E(x)): up to a constant

        KL(data || p) - KL(data after noise || p after noise),

    never negative, and zero only where p is the data's. So it needs no Z.

    Args:
        noise: on `Real` the standard deviation of one noise, > 0, in units of x. On `Binary`, `Spin` and
            `Categorical` the probability, for each site by itself, that it goes to another state: at most 1/2 for two
            states, (K - 1) / K for K, where nothing is left of x; below 1 with "ring".
        num_samples: M, >= 1.
        stabilisation: w, >= 0. With w = 1 the loss is that of telling which of x, x_1..x_M came from the
            data, log M aside: consistent for every M, and no term falls below log(1/M). With any other w it is
            biased for finite M, and with w = 0 it may have no minimum: the precision of a Gaussian came out 1.16 times
            too large for M = 16 and without bound for M = 1 (noise as wide as the data, one dimension).
        moves: where a category goes: "uniform", to any other one; "ring", to one of the two beside it, the last
            being beside the first, for ordered categories.

    Consistent on all four spaces, with w = 1. With little noise on `Real` it is M / (M + 1) noise^2 times score
    matching (and, like that, blind to the weights of modes further apart than the noise reaches); with much noise and
    many x_j it tends to maximum likelihood (on bits, noise = 1/2 and M to infinity is that). In between it sees
    modes that the noise connects. The variance is least where noise is somewhat below the width of the data;
    in many dimensions all x_j are then far less likely than x, the loss is near log(w/M) and its gradient vanishes:
    take less noise.

    Noise that always changes exactly one site is not offered: from x only states two changes away are
    reached, and what odd and even states weigh against each other would never be learned.

    Cost: M + 1 evaluations of E for each row, in one pass; no derivative with respect to x.

    Reference: Schröder, Ou, Lim, Li, Vollmer & Duncan (2023), Energy discrepancies: a score-independent loss for
    energy-based models, https://arxiv.org/abs/2307.06431; Schröder, Ou, Li & Duncan (2024), Energy-based modelling
    for discrete and mixed data via heat equations on structured spaces, https://arxiv.org/abs/2412.01019. With
    w = 1: Ceylan & Gutmann (2018), Conditional noise-contrastive estimation of unnormalised models,
    https://arxiv.org/abs/1806.03664

    >>> import torch, energeia as en
    >>> coin = en.Independent(en.Binary(1), torch.tensor([2.0]))
    >>> objective = en.EnergyDiscrepancy(0.5, num_samples=1000)
    >>> loss = objective(coin, en.Batch(torch.ones(500, 1)), torch.Generator().manual_seed(0))
    >>> round(loss.value.item(), 2)  # log((1 + exp(-2)) / 2) = -.566
    -0.57
    """

    def __init__(
        self, noise: float, *, num_samples: int = 16, stabilisation: float = 1.0, moves: Moves = "uniform"
    ) -> None:
        super().__init__()
        check_positive("EnergyDiscrepancy", noise=noise)
        check_count("EnergyDiscrepancy", num_samples=num_samples)
        if not 0 <= stabilisation < math.inf:
            raise InputError(
                f"EnergyDiscrepancy: stabilisation must be a finite number of at least 0, got {stabilisation}"
            )
        if moves not in ("uniform", "ring"):
            raise InputError(f'EnergyDiscrepancy: moves must be "uniform" or "ring", got {moves!r}')
        self.noise, self.num_samples = float(noise), num_samples
        self.stabilisation = float(stabilisation)
        self.moves: Moves = moves
        self._seen, self._told = 0, False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The discrepancy of the batch."""
        _check_noise(energy.space, self.noise, self.moves)
        x = rows_of(energy, batch, "EnergyDiscrepancy")
        between = self.perturb(energy.space, x, generator)
        near = self.perturb(energy.space, between.repeat_interleave(self.num_samples, 0), generator)
        energies = energies_of(energy, torch.cat([x, near]))
        rise = energies[: len(x)].unsqueeze(1) - energies[len(x) :].view(len(x), -1)
        value = contrast_terms(rise, self.stabilisation).mean()
        if self.training:
            self._watch(rise.detach())
        metrics = {
            "loss": value.detach(),
            "energy_data": energies[: len(x)].detach().mean(),
            "energy_near": energies[len(x) :].detach().mean(),
            # The share of points less likely than their row by more than 10 nats: near 1, the noise is too large.
            "far": (rise.detach() < -_FAR).to(x.dtype).mean(),
        }
        return Loss(value, metrics)

    def _watch(self, rise: Tensor) -> None:
        """Warn once if nothing is near; looked at in updates 1, 2, 4, 8 and so on, as it waits for the device."""
        self._seen += 1
        if self._told or self._seen & (self._seen - 1) or bool((rise >= -_FAR).any()):
            return
        self._told = True
        warn(
            f"EnergyDiscrepancy: all {rise.numel()} points that noise={self.noise:g} made of this batch are more than "
            f"{_FAR:g} nats less likely than their rows: the loss is flat there and its gradient vanishes. Take less "
            "noise: somewhat below the width of the data, and less the more dimensions there are",
        )

    def perturb(self, space: Space, x: Tensor, generator: torch.Generator) -> Tensor:
        """Rows x `[B, *event]` after noise, once."""
        if isinstance(space, Real):
            return x + self.noise * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        index, number = to_index(space, x), num_categories(space)
        uniform = torch.rand(index.shape, generator=generator, dtype=torch.float64, device=x.device)
        if self.moves == "ring":
            # One up, or as many up as one down is.
            up = torch.randint(2, index.shape, generator=generator, device=x.device)
            further = torch.where(up == 1, 1, number - 1)
        else:
            further = torch.randint(1, number, index.shape, generator=generator, device=x.device)
        return from_index(space, (index + further * (uniform < self.noise)) % number, x.dtype)


def contrast_terms(rise: Tensor, stabilisation: float, log_shares: Tensor | None = None) -> Tensor:
    """log(w/M + sum_j share_j exp(rise_j)) for each row of rises `[B, M]`: `[B]`; the shares are 1/M unless given."""
    log_number = math.log(rise.shape[1])
    terms = rise - log_number if log_shares is None else rise + log_shares
    if stabilisation == 0:
        return terms.logsumexp(1)
    own = torch.full_like(terms[:, :1], math.log(stabilisation) - log_number)
    return torch.cat([own, terms], 1).logsumexp(1)


def _check_noise(space: Space, noise: float, moves: Moves) -> None:
    if isinstance(space, Real):
        return
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(
            "EnergyDiscrepancy has noise for Real, Binary, Spin and Categorical spaces, but the energy lives on "
            f"{space}; use PersistentCD there"
        )
    number = num_categories(space)
    most = 1 - 1 / number if moves == "uniform" or number == 2 else math.nextafter(1, 0)
    if noise > most + 1e-12:
        raise InputError(
            f"EnergyDiscrepancy: noise={noise} is the probability that a site of {space} changes; at {most:g} nothing "
            "is left of x, and more leads back: give less"
        )
