"""log p of rows in bits per dimension."""

import math

import pytest
import torch

import energeia as en


def test_bits_of_bits():
    """Independent bits: the entropy."""
    natural = torch.tensor([0.0, 1.0, -2.0, 0.3], dtype=torch.float64)
    model = en.Independent(en.Binary(4), natural)
    x = model.sample_exact(200_000, torch.Generator().manual_seed(0))
    chance = natural.sigmoid()
    entropy = -(chance * chance.log2() + (1 - chance) * (1 - chance).log2()).mean()
    found = en.bits_per_dimension(en.log_likelihood(model, x), model.space)
    assert found.value == pytest.approx(float(entropy), abs=5e-3)
    assert found.low == found.value == found.high


def test_a_site_of_categories_is_one_dimension():
    model = en.Independent(en.Categorical(3, num_categories=8), torch.zeros(3, 8, dtype=torch.float64))
    x = model.sample_exact(5, torch.Generator().manual_seed(0))
    assert en.bits_per_dimension(en.log_likelihood(model, x), model.space).value == pytest.approx(3)


def test_levels_that_were_spread_over_their_bins():
    """A uniform density over 256 levels has 8 bits, in whatever units."""
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        model = en.Uniform(en.Box(5, low, high)).double()
        x = model.sample_exact(10, torch.Generator().manual_seed(0))
        found = en.bits_per_dimension(en.log_likelihood(model, x), model.space, bin_width=(high - low) / 256)
        assert found.value == pytest.approx(8)


def test_more_log_p_is_fewer_bits():
    model = en.Independent(en.Binary(4), torch.zeros(4, dtype=torch.float64))
    exact = en.log_likelihood(model, torch.ones(3, 4, dtype=torch.float64))
    found = en.bits_per_dimension(exact._replace(low=-10.0, high=-2.0), model.space)
    assert (found.low, found.high) == (pytest.approx(2 / 4 / math.log(2)), pytest.approx(10 / 4 / math.log(2)))


def test_what_bits_need():
    model = en.Gaussian(2).double()
    found = en.log_likelihood(model, torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(en.InputError, match="give bin_width"):
        en.bits_per_dimension(found, model.space)
    with pytest.raises(en.InputError, match="no bins"):
        en.bits_per_dimension(found, en.Binary(2), bin_width=0.1)
    with pytest.raises(en.InputError, match="bin_width"):
        en.bits_per_dimension(found, model.space, bin_width=-1.0)
