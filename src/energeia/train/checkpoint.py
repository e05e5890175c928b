"""Checkpoints that survive a crash, a full disk and a stranger."""

import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from energeia.core.errors import CheckpointError

WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"
FORMAT = 1


def write_checkpoint(
    folder: Path, step: int, weights: dict[str, Tensor], state: dict[str, Any], *, keep: int = 2
) -> Path:
    """Write weights and training state under `folder/step-N`, and drop all but the newest `keep` up to it.

    Everything is written to a temporary name, flushed to disk, and renamed: a
    checkpoint is there whole or not at all. The manifest holds a hash of each file.
    Later checkpoints are dropped too: the run goes on from an earlier one because they are damaged.

    Raises:
        CheckpointError: it cannot be written (a full disk, no permission); what was
            there before is untouched.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".writing-{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".writing-*"):
            shutil.rmtree(unfinished)
        temporary.mkdir()
        contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        _flush(temporary / WEIGHTS, safetensors.torch.save(contiguous))
        written = io.BytesIO()
        torch.save(state, written)
        _flush(temporary / STATE, written.getvalue())
        hashes = {name: _hash(temporary / name) for name in (WEIGHTS, STATE)}
        manifest = {"format": FORMAT, "step": step, "sha256": hashes}
        _flush(temporary / MANIFEST, json.dumps(manifest, indent=1).encode())
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        before = checkpoints(folder)
        last = f"the last good one is {before[-1].name}" if before else "there is none before it"
        raise CheckpointError(
            f"cannot write the checkpoint of step {step} to {folder}: {error}. Nothing before it is lost ({last}); "
            "free some space, then: energeia resume RUN"
        ) from error
    kept = [path for path in checkpoints(folder) if path.name <= final.name][-keep:]
    for path in checkpoints(folder):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest_good(folder: Path) -> tuple[Path, list[str]]:
    """The newest checkpoint whose files are whole, and a warning for each newer one that is not.

    Raises:
        CheckpointError: there is none.
    """
    warnings: list[str] = []
    for path in reversed(checkpoints(folder)):
        problem = _problem(path)
        if problem is None:
            return path, warnings
        warnings.append(f"checkpoint {path.name} is damaged ({problem}); using the one before it")
    told = "; ".join(warning.removesuffix("; using the one before it") for warning in warnings)
    raise CheckpointError(f"no whole checkpoint in {folder}: {told or 'it holds no step-* folder'}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint that `newest_good` returned.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        return safetensors.torch.load_file(path / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path / WEIGHTS} holds no weights: {error}") from error


def read_state(path: Path) -> dict[str, Any]:
    """The training state of a checkpoint; tensors and plain values only, no code is run.

    Raises:
        CheckpointError: the file holds anything else.
    """
    try:
        return torch.load(path / STATE, weights_only=True, map_location="cpu")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path / STATE} is not the state of a run, and nothing in it was executed: {_first_sentence(error)}"
        ) from error


def _first_sentence(error: Exception) -> str:
    # torch goes on to explain how one could execute what the file holds.
    return " ".join(str(error).split()).split(". ")[0].split("(1)")[0].strip()


def _problem(path: Path) -> str | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name in (WEIGHTS, STATE):
            if _hash(path / name) != manifest["sha256"][name]:
                return f"{name} does not match its hash: truncated or changed"
        return None if manifest["format"] == FORMAT else f"its format {manifest['format']} is not {FORMAT}"
    except OSError as error:
        return f"{Path(error.filename or path).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {type(error).__name__} {error}"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
