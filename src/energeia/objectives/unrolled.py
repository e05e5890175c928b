"""End-to-end training of a search: a loss of the answer that gradient descent ends at."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from energeia.core.answers import rows_of_energy
from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Box
from energeia.energies.pair import answering
from energeia.objectives.margin import posed
from energeia.search.descent import unrolled

Distance = Literal["square", "cross entropy"] | Callable[[Tensor, Tensor], Tensor]


class Unrolled(Objective):
    """mean cost(y_T, y), where y_T is reached from the middle of the answers by T steps of gradient descent on E(x, .).

    Args:
        cost: "square", |y_T - y|^2; "cross entropy", -sum_i y_i log y_T,i + (1 - y_i) log(1 - y_T,i), for answers in
            Box(..., 0, 1), with logarithms below -100 taken as -100; or any differentiable function `(y_T, y) -> [B]`.
        num_steps: T >= 1.
        step_size: > 0, in units of y^2 over nats (with mirror, of logits over nats per y).
        momentum: in [0, 1).
        mirror: of a `Box`: steps of the logits, which stop at no side, as `unrolled` has it. "cross entropy" wants it.
        learn_step: whether the step size is a parameter, which `fit` trains beside those of the energy.

    The descent begins in the middle of a `Box` and at zero of `Real`, so nothing is random. What is learnt is where T
    steps end: E need not be a likelihood, nor y_T a minimum, so predict by `answers(energy, x)`, which makes the same
    steps. Cost: T + 1 evaluations and gradients, and a backward pass through them all; memory grows with T. The network
    must be twice differentiable (silu, softplus, tanh).

    Reference: Belanger, Yang & McCallum (2017), End-to-end learning for structured prediction energy networks.
    https://arxiv.org/abs/1703.05667

    >>> import torch, energeia as en
    >>> energy = en.from_pair(lambda x, y: (y - x).square().sum(1) / 2, en.Real(1), en.Real(1))
    >>> en.Unrolled(num_steps=2, step_size=0.5).answers(energy, torch.tensor([[1.0]]))
    tensor([[0.7500]])
    """

    log_step: Tensor

    def __init__(
        self,
        cost: Distance = "square",
        *,
        num_steps: int = 10,
        step_size: float = 0.1,
        momentum: float = 0.0,
        mirror: bool = False,
        learn_step: bool = False,
    ) -> None:
        super().__init__()
        if cost not in ("square", "cross entropy") and not callable(cost):
            raise InputError(f'Unrolled: cost is "square", "cross entropy" or a function (y_T, y) -> [B], got {cost!r}')
        check_count("Unrolled", num_steps=num_steps)
        check_positive("Unrolled", step_size=step_size)
        self.cost: Distance = cost
        self.num_steps, self.momentum, self.mirror = num_steps, momentum, mirror
        log_step = torch.tensor(math.log(step_size))
        if learn_step:
            self.log_step = nn.Parameter(log_step)
        else:
            self.register_buffer("log_step", log_step)

    def answers(self, energy: Energy, x: Tensor) -> Tensor:
        """y_T `[B, *event]` of each row of x, detached."""
        field = answering(energy, "Unrolled").within(x)
        with torch.no_grad():
            return self._end(field, x.dtype).detach()

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean cost over rows."""
        case = posed(energy, batch, "Unrolled")
        if self.cost == "cross entropy" and not case.field.space.same_set(Box(case.field.space.event_shape, 0.0, 1.0)):
            raise InputError(
                f"Unrolled: cross entropy is for chances, answers in Box(..., 0, 1), got {case.field.space}; take "
                "square"
            )
        end = self._end(case.field, case.y.dtype)
        value = self._cost(end, case.y).mean()
        metrics = {"loss": value, "energy_data": case.right.mean(), "step_size": self.log_step.exp()}
        return Loss(value, {name: metric.detach() for name, metric in metrics.items()})

    def _end(self, field: Energy, dtype: torch.dtype) -> Tensor:
        space = field.space
        middle = (space.low + space.high) / 2 if isinstance(space, Box) else 0.0
        num_rows = rows_of_energy(field)
        start = torch.full((num_rows, *space.event_shape), middle, dtype=dtype, device=self.log_step.device)
        step_size = self.log_step.exp().to(dtype)
        return unrolled(
            field, start, num_steps=self.num_steps, step_size=step_size, momentum=self.momentum, mirror=self.mirror
        )

    def _cost(self, end: Tensor, right: Tensor) -> Tensor:
        if self.cost == "square":
            return (end - right).square().flatten(1).sum(1)
        if self.cost == "cross entropy":
            return binary_cross_entropy(end, right, reduction="none").flatten(1).sum(1)
        assert callable(self.cost)
        return self.cost(end, right)
