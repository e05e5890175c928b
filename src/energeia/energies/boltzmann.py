"""The Boltzmann machine: every pair of bits or spins coupled."""

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.space import Binary, Spin


class BoltzmannMachine(Energy):
    """E(x) = -(x'W x + b'x), bits or spins, every pair coupled and no site with itself.

    Args:
        space: of x, `Binary` or `Spin`; an int is that many bits.
        weight: W `[N, N]` over flattened events, symmetric with a zero diagonal; None is zeros, from
            where learning may start: the likelihood has one maximum.
        bias: b `[N]` or `[*event]`; None is zeros.

    x'Wx counts every pair twice, so W_ij is half of what flipping both ends together brings:
    of `Ising` couplings it is W_ij = J_ij / 2, b = h. The inverse temperature is absorbed.
    Both are parameters; tensors set the dtype. The diagonal of W takes no part, and of the rest only the
    symmetric part, which gradients keep symmetric.

    Capabilities: `Conditional`, each site a block, as any other may be its neighbour;
    `Local`, the parameters of all sites in one product; `Pairwise`; `Contrastable`.
    Cost: one product `[B, N] x [N, N]` for E. A sweep of `Gibbs` is N products `[N] x [N, B]`, as much
    arithmetic and, one site after the other, some tens of times its time: where few pairs are coupled,
    `Ising` draws all sites of a colour at once.

    Reference: Ackley, Hinton & Sejnowski (1985), A learning algorithm for Boltzmann machines.
    https://doi.org/10.1207/s15516709cog0901_7

    >>> import torch
    >>> from energeia.energies import BoltzmannMachine
    >>> pair = BoltzmannMachine(2, weight=torch.tensor([[0.0, 0.5], [0.5, 0.0]]), bias=torch.tensor([1.0, 0.0]))
    >>> pair(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [-2.0, -1.0]
    """

    off_diagonal: Tensor
    pairs: Tensor

    def __init__(self, space: int | Binary | Spin, *, weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        space = Binary(space) if isinstance(space, int) else space
        if not isinstance(space, Binary | Spin):
            raise InputError(
                f"BoltzmannMachine: needs a number of bits, Binary or Spin, got {space!r}; for categories take "
                "en.PairwiseMRF or en.Potts"
            )
        super().__init__(space)
        size = space.num_dims
        given = weight if weight is not None else bias
        dtype = torch.get_default_dtype() if given is None else given.dtype
        weight = torch.zeros(size, size, dtype=dtype) if weight is None else _checked_weight(weight, size)
        bias = torch.zeros(size, dtype=dtype) if bias is None else bias
        if bias.numel() != size or not bias.is_floating_point() or not bool(bias.isfinite().all()):
            raise InputError(
                f"BoltzmannMachine: bias must be {size} finite floating numbers, got {bias.dtype} {tuple(bias.shape)}"
            )
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone().flatten().to(dtype))
        self.register_buffer("off_diagonal", 1 - torch.eye(size, dtype=dtype), persistent=False)
        self.register_buffer("pairs", torch.combinations(torch.arange(size)).view(-1, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        flat = x.flatten(1)
        return -((flat @ (self.weight * self.off_diagonal)) * flat).sum(1) - flat @ self.bias

    def couplings(self) -> Tensor:
        """J = W + W' with a zero diagonal: E(x) = -sum_(i<j) J_ij x_i x_j - sum_i b_i x_i, `[N, N]`."""
        return (self.weight + self.weight.T) * self.off_diagonal

    def local_parameters(self, x: Tensor) -> Tensor:
        """b + J x: the natural parameters of every site given the others, `[B, *event]`."""
        return torch.addmm(self.bias, x.flatten(1), self.couplings()).view_as(x)

    @property
    def num_blocks(self) -> int:
        """N: a block is one site."""
        return len(self.bias)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every site `[B, 1]`."""
        # Site by site in memory, so that putting them together is copying whole rows.
        return tuple(site.unsqueeze(1) for site in x.flatten(1).T.contiguous())

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, *event]` from the sites."""
        return torch.cat(blocks, 1).view(-1, *self.space.event_shape)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """b_i + sum_j J_ij x_j of one site, `[B, 1]`."""
        sites = torch.stack(blocks).squeeze(2)
        row = (self.weight[block] + self.weight[:, block]) * self.off_diagonal[block]
        return (row @ sites + self.bias[block]).unsqueeze(1)

    @property
    def edges(self) -> Tensor:
        """All pairs of sites `[N (N - 1) / 2, 2]`."""
        return self.pairs

    def site_log_potentials(self) -> Tensor:
        """b x of every site, `[N, 2]`."""
        return self.bias.unsqueeze(1) * self._states()

    def edge_log_potentials(self) -> Tensor:
        """J x x' of every pair, `[M, 2, 2]`."""
        first, second = self.pairs.unbind(1)
        return self.couplings()[first, second].view(-1, 1, 1) * torch.outer(self._states(), self._states())

    def _states(self) -> Tensor:
        return self.bias.new_tensor([-1.0 if isinstance(self.space, Spin) else 0.0, 1.0])

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means: minus that of x x' and of x."""
        with torch.no_grad():
            moments = [(x.T @ x / len(x), x.mean(0)) for x in (data.flatten(1), negatives.flatten(1))]
            (second, first), (second_model, first_model) = moments
            gradients = (-(second - second_model) * self.off_diagonal, -(first - first_model))
            return self(data), self(negatives), gradients


def _checked_weight(weight: Tensor, size: int) -> Tensor:
    if tuple(weight.shape) != (size, size) or not weight.is_floating_point() or not bool(weight.isfinite().all()):
        raise InputError(
            f"BoltzmannMachine: weight must be finite floating numbers [{size}, {size}], got {weight.dtype} "
            f"{tuple(weight.shape)}"
        )
    skew = (weight - weight.T).abs().max()
    if bool(skew > 1e3 * torch.finfo(weight.dtype).eps * (1 + weight.abs().max())):
        raise InputError(
            f"BoltzmannMachine: weight must be symmetric, W and W' differ by up to {skew.item():g}; a pair has one "
            "coupling, so take (weight + weight.T) / 2"
        )
    if bool(weight.diagonal().any()):
        raise InputError(
            "BoltzmannMachine: weight must have a zero diagonal: x_i^2 is x_i for bits, a bias, and 1 for spins"
        )
    return weight
