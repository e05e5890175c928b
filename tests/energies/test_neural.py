"""Networks: what a compiled function makes of their layers is what they compute."""

import pytest
import torch
from torch import Tensor

import energeia as en
from energeia.core.gradient import value_and_gradient


class Squares(en.Energy):
    """Sum of squares of a network's outputs."""

    def __init__(self, num_dims: int, num_outputs: int) -> None:
        super().__init__(en.Real(num_dims))
        self.network = en.MLP(num_dims, num_outputs, widths=(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).square().sum(1)


@pytest.mark.parametrize(("num_dims", "num_outputs"), [(2, 1), (6, 3)])
def test_compiled_layers_compute_the_same(num_dims: int, num_outputs: int) -> None:
    """Narrow layers become sums and SiLU one exponential: to rounding, energies and gradients stay."""
    torch.manual_seed(0)
    energy = Squares(num_dims, num_outputs).double()
    x = 3 * torch.randn(7, num_dims, dtype=torch.float64)
    compiled = torch.compile(lambda x: value_and_gradient(energy, x), fullgraph=True)
    with torch.no_grad():
        found = compiled(x)
    for mine, expected in zip(found, value_and_gradient(energy, x), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)
