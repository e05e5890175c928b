"""Checkpoints that are damaged, hostile or cannot be written."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

import energeia as en
from energeia.core.errors import CheckpointError
from energeia.train.checkpoint import checkpoints, newest_good, read_state, read_weights, write_checkpoint
from energeia.train.log import read_metrics


def _write(folder, *steps):
    for step in steps:
        write_checkpoint(folder, step, {"w": torch.full((100,), float(step))}, {"step": step})


def _truncate(path):
    (path / "weights.safetensors").write_bytes((path / "weights.safetensors").read_bytes()[:-7])


def _flip(path):
    content = bytearray((path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "state.pt").write_bytes(content)


def _no_manifest(path):
    (path / "manifest.json").unlink()


def _cut_manifest(path):
    (path / "manifest.json").write_text((path / "manifest.json").read_text()[:20])


def _no_state(path):
    (path / "state.pt").unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _no_manifest, _cut_manifest, _no_state])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    _write(tmp_path, 10, 20)
    damage(tmp_path / "step-00000020")
    path, warnings = newest_good(tmp_path)
    assert path.name == "step-00000010"
    assert read_weights(path)["w"][0] == 10
    assert read_state(path) == {"step": 10}
    assert len(warnings) == 1
    assert "step-00000020 is damaged" in warnings[0]
    assert "using the one before it" in warnings[0]
    damage(path)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        newest_good(tmp_path)


def test_damage_is_told_by_its_file(tmp_path):
    _write(tmp_path, 10, 20)
    _truncate(tmp_path / "step-00000020")
    assert "weights.safetensors does not match its hash" in newest_good(tmp_path)[1][0]
    _no_manifest(tmp_path / "step-00000020")
    assert "manifest.json: No such file" in newest_good(tmp_path)[1][0]


def test_the_newest_two_stay_and_a_future_that_was_damaged_goes(tmp_path):
    _write(tmp_path, 10, 20, 30)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000020", "step-00000030"]
    _flip(tmp_path / "step-00000030")
    _write(tmp_path, 25)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000020", "step-00000025"]


def test_what_a_crash_left_half_written_is_no_checkpoint(tmp_path):
    _write(tmp_path, 10)
    (tmp_path / ".writing-00000020").mkdir()
    (tmp_path / ".writing-00000020" / "weights.safetensors").write_bytes(b"half")
    assert newest_good(tmp_path)[0].name == "step-00000010"
    _write(tmp_path, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000030"]


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def _forge(path, name):
    """Make the manifest agree with a changed file."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_code_in_a_checkpoint_is_not_run_even_with_forged_hashes(tmp_path):
    _write(tmp_path, 10)
    path, target = tmp_path / "step-00000010", tmp_path / "executed"
    torch.save({"ranks": [Hostile(target)]}, path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt does not match"):
        newest_good(tmp_path)
    _forge(path, "state.pt")
    assert newest_good(tmp_path)[0] == path
    with pytest.raises(CheckpointError, match="not the state of a run, and nothing in it was executed"):
        read_state(path)
    assert not target.exists()
    torch.load(path / "state.pt", weights_only=False)
    assert target.exists()  # the file would have done it


def test_weights_that_are_none_are_refused(tmp_path):
    _write(tmp_path, 10)
    path = tmp_path / "step-00000010"
    (path / "weights.safetensors").write_bytes(b"\xff" * 64)
    _forge(path, "weights.safetensors")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_weights(newest_good(tmp_path)[0])


def _fit(folder, **settings):
    torch.manual_seed(0)
    energy = en.Neural(torch.nn.Linear(2, 1), en.Box(2))
    rows = torch.linspace(-1, 1, 40).view(20, 2)
    defaults = {"num_steps": 30, "batch_size": 5, "log_every": 5, "checkpoint_every": 10, "progress": False}
    return en.fit(energy, en.ExactLikelihood(num_nodes=8), rows, run_dir=folder, **{**defaults, **settings})


def test_fit_warns_and_goes_on_from_the_one_before(tmp_path):
    whole = _fit(tmp_path / "whole")
    _fit(tmp_path / "run", num_steps=20)
    _flip(tmp_path / "run" / "checkpoints" / "step-00000020")
    with pytest.warns(UserWarning, match="step-00000020 is damaged"):
        again = _fit(tmp_path / "run", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.energy.parameters(), again.energy.parameters(), strict=True))
    drop = [{k: v for k, v in record.items() if k != "seconds"} for record in whole.records]
    assert drop == [{k: v for k, v in record.items() if k != "seconds"} for record in again.records]


_FULL = """
import resource, sys, torch
import energeia as en
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
torch.manual_seed(0)
energy = en.Neural(torch.nn.Sequential(torch.nn.Linear(2, 300), torch.nn.Tanh(), torch.nn.Linear(300, 1)), en.Box(2))
rows = torch.linspace(-1, 1, 40).view(20, 2)
en.fit(energy, en.ExactLikelihood(num_nodes=8), rows, num_steps=30, batch_size=5, log_every={log_every},
       checkpoint_every=10, run_dir=sys.argv[1], resume={resume}, progress=False)
"""


def _run_limited(folder, limit, *, log_every=5, resume=False):
    script = _FULL.format(limit=limit, log_every=log_every, resume=resume)
    return subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=120)


def test_a_full_disk_is_told_and_what_was_saved_stays(tmp_path):
    # Weights fit below the limit; the optimizer's moments, which come with the first update, do not.
    full = _run_limited(tmp_path, 30_000)
    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert "CheckpointError: cannot write the checkpoint of step 10" in last
    assert "the last good one is step-00000000" in last
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000000"]
    again = _run_limited(tmp_path, 10_000_000, resume=True)
    assert again.returncode == 0, again.stderr
    assert newest_good(tmp_path / "checkpoints")[0].name == "step-00000030"


def test_metrics_that_cannot_be_written_are_told(tmp_path):
    # A hundred long lines of metrics reach the limit between checkpoints, which stay below it.
    _fit(tmp_path, num_steps=10, log_every=1)
    content = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(content * 100)
    log = "from energeia.train.log import Log; import resource, sys; from pathlib import Path\n"
    log += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(content) * 100 + 50},) * 2)\n"
    log += (
        "log = Log(Path(sys.argv[1]), num_steps=10, progress=False, tensorboard=False, since=10, num_records=10**6)\n"
    )
    log += "log.write({'step': 11, 'loss': 1.0}); log.write({'step': 12, 'loss': 1.0})\n"
    full = subprocess.run([sys.executable, "-c", log, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert "CheckpointError: cannot write" in full.stderr
    assert "energeia resume" in full.stderr
    # The line that was cut is dropped by whoever opens the log next.
    assert [record["step"] for record in read_metrics(tmp_path)][-1] == 11
