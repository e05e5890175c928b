"""Noise contrast: an energy and its log Z, from telling data from noise whose density is known."""

import copy
import math

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, Tractable, dtype_and_device
from energeia.core.errors import InputError, check_count, check_finite
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.warn import warn
from energeia.energies.fitted import check_tractable
from energeia.objectives.bregman import Bregman, Logistic
from energeia.objectives.rows import energies_of, rows_of

# Draws that log Z starts from, and that data are compared with.
_NUM_DRAWS = 1000
# Nats by which covered data may lie below all of these.
_MARGIN = 10.0
_MOST_OUTSIDE = 0.05


class RatioEstimate(Objective):
    """What objectives that learn log p(x) / q(x) share: the log Z that they own beside the energy.

    Args:
        log_z: where it starts, or what it is held at if self_normalised; None is 0 if self_normalised, and else an
            estimate at the first update, by importance sampling from 1000 draws of the noise, the same in every
            process.
        self_normalised: hold it, and let the energy find a scale on which Z is that.
        dtype: of log_z.
    """

    log_z: Tensor
    begun: Tensor

    def __init__(self, *, log_z: float | None, self_normalised: bool, dtype: torch.dtype) -> None:
        super().__init__()
        check_finite(type(self).__name__, log_z=0.0 if log_z is None else log_z)
        value = torch.tensor(0.0 if log_z is None else float(log_z), dtype=dtype)
        if self_normalised:
            self.register_buffer("log_z", value)
        else:
            self.log_z = nn.Parameter(value)
        self._begun = log_z is not None or self_normalised
        self.register_buffer("begun", torch.tensor(self._begun))

    def begin(self, energy: Energy, noise: Energy) -> None:
        """Give log Z a start, at the first update."""
        # The flag in Python spares a wait for the device at every update; the buffer survives a checkpoint.
        if self._begun or not self.training:
            return
        if not bool(self.begun):
            with torch.no_grad():
                draws = _draws(noise)
                log_weight = -energies_of(energy, draws).double() - log_density(noise, draws).double()
                self.log_z.copy_(log_weight.logsumexp(0) - math.log(len(draws)))
                self.begun.fill_(True)
        self._begun = True


