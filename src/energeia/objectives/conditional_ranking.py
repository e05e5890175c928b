"""Noise contrast for regression: the right answer found among noisy copies of it."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from energeia.core.answers import repeated
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Box, Real
from energeia.objectives.margin import posed
from energeia.search.descent import inside

Centre = Literal["shared", "answer"]


class ConditionalRanking(Objective):
    """mean -log [w_0 / sum_m w_m]: which of M + 1 answers is the right one? y_0 = y is, y_1 .. y_M are noisy.

    With q(. | c) a mixture of Gaussians around c, in equal shares:

    - centre="shared": c ~ q(. | y), then y_1 .. y_M ~ q(. | c), and w_m = exp(-E(x, y_m)). Seen from c all M + 1 are
      alike, as q is symmetric, so w_m / sum w is the chance that y_m is the right one, and the loss is consistent for
      any M: as data grow the model's p(y | x) is right. Small M costs efficiency.
    - centre="answer": y_1 .. y_M ~ q(. | y) and w_m = exp(-E(x, y_m)) / q(y_m | y), as Gustafsson et al. have it. sum w
      estimates Z(x) by importance sampling, y itself among its draws: as M grows the loss becomes the likelihood, with
      less variance than the shared centre. For finite M it is biased, as where the noise lies gives the right answer
      away: N(0, 1) is learnt with scales .1 and .8 as of standard deviation .55 for M = 1, .94 for 8, 1.05 for 64.

    Args:
        scales: standard deviations of the Gaussians, in units of y, each > 0; the widest must reach wherever the model
            could put mass, the narrowest resolve its peaks.
        num_noise: M, noisy answers for a row, >= 1.
        centre: what the noise lies around.

    For real answers of any number of dimensions (`Real`, or `Box`, where answers that fall outside have w = 0). The
    value depends on q: it is no likelihood. Cost: M + 1 evaluations a row, features of x once.

    Reference: Gustafsson, Danelljan, Timofte & Schon (2020), How to train your energy-based model for regression,
    https://arxiv.org/abs/2005.01698; Ma & Collins (2018), Noise contrastive estimation and negative sampling for
    conditional models, https://arxiv.org/abs/1809.01812; for noise made from the data, Ceylan & Gutmann (2018),
    Conditional noise-contrastive estimation of unnormalised models, https://arxiv.org/abs/1806.03664
    """

    def __init__(self, scales: Sequence[float], *, num_noise: int = 64, centre: Centre = "shared") -> None:
        super().__init__()
        check_count("ConditionalRanking", num_noise=num_noise)
        if not scales:
            raise InputError(
                "ConditionalRanking: scales is empty; give the noise's standard deviations, such as [0.1, 0.8]"
            )
        for scale in scales:
            check_positive("ConditionalRanking", scales=scale)
        if centre not in get_args(Centre):
            raise InputError(f'ConditionalRanking: centre must be "shared" or "answer", got {centre!r}')
        self.scales, self.num_noise = [float(scale) for scale in scales], num_noise
        self.centre: Centre = centre

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over rows, and how often the right answer is the likeliest of all."""
        case = posed(energy, batch, "ConditionalRanking")
        space, y = case.field.space, case.y
        if not isinstance(space, Real | Box):
            raise InputError(
                f"ConditionalRanking is for real answers, got {space}; take en.ConditionalLikelihood or en.Margin"
            )
        scales = torch.tensor(self.scales, dtype=y.dtype, device=y.device)
        offsets = self._offsets(y, scales, generator)
        answers = (y.unsqueeze(1) + offsets).flatten(0, 1)
        # What an energy says of answers outside does not count, so it is not asked there.
        levels = repeated(case.field, self.num_noise + 1)(inside(space, answers))
        weights = -levels.view(len(y), -1)
        if self.centre == "answer":
            weights = weights - _log_density(offsets.flatten(2), scales)
        if isinstance(space, Box):
            weights = torch.where(space.contains(answers).view_as(weights), weights, -torch.inf)
        value = (weights.logsumexp(1) - weights[:, 0]).mean()
        metrics = {
            "loss": value,
            "energy_data": case.right.mean(),
            "found": (weights.argmax(1) == 0).to(value.dtype).mean(),
        }
        return Loss(value, {name: metric.detach() for name, metric in metrics.items()})

    def _offsets(self, y: Tensor, scales: Tensor, generator: torch.Generator) -> Tensor:
        """y_m - y `[B, M + 1, *event]`, zero the first."""
        shape = (len(y), self.num_noise + (self.centre == "shared"))
        which = torch.randint(len(scales), shape, generator=generator, device=y.device)
        noise = torch.randn(*shape, *y.shape[1:], generator=generator, dtype=y.dtype, device=y.device)
        noise = scales[which].view(*shape, *[1] * (y.dim() - 1)) * noise
        if self.centre == "shared":
            noise = noise[:, :1] + noise[:, 1:]
        return torch.cat([torch.zeros_like(noise[:, :1]), noise], 1)


def _log_density(offsets: Tensor, scales: Tensor) -> Tensor:
    """log q at offsets from the centre `[B, M, D]`: `[B, M]`."""
    squares = offsets.square().sum(2).unsqueeze(2)
    logs = -squares / (2 * scales**2) - offsets.shape[2] * (scales.log() + math.log(2 * math.pi) / 2)
    return logs.logsumexp(2) - math.log(len(scales))
