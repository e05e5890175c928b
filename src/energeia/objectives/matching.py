"""Energy matching: far from the data the energy is a flow towards them, near them their log density."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.objectives.contrastive import Contrastive
from energeia.objectives.rows import real_rows
from energeia.objectives.score import warn_of_kinks


class EnergyMatching(Objective):
    """mean |T dE/dx(x_t) + x_1 - x_0|^2 + weight (mean E(data) - mean E(negatives)).

    x_1 is a row, x_0 a start point of the space, x_t = (1 - t) x_0 + t x_1, t uniform up to until. Within the batch
    the x_0 are dealt out so that the sum of |x_1 - x_0|^2 is least, which makes paths straight and keeps them from
    crossing. The first term is flow matching with a velocity -dV/dx, V = T E, that does not depend on t: noise runs
    down V to the data in a time near 1. The second is contrastive divergence and makes exp(-E) their density.

    Args:
        contrastive: the second term, such as `ContrastiveDivergence(FlowLangevin(T, n), n + 10, start="noise")`;
            None for the first term alone.
        temperature: T, > 0: how much faster noise flows than the chain at exp(-E) moves. Small T makes E deep where
            the noise is: V falls by about |x_1 - x_0|^2 on the way.
        weight: of the contrastive term, > 0.
        until: the last t, > 0, at most 1. Below 1 the flow is not asked for where the data are.
        warmup: updates in training with the first term alone, >= 0: the first phase.

    The first term has no density in it; the second is consistent as its negatives are. Together they are only where the
    paths do not meet the data: there the flow wants -T dE/dx to be the velocity E[x_1 - x_0 | x_t = x], not T times a
    score. So choose until below 1 once the contrastive term is on, or end with the contrastive objective alone. A
    scalar E gives a velocity without curl, and one that cannot depend on t: data that are wider or narrower than
    the noise are matched on average over t only.

    What is learned first of all is a sampler. Chains that start at noise and stop at time 1 or soon after do not see
    exp(-E) as a whole: of two modes 6 apart with shares .25 and .75 they drew .25 and .75, while exp(-E), integrated,
    had less than .0001 in the first (KL 2.9 nats). Likelihoods need chains that mix, as with every short-run training.

    Equilibrium matching (Wang & Du 2025, https://arxiv.org/abs/2510.02300) was left out: its field descends to data
    too, but nothing makes exp(-E) their density, so that log-likelihoods, compositions and samplers of this
    library would not mean anything with it.

    Cost: one gradient with a graph of each row, an assignment of O(B^3) on the CPU (5 ms for 200 rows, 250 ms for
    1,000), and the contrastive term. Needs a twice differentiable network. For `Real` spaces.

    Reference: Balcerak, Amiranashvili, Terpin, Shit, Bogensperger, Kaltenbach, Koumoutsakos & Menze (2025), Energy
    matching: unifying flow matching and energy-based models for generative modeling,
    https://arxiv.org/abs/2504.10612; Tong et al. (2023), Improving and generalizing flow-based generative models
    with minibatch optimal transport, https://arxiv.org/abs/2302.00482

    >>> import torch, energeia as en
    >>> contrastive = en.ContrastiveDivergence(en.FlowLangevin(temperature=0.1, num_steps=10), 12, start="noise")
    >>> objective = en.EnergyMatching(contrastive, temperature=0.1, until=0.9, weight=0.1)
    >>> loss = objective(en.Neural(en.MLP(2), en.Real(2)), en.Batch(torch.ones(5, 2)), torch.Generator())
    >>> loss.value.backward()
    """

    num_done: Tensor

    def __init__(
        self,
        contrastive: Contrastive | None = None,
        *,
        temperature: float = 0.1,
        weight: float = 1.0,
        until: float = 1.0,
        warmup: int = 0,
    ) -> None:
        super().__init__()
        check_positive("EnergyMatching", temperature=temperature, weight=weight, until=until)
        if until > 1:
            raise InputError(f"EnergyMatching: until is a time of at most 1, got {until}")
        if not isinstance(warmup, int) or warmup < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"EnergyMatching: warmup must be an integer of at least 0, got {warmup!r}")
        self.contrastive, self.temperature, self.weight = contrastive, float(temperature), float(weight)
        self.until, self.warmup, self._seen = float(until), warmup, False
        self.register_buffer("num_done", torch.zeros((), dtype=torch.int64))

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The flow's loss, and the contrastive one after the warm-up."""
        instead = "use ContrastiveDivergence or PersistentCD there"
        x = real_rows(energy, batch, "EnergyMatching", why="moves points of noise to data", instead=instead)
        self._seen = self._seen or warn_of_kinks(energy, x, "EnergyMatching")
        noise = assign(energy.space.start(len(x), generator, dtype=x.dtype), x)
        time = self.until * torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
        time = time.view(-1, *[1] * (x.dim() - 1))
        velocity = x - noise
        _, gradient = value_and_gradient(energy, noise + time * velocity, create_graph=True)
        flow = (self.temperature * gradient + velocity).flatten(1).square().sum(1).mean()
        value, metrics = flow, {"flow": flow.detach()}
        if self.contrastive is not None and int(self.num_done) >= self.warmup:
            contrast = self.contrastive(energy, batch, generator)
            value = flow + self.weight * contrast.value
            metrics = {**contrast.metrics, **metrics}
        if self.training:
            self.num_done += 1
        return Loss(value, {**metrics, "loss": value.detach()})


def assign(noise: Tensor, x: Tensor) -> Tensor:
    """The noise `[B, *event]` in the order in which the sum of squared distances to rows x is least."""
    distances = torch.cdist(x.flatten(1), noise.flatten(1)).square()
    _, order = linear_sum_assignment(distances.double().cpu().numpy())
    return noise[torch.as_tensor(order, device=noise.device)]
