"""Adversarial maximum likelihood: a sampler that learns along stands in for the chains."""

import torch
from torch import Tensor

from energeia.core.energy import Energy, Reparameterised
from energeia.core.errors import CapabilityError, InputError, check_count, check_finite
from energeia.core.gradient import value_and_gradient
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.objectives.generator import Generator
from energeia.objectives.rows import energies_of, rows_of
from energeia.objectives.turns import Turns


class AdversarialLikelihood(Objective):
    """min over E, max over q of mean E(data) - E_q[E(x)] + H(q): maximum likelihood with a learned sampler.

    log Z = max over q of H(q) - E_q[E], reached at q = p. The gradient for the energy is that of contrastive
    divergence with draws of q. That for the sampler is the gradient of KL(q || p), taken along its draws: the mean of
    (dE/dx + d log q/dx) dx/d phi, without the part of the parameters of log q itself, which is zero on average. At
    q = p it is zero row by row.

    Args:
        sampler: q: an energy with `Reparameterised`, such as `Flow.spline(...)`, which knows its
            entropy, or a `Generator`, which estimates it. It is trained in place, with the energy.
        num_samples: draws of the sampler an update; None is as many as the batch has rows.
        gradient_penalty: times the mean of |dE/dx|^2 at the data, added to the loss of the energy, >= 0; .1
            steadies a network against a weak sampler, and biases it.
        turns: (updates of the energy, updates of the sampler) in alternation; None moves both at every update.

    Consistent as long as q is p: for an optimal sampler at every update, which no proof promises. A sampler
    that misses a mode of the model is not told (KL(q || p) is blind there), and the energy then sinks
    where nobody looks. The value of the loss, in nats, is with a flow on average never above the negative
    log-likelihood, and equal to it at q = p. With a `Generator` it carries the error of its entropy.

    Two players that move alike run away from each other: train a flow to maximum likelihood first, and give it more
    updates than the energy and no momentum: turns=(1, 4) and `Adam(betas=(0, .9))`. Even so `NoiseContrast` gets closer
    where its noise can be fitted: on four modes in the plane it came to .01 nats from the truth, this to .07 with a
    flow, to 2 with a `Generator`, which has to join the modes, and to 16 with a flow and plain Adam.

    Cost: 2 rows of the energy for each row of data, a gradient to x of the draws, and of the sampler a draw, a density
    and a gradient to x.

    Metrics: loss, energy_data, energy_negatives, gap, and log_z, which with a flow is a lower bound on average.

    Reference: Grathwohl, Kelly, Hashemi, Norouzi, Swersky & Duvenaud (2021), No MCMC for me: amortized sampling for
    fast and stable training of energy-based models, https://arxiv.org/abs/2010.04230; the gradient along draws: Roeder,
    Wu & Duvenaud (2017), Sticking the landing, https://arxiv.org/abs/1703.09194

    >>> import torch, energeia as en
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> objective = en.AdversarialLikelihood(en.Flow.spline(en.Real(2), x=x, widths=(8,)))
    >>> loss = objective(en.Gaussian(2), en.Batch(x), torch.Generator().manual_seed(0))
    >>> bool(loss.metrics["log_z"] < 1.84)  # log 2 pi
    True
    """

    def __init__(
        self,
        sampler: Energy | Generator,
        *,
        num_samples: int | None = None,
        gradient_penalty: float = 0.0,
        turns: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        who = "AdversarialLikelihood"
        if not isinstance(sampler, Generator) and (
            not isinstance(sampler, Energy) or sampler.capability(Reparameterised) is None
        ):
            raise CapabilityError(
                f"{who}: the sampler must be an energy with draws that have a gradient (Reparameterised), such as "
                f"en.Flow, or an en.Generator; got {type(sampler).__name__}"
            )
        check_count(who, num_samples=1 if num_samples is None else num_samples)
        check_finite(who, gradient_penalty=gradient_penalty)
        if gradient_penalty < 0:
            raise InputError(f"{who}: gradient_penalty is at least 0, got {gradient_penalty}")
        self.sampler, self.num_samples, self.gradient_penalty = sampler, num_samples, float(gradient_penalty)
        self.turns = Turns(who, turns)

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrast of the batch with the sampler's draws, for both players."""
        if not self.sampler.space.same_set(energy.space):
            raise InputError(
                f"AdversarialLikelihood: the sampler lives on {self.sampler.space} and the energy on {energy.space}"
            )
        rows_of(energy, batch, "AdversarialLikelihood")
        number = len(batch.x) if self.num_samples is None else self.num_samples
        x, log_q, score = self._draw(number, generator)
        energies = energies_of(energy, torch.cat([batch.x, x.detach()]))
        data, negatives = energies[: len(batch.x)].mean(), energies[len(batch.x) :].mean()
        value = data - negatives - log_q.mean()
        if self.gradient_penalty > 0:
            slope = value_and_gradient(energy, batch.x.detach(), create_graph=torch.is_grad_enabled())[1]
            value = value + self.gradient_penalty * slope.square().flatten(1).sum(1).mean()
        metrics = {
            "loss": value.detach(),
            "energy_data": data.detach(),
            "energy_negatives": negatives.detach(),
            "gap": (data - negatives).detach(),
            "log_z": -negatives.detach() - log_q.mean(),
        }
        moves_energy, moves_sampler = self.turns()
        if not moves_energy:
            value = value.detach()
        if moves_sampler:
            pull = value_and_gradient(energy, x.detach())[1] + score
            along = (pull.detach() * x).flatten(1).sum(1).mean()
            # It moves the sampler and adds nothing to the value.
            value = value + along - along.detach()
        return Loss(value, metrics)

    def _draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draws x with their graph, log q `[N]` and d log q / dx there, both detached."""
        if isinstance(self.sampler, Generator):
            drawn = self.sampler.rsample(number, generator)
            return drawn.x, *self.sampler.density(drawn, generator)
        player = self.sampler.capability(Reparameterised)
        assert player is not None
        x = player.rsample(number, generator)
        # The slope of the sampler's own energy, whatever its log Z.
        score = -value_and_gradient(self.sampler, x.detach())[1]
        with torch.no_grad():
            return x, player.log_prob(x), score
