"""Runs that go wrong say so, go back, or stop; runs that can be saved are."""

import functools
import json
import math
import os
import signal

import pytest
import torch

import energeia as en
from energeia.core.errors import DivergenceError, InputError
from energeia.core.record import Loss
from energeia.train.guard import Window

ROWS = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))


class Quartic(en.Energy):
    """E(x) = sum of scale x^4: unadjusted Langevin with a large step leaves the finite numbers in a few steps."""

    def __init__(self):
        super().__init__(en.Real(2))
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.log_scale.exp() * x.pow(4).sum(1)


class TurnsNaN(en.Energy):
    """A quadratic whose scale has no gradient any more once it passes 1.1: sqrt of a negative number."""

    def __init__(self):
        super().__init__(en.Real(2))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (1.1 - self.scale).sqrt() * x.square().sum(1)


class SpeedLimit(en.Objective):
    """(w - 3)^2 / 2 of a scale w: gradient descent converges for rates below 2 and diverges above."""

    def forward(self, energy, batch, generator):
        value = (energy.scale - 3).square() / 2
        return Loss(value, {"loss": value.detach()})


class NaNGradient(en.Objective):
    """A loss of 0.1 whose gradient is NaN: sqrt at 0, times 0."""

    def forward(self, energy, batch, generator):
        value = 0.1 + 0 * (energy.scale - energy.scale.detach()).sqrt()
        return Loss(value, {"loss": value.detach()})


class Scale(en.Energy):
    def __init__(self):
        super().__init__(en.Real(2))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x.square().sum(1)


def _fit(energy, objective, folder=None, *, lr=0.1, **settings):
    optimizer = functools.partial(torch.optim.SGD, lr=lr)
    defaults = {"num_steps": 60, "log_every": 5, "checkpoint_every": 10, "progress": False}
    return en.fit(energy, objective, ROWS, optimizer=optimizer, run_dir=folder, **{**defaults, **settings})


