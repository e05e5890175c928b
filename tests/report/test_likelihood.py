"""Curves of the log-likelihood and of the bracket around log Z."""

import pytest

from energeia.core.errors import InputError
from energeia.report import likelihood, plots

RECORDS = [
    {
        "step": step,
        "validation/log_likelihood": v,
        "validation/log_likelihood_low": v - 1,
        "validation/weight_norm": 1.0,
    }
    | {"validation/log_likelihood_high": v + 0.5}
    for step, v in ((10, -9.0), (20, -8.0))
]


def test_the_likelihood_is_drawn_over_epochs_with_its_interval():
    axes = likelihood.likelihood_curve(RECORDS, steps_per_epoch=5).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [2.0, 4.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-10.0, -7.5)
    assert plots.loss_keys(RECORDS) == []
    with pytest.raises(InputError, match="log_likelihood"):
        likelihood.likelihood_curve([{"step": 1}])


def test_the_bracket_is_drawn_against_levels():
    history = [
        {"levels": 100 * 2**k, "low": -2.0 / 2**k, "high": 1.0 / 2**k, "lower": -1.0 / 2**k, "upper": 0.5 / 2**k}
        for k in range(3)
    ]
    axes = likelihood.bracket_curve(history).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [100, 200, 400]
    assert axes.lines[1].get_ydata().tolist() == [-1.0, -0.5, -0.25]
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-2.0, 1.0)
    with pytest.raises(InputError, match="history"):
        likelihood.bracket_curve([])
