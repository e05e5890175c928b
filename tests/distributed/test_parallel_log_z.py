"""log Z on two processes is all their weights together."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import energeia as en
from energeia.partition import bracket, merged

SCRIPT = Path(__file__).with_name("log_z.py")


def _energy():
    spec = importlib.util.spec_from_file_location("log_z", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.energy()


def test_two_processes_equal_one_with_the_same_streams(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    command = [sys.executable, str(SCRIPT), "2", str(tmp_path / "told")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    two = [json.loads((tmp_path / f"told.{rank}").read_text()) for rank in range(2)]
    assert [one["ends"] for one in two] == [two[0]["ends"]] * 2
    assert two[0]["chains"] == 31
    energy = _energy()
    streams = [en.Streams(3, rank=rank)["noise"] for rank in range(2)]
    for number, round_ in enumerate(two[0]["history"]):
        levels = 20 * 2**number
        parts = [
            bracket(energy, num_chains=size, levels=levels, num_steps=levels, generator=stream)
            for size, stream in zip((16, 15), streams, strict=True)
        ]
        found = merged(parts)
        assert (float(found.low), float(found.high)) == (round_["low"], round_["high"])
        assert round_["levels"] == levels
    assert two[0]["ends"] == [float(found.low), float(found.value), float(found.high)]
    assert float(found.high - found.low) <= 0.24
    assert found.low < en.exact_log_z(energy).value < found.high


def test_one_process_needs_no_launch_and_refuses_too_few_chains():
    found = en.log_z_parallel(_energy(), num_chains=20, levels=20, num_steps=20, devices=1, accelerator="cpu")
    assert found.kind == "approximate"
    with pytest.raises(en.InputError, match="at least as many chains"):
        en.log_z_parallel(_energy(), num_chains=0, devices=1, accelerator="cpu")