class NoiseContrast(RatioEstimate):
    """E_data[log(1 + 1/u)] + nu E_q[log(1 + u)] with u = exp(-E) / (Z nu q): noise-contrastive estimation.

    Args:
        noise: q, an energy with `Tractable` on the space of the model, on any space: `fitted_noise`,
            `Distribution`, `Flow`, `Independent`, `Autoregressive`. It is copied and held fixed.
        ratio: nu >= 1, noise rows drawn for each row of data.
        loss: a `Bregman` divergence; `Logistic` is noise-contrastive estimation.
        log_z: where log Z starts; None is an estimate from the noise at the first update. With self_normalised,
            what it is held at.
        self_normalised: do without a log Z of its own. The energy must then be able to move up and down as a whole,
            as one with a bias in its last layer can.

    log Z is a parameter of the objective, trained with those of the energy: `objective.log_z` is an
    estimate of it, for this energy as it is now.

    Consistent in the number of rows for any noise that is above zero where data are, and any nu. Its bias vanishes,
    as that of maximum likelihood does, like one over the number of rows. Its variance is more than
    that of maximum likelihood by a factor that goes to one as nu grows, and grows with the
    distance of the noise from the data. Value in nats; with `Logistic` and nu = 1, chance gives 2 log 2.

    Cost: one pass of 1 + nu rows of the energy and of the noise for each row of data, no gradient to x.

    Fails where noise is easily told from data: accuracy in the metrics is then near 1, and the loss
    flat; it says nothing then that the model is right in one mode against another. In many dimensions that is the
    rule: take a `Flow`, or `FlowContrast`. Far below 1 and falling towards one half is good. A warning tells where
    data lie outside the noise.

    Metrics: loss, accuracy (mean of those over data and over noise), log_z, energy_data, energy_noise.

    Reference: Gutmann & Hyvarinen (2012), Noise-contrastive estimation of unnormalized statistical models, with
    applications to natural image statistics, https://jmlr.org/papers/v13/gutmann12a.html

    >>> import torch, energeia as en
    >>> x = 2 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    >>> objective = en.NoiseContrast(en.fitted_noise(en.Real(1), x, widen=1.5))
    >>> loss = objective(en.Gaussian(1, scale=2.0), en.Batch(x), torch.Generator().manual_seed(0))
    >>> round(float(loss.metrics["log_z"]), 1)  # log(2 sqrt(2 pi)) = 1.612
    1.6
    """

    def __init__(
        self,
        noise: Energy,
        *,
        ratio: int = 1,
        loss: Bregman = Logistic(),
        log_z: float | None = None,
        self_normalised: bool = False,
    ) -> None:
        check_count("NoiseContrast", ratio=ratio)
        held = fixed(noise, "NoiseContrast")
        super().__init__(log_z=log_z, self_normalised=self_normalised, dtype=dtype_and_device(held)[0])
        self.noise, self.ratio, self.loss = held, ratio, loss
        self._covers = Cover("NoiseContrast")

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrast of the batch with fresh noise."""
        noise = check_tractable("NoiseContrast", "noise", self.noise, energy)
        rows = rows_of(energy, batch, "NoiseContrast")
        self.begin(energy, self.noise)
        x = torch.cat([rows, noise.sample_exact(self.ratio * len(batch.x), generator)])
        log_q = log_density(self.noise, x)
        if self.training:
            self._covers.watch(self.noise, log_q[: len(batch.x)])
        energies = energies_of(energy, x)
        log_ratio = -energies - self.log_z - log_q
        data, others = slice(len(batch.x)), slice(len(batch.x), None)
        value = self.terms(log_ratio[data])[0].mean() + self.terms(log_ratio[others])[1].mean()
        metrics = {
            "loss": value.detach(),
            "accuracy": accuracy(log_ratio[data], log_ratio[others]),
            "log_z": self.log_z.detach().clone(),
            "energy_data": energies[data].detach().mean(),
            "energy_noise": energies[others].detach().mean(),
        }
        return Loss(value, metrics)

    def terms(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """What rows of this log p / q cost as data, and as noise (nu times), each `[B]`.

        The expectation of the loss is E_data of the first and E_q of the second.
        """
        log_u = log_ratio - math.log(self.ratio)
        return self.loss.at_data(log_u), self.ratio * self.loss.at_noise(log_u)


class Cover:
    """Watches whether the noise covers the data, and warns once."""

    def __init__(self, who: str) -> None:
        self._who, self._seen, self._told = who, 0, False

    def watch(self, noise: Energy, log_q: Tensor) -> None:
        """Look at log q of data, at batches number 1, 2, 4, 8 and so on: each look waits for the device."""
        self._seen += 1
        if self._told or self._seen & (self._seen - 1):
            return
        with torch.no_grad():
            least = log_density(noise, _draws(noise)).min()
        outside = log_q.detach() < least - _MARGIN
        impossible = log_q.detach() == -math.inf
        if bool(impossible.any()) or float(outside.double().mean()) > _MOST_OUTSIDE:
            self._told = True
            warn(
                f"{self._who}: the noise does not cover the data: {int(outside.sum())} of {len(log_q)} rows lie up to "
                f"{float(least - log_q.min()):.3g} nats below all {_NUM_DRAWS} draws of it ({int(impossible.sum())} of "
                "them have density 0). Such rows are told from noise at once, and the model learns nothing of them. "
                "Fit the noise to the data and widen it: en.fitted_noise(space, x, widen=1.5)",
            )


def fixed(noise: Energy, who: str) -> Energy:
    """A copy of the noise whose parameters no optimizer moves."""
    if not isinstance(noise, Energy) or noise.capability(Tractable) is None:
        raise InputError(
            f"{who}: noise must be an energy whose log Z is known and that has exact draws (Tractable), got "
            f"{type(noise).__name__}; wrap a torch distribution as en.Distribution(distribution, space) and a flow of "
            "zuko as en.Flow(flow, space), or take en.fitted_noise(space, x)"
        )
    return copy.deepcopy(noise).requires_grad_(False)


def log_density(noise: Energy, x: Tensor) -> Tensor:
    """log q(x) `[B]` of an energy with `Tractable`, detached."""
    tractable = noise.capability(Tractable)
    assert tractable is not None
    with torch.no_grad():
        return -noise(x) - tractable.log_z().value.to(x)


def accuracy(at_data: Tensor, at_noise: Tensor) -> Tensor:
    """How well log p / q tells data from noise, both sides equally weighty: 1/2 by chance, 1 where all are told."""
    at_data, at_noise = at_data.detach(), at_noise.detach()
    return ((at_data > 0).to(at_data).mean() + (at_noise <= 0).to(at_noise).mean()) / 2


def _draws(noise: Energy) -> Tensor:
    """Draws of the noise that are the same in every process."""
    tractable = noise.capability(Tractable)
    assert tractable is not None
    return tractable.sample_exact(_NUM_DRAWS, torch.Generator(dtype_and_device(noise)[1]).manual_seed(0))
