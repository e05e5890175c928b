"""Models whose log Z is known in closed form: the square lattice, and all spins with all."""

import math

import pytest
import torch

import energeia as en
from energeia.energies import kaufman_log_z, onsager_log_z, yang_magnetisation

CRITICAL = math.log(1 + math.sqrt(2)) / 2


def _torus(coupling, shape=(4, 4), **options):
    return en.IsingLattice(shape, coupling=torch.tensor(coupling, dtype=torch.float64), **options)


@pytest.mark.parametrize(
    ("coupling", "expected"),
    [
        (0.2, 11.771470358541583),
        (0.4, 14.561093023844046),
        (CRITICAL, 15.52191545875528),
        (0.6, 20.056532884346808),
        (0.0, 16 * math.log(2)),
        (-0.4, 14.561093023844046),
        (60.0, 1920 + math.log(2)),
    ],
)
def test_kaufman(coupling, expected):
    found = _torus(coupling).log_z()
    assert float(found.value) == pytest.approx(expected, abs=1e-11)
    assert found.kind == "exact"


def test_kaufman_on_large_and_on_oblong_lattices():
    assert float(kaufman_log_z(32, 32, CRITICAL)) / 1024 == pytest.approx(0.9303203902, abs=1e-9)
    assert float(kaufman_log_z(16, 16, 0.4)) / 256 == pytest.approx(0.8798001826, abs=1e-9)
    for coupling in (1e-3, 0.3, CRITICAL, 0.9, 20.0):
        oblong = en.variable_elimination(_torus(coupling, (4, 10)))
        for shape in ((4, 10), (10, 4)):
            found = float(kaufman_log_z(*shape, coupling))
            assert found == pytest.approx(float(oblong.value), rel=1e-12)


def test_only_a_torus_without_field_has_a_closed_form():
    for lattice in (_torus(0.4, field=0.1), _torus(0.4, periodic=False)):
        assert lattice.capability(en.Normalised) is None
        assert "elimination" in en.variable_elimination(lattice).method
    assert _torus(0.4).capability(en.Normalised) is not None
    assert _torus(0.4).capability(en.Tractable) is None


@pytest.mark.parametrize(
    ("coupling", "expected"), [(0.2, 0.7345308122763), (0.4, 0.8793638207749), (CRITICAL, 0.9296953983416)]
)
def test_onsager(coupling, expected):
    assert onsager_log_z(coupling) == pytest.approx(expected, abs=1e-12)
    assert onsager_log_z(-coupling) == onsager_log_z(coupling)


def test_a_large_torus_is_the_infinite_lattice():
    for coupling in (0.1, 0.6, 5.0, 80.0):
        assert float(kaufman_log_z(200, 200, coupling)) / 40000 == pytest.approx(onsager_log_z(coupling), abs=2e-5)
    assert onsager_log_z(0.0) == pytest.approx(math.log(2), abs=1e-14)


def test_yang():
    assert yang_magnetisation(CRITICAL - 1e-6) == 0
    assert yang_magnetisation(0.6) == pytest.approx((1 - math.sinh(1.2) ** -4) ** 0.125)
    assert yang_magnetisation(1e4) == pytest.approx(1)


def test_curie_weiss():
    model = en.CurieWeiss(100, coupling=1.5).double()
    assert float(model.log_z().value) == pytest.approx(81.790687628918, abs=1e-10)
    total, logs = model.magnetisation()
    assert float((logs.softmax(0) * total.abs()).sum()) / 100 == pytest.approx(0.8482100, abs=1e-7)
    draws = model.sample_exact(4000, torch.Generator().manual_seed(0))
    magnetisation = draws.mean(1).abs()
    assert float(magnetisation.mean()) == pytest.approx(0.84821, abs=5 * float(magnetisation.std()) / math.sqrt(4000))
    # Which spins are up is random.
    assert float(draws.mean(0).abs().max()) < 0.1


def test_curie_weiss_says_the_same_in_all_ways():
    model = en.CurieWeiss(9, coupling=0.8, field=-0.3).double()
    listed = en.exact_log_z(en.from_module(lambda x: model(x), model.space)).value
    assert float(model.log_z().value) == pytest.approx(float(listed), abs=1e-6)
    assert float(en.variable_elimination(model).value) == pytest.approx(float(model.log_z().value), abs=1e-10)
    assert en.CurieWeiss(1, coupling=0.5).edges.shape == (0, 2)


@pytest.mark.parametrize("wrong", [{"num_spins": 0, "coupling": 1.0}, {"num_spins": 3, "coupling": math.nan}])
def test_curie_weiss_refuses(wrong):
    with pytest.raises(en.InputError, match="CurieWeiss"):
        en.CurieWeiss(**wrong)
