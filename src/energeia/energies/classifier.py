"""Any classifier as an energy."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import InputError
from energeia.core.space import Space


class Classifier(Energy):
    """The joint energy-based model of a classifier f with K logits.

    E(x, y) = -f(x)[y],  E(x) = -logsumexp_y f(x)[y],  p(y|x) = softmax f(x).

    Args:
        network: any module that maps `[B, *event]` to logits `[B, K]`, K >= 2, each
            row from its own x alone.
        space: where x lives.

    Has the capability `Classes`. Trained by cross entropy alone it is an ordinary
    classifier and E(x) means nothing: the logits' common level is free. `Joint`
    trains p(x) and p(y|x) together. log p(x) = -E(x) - log Z with Z unknown.

    Raises:
        InputError: the output is not `[B, K]`, mixes rows or is random; tried once
            on start points of the space.

    Reference: Grathwohl et al. (2020), Your classifier is secretly an energy based
    model and you should treat it like one. https://arxiv.org/abs/1912.03263

    >>> import torch, energeia as en
    >>> energy = en.Classifier(torch.nn.Linear(2, 3), en.Real(2))
    >>> energy.class_energies(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    num_classes: int

    def __init__(self, network: nn.Module, space: Space) -> None:
        super().__init__(space)
        self.network = network
        dtype, device = dtype_and_device(network)
        x = space.start(4, torch.Generator(device).manual_seed(0), dtype=dtype)
        with torch.no_grad():
            logits = self._logits(x)
        if logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            raise InputError(
                f"Classifier: {type(network).__name__} returned shape {tuple(logits.shape)} for x of shape "
                f"{tuple(x.shape)}; expected logits [B, K] = [{len(x)}, number of classes], K >= 2. "
                "If the data has no labels, use en.Neural and an objective without them (recipe density)"
            )
        self.num_classes = logits.shape[1]
        validate(self, x)

    def class_energies(self, x: Tensor) -> Tensor:
        """E(x, y) for every y, `[B, K]`."""
        return -self._logits(x)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return -self._logits(x).logsumexp(1)

    def _logits(self, x: Tensor) -> Tensor:
        return cast(Callable[[Tensor], Tensor], self.network)(x)
