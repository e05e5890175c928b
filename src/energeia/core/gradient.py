"""The one place that differentiates energies, but for the training step."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from energeia.core.errors import CapabilityError


def value_and_gradient(energy: nn.Module, x: Tensor, *, create_graph: bool | None = None) -> tuple[Tensor, Tensor]:
    """E(x) and dE/dx of every chain, in one forward and one backward pass.

    The chains must not influence each other (`validate` rejects energies in which
    they do), so the gradient of the sum holds the gradient of each.

    Args:
        energy: maps `[B, *event]` to `[B]`.
        x: `[B, *event]`; it is not written to and needs no gradient.
        create_graph: keep the graph, for losses that contain the gradient. None keeps it where x has one: a
            sampler that starts at such an x can be differentiated through, step by step.

    Returns:
        energies `[B]` and gradients `[B, *event]`; both detached without a graph.

    Raises:
        CapabilityError: the energy does not depend on x differentiably (told eagerly only).

    Parameters of the energy get no gradient from this, and their `requires_grad`
    is left as it is. Cost: one forward and one backward evaluation.
    """
    # torch.compile traces torch.func but not autograd.grad; eager, autograd.grad has less overhead.
    if torch.compiler.is_compiling():
        (_, values), gradients = torch.func.grad_and_value(_sum_and_values, argnums=1, has_aux=True)(energy, x)[::-1]
        return values, gradients
    if create_graph is None:
        create_graph = x.requires_grad and torch.is_grad_enabled()
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


def score(energy: nn.Module, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """d log p(x) / dx = -dE/dx, `[B, *event]`; detached unless create_graph."""
    return -value_and_gradient(energy, x, create_graph=create_graph)[1]


def score_along(energy: nn.Module, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The score s(x) and its slope v' (ds/dx) v along directions v, both with their graph.

    Args:
        energy: maps `[B, *event]` to `[B]`.
        x: `[B, *event]`.
        directions: v `[S, B, *event]`, S for each row.

    Returns:
        s `[B, *event]` and v' (ds/dx) v `[S, B]`, zero where E is linear in x.

    Cost: one forward pass, 1 + S backward passes, those S side by side.
    """
    # Under no_grad the minus sign alone would cut the graph, and slopes would come out as zero.
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        found = score(energy, point, create_graph=True)
        return found, (_rows_times_jacobian(found, point, directions) * directions).flatten(2).sum(2)


# Rows that the Jacobian's diagonal sends through the network at once: more fill the memory and gain nothing.
_SIDE_BY_SIDE = 1024


def score_and_diagonal(energy: nn.Module, x: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """The score s(x) and the diagonal of its Jacobian, ds_i/dx_i, both `[B, *event]` with their graph.

    Args:
        energy: maps `[B, *event]` to `[B]`.
        x: `[B, *event]`, of any event shape.
        chunk: columns of the Jacobian taken side by side, >= 1; None takes 1024 / B of them. Memory grows with it.

    The sum of the diagonal is the Laplacian of log p. Cost: a forward and a backward pass, and both again,
    differentiated, for each of the d numbers in an event.
    """
    num_dims = x[0].numel()
    size = min(num_dims, chunk or max(1, _SIDE_BY_SIDE // len(x)))
    axes = torch.eye(num_dims, dtype=x.dtype, device=x.device).view(num_dims, 1, *x.shape[1:])
    groups = torch.split(axes, size)
    try:
        parts = [_forwards(energy, x, group) for group in groups]
    except (NotImplementedError, RuntimeError) as error:
        if not (isinstance(error, NotImplementedError) or "functorch" in str(error) or "vmap" in str(error)):
            raise
        # An operation that torch differentiates backwards only: the same numbers, at about twice the time.
        # The same as score_along, with axes for directions.
        parts = [score_along(energy, x, group.expand(len(group), *x.shape)) for group in groups]
    diagonal = torch.cat([part for _, part in parts]).t()
    return parts[0][0], diagonal.reshape(x.shape)


def _forwards(energy: nn.Module, x: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """The score, and a' (ds/dx) a `[S, B]` for axes a `[S, 1, *event]`, as derivatives of the gradient along them."""

    def total(x: Tensor) -> Tensor:
        return energy(x).sum()

    def along(axis: Tensor) -> tuple[Tensor, Tensor]:
        found, slope = cast(tuple[Tensor, Tensor], torch.func.jvp(torch.func.grad(total), (x,), (axis.expand_as(x),)))
        return -found, -(slope * axis).flatten(1).sum(1)

    # The score is the same for all axes, so it comes out once.
    once_and_each: Any = (None, 0)
    return torch.func.vmap(along, out_dims=once_and_each)(axes)


def _rows_times_jacobian(values: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """v' (d values / dx) `[S, B, *event]` for rows v of that shape, with graph; zero where nothing depends on x."""
    single = len(rows) == 1
    if not values.requires_grad:
        return torch.zeros_like(rows)
    (found,) = torch.autograd.grad(
        values,
        x,
        rows[0] if single else rows,
        is_grads_batched=not single,
        create_graph=True,
        allow_unused=True,
    )
    if found is None:  # pyright: ignore[reportUnnecessaryComparison]
        return torch.zeros_like(rows)
    return found.unsqueeze(0) if single else found


# Parts of the names that torch gives to the derivatives of activations with a kink.
_KINKS = ("relu", "threshold", "hardtanh")


def is_piecewise_linear(energy: nn.Module, x: Tensor) -> bool:
    """Whether E is made of planes: it has activations with a kink, and no parameter moves E's second derivatives.

    The score of such an energy jumps at the kinks and is constant between them. A loss in which it stands is blind to
    where they lie, as its gradient for the parameters sees only what is between: those of hidden biases are zero.

    Args:
        energy: maps `[B, *event]` to `[B]`.
        x: rows `[B, *event]` to look at, a handful.

    Score models and compiled modules are not seen through: False. Cost: two forward and three backward passes.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        if not _has_kink(energy(point).grad_fn):
            return False
        _, curvature = score_along(energy, x, torch.ones_like(x).unsqueeze(0))
        parameters = [parameter for parameter in energy.parameters() if parameter.requires_grad]
        if not curvature.requires_grad or not parameters:
            return bool(parameters)
        found = torch.autograd.grad(curvature.sum(), parameters, allow_unused=True)
    given: list[Tensor | None] = list(found)
    return not any(part is not None and bool(part.any()) for part in given)


def _has_kink(node: Any) -> bool:
    """Whether an activation with a kink is among what a value was computed from."""
    seen: set[Any] = set()
    left = [node]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if any(part in type(node).__name__.lower() for part in _KINKS):
            return True
        seen.add(node)
        left += [before for before, _ in node.next_functions]
    return False


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
