import numpy as np
import pytest
import sklearn.datasets
import torch

from energeia.core.errors import InputError
from energeia.data import Binarised, Digits, Mnist, Table


def test_bits_are_ones_from_the_threshold_on():
    source = Digits()
    whole, cut, flat = source.splits(), Binarised(source), Binarised(source, -0.5, flat=True)
    assert torch.equal(cut.splits().train.x, (whole.train.x >= 0).float())
    assert torch.equal(flat.splits().test.x, (whole.test.x >= -0.5).float().flatten(1))
    assert torch.equal(cut.splits().test.y, whole.test.y)
    assert (cut.event_shape, cut.low, cut.high, cut.as_images) == ((1, 8, 8), 0.0, 1.0, True)
    assert (flat.event_shape, flat.as_images) == ((64,), False)
    assert all(set(x.unique().tolist()) == {0.0, 1.0} for x in cut.splits().foreign.values())


def test_a_threshold_that_is_missing_or_beside_the_values_is_told(tmp_path):
    np.savez(tmp_path / "real.npz", x=np.random.default_rng(0).normal(size=(40, 3)))
    table = Table(str(tmp_path / "real.npz"))
    with pytest.raises(InputError, match=r"--data.threshold 0.5"):
        Binarised(table).splits()
    with pytest.raises(InputError, match="all bits are equal"):
        Binarised(table, 99.0).splits()


def test_mnist_of_a_file_cuts_at_128(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    x[0, 0, :2] = 127, 128
    path = str(tmp_path / "mnist.npz")
    np.savez(path, x_train=x, y_train=np.arange(40) % 10, x_test=x[:10], y_test=np.arange(10))
    splits = Binarised(Mnist(path)).splits()
    assert torch.equal(splits.test.x, torch.from_numpy(x[:10, None] >= 128).float())
    assert len(splits.train.x) == 37


def test_a_network_that_is_not_there_is_told(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", refuse)
    with pytest.raises(InputError, match=r"no route to host.*--data.path"):
        Mnist().splits()
