"""The one place that differentiates energies, but for the training step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from energeia.core.errors import CapabilityError


def value_and_gradient(energy: nn.Module, x: Tensor, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """E(x) and dE/dx of every chain, in one forward and one backward pass.

    The chains must not influence each other (`validate` rejects energies in which
    they do), so the gradient of the sum holds the gradient of each.

    Args:
        energy: maps `[B, *event]` to `[B]`.
        x: `[B, *event]`; it is not written to and needs no gradient.
        create_graph: keep the graph, for losses that contain the gradient.

    Returns:
        energies `[B]` and gradients `[B, *event]`; both detached unless create_graph.

    Raises:
        CapabilityError: the energy does not depend on x differentiably (told eagerly only).

    Parameters of the energy get no gradient from this, and their `requires_grad`
    is left as it is. Cost: one forward and one backward evaluation.
    """
    # torch.compile traces torch.func but not autograd.grad; eager, autograd.grad has less overhead.
    if torch.compiler.is_compiling():
        (_, values), gradients = torch.func.grad_and_value(_sum_and_values, argnums=1, has_aux=True)(energy, x)[::-1]
        return values, gradients
    with torch.enable_grad():
        point = x if create_graph and x.requires_grad else x.detach().requires_grad_(True)
        values = energy(point)
        if not values.requires_grad:
            raise CapabilityError(
                f"{type(energy).__name__} has no gradient with respect to x: its output does not depend on x, or it "
                "was detached; compute it with torch operations alone, or use a sampler without gradients "
                "(RandomWalk, Metropolis)"
            )
        (gradients,) = torch.autograd.grad(values.sum(), point, create_graph=create_graph)
    return (values, gradients) if create_graph else (values.detach(), gradients)


def score(energy: nn.Module, x: Tensor) -> Tensor:
    """d log p(x) / dx = -dE/dx, `[B, *event]`, detached."""
    return -value_and_gradient(energy, x)[1]


def frozen(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module as a function of its input alone: gradients reach the input, and none its parameters.

    For losses in which one player moves while another stands still. The module itself is not changed.
    """
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def function(x: Tensor) -> Tensor:
        return torch.func.functional_call(module, constants, (x,))

    return function


def jacobian(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """d function(z) / dz of every row of z `[N, L]`: `[N, *event, L]`, for `[N, L]` to `[N, *event]`, row by row.

    Cost: L forward passes with tangents, side by side.
    """
    basis = torch.eye(z.shape[1], dtype=z.dtype, device=z.device).unsqueeze(1).expand(-1, *z.shape)

    def column(direction: Tensor) -> Tensor:
        return torch.func.jvp(function, (z,), (direction,))[1]

    return torch.func.vmap(column)(basis).movedim(0, -1)


def mean_parameter_gradient(energy: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """d/dtheta of the mean of E(x) over rows `[B, *event]`, for each of `parameters()`: of an exponential family, minus
    the mean of its sufficient statistics.
    """
    with torch.enable_grad():
        return torch.autograd.grad(energy(x).mean(), list(energy.parameters()))


def _sum_and_values(energy: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    values = energy(x)
    return values.sum(), values
