"""One network for the data at every noise level."""

import inspect
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import InputError, check_positive
from energeia.core.space import Real
from energeia.energies.neural import Activation, activation_of
from energeia.energies.score_model import known_by_slope


class _OfAllLevels(Energy):
    """What an energy and a score of all noise levels are made of."""

    levels: Tensor

    def __init__(self, network: nn.Module, space: Real, *, levels: Sequence[float], scale: float = 1.0) -> None:
        super().__init__(space)
        if not _takes_two(network):
            raise InputError(
                f"{type(self).__name__}: the network is called with (x [B, *event], level [B]), which "
                f"{type(network).__name__} does not take; use en.LevelMLP, or a module with forward(x, level)"
            )
        self.network = network
        self.scale = float(scale)
        self.register_buffer("levels", _falling(type(self).__name__, space, network, levels, scale))
        dtype, device = dtype_and_device(network)
        validate(self, space.start(4, torch.Generator(device).manual_seed(0), dtype=dtype))


class NoiseConditional(_OfAllLevels):
    """E(x, sigma) = |x|^2 / (2 (sigma^2 + c^2)) + (c / sigma) f(x / sqrt(sigma^2 + c^2), log(sigma) / 4).

    The energy of data with Gaussian noise of standard deviation sigma, for a ladder of levels. Around the network f is
    what is known beforehand: data of spread c about zero with noise added are about N(0, sigma^2 + c^2), which is the
    first term; with c / sigma before f, the network's output and its slope are of order one at every level (Karras et
    al. 2022).

    Args:
        network: f, maps (x `[B, *event]`, c `[B]`) to `[B]` or `[B, 1]`, such as `LevelMLP`.
        space: `Real`.
        levels: noise levels sigma, > 0, strictly falling: the largest covers the distances between the modes,
            the last is the noise that the model keeps. Steps by a factor of 1.5 to 2 overlap well.
        scale: c, > 0, the spread of the data about zero, in units of x.

    `energy(x)` is at the last level, `energy(x, sigma)` and `given(energy, context=sigma)` at any, one for
    all rows or one for each `[B]`. Has the capability `NoiseLevels`. Train by `MultiScaleDenoising`, sample by
    `ReverseDiffusion` or `AnnealedLangevin(over="noise")`. The energies of different levels have log Z's of their own:
    compare E only within a level.

    Reference: Song & Ermon (2019), https://arxiv.org/abs/1907.05600; Karras, Aittala, Aila & Laine (2022), Elucidating
    the design space of diffusion-based generative models, https://arxiv.org/abs/2206.00364 (the scaling, there of a
    denoiser).

    >>> import torch, energeia as en
    >>> energy = en.NoiseConditional(en.LevelMLP(2), en.Real(2), levels=(2.0, 1.0, 0.5))
    >>> x = torch.zeros(3, 2)
    >>> bool((energy(x) == en.given(energy, context=torch.tensor(0.5))(x)).all())
    True
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """E(x, sigma) `[B]`; sigma is `context`, a number or `[B]`, or the last level."""
        sigma = _rows(self.levels, context, x)
        total = (sigma.square() + self.scale**2).sqrt()
        wide = total.view(-1, *[1] * (x.dim() - 1))
        found = self.network(x / wide, sigma.log() / 4)
        if found.shape not in ((len(x),), (len(x), 1)):
            raise InputError(
                f"NoiseConditional: the network returned shape {tuple(found.shape)} for x of shape {tuple(x.shape)}; "
                "an energy is one number for each row, [B] or [B, 1]; a score is en.NoiseConditionalScore"
            )
        found = found.view(len(x))
        return (x / wide).square().flatten(1).sum(1) / 2 + self.scale / sigma * found


class NoiseConditionalScore(_OfAllLevels):
    """s(x, sigma) = -x / (sigma^2 + c^2) - c / (sigma sqrt(sigma^2 + c^2)) f(x / sqrt(sigma^2 + c^2), log(sigma) / 4).

    As `NoiseConditional`, with a network f that gives the score, of the shape of x, instead of an energy: one pass
    forward instead of forward and back, and no E(x). See `ScoreModel` for what it can be used for.

    Args:
        network: f, maps (x `[B, *event]`, c `[B]`) to the shape of x, such as `LevelMLP(event, event)`.
        space, levels, scale: as for `NoiseConditional`.

    >>> import torch, energeia as en
    >>> model = en.NoiseConditionalScore(en.LevelMLP(2, 2), en.Real(2), levels=(2.0, 1.0, 0.5))
    >>> en.score(model, torch.zeros(3, 2)).shape
    torch.Size([3, 2])
    """

    @property
    def score_model(self) -> Energy:
        """Itself."""
        return self

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """NaN `[B]`, whose gradient is minus the score at sigma = `context` or the last level."""
        sigma = _rows(self.levels, context, x).view(-1, *[1] * (x.dim() - 1))
        total = (sigma.square() + self.scale**2).sqrt()

        def score(x: Tensor) -> Tensor:
            found = self.network(x / total, sigma.flatten().log() / 4)
            if found.numel() != x.numel() or len(found) != len(x):
                raise InputError(
                    f"NoiseConditionalScore: the network returned shape {tuple(found.shape)} for x of shape "
                    f"{tuple(x.shape)}; a score has as many numbers as x: en.LevelMLP(event, {x[0].numel()}); one for "
                    "each row is an energy, en.NoiseConditional"
                )
            found = found.view(x.shape)
            return -(x / total + self.scale / sigma * found) / total

        return known_by_slope(score, x)


class LevelMLP(nn.Module):
    """A fully connected network of x and a noise level: (`[B, *event]`, `[B]`) to `[B, num_outputs]`.

    Args:
        event_shape: shape of one x; it is flattened.
        num_outputs: 1 for an energy; the size of an event for a score.
        widths: sizes of the hidden layers.
        activation: between the layers; smooth, as scores differentiate it.

    Each hidden layer is scaled and shifted by linear functions of sines and cosines of the level.
    """

    def __init__(
        self,
        event_shape: int | tuple[int, ...],
        num_outputs: int = 1,
        *,
        widths: Sequence[int] = (128, 128),
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        sizes = [math.prod((event_shape,) if isinstance(event_shape, int) else event_shape), *widths]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size, width in itertools.pairwise(sizes))
        self.levels = nn.ModuleList(nn.Linear(2 * _NUM_WAVES, 2 * width) for width in widths)
        self.last = nn.Linear(sizes[-1], num_outputs)
        self.activation = activation_of(activation)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """The outputs `[B, num_outputs]`."""
        waves = level.unsqueeze(1) * 2.0 ** torch.arange(_NUM_WAVES, dtype=x.dtype, device=x.device)
        features = torch.cat([waves.sin(), waves.cos()], 1)
        x = x.flatten(1)
        for layer, by_level in zip(self.layers, self.levels, strict=True):
            factor, shift = by_level(features).chunk(2, 1)
            x = self.activation(layer(x) * (1 + factor) + shift)
        return self.last(x)


# log(sigma) / 4 lies between -2 and 2 from sigma = 3e-4 to 3000: waves of length 2 pi down to 2 pi / 8.
_NUM_WAVES = 4


def _takes_two(network: nn.Module) -> bool:
    """Whether the network can be called with x and a level."""
    try:
        inspect.signature(network.forward).bind(None, None)
    except TypeError:
        return False
    return True


def _rows(levels: Tensor, context: Tensor | None, x: Tensor) -> Tensor:
    """A noise level for each row of x, `[B]`."""
    return (levels[-1] if context is None else context).to(x).expand(len(x))


def _falling(who: str, space: object, network: nn.Module, levels: Sequence[float], scale: float) -> Tensor:
    """The levels as a tensor, after checks."""
    if not isinstance(space, Real):
        raise InputError(f"{who}: noise leads out of {space}; data with Gaussian noise live on Real")
    check_positive(who, scale=scale, **{f"levels[{i}]": level for i, level in enumerate(levels)})
    if not levels or any(high <= low for high, low in itertools.pairwise(levels)):
        raise InputError(f"{who}: levels must fall, such as (3.0, 1.0, 0.3, 0.1), got {tuple(levels)}")
    dtype, device = dtype_and_device(network)
    return torch.tensor([float(level) for level in levels], dtype=dtype, device=device)
