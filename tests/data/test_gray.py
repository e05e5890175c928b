"""Gray code there and back, and what makes it Gray's."""

import pytest
import torch

from energeia.core.errors import InputError
from energeia.data import Digits, GrayCoded, Toy, from_gray_code, gray_code


def _middles(num_bits):
    return ((torch.arange(2**num_bits, dtype=torch.float64) + 0.5) / 2**num_bits * 8 - 4).unsqueeze(1)


@pytest.mark.parametrize("num_bits", [1, 3, 16])
def test_all_cells_come_back_and_neighbours_differ_in_one_bit(num_bits):
    x = _middles(num_bits)
    bits = gray_code(x, low=-4.0, high=4.0, num_bits=num_bits)
    assert bits.dtype == torch.float64
    torch.testing.assert_close(from_gray_code(bits, low=-4.0, high=4.0, num_bits=num_bits), x, rtol=0, atol=1e-12)
    assert bool(((bits[1:] != bits[:-1]).sum(1) == 1).all())
    assert len(bits.unique(dim=0)) == 2**num_bits


def test_the_codes_of_three_bits_are_gray_s():
    codes = ["".join(str(int(bit)) for bit in row) for row in gray_code(_middles(3), low=-4.0, high=4.0, num_bits=3)]
    assert codes == ["000", "001", "011", "010", "110", "111", "101", "100"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_come_back_within_half_a_cell(dtype):
    x = Toy("checkerboard", num_rows=5000).splits().train.x.to(dtype)
    bits = gray_code(x, low=-3.0, high=5.0)
    back = from_gray_code(bits, low=-3.0, high=5.0)
    assert back.dtype == bits.dtype == dtype
    assert bits.shape == (5000, 32)
    assert (back.double() - x.double()).abs().max() <= 8 / 2**17 * (1 + 1e-3)
    # The first coordinate is in the first half.
    other = gray_code(x * torch.tensor([1.0, -1.0]), low=-5.0, high=5.0)
    assert torch.equal(other[:, :16], gray_code(x, low=-5.0, high=5.0)[:, :16])
    assert not torch.equal(other[:, 16:], gray_code(x, low=-5.0, high=5.0)[:, 16:])


def test_the_ends_of_the_range():
    edge = torch.nextafter(torch.tensor([[1.0]]), torch.tensor(0.0))
    assert gray_code(edge, low=0.0, high=1.0).tolist() == [[1.0] + 15 * [0.0]]
    assert gray_code(torch.zeros(1, 1), low=0.0, high=1.0).tolist() == [16 * [0.0]]
    for value in (1.0, -1e-9, float("nan")):
        with pytest.raises(InputError, match=r"1 of 2 rows lie outside \[0, 1\)"):
            gray_code(torch.tensor([[0.5], [value]]), low=0.0, high=1.0)


def test_a_source_is_coded_with_its_labels():
    source = Toy("pinwheel", num_rows=400, num_held_out=50, labels=True)
    coded = GrayCoded(source, num_bits=8)
    splits, whole = coded.splits(), source.splits()
    assert (coded.event_shape, coded.low, coded.high, coded.num_classes) == ((16,), 0.0, 1.0, 5)
    assert torch.equal(splits.train.y, whole.train.y)
    assert torch.equal(splits.test.x, gray_code(whole.test.x, low=-4.0, high=4.0, num_bits=8))
    assert splits.foreign["shuffled columns"].shape == (50, 16)


def test_what_cannot_be_coded_is_told():
    with pytest.raises(InputError, match="must be vectors"):
        GrayCoded(Digits()).splits()
    with pytest.raises(InputError, match="widen low and high"):
        GrayCoded(Toy("rings"), low=-1.0, high=1.0).splits()
    with pytest.raises(InputError, match="at most 24 bits"):
        GrayCoded(Toy(), num_bits=25)
    with pytest.raises(InputError, match="low < high"):
        gray_code(torch.zeros(1, 1), low=1.0, high=1.0)
    with pytest.raises(InputError, match="multiple of num_bits = 16"):
        from_gray_code(torch.zeros(1, 17), low=0.0, high=1.0)
    with pytest.raises(InputError, match="0 or 1"):
        from_gray_code(torch.full((1, 16), 0.5), low=0.0, high=1.0)
