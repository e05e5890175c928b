"""Noise contrast against noise that learns: flow contrast, and adversarial contrastive estimation."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from energeia.core.energy import Energy, Explicit, Reparameterised, Tractable, dtype_and_device
from energeia.core.errors import CapabilityError, InputError, check_count
from energeia.core.gradient import frozen
from energeia.core.record import Batch, Loss
from energeia.energies.fitted import check_tractable
from energeia.objectives.bregman import Logistic
from energeia.objectives.noise import RatioEstimate, accuracy, fixed, log_density
from energeia.objectives.rows import energies_of, rows_of
from energeia.objectives.turns import Turns

_LOSS = Logistic()


class LearnedNoise(RatioEstimate):
    """Noise contrast in which the noise is trained against the energy: one loss, two players.

    The energy lowers L = E_data[log(1 + 1/u)] + nu E_q[log(1 + u)], u = exp(-E) / (Z nu q), and the noise raises it,
    which takes q to where it cannot be told from data. The loss's value is L. Its gradient is that of L for
    the energy and log Z, and that of -L for the noise, with the other side held fast in each.

    Args:
        noise: the noise that learns.
        fixed_noise: noise that does not, mixed in, so that the data stay covered; None is none.
        share: of the fixed noise, 0 to 1.
        ratio: nu >= 1.
        turns: updates of the energy and then of the noise, in alternation, (1, 1) or (5, 1) for instance; None moves
            both at every update.
        log_z: as in `NoiseContrast`.
    """

    def __init__(
        self,
        noise: Energy,
        *,
        fixed_noise: Energy | None,
        share: float,
        ratio: int,
        turns: tuple[int, int] | None,
        log_z: float | None,
    ) -> None:
        who = type(self).__name__
        check_count(who, ratio=ratio)
        if fixed_noise is not None and not 0 < share < 1:
            raise InputError(f"{who}: share of the fixed noise must lie between 0 and 1, got {share!r}")
        super().__init__(log_z=log_z, self_normalised=False, dtype=dtype_and_device(noise)[0])
        self.noise = noise
        self.fixed_noise = None if fixed_noise is None else fixed(fixed_noise, who)
        self.share, self.ratio, self.turns = (0.0 if fixed_noise is None else float(share)), ratio, Turns(who, turns)

    @abstractmethod
    def rows(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Draws of the noise that learns `[num_rows, *event]`, with their graph to its parameters if there is one."""

    @abstractmethod
    def raised(self, at_data: Tensor, at_noise: Tensor, log_q: Tensor) -> Tensor:
        """A scalar with the gradient of E_data[at_data] + E_q[at_noise] for the noise.

        Args:
            at_data, at_noise: what rows of data and of noise cost, `[B]` and `[N]`, with their graph through log q and
                through the rows themselves.
            log_q: of the rows of noise `[N]`, with its graph to the parameters.
        """

    def log_q(self, x: Tensor) -> Tensor:
        """log q(x) `[B]` of all the noise, with its graph."""
        explicit = self.noise.capability(Explicit)
        assert explicit is not None
        log_q = explicit.log_prob(x)
        if self.fixed_noise is None:
            return log_q
        held = -self.fixed_noise(x) - _tractable(self.fixed_noise).log_z().value.to(x)
        return torch.logaddexp(log_q + math.log1p(-self.share), held + math.log(self.share))

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrast of the batch, for both players."""
        check_tractable(type(self).__name__, "noise", self.noise, energy)
        rows_of(energy, batch, type(self).__name__)
        self.begin(energy, self.noise if self.fixed_noise is None else self.fixed_noise)
        moves_energy, moves_noise = self.turns()
        size = len(batch.x)
        y = self._draw(energy, self.ratio * size, generator)
        x = torch.cat([batch.x, y.detach()])
        log_q = self.log_q(batch.x), self.log_q(y)

        with torch.set_grad_enabled(torch.is_grad_enabled() and moves_energy):
            energies = energies_of(energy, x)
            log_ratio = -energies - self.log_z - torch.cat(log_q).detach()
            at_data, at_noise = self.terms(log_ratio[:size])[0], self.terms(log_ratio[size:])[1]
            value = at_data.mean() + at_noise.mean()
        metrics = {
            "loss": value.detach(),
            "accuracy": accuracy(log_ratio[:size], log_ratio[size:]),
            "log_z": self.log_z.detach().clone(),
            "noise_log_prob": self._log_prob(batch.x),
            "energy_data": energies[:size].detach().mean(),
            "energy_noise": energies[size:].detach().mean(),
        }
        if moves_noise:
            still = -energies[:size].detach() - self.log_z.detach() - log_q[0]
            # Through y too, if it has a graph: the energy is a fixed function of it.
            there = frozen(energy)(y) if y.requires_grad else energies[size:].detach()
            moving = -there - self.log_z.detach() - log_q[1]
            against = -self.raised(self.terms(still)[0], self.terms(moving)[1], log_q[1])
            value = value + against - against.detach()
        return Loss(value, metrics)

    def terms(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """What rows of this log p / q cost as data, and as noise (nu times), each `[B]`."""
        log_u = log_ratio - math.log(self.ratio)
        return _LOSS.at_data(log_u), self.ratio * _LOSS.at_noise(log_u)

    def _draw(self, energy: Energy, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows of all the noise: the share of the fixed one to the row, in expectation exactly."""
        if self.fixed_noise is None:
            return self.rows(num_rows, generator)
        held = check_tractable(type(self).__name__, "fixed noise", self.fixed_noise, energy)
        coins = torch.rand(num_rows, generator=generator, device=generator.device) < self.share
        count = int(coins.sum())
        parts = [held.sample_exact(count, generator)] if count else []
        parts += [self.rows(num_rows - count, generator)] if count < num_rows else []
        return torch.cat(parts)

    def _log_prob(self, x: Tensor) -> Tensor:
        """Mean log-likelihood of the noise that learns."""
        with torch.no_grad():
            return log_density(self.noise, x).mean()


