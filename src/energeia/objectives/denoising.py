"""Denoising score matching: the score of noisy data, told by the noise that was added."""

import torch
from torch import Tensor

from energeia.core.algebra import given
from energeia.core.energy import Energy, NoiseLevels, require
from energeia.core.errors import check_positive
from energeia.core.gradient import score
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.warn import warn
from energeia.objectives.rows import real_rows
from energeia.objectives.score import INSTEAD, warn_of_kinks


class DenoisingScoreMatching(Objective):
    """mean of |sigma s(x + sigma xi) + xi|^2 / 2, xi ~ N(0, I): denoising score matching at one noise level.

    Args:
        noise_scale: sigma, > 0, in units of x.

    Consistent for the density of the data with noise, p * N(0, sigma^2), not for p itself: the model comes out wider.
    `energeia.tasks.restore` takes the noise off a sample. A small sigma is near p, but the loss then has a variance of
    1 / sigma^2 against what is to be learnt, and modes farther apart than the noise reaches do not learn their shares,
    as in all score matching: use `MultiScaleDenoising`. The loss is between 0 and d / 2 at the optimum.

    Cost: one forward and one backward pass with graph, and the pass back through both. No second derivative with
    respect to x is taken, but E must have one: not a network of ReLU, of which a warning tells. For `Real`; a
    `ScoreModel` will do, of ReLU too.

    Reference: Vincent (2011), A connection between score matching and denoising autoencoders,
    https://doi.org/10.1162/NECO_a_00142

    >>> import torch, energeia as en
    >>> objective = en.DenoisingScoreMatching(noise_scale=0.5)
    >>> objective(en.Gaussian(1), en.Batch(torch.zeros(1, 1)), torch.Generator()).value.shape
    torch.Size([])
    """

    def __init__(self, *, noise_scale: float) -> None:
        super().__init__()
        check_positive("DenoisingScoreMatching", noise_scale=noise_scale)
        self.noise_scale = noise_scale
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss per row, on noise of this call."""
        x = real_rows(energy, batch, "DenoisingScoreMatching", why="adds noise to x", instead=INSTEAD)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        self._seen = self._seen or warn_of_kinks(energy, x, "DenoisingScoreMatching")
        value = _denoise(energy, x, noise, self.noise_scale).mean()
        return Loss(value, {"loss": value.detach()})


class MultiScaleDenoising(Objective):
    """mean of |sigma s(x + sigma xi, sigma) + xi|^2 / 2 over noise levels sigma: noise-conditional score matching.

    Each row gets one of the levels of the energy, at random; the factor sigma^2 in the loss makes all levels count
    alike (Song & Ermon 2019). From wide noise to little, the levels carry the shares of separate modes.

    Needs an energy with `NoiseLevels`: `NoiseConditional`, or `NoiseConditionalScore` where the score is enough. Sample
    it by `AnnealedLangevin(over="noise")` or `ReverseDiffusion`; `given(energy, context=level)` is the model of data
    with that much noise, and the energy alone that of the last level.

    Consistent at every level for the data with that noise. The metrics hold the loss of the smallest and the largest
    level that the batch met. Cost: as for `DenoisingScoreMatching`. For `Real`.

    Reference: Song & Ermon (2019), Generative modeling by estimating gradients of the data distribution,
    https://arxiv.org/abs/1907.05600; Li, Chen & Sommer (2019), Learning energy-based models in high-dimensional spaces
    with multi-scale denoising score matching (one energy for all levels), https://arxiv.org/abs/1910.07762
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss per row, on noise and levels of this call."""
        x = real_rows(energy, batch, "MultiScaleDenoising", why="adds noise to x", instead=INSTEAD)
        levels = require(
            energy,
            NoiseLevels,
            who="MultiScaleDenoising",
            instead="take en.NoiseConditional(network, space, levels=...), or DenoisingScoreMatching at one level",
        ).levels
        if not self._seen:
            self._seen = warn_of_kinks(energy, x, "MultiScaleDenoising")
            _warn_if_low(x, float(levels[0]))
        which = torch.randint(0, len(levels), (len(x),), generator=generator, device=x.device)
        level = levels.to(x)[which]
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        losses = _denoise(given(energy, context=level), x, noise, level.view(-1, *[1] * (x.dim() - 1)))
        value = losses.mean()
        metrics = {"loss": value.detach()}
        for name, number in (("largest", which.min()), ("smallest", which.max())):
            metrics[f"loss_{name}_noise"] = losses.detach()[which == number].mean()
        return Loss(value, metrics)


def _denoise(energy: Energy, x: Tensor, noise: Tensor, scale: float | Tensor) -> Tensor:
    """|scale s(x + scale noise) + noise|^2 / 2 of each row, `[B]`."""
    found = score(energy, x + scale * noise, create_graph=True)
    return (scale * found + noise).square().flatten(1).sum(1) / 2


def _warn_if_low(x: Tensor, largest: float) -> None:
    """Warn if the data are wider than the largest noise: modes then stay apart at all levels."""
    spread = float((x - x.mean(0)).square().mean().sqrt())
    if largest < spread:
        warn(
            f"MultiScaleDenoising: the largest noise level, {largest:g}, is below the spread of the data {spread:.3g}; "
            "separate modes do not become one hill, so their shares are not learned, and sampling has no normal to "
            f"start from. Begin the levels at {4 * spread:.2g} or so, and give the model the spread as its scale, or "
            "divide the data by it",
        )
