"""Small models whose expectations are sums or quadrature, with parameters away from any symmetry."""

import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes


def parameter(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Gauss(en.Energy):
    """x'Ax / 2 - b'x with A = L L'."""

    def __init__(self):
        super().__init__(en.Real(2))
        self.root, self.slope = parameter([1.3, 0.0], [0.5, 0.8]), parameter(0.6, -0.4)

    def forward(self, x):
        return (x @ self.root.tril()).square().sum(1) / 2 - x @ self.slope


class Quartic(en.Energy):
    """An exponential family: x^4 / 4 minus a polynomial."""

    def __init__(self):
        super().__init__(en.Real(1))
        self.theta = parameter(0.4, 0.9, -0.3)

    def forward(self, x):
        x = x[:, 0]
        return x**4 / 4 - torch.stack([x, x**2 / 2, x**3 / 3], 1) @ self.theta


class Modes(en.Energy):
    """An unequal mixture of two normals, of which one parameter is the weight alone."""

    def __init__(self):
        super().__init__(en.Real(1))
        self.log_odds, self.means = parameter(-1.1), parameter(-1.5, 2.0)

    def forward(self, x):
        terms = -((x - self.means).square() / torch.tensor([0.5, 1.2]).double()) / 2
        return -torch.logsumexp(terms + torch.cat([self.log_odds, torch.zeros_like(self.log_odds)]), 1)


def tables():
    edges = [(0, 1), (2, 1)]
    return en.PairwiseMRF(3, edges, num_categories=3, site_tables=random(3, 3), edge_tables=random(2, 3, 3, seed=1))


def bits():
    weight = random(3, 3)
    return en.BoltzmannMachine(3, weight=(weight + weight.T).fill_diagonal_(0.0) / 3, bias=random(3, seed=1))


def noise_of(space):
    """Noise that is not the truth, and covers it."""
    if isinstance(space, en.Binary | en.Categorical):
        return en.Independent(space, 0.5 * random(*space.event_shape, seed=2))
    size = space.num_dims
    return en.Gaussian(
        size, mean=torch.linspace(0.3, 0.5, size).double(), scale=torch.linspace(2.0, 2.5, size).double()
    )


TRUTHS = {"gaussian": Gauss, "exponential family": Quartic, "mixture": Modes, "categorical": tables, "bits": bits}


def whole(space):
    """All states, or the nodes of quadrature, and their weights."""
    x, log_weight = integration_nodes(space, 100 if space.num_dims == 2 else 400)
    return x, log_weight


def density(energy, x, log_weight):
    """Probabilities of the nodes."""
    with torch.no_grad():
        return (log_weight - energy(x)).softmax(0)


def moved(energy, by=0.15):
    """The same model with other parameters."""
    with torch.no_grad():
        for number, weight in enumerate(energy.parameters()):
            weight += by * random(*weight.shape, seed=number + 5)
    return energy
