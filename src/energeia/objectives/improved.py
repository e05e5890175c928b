"""Contrastive divergence with the term that it leaves out: how the chain itself depends on the energy."""

import math

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_finite
from energeia.core.gradient import value_and_gradient
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.sampler import Sampler, advance, map_tensors
from energeia.objectives.contrastive import Contrastive
from energeia.objectives.rows import rows_of
from energeia.samplers.langevin import Langevin
from energeia.samplers.underdamped import UnderdampedLangevin


class ImprovedCD(Objective):
    """Contrastive divergence + weight KL(q || p), the gradient of which goes through the chain that makes q.

        mean E(data) - mean E(x) + weight (mean E'(x) - entropy_weight H(q)),  x ~ q, the end of the chain.

    E' is E with its parameters held fast: x alone carries the gradient. H is estimated from the distance r_i of each
    x_i to its k-th neighbour among the other chains: D mean log r_i + log V_D + psi(N) - psi(k) (Kozachenko &
    Leonenko 1987), V_D the volume of the unit ball; both ends of r_i move with the parameters.

    Args:
        negatives: what moves the chains up to the last steps, such as `PersistentCD(Langevin(...), 39)`.
        sampler: the last steps, unadjusted; a Metropolis decision has no derivative.
        num_steps: how many last steps are differentiated, >= 1.
        weight: of the KL term. 1 is what Du et al. train with: it shapes E so that the sampler gets near p.
        entropy_weight: 1 is the KL divergence. Du et al. take 0.3 / D.
        num_neighbours: k, >= 1; with k D <= 2 the gradient of H has no finite variance.

    The sampler differentiates here because `value_and_gradient` keeps a graph where x has one: the last steps start
    at an x that requires a gradient, and no other code knows of it. The chain before is detached, as in the paper;
    what it contributes is left out.

    The sign. The derivative of Hinton's KL(data || p) - KL(q || p) has this term with a minus, so weight = -1
    (with all steps differentiated, from fixed starts) is the gradient of that difference, and weight = 1 leads another
    way to the same place: at the truth, with a sampler that leaves p unchanged, q = p and the term has no gradient, so
    both are consistent there. Biased as contrastive divergence is, and by the sampler's step size. H itself is biased
    in many dimensions, its gradient hardly: after one step from N(0, I) in 10 and 50 dimensions it was within 1 % with
    100 or 1,000 chains, where neighbours held fast, such as a buffer of earlier chains, gave 24 to 46 % too little.

    Cost beside that of the negatives: num_steps gradients with a graph, and one without; distances `[N, N]`. Needs
    twice differentiable networks, on `Real` or `Box`. Fails where chains coincide or leave the finite numbers.

    Reference: Du, Li, Tenenbaum & Mordatch (2021), Improved contrastive divergence training of energy-based models.
    https://arxiv.org/abs/2012.01316

    >>> import torch, energeia as en
    >>> step = en.Langevin(step_size=0.1)
    >>> objective = en.ImprovedCD(en.PersistentCD(step, 9, num_chains=20), step)
    >>> energy = en.Neural(en.MLP(2), en.Real(2))
    >>> loss = objective(energy, en.Batch(torch.ones(5, 2)), torch.Generator().manual_seed(0))
    >>> loss.value.backward()
    """

    def __init__(
        self,
        negatives: Contrastive,
        sampler: Langevin | UnderdampedLangevin,
        *,
        num_steps: int = 1,
        weight: float = 1.0,
        entropy_weight: float = 1.0,
        num_neighbours: int = 5,
    ) -> None:
        super().__init__()
        if not isinstance(sampler, Langevin | UnderdampedLangevin):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"ImprovedCD: differentiates through Langevin or UnderdampedLangevin, not {type(sampler).__name__}, "
                "whose decisions have no derivative"
            )
        check_count("ImprovedCD", num_steps=num_steps, num_neighbours=num_neighbours)
        check_finite("ImprovedCD", weight=weight, entropy_weight=entropy_weight)
        self.negatives, self.num_steps = negatives, num_steps
        self.sampler: Sampler = sampler
        self.weight, self.entropy_weight, self.num_neighbours = float(weight), float(entropy_weight), num_neighbours

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrastive loss, and the divergence with its gradient through the last steps."""
        rows_of(energy, batch, "ImprovedCD")
        start, _ = self.negatives.negatives(energy, batch, generator)
        if len(start) <= self.num_neighbours:
            raise InputError(
                f"ImprovedCD: the entropy needs more chains than num_neighbours={self.num_neighbours}, got "
                f"{len(start)}; raise num_chains or batch_size"
            )
        with torch.enable_grad():
            state = self.sampler.init(energy, start.detach().requires_grad_(True))
            state, info = advance(energy, self.sampler, state, num_steps=self.num_steps, generator=generator)
        moving, x = state.x, state.x.detach()
        contrast = self.negatives.compare(energy, batch.x, x, map_tensors(Tensor.detach, info))
        # The values at x, and what a change of x does to them: the parameters in E' get no gradient.
        values, slopes = value_and_gradient(energy, x)
        reached = values.mean() + (slopes * (moving - x)).flatten(1).sum(1).mean()
        spread = entropy(moving, self.num_neighbours)
        divergence = reached - self.entropy_weight * spread
        value = contrast.value + self.weight * divergence
        metrics = {"loss": value.detach(), "entropy": spread.detach(), "divergence": divergence.detach()}
        return Loss(value, {**contrast.metrics, **metrics})


def entropy(x: Tensor, num_neighbours: int) -> Tensor:
    """The entropy in nats of what rows x `[N, *event]` are draws of, from distances to k-th neighbours, with its graph.

    Both a row and its neighbour move. Were the neighbour held fast, log k / (N V r^D) would still be an estimate of
    log q(x) and its slope one of q's, but q smoothed over r, which is wide in many dimensions; a distance between two
    that both move sees a stretch of the whole set as what it is.
    """
    rows = x.flatten(1)
    still = rows.detach()
    distances = torch.cdist(still, still).fill_diagonal_(math.inf)
    neighbour = distances.topk(num_neighbours, largest=False).indices[:, -1]
    # Where chains coincide there is no direction to part in.
    square = (rows - rows[neighbour]).square().sum(1).clamp_min(torch.finfo(x.dtype).tiny)
    size, number = rows.shape[1], len(rows)
    ball = size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1)
    psi = torch.digamma(torch.tensor([number, num_neighbours], dtype=torch.float64))
    return size / 2 * square.log().mean() + ball + float(psi[0] - psi[1])
