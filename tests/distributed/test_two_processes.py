"""Two processes are one: the same weights, each with chains of its own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from energeia import cli
from energeia.core.errors import CheckpointError
from energeia.train.checkpoint import read_state, read_weights
from energeia.train.log import read_metrics

SCRIPT = Path(__file__).with_name("fits.py")


def _start(*words):
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr


def _fits():
    spec = importlib.util.spec_from_file_location("fits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _last(folder, step=20):
    return folder / "checkpoints" / f"step-{step:08d}"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The runs of fits.py on two processes."""
    folder = tmp_path_factory.mktemp("two")
    _start(SCRIPT, 2, folder)
    return folder


@pytest.mark.parametrize("kind", ["exact", "data"])
def test_two_processes_equal_one(two, tmp_path, kind):
    _fits().run(kind, tmp_path, devices=1)
    one = read_weights(_last(tmp_path))
    both = read_weights(_last(two / kind))
    assert {name.split(".")[0] for name in one} == {"energy", "average", "best"}
    for name, first in one.items():
        torch.testing.assert_close(first, both[name], rtol=0, atol=1e-12)
    for first, second in zip(read_metrics(tmp_path), read_metrics(two / kind), strict=True):
        assert first.keys() == second.keys()
        for name in first.keys() - {"seconds"}:
            # Fabric hands metrics on in single precision.
            assert first[name] == pytest.approx(second[name], rel=1e-5, abs=1e-6), name


def test_each_process_has_its_own_chains(two):
    ranks = read_state(_last(two / "chains"))["ranks"]
    first, second = (rank["objective"]["replay.x"] for rank in ranks)
    assert first.shape == second.shape == (6, 2)
    assert not torch.isclose(first, second).any()


def test_two_processes_resume_to_the_bit(two):
    for file in ("weights.safetensors", "state.pt"):
        assert (_last(two / "chains") / file).read_bytes() == (_last(two / "parts") / file).read_bytes()


def test_another_number_of_processes_is_refused(two, tmp_path):
    shutil.copytree(two / "chains", tmp_path / "run")
    with pytest.raises(CheckpointError, match="made with devices=2, not 1; resume it with the same number"):
        _fits().run("chains", tmp_path / "run", devices=1, num_steps=30, resume=True)


def test_the_command_line_runs_two_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    Path("points.csv").write_text("\n".join(f"{x},{y}" for x, y in rows.tolist()))
    network = {"class_path": "energeia.MLP", "init_args": {"widths": [8]}}
    space = {"class_path": "Real", "init_args": {"start_scale": 1.0}}
    settings = {
        "data": {"class_path": "Table", "init_args": {"path": "points.csv"}},
        "energy": {"class_path": "Neural", "init_args": {"network": network, "space": space}},
        "objective": {
            "class_path": "ContrastiveDivergence",
            "init_args": {
                "num_steps": 2,
                "sampler": {"class_path": "Langevin", "init_args": {"step_size": 0.1, "noise_scale": 0.0}},
            },
        },
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "num_steps": 12,
        "batch_size": 9,
        "accelerator": "cpu",
        "report": False,
    }
    Path("two.yaml").write_text(yaml.safe_dump(settings))
    script = Path(sys.executable).with_name("energeia")
    command = [script] if script.exists() else ["-m", "energeia"]
    _start(*command, "train", "two.yaml", "--devices", 2, "--out", "run2")
    assert cli.main(["train", "two.yaml", "--out", "run1"]) == 0
    one, both = (read_weights(_last(tmp_path / f"run{devices}", 12)) for devices in (1, 2))
    for name, first in one.items():
        torch.testing.assert_close(first, both[name], rtol=0, atol=2e-6)
