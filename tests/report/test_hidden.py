import pytest
import torch

from energeia.report import hidden


def test_filters_come_largest_first_on_one_scale_about_grey():
    weights = torch.full((2, 1, 8, 8), 0.5)
    weights[1] = -1.0
    image = hidden.filters(weights, columns=2).axes[0].images[0].get_array()
    assert image[0, 0, 0] == pytest.approx(0.0)
    assert image[0, -1, 0] == pytest.approx(0.75)


def test_the_activity_of_each_unit_is_in_order():
    axes = hidden.activity(torch.tensor([[0.9, 0.2], [0.7, 0.4]])).axes[1]
    assert axes.lines[0].get_ydata() == pytest.approx([0.3, 0.8])
