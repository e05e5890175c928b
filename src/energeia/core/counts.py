"""Documents as counts of words, and the multinomial units that they are drawn as."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.space import Space
from energeia.core.units import Units


@dataclass(frozen=True, eq=False)
class Multinomial:
    """Counts of K words among a number of them, drawn one by one: n . x - A(n) with A = total logsumexp(n).

    The measure of x is total! / prod_k x_k!, the number of orders that the words may stand in.

    Args:
        total: words of every chain, a whole number or `[B]`.
        most: the largest total.
    """

    total: Tensor | int
    most: int

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """Counts `[B, K]` from natural parameters and as many uniforms; exact, in float64.

        With at least as many uniforms as words, each word takes one. Else every count is the quantile of its
        binomial distribution, given those before it; that takes a table of `[B, most + 1]` for each word.
        """
        draw = _word_by_word if self.most <= natural.shape[-1] else _count_by_count
        total = torch.as_tensor(self.total, dtype=torch.float64, device=natural.device).expand(len(natural))
        return draw(natural.double(), uniform.double(), total, self.most).to(natural.dtype)

    def log_partition(self, natural: Tensor) -> Tensor:
        """total logsumexp(natural), `[B]`."""
        return self.total * natural.logsumexp(-1)

    def mean(self, natural: Tensor) -> Tensor:
        """total softmax(natural)."""
        total = self.total.unsqueeze(-1) if isinstance(self.total, Tensor) else self.total
        return total * natural.softmax(-1)


def _word_by_word(natural: Tensor, uniform: Tensor, total: Tensor, most: int) -> Tensor:
    cumulative = natural.softmax(-1).cumsum(-1)
    word = torch.searchsorted(cumulative, uniform[:, :most].contiguous(), right=True)
    word = word.clamp(max=natural.shape[-1] - 1)
    present = torch.arange(most, device=natural.device) < total.unsqueeze(1)
    return torch.zeros_like(natural).scatter_add(1, word, present.to(natural.dtype))


def _count_by_count(natural: Tensor, uniform: Tensor, total: Tensor, most: int) -> Tensor:
    # log of the sum of what is left from each word on, then log of each word's share in it and of the rest's.
    left = natural.flip(-1).logcumsumexp(-1).flip(-1)
    log_share, log_rest = natural - left, left[:, 1:] - left[:, :-1]
    values = torch.arange(most + 1, dtype=natural.dtype, device=natural.device)
    counts: list[Tensor] = []
    for word in range(natural.shape[-1] - 1):
        n = total.unsqueeze(1)
        ways = torch.lgamma(n + 1) - torch.lgamma(values + 1) - torch.lgamma((n - values).clamp_min(0) + 1)
        log_p = ways + values * log_share[:, word, None] + (n - values) * log_rest[:, word, None]
        cumulative = log_p.masked_fill(values > n, -math.inf).exp().cumsum(1)
        count = torch.minimum((cumulative <= uniform[:, word, None]).sum(1).to(natural.dtype), total)
        counts.append(count)
        total = total - count
    return torch.stack([*counts, total], 1)


@dataclass(frozen=True)
class Counts(Space):
    """How often each of K words occurs in a document of D words: whole numbers, 0 or more, that add up to D.

    Sums over this space are over documents as they were written, word after word: a vector of counts stands for
    D! / prod_k x_k! of them. So p(x) = exp(-E(x)) / Z is the probability of one document, words in their order.

    Args:
        shape: K, the size of the vocabulary; an int or a tuple of one.
        total: D >= 1.
        least: None: every document has D words. Else documents have from least to D words, and what is
            modelled is p(x | number of words): chains keep the number of words they begin with. Fresh chains,
            log Z and enumeration then need one number of words, `Counts(K, D)`.

    A discrete space that is its own units, as `Binary` is. Samplers that flip sites or follow gradients leave it.

    >>> import torch
    >>> space = Counts(3, total=2)
    >>> x, log_orders = space.points(dtype=torch.float64, device=torch.device("cpu"))
    >>> x.shape, round(float(log_orders.logsumexp(0).exp()))
    (torch.Size([6, 3]), 9)
    """

    total: int = 1
    least: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.event_shape) != 1:
            raise InputError(f"Counts: shape is the number of words, got {self.event_shape}")
        least = self.total if self.least is None else self.least
        if not 1 <= least <= self.total:
            raise InputError(f"Counts: need 1 <= least <= total, got least={self.least}, total={self.total}")

    @property
    def one_total(self) -> bool:
        """Whether all documents have the same number of words."""
        return self.least is None or self.least == self.total

    def _needs_one_total(self, what: str) -> None:
        if not self.one_total:
            raise InputError(
                f"{self} holds documents of {self.least} to {self.total} words, and {what} needs one number of words: "
                "take Counts(K, D) (of a machine, machine.of_length(D)), or give start points where a sampler runs; "
                "train with ContrastiveDivergence, whose chains start at the data"
            )

    def start(self, num_chains: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Tensor:
        """Words drawn uniformly."""
        self._needs_one_total("a fresh start point")
        shape = (num_chains, self.total)
        words = torch.randint(self.num_dims, shape, generator=generator, device=generator.device)
        x = torch.zeros(num_chains, self.num_dims, dtype=dtype, device=generator.device)
        return x.scatter_add_(1, words, torch.ones_like(x[:, :1]).expand(shape))

    def contains(self, x: Tensor) -> Tensor:
        """True where all are whole numbers of at least 0 whose sum is allowed."""
        words = x.sum(-1)
        whole = ((x >= 0) & (x == x.round())).all(-1)
        return whole & (words <= self.total) & (words >= (self.total if self.least is None else self.least))

    @property
    def num_points(self) -> int:
        """How many vectors of counts there are: (D + K - 1 choose K - 1)."""
        self._needs_one_total("enumeration")
        return math.comb(self.total + self.num_dims - 1, self.num_dims - 1)

    def points(self, *, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Every vector of counts `[N, K]`, and the log of the number of orders of its words `[N]`."""
        self._needs_one_total("enumeration")
        places = self.total + self.num_dims - 1
        # Stars and bars: K - 1 bars among the places, counts the gaps between them.
        bars = list(itertools.combinations(range(places), self.num_dims - 1))
        edge = torch.tensor([(-1, *bar, places) for bar in bars], dtype=torch.float64)
        x = edge.diff(dim=1) - 1
        log_orders = math.lgamma(self.total + 1) - torch.lgamma(x + 1).sum(1)
        return x.to(dtype=dtype, device=device), log_orders.to(dtype=dtype, device=device)

    def keeping(self, x: Tensor) -> Units:
        """Multinomial units with as many words in each row as x `[B, K]` has."""
        return Multinomial(self.total if self.one_total else x.sum(-1), self.total)

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """Counts drawn with p(word) = softmax(natural), one uniform for each word of the vocabulary."""
        return self._units().from_natural(natural, uniform)

    def log_partition(self, natural: Tensor) -> Tensor:
        """D logsumexp(natural), `[B]`."""
        return self._units().log_partition(natural)

    def mean(self, natural: Tensor) -> Tensor:
        """D softmax(natural)."""
        return self._units().mean(natural)

    def _units(self) -> Multinomial:
        self._needs_one_total("a draw from natural parameters alone")
        return Multinomial(self.total, self.total)
