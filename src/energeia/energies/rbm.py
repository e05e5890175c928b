"""Restricted Boltzmann machines: visible and hidden units of any kind, exact where one side is small."""

from typing import Any

import torch
from torch import Tensor, nn

from energeia.core.energy import CLOSED, Capability, Energy, Listed
from energeia.core.errors import InputError, check_count, check_finite, check_fraction, check_positive
from energeia.core.positive import Positive
from energeia.core.record import LogZ
from energeia.core.space import Enumerable, Real, Space
from energeia.core.units import Normal, Rectified, Units
from energeia.energies.layers import checked_statistic, counting_units, draw_units, first_bias, middle, units_space

_MOST_LISTED = 2**22
_AT_ONCE = 2**12


class RBM(Energy):
    """E(v, h) = -s(v)'W h - s(v)'b - c'h - log m(v) - log m(h), and E(v) with the hidden units summed out.

    For bits this is E(v, h) = -v'Wh - b'v - c'h and E(v) = -b'v - sum_j log(1 + exp(c + W'v)_j).

    Args:
        visible: space of v, which says the kind of units; an int is that many bits.
            `Binary`, `Spin`, `Categorical` (softmax units); `Real`: normal units with
            learned variances, s(v) = v / variance and v | h ~ N(b + W h, variance);
            `Positive`: rectified ones, normal ones cut off at zero.
        hidden: space of h, in the same way; real and positive hidden units have variance 1.
        mean: mean of the data `[*event]`: the first b is what it takes for independent
            units to have it, and the first offset of the visible units.
        variance: variance of the data `[*event]`, the first variance of `Real` units.
        centred: whether gradients of W, b and c are centred (below).
        weight_scale: standard deviation of the first W, > 0.
        hidden_bias: the first c; below 0 hidden bits begin mostly off.

    W is `[visible, hidden]` over flattened events; a weight of a categorical unit has one number
    for each category. Centring leaves the model as it is and changes the direction of learning: gradients are
    those of E(v, h) = -(s(v) - m)'W(h - l) - (s(v) - m)'b' - (h - l)'c', told in terms of b and
    c. The offsets m and l, means of the data and of the hidden units, follow the data in
    training (`recentre`). It learns better models, faster, and makes an image and its
    negative equally easy. The gradient of a centred machine is that of the likelihood times
    a positive matrix: `centred=False` for the gradient itself.

    Capabilities: `Bipartite`; `Tractable` if the smaller side has at most 2^22 states (one
    evaluation of the other side for each), `Listed` for more of them.

    Reference: Smolensky (1986); Hinton (2002); Melchior, Fischer & Wiskott (2016), How to
    center deep Boltzmann machines, https://jmlr.org/papers/v17/14-237.html; Nair & Hinton (2010).

    >>> import energeia as en
    >>> rbm = en.RBM(6, 3)
    >>> round(float(en.exact_log_z(rbm).value / (9 * torch.tensor(2.0).log())), 2)
    1.0
    """

    visible_offset: Tensor
    hidden_offset: Tensor
    hidden_precision: Tensor

    def __init__(
        self,
        visible: int | Space,
        hidden: int | Space,
        *,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        centred: bool = True,
        weight_scale: float = 0.01,
        hidden_bias: float = 0.0,
    ) -> None:
        space, hidden_space = units_space("RBM", "visible", visible), units_space("RBM", "hidden", hidden)
        check_positive("RBM", weight_scale=weight_scale)
        check_finite("RBM", hidden_bias=hidden_bias)
        super().__init__(space)
        self.hidden_space, self.centred = hidden_space, centred
        shape = (space.num_dims, hidden_space.num_dims)
        self.weight = nn.Parameter(weight_scale * torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.hidden_bias = nn.Parameter(torch.full((shape[1],), float(hidden_bias)))
        self.log_variance = None
        if isinstance(space, Real | Positive):
            self.log_variance = nn.Parameter(torch.zeros(shape[0]))
        elif variance is not None:
            raise InputError(f"RBM: variance is for Real and Positive visible units, not for {space}")
        self.register_buffer("visible_offset", middle(space))
        self.register_buffer("hidden_offset", middle(hidden_space))
        self.register_buffer("hidden_precision", torch.ones(hidden_space.event_shape), persistent=False)
        with torch.no_grad():
            if variance is not None and self.log_variance is not None:
                self.log_variance.copy_(checked_statistic("variance", variance, space).clamp_min(1e-6).log())
            if mean is not None:
                self.visible_offset.copy_(checked_statistic("mean", mean, space))
                self.bias.copy_(first_bias(space, self.visible_offset))

    def forward(self, x: Tensor) -> Tensor:
        """E(v) `[B]`."""
        weight, bias, hidden_bias = self._learning()
        seen = self._seen(x)
        natural = (seen @ weight + hidden_bias).view(len(x), *self.hidden_space.event_shape)
        return self._visible_energy(x, seen, bias) - self.hidden.log_partition(natural)

    def _learning(self) -> tuple[Tensor, Tensor, Tensor]:
        """W, b and c, whose gradients are centred if this is."""
        if not (self.centred and torch.is_grad_enabled()):
            return self.weight, self.bias, self.hidden_bias
        offset = self._seen(self.visible_offset.unsqueeze(0))[0].detach()
        found: Any = _Centre.apply(self.weight, self.bias, self.hidden_bias, offset, self.hidden_offset)
        return found

    def _precision(self) -> Tensor:
        assert self.log_variance is not None
        return (-self.log_variance).exp()

    def _seen(self, x: Tensor) -> Tensor:
        """s(v) `[B, visible]`."""
        flat = x.flatten(1)
        return flat if self.log_variance is None else flat * self._precision()

    def _visible_energy(self, x: Tensor, seen: Tensor, bias: Tensor) -> Tensor:
        linear = -(seen @ bias)
        if self.log_variance is None:
            return linear
        # The whole square, so that b is where v is most likely and its gradient vanishes there.
        return linear + ((x.flatten(1).square() + bias.square()) * self._precision()).sum(1) / 2

    @property
    def visible(self) -> Units:
        """Units of v."""
        if self.log_variance is None:
            return counting_units(self.space)
        precision = self._precision().view(self.space.event_shape)
        return Rectified(precision) if isinstance(self.space, Positive) else Normal(precision)

    @property
    def hidden(self) -> Units:
        """Units of h."""
        if isinstance(self.hidden_space, Real):
            return Normal(self.hidden_precision)
        return (
            Rectified(self.hidden_precision)
            if isinstance(self.hidden_space, Positive)
            else counting_units(self.hidden_space)
        )

    def visible_energy(self, x: Tensor) -> Tensor:
        """-s(v)'b - log m(v), `[B]`."""
        return self._visible_energy(x, self._seen(x), self.bias)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """c + W's(v), `[B, *hidden]`."""
        natural = torch.addmm(self.hidden_bias, self._seen(x), self.weight)
        return natural.view(len(x), *self.hidden_space.event_shape)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b + W h (over the variance where there is one), `[B, *event]`."""
        natural = torch.addmm(self.bias, h.flatten(1), self.weight.T)
        if self.log_variance is not None:
            natural = natural * self._precision()
        return natural.view(len(h), *self.space.event_shape)

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means."""
        with torch.no_grad():
            x = torch.cat([data, negatives])
            seen, natural = self._seen(x), self.hidden_parameters(x)
            energies = self._visible_energy(x, seen, self.bias) - self.hidden.log_partition(natural)
            left, right, others = self._factors(x, seen, natural, len(data))
        return energies[: len(data)], energies[len(data) :], (left.T @ right, *others)

    def descend(self, data: Tensor, negatives: Tensor, hidden: Tensor, *, step_size: float) -> None:
        """Subtract step_size times the gradient of `contrast` from the parameters, in place.

        Args:
            data, negatives: `[N, *event]` and `[M, *event]`.
            hidden: `hidden_parameters` of both, `[N + M, *hidden]`: a chain has met them on its way.
            step_size: learning rate.

        Cost: two products with W's shape in all; the gradient of W is never held.
        """
        with torch.no_grad():
            x = torch.cat([data, negatives])
            left, right, others = self._factors(x, self._seen(x), hidden, len(data))
            self.weight.addmm_(left.T, right, alpha=-step_size)
            for parameter, gradient in zip((self.bias, self.hidden_bias, self.log_variance), others, strict=False):
                if parameter is not None:
                    parameter.sub_(gradient, alpha=step_size)

    def _factors(
        self, x: Tensor, seen: Tensor, natural: Tensor, num_data: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The gradient of W as a product of `[B, visible]` and `[B, hidden]`, and that of the other parameters.

        With r the weight of a row, 1 / N for data and -1 / M for negatives, and p = E[h|v]:
        -sum_rows r (s(v) - m)(p - l)' for W, and so on.
        """
        share = x.new_full((len(x),), -1 / num_data)
        share[num_data:] = 1 / (len(x) - num_data)
        active = self.hidden.mean(natural).flatten(1)
        left, right = seen, active * share.unsqueeze(1)
        for_bias, for_hidden = share @ seen, share @ active
        if self.centred:
            offset = self._seen(self.visible_offset.unsqueeze(0))[0]
            # Shares add up to zero, so that the offset of one side would do: both lose less to rounding.
            left, right = seen - offset, right.addr_(share, self.hidden_offset, alpha=-1)
            for_bias = for_bias - (right @ self.hidden_offset) @ left
            for_hidden = for_hidden - (left @ offset) @ right
        if self.log_variance is None:
            return left, right, (for_bias, for_hidden)
        # d/d log variance of E: minus what multiplies the precision.
        flat = x.flatten(1)
        inner = flat.square() / 2 - flat * (self.bias + active @ self.weight.T)
        return left, right, (for_bias, for_hidden, (share @ inner) * self._precision())

    def transform(self, x: Tensor) -> Tensor:
        """E[h|v] `[B, *hidden]`: features for another model."""
        self.space.check(x)
        with torch.no_grad():
            return self.hidden.mean(self.hidden_parameters(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        """E[v | E[h|v]], `[B, *event]`: a monitor, not a measure of the model."""
        with torch.no_grad():
            return self.visible.mean(self.visible_parameters(self.transform(x)))

    def recentre(self, x: Tensor, rate: float = 0.01, *, hidden: Tensor | None = None) -> None:
        """Move the offsets by a rate, 0 to 1, towards the means of v and of h at data x `[B, *event]`.

        The model stays as it is. Hidden means are taken of every eighth row, or of all if their
        hidden parameters are given.
        """
        check_fraction("recentre", rate=rate)
        if not self.centred:
            return
        with torch.no_grad():
            self.visible_offset.lerp_(x.flatten(1).mean(0), rate)
            natural = self.hidden_parameters(x[::8]) if hidden is None else hidden
            self.hidden_offset.lerp_(self.hidden.mean(natural).flatten(1).mean(0), rate)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Bipartite`; `Listed` where a side is discrete; `Tractable` where that is small."""
        side = self._smaller()
        if (kind in CLOSED and self._listed() is None) or (kind is Listed and side is None):
            return None
        return super().capability(kind)

    def _smaller(self) -> str | None:
        """The side with fewer states, of those that are discrete."""
        sides = {"hidden": self.hidden_space, "visible": self.space}
        sizes = {name: side.num_states for name, side in sides.items() if isinstance(side, Enumerable)}
        return min(sizes, key=lambda key: sizes[key], default=None)

    def _listed(self) -> str | None:
        """The smaller side if its states can be listed in no time."""
        side = self._smaller()
        return side if side is not None and self._side(side).num_states <= _MOST_LISTED else None

    def _side(self, name: str) -> Enumerable:
        space = self.hidden_space if name == "hidden" else self.space
        assert isinstance(space, Enumerable)
        return space

    @property
    def num_terms(self) -> int:
        """States of the smaller side."""
        side = self._smaller()
        assert side is not None
        return self._side(side).num_states

    def log_terms(self, first: int, last: int) -> Tensor:
        """log sum over the other side of exp(-E(v, h)), for states first to last - 1 of the smaller side; float64."""
        side = self._smaller()
        assert side is not None
        parts: list[Tensor] = []
        with torch.no_grad():
            for begin in range(first, last, _AT_ONCE):
                end = min(begin + _AT_ONCE, last)
                states = self._side(side).enumerate(begin, end, dtype=self.weight.dtype, device=self.weight.device)
                parts.append((self._log_hidden(states) if side == "hidden" else -self(states)).double())
        return torch.cat(parts)

    def _log_hidden(self, h: Tensor) -> Tensor:
        """log integral over v of exp(-E(v, h)), `[B]`."""
        own = h.flatten(1) @ self.hidden_bias + self.visible.log_partition(self.visible_parameters(h))
        if self.log_variance is not None:
            own = own - (self.bias.square() * self._precision()).sum() / 2
        return own

    def log_z(self) -> LogZ:
        """log Z by listing the smaller side, float64 sums. Cost: one product with W for each of its states."""
        side = self._listed()
        if side is None:
            raise InputError(
                f"RBM.log_z: neither side has at most 2^22 states (visible {self.space}, hidden {self.hidden_space}); "
                "en.exact_log_z(rbm, max_terms=...) lists up to 2^30, en.log_z(rbm) estimates log Z between two ends"
            )
        return LogZ.exact(self.log_terms(0, self.num_terms).logsumexp(0), f"enumeration of the {side} units")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`; it lists the smaller side each time."""
        side = self._listed()
        if side is None:
            raise InputError("RBM.sample_exact: neither side has at most 2^22 states; use rbm.sample")
        weights = self.log_terms(0, self.num_terms)
        cumulative = weights.softmax(0).cumsum(0)
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64, device=weights.device)
        number = torch.searchsorted(cumulative, uniform).clamp(max=len(weights) - 1)
        space = self._side(side)
        like = {"dtype": self.weight.dtype, "device": self.weight.device}
        states = torch.cat([space.enumerate(n, n + 1, **like) for n in number.tolist()])
        if side == "visible":
            return states
        with torch.no_grad():
            natural = self.visible_parameters(states)
        return self.visible.from_natural(natural, torch.rand(natural.shape, generator=generator, **like))

    def sample(self, num_samples: int, *, num_steps: int = 1000, generator: torch.Generator | int = 0) -> Tensor:
        """num_samples chains of num_steps of block Gibbs sampling from noise: the last v, `[num_samples, *event]`.

        For diagnostics, other starts or other samplers: `en.sample(rbm, en.BlockGibbs(), ...)`,
        of which this is the shortest use.
        """
        check_count("RBM.sample", num_samples=num_samples, num_steps=num_steps)
        if isinstance(generator, int):
            generator = torch.Generator(self.weight.device).manual_seed(generator)
        x = self.space.start(num_samples, generator, dtype=self.weight.dtype)
        with torch.no_grad():
            for _ in range(num_steps):
                h = draw_units(self.hidden, self.hidden_parameters(x), generator)
                x = draw_units(self.visible, self.visible_parameters(h), generator)
        return x


class _Centre(torch.autograd.Function):
    """W, b, c as they are; backwards their gradients g become J J'g, J the way from centred to plain parameters."""

    @staticmethod
    def forward(weight: Tensor, bias: Tensor, hidden_bias: Tensor, offset: Tensor, hidden_offset: Tensor) -> Any:
        return weight.view_as(weight), bias.view_as(bias), hidden_bias.view_as(hidden_bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[3], inputs[4])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        for_weight, for_bias, for_hidden = gradients
        offset, hidden_offset = ctx.saved_tensors
        centred = torch.addr(for_weight, for_bias, hidden_offset, alpha=-1)
        centred = torch.addr(centred, offset, for_hidden, alpha=-1)
        return centred, for_bias - centred @ hidden_offset, for_hidden - offset @ centred, None, None
