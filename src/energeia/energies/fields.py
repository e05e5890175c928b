"""Energies of labels on a graph, one for each row: what a conditional random field leaves when x is known."""

import torch
from torch import Tensor

from energeia.core.answers import Best, Solvable
from energeia.core.energy import Capability, Energy, Explicit, Pairwise
from energeia.core.errors import InputError
from energeia.core.space import Binary, Categorical
from energeia.energies.chains import chain_best, chain_log_partition, chain_marginals, chain_sample
from energeia.energies.colouring import Graph
from energeia.energies.elimination import log_sum_of_rows
from energeia.energies.structure import Structure
from energeia.energies.trees import tree_best, tree_log_partition, tree_marginals, tree_sample

# Entries of a table up to which a graph with cycles counts as narrow.
NARROW = 2**16


class Field(Energy):
    """E_b(y) = -sum_i u_b,i(y_i) - sum_(ij) w_ij(y_i, y_j) + c_b, K labels (one-hot) on N sites, for every row b.

    Args:
        structure: the graph.
        sites: shape of the sites; () for one.
        unary: u `[B, N, K]`, log potentials.
        tables: w, one for each kind of edge `[R, K, K]`, or one for each row and edge `[B, M, K, K]`; first axis the
            label of the edge's first site.
        present: bool `[B, N]`, sites that are there; None for all. Others are zeros in y and cost nothing.
        offset: c `[B]`; None for zero.

    u and w may be -inf: labels and pairs that are forbidden, whose answers have infinite energy.

    Row b of y `[B, *sites, K]` belongs to row b of u, so there are as many rows of y as of u.

    Capabilities: `Rowwise`, `Ragged`, `Tiltable`, `Conditional` (a colouring), on graphs without cycles `Solvable` and
    `Explicit`, on narrow ones with cycles (K^(width + 1) <= 2^16) `Explicit`, with one row `Pairwise`.
    Cost: O(N K + M K^2) a row for E.
    """

    unary: Tensor
    tables: Tensor
    offset: Tensor

    def __init__(
        self,
        structure: Structure,
        sites: tuple[int, ...],
        unary: Tensor,
        tables: Tensor,
        present: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__(Categorical(sites, unary.shape[-1]))
        self.structure, self.sites, self.present = structure, sites, present
        self._is_chain = structure.is_path and (present is None or _filled_from_the_start(present))
        # Whatever stands where no site is, NaN included, is not read.
        known = unary if present is None else torch.where(present.unsqueeze(-1), unary, 0.0)
        self.register_buffer("unary", known, persistent=False)
        self.register_buffer("tables", tables, persistent=False)
        self.register_buffer("offset", unary.new_zeros(len(unary)) if offset is None else offset, persistent=False)
        self._forbidden = _forbidden(known, tables)

    def forward(self, x: Tensor) -> Tensor:
        """E_b(y) `[B]`."""
        if tuple(x.shape[1:]) != self.space.event_shape:
            raise InputError(
                f"the answers have shape {tuple(x.shape)}, expected [B, *sites, K] = "
                f"{[len(self.unary), *self.space.event_shape]}; label numbers [B, *sites] become that by "
                "energy.space.one_hot(labels)"
            )
        self._check_rows(x)
        y = self.there(x.reshape(len(x), *self.unary.shape[1:]))
        if self._forbidden is None:
            return self.offset - self._score(y, self.unary, self.tables)
        # A product of zero and infinity is no number: what is forbidden is counted apart.
        allowed = self.finite()
        broken = self._score(y, *self._forbidden)
        return (self.offset - self._score(y, allowed.unary, allowed.tables)).masked_fill(broken > 0.5, torch.inf)

    def _score(self, y: Tensor, unary: Tensor, tables: Tensor) -> Tensor:
        """sum_i u_i(y_i) + sum_(ij) w_ij(y_i, y_j) `[B]`."""
        value = (unary * y).flatten(1).sum(1)
        if not len(self.structure.edges):
            return value
        if self.structure.is_path and self._shared:
            return value + ((y[:, :-1] @ tables[0]) * y[:, 1:]).flatten(1).sum(1)
        first, second = self.structure.edges.to(y.device).unbind(1)
        return value + (self._onto(y[:, first], tables) * y[:, second]).flatten(1).sum(1)

    def finite(self) -> "Field":
        """The field itself, or where labels or pairs are forbidden (-inf) one that has a finite price on them, more
        than
        all else together: for what computes with differences.
        """
        if self._forbidden is None:
            return self
        no_site, no_pair = (mask > 0.5 for mask in self._forbidden)
        unary, tables = self.unary.masked_fill(no_site, 0.0), self.tables.masked_fill(no_pair, 0.0)
        weight = unary.detach().abs().amax() * self.structure.num_sites
        if tables.numel():
            weight = weight + tables.detach().abs().amax() * len(self.structure.edges)
        price = -2 * weight - 1
        unary, tables = torch.where(no_site, price, unary), torch.where(no_pair, price, tables)
        return Field(self.structure, self.sites, unary, tables, self.present, self.offset)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Solvable` without cycles, `Explicit` on narrow graphs too, `Pairwise` for one row."""
        narrow = not self.structure.has_cycles or self.structure.entries(self.unary.shape[-1]) <= NARROW
        if (
            (kind is Solvable and self.structure.has_cycles)
            or (kind is Explicit and not narrow)
            or (kind is Pairwise and len(self.unary) > 1)
        ):
            return None
        return super().capability(kind)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.unary)

    @property
    def sites_there(self) -> Tensor | None:
        """Sites that are there, bool `[B, *sites]`; None for all."""
        return None if self.present is None else self.present.view(-1, *self.sites)

    def take(self, index: Tensor) -> "Field":
        """The rows index `[C]`."""
        tables = self.tables if self._tables_of_kinds else self.tables[index]
        present = None if self.present is None else self.present[index]
        return Field(self.structure, self.sites, self.unary[index], tables, present, self.offset[index])

    def tilted(self, slope: Tensor, offset: Tensor) -> "Field":
        """E_b(y) + slope_b . y + offset_b."""
        unary = self.unary - slope.reshape(-1, *self.unary.shape[1:])
        return Field(self.structure, self.sites, unary, self.tables, self.present, self.offset + offset)

    def scaled(self, factor: float) -> "Field":
        """factor E_b(y), factor > 0."""
        return Field(
            self.structure, self.sites, factor * self.unary, factor * self.tables, self.present, factor * self.offset
        )

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels `[B, k, N]` as samplers see them, `[B, k, *sites, K]`; -1 as zeros."""
        numbers = torch.arange(self.unary.shape[-1], device=labels.device)
        y = (labels.unsqueeze(-1) == numbers).to(self.unary.dtype)
        return y.view(*labels.shape[:2], *self.space.event_shape)

    def there(self, y: Tensor) -> Tensor:
        """y `[B, N, ...]` with zeros at sites that are not there."""
        return y if self.present is None else y * self.present.unsqueeze(-1)

    def row(self, number: int) -> "Row":
        """One row's energy, for what goes row by row."""
        field = self.finite()
        tables = field.edge_tables()
        return Row(self.structure, field.unary[number], tables[number if len(tables) > 1 else 0])

    # Exact inference.

    def log_partition(self) -> Tensor:
        """log sum_y exp(-E_b(y)) `[B]`, with its graph. On graphs with cycles by summing out one site after another:
        K^(width + 1) numbers a row and site, refused beyond 2^20.
        """
        if self._is_chain:
            value = chain_log_partition(self.unary, self._transitions(), self._lengths())
        elif not self.structure.has_cycles:
            value = tree_log_partition(self.unary, self._tables(), self.structure.forest, present=self.present)
        else:
            value = log_sum_of_rows(self._pinned(), self.edge_tables(), self.structure.edges, self.structure.order)
        return value - self.offset

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_b(y) `[B]`."""
        return -self(x) - self.log_partition()

    def marginals(self) -> Tensor:
        """The chance of each label at each site `[B, *sites, K]`."""
        if self._is_chain:
            found = chain_marginals(self.unary, self._transitions(), self._lengths())
        else:
            found = tree_marginals(self.unary, self._tables(), self.structure.forest, present=self.present).sites
        return found.view(-1, *self.space.event_shape)

    def best(self, num_best: int) -> Best:
        """The k labellings of least energy."""
        if self._is_chain:
            labels, scores = chain_best(self.unary, self._transitions(), self._lengths(), num_best)
        else:
            labels, scores = tree_best(
                self.unary, self._tables(), self.structure.forest, num_best=num_best, present=self.present
            )
        return Best(self.one_hot(labels), self.offset.unsqueeze(1) - scores)

    def draw(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Independent labellings `[B, num_draws, *sites, K]`."""
        if self._is_chain:
            labels = chain_sample(
                self.unary, self._transitions(), self._lengths(), num_samples=num_draws, generator=generator
            )
        else:
            labels = tree_sample(
                self.unary,
                self._tables(),
                self.structure.forest,
                generator,
                num_samples=num_draws,
                present=self.present,
            )
        return self.one_hot(labels)

    # Blocks, for Gibbs sampling and what is like it.

    @property
    def num_blocks(self) -> int:
        """Number of colours."""
        return self.structure.graph.num_colours

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites of each colour `[B, n, K]`."""
        return self._graph().split(x.reshape(len(x), -1, self.unary.shape[-1]))

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, *sites, K]` from the colours."""
        return self.there(self._graph().join(blocks)).view(-1, *self.space.event_shape)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """u_i(k) + sum_j w_ij(k, y_j) for the sites of a colour, `[B, n, K]`."""
        self._check_rows(blocks[0])
        y = self.there(self._graph().join(blocks))
        first, second = self.structure.edges.to(y.device).unbind(1)
        total = self.unary
        if len(first):
            for source, target, back in ((first, second, False), (second, first, True)):
                told = self._onto(y[:, source], self.finite().tables, back=back)
                if self._forbidden is not None:
                    told = told.masked_fill(self._onto(y[:, source], self._forbidden[1], back=back) > 0.5, -torch.inf)
                total = total.index_add(1, target, told)
        return total[:, self._graph().sites(block)]

    # One row as a model of its own.

    @property
    def edges(self) -> Tensor:
        """Pairs of sites `[M, 2]`."""
        return self.structure.edges

    def site_log_potentials(self) -> Tensor:
        """u of the only row, `[N, K]`."""
        return self._pinned()[0]

    def edge_log_potentials(self) -> Tensor:
        """w of the only row, `[M, K, K]`."""
        return self.edge_tables()[0]

    def edge_tables(self) -> Tensor:
        """w `[1, M, K, K]` where rows share it, else `[B, M, K, K]`; zeros at edges of sites that are not there."""
        return self._spread(self.tables)

    def _spread(self, tables: Tensor) -> Tensor:
        tables = tables[self.structure.kinds].unsqueeze(0) if self._tables_of_kinds else tables
        if self.present is None:
            return tables
        there = self.present[:, self.structure.edges].all(2)
        return torch.where(there[..., None, None], tables, 0.0)

    @property
    def _tables_of_kinds(self) -> bool:
        return self.tables.dim() == 3

    @property
    def _shared(self) -> bool:
        return self._tables_of_kinds and len(self.tables) == 1

    def _transitions(self) -> Tensor:
        return self.tables[0] if self._shared else self._tables()

    def _tables(self) -> Tensor:
        """w of every edge, as it is where sites are not there."""
        return self.tables[self.structure.kinds] if self._tables_of_kinds else self.tables

    def _lengths(self) -> Tensor | None:
        return None if self.present is None else self.present.sum(1)

    def _pinned(self) -> Tensor:
        """u, with sites that are not there held to label 0 at no cost."""
        if self.present is None:
            return self.unary
        # e^-1000 is zero; an infinity would make NaN of the products with a chance of zero.
        nothing = torch.full_like(self.unary[:1, :1], -1000.0)
        nothing[..., 0] = 0.0
        return torch.where(self.present.unsqueeze(-1), self.unary, nothing)

    def _check_rows(self, y: Tensor) -> None:
        if len(y) != len(self.unary):
            raise InputError(
                f"this energy has {len(self.unary)} rows, each for its own x, and the answers have {len(y)}: give one "
                "answer a row, or take its rows more than once: energy.take(index)"
            )

    def _onto(self, y: Tensor, tables: Tensor, *, back: bool = False) -> Tensor:
        """What each edge says to its second site `[B, M, K]`, given its first `[B, M, K]`; or to its first, back."""
        spread = self._spread(tables)
        return ((spread if back else spread.mT) @ y.unsqueeze(-1)).squeeze(-1)

    def _graph(self) -> Graph:
        return self.structure.graph.to(self.unary.device)


def _forbidden(unary: Tensor, tables: Tensor) -> tuple[Tensor, Tensor] | None:
    """Ones where a label of a site, or a pair on an edge, has log potential -inf; None where none has."""
    with torch.no_grad():
        masks = unary.isneginf(), tables.isneginf()
        return (masks[0].to(unary), masks[1].to(tables)) if any(bool(mask.any()) for mask in masks) else None


def _filled_from_the_start(present: Tensor) -> bool:
    """Whether every row has its first site, and none after one that it has not."""
    return bool(present[:, 0].all()) and not bool((present[:, 1:] & ~present[:, :-1]).any())


class Row(Energy):
    """One row of a field: bits where there are two labels, else categories; `Pairwise`. Sites that are not there are
    free, and cost nothing.
    """

    def __init__(self, structure: Structure, unary: Tensor, tables: Tensor) -> None:
        num_sites, num_labels = unary.shape
        super().__init__(Binary(num_sites) if num_labels == 2 else Categorical(num_sites, num_labels))
        self.edges, self._unary, self._tables = structure.edges.to(unary.device), unary, tables

    def forward(self, x: Tensor) -> Tensor:
        """E(y) `[B]`."""
        y = torch.stack([1 - x, x], 2) if isinstance(self.space, Binary) else x
        first, second = self.edges.unbind(1)
        bonds = torch.einsum("bmk,mkl,bml->b", y[:, first], self._tables, y[:, second])
        return -bonds - (self._unary * y).flatten(1).sum(1)

    def site_log_potentials(self) -> Tensor:
        """u `[N, K]`."""
        return self._unary

    def edge_log_potentials(self) -> Tensor:
        """w `[M, K, K]`."""
        return self._tables
