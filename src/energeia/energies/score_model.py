"""A network that gives d log p / dx, where no energy is needed."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, dtype_and_device, validate
from energeia.core.errors import CapabilityError, InputError
from energeia.core.space import Space


class ScoreModel(Energy):
    """d log p(x) / dx = network(x): an energy that is known by its slope alone.

    Args:
        network: maps `[B, *event]` to scores of the same shape, each row from its own x alone.
        space: where x lives, `Real` or `Box`.

    For whatever needs only the score: the objectives of `ScoreMatching` and its kin, `Langevin`,
    `UnderdampedLangevin`, `AnnealedLangevin`, `ReverseDiffusion`. Scores of sums add, and energies may be added to it.
    What needs E(x) (Metropolis kinds, contrastive divergence, log Z) refuses. A free network is
    seldom the gradient of anything: its rotation stays, and then no density has this score exactly.

    Reference: Song & Ermon (2019), Generative modeling by estimating gradients of the data distribution,
    https://arxiv.org/abs/1907.05600; Salimans & Ho (2021), Should EBMs model the energy or the score?

    >>> import torch, energeia as en
    >>> normal = en.ScoreModel(torch.nn.Linear(2, 2, bias=False), en.Real(2))
    >>> normal.network.load_state_dict({"weight": -torch.eye(2)})
    <All keys matched successfully>
    >>> bool((en.score(normal, torch.ones(3, 2)) == -1).all())
    True
    """

    def __init__(self, network: nn.Module, space: Space) -> None:
        super().__init__(space)
        self.network = network
        dtype, device = dtype_and_device(network)
        validate(self, space.start(4, torch.Generator(device).manual_seed(0), dtype=dtype))

    @property
    def score_model(self) -> Energy:
        """Itself."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """NaN `[B]`, whose gradient with respect to x is minus the score; an error where no gradient is taken."""
        return known_by_slope(cast(Callable[[Tensor], Tensor], self.network), x)


def known_by_slope(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """NaN `[B]` with gradient -score(x), which has its own graph to x and to the parameters of the score.

    Raises:
        CapabilityError: x asks for no gradient, so the value itself is wanted, and it is not known.
    """
    if torch.compiler.is_compiling():
        # Sampling, which needs no second derivative. The compiler gets that of an autograd.Function wrong.
        return float("nan") - (x * score(x.detach()).detach()).flatten(1).sum(1)
    if not x.requires_grad:
        raise CapabilityError(
            "a score model has no E(x), only d log p / dx; use Langevin, UnderdampedLangevin, AnnealedLangevin or "
            "ReverseDiffusion to sample it and a kind of score matching to train it, or take a network with one output "
            "(en.Neural)"
        )
    return _KnownBySlope.apply(x, score)  # type: ignore[no-any-return]


class _KnownBySlope(torch.autograd.Function):
    """NaN, with a derivative backwards and forwards."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
        return x.new_full((len(x),), float("nan"))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.score = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return -slopes[0].view(-1, *[1] * (x.dim() - 1)) * _of_its_shape(ctx.score, x), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -(tangents[0] * _of_its_shape(ctx.score, x)).flatten(1).sum(1)


def _of_its_shape(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found = score(x)
    if found.shape != x.shape:
        raise InputError(
            f"a score has the shape of x, {tuple(x.shape)}, but the network returned {tuple(found.shape)}; an energy, "
            "with one output, is en.Neural(network, space)"
        )
    return found
