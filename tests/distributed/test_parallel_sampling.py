"""Sampling on two processes equals one process with the same streams."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import energeia as en
from energeia.train.parallel import join, share

SCRIPT = Path(__file__).with_name("samples.py")


def _samples():
    spec = importlib.util.spec_from_file_location("samples", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_processes_equal_one_with_the_same_streams(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    command = [sys.executable, str(SCRIPT), "2", str(tmp_path / "draws")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    two = [torch.load(tmp_path / f"draws.{rank}", weights_only=True) for rank in range(2)]
    module = _samples()
    parts = [
        en.sample(
            module.energy(),
            en.HMC(),
            num_steps=module.NUM_STEPS,
            num_chains=size,
            warmup=module.WARMUP,
            keep="all",
            generator=en.Streams(module.SEED, rank=rank)["noise"],
        )
        for rank, size in enumerate(share(module.NUM_CHAINS, 2))
    ]
    one = join(parts)
    assert one.kept.shape == (12, 9, 2)
    assert not torch.isclose(parts[0].x[:4], parts[1].x).any()
    for first, *others in zip([one.x, one.kept, *one.info], *two, strict=True):
        for other in others:
            torch.testing.assert_close(first, other, rtol=0, atol=0)


def test_chains_are_dealt_out_evenly():
    assert share(9, 2) == [5, 4]
    assert share(8, 3) == [3, 3, 2]
    with pytest.raises(en.InputError, match="at least as many chains"):
        share(1, 2)
