"""Gibbs sampling: block by block from its exact conditional."""

import weakref
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import Conditional, Energy, require
from energeia.core.errors import CapabilityError, InputError
from energeia.core.random import random_bits, uniform_from_bits
from energeia.core.record import Info
from energeia.core.sampler import Noise, Sampler
from energeia.core.space import Binary, Categorical, Space, Spin

Scan = Literal["sweep", "palindrome", "random"]


class Blocks(NamedTuple):
    """Chains, and the same chains block by block, as the energy splits them."""

    x: Tensor
    blocks: tuple[Tensor, ...]


@dataclass(frozen=True)
class Gibbs(Sampler[Blocks]):
    """Gibbs sampling: every block of sites in turn from p(block | rest), which is a product over its sites.

    Args:
        scan: "sweep" visits all blocks in order. "palindrome" visits them in order and back,
            the last one once: 2 num_blocks - 1 updates, and reversible. "random" updates one
            block, chosen at random for each chain: reversible, but it computes what a sweep
            computes.

    Leaves exp(-E) unchanged and never rejects. Needs an energy with `Conditional` on a
    `Binary`, `Spin` or `Categorical` space. Cost: the natural parameters of all blocks, and
    one energy for `Info.energy`, which a compiled chunk computes only for its last step.
    Chains whose natural parameters are not finite are reported as divergent.

    float32 chains draw with uniforms of 24 bits, float64 chains with 53.

    Reference: Geman & Geman (1984), Stochastic relaxation, Gibbs distributions, and the
    Bayesian restoration of images. https://doi.org/10.1109/TPAMI.1984.4767596

    >>> import torch, energeia as en
    >>> from energeia.samplers import Gibbs
    >>> coins = en.Independent(en.Binary(2), torch.tensor([0.0, 2.0]))
    >>> en.sample(coins, Gibbs(), num_chains=10_000, num_steps=1).x.mean(0).round(decimals=1)
    tensor([0.5000, 0.9000])
    """

    scan: Scan = "sweep"
    # Of the instance: whether the scan is reversible.
    reversible: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.scan not in ("sweep", "palindrome", "random"):
            raise InputError(f'Gibbs: scan must be "sweep", "palindrome" or "random", got {self.scan!r}')
        object.__setattr__(self, "reversible", self.scan != "sweep")

    def init(self, energy: Energy, x: Tensor) -> Blocks:
        """Chains at x. The first time an energy is seen, its blocks are tried: two evaluations of each."""
        _drawn_from_natural(energy.space, "Gibbs")
        conditional = _conditional(energy)
        blocks = conditional.split(x)
        if energy not in _VERIFIED:
            with torch.no_grad():
                _verify_blocks(energy, conditional, x)
            _VERIFIED.add(energy)
        return Blocks(x, blocks)

    def draw(self, state: Blocks, generator: torch.Generator) -> Noise:
        """Random bits for each number of x (twice that for a palindrome); for "random" the block of each chain."""
        size, dtype = state.x.numel() // len(state.x), state.x.dtype
        if self.scan == "palindrome":
            size = 2 * size - state.blocks[-1].flatten(1).shape[1]
        bits = random_bits((len(state.x), size), generator, dtype=dtype)
        if self.scan != "random":
            return (bits,)
        shape = (len(state.x),)
        return bits, torch.randint(len(state.blocks), shape, generator=generator, device=generator.device)

    def step(self, energy: Energy, state: Blocks, noise: Noise) -> tuple[Blocks, Info]:
        """One scan of every chain."""
        with torch.no_grad():
            conditional = _conditional(energy)
            space = _drawn_from_natural(energy.space, "Gibbs")
            blocks, level, place = list(state.blocks), torch.zeros_like(state.x.flatten(1)[:, 0]), 0
            for block in _order(len(blocks), self.scan):
                # All of a random scan start from the same state: only one of them is kept.
                given = state.blocks if self.scan == "random" else tuple(blocks)
                natural = conditional.natural_parameters(given, block)
                size = given[block].flatten(1).shape[1]
                bits = noise[0].narrow(1, place, size).view(natural.shape)
                drawn = space.from_natural(natural, uniform_from_bits(bits))
                if self.scan == "random":
                    chosen = (noise[1] == block).view(-1, *[1] * (drawn.dim() - 1))
                    drawn = torch.where(chosen, drawn, given[block])
                blocks[block], place = drawn, place + size
                # A sum that is not finite has a term that is not.
                level = level + natural.flatten(1).sum(1)
            moved = Blocks(conditional.join(tuple(blocks)), tuple(blocks))
            info = Info(energy(moved.x), torch.ones_like(level), _moved(state, moved), ~level.isfinite())
        return moved, info


