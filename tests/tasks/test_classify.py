import math

import pytest
import torch
from torch import Tensor, nn

from energeia.core.energy import Energy, FromModule
from energeia.core.errors import CapabilityError, DivergenceError, InputError
from energeia.core.space import Box, Real
from energeia.tasks.classify import classify


class Linear(Energy):
    """E(x, y) = -(x W)_y."""

    def __init__(self, weight: Tensor, space: Real | Box) -> None:
        super().__init__(space)
        self.weight = nn.Parameter(weight)
        self.num_classes = weight.shape[1]

    def class_energies(self, x: Tensor) -> Tensor:
        return -(x @ self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return -(x @ self.weight).logsumexp(1)


def test_matches_a_case_worked_by_hand() -> None:
    # Logits are x itself, so p(y | x) is known.
    energy = Linear(torch.eye(2), Real(2))
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    y = torch.tensor([0, 1, 1, 1])
    result = classify(energy, p.log() + 3.0, y, batch_size=3, num_bins=1)
    assert result.confusion.tolist() == [[1, 0], [1, 2]]
    assert result.accuracy == 0.75
    assert result.error == 0.25
    expected = -sum(math.log(value) for value in (0.9, 0.2, 0.7, 0.6)) / 4
    assert result.cross_entropy == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(result.probabilities, p.double(), atol=1e-6)
    assert result.ece == pytest.approx(abs(0.75 - (0.9 + 0.8 + 0.7 + 0.6) / 4), abs=1e-6)
    assert result.ece == result.reliability.ece


def test_a_shared_shift_of_the_energies_changes_nothing_and_neither_does_the_batch_size() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(3, 4, generator=generator), torch.randn(50, 3, generator=generator)
    y = torch.randint(4, (50,), generator=generator)
    shift = FromModule(lambda x: 7 * x[:, 0], Real(3))
    energy = Linear(weight, Real(3))
    one, other = classify(energy, x, y), classify(energy + shift, x, y, batch_size=7)
    assert torch.equal(one.confusion, other.confusion)
    assert torch.allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert one.confusion.sum() == 50


def test_leaves_no_gradient_and_no_graph() -> None:
    energy = Linear(torch.eye(2), Real(2))
    result = classify(energy, torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))
    assert energy.weight.grad is None
    assert not result.probabilities.requires_grad


def test_says_what_is_wrong() -> None:
    plain = FromModule(lambda x: x.sum(1), Real(2))
    y = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(CapabilityError, match=r"class_energies.*en\.Classifier"):
        classify(plain, torch.ones(4, 2), y)
    energy = Linear(torch.eye(2), Box(2, 0.0, 1.0))
    with pytest.raises(InputError, match="outside"):
        classify(energy, torch.full((4, 2), 2.0), y)
    with pytest.raises(InputError, match="labels"):
        classify(energy, torch.ones(4, 2), y + 2)
    with pytest.raises(InputError, match="batch_size"):
        classify(energy, torch.ones(4, 2), y, batch_size=0)
    steep = Linear(torch.tensor([[3e38, 1.0], [1.0, 1.0]]), Real(2))
    x = torch.tensor([[0.0, 1.0]] * 4 + [[10.0, 0.0]])
    with pytest.raises(DivergenceError, match="1 of 5"):
        classify(steep, x, torch.zeros(5, dtype=torch.int64))
