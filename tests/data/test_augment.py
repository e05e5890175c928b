"""Transforms: what they leave alone, what they move where, and how noise is distributed."""

import pytest
import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.space import Box
from energeia.data import Affine, Chain, Dequantize, Digits, GaussianNoise, Transform


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures() -> Tensor:
    return torch.rand(6, 2, 7, 9, generator=_generator(1)) * 2 - 1


EVERY = [
    GaussianNoise(0.3),
    Dequantize(0.2),
    Affine(20.0, 1.5, 0.2, 10.0, fill=-1.0),
    Chain([Affine(20.0), GaussianNoise(0.1)]),
]
NOTHING = [GaussianNoise(0.0), Dequantize(0.0), Affine(fill=-1.0), Chain([]), Chain([Affine(), GaussianNoise(0.0)])]


@pytest.mark.parametrize("transform", NOTHING, ids=repr)
def test_zero_strength_gives_exactly_x(transform: Transform) -> None:
    assert torch.equal(transform(_pictures(), _generator()), _pictures())


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_random_numbers_come_from_the_generator_alone_and_x_is_not_written(transform: Transform) -> None:
    x = _pictures()
    torch.manual_seed(0)
    first = transform(x, _generator(5))
    torch.manual_seed(1)
    assert torch.equal(transform(x, _generator(5)), first)
    assert not torch.equal(transform(x, _generator(6)), first)
    assert torch.equal(x, _pictures())
    assert first.dtype == x.dtype
    assert not torch.equal(first, x)


def test_float64_stays() -> None:
    for transform in EVERY:
        assert transform(_pictures().double(), _generator()).dtype == torch.float64


def test_gaussian_noise_has_the_stated_moments() -> None:
    count = 200_000
    noise = GaussianNoise(0.7)(torch.full((count, 1), 2.0, dtype=torch.float64), _generator()) - 2
    assert abs(float(noise.mean())) < 5 * 0.7 / count**0.5
    assert abs(float(noise.square().mean()) - 0.49) < 5 * 0.49 * (2 / count) ** 0.5
    assert abs(float((noise / 0.7).pow(4).mean()) - 3) < 5 * (96 / count) ** 0.5


@pytest.mark.parametrize(("centred", "low"), [(True, -0.25), (False, 0.0)])
def test_dequantize_is_uniform_over_the_width(centred: bool, low: float) -> None:
    count = 200_000
    noise = Dequantize(0.5, centred)(torch.zeros(count, 1, dtype=torch.float64), _generator())
    assert low <= float(noise.min()) < low + 1e-4
    assert low + 0.5 - 1e-4 < float(noise.max()) < low + 0.5
    assert abs(float(noise.mean()) - low - 0.25) < 5 * (0.25 / 12 / count) ** 0.5
    share = ((noise - low) < 0.125).double().mean()
    assert abs(float(share) - 0.25) < 5 * (0.25 * 0.75 / count) ** 0.5


def test_dequantized_digits_fill_their_box() -> None:
    x = Digits().splits().train.x
    spread = Dequantize(2 / 17, centred=False)(x, _generator())
    assert Box((1, 8, 8)).contains(spread).all()
    assert float(spread.max()) > 0.99
    assert float(spread.min()) < -0.99
    assert (spread >= x).all()
    assert float((spread - x).max()) <= 2 / 17 + 1e-7


@pytest.mark.parametrize("transform", [Affine(180.0, 3.0, 0.5, 30.0, fill=-1.0), Affine(45.0, fill=0.25)], ids=repr)
def test_affine_stays_in_the_box(transform: Affine) -> None:
    x = _pictures().sign()  # all values on the walls
    assert Box((2, 7, 9)).contains(transform(x, _generator())).all()


