"""An interrupted run, gone on with, equals the uninterrupted one to the bit."""

import functools
import os
import signal
from pathlib import Path

import pytest
import torch

import energeia as en
from energeia.core.errors import CheckpointError, InputError
from energeia.train.log import read_metrics
from energeia.train.state import CHECKPOINTS

ROWS = torch.randn(53, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 0.3]) + 1


def _jitter(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def _parts():
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    objective = en.PersistentCD(en.Langevin(step_size=0.05), num_steps=3, num_chains=8, capacity=20, fresh=0.25)
    return en.Neural(network, en.Real(2)), objective


def _fit(folder, num_steps, *, resume=False, objective=None, transform=_jitter, **changes):
    energy, made = _parts()
    objective = objective or made
    settings = {
        "batch_size": 10,
        "optimizer": functools.partial(torch.optim.Adam, lr=2e-2),
        "scheduler": functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=40),
        "average_decay": 0.9,
        "gradient_clip": 1.0,
        "validate_every": 5,
        "select": "best",
        "log_every": 4,
        "checkpoint_every": 10,
        "seed": 7,
        **changes,
    }
    result = en.fit(
        energy,
        objective,
        ROWS[:43],
        validation=ROWS[43:],
        num_steps=num_steps,
        transform=transform,
        run_dir=folder,
        resume=resume,
        progress=False,
        **settings,
    )
    return result, objective


def _told(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def _assert_same(one, two):
    """Two (result, objective) of runs are the same to the bit."""
    for (name, first), second in zip(
        one[0].energy.state_dict().items(), two[0].energy.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name
    for (name, first), second in zip(one[1].state_dict().items(), two[1].state_dict().values(), strict=True):
        assert torch.equal(first, second), name
    assert _told(one[0].records) == _told(two[0].records)
    assert one[0].stopped == two[0].stopped
    assert one[0].step == two[0].step


def _assert_same_checkpoints(one: Path, two: Path):
    """Weights, averages, optimizer, streams and windows on disk are equal byte for byte."""
    names = sorted(path.name for path in (one / CHECKPOINTS).iterdir())
    assert names == sorted(path.name for path in (two / CHECKPOINTS).iterdir())
    for name in names:
        for file in ("weights.safetensors", "state.pt"):
            assert (one / CHECKPOINTS / name / file).read_bytes() == (two / CHECKPOINTS / name / file).read_bytes(), (
                name
            )


def test_a_run_in_two_parts_equals_one_run(tmp_path):
    whole = _fit(tmp_path / "whole", 40)
    _fit(tmp_path / "parts", 20)
    parts = _fit(tmp_path / "parts", 40, resume=True)
    _assert_same(whole, parts)
    _assert_same_checkpoints(tmp_path / "whole", tmp_path / "parts")
    assert _told(read_metrics(tmp_path / "whole")) == _told(read_metrics(tmp_path / "parts")) == _told(whole[0].records)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_rest_follows_to_the_bit(tmp_path, number):
    class Killing(en.PersistentCD):
        """Sends this process a signal in the 17th update, between log lines and checkpoints."""

        calls = 0

        def negatives(self, energy, batch, generator):
            if self.training:
                self.calls += 1
                if self.calls == 17:
                    os.kill(os.getpid(), number)
            return super().negatives(energy, batch, generator)

    sampler = en.Langevin(step_size=0.05)
    killing = Killing(sampler, num_steps=3, num_chains=8, capacity=20, fresh=0.25)
    before = signal.getsignal(number)
    stopped, _ = _fit(tmp_path / "parts", 40, objective=killing)
    assert (stopped.stopped, stopped.step) == ("interrupted", 17)
    assert signal.getsignal(number) is before
    assert (tmp_path / "parts" / CHECKPOINTS / "step-00000017").is_dir()
    _assert_same(_fit(tmp_path / "whole", 40), _fit(tmp_path / "parts", 40, resume=True))


def test_a_crash_before_the_first_checkpoint_starts_over(tmp_path):
    class CrashError(Exception):
        pass

    def transform(x, generator):
        transform.calls += 1
        if transform.calls == 7:
            raise CrashError
        return _jitter(x, generator)

    transform.calls = 0
    with pytest.raises(CrashError):
        _fit(tmp_path / "parts", 40, transform=transform)
    assert len(read_metrics(tmp_path / "parts")) == 2  # step 4 and the validation of step 5, to be written again
    _assert_same(_fit(tmp_path / "whole", 40), _fit(tmp_path / "parts", 40, resume=True))


def test_a_run_that_ran_out_of_patience_is_over(tmp_path):
    settings = {"patience": 1, "optimizer": functools.partial(torch.optim.SGD, lr=1e-12), "scheduler": None}
    stopped = _fit(tmp_path, 1000, **settings)
    assert stopped[0].stopped == "patience"
    assert stopped[0].step < 100
    again = _fit(tmp_path, 1000, resume=True, **settings)
    _assert_same(stopped, again)


def test_rewinds_are_repeated_to_the_bit(tmp_path):
    # The rate rises tenfold every 15 updates, until the guard steps in.
    def rising(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 10.0 ** (step / 15 - 1.5))

    settings = {
        "scheduler": rising,
        "guard": en.Guard(max_gap=3.0, max_rewinds=20),
        "average_decay": None,
        "gradient_clip": None,
        "log_every": 5,
    }
    whole = _fit(tmp_path / "whole", 40, **settings)
    assert whole[0].rewinds >= 1
    first = next(record["step"] for record in whole[0].records if record.get("event") == "rewind")
    _fit(tmp_path / "parts", (first - 1) // 10 * 10, **settings)
    _assert_same(whole, _fit(tmp_path / "parts", 40, resume=True, **settings))


def test_a_run_directory_is_never_overwritten(tmp_path):
    _fit(tmp_path, 10)
    before = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
    with pytest.raises(CheckpointError, match="never overwritten"):
        _fit(tmp_path, 10)
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == before


def test_resuming_with_other_data_is_refused(tmp_path):
    _fit(tmp_path, 10)
    energy, objective = _parts()
    with pytest.raises(CheckpointError, match="the data has 30 rows, the run was made with 43"):
        en.fit(energy, objective, ROWS[:30], num_steps=20, run_dir=tmp_path, resume=True)


def test_resuming_with_other_settings_is_refused(tmp_path):
    _fit(tmp_path, 10, average_decay=None)
    with pytest.raises(CheckpointError, match="does not fit"):
        _fit(tmp_path, 20, resume=True)


def test_an_unwritable_path_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint of step 0"):
        _fit(tmp_path / "file" / "run", 10)


def test_a_wrong_monitor_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"'gaap' is not among .*gap"):
        _fit(tmp_path / "run", 10, monitor="gaap")
    assert not (tmp_path / "run").exists()


def test_validation_moves_no_chain_and_no_stream():
    with_validation = _fit(None, 20, validate_every=1, select="last")
    without = _fit(None, 20, validate_every=20, select="last")
    for first, second in zip(
        with_validation[0].energy.state_dict().values(), without[0].energy.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second)
    assert torch.equal(with_validation[1].replay.x, without[1].replay.x)
