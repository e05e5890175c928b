"""What fit is given wrongly is told before anything is trained."""

import functools

import pytest
import torch

import energeia as en
from energeia.core.errors import InputError

X = torch.linspace(-1, 1, 24).view(12, 2)
Y = torch.arange(12) % 3


def _classifier():
    return en.Classifier(torch.nn.Linear(2, 3), en.Box(2))


WRONG = [
    ((X.double(), Y), {}, r"data is torch.float64 and the energy is torch.float32"),
    ((X * 3, Y), {}, r"rows lie outside Box"),
    ((X.where(X < 0.9, torch.nan), Y), {}, r"values that are NaN or infinite; the first is in row 11"),
    ((X, Y + 1), {}, r"labels outside 0..2.*row 2 has 3 \(4 rows in all\)"),
    ((X, Y - 100), {}, r"labels outside 0..2.*row 0 has -100"),
    ((X, Y.float()), {}, r"expected class numbers"),
    ((X, Y[:5]), {}, r"expected class numbers \(int64\) of shape \[12\]"),
    (X, {}, r"CrossEntropy: the data has no labels"),
    (X[:, :1], {}, r"data has shape \(12, 1\)"),
    ((X[:0], Y[:0]), {}, r"no rows"),
    ((X, Y), {"batch_size": 0}, r"batch_size must be an integer of at least 1, got 0"),
    ((X, Y), {"num_steps": -3}, r"num_steps must be an integer of at least 1, got -3"),
    ((X, Y), {"average_decay": 1.0}, r"average_decay must lie between 0 and 1"),
    ((X, Y), {"gradient_clip": float("nan")}, r"gradient_clip must be a positive finite number"),
    ((X, Y), {"select": "best"}, r"need validation data"),
    ((X, Y), {"validation": (X * 3, Y)}, r"validation data: .* outside Box"),
    ((X, Y), {"validation": (X, Y), "monitor": "accuracy"}, r"monitor 'accuracy' is not among .*cross_entropy"),
]


@pytest.mark.parametrize(("data", "settings", "told"), WRONG, ids=[told for _, _, told in WRONG])
def test_wrong_input_is_told(tmp_path, data, settings, told):
    with pytest.raises(InputError, match=told):
        en.fit(_classifier(), en.CrossEntropy(), data, run_dir=tmp_path / "run", progress=False, **settings)
    assert not (tmp_path / "run").exists()


def test_dropout_is_refused_in_training_mode_and_frozen_in_eval_mode():
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)).eval()
    energy = en.Classifier(network, en.Box(2))
    energy.train()
    with pytest.raises(InputError, match="Dropout in training mode"):
        en.fit(energy, en.CrossEntropy(), (X, Y), num_steps=2, progress=False)
    energy.eval()
    en.fit(energy, en.CrossEntropy(), (X, Y), num_steps=2, validation=(X, Y), progress=False)
    assert not network[1].training


def test_double_precision_trains_and_validates():
    result = en.fit(
        _classifier(), en.CrossEntropy(), (X, Y), num_steps=3, validation=(X, Y), precision="64-true", progress=False
    )
    assert next(result.energy.parameters()).dtype == torch.float64


def test_a_schedule_shorter_than_the_run_is_told_before_it_starts():
    energy = en.Neural(en.MLP(2, widths=(4,)), en.Real(2))
    schedule = functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=5)
    with pytest.raises(en.InputError, match=r"--scheduler.total_steps 8"):
        en.fit(energy, en.ExactLikelihood(num_nodes=10), torch.randn(20, 2), num_steps=8, scheduler=schedule)
