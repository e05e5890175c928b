"""Deep Boltzmann machines: layers of bits in a row, with mean field for what cannot be summed out."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.energy import CLOSED, Capability, Energy, Tractable
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Binary
from energeia.energies.deep_joint import DeepJoint
from energeia.energies.layers import draw_units

_MOST_LISTED = 2**14
_AT_ONCE = 2**18


class MeanField(NamedTuple):
    """Independent bits near the posterior of the layers above x.

    rows: x and the means of h_2, h_4, ..., `[B, even]`: where `DBM.joint` is evaluated. Those of h_1, h_3, ... follow.
    sweeps: how many were made. change: the largest change of a mean in the last of them.
    """

    rows: Tensor
    sweeps: int
    change: float


class DBM(Energy):
    """E(v, h_1, ..., h_L) = -sum_l h_(l-1)'W_l h_l - sum_l b_l'h_l, with h_0 = v, all of them bits.

    Args:
        visible: number of bits of v, or their space.
        hidden: number of bits of h_1, ..., h_L; one layer makes a restricted Boltzmann machine.
        mean: mean of the data `[*event]`: the first b_0 and offset of v.
        centred: whether gradients are centred, as for `RBM`; a centred machine of several layers learns
            from small random weights, if slowly in its upper layers; `pretrain` gives others to start from.
        weight_scale: standard deviation of the first weights, > 0.

    Three energies, and which is which:

    `dbm.joint`: E(v, h_2, h_4, ...), the odd layers summed out. Exact and cheap; what is sampled, annealed
        and trained against (`DeepJoint`).
    `dbm(v)`: E(v), all layers summed out. Exact, by listing the even (or the odd) hidden layers, if they have at
        most 2^14 states; `InputError` beyond that: E(v) has no closed form.
    `dbm.bound(v)`: F(v) = E_q[E(v, h)] - H(q) >= E(v), q the independent bits of mean field. It is an upper
        bound of E(v) and not E(v). So log p(v) >= -F(v) - log Z, with the log Z of `dbm.joint`: `variational_bound`.

    Train with `MeanFieldPosterior`, estimate with `variational_bound`, sample with `sample`, or with
    any sampler for bits on `dbm.joint`.

    Capabilities: `Variational`; `Tractable` if the joint is.

    Reference: Salakhutdinov & Hinton (2009), Deep Boltzmann machines,
    https://proceedings.mlr.press/v5/salakhutdinov09a.html; Melchior, Fischer & Wiskott (2016), How to center
    deep Boltzmann machines, https://jmlr.org/papers/v17/14-237.html

    >>> import torch, energeia as en
    >>> dbm = en.DBM(6, (4, 3), weight_scale=0.5)
    >>> v = en.Binary(6).start(5, torch.Generator().manual_seed(0))
    >>> bool((dbm.bound(v) >= dbm(v)).all())
    True
    """

    def __init__(
        self,
        visible: int | Binary,
        hidden: Sequence[int],
        *,
        mean: Tensor | None = None,
        centred: bool = True,
        weight_scale: float = 0.01,
    ) -> None:
        space = Binary(visible) if isinstance(visible, int) else visible
        if not isinstance(space, Binary):
            raise InputError(f"DBM: layers are bits; visible must be a number of them or a Binary space, got {space!r}")
        if len(hidden) == 0:
            raise InputError("DBM: hidden must name at least one layer, such as (500, 1000)")
        super().__init__(space)
        sizes = (space.num_dims, *hidden)
        self.joint = DeepJoint(sizes, mean=mean, centred=centred, weight_scale=weight_scale)

    def forward(self, x: Tensor) -> Tensor:
        """E(v) `[B]`, exact. Cost: `joint` or its mirror image for each state of the smaller side."""
        sizes = self.joint.sizes
        even, odd = sum(sizes[2::2]), sum(sizes[1::2])
        size = min(even, odd)
        if 2**size > _MOST_LISTED:
            raise InputError(
                f"DBM: E(v) needs a sum over 2^{size} states of hidden layers {sizes[1:]}; at most 2^14 are listed. "
                "Use dbm.bound(v), an upper bound of it, dbm.joint, which is exact with the even layers as well, or "
                "en.variational_bound for log p(v)"
            )
        flat = x.flatten(1)
        states = Binary(max(size, 1)).enumerate(0, 2**size, dtype=x.dtype, device=x.device)[:, :size]
        listed = self._with_even if even <= odd else self._with_odd
        parts = [listed(part, states) for part in flat.split(max(1, _AT_ONCE // len(states)))]
        return torch.cat(parts)

    def _with_even(self, flat: Tensor, states: Tensor) -> Tensor:
        """-log sum over states of the even hidden layers of exp(-joint)."""
        pairs = torch.cat([flat.repeat_interleave(len(states), 0), states.repeat(len(flat), 1)], 1)
        return -(-self.joint(pairs)).view(len(flat), len(states)).logsumexp(1)

    def _with_odd(self, flat: Tensor, states: Tensor) -> Tensor:
        """-log sum over states of the odd layers, the even hidden ones summed out."""
        joint, num_visible = self.joint, self.joint.sizes[0]
        weights, biases = joint.learning()
        natural = joint.side(0, states, weights, biases)
        own = states @ torch.cat(biases[1::2]) + torch.nn.functional.softplus(natural[:, num_visible:]).sum(1)
        return -(flat @ natural[:, :num_visible].T + own).logsumexp(1)

    @property
    def bound(self) -> "MeanFieldBound":
        """F(v) >= E(v) as an energy of its own, with mean field run until it stands."""
        return MeanFieldBound(self)

    def mean_field(self, x: Tensor, *, num_sweeps: int = 1000, tolerance: float | None = None) -> MeanField:
        """The posterior of the hidden layers at v = x, as independent bits.

        Odd layers are set to their means given the even ones, then even layers given the odd ones: each
        such step is the minimum of F over half of the means, so F falls with every one, and no damping is needed.

        Args:
            x: `[B, *event]`.
            num_sweeps: at most this many passes over both.
            tolerance: stop once no mean has changed by more; None is 1e-5 in float32 and 1e-12 in float64.

        Returns:
            `MeanField`; it has converged if change <= tolerance. Another fixed point may have a lower F.
        """
        check_count("DBM.mean_field", num_sweeps=num_sweeps)
        if tolerance is None:
            tolerance = 1e-12 if x.dtype == torch.float64 else 1e-5
        check_positive("DBM.mean_field", tolerance=tolerance)
        change, done = float("inf"), 0
        with torch.no_grad():
            layers, from_data = self._upwards(x.flatten(1))
            while done < num_sweeps and change > tolerance:
                change, done = self._sweep(layers, from_data), done + 1
        return MeanField(self.joint.rows(layers), done, change)

    def _sweep(self, layers: list[Tensor], from_data: Tensor) -> float:
        """Set the odd layers to their means, then the even ones; the largest change of these."""
        weights, biases = list(self.joint.weights), list(self.joint.biases)
        change = 0.0
        for layer in (*range(1, len(layers), 2), *range(2, len(layers), 2)):
            natural = from_data
            if layer > 1:
                natural = torch.addmm(biases[layer], layers[layer - 1], weights[layer - 1])
            if layer + 1 < len(layers):
                natural = torch.addmm(natural, layers[layer + 1], weights[layer].T)
            mean = natural.sigmoid()
            if layer % 2 == 0:
                change = max(change, float((mean - layers[layer]).abs().max()))
            layers[layer] = mean
        return change

    def _upwards(self, flat: Tensor) -> tuple[list[Tensor], Tensor]:
        """First means, each layer taking twice what comes from below for what will come from above; b_1 + W_1'v."""
        weights, biases = list(self.joint.weights), list(self.joint.biases)
        layers, from_data = [flat], flat
        for layer in range(1, len(biases)):
            natural = torch.addmm(biases[layer], layers[-1], weights[layer - 1])
            if layer == 1:
                from_data = natural
            twice = natural if layer == len(weights) else 2 * natural - biases[layer]
            layers.append(twice.sigmoid())
        return layers, from_data

    def transform(self, x: Tensor) -> Tensor:
        """Means of all hidden layers at v = x by mean field, side by side `[B, h_1 + ... + h_L]`: features."""
        self.space.check(x)
        with torch.no_grad():
            rows = self.mean_field(x).rows
            layers = self.joint.layers(rows, self.joint.hidden_parameters(rows).sigmoid())
        return torch.cat(layers[1:], 1)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable` where the joint is."""
        if kind in CLOSED and self.joint.capability(Tractable) is None:
            return None
        return super().capability(kind)

    def log_z(self) -> LogZ:
        """log Z, that of the joint, by listing its smaller side."""
        return self.joint.log_z()

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws of v `[num_chains, *event]`."""
        rows = self.joint.sample_exact(num_chains, generator)
        return rows[:, : self.space.num_dims].reshape(-1, *self.space.event_shape)

    @property
    def undirected(self) -> Energy:
        """`joint`: its log Z is that of this."""
        return self.joint

    def variational_energy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """`bound(x)`, in which nothing is drawn."""
        return self.bound(x)

    def draw_latent(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x with bits of h_2, h_4, ... drawn from mean field, `[B, even]`: where chains of `joint` may start."""
        rows = self.mean_field(x).rows
        uniform = torch.rand(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        return rows.gt(uniform).to(rows)

    def sample(
        self,
        num_samples: int,
        *,
        num_steps: int = 1000,
        start: Tensor | None = None,
        generator: torch.Generator | int = 0,
    ) -> Tensor:
        """v `[num_samples, *event]` after num_steps of block Gibbs sampling between even and odd layers.

        Args:
            num_samples: chains, all independent.
            num_steps: steps of each; from noise, hundreds or thousands.
            start: rows `[num_samples, even]` of `joint` (`draw_latent` gives such); None is noise.
            generator: random numbers, or a seed for them.
        """
        check_count("DBM.sample", num_samples=num_samples, num_steps=num_steps)
        joint = self.joint
        if isinstance(generator, int):
            generator = torch.Generator(joint.offset.device).manual_seed(generator)
        rows = joint.space.start(num_samples, generator, dtype=joint.offset.dtype) if start is None else start
        joint.space.check(rows, "DBM.sample: start")
        with torch.no_grad():
            for _ in range(num_steps):
                h = draw_units(joint.hidden, joint.hidden_parameters(rows), generator)
                rows = draw_units(joint.visible, joint.visible_parameters(h), generator)
        return rows[:, : joint.sizes[0]].reshape(-1, *self.space.event_shape)


class MeanFieldBound(Energy):
    """F(v) = E_q[E(v, h)] - H(q) >= E(v) of a deep Boltzmann machine: `dbm.bound`.

    As a function of v it is an energy, whose density is another one than that of the machine. Its gradient is
    that at fixed q: E_q[dE], which is the whole gradient where mean field stands.

    Args:
        machine: the machine, shared and not copied.
        num_sweeps: of mean field, at most.
    """

    def __init__(self, machine: DBM, num_sweeps: int = 1000) -> None:
        super().__init__(machine.space)
        self.machine, self.num_sweeps = machine, num_sweeps

    def forward(self, x: Tensor) -> Tensor:
        """F(v) `[B]`."""
        rows = self.machine.mean_field(x.detach(), num_sweeps=self.num_sweeps).rows
        flat = x.flatten(1)
        means = rows[:, flat.shape[1] :]
        # The joint energy has the best odd layers for these even ones in it; what is missing is H of the even ones.
        entropy = (torch.special.entr(means) + torch.special.entr(1 - means)).sum(1)
        return self.machine.joint(torch.cat([flat, means], 1)) - entropy
