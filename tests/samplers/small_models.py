"""Small discrete energies whose every state can be listed: asymmetric, with fields and unequal couplings."""

import torch
from torch import nn

import energeia as en
from energeia.energies import Ising, Potts
from energeia.energies.colouring import Graph

TRIANGLE_WITH_TAIL = ((0, 1), (1, 2), (2, 0), (3, 1))
COUPLINGS, FIELDS = (0.5, 0.9, 0.3, 0.7), (0.3, -0.6, 0.1, 0.8)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


class Pairs(en.Energy):
    """E(x) = -sum_(ij) w_ij x_i x_j - sum_i b_i x_i on bits."""

    def __init__(self, num_sites, edges, weights, biases):
        super().__init__(en.Binary(num_sites))
        self.graph = Graph(num_sites, edges, "Pairs")
        self.weights, self.biases = nn.Parameter(weights), nn.Parameter(biases)

    def forward(self, x):
        first, second = self.graph.edges.unbind(1)
        return -(self.weights * x[:, first] * x[:, second]).sum(1) - x @ self.biases

    @property
    def num_blocks(self):
        return self.graph.num_colours

    def split(self, x):
        return self.graph.split(x)

    def join(self, blocks):
        return self.graph.join(blocks)

    def natural_parameters(self, blocks, block):
        return self.biases[self.graph.sites(block)] + self.graph.neighbour_sum(self.weights, blocks, block)

    @property
    def edges(self):
        return self.graph.edges

    def site_log_potentials(self):
        return torch.stack([torch.zeros_like(self.biases), self.biases], 1)

    def edge_log_potentials(self):
        return nn.functional.pad(self.weights.view(-1, 1, 1), (1, 0, 1, 0))


class Restricted(en.Energy):
    """A restricted Boltzmann machine on bits or spins: E(x, h) = -x'Wh - b'x - c'h, h of bits."""

    def __init__(self, space=None):
        super().__init__(en.Binary(3) if space is None else space)
        self.hidden = en.Binary(2)
        self.weight = nn.Parameter(tensor([1.5, -0.5], [-1.0, 2.0], [0.3, 0.9]))
        self.bias, self.hidden_bias = nn.Parameter(tensor(0.2, -0.7, 0.4)), nn.Parameter(tensor(-0.3, 0.6))

    def forward(self, x):
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def visible(self):
        return self.space

    def visible_energy(self, x):
        return -(x @ self.bias)

    def hidden_parameters(self, x):
        return x @ self.weight + self.hidden_bias

    def visible_parameters(self, h):
        return h @ self.weight.T + self.bias


def _signs(ferromagnetic):
    return torch.ones(4).double() if ferromagnetic else tensor(1.0, -1.0, 1.0, -1.0)


def pairs(kind, *, ferromagnetic=False):
    """A pairwise energy on bits, spins (4 sites, 3 colours) or 3 categories (3 sites, 3 colours)."""
    couplings = tensor(*COUPLINGS) * _signs(ferromagnetic)
    if kind == "binary":
        return Pairs(4, TRIANGLE_WITH_TAIL, 2 * couplings, tensor(*FIELDS))
    if kind == "spin":
        return Ising(4, TRIANGLE_WITH_TAIL, couplings=couplings, fields=tensor(*FIELDS))
    fields = tensor([0.3, -0.6, 0.1], [0.0, 0.5, -0.2], [0.8, 0.0, 0.4])
    return Potts(3, TRIANGLE_WITH_TAIL[:3], num_categories=3, couplings=2 * couplings[:3], fields=fields)


def cubic(kind):
    """A pairwise energy and a product of three numbers of x: not quadratic, so gradients are not the whole truth."""
    energy = pairs(kind)
    return energy + en.from_module(
        lambda x: 0.8 * x.flatten(1)[:, ::3][:, :3].prod(1) - x.flatten(1)[:, :3].prod(1), energy.space
    )
