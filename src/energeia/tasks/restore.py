"""Taking noise off."""

from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.space import Box


def denoise(energy: Energy, x: Tensor, *, variance: float) -> Tensor:
    """The mean of the clean point given a noisy x, for a model of noisy data.

    If exp(-E) is the density of clean + N(0, variance I), then
    E[clean | x] = x - variance dE/dx. On a `Box` the result is clamped to it.

    Args:
        energy: a model that was trained on data with Gaussian noise.
        x: noisy points, such as samples of that model, `[B, *event]`.
        variance: of the noise, > 0. If the model is exp(-E / T) (samplers at temperature
            T), give the variance over T.

    Exact for an exact model on `Real`; near the walls of a box, where noise was folded
    back, an approximation. Cost: one gradient.

    Reference: Robbins (1956), An empirical Bayes approach to statistics; Miyasawa (1961).

    >>> import torch, energeia as en
    >>> # clean N(0, 3) with noise N(0, 1) is N(0, 4): the mean of the clean point is 3/4 of x
    >>> denoise(en.Gaussian(1, scale=2.0), torch.tensor([[4.0]]), variance=1.0)
    tensor([[3.]])
    """
    check_positive("denoise", variance=variance)
    _, gradient = value_and_gradient(energy, x)
    clean = x - variance * gradient
    space = energy.space
    return clean.clamp(space.low, space.high) if isinstance(space, Box) else clean
