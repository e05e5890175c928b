"""Small energies of inputs and answers whose answers can all be listed, with E(x, y) of each written out by hand."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from small_truths import parameter, random
from torch import Tensor, nn

import energeia as en


class Listed(NamedTuple):
    """An energy, rows, and E(x, y) `[B, S]` of all answers `[S, *sites]`, with its graph to the parameters.

    y: right for the energy in every second row, and another answer in the others.
    """

    energy: en.Energy
    x: Tensor
    y: Tensor
    answers: Tensor
    table: Callable[[], Tensor]

    def batch(self) -> en.Batch:
        return en.Batch(self.x, self.y)

    def right(self) -> Tensor:
        """The number of the right answer in the list `[B]`."""
        listed = self.answers.reshape(1, len(self.answers), -1)
        same = (listed == self.y.reshape(len(self.y), 1, -1)).all(2)
        return same.to(torch.uint8).argmax(1)

    def cost(self, between) -> Tensor:
        """cost(y', y) `[B, S]` of labels, by the function of two lists."""
        lists = [answer.flatten().tolist() for answer in self.answers]
        rights = [row.flatten().tolist() for row in self.y]
        return torch.tensor(
            [[float(between(other, right)) for other in lists] for right in rights], dtype=torch.float64
        )


def _listed(energy, x, answers, table, seed) -> Listed:
    best = table().detach().argmin(1)
    any_one = torch.randint(len(answers), best.shape, generator=torch.Generator().manual_seed(seed))
    any_one = torch.where(any_one == best, (any_one + 1) % len(answers), any_one)
    which = torch.where(torch.arange(len(x)) % 2 == 0, best, any_one)
    return Listed(energy, x, answers[which], answers, table)


def _linear(inputs, outputs, seed) -> nn.Linear:
    layer = nn.Linear(inputs, outputs).double()
    with torch.no_grad():
        layer.weight.copy_(random(outputs, inputs, seed=seed))
        layer.bias.copy_(random(outputs, seed=seed + 1))
    return layer


def classes() -> Listed:
    layer = _linear(2, 4, 0)
    x = random(6, 2, seed=5)

    def table():
        return torch.stack([-(x * layer.weight[k]).sum(1) - layer.bias[k] for k in range(4)], 1)

    return _listed(en.Classifier(layer, en.Real(2)), x, torch.arange(4), table, 1)


def chain() -> Listed:
    layer = _linear(2, 3, 2)
    energy = en.LinearChain(layer, en.Real((3, 2)), num_labels=3)
    with torch.no_grad():
        energy.transitions.copy_(random(3, 3, seed=8))
        energy.start.copy_(random(3, seed=9))
        energy.end.copy_(random(3, seed=10))
    x = random(6, 3, 2, seed=6)
    answers = torch.tensor(list(itertools.product(range(3), repeat=3)))

    def table():
        def level(row, a, b, c):
            sites = sum(row[t] @ layer.weight[k] + layer.bias[k] for t, k in enumerate([a, b, c]))
            w = energy.transitions
            return -(sites + w[a, b] + w[b, c] + energy.start[a] + energy.end[c])

        return torch.stack([torch.stack([level(row, *answer) for answer in answers.tolist()]) for row in x])

    return _listed(energy, x, answers, table, 2)


def grid() -> Listed:
    layer = _linear(3, 12, 3)
    edges, kinds = en.lattice(2, 3)
    network = nn.Sequential(layer, nn.Unflatten(1, (2, 3, 2)))
    energy = en.PairwiseCRF(network, en.Real(3), 2, sites=(2, 3), edges=edges, kinds=kinds, joint="potts")
    with torch.no_grad():
        energy.couplings.copy_(torch.tensor([0.9, 0.4]))
    x = random(6, 3, seed=7)
    answers = torch.tensor(list(itertools.product(range(2), repeat=6))).view(-1, 2, 3)
    along, down = [(0, 1), (1, 2), (3, 4), (4, 5)], [(0, 3), (1, 4), (2, 5)]

    def table():
        def level(row, y):
            sites = sum(row @ layer.weight[2 * i + k] + layer.bias[2 * i + k] for i, k in enumerate(y))
            same = [sum(y[i] == y[j] for i, j in pairs) for pairs in (along, down)]
            return -(sites + energy.couplings[0] * same[0] + energy.couplings[1] * same[1])

        return torch.stack([torch.stack([level(row, y) for y in answers.flatten(1).tolist()]) for row in x])

    return _listed(energy, x, answers, table, 3)


LISTED = {"classes": classes, "chain": chain, "grid": grid}


class Waves(nn.Module):
    """E(x, y) = a (y - w x)^2 + 1 + sin(3 y + c x): several minima, never negative."""

    def __init__(self):
        super().__init__()
        self.theta = parameter(0.3, 0.8, 1.7)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, w, c = self.theta
        x, y = x[:, 0], y[:, 0]
        return a * (y - w * x) ** 2 + 1 + torch.sin(3 * y + c * x)


def waves() -> tuple[en.Energy, Waves, Tensor, Tensor]:
    """An energy of real answers in [-3, 3], its function, and rows."""
    function = Waves()
    x = random(5, 1, seed=11)
    energy = en.from_pair(function, en.Real(1), en.Box(1, low=-3.0, high=3.0))
    return energy, function, x, random(5, 1, seed=12).clamp(-2.5, 2.5)


def gradients(value: Tensor, energy: en.Energy) -> list[Tensor]:
    """Of all parameters, in order; zeros where the value does not depend on one."""
    found = torch.autograd.grad(value, list(energy.parameters()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, energy.parameters(), strict=True)]


def assert_same(value: Tensor, expected: Tensor, energy: en.Energy, *, tolerance: float = 1e-10) -> None:
    """Value and parameter gradients."""
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    for found, wanted in zip(gradients(value, energy), gradients(expected, energy), strict=True):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def loss_of(objective: en.Objective, energy: en.Energy, batch: en.Batch) -> en.Loss:
    return objective(energy, batch, torch.Generator().manual_seed(0))