def _moved(state: Blocks, moved: Blocks) -> Tensor:
    """Root mean square change of the entries `[B]`, block by block."""
    pairs = zip(moved.blocks, state.blocks, strict=True)
    total = sum((new - old).flatten(1).square().sum(1) for new, old in pairs)
    assert isinstance(total, Tensor)
    return (total / state.x.flatten(1).shape[1]).sqrt()


def _order(num_blocks: int, scan: Scan) -> list[int]:
    forth = list(range(num_blocks))
    return forth + forth[-2::-1] if scan == "palindrome" else forth


def _conditional(energy: Energy) -> Conditional:
    return require(
        energy,
        Conditional,
        who="Gibbs",
        instead="use GibbsWithGradients, DiscreteLangevin or Metropolis, which need E(x) alone",
    )


def _drawn_from_natural(space: Space, who: str) -> Binary | Spin | Categorical:
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(
            f"{who} draws sites from their natural parameters and needs a Binary, Spin or Categorical space, but the "
            f"energy lives on {space}; use MALA, HMC or Langevin there"
        )
    return space


# Energies whose blocks have been tried: who is whose neighbour does not change with the weights.
_VERIFIED: "weakref.WeakSet[Energy]" = weakref.WeakSet()


def _verify_blocks(energy: Energy, conditional: Conditional, x: Tensor) -> None:
    """Raise `InputError` if the natural parameters of a block change with the block's own sites."""
    generator = torch.Generator(x.device).manual_seed(0)
    for _ in range(max(4, 64 // len(x))):
        # As many chains as there are: an energy may hold a temperature or a label for each.
        start = energy.space.start(len(x), generator, dtype=x.dtype)
        blocks, others = conditional.split(start), conditional.split(_half_changed(energy.space, start, generator))
        for block in range(conditional.num_blocks):
            changed = (*blocks[:block], others[block], *blocks[block + 1 :])
            before = conditional.natural_parameters(blocks, block)
            after = conditional.natural_parameters(changed, block)
            tolerance = 1e3 * torch.finfo(x.dtype).eps * (1 + before.abs().max())
            if before.shape != blocks[block].shape:
                raise InputError(
                    f"Gibbs: natural_parameters() of block {block} of {type(energy).__name__} has shape "
                    f"{tuple(before.shape)}, expected that of the block, {tuple(blocks[block].shape)}"
                )
            if bool((before - after).abs().max() > tolerance):
                raise InputError(
                    f"Gibbs: block {block} of {type(energy).__name__} holds neighbours: the natural parameters of its "
                    "sites change when sites of the same block do. All sites of a block are drawn at once, so they "
                    "must be independent given the rest: give each of a pair of neighbours another block in split() "
                    "(a colouring of the graph), or use GibbsWithGradients, which needs no blocks"
                )


def _half_changed(space: Space, x: Tensor, generator: torch.Generator) -> Tensor:
    """Other states at half of the sites, chosen at random: what all sites do together may cancel."""
    if isinstance(space, Categorical):
        changed, shape = x.roll(1, -1), (*x.shape[:-1], 1)
    else:
        changed, shape = (-x if isinstance(space, Spin) else 1 - x), tuple(x.shape)
    chosen = torch.rand(shape, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, changed, x)
