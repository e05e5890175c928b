"""The picture of sequences and what was read in them."""

import pytest
import torch
from matplotlib.colors import to_hex

from energeia.core.errors import InputError
from energeia.report.readings import Reading, as_sites, readings
from energeia.report.style import BLUE, ORANGE


def _one(right, first, second, gap=1.5):
    return Reading(torch.rand(len(right), 6, 4, generator=torch.Generator().manual_seed(0)), right, first, second, gap)


def test_wrong_labels_and_what_the_second_changes_are_marked():
    figure = readings([_one("cat", "cot", "cat"), _one("by", "by", "my", 0.25), _one("we", "me", "ma")])
    (axes,) = figure.axes
    texts = [(text.get_text(), to_hex(text.get_color())) for text in axes.texts]
    # Letter by letter, the first above the second.
    assert [name for name, _ in texts if len(name) == 1] == list("ccoatt") + list("bmyy") + list("mmea")
    assert texts[2] == ("o", ORANGE)
    assert texts[3] == ("a", BLUE)
    assert [name for name, colour in texts if colour == ORANGE] == ["o", "m", "right: we"]
    assert ("second is right", BLUE) in texts
    assert ("gap 0.25 nats", texts[0][1]) in texts
    assert len(axes.images) == 7


def test_sites_are_pictures_or_not():
    assert as_sites(torch.zeros(2, 3, 6, 4)).shape == (2, 3, 6, 4)
    assert as_sites(torch.zeros(2, 3, 1, 6, 4)).shape == (2, 3, 6, 4)
    assert as_sites(torch.zeros(2, 3, 7)) is None
    assert as_sites(torch.zeros(2, 3, 3, 6, 4)) is None


def test_sites_without_a_label_each_are_told():
    with pytest.raises(InputError, match="sites must be pictures"):
        readings([Reading(torch.zeros(2, 6, 4), "abc", "abc", None, 0.0)])
