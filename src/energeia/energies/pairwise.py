"""Spins and categories on a graph: Ising, Potts, and the Ising model of the square lattice."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.energy import CLOSED, Capability, Energy
from energeia.core.errors import InputError
from energeia.core.record import LogZ
from energeia.core.space import Categorical, Spin
from energeia.energies.colouring import Graph
from energeia.energies.onsager import kaufman_log_z


class Ising(Energy):
    """E(s) = -sum_(ij) J_ij s_i s_j - sum_i h_i s_i, spins s_i = -1 or +1 on any graph.

    Args:
        shape: event shape, an int for a plain vector of spins.
        edges: pairs of sites `[M, 2]`, sites numbered as in the flattened event; each
            pair once, in either order.
        couplings: J, one number or one for each edge `[M]`; > 0 favours agreement.
        fields: h, one number or one for each site `[*event]`.

    The inverse temperature is absorbed: J and h are beta times the physical ones. Both
    are parameters, so they can be trained; tensors set the dtype.

    Capabilities: `Conditional`, with a greedy colouring of the graph (sites of one colour
    have no edge between them), and `Pairwise`. Cost: O(M) for E, O(N D) for the natural
    parameters of all blocks, D the largest degree.

    >>> import torch
    >>> from energeia.energies import Ising
    >>> ring = Ising(3, torch.tensor([[0, 1], [1, 2], [2, 0]]), couplings=0.5)
    >>> ring(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])).tolist()
    [-1.5, 0.5]
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        edges: Tensor | Sequence[tuple[int, int]],
        *,
        couplings: float | Tensor,
        fields: float | Tensor = 0.0,
    ) -> None:
        space = Spin(shape)
        super().__init__(space)
        self.graph = Graph(space.num_dims, edges, "Ising")
        num_edges = len(self.graph.edges)
        self.couplings = _parameter("Ising", "couplings", couplings, [(), (num_edges,)], _dtype(couplings, fields))
        self.fields = _parameter("Ising", "fields", fields, [(), space.event_shape], _dtype(couplings, fields))

    def forward(self, x: Tensor) -> Tensor:
        """E(s) `[B]`."""
        s = x.flatten(1)
        first, second = self.graph.edges.unbind(1)
        bonds = (self.couplings * (s[:, first] * s[:, second])).sum(1)
        return -bonds - (self.fields * x).flatten(1).sum(1)

    @property
    def num_blocks(self) -> int:
        """Number of colours."""
        return self.graph.num_colours

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites of each colour `[B, n]`."""
        return self.graph.split(x.flatten(1))

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, *event]` from the colours."""
        return self.graph.join(blocks).view(-1, *self.space.event_shape)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """h_i + sum_j J_ij s_j for the sites of a colour, `[B, n]`."""
        sites = self.fields.expand(self.space.event_shape).flatten()[self.graph.sites(block)]
        return sites + self.graph.neighbour_sum(self.couplings, blocks, block)

    @property
    def edges(self) -> Tensor:
        """Pairs of sites `[M, 2]`."""
        return self.graph.edges

    def site_log_potentials(self) -> Tensor:
        """-h and +h of every site, `[N, 2]`."""
        fields = self.fields.expand(self.space.event_shape).flatten()
        return torch.stack([-fields, fields], 1)

    def edge_log_potentials(self) -> Tensor:
        """J s s' of every edge, `[M, 2, 2]`."""
        return _spin_tables(self.couplings.expand(len(self.graph.edges)))


