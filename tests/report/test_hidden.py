import pytest
import torch

from energeia.core.errors import InputError
from energeia.report import hidden, plots

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


def test_filters_come_largest_first_on_one_scale_about_grey():
    weights = torch.full((2, 1, 8, 8), 0.5)
    weights[1] = -1.0
    image = hidden.filters(weights, columns=2).axes[0].images[0].get_array()
    assert image[0, 0, 0] == pytest.approx(0.0)
    assert image[0, -1, 0] == pytest.approx(0.75)


def test_the_likelihood_is_drawn_over_epochs_with_its_interval():
    axes = hidden.likelihood_curve(RECORDS, steps_per_epoch=5).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [2.0, 4.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-10.0, -7.5)
    assert plots.loss_keys(RECORDS) == []
    with pytest.raises(InputError, match="log_likelihood"):
        hidden.likelihood_curve([{"step": 1}])


def test_the_activity_of_each_unit_is_in_order():
    axes = hidden.activity(torch.tensor([[0.9, 0.2], [0.7, 0.4]])).axes[1]
    assert axes.lines[0].get_ydata() == pytest.approx([0.3, 0.8])
