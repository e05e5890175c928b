"""Conditional random fields: labels of sites, with terms from any network and tables for neighbours."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import InputError
from energeia.core.space import Categorical, Space
from energeia.energies.fields import Field
from energeia.energies.structure import Structure

Joint = Literal["table", "potts", "attractive"]


class LinearChain(Energy):
    """E(x, y) = -sum_t u_t(x)[y_t] - sum_t w[y_t, y_t+1] - start[y_1] - end[y_T]: a linear-chain CRF.

    Args:
        network: the unary terms u, any module from x `[B, T, *features]` to `[B, T, K]`; or, with per_site, from one
            site's features `[n, *features]` to `[n, K]`, which then sees only sites that are there.
        space: where x lives, event `(T, *features)`.
        num_labels: K, at least 2.
        padding: sites at the end of a row whose features all have this value are not there: sequences of different
            lengths fill up with it. None: all are there. The network sees zeros in their place.
        per_site: what the network maps, see above.
        transitions: whether w, start and end are learnt; without them every site decides alone.

    The answers y are label numbers `[B, T]` (where a site is not there any number will do, predictions have -1).
    E(x) = -log sum_y exp(-E(x, y)), exactly. w[i, j] is the log potential of label i before label j.

    Capability: `Answering`. `given(energy, context=x)` is a `Field`, with exact inference: Viterbi, forward-backward,
    the k best, draws. Cost: the network, and O(T K^2) a row.

    Errors: an empty sequence, a site that is there after one that is not.

    Reference: Lafferty, McCallum & Pereira (2001), Conditional random fields: probabilistic models for segmenting and
    labeling sequence data. https://repository.upenn.edu/handle/20.500.14332/6188

    >>> import torch, energeia as en
    >>> chain = en.LinearChain(torch.nn.Linear(3, 4), en.Real((5, 3)), num_labels=4)
    >>> en.given(chain, context=torch.zeros(2, 5, 3)).best(2).answers.shape
    torch.Size([2, 2, 5, 4])
    """

    def __init__(
        self,
        network: nn.Module,
        space: Space,
        num_labels: int,
        *,
        padding: float | None = None,
        per_site: bool = False,
        transitions: bool = True,
    ) -> None:
        super().__init__(space)
        if len(space.event_shape) < 2:
            raise InputError(f"LinearChain: x is a sequence of features (T, *features), got the event {space}")
        self.network, self.num_labels, self.padding, self.per_site = network, num_labels, padding, per_site
        self.answers = Categorical(space.event_shape[0], num_labels)
        dtype, device = dtype_and_device(network)
        zeros = torch.zeros(num_labels, num_labels, dtype=dtype, device=device)
        self.transitions = nn.Parameter(zeros, requires_grad=transitions)
        self.start = nn.Parameter(zeros[0].clone(), requires_grad=transitions)
        self.end = nn.Parameter(zeros[0].clone(), requires_grad=transitions)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return -self.within(x).log_partition()

    def present(self, x: Tensor) -> Tensor | None:
        """Which sites are there, bool `[B, T]`; None where all must be."""
        return sites_there("LinearChain", x, self.padding)

    def within(self, context: Tensor) -> Field:
        """The energy of the labels of each row of x `[B, T, *features]`; T may differ from the space's (`fit` takes
        rows of one shape: fill them up with the padding).
        """
        check_features(self, context, self.space.event_shape[1:], 2)
        present = self.present(context)
        unary = unary_terms(self.network, context, present, self.num_labels, per_site=self.per_site)
        num_sites = context.shape[1]
        first = torch.zeros_like(unary)
        first[:, 0] = self.start
        if present is None:
            first[:, -1] += self.end
        else:
            first[torch.arange(len(unary), device=unary.device), present.sum(1) - 1] += self.end
        return Field(_path(num_sites), (num_sites,), unary + first, self.transitions.unsqueeze(0), present)


class PairwiseCRF(Energy):
    """E(x, y) = -sum_i u_i(x)[y_i] - sum_(ij) w_ij(x)[y_i, y_j]: a conditional random field on any graph.

    Args:
        network: the unary terms u, any module from x `[B, *event]` to `[B, *sites, K]`.
        space: where x lives.
        num_labels: K, at least 2.
        sites: shape of the sites of y, such as (height, width).
        edges: pairs of sites `[M, 2]`, sites numbered as in the flattened shape; or `lattice(height, width)`.
        kinds: int64 `[M]`: edges of one kind share their table; None gives every edge its own.
        joint: "table" learns all K x K numbers of a table, "potts" one: w = J [y_i = y_j], "attractive" too, with
            J = softplus of what is learnt, so that it stays positive: two labels are submodular then, minimum cuts find
            the best answer throughout training, and for more labels `AlphaExpansion` has its bound.
        joint_network: a module from x to `[B, M, K, K]`, added to the tables (else to `[B, M]`, added to
            what is learnt).
        present: from x to bool `[B, *sites]`: sites that are there; None for all.

    The answers y are label numbers `[B, *sites]`. Capability: `Answering`. `given(energy, context=x)` is a `Field`: on
    graphs without cycles with exact inference, on others with what `predict` finds. E(x) = -log sum_y exp(-E(x, y)),
    and with it the likelihood of answers, is exact on graphs without cycles and narrow ones (small grids, strips,
    rings); on wider ones it is an error. Cost: the network, and O(M K^2) a row for E(x, y).

    Reference: Koller & Friedman (2009), Probabilistic graphical models, chapter 4.6; Boykov, Veksler & Zabih (2001),
    Fast approximate energy minimization via graph cuts. https://doi.org/10.1109/34.969114

    >>> import torch, energeia as en
    >>> edges, kinds = en.lattice(2, 2)
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Unflatten(1, (2, 2, 2)))
    >>> field = en.PairwiseCRF(network, en.Real(4), 2, sites=(2, 2), edges=edges, kinds=kinds, joint="potts")
    >>> en.given(field, context=torch.zeros(3, 4)).num_rows
    3
    """

    def __init__(
        self,
        network: nn.Module,
        space: Space,
        num_labels: int,
        *,
        sites: int | tuple[int, ...],
        edges: Tensor | Sequence[tuple[int, int]],
        kinds: Tensor | None = None,
        joint: Joint = "table",
        joint_network: nn.Module | None = None,
        present: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(space)
        if joint not in get_args(Joint):
            raise InputError(f"PairwiseCRF: joint must be one of {', '.join(get_args(Joint))}, got {joint!r}")
        self.network, self.num_labels, self.joint_network = network, num_labels, joint_network
        self.answers = Categorical(sites, num_labels)
        self.structure = Structure(self.answers.num_dims // num_labels, edges, kinds)
        self._present = present
        dtype, device = dtype_and_device(network)
        self.joint: Joint = joint
        size = (num_labels, num_labels) if joint == "table" else ()
        self.couplings = nn.Parameter(torch.zeros(self.structure.num_kinds, *size, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`, on graphs without cycles and narrow ones; an error on wider ones."""
        return -self.within(x).log_partition()

    def present(self, x: Tensor) -> Tensor | None:
        """Which sites are there, bool `[B, *sites]`; None where all are."""
        if self._present is None:
            return None
        there = self._present(x)
        if bool((empty := ~there.flatten(1).any(1)).any()):
            raise InputError(
                f"PairwiseCRF: row {int(empty.nonzero()[0])} has no site that is there: `present` leaves nothing; "
                "leave such rows out"
            )
        return there

    def within(self, context: Tensor) -> Field:
        """The energy of the labels of each row of x `[B, *event]`."""
        check_features(self, context, self.space.event_shape, 1)
        num_sites, num_labels = self.structure.num_sites, self.num_labels
        unary = cast(Tensor, self.network(context))
        if unary.shape != (len(context), *self.answers.event_shape):
            raise InputError(
                f"PairwiseCRF: the network returned shape {tuple(unary.shape)} for x of shape {tuple(context.shape)}; "
                f"expected [B, *sites, K] = {[len(context), *self.answers.event_shape]}"
            )
        couplings = self.couplings
        if self.joint_network is not None:
            added = cast(Tensor, self.joint_network(context))
            expected = (len(context), len(self.structure.edges), *couplings.shape[1:])
            if added.shape != expected:
                raise InputError(
                    f"PairwiseCRF: joint_network returned shape {tuple(added.shape)}, expected {list(expected)}: what "
                    "is added for each row and edge"
                )
            couplings = couplings[self.structure.kinds] + added
        if self.joint == "attractive":
            couplings = softplus(couplings)
        same = torch.eye(num_labels, dtype=unary.dtype, device=unary.device)
        tables = couplings if self.joint == "table" else couplings[..., None, None] * same
        there = self.present(context)
        present = None if there is None else there.reshape(len(context), num_sites)
        sites = self.answers.sites
        return Field(self.structure, sites, unary.reshape(len(context), num_sites, num_labels), tables, present)


