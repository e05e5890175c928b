"""Rows of the densities of the plane, as data."""

import pytest
import torch

from energeia.core.errors import InputError
from energeia.data import Toy
from energeia.energies import Planar


def test_rows_are_draws_that_no_two_parts_share():
    source = Toy("pinwheel", num_rows=3000, num_held_out=1000, labels=True, draw_seed=7)
    splits = source.splits()
    assert [len(part.x) for part in (splits.train, splits.validation, splits.test)] == [3000, 1000, 1000]
    assert (source.event_shape, source.num_classes, source.as_images) == ((2,), 5, False)
    rows = torch.cat([splits.train.x, splits.validation.x, splits.test.x])
    assert rows.dtype == torch.float32
    assert len(rows.unique(dim=0)) == 5000
    density = Planar("pinwheel")
    values = density(rows)
    assert abs(values.mean() - density.entropy()) < 5 * values.std() / 5000**0.5
    right = density.class_energies(splits.test.x).argmin(1) == splits.test.y
    assert right.float().mean() > 0.9
    assert torch.equal(Toy("pinwheel", num_rows=3000, num_held_out=1000, draw_seed=7).splits().train.x, splits.train.x)
    assert not torch.equal(Toy("pinwheel", num_rows=3000, num_held_out=1000).splits().train.x, splits.train.x)


def test_labels_are_asked_for():
    assert Toy("rings").num_classes is None
    assert Toy("rings").splits().train.y is None
    with pytest.raises(InputError, match="one part"):
        Toy("funnel", labels=True)
    with pytest.raises(InputError, match="num_rows"):
        Toy(num_rows=0)
    with pytest.raises(InputError, match="choose one of mixture"):
        Toy("moons")  # type: ignore[arg-type]
