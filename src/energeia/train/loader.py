"""Batches in a random order that can be saved and continued to the bit."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from energeia.core.errors import InputError, check_count
from energeia.core.record import Batch
from energeia.core.transform import Transform

Data = Tensor | Sequence[Any] | Dataset[Any]


class Loader:
    """An endless stream of batches: epoch after epoch, each in a new order.

    Args:
        data: x `[N, *event]`, (x, y), a `Batch`, or a map-style dataset whose items
            are x or (x, y).
        batch_size: rows a batch; the last of an epoch holds what is left.
        generator: order and transform, on the CPU.
        transform: augmentation of a batch, `(x, generator) -> x`.
    """

    def __init__(
        self,
        data: Data,
        *,
        batch_size: int,
        generator: torch.Generator,
        transform: Transform | None = None,
    ) -> None:
        check_count("fit()", batch_size=batch_size)
        self._rows = as_batch(data) if isinstance(data, Tensor | Sequence) else data
        self._length = len(self._rows.x) if isinstance(self._rows, Batch) else _length(self._rows)
        if self._length == 0:
            raise InputError("fit(): the data has no rows")
        self._batch_size, self._generator, self._transform = batch_size, generator, transform
        self._order = torch.empty(0, dtype=torch.int64)
        self._position = 0
        self.epoch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in one pass over the data."""
        return -(-self._length // self._batch_size)

    def next(self) -> Batch:
        """The next batch."""
        if self._position >= len(self._order):
            self._order = torch.randperm(self._length, generator=self._generator)
            self._position = 0
            self.epoch += 1
        index = self._order[self._position : self._position + self._batch_size]
        self._position += len(index)
        batch = self._at(index)
        return batch if self._transform is None else batch._replace(x=self._transform(batch.x, self._generator))

    def peek(self) -> Batch:
        """All rows of data in memory, the first few of a dataset: to check before training."""
        if isinstance(self._rows, Batch):
            return self._rows
        return self._at(torch.arange(min(self._length, self._batch_size)))

    def _at(self, index: Tensor) -> Batch:
        if isinstance(self._rows, Batch):
            x, y = self._rows
            index = index.to(x.device)
            return Batch(x.index_select(0, index), None if y is None else y.index_select(0, index))
        return as_batch(default_collate([self._rows[int(i)] for i in index]))

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; the generator is saved with the other streams."""
        return {"order": self._order, "position": self._position, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if len(state["order"]) not in (0, self._length):
            raise InputError(f"resume: the data has {self._length} rows, the run was made with {len(state['order'])}")
        self._order, self._position, self.epoch = state["order"], state["position"], state["epoch"]


def as_batch(data: Tensor | Sequence[Any]) -> Batch:
    """x, (x,) or (x, y) as a `Batch`, with the dtypes checked."""
    parts = (data,) if isinstance(data, Tensor) else tuple(data)
    if len(parts) not in (1, 2) or not isinstance(parts[0], Tensor):
        kinds = ", ".join(type(part).__name__ for part in parts[:4])
        raise InputError(f"data is a tensor x or a pair (x, y) of tensors, got {len(parts)} parts: {kinds}")
    x, y = parts[0], parts[1] if len(parts) == 2 else None
    if not x.is_floating_point():
        raise InputError(f"data x has dtype {x.dtype}; energies need a floating dtype: x.float()")
    if y is not None and (not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1] or y.dtype == torch.bool):
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        kind = y.dtype if isinstance(y, Tensor) else ""
        raise InputError(
            f"data y is {shape} {kind}; expected class numbers (int64) of shape [{len(x)}], or an answer for each of "
            f"the {len(x)} rows"
        )
    return Batch(x, y if y is None or y.is_floating_point() else y.long())


def _length(data: Any) -> int:
    try:
        return len(data)
    except TypeError as error:
        raise InputError(
            f"{type(data).__name__} has no length; fit needs a tensor, (x, y), or a map-style dataset"
        ) from error
