"""Devices, precision and processes. The one file that knows Lightning Fabric."""

import atexit
import warnings
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss

Value = TypeVar("Value")


class LossModule(nn.Module):
    """The energy and the objective as one module, whose forward is the loss.

    Distributed training wraps this and never the energy: an objective calls the
    energy many times, and differentiates it, within one forward pass.
    """

    def __init__(self, energy: Energy, objective: Objective, *, touch_all: bool) -> None:
        super().__init__()
        self.energy, self.objective, self._touch_all = energy, objective, touch_all

    def forward(self, batch: Batch, generator: torch.Generator, weight: float) -> Loss:
        """The loss and its metrics times this process's share of the batch."""
        loss = self.objective(self.energy, batch, generator)
        value, metrics = loss
        if weight != 1:
            value, metrics = value * weight, {name: metric * weight for name, metric in metrics.items()}
        if self._touch_all:
            # A parameter without gradient (the last bias in score matching) would leave its bucket
            # unreduced in every process, silently; zero times its sum gives it one.
            value = value + 0 * sum((parameter.sum() for parameter in self.parameters()), torch.zeros_like(value))
        return Loss(value, metrics)


class Engine:
    """Runs the loss on one device, or on several processes that act as one.

    Args:
        devices: number of processes, each with a device.
        accelerator: "auto", "cpu" or "cuda".
        precision: "32-true", "64-true" or "bf16-true"; None is that of dtype.
        dtype: of the energy.

    With devices > 1 the running script is started again for each further process.
    """

    def __init__(self, *, devices: int, accelerator: str, precision: str | None, dtype: torch.dtype) -> None:
        check_count("fit()", devices=devices)
        known = ("32-true", "64-true", "bf16-true")
        chosen: Any = precision or ("64-true" if dtype == torch.float64 else "32-true")
        if chosen not in known:
            raise InputError(f"fit(): precision must be one of {', '.join(known)}, got {precision!r}")
        # Fabric takes seconds to import, which sampling and evaluation need not wait for.
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        # Chains differ between processes, so buffers must not be copied from the first.
        strategy: Any = "auto" if devices == 1 else DDPStrategy(broadcast_buffers=False)
        try:
            self._fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=chosen)
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"fit(): cannot run with accelerator={accelerator!r}, devices={devices}: {error}"
            ) from error
        self._fabric.launch()
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size
        self.device: torch.device = self._fabric.device
        if self.world_size > 1:
            # gloo's threads must end before the interpreter does, or it aborts now and then.
            atexit.register(_leave_group)

    def setup(self, energy: Energy, objective: Objective, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Move to the device and join the processes."""
        module = LossModule(energy, objective, touch_all=self.world_size > 1)
        with warnings.catch_warnings():
            # The new name of the argument still copies buffers once.
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
            wrapped, prepared = self._fabric.setup(module, optimizer)
        return wrapped, prepared

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """This process's rows of a batch, on its device, and the weight that makes the mean right."""
        weight = 1.0
        if self.world_size > 1:
            mine = slice(self.rank, None, self.world_size)
            # A process without rows takes one along for nothing, so that all reduce the same gradients.
            rows = mine if len(batch.x) > self.rank else slice(1)
            weight = len(batch.x[mine]) * self.world_size / len(batch.x)
            batch = Batch(batch.x[rows], None if batch.y is None else batch.y[rows])
        return Batch(batch.x.to(self.device), None if batch.y is None else batch.y.to(self.device)), weight

    def backward(self, value: Tensor) -> None:
        """Gradients of the loss, averaged over the processes."""
        self._fabric.backward(value)

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in order of rank; any plain object."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