class IsingLattice(Energy):
    """The Ising model of a square lattice with one coupling: E(s) = -K sum_<ij> s_i s_j - sum_i h_i s_i.

    Args:
        shape: (height, width); the width is even, so that both colours of the checkerboard
            have the same shape. Periodic lattices have even sizes of at least 4.
        coupling: K = beta J, a number; > 0 favours agreement. The critical point of the
            periodic lattice without field is ln(1 + sqrt 2) / 2 = .4407.
        field: h, one number or one for each site `[height, width]`, in units of kT.
        periodic: whether opposite sides are neighbours (a torus).

    K and h are parameters, so they can be trained; tensors set the dtype. For couplings
    that differ between edges, or other lattices, use `Ising`.

    Capabilities: `Conditional` (the two colours, kept as half lattices `[B, height, width / 2]`,
    so that a sweep is shifts of whole rows), `Pairwise`, and on a torus without field `Normalised`.

    Reference: Kaufman (1949), Crystal statistics II: partition function evaluated by spinor
    analysis. https://doi.org/10.1103/PhysRev.76.1232

    >>> import torch
    >>> from energeia.energies import IsingLattice
    >>> IsingLattice((4, 4), coupling=0.5)(torch.ones(1, 4, 4)).item()
    -16.0
    """

    odd_row: Tensor
    lattice_edges: Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        coupling: float | Tensor,
        field: float | Tensor = 0.0,
        periodic: bool = True,
    ) -> None:
        space = Spin(_lattice_shape(shape, periodic))
        super().__init__(space)
        height, width = space.event_shape
        self.periodic = periodic
        self.coupling = _parameter("IsingLattice", "coupling", coupling, [()], _dtype(coupling, field))
        self.field = _parameter("IsingLattice", "field", field, [(), (height, width)], _dtype(coupling, field))
        self.register_buffer("odd_row", torch.arange(height).view(-1, 1) % 2 == 1, persistent=False)
        self.register_buffer("lattice_edges", _lattice_edges(height, width, periodic), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(s) `[B]`."""
        bonds = (x * (self._shift(x, -1, 2) + self._shift(x, -1, 1))).flatten(1).sum(1)
        return -self.coupling * bonds - (self.field * x).flatten(1).sum(1)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """log Z only where Kaufman's formula holds."""
        if kind in CLOSED and not (self.periodic and bool((self.field == 0).all())):
            return None
        return super().capability(kind)

    def log_z(self) -> LogZ:
        """Kaufman's closed form, on a torus without field."""
        height, width = self.space.event_shape
        value = kaufman_log_z(height, width, self.coupling.detach()).to(self.coupling.device)
        return LogZ.exact(value, "Kaufman's closed form")

    @property
    def num_blocks(self) -> int:
        """Two colours."""
        return 2

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites of even and of odd row + column, `[B, height, width / 2]` each."""
        pairs = x.view(len(x), *self.space.event_shape[:-1], -1, 2)
        left, right = pairs[..., 0], pairs[..., 1]
        return torch.where(self.odd_row, right, left), torch.where(self.odd_row, left, right)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """The lattice `[B, height, width]` from its two colours."""
        even, odd = blocks
        pairs = [torch.where(self.odd_row, odd, even), torch.where(self.odd_row, even, odd)]
        return torch.stack(pairs, -1).flatten(2)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """h + K times the sum of the four neighbours, `[B, height, width / 2]`."""
        other = blocks[1 - block]
        # In its own row a site has the other colour at the same place and at the next or the one before.
        follows = self.odd_row if block == 0 else ~self.odd_row
        beside = torch.where(follows, self._shift(other, -1, 2), self._shift(other, 1, 2))
        neighbours = other + beside + self._shift(other, 1, 1) + self._shift(other, -1, 1)
        field = self.field if self.field.dim() == 0 else self.split(self.field.unsqueeze(0))[block]
        return self.coupling * neighbours + field

    @property
    def edges(self) -> Tensor:
        """Pairs of sites `[M, 2]`: to the right, then downwards."""
        return self.lattice_edges

    def site_log_potentials(self) -> Tensor:
        """-h and +h of every site, `[N, 2]`."""
        field = self.field.expand(self.space.event_shape).flatten()
        return torch.stack([-field, field], 1)

    def edge_log_potentials(self) -> Tensor:
        """K s s' of every edge, `[M, 2, 2]`."""
        return _spin_tables(self.coupling.expand(len(self.lattice_edges)))

    def _shift(self, x: Tensor, by: int, axis: int) -> Tensor:
        """x moved by one place along an axis; over the rim, or with nothing coming in."""
        if self.periodic:
            return x.roll(by, axis)
        size = x.shape[axis]
        nothing = torch.zeros_like(x.narrow(axis, 0, 1))
        kept = x.narrow(axis, 0 if by > 0 else 1, size - 1)
        return torch.cat([nothing, kept] if by > 0 else [kept, nothing], axis)


class Potts(Energy):
    """E(x) = -sum_(ij) J_ij [x_i = x_j] - sum_i h_i(x_i), K categories (one-hot) on any graph.

    Args:
        shape: shape of the sites, without the category axis.
        num_categories: K, at least 2.
        edges: pairs of sites `[M, 2]`, sites numbered as in the flattened shape; each pair once.
        couplings: J, one number or one for each edge `[M]`, of any sign; > 0 favours agreement.
        fields: h, one number for each category `[K]` or for each site and category `[*event]`.

    Both are parameters and absorb the inverse temperature. Capabilities: `Conditional`
    (greedy colouring) and `Pairwise`. With K = 2, J is twice that of `Ising`.

    Reference: Wu (1982), The Potts model. https://doi.org/10.1103/RevModPhys.54.235

    >>> import torch
    >>> from energeia.energies import Potts
    >>> pair = Potts(2, [(0, 1)], num_categories=3, couplings=0.5)
    >>> pair(torch.eye(3)[torch.tensor([[0, 0], [0, 1]])]).abs().tolist()
    [0.5, 0.0]
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        edges: Tensor | Sequence[tuple[int, int]],
        *,
        num_categories: int,
        couplings: float | Tensor,
        fields: Tensor | None = None,
    ) -> None:
        space = Categorical(shape, num_categories)
        super().__init__(space)
        self.num_categories = num_categories
        self.graph = Graph(space.num_dims // num_categories, edges, "Potts")
        dtype = _dtype(couplings, couplings if fields is None else fields)
        num_edges = len(self.graph.edges)
        self.couplings = _parameter("Potts", "couplings", couplings, [(), (num_edges,)], dtype)
        level = torch.zeros(num_categories, dtype=dtype) if fields is None else fields
        self.fields = _parameter("Potts", "fields", level, [(num_categories,), space.event_shape], dtype)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        sites = self._sites(x)
        first, second = self.graph.edges.unbind(1)
        bonds = (self.couplings * (sites[:, first] * sites[:, second]).sum(2)).sum(1)
        return -bonds - (self.fields * x).flatten(1).sum(1)

    @property
    def num_blocks(self) -> int:
        """Number of colours."""
        return self.graph.num_colours

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sites of each colour `[B, n, K]`."""
        return self.graph.split(self._sites(x))

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """`[B, *event]` from the colours."""
        return self.graph.join(blocks).view(-1, *self.space.event_shape)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """h_i(k) + sum_j J_ij [x_j = k] for the sites of a colour, `[B, n, K]`."""
        sites = self.site_log_potentials()[self.graph.sites(block)]
        return sites + self.graph.neighbour_sum(self.couplings, blocks, block)

    @property
    def edges(self) -> Tensor:
        """Pairs of sites `[M, 2]`."""
        return self.graph.edges

    def site_log_potentials(self) -> Tensor:
        """h `[N, K]`."""
        return self.fields.expand(self.space.event_shape).reshape(-1, self.num_categories)

    def edge_log_potentials(self) -> Tensor:
        """J on the diagonal, `[M, K, K]`."""
        same = torch.eye(self.num_categories, dtype=self.couplings.dtype, device=self.couplings.device)
        return self.couplings.expand(len(self.graph.edges)).view(-1, 1, 1) * same

    def _sites(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.num_categories)


def _spin_tables(couplings: Tensor) -> Tensor:
    """J s s' `[M, 2, 2]` from J `[M]`."""
    agreement = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=couplings.dtype, device=couplings.device)
    return couplings.view(-1, 1, 1) * agreement