def lattice(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The edges `[M, 2]` of a grid, each site with its neighbours to the right and below, and their kinds `[M]`.

    Kind 0 is along a row, 1 along a column. Sites are numbered row by row.
    """
    number = torch.arange(height * width).view(height, width)
    along = torch.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2)
    down = torch.stack([number[:-1], number[1:]], -1).reshape(-1, 2)
    kinds = torch.cat([torch.zeros(len(along), dtype=torch.int64), torch.ones(len(down), dtype=torch.int64)])
    return torch.cat([along, down]), kinds


def sites_there(who: str, x: Tensor, padding: float | None) -> Tensor | None:
    """Which sites of sequences `[B, T, *features]` are there, bool `[B, T]`: not those whose features are all padding.

    Raises:
        InputError: an empty sequence, or padding before a site.
    """
    if padding is None:
        return None
    there = (x.flatten(2) != padding).any(2)
    if bool((~there[:, 0]).any()):
        row = int((~there[:, 0]).nonzero()[0])
        raise InputError(
            f"{who}: row {row} is an empty sequence: its first site is all {padding:g}, the padding; leave empty "
            "sequences out, or choose a padding that no site has"
        )
    if bool((there[:, 1:] & ~there[:, :-1]).any()):
        row = int((there[:, 1:] & ~there[:, :-1]).any(1).nonzero()[0])
        raise InputError(
            f"{who}: in row {row} sites of all {padding:g}, the padding, stand before others: padding fills up the end "
            "of a sequence only"
        )
    return there


@lru_cache(maxsize=64)
def _path(num_sites: int) -> Structure:
    """The path of so many sites, all its edges of one kind."""
    along = torch.arange(num_sites)
    edges = torch.stack([along[:-1], along[1:]], 1)
    return Structure(num_sites, edges, torch.zeros(len(edges), dtype=torch.int64))


def check_features(energy: Energy, x: Tensor, shape: tuple[int, ...], axes: int) -> None:
    """Raise `InputError` unless x is `[B, *shape]` (axes = 1) or `[B, T, *shape]` (2), and finite."""
    if x.dim() != axes + len(shape) or tuple(x.shape[axes:]) != shape or not x.numel():
        free = ["B", "T"][:axes]
        raise InputError(
            f"{type(energy).__name__}: x has shape {tuple(x.shape)}, expected [{', '.join([*free, *map(str, shape)])}]"
        )
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"{type(energy).__name__}: x has values that are NaN or infinite; the first is in row {row}")


def unary_terms(network: nn.Module, x: Tensor, present: Tensor | None, num_labels: int, *, per_site: bool) -> Tensor:
    """The network's terms `[B, T, K]`; of one site's features (per_site) zeros where no site is."""
    if present is not None:
        x = x * present.view(*present.shape, *[1] * (x.dim() - 2))
    if not per_site:
        unary = cast(Tensor, network(x))
    elif present is None:
        unary = cast(Tensor, network(x.flatten(0, 1))).unflatten(0, x.shape[:2])
    else:
        found = cast(Tensor, network(x[present]))
        unary = found.new_zeros(*present.shape, found.shape[-1]).masked_scatter(present.unsqueeze(-1), found)
    if unary.shape != (*x.shape[:2], num_labels):
        raise InputError(
            f"the network returned shape {tuple(unary.shape)} for x of shape {tuple(x.shape)}; expected "
            f"[B, T, K] = {[*x.shape[:2], num_labels]}"
            + ("" if per_site else "; a network of one site's features goes with per_site=True")
        )
    return unary
