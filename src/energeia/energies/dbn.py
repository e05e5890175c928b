"""Deep belief networks: a restricted Boltzmann machine at the top, directed layers of bits below it."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from energeia.core.energy import CLOSED, Capability, Energy, Tractable
from energeia.core.errors import InputError, check_count
from energeia.core.record import LogZ
from energeia.core.space import Binary
from energeia.energies.neural import MLP
from energeia.energies.rbm import RBM

_MOST_LISTED = 2**11


class DBN(Energy):
    """p(v, h_1, ..., h_L) = p(v|h_1) ... p(h_(L-2)|h_(L-1)) p(h_(L-1), h_L), all of them bits.

    The last factor is `dbn.top`, an `RBM`; below it p(h_l = 1|h_(l+1)) = sigmoid(b_l + W_l h_(l+1)). Beside this model
    stand recognition weights, q(h_(l+1) = 1|h_l) = sigmoid(c_(l+1) + R_l'h_l), an approximation of its posterior.

    Args:
        visible: number of bits of v, or their space.
        hidden: number of bits of h_1, ..., h_L, two layers or more.
        mean: mean of the data `[*event]`: the first b_0.
        weight_scale: standard deviation of the first weights, > 0.

    `dbn(v)` is E(v) = -log sum_h p(v|h_1) ... exp(-E_top(h_(L-1))), so that log Z is that of the top: exact, by
    listing layers of at most 2^11 states each; `InputError` beyond. For larger ones there is a bound
    (`variational_bound`). Train layer by layer (`stacked`), then all together with `WakeSleep`, or as a classifier
    (`network`).

    Capabilities: `Variational`; `Tractable` if the top is.

    Reference: Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets,
    https://doi.org/10.1162/neco.2006.18.7.1527; Salakhutdinov & Murray (2008), On the quantitative analysis of
    deep belief networks, https://doi.org/10.1145/1390156.1390266

    >>> import energeia as en
    >>> dbn = en.DBN(6, (4, 3))
    >>> dbn.sample(5, num_steps=10).shape, dbn.network(num_outputs=2)(en.Binary(6).start(3, torch.Generator())).shape
    (torch.Size([5, 6]), torch.Size([3, 2]))
    """

    def __init__(
        self, visible: int | Binary, hidden: Sequence[int], *, mean: Tensor | None = None, weight_scale: float = 0.01
    ) -> None:
        space = Binary(visible) if isinstance(visible, int) else visible
        if not isinstance(space, Binary):
            raise InputError(f"DBN: layers are bits; visible must be a number of them or a Binary space, got {space!r}")
        if len(hidden) < 2:
            raise InputError(f"DBN: hidden must name two layers or more, got {tuple(hidden)}; one layer is an en.RBM")
        check_count("DBN", **{f"hidden[{place}]": size for place, size in enumerate(hidden)})
        super().__init__(space)
        self.sizes = (space.num_dims, *hidden)
        machines = [
            RBM(below, above, mean=mean if number == 0 else None, weight_scale=weight_scale)
            for number, (below, above) in enumerate(itertools.pairwise(self.sizes))
        ]
        self.weights = nn.ParameterList([machine.weight.detach().clone() for machine in machines[:-1]])
        self.biases = nn.ParameterList([machine.bias.detach().clone() for machine in machines[:-1]])
        self.recognition_weights = nn.ParameterList([machine.weight.detach().clone() for machine in machines[:-1]])
        self.recognition_biases = nn.ParameterList([machine.hidden_bias.detach().clone() for machine in machines[:-1]])
        self.top = machines[-1]

    @classmethod
    def stacked(cls, machines: Sequence[RBM]) -> "DBN":
        """The network of restricted Boltzmann machines of bits, lowest first, each trained on the hidden units below.

        The last becomes the top; of the others p(v|h) is kept, and p(h|v) as recognition. Weights are copied.
        """
        kinds = [side for machine in machines for side in (machine.space, machine.hidden_space)]
        if not all(isinstance(side, Binary) for side in kinds):
            raise InputError(f"DBN.stacked: needs machines of bits, got layers {kinds}")
        sizes = [(machine.space.num_dims, machine.hidden_space.num_dims) for machine in machines]
        if any(below[1] != above[0] for below, above in itertools.pairwise(sizes)):
            raise InputError(f"DBN.stacked: the hidden layer of each must be the visible one of the next, got {sizes}")
        bottom = machines[0].space
        assert isinstance(bottom, Binary)
        network = cls(bottom, [above for _, above in sizes]).to(machines[0].weight)
        with torch.no_grad():
            for number, machine in enumerate(machines[:-1]):
                network.weights[number].copy_(machine.weight)
                network.biases[number].copy_(machine.bias)
                network.recognition_weights[number].copy_(machine.weight)
                network.recognition_biases[number].copy_(machine.hidden_bias)
        network.top.load_state_dict(machines[-1].state_dict())
        return network

    def downward(self, layer: int, above: Tensor) -> Tensor:
        """Natural parameters of h_layer given the layer above it, `[B, size]`; for layers below L - 1."""
        return torch.addmm(self.biases[layer], above, self.weights[layer].T)

    def upward(self, layer: int, below: Tensor) -> Tensor:
        """Natural parameters by recognition of h_layer given the layer below it, `[B, size]`; 1 to L - 1."""
        return torch.addmm(self.recognition_biases[layer - 1], below, self.recognition_weights[layer - 1])

    def recognise(self, x: Tensor, generator: torch.Generator) -> list[Tensor]:
        """v, h_1, ..., h_(L-1), drawn upwards from x `[B, *event]`."""
        layers = [x.flatten(1)]
        with torch.no_grad():
            for layer in range(1, len(self.sizes) - 1):
                layers.append(_draw(self.upward(layer, layers[-1]), generator))
        return layers

    def imagine(self, h: Tensor, generator: torch.Generator) -> list[Tensor]:
        """v, h_1, ..., h_(L-1), drawn downwards from h_(L-1) `[B, size]`."""
        layers = [h]
        with torch.no_grad():
            for layer in reversed(range(len(self.sizes) - 2)):
                layers.insert(0, _draw(self.downward(layer, layers[0]), generator))
        return layers

    def sample(self, num_samples: int, *, num_steps: int = 1000, generator: torch.Generator | int = 0) -> Tensor:
        """v `[num_samples, *event]`: num_steps of block Gibbs sampling at the top, then once down."""
        check_count("DBN.sample", num_samples=num_samples, num_steps=num_steps)
        if isinstance(generator, int):
            generator = torch.Generator(self.top.weight.device).manual_seed(generator)
        h = self.top.sample(num_samples, num_steps=num_steps, generator=generator)
        return self.imagine(h, generator)[0].view(-1, *self.space.event_shape)

    def transform(self, x: Tensor) -> Tensor:
        """Means of h_L with the means of each layer taken for the one above it, `[B, size]`: features."""
        self.space.check(x)
        with torch.no_grad():
            below = x.flatten(1)
            for layer in range(1, len(self.sizes) - 1):
                below = self.upward(layer, below).sigmoid()
            return self.top.hidden_parameters(below).sigmoid()

    def network(self, num_outputs: int) -> MLP:
        """A copy of the way up as an `MLP` of sigmoids with a new last layer: to be fine-tuned, as a classifier say."""
        reference = self.top.weight
        network = MLP(self.space.event_shape, num_outputs, widths=self.sizes[1:], activation="sigmoid").to(reference)
        weights = [*self.recognition_weights, self.top.weight]
        biases = [*self.recognition_biases, self.top.hidden_bias]
        linear = [module for module in network if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for module, weight, bias in zip(linear, weights, biases, strict=False):
                module.weight.copy_(weight.T)
                module.bias.copy_(bias)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """E(v) `[B]`, exact. Cost: products of the numbers of states of neighbouring hidden layers."""
        listed = self.sizes[1:-1]
        if 2 ** max(listed) > _MOST_LISTED:
            raise InputError(
                f"DBN: E(v) needs the states of hidden layers of {listed} bits; at most 2^11 are listed. Use "
                "en.variational_bound, which bounds log p(v)"
            )
        states = [
            Binary(size).enumerate(0, 2**size, dtype=self.top.weight.dtype, device=self.top.weight.device)
            for size in listed
        ]
        log_weights = -self.top(states[-1])
        for layer, above in reversed(list(enumerate(states))):
            here = x.flatten(1) if layer == 0 else states[layer - 1]
            natural = self.downward(layer, above)
            log_weights = (here @ natural.T - softplus(natural).sum(1) + log_weights).logsumexp(1)
        return -log_weights

    def log_z(self) -> LogZ:
        """log Z, that of the top, if one of its layers can be listed."""
        return self.top.log_z()

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws of v `[num_chains, *event]`."""
        h = self.top.sample_exact(num_chains, generator)
        return self.imagine(h, generator)[0].view(-1, *self.space.event_shape)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Tractable` where the top is."""
        if kind in CLOSED and self.top.capability(Tractable) is None:
            return None
        return super().capability(kind)

    @property
    def undirected(self) -> Energy:
        """`top`: its log Z is that of this."""
        return self.top

    def joint_energy(self, layers: Sequence[Tensor]) -> Tensor:
        """E(v, h_1, ..., h_(L-1)) = -log p(v|h_1) - ... + E_top(h_(L-1)), `[B]`."""
        energy = self.top(layers[-1])
        for layer, (below, above) in enumerate(itertools.pairwise(layers)):
            energy = energy + surprise(self.downward(layer, above), below)
        return energy

    def variational_energy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """E(v, h) + log q(h|v) with one draw of h from q for each row, `[B]`: on average at least E(v)."""
        layers = self.recognise(x, generator)
        energy = self.joint_energy(layers)
        for layer, (below, above) in enumerate(itertools.pairwise(layers)):
            energy = energy - surprise(self.upward(layer + 1, below), above)
        return energy

    def draw_latent(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """h_(L-1) drawn upwards from x, `[B, size]`: where chains of `top` may start."""
        return self.recognise(x, generator)[-1]


def surprise(natural: Tensor, bits: Tensor) -> Tensor:
    """-log p of bits given their natural parameters, summed over them, `[B]`."""
    return (softplus(natural) - natural * bits).sum(1)


def _draw(natural: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(natural.shape, generator=generator, dtype=natural.dtype, device=natural.device)
    return natural.sigmoid().gt_(uniform)
