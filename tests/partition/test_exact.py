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


def test_quadrature_in_three_dimensions():
    """Against a product of three integrals in one dimension."""
    shape = torch.tensor([0.5, 1.0, 2.0])
    three = en.from_module(lambda x: (shape * x.square() / 2 + x**4 / 10).sum(1), en.Real(3))
    found = en.exact_log_z(three)
    grid = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    one = [torch.trapezoid((-(float(each) * grid.square() / 2 + grid**4 / 10)).exp(), grid).log() for each in shape]
    assert found.value.item() == pytest.approx(float(sum(one)), abs=1e-5)
    assert found.standard_error < 1e-4


def test_states_are_listed_in_parts_of_one_sum():
    """2^18 states take four parts, which memory never holds together."""
    chain = en.Ising(18, [(site, site + 1) for site in range(17)], couplings=torch.tensor(0.3, dtype=torch.float64))
    found = en.exact_log_z(chain)
    assert found.value.item() == pytest.approx(18 * math.log(2) + 17 * math.log(math.cosh(0.3)), abs=1e-10)
    assert "262144 states" in found.method


def test_more_states_are_listed_when_allowed():
    torch.manual_seed(0)
    machine = en.RBM(30, 23, weight_scale=0.2).double()
    assert machine.capability(en.Normalised) is None
    with pytest.raises(en.InputError, match=r"2\*\*23 states of the hidden units.*max_terms=2\*\*23"):
        en.exact_log_z(machine)
    with torch.no_grad():
        machine.weight[:, 12:] = 0
    whole = en.exact_log_z(machine, max_terms=2**23)
    part = en.RBM(30, 12).double()
    with torch.no_grad():
        part.weight.copy_(machine.weight[:, :12])
    assert whole.value.item() == pytest.approx(float(en.exact_log_z(part).value) + 11 * math.log(2), abs=1e-9)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (lambda: en.Neural(en.MLP(4), en.Real(4)), "1 to 3"),
        (lambda: en.RBM(50, 50), r"can be listed at all; en\.log_z"),
        (lambda: en.RBM(24, 24), r"max_terms=2\*\*24"),
    ],
)
def test_too_large_is_refused_in_words(energy, message):
    with pytest.raises(en.InputError, match=message):
        en.exact_log_z(energy())
