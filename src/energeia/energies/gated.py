"""Gated restricted Boltzmann machines: hidden units that stand for what happened between two pictures."""

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_finite, check_positive
from energeia.core.space import Binary, Real, Space, Spin
from energeia.core.units import Normal, Units
from energeia.energies.layers import checked_statistic, counting_units, first_bias


class GatedRBM(Energy):
    """p(y | x), of a picture y given the one before: hidden bits switch on the transformation that leads from x to y.

        E(y, h | x) = -sum_f (x'X)_f (y'Y)_f (h'H)_f - b'y - c'h

    A third-order machine, whose tensor W_iju = sum_f X_if Y_jf H_uf is held by F factors. Given x it is a restricted
    Boltzmann machine of y with the weights W(x) = Y diag(X'x) H', so both sides are closed:

        p(h_u = 1 | x, y) = sigmoid(c_u + sum_f H_uf (x'X)_f (y'Y)_f)
        p(y_j = 1 | x, h) = sigmoid(b_j + sum_f Y_jf (x'X)_f (h'H)_f)      (bits)
        E(y | x) = -b'y - sum_u softplus(c_u + sum_f H_uf (x'X)_f (y'Y)_f)

    Args:
        visible: space of x and of y: `Binary`, `Spin`, or `Real`, where y has variance 1 given h, and E the term
            |y - b|^2 / 2 in place of -b'y; an int is that many bits.
        num_factors: F >= 1.
        num_hidden: bits h, >= 1.
        mean: mean of y `[*event]`, to which the first b is set.
        weight_scale: standard deviation of the first X, Y and H, > 0. With small weights the product of three is
            tiny, and learning takes long to begin. Spins and real x of mean 0 are learned much faster than bits.
        hidden_bias: the first c.

    Its rows are pairs (x, y), `[B, 2, *event]`. x itself is not modelled: E of pairs with different x cannot be
    compared, and there is no Z of pairs. `given(machine, context=x)`, x `[1 or B, *event]`, is the energy of y, with
    `Bipartite` and `Contrastable`: block Gibbs, CD and, for one x, `ais` and `log_likelihood` are those of an RBM.
    `fit(machine, Conditioned(ContrastiveDivergence(BlockGibbs(), 1)), pairs)` trains it. Cost: three products, with
    X, Y and H.

    Capability: `Contextual`.

    Reference: Memisevic & Hinton (2010), Learning to represent spatial transformations with factored higher-order
    Boltzmann machines. https://doi.org/10.1162/neco.2010.01-09-953

    >>> import torch, energeia as en
    >>> machine = en.GatedRBM(9, num_factors=5, num_hidden=4)
    >>> machine.transform(torch.ones(7, 2, 9)).shape
    torch.Size([7, 4])
    """

    def __init__(
        self,
        visible: int | Space,
        num_factors: int,
        num_hidden: int,
        *,
        mean: Tensor | None = None,
        weight_scale: float = 0.3,
        hidden_bias: float = 0.0,
    ) -> None:
        check_count("GatedRBM", num_factors=num_factors, num_hidden=num_hidden)
        check_positive("GatedRBM", weight_scale=weight_scale)
        check_finite("GatedRBM", hidden_bias=hidden_bias)
        picture = Binary(visible) if isinstance(visible, int) else visible
        if not isinstance(picture, Binary | Spin | Real):
            raise InputError(f"GatedRBM: visible must be a number of bits, Binary, Spin or Real, got {visible!r}")
        shape = (2, *picture.event_shape)
        super().__init__(Real(shape, picture.start_scale) if isinstance(picture, Real) else type(picture)(shape))
        self.picture = picture

        def factors(size: int) -> nn.Parameter:
            return nn.Parameter(weight_scale * torch.randn(size, num_factors))

        self.before, self.after = factors(picture.num_dims), factors(picture.num_dims)
        self.hidden_factors = factors(num_hidden)
        first = torch.zeros(picture.num_dims)
        if mean is not None:
            first = first_bias(picture, checked_statistic("mean", mean, picture)).to(first)
        self.bias = nn.Parameter(first.clone())
        self.hidden_bias = nn.Parameter(torch.full((num_hidden,), float(hidden_bias)))
        self.register_buffer("precision", torch.ones(picture.event_shape), persistent=False)

    precision: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """E(y | x) of pairs `[B, 2, *event]`, `[B]`."""
        after, before = self.divide(x)
        return self.within(before)(after)

    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and x `[B, *event]` of pairs (x, y)."""
        return x[:, 1], x[:, 0]

    def within(self, context: Tensor) -> "Transformed":
        """The energy of y given x, `[1, *event]`, or `[B, *event]` with one for each chain."""
        if tuple(context.shape[1:]) != self.picture.event_shape:
            raise InputError(
                f"GatedRBM: the context has shape {tuple(context.shape)}, expected [1 or B, "
                f"{', '.join(map(str, self.picture.event_shape))}]: the pictures before"
            )
        return Transformed(self, context)

    def transform(self, x: Tensor) -> Tensor:
        """E[h | x, y] of pairs `[B, 2, *event]`: the transformation as it was recognised, `[B, hidden]`."""
        self.space.check(x)
        after, before = self.divide(x)
        with torch.no_grad():
            energy = self.within(before)
            return energy.hidden.mean(energy.hidden_parameters(after))

    def analogy(self, x: Tensor, before: Tensor) -> Tensor:
        """E[y | before, h] with h as recognised in pairs x: the same done to other pictures, `[B, *event]`."""
        with torch.no_grad():
            energy = self.within(before)
            return energy.visible.mean(energy.visible_parameters(self.transform(x)))


class Transformed(Energy):
    """E(y | x) of a `GatedRBM` with its x bound: an RBM of y, whose weights depend on x.

    Args:
        machine: the gated machine, whose parameters these are.
        context: x `[1, *event]`, or `[B, *event]` for B chains; rows of y and of x go in order.
    """

    context: Tensor

    def __init__(self, machine: GatedRBM, context: Tensor) -> None:
        super().__init__(machine.picture)
        self.machine = machine
        self.register_buffer("context", context.to(machine.bias.device), persistent=False)

    def _before(self, num_rows: int) -> Tensor:
        """x'X `[1 or B, F]`; a single row is that of the first x."""
        context = self.context[:1] if num_rows == 1 else self.context
        if len(context) not in (1, num_rows):
            raise InputError(f"GatedRBM: {num_rows} rows, but {len(context)} contexts; give one, or one for each row")
        return context.flatten(1) @ self.machine.before

    def forward(self, x: Tensor) -> Tensor:
        """E(y | x) `[B]`."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def visible(self) -> Units:
        """Units of y."""
        picture = self.machine.picture
        return Normal(self.machine.precision) if isinstance(picture, Real) else counting_units(picture)

    @property
    def hidden(self) -> Units:
        """Bits."""
        return Binary(len(self.machine.hidden_bias))

    def visible_energy(self, x: Tensor) -> Tensor:
        """-b'y, or |y - b|^2 / 2 for real y, `[B]`."""
        flat, bias = x.flatten(1), self.machine.bias
        return (flat - bias).square().sum(1) / 2 if isinstance(self.machine.picture, Real) else -(flat @ bias)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """c + H [(x'X) * (y'Y)], `[B, hidden]`."""
        product = self._before(len(x)) * (x.flatten(1) @ self.machine.after)
        return torch.addmm(self.machine.hidden_bias, product, self.machine.hidden_factors.T)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b + Y [(x'X) * (h'H)], `[B, *event]`."""
        product = self._before(len(h)) * (h @ self.machine.hidden_factors)
        natural = torch.addmm(self.machine.bias, product, self.machine.after.T)
        return natural.view(len(h), *self.machine.picture.event_shape)

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives), each with the contexts in order, and the gradient of the difference of their means."""
        with torch.no_grad():
            on_data, slopes = self._slopes(data, 1 / len(data))
            on_negatives, others = self._slopes(negatives, -1 / len(negatives))
        return on_data, on_negatives, tuple(one + other for one, other in zip(slopes, others, strict=True))

    def _slopes(self, x: Tensor, share: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        """E(y | x), and a share of the sum of its gradients over the rows, in the order of the parameters."""
        machine, flat = self.machine, x.flatten(1)
        natural = self.hidden_parameters(x)
        active = self.hidden.mean(natural)
        context = self.context.flatten(1).expand(len(x), -1)
        before, after, hidden = context @ machine.before, flat @ machine.after, active @ machine.hidden_factors
        for_bias = (machine.bias - flat).sum(0) if isinstance(machine.picture, Real) else -flat.sum(0)
        slopes = (
            -(context.T @ (after * hidden)),
            -(flat.T @ (before * hidden)),
            -(active.T @ (before * after)),
            for_bias,
            -active.sum(0),
        )
        energy = self.visible_energy(x) - self.hidden.log_partition(natural)
        return energy, tuple(share * slope for slope in slopes)