def test_affine_moves_by_at_most_the_translation_and_fills_the_rest() -> None:
    x = torch.zeros(400, 1, 21, 15)
    x[:, :, 10, 7] = 1.0
    moved = Affine(translation=3.0)(x, _generator())
    rows = (moved.sum(3) * torch.arange(21.0)).sum((1, 2)) - 10
    columns = (moved.sum(2) * torch.arange(15.0)).sum((1, 2)) - 7
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.ones(400))  # nothing lost inside
    for shift in (rows, columns):
        assert float(shift.abs().max()) <= 3.0 + 1e-5
        assert float(shift.abs().max()) > 2.8
        assert float(shift.min()) < -2.5
        assert float(shift.max()) > 2.5
    far = Affine(translation=1000.0, fill=-0.5)(torch.ones(50, 1, 4, 4), _generator())
    assert torch.equal(far[far.amax((1, 2, 3)) < 1].unique(), torch.tensor([-0.5]))


def test_affine_rotation_keeps_distances_in_pixels_of_pictures_that_are_not_square() -> None:
    x = torch.zeros(300, 1, 41, 81, dtype=torch.float64)
    x[:, :, 20, 50] = 1.0  # ten pixels right of the centre
    turned = Affine(rotation_degrees=40.0)(x, _generator())
    mass = turned.sum((1, 2, 3))
    row = (turned.sum(3) * torch.arange(41.0)).sum((1, 2)) / mass - 20
    column = (turned.sum(2) * torch.arange(81.0)).sum((1, 2)) / mass - 40
    assert ((row.square() + column.square()).sqrt() - 10).abs().max() < 0.35
    angle = torch.atan2(row, column).rad2deg()
    assert 37 < float(angle.max()) < 42
    assert -42 < float(angle.min()) < -37


def test_affine_scale_changes_areas_by_its_square_at_most() -> None:
    x = torch.zeros(300, 1, 64, 64, dtype=torch.float64)
    x[:, :, 24:40, 24:40] = 1.0
    area = Affine(scale=0.5)(x, _generator()).sum((1, 2, 3)) / 256
    assert 2.1 < float(area.max()) < 2.27
    assert 0.43 < float(area.min()) < 0.47


def test_affine_shear_moves_rows_apart_and_keeps_areas() -> None:
    x = torch.zeros(300, 1, 64, 64, dtype=torch.float64)
    x[:, :, 24:40, 24:40] = 1.0
    sheared = Affine(shear_degrees=30.0)(x, _generator())
    torch.testing.assert_close(sheared.sum(3), x.sum(3), rtol=0, atol=1e-9)  # rows keep their mass
    centre = (sheared * torch.arange(64.0)).sum(3) / sheared.sum(3)
    slope = ((centre[:, 0, 38] - centre[:, 0, 25]) / 13).atan().rad2deg()
    assert 28 < float(slope.abs().max()) < 31


def test_pictures_of_a_batch_are_moved_each_on_their_own() -> None:
    x = _pictures()[:1].expand(2, -1, -1, -1)
    moved = Affine(rotation_degrees=30.0)(x, _generator())
    assert not torch.equal(moved[0], moved[1])


def test_chain_is_one_after_the_other() -> None:
    generator, again = _generator(3), _generator(3)
    chained = Chain([GaussianNoise(0.1), Affine(10.0)])(_pictures(), generator)
    assert torch.equal(chained, Affine(10.0)(GaussianNoise(0.1)(_pictures(), again), again))


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_strengths_are_checked(bad: float) -> None:
    with pytest.raises(InputError, match=r"GaussianNoise: scale must be .* at least 0"):
        GaussianNoise(bad)
    with pytest.raises(InputError, match=r"Dequantize: width"):
        Dequantize(bad)
    with pytest.raises(InputError, match=r"Affine: translation"):
        Affine(translation=bad)


def test_affine_refuses_what_is_no_picture() -> None:
    with pytest.raises(InputError, match=r"\[B, C, H, W\], got \(4, 3\).*leave Affine out"):
        Affine(10.0)(torch.zeros(4, 3), _generator())
    with pytest.raises(InputError, match=r"shear below 90"):
        Affine(shear_degrees=90.0)


def test_affine_leaves_a_picture_of_one_value_exactly() -> None:
    x = torch.full((64, 1, 16, 16), 0.9)
    assert torch.equal(Affine(90.0, 3.0, 0.5, 30.0, fill=0.9)(x, _generator()), x)
