"""Replicated softmax: restricted Boltzmann machines of documents, as counts of words."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from energeia.core.counts import Counts
from energeia.core.energy import CLOSED, Capability, Energy
from energeia.core.errors import InputError, check_count, check_finite, check_positive
from energeia.core.record import LogZ
from energeia.core.space import Binary
from energeia.core.units import Units
from energeia.energies.layers import checked_statistic

_MOST_LISTED = 2**20
_AT_ONCE = 2**12


class ReplicatedSoftmax(Energy):
    """E(x, h) = -sum_kj x_k W_kj h_j - b'x - D c'h for a document of D words, x_k of them the word k.

    Every word is a softmax unit, all share W and b, and the bias c of the hidden bits counts D times, so that
    they weigh as much against a long document as against a short one:

        E(x) = -b'x - sum_j softplus(D c_j + sum_k x_k W_kj)
        p(word | h) = softmax(b + W h),   x | h ~ Multinomial(D, p),   p(h_j = 1|x) = sigmoid(D c_j + (W'x)_j)

    p(x) = exp(-E(x)) / Z_D is the probability of the document as it is written, its words in their order,
    among all of D words. A hidden bit multiplies the probabilities of words, so topics sharpen each
    other, where a mixture (latent Dirichlet allocation) would average them.

    Args:
        space: `Counts(K, D)` for documents of D words, `Counts(K, D, least=...)` for documents of various numbers of
            words, K the size of the vocabulary.
        num_hidden: bits, J >= 1.
        frequencies: of the words in the data `[K]`, above 0 or 0, to whose logarithm the first b is set:
            `data.mean(0)` will do.
        weight_scale: standard deviation of the first W, > 0.
        hidden_bias: the first c.

    Documents of various lengths are trained with `ContrastiveDivergence` and block Gibbs sampling: a chain
    keeps the number of words of the document it starts at. `PersistentCD`, whose chains start fresh, takes one
    length. `of_length(D)` is the machine for one length, with the same parameters: what log Z, annealing and
    fresh samples need.

    Parameters: weight `[K, J]`, bias b `[K]`, hidden_bias c `[J]`. Capabilities: `Bipartite`, `Contrastable`;
    `Tractable` for one length and up to J = 20. Cost: a step draws D words each from a softmax of K.

    Reference: Salakhutdinov & Hinton (2009), Replicated softmax: an undirected topic model.
    https://papers.nips.cc/paper/2009/hash/31839b036f63806cba3f47b93af8ccb5-Abstract.html

    >>> import torch, energeia as en
    >>> machine = en.ReplicatedSoftmax(en.Counts(3, total=4, least=2), 2)
    >>> x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 2.0]])
    >>> [round(float(p), 1) for p in machine.log_probability(x).exp() * torch.tensor([9.0, 81.0])]
    [1.0, 1.0]
    """

    def __init__(
        self,
        space: Counts,
        num_hidden: int,
        *,
        frequencies: Tensor | None = None,
        weight_scale: float = 0.01,
        hidden_bias: float = 0.0,
    ) -> None:
        if not isinstance(space, Counts):
            raise InputError(f"ReplicatedSoftmax: space must be Counts(K, total=D), got {space!r}")
        check_count("ReplicatedSoftmax", num_hidden=num_hidden)
        check_positive("ReplicatedSoftmax", weight_scale=weight_scale)
        check_finite("ReplicatedSoftmax", hidden_bias=hidden_bias)
        super().__init__(space)
        self.counts = space
        first = torch.zeros(space.num_dims)
        if frequencies is not None:
            first = checked_statistic("frequencies", frequencies, space).to(first)
            if bool((first < 0).any()) or not bool(first.any()):
                raise InputError("ReplicatedSoftmax: frequencies must be at least 0, and not all 0")
            # A word that never occurs gets a hundredth of what it would have if all were alike.
            first = (first / first.sum()).clamp_min(0.01 / len(first)).log()
        self.weight = nn.Parameter(weight_scale * torch.randn(space.num_dims, num_hidden))
        self.bias = nn.Parameter(first)
        self.hidden_bias = nn.Parameter(torch.full((num_hidden,), float(hidden_bias)))

    def of_length(self, total: int) -> "ReplicatedSoftmax":
        """The machine for documents of so many words; it shares all parameters with this one."""
        check_count("of_length", total=total)
        other = copy.copy(self)
        other.space = other.counts = Counts(self.counts.num_dims, total)
        return other

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def visible(self) -> Units:
        """The space: multinomial units."""
        return self.counts

    @property
    def hidden(self) -> Units:
        """Bits."""
        return Binary(len(self.hidden_bias))

    def visible_energy(self, x: Tensor) -> Tensor:
        """-b'x, `[B]`."""
        return -(x @ self.bias)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """D c + W'x, `[B, J]`, D = sum_k x_k."""
        return x @ (self.weight + self.hidden_bias)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b + W h: log p(word | h) up to a constant, `[B, K]`."""
        return torch.addmm(self.bias, h, self.weight.T)

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives) and the gradient of the difference of their means."""
        with torch.no_grad():
            x = torch.cat([data, negatives])
            share = x.new_full((len(x),), -1 / len(data))
            share[len(data) :] = 1 / len(negatives)
            natural = self.hidden_parameters(x)
            energies = self.visible_energy(x) - self.hidden.log_partition(natural)
            for_weight = x.T @ (self.hidden.mean(natural) * share.unsqueeze(1))
            # Every word brings c with it, as it brings its row of W.
            gradients = (for_weight, share @ x, for_weight.sum(0))
        return energies[: len(data)], energies[len(data) :], gradients

    def transform(self, x: Tensor) -> Tensor:
        """P(h_j = 1|x) `[B, J]`: features for another model."""
        self.space.check(x)
        with torch.no_grad():
            return self.hidden.mean(self.hidden_parameters(x))

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Bipartite`, `Contrastable`; `Tractable` for documents of one length and up to 20 hidden bits."""
        if kind in CLOSED and not (self.counts.one_total and self._listed):
            return None
        return super().capability(kind)

    @property
    def _listed(self) -> bool:
        return 2 ** len(self.hidden_bias) <= _MOST_LISTED

    def _states(self, first: int, last: int) -> Tensor:
        like = self.weight
        return Binary(len(self.hidden_bias)).enumerate(first, last, dtype=like.dtype, device=like.device)

    def _log_weight_of_a_word(self) -> Tensor:
        """c'h + logsumexp(b + W h) for every h, float64: D times it is log of the sum over x of exp(-E(x, h))."""
        if not self._listed:
            raise InputError(
                f"ReplicatedSoftmax: {len(self.hidden_bias)} hidden bits are too many to list (at most 20); use "
                "en.ais(machine.of_length(D)), which estimates log Z with an error"
            )
        parts: list[Tensor] = []
        number = 2 ** len(self.hidden_bias)
        with torch.no_grad():
            for first in range(0, number, _AT_ONCE):
                h = self._states(first, min(first + _AT_ONCE, number))
                parts.append((h @ self.hidden_bias + self.visible_parameters(h).logsumexp(1)).double())
        return torch.cat(parts)

    def log_probability(self, x: Tensor) -> Tensor:
        """log p(x | its number of words), exact, for documents of any lengths `[B, K]`: `[B]`, float64.

        Cost: one softmax for each of the 2^J states of the hidden bits, J <= 20, whatever the lengths.
        """
        self.space.check(x)
        word = self._log_weight_of_a_word()
        lengths, which = x.sum(1).double().unique(return_inverse=True)
        log_z = torch.stack([(length * word).logsumexp(0) for length in lengths])
        with torch.no_grad():
            return -self(x).double() - log_z[which]

    def log_z(self) -> LogZ:
        """log Z_D by listing the hidden bits, float64 sums."""
        total = self._one_total("log_z")
        return LogZ.exact((total * self._log_weight_of_a_word()).logsumexp(0), "enumeration of the hidden units")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent documents `[num_chains, K]`; it lists the hidden bits each time."""
        weights = (self._one_total("sample_exact") * self._log_weight_of_a_word()).softmax(0)
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64, device=weights.device)
        number = torch.searchsorted(weights.cumsum(0), uniform).clamp(max=len(weights) - 1)
        like: dict[str, Any] = {"dtype": self.weight.dtype, "device": self.weight.device}
        h = torch.cat([self._states(n, n + 1) for n in number.tolist()])
        with torch.no_grad():
            natural = self.visible_parameters(h)
        return self.visible.from_natural(natural, torch.rand(natural.shape, generator=generator, **like))

    def _one_total(self, what: str) -> int:
        if not self.counts.one_total:
            raise InputError(
                f"ReplicatedSoftmax.{what}: log Z is another number for each number of words; take "
                "machine.of_length(D), or machine.log_probability(x)"
            )
        return self.counts.total
