"""Spike-and-slab restricted Boltzmann machines: real x, bits that switch real hidden units."""

import math

import torch
from torch import Tensor, nn

from energeia.core.energy import CLOSED, Capability
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Binary, Real
from energeia.core.units import Normal, Units
from energeia.energies.layers import checked_statistic
from energeia.energies.switched import Switched, SwitchedMachine

_MOST_LISTED = 2**14


class SpikeAndSlabRBM(SwitchedMachine):
    """E(x, h, s) = sum_i L_i (x_i - b_i)^2 / 2 - sum_ijk W_ijk x_i h_j s_jk - sum_j h_j (c_j + d_j's_j) + |s|^2 / 2.

    Spikes h_j are bits, slabs s_j real vectors of K numbers, L = exp(log_precision) > 0. Given s and h,
    x is diagonal Gaussian; given h alone its covariance is full, so that spikes model how the x_i
    vary together and not only their means. With a_jk = d_jk + sum_i W_ijk x_i:

        x_i | h, s ~ N(b_i + sum_jk W_ijk h_j s_jk / L_i, 1 / L_i)
        s_j | x, h ~ N(h_j a_j, I),     p(h_j = 1|x) = sigmoid(c_j + |a_j|^2 / 2)
        E(x) = sum_i L_i (x_i - b_i)^2 / 2 - sum_j softplus(c_j + |a_j|^2 / 2) - (J K / 2) log(2 pi)

    **When it is normalisable.** Far out every spike is on, and E(x) grows as x'(L - W W')x / 2 with W as a
    matrix `[visible, J K]`. exp(-E) has a finite integral if and only if L - W W' is positive definite: if
    the eigenvalues of L^(-1/2) W W' L^(-1/2) are all below 1. `margin()` is 1 less the largest. A new
    machine of small weights has it; training does not promise to keep it, and short chains do not notice
    when it is lost: look at `margin()`. It gets small where x varies by much more than 1 / L.

    Args:
        visible: shape of x; an int n means (n,).
        num_hidden: J >= 1 spikes. num_slabs: K >= 1 slabs behind each.
        mean, variance: of the data `[*event]`: the first b and 1 / L; 0 and 1 without.
        weight_scale: standard deviation of the first W, > 0.
        hidden_bias: the first c; below 0 spikes begin mostly off.

    Slabs have precision 1, as another would only rescale W and d.
    Parameters: weight `[visible, J, K]`, hidden_bias c `[J]`, inner_bias d `[J, K]`, bias b and log_precision
    `[visible]`. Capabilities: `Bipartite`, whose hidden units are (h_j, h_j s_jk) `[J, 1 + K]`; `Contrastable`;
    `Tractable` up to J = 14.

    Reference: Courville, Bergstra & Bengio (2011), A spike and slab restricted Boltzmann machine,
    https://proceedings.mlr.press/v15/courville11a.html. There a ball bounds x, and neither b nor d exists.

    >>> import torch, energeia as en
    >>> machine = en.SpikeAndSlabRBM(4, num_hidden=3, num_slabs=2)
    >>> machine.transform(torch.ones(1, 4)).shape, bool(machine.margin() > 0)
    (torch.Size([1, 3]), True)
    """

    slab_precision: Tensor

    def __init__(
        self,
        visible: int | tuple[int, ...] | Real,
        num_hidden: int,
        num_slabs: int = 1,
        *,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        weight_scale: float = 0.01,
        hidden_bias: float = 0.0,
    ) -> None:
        space = visible if isinstance(visible, Real) else Real(visible)
        who = "SpikeAndSlabRBM"
        super().__init__(who, space, num_hidden, num_slabs, weight_scale=weight_scale, hidden_bias=hidden_bias)
        first, spread = torch.zeros(space.num_dims), torch.ones(space.num_dims)
        if mean is not None:
            first = checked_statistic("mean", mean, space).to(first)
        if variance is not None:
            spread = checked_statistic("variance", variance, space).to(first).clamp_min(1e-6)
        self.bias = nn.Parameter(first.clone())
        self.log_precision = nn.Parameter(-spread.log())
        self.register_buffer("slab_precision", torch.ones(num_slabs), persistent=False)

    def _visible_units(self) -> Units:
        return Normal(self.log_precision.exp().view(self.space.event_shape))

    @property
    def hidden(self) -> Switched:
        """Spikes with normal slabs behind them."""
        return Switched(Normal(self.slab_precision))

    def visible_energy(self, x: Tensor) -> Tensor:
        """sum_i L_i (x_i - b_i)^2 / 2, `[B]`."""
        return ((x.flatten(1) - self.bias).square() * self.log_precision.exp()).sum(1) / 2

    def visible_parameters(self, h: Tensor) -> Tensor:
        """L_i b_i + sum_jk W_ijk h_j s_jk, `[B, *event]`."""
        natural = self.log_precision.exp() * self.bias + self._input(h)
        return natural.view(len(h), *self.space.event_shape)

    def _visible_gradient(self, x: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        gap, precision = x.flatten(1) - self.bias, self.log_precision.exp()
        return -(share @ gap) * precision, (share @ gap.square()) * precision / 2

    def _coupling(self) -> tuple[Tensor, Tensor]:
        """W as a matrix `[visible, J K]` in float64, and W' W / L."""
        weight = self.weight.detach().flatten(1).double()
        return weight, weight.T @ (weight / self.log_precision.detach().double().exp().unsqueeze(1))

    def margin(self) -> Tensor:
        """1 - the largest eigenvalue of L^(-1/2) W W' L^(-1/2), a number; normalisable where it is above 0."""
        return 1 - torch.linalg.eigvalsh(self._coupling()[1])[-1]

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Bipartite`, `Contrastable`; `Tractable` up to 14 spikes."""
        if kind in CLOSED and 2 ** len(self.hidden_bias) > _MOST_LISTED:
            return None
        return super().capability(kind)

    def _log_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Every h, log of the integral over x and s of exp(-E(x, h, s)), and mean and Cholesky factor of s|h; float64.

        Given h and with x integrated out, s has precision P = I - H (W'W / L) H and linear term H (d + W'b).
        """
        if not bool(self.margin() > 0):
            raise InputError(
                f"SpikeAndSlabRBM: exp(-E) has no finite integral: L - W W' is not positive definite (margin() is "
                f"{float(self.margin()):.3g}, it must be above 0); train with smaller weights or a larger precision"
            )
        weight, coupling = self._coupling()
        num, behind = self.inner_bias.shape
        device = weight.device
        h = Binary(num).enumerate(0, 2**num, dtype=torch.float64, device=device)
        on = h.repeat_interleave(behind, 1)
        precision = torch.eye(num * behind, dtype=torch.float64, device=device)
        precision = precision - on.unsqueeze(1) * coupling * on.unsqueeze(2)
        linear = on * (self.inner_bias.detach().double().flatten() + self.bias.detach().double() @ weight)
        factor = torch.linalg.cholesky(precision)
        middle = torch.cholesky_solve(linear.unsqueeze(2), factor).squeeze(2)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        log_weight = h @ self.hidden_bias.detach().double() + ((linear * middle).sum(1) - log_det) / 2
        dims, log_two_pi = len(weight) + num * behind, math.log(2 * math.pi)
        log_weight = log_weight + (dims * log_two_pi - self.log_precision.detach().double().sum()) / 2
        return h, log_weight, middle, factor

    def log_z(self) -> LogZ:
        """log Z by listing the spikes: 2^J Cholesky factors of J K by J K, float64.

        Raises:
            InputError: the machine is not normalisable.
        """
        return LogZ.exact(self._log_weights()[1].logsumexp(0), "enumeration of the spikes")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`: spikes, then slabs with x integrated out, then x."""
        h, log_weight, middle, factor = self._log_weights()
        number = torch.multinomial(log_weight.softmax(0), num_chains, replacement=True, generator=generator)

        def normal(size: int) -> Tensor:
            return torch.randn(num_chains, size, generator=generator, dtype=torch.float64, device=h.device)

        noise = torch.linalg.solve_triangular(factor[number].mT, normal(middle.shape[1]).unsqueeze(2), upper=True)
        slabs = (middle[number] + noise.squeeze(2)).view(num_chains, *self.inner_bias.shape)
        both = (h[number].unsqueeze(2) * slabs).flatten(1)
        precision = self.log_precision.detach().double().exp()
        centre = self.bias.detach().double() + both @ self._coupling()[0].T / precision
        x = centre + normal(len(precision)) * precision.rsqrt()
        return x.to(self.weight.dtype).view(num_chains, *self.space.event_shape)
