"""Ranking noise contrast: which of these rows is the data?"""

import math

import torch

from energeia.core.energy import Energy
from energeia.core.errors import check_count
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.energies.fitted import check_tractable
from energeia.objectives.noise import Cover, fixed, log_density
from energeia.objectives.rows import energies_of, rows_of


class RankingNCE(Objective):
    """mean -log s(x_0) / (s(x_0) + sum_m s(y_m)) with s = exp(-E) / q: ranking noise contrast, InfoNCE.

    Each row of data x_0 is ranked against all the noise y_1 ... y_M of the batch.

    Args:
        noise: q, an energy with `Tractable` on the space of the model. It is copied and held fixed.
        ratio: noise rows drawn for each row of data, >= 1: M is that times the rows of the batch, and all are shared.

    Z cancels, and nothing is learned beside the energy. Consistent for every M, for any noise that is above zero
    where data are, up to a constant of the energy. As M grows it becomes maximum likelihood with
    Z by importance sampling from the noise. It needs no log Z to be learned along, as `NoiseContrast` does; but
    where log p/q of data is far above log M the loss is flat. Value in nats; log(1 + M) is what chance gives.

    Cost: one pass of 1 + ratio rows of the energy and of the noise for each row of data. Fails as `NoiseContrast`
    does where noise is easily told from data.

    Metrics: loss, accuracy (share of data ranked first), log_z (by importance sampling from the noise: low on
    average, and far below if M is small), energy_data, energy_noise.

    Reference: Ma & Collins (2018), Noise contrastive estimation and negative sampling for conditional models:
    consistency and statistical efficiency, https://arxiv.org/abs/1809.01812; van den Oord, Li & Vinyals (2018),
    Representation learning with contrastive predictive coding, https://arxiv.org/abs/1807.03748

    >>> import torch, energeia as en
    >>> noise = en.Gaussian(1, scale=3.0)
    >>> batch = en.Batch(torch.randn(64, 1, generator=torch.Generator().manual_seed(0)))
    >>> loss = en.RankingNCE(noise, ratio=10)(en.Gaussian(1), batch, torch.Generator().manual_seed(0))
    >>> round(float(loss.metrics["log_z"]), 1)  # log sqrt(2 pi) = .919
    0.9
    """

    def __init__(self, noise: Energy, *, ratio: int = 1) -> None:
        super().__init__()
        check_count("RankingNCE", ratio=ratio)
        self.noise, self.ratio = fixed(noise, "RankingNCE"), ratio
        self._covers = Cover("RankingNCE")

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The ranking of the batch among fresh noise."""
        noise = check_tractable("RankingNCE", "noise", self.noise, energy)
        data, others = slice(len(batch.x)), slice(len(batch.x), None)
        x = torch.cat([rows_of(energy, batch, "RankingNCE"), noise.sample_exact(self.ratio * len(batch.x), generator)])
        log_q = log_density(self.noise, x)
        if self.training:
            self._covers.watch(self.noise, log_q[data])
        energies = energies_of(energy, x)
        log_s = -energies - log_q
        together = log_s[others].logsumexp(0)
        # Not logsumexp over all: where q is 0 at a row of data its s is infinite, and the row is simply known.
        value = torch.nn.functional.softplus(together - log_s[data], threshold=40).mean()
        metrics = {
            "loss": value.detach(),
            "accuracy": (log_s[data] > log_s[others].max()).to(value).mean(),
            "log_z": together.detach() - math.log(len(log_s[others])),
            "energy_data": energies[data].detach().mean(),
            "energy_noise": energies[others].detach().mean(),
        }
        return Loss(value, metrics)
