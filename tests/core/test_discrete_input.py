"""Data that does not fit a discrete space: what is said of it."""

import warnings

import pytest
import torch

import energeia as en


def test_spins_for_bits_and_bits_for_spins():
    with pytest.raises(en.InputError, match=r"give \(x \+ 1\) / 2, or a model on en.Spin"):
        en.fit(en.BoltzmannMachine(2), en.PseudoLikelihood(), torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    with pytest.raises(en.InputError, match=r"give 2 \* x - 1, or a model on en.Binary"):
        en.fit(en.BoltzmannMachine(en.Spin(2)), en.PseudoLikelihood(), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    with pytest.raises(en.InputError, match=r"values from 0 to 7; cut them into bits.*Binarised"):
        en.fit(en.BoltzmannMachine(2), en.PseudoLikelihood(), torch.tensor([[7.0, 0.0]]))


def test_numbers_for_categories():
    space = en.Categorical(2, num_categories=3)
    with pytest.raises(en.InputError, match=r"space\.one_hot"):
        space.check(torch.tensor([[0.0, 2.0]]))
    x = space.one_hot(torch.tensor([[0, 2], [1, 1]]))
    space.check(x)
    assert x.argmax(2).tolist() == [[0, 2], [1, 1]]
    with pytest.raises(en.InputError, match=r"2 categories are outside 0..2; the first is 3, in row 0 at site \[1\]"):
        space.one_hot(torch.tensor([[0, 3], [-1, 1]]))
    with pytest.raises(en.InputError, match=r"whole numbers \(int64\) of shape \[B, 2\], got torch.float32"):
        space.one_hot(torch.tensor([[0.0, 1.0]]))
    with pytest.raises(en.InputError, match=r"got torch.int64 of shape \[2\]"):
        space.one_hot(torch.tensor([0, 1]))


def test_columns_that_never_vary_are_told():
    data = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    with pytest.warns(UserWarning, match="1 of 3 columns of the data never vary; the first is 1, always 1"):
        en.fit(en.BoltzmannMachine(3), en.PseudoLikelihood(), data, num_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        en.fit(en.BoltzmannMachine(3), en.PseudoLikelihood(), data[:, [0, 2, 2]], num_steps=1)
        real = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
        model = en.Neural(en.MLP(2), en.Real(2)) + en.Gaussian(2)
        en.fit(model, en.ContrastiveDivergence(en.MALA(), 1), real, num_steps=1)