class FlowContrast(LearnedNoise):
    """Noise contrast of an energy with a flow that is trained against it: flow contrastive estimation.

    L = E_data[log(1 + 1/u)] + nu E_q[log(1 + u)] with u = exp(-E) / (Z nu q) is lowered by the energy and raised by
    the flow q, whose draws are a differentiable function of its parameters. With the energy at its optimum and nu = 1,
    L is 2 log 2 - 2 JS(data, q): the flow descends the Jensen-Shannon divergence from the data.

    Args:
        flow: an energy with `Reparameterised` and `Tractable`, such as `Flow.spline(...)`, trained to maximum
            likelihood first: `en.fit(flow, en.ExactLikelihood(), data)`. It is trained in place, with the energy.
        fixed_noise: noise mixed in that does not learn, such as `fitted_noise(space, x, widen=1.5)`, so that the data
            stay covered whatever the flow does; None is none.
        share: of the fixed noise, between 0 and 1.
        ratio: nu, noise rows for each row of data, >= 1.
        turns: (updates of the energy, updates of the flow) in alternation; None moves both at every update. A player
            whose turn it is not gets no gradient. On several processes it gets one of zero, by which the momentum of
            an optimizer still moves it.
        log_z: where log Z starts; None is an estimate from the noise at the first update.

    The energy is consistent as in `NoiseContrast`, for whatever the flow is at the time, and its variance falls as the
    flow comes nearer; the flow's optimum is the data if it can be that. With both moving there is no proof
    that they arrive: watch accuracy, which should fall towards 1/2, and noise_log_prob, the mean log-likelihood of the
    flow on the batch (on held-out data in validation), which may get worse than that of maximum likelihood.

    Cost: 1 + 2 nu rows of the energy for each row of data, one gradient to x, and density and draws of the flow.
    An autoregressive flow takes d passes for a draw: `Flow.spline(coupling=True)` takes two.

    Metrics: loss, accuracy, log_z, noise_log_prob, energy_data, energy_noise.

    Reference: Gao, Nijkamp, Kingma, Xu, Dai & Wu (2020), Flow contrastive estimation of energy-based models,
    https://arxiv.org/abs/1912.00589

    >>> import torch, energeia as en
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> objective = en.FlowContrast(en.Flow.spline(en.Real(2), x=x, widths=(8,)))
    >>> loss = objective(en.Gaussian(2), en.Batch(x), torch.Generator().manual_seed(0))
    >>> sorted(loss.metrics)
    ['accuracy', 'energy_data', 'energy_noise', 'log_z', 'loss', 'noise_log_prob']
    """

    def __init__(
        self,
        flow: Energy,
        *,
        fixed_noise: Energy | None = None,
        share: float = 0.5,
        ratio: int = 1,
        turns: tuple[int, int] | None = None,
        log_z: float | None = None,
    ) -> None:
        instead = "en.Flow.spline(space, x=x), or en.Flow(flow, space) of zuko's; without a gradient, AdversarialNCE"
        _check_player(flow, Reparameterised, "FlowContrast", instead)
        super().__init__(flow, fixed_noise=fixed_noise, share=share, ratio=ratio, turns=turns, log_z=log_z)

    def rows(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Draws with their graph."""
        player = self.noise.capability(Reparameterised)
        assert player is not None
        return player.rsample(num_rows, generator)

    def raised(self, at_data: Tensor, at_noise: Tensor, log_q: Tensor) -> Tensor:
        """The mean itself: the graph goes through the rows."""
        return at_data.mean() + at_noise.mean()


class AdversarialNCE(LearnedNoise):
    """Noise contrast with an adversary mixed into the noise: adversarial contrastive estimation.

    L as in `FlowContrast`, with noise that is fixed in one part and learns in the other, to be hard to tell from data.
    The adversary's draws need no gradient, so it may be discrete: dL is E_q[(f - b) d log q] and the explicit part,
    f = log(1 + u), with the mean of the other rows' f as b (REINFORCE).

    Args:
        adversary: an energy with `Explicit` and `Tractable` and with parameters, such as `Autoregressive` on bits. It
            is trained in place, with the energy.
        fixed_noise: the noise it is mixed into, such as `fitted_noise(space, x)`, which keeps the data covered.
        share: of the fixed noise, between 0 and 1.
        ratio: nu, noise rows for each row of data, >= 1.
        turns: as in `FlowContrast`.
        log_z: where log Z starts; None is an estimate from the fixed noise at the first update.

    The energy is consistent as in `NoiseContrast`. The adversary's gradient has far more variance than that of a flow:
    take many rows, and on `Real` a `FlowContrast`. In the original the adversary sees a context and its density stays
    out of the loss of the energy; here it is in it, which keeps the energy consistent.

    Cost: 1 + 2 nu rows of the energy for each row of data, and density and draws of the noise; no gradient to x.
    Batches of two noise rows at least. Metrics as of `FlowContrast`.

    Reference: Bose, Ling & Cao (2018), Adversarial contrastive estimation, https://arxiv.org/abs/1805.03642

    >>> import torch, energeia as en
    >>> x = torch.bernoulli(torch.full((64, 4), 0.3), generator=torch.Generator().manual_seed(0))
    >>> space = en.Binary(4)
    >>> objective = en.AdversarialNCE(en.Autoregressive(space), en.fitted_noise(space, x))
    >>> loss = objective(en.BoltzmannMachine(4), en.Batch(x), torch.Generator().manual_seed(0))
    >>> round(float(loss.metrics["noise_log_prob"]), 2)  # -4 log 2
    -2.77
    """

    def __init__(
        self,
        adversary: Energy,
        fixed_noise: Energy,
        *,
        share: float = 0.5,
        ratio: int = 1,
        turns: tuple[int, int] | None = None,
        log_z: float | None = None,
    ) -> None:
        _check_player(adversary, Explicit, "AdversarialNCE", "en.Autoregressive on discrete spaces, en.Flow on Real")
        super().__init__(adversary, fixed_noise=fixed_noise, share=share, ratio=ratio, turns=turns, log_z=log_z)

    def rows(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Draws without a graph."""
        return _tractable(self.noise).sample_exact(num_rows, generator)

    def raised(self, at_data: Tensor, at_noise: Tensor, log_q: Tensor) -> Tensor:
        """The explicit part, and what more rows of a kind would bring."""
        if len(at_noise) < 2:
            raise InputError("AdversarialNCE: needs two rows of noise at least; take ratio=2, or larger batches")
        reward = at_noise.detach()
        others = (reward.sum() - reward) / (len(reward) - 1)
        return at_data.mean() + at_noise.mean() + ((reward - others) * log_q).mean()


def _check_player(noise: Energy, kind: type, who: str, instead: str) -> None:
    found = noise.capability(kind) if isinstance(noise, Energy) else None
    if found is None or noise.capability(Tractable) is None:
        raise CapabilityError(
            f"{who}: the noise that learns needs {kind.__name__} and Tractable, which {type(noise).__name__} does not "
            f"offer; use {instead}"
        )
    if not any(parameter.requires_grad for parameter in noise.parameters()):
        raise InputError(
            f"{who}: {type(noise).__name__} has no trainable parameters; use en.NoiseContrast for fixed noise"
        )


def _tractable(noise: Energy) -> Tractable:
    found = noise.capability(Tractable)
    assert found is not None
    return found