def _dtype(*values: float | Tensor) -> torch.dtype:
    tensors = [value for value in values if isinstance(value, Tensor)]
    return tensors[0].dtype if tensors else torch.get_default_dtype()


def _parameter(
    who: str, name: str, value: float | Tensor, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> nn.Parameter:
    tensor = torch.as_tensor(value, dtype=dtype).detach().clone()
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise InputError(f"{who}: {name} must be finite floating numbers, got {value!r}")
    if tuple(tensor.shape) not in shapes:
        expected = " or ".join(str(shape) if shape else "one number" for shape in shapes)
        raise InputError(f"{who}: {name} has shape {tuple(tensor.shape)}, expected {expected}")
    return nn.Parameter(tensor)


def _lattice_shape(shape: tuple[int, int], periodic: bool) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"IsingLattice: shape is (height, width), got {shape!r}; use Ising for other graphs")
    height, width = shape
    if width % 2:
        raise InputError(f"IsingLattice: the width must be even for a checkerboard, got {width}; use Ising")
    if periodic and (height % 2 or min(shape) < 4):
        raise InputError(
            f"IsingLattice: a periodic lattice has even sizes of at least 4, got {tuple(shape)}: rows of odd length "
            "have no checkerboard and rows of two join the same sites twice; use Ising, or periodic=False"
        )
    return height, width


def _lattice_edges(height: int, width: int, periodic: bool) -> Tensor:
    number = torch.arange(height * width).view(height, width)
    pairs: list[Tensor] = []
    for axis in (1, 0):
        size = number.shape[axis] if periodic else number.shape[axis] - 1
        pairs.append(torch.stack([number, number.roll(-1, axis)], -1).narrow(axis, 0, size).reshape(-1, 2))
    return torch.cat(pairs)