def _lines(folder):
    def refuse(constant):
        raise AssertionError(f"metrics.jsonl holds {constant}, which is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Fixed(en.Objective):
    """Raises the scale by the learning rate (almost), and tells the energy of the data."""

    def forward(self, energy, batch, generator):
        value = -1.025 * energy.scale
        return Loss(value, {"loss": energy(batch.x).mean().detach()})


def test_stop_names_the_cause_and_the_step_and_leaves_good_weights(tmp_path):
    energy = TurnsNaN()
    # Every update adds 0.0044 to the scale; the 24th finds it beyond 1.1.
    with pytest.raises(DivergenceError, match=r"diverged by step 25: loss is not finite.*good weights, of step 20"):
        _fit(energy, Fixed(), tmp_path, lr=0.0043, guard=en.Guard(action="stop"))
    assert energy.scale.item() == pytest.approx(1 + 20 * 1.025 * 0.0043, abs=1e-5)
    lines = _lines(tmp_path)
    assert [(line["step"], line["event"]) for line in lines if "event" in line] == [(25, "diverged")]
    assert max(line["step"] for line in lines if "loss" in line) == 20


def test_a_run_that_can_be_saved_is_saved(tmp_path):
    energy = Scale()
    # An update multiplies the error by 1 - rate: -6, then -2.5, then -0.75.
    result = _fit(energy, SpeedLimit(), tmp_path, lr=7.0, num_steps=120)
    events = [line for line in _lines(tmp_path) if "event" in line]
    assert [(event["event"], event["step"], event["to_step"]) for event in events] == [
        ("rewind", 10, 0),
        ("rewind", 20, 10),
    ]
    assert [event["learning_rate"] for event in events] == [3.5, 1.75]
    assert all("gradient norm" in event["cause"] for event in events)
    assert (result.rewinds, result.stopped, result.step) == (2, "num_steps", 120)
    assert energy.scale.item() == pytest.approx(3, abs=1e-4)
    assert _lines(tmp_path)[-1]["learning_rate"] == 1.75


class InterruptedOnce(SpeedLimit):
    """Sends SIGINT in its 36th call: after both rewinds, before the step of the second."""

    calls = 0

    def forward(self, energy, batch, generator):
        self.calls += 1
        if self.calls == 36:
            os.kill(os.getpid(), signal.SIGINT)
        return super().forward(energy, batch, generator)


def test_rewinds_of_later_steps_stay_in_the_metrics_of_a_resumed_run(tmp_path):
    first = _fit(Scale(), InterruptedOnce(), tmp_path, lr=7.0, num_steps=120)
    assert (first.stopped, first.rewinds) == ("interrupted", 2)
    assert first.step < 20
    result = _fit(Scale(), SpeedLimit(), tmp_path, lr=7.0, num_steps=120, resume=True)
    events = [(line["step"], line["to_step"]) for line in result.records if "event" in line]
    assert events == [(10, 0), (20, 10)]
    assert result.rewinds == 2


def test_a_rewind_halves_a_schedule_that_begins_at_zero(tmp_path):
    def late(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 7.0)

    result = _fit(Scale(), SpeedLimit(), tmp_path, lr=1.0, scheduler=late, num_steps=120)
    assert result.rewinds == 2
    assert _lines(tmp_path)[-1]["learning_rate"] == 1.75
    assert result.energy.scale.item() == pytest.approx(3, abs=1e-4)


def test_it_gives_up_with_words_after_max_rewinds(tmp_path):
    energy = Quartic()
    objective = en.ContrastiveDivergence(en.Langevin(step_size=5.0), num_steps=20)
    with pytest.raises(DivergenceError, match=r"diverged by step 5 after 2 rewinds: .*not finite.*step_size"):
        _fit(energy, objective, tmp_path, guard=en.Guard(max_rewinds=2))
    events = [line["event"] for line in _lines(tmp_path) if "event" in line]
    assert events == ["rewind", "rewind", "diverged"]
    assert energy.log_scale.item() == 0


def test_chains_that_left_the_finite_numbers_do_not_stay_in_the_buffer():
    objective = en.PersistentCD(en.Langevin(step_size=5.0), num_steps=20, num_chains=8, capacity=16)
    with pytest.raises(DivergenceError):
        _fit(Quartic(), objective, guard=en.Guard(action="stop"))
    assert objective.replay.x.isfinite().all()


def test_a_nan_gradient_beneath_a_finite_loss_is_seen(tmp_path):
    energy = Scale()
    with pytest.raises(DivergenceError, match="gradient_norm are not finite"):
        _fit(energy, NaNGradient(), tmp_path, guard=en.Guard(action="stop"))
    assert energy.scale.item() == 1
    assert not [line for line in _lines(tmp_path) if "loss" in line]


def test_a_single_bad_update_within_a_window_is_seen():
    window = Window()
    for value in (1.0, math.nan, 1.0):
        window.add({"loss": torch.tensor(value), "gap": torch.tensor(0.0)})
    assert window.cause(en.Guard()) == "loss is not finite"
    window = Window()
    for value in (0.0, -2000.0, 0.0):
        window.add({"loss": torch.tensor(1.0), "gap": torch.tensor(value)})
    assert window.cause(en.Guard()) == "gap 2000 exceeds max_gap 1000"


def test_a_phase_of_training_may_bring_metrics_of_its_own():
    window = Window()
    window.add({"loss": torch.tensor(1.0)})
    window.add({"gap": torch.tensor(4.0), "loss": torch.tensor(2.0)})
    resumed = Window()
    resumed.load_state_dict(window.state_dict())
    resumed.add({"other": torch.tensor(5.0), "gap": torch.tensor(-6.0)})
    assert resumed.means() == {"loss": 1.5, "gap": -1.0, "other": 5.0}
    assert resumed.cause(en.Guard(max_gap=5.0)) == "gap 6 exceeds max_gap 5"


def test_low_acceptance_is_a_cause_only_when_asked():
    window = Window()
    window.add({"acceptance": torch.tensor(0.25)})
    window.add({"acceptance": torch.tensor(0.05)})
    assert window.cause(en.Guard()) is None
    assert window.cause(en.Guard(min_acceptance=0.2)) == "mean acceptance 0.15 is below min_acceptance 0.2"


def test_a_validation_that_is_not_finite_is_a_cause(tmp_path):
    class Beyond(en.Objective):
        """The validation row at 1e30 squares to infinity; no training row does."""

        def forward(self, energy, batch, generator):
            value = energy(batch.x).mean()
            return Loss(value, {"loss": value.detach()})

    class Square(Scale):
        def forward(self, x):
            return self.scale * (x.square().sum(1) if self.training else x.pow(6).sum(1))

    with pytest.raises(DivergenceError, match="validation/loss is not finite"):
        _fit(Square(), Beyond(), tmp_path, lr=1e-3, validation=torch.full((3, 2), 1e9), guard=en.Guard(max_rewinds=1))
    assert not [line for line in _lines(tmp_path) if "validation/loss" in line]


def test_the_guard_checks_its_settings():
    for wrong in ({"action": "halt"}, {"max_gap": math.nan}, {"max_gap": 0}, {"shrink": 1.0}, {"max_rewinds": 0}):
        with pytest.raises(InputError, match="Guard"):
            en.Guard(**wrong)
