import math

import pytest
import torch
from torch import nn

import energeia as en


def _ising_torus(side, coupling):
    """E = -K sum over neighbours on a torus, spins."""

    def energy(x):
        grid = x.view(-1, side, side)
        return -coupling * (grid * grid.roll(1, 1) + grid * grid.roll(1, 2)).sum((1, 2))

    class Torus(en.Energy):
        def __init__(self):
            super().__init__(en.Spin((side, side)))
            self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x):
            return self.one * energy(x)

    return Torus()


@pytest.mark.parametrize(
    ("coupling", "expected"),
    [
        (0.2, 11.771470358541583),
        (0.4, 14.561093023844046),
        (math.log(1 + math.sqrt(2)) / 2, 15.52191545875528),
        (0.6, 20.056532884346808),
    ],
)
def test_ising_4x4_torus_is_kaufmans(coupling, expected):
    """Kaufman (1949), Crystal statistics II: the closed form of the finite torus."""
    found = en.exact_log_z(_ising_torus(4, coupling))
    assert found.kind == "exact"
    assert found.value.item() == pytest.approx(expected, abs=1e-10)


def test_tractable_energies_answer_themselves():
    assert en.exact_log_z(en.Gaussian(50)).method == "Gaussian integral"


def test_quadrature_of_a_double_well_and_its_error():
    energy = en.from_module(lambda x: (x[:, 0] ** 2 - 1) ** 2 + x[:, 0] / 3, en.Real(1))
    found = en.exact_log_z(energy)
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64).unsqueeze(1)
    expected = torch.trapezoid((-energy(grid)).exp(), grid[:, 0]).log()
    assert abs(found.value - expected) < 1e-6
    assert found.standard_error < 1e-4


def test_quadrature_that_misses_the_mass_does_not_call_itself_exact():
    far = en.from_module(lambda x: (x[:, 0] - 300).square() / 2, en.Real(1))
    assert en.exact_log_z(far).kind == "approximate"


def test_too_large_is_refused_in_words():
    with pytest.raises(en.InputError, match="1 or 2"):
        en.exact_log_z(en.Neural(en.MLP(3), en.Real(3)))
