"""Named streams of random numbers, all from one seed."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch

STREAMS = ("init", "data", "chains", "noise")
PER_RANK = frozenset({"chains", "noise"})


def seed_of(seed: int, name: str, rank: int = 0) -> int:
    """A 63-bit seed for the named stream; chains and noise differ per rank, init and data do not."""
    text = f"energeia/{seed}/{name}/{rank if name in PER_RANK else 0}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Streams:
    """One generator for each use, so that drawing more of one does not shift another.

    init: weights; data: order and augmentation of the data; chains: start points;
    noise: sampling steps. All can be saved and restored.

    Args:
        seed: any integer.
        rank: number of the process; chains and noise differ between ranks.
        device: where `chains` and `noise` live; `init` and `data` stay on the CPU.
    """

    def __init__(self, seed: int, *, rank: int = 0, device: torch.device | str = "cpu") -> None:
        self._generators: dict[str, torch.Generator] = {}
        for name in STREAMS:
            generator = torch.Generator(device if name in PER_RANK else "cpu")
            self._generators[name] = generator.manual_seed(seed_of(seed, name, rank))

    def __getitem__(self, name: str) -> torch.Generator:
        return self._generators[name]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of every stream."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a saved state."""
        for name, generator in self._generators.items():
            generator.set_state(state[name].cpu())


def random_bits(shape: tuple[int, ...], generator: torch.Generator, *, dtype: torch.dtype) -> torch.Tensor:
    """Raw random bits for `uniform_from_bits`: integers of the width that uniforms of the dtype need.

    Args:
        shape: of the result, at least one axis.
        generator: source, whose device the bits are on.
        dtype: floating type of what the uniforms are compared with.

    Returns:
        int64 for float64, else int32, every value equally likely. Two int32 cost one draw,
        less than `torch.rand` of as many numbers; turned to uniforms inside a compiled step
        they need no memory of their own.
    """
    size = shape[-1]
    words = size if dtype == torch.float64 else (size + 1) // 2
    bits = torch.empty((*shape[:-1], words), dtype=torch.int64, device=generator.device)
    bits.random_(-(2**63), None, generator=generator)
    if dtype == torch.float64:
        return bits
    halves = bits.view(torch.int32)
    return halves[..., :size] if size % 2 else halves


def uniform_from_bits(bits: torch.Tensor) -> torch.Tensor:
    """Uniforms in [0, 1): float32 multiples of 2^-24 from int32, float64 multiples of 2^-53 from int64."""
    if bits.dtype == torch.int64:
        return (bits >> 11).double() * 2.0**-53 + 0.5
    return (bits >> 8).float() * 2.0**-24 + 0.5


@contextmanager
def global_from(generator: torch.Generator) -> Generator[None, None, None]:
    """Within it, torch's global generators follow this one; afterwards they are as they were.

    For code that takes no generator, such as `torch.distributions`. Only the CPU and the device of the generator are
    meant.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    device, numbers = generator.device, []
    if device.type == "cuda":
        numbers = [torch.empty(0, device=device).get_device()]
    with torch.random.fork_rng(devices=numbers):  # pyright: ignore[reportUnknownMemberType]
        # torch.manual_seed would seed every other device too.
        torch.default_generator.manual_seed(seed)
        for number in numbers:
            torch.cuda.default_generators[number].manual_seed(seed)
        yield
