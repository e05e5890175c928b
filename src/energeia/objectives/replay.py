"""Chains that live on between updates."""

from typing import Any

import torch
from torch import Tensor, nn

from energeia.core.errors import InputError, check_count, check_fraction
from energeia.core.space import Space


class Replay(nn.Module):
    """A buffer of persistent chains, on the device and in the dtype of the first use.

    Args:
        capacity: number of slots, each one chain.
        fresh: share of the chains that restart from the space's start points each
            time they are taken, 0 to 1.

    `take` draws slots without repetition and `put` writes each chain back to the
    slot it came from: every chain has one line of descent. `age` counts the updates
    since a slot's last fresh start. States x alone are kept; what a sampler caches
    is stale once the energy changes.
    """

    x: Tensor
    age: Tensor

    def __init__(self, capacity: int, *, fresh: float = 0.0) -> None:
        super().__init__()
        check_count("Replay", capacity=capacity)
        check_fraction("Replay", fresh=fresh)
        self.capacity, self.fresh = capacity, float(fresh)
        self.register_buffer("x", torch.empty(0))
        self.register_buffer("age", torch.empty(0, dtype=torch.int64))

    def take(
        self, num_chains: int, space: Space, generator: torch.Generator, *, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Slots `[num_chains]` and their chains `[num_chains, *event]`, some restarted.

        The buffer is filled from the space's start points at first use.
        """
        if num_chains > self.capacity:
            raise InputError(f"Replay: asked for {num_chains} chains of {self.capacity}; raise capacity")
        chains = self.x
        if chains.numel() == 0:
            chains = space.start(self.capacity, generator, dtype=dtype)
            if self.training:
                self.x, self.age = chains, torch.zeros(self.capacity, dtype=torch.int64, device=chains.device)
        if num_chains == self.capacity:
            slots = torch.arange(self.capacity, device=chains.device)
        else:
            slots = torch.randperm(self.capacity, generator=generator, device=chains.device)[:num_chains]
        x = chains[slots]
        if self.fresh > 0:
            restart = torch.rand(num_chains, generator=generator, device=x.device) < self.fresh
            start = space.start(num_chains, generator, dtype=dtype)
            x = torch.where(restart.view(-1, *[1] * (x.dim() - 1)), start, x)
            if self.training:
                self.age[slots] = self.age[slots].masked_fill(restart, 0)
        return slots, x

    def put(self, slots: Tensor, x: Tensor) -> None:
        """Write chains back to their slots."""
        self.x[slots] = x
        self.age[slots] += 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The shape is known only once chains exist, so it is taken from what is loaded.
        for name in ("x", "age"):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor):
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
