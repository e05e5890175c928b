"""A long estimate on disk: what is finished, and where the rest stands, so that it goes on after a crash."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from energeia.core.errors import CheckpointError
from energeia.partition.walk import Progress, Watch

_SECONDS = 60.0


class Journal:
    """The parts of an estimate by name, in a file that is rewritten every minute and after each part.

    Args:
        path: of the file, ending in .safetensors; None keeps nothing.
        identity: tensors and numbers that decide the estimate; a file of another one is refused.
        generator: of all random numbers: a part is taken up with those that it would have had.
        seconds: between writings.

    Raises:
        CheckpointError: the file is not whole, or holds another estimate.
    """

    def __init__(
        self, path: Path | None, identity: object, generator: torch.Generator, *, seconds: float = _SECONDS
    ) -> None:
        self._path, self._generator, self._seconds = path, generator, seconds
        self._tensors: dict[str, Tensor] = {}
        self._levels: dict[str, int] = {}
        self._finished: set[str] = set()
        if path is None:
            return
        self._identity = fingerprint((identity, generator.get_state()))
        if path.exists():
            self._read(path)

    def part(self, name: str, run: Callable[[Progress | None, Watch | None], Progress]) -> Progress:
        """What a part of the estimate comes to: from the file if it is finished there, else run from where it stands.

        Args:
            name: of the part.
            run: takes a Progress to go on from (None: begin) and a function to call on the way.
        """
        if self._path is None:
            return run(None, None)
        there = self._taken_up(name)
        if name in self._finished:
            assert there is not None
            return there
        written = time.monotonic()

        def watch(now: Progress) -> None:
            nonlocal written
            if time.monotonic() - written >= self._seconds:
                self._keep(name, now)
                written = time.monotonic()

        end = run(there, watch)
        self._finished.add(name)
        self._keep(name, end)
        return end

    def _taken_up(self, name: str) -> Progress | None:
        if name not in self._levels:
            return None
        self._generator.set_state(self._tensors[f"{name}/generator"])
        device = self._generator.device
        x, log_weights = (self._tensors[f"{name}/{key}"].to(device) for key in ("x", "log_weights"))
        return Progress(self._levels[name], x, log_weights)

    def _keep(self, name: str, now: Progress) -> None:
        assert self._path is not None
        self._levels[name] = now.level
        named = {"x": now.x, "log_weights": now.log_weights, "generator": self._generator.get_state()}
        for key, tensor in named.items():
            self._tensors[f"{name}/{key}"] = tensor.detach().cpu().contiguous().clone()
        about = {"identity": self._identity, "levels": self._levels, "finished": sorted(self._finished)}
        temporary = self._path.with_suffix(".tmp")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors, temporary, {"journal": json.dumps(about)})
        temporary.replace(self._path)

    def _read(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["journal"])
                self._tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a whole checkpoint of log Z ({error}); delete it to begin anew"
            ) from error
        if about["identity"] != self._identity:
            raise CheckpointError(
                f"{path} is the checkpoint of another estimate: other weights, rows, settings or seed. Choose another "
                "file, or delete it to begin anew"
            )
        self._levels, self._finished = about["levels"], set(about["finished"])


def fingerprint(values: object) -> str:
    """A hash of tensors, numbers and words, nested as they may be."""
    digest = hashlib.sha256()
    _add(digest, values)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", values: object) -> None:
    if isinstance(values, Tensor):
        held = values.detach().cpu().contiguous()
        digest.update(f"{held.dtype}{tuple(held.shape)}".encode())
        digest.update(held.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(values, dict):
        for key, value in values.items():
            _add(digest, (key, value))
    elif isinstance(values, tuple | list):
        for value in values:
            _add(digest, value)
    else:
        digest.update(repr(values).encode() + b";")
