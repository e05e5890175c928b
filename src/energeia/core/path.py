"""The way from one energy to another: what annealing and tempering walk along."""

import torch
from torch import Tensor

from energeia.core.algebra import Scaled, Sum
from energeia.core.energy import Bipartite, Capability, Conditional, Energy, Factorised, dtype_and_device, require
from energeia.core.errors import CapabilityError
from energeia.core.units import Units, Weighted

Share = float | Tensor


def tempered(energy: Energy, share: Share) -> Energy:
    """The energy at temperature 1 / share, with what Gibbs sampling needs.

    An energy with hidden units is heated with them: share E(x, h), and h is summed out
    afterwards. That is another family of densities of x than share E(x), and one that
    block Gibbs sampling can follow; both are the energy itself at share 1.

    Args:
        energy: any energy.
        share: in (0, 1], or a tensor `[B]` of one for each chain.
    """
    bipartite = energy.capability(Bipartite)
    return Scaled(energy, share) if bipartite is None else Joint(energy, bipartite, None, share)


def between(base: Energy, energy: Energy, share: Share) -> Energy:
    """The energy that has gone a share of the way from a base: (1 - share) E_0 + share E.

    With hidden units (`Bipartite`), (1 - share) E_0(x) + share E(x, h), h summed out: at
    share 0 that is the base times a constant, the hidden units being free
    (`log_volume`). The base must then be `Factorised`, such as `Independent` or `Gaussian`.

    Args:
        base: where share 0 is.
        energy: where share 1 is, on the same space.
        share: in [0, 1], or a tensor `[B]` of one for each chain.
    """
    bipartite = energy.capability(Bipartite)
    if bipartite is None:
        conditional, sites = energy.capability(Conditional), base.capability(Factorised)
        start = base if conditional is None or sites is None else _InBlocks(base, sites, conditional)
        return Sum(Scaled(start, 1 - share), Scaled(energy, share))
    return Joint(energy, bipartite, base, share)


def log_volume(energy: Energy) -> Tensor:
    """log of the volume of the hidden units where they are free, 0 without any: part of log Z at share 0."""
    bipartite = energy.capability(Bipartite)
    if bipartite is None:
        return torch.zeros((), dtype=torch.float64)
    x = energy.space.start(1, torch.Generator().manual_seed(0))
    dtype, device = dtype_and_device(energy)
    with torch.no_grad():
        natural = bipartite.hidden_parameters(x.to(device, dtype))
        return bipartite.hidden.log_partition(torch.zeros_like(natural)).double()[0]


class _InBlocks(Energy):
    """A base whose sites are independent, in the blocks of another energy."""

    def __init__(self, base: Energy, sites: Factorised, layout: Conditional) -> None:
        super().__init__(base.space)
        # Not a submodule: this is a view that lives for a step.
        object.__setattr__(self, "_base", base)
        self._layout, self._sites = layout, sites

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        base: Energy = self._base  # type: ignore[assignment]
        return base(x)

    @property
    def num_blocks(self) -> int:
        """Those of the other energy."""
        return self._layout.num_blocks

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """As the other energy."""
        return self._layout.split(x)

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """As the other energy."""
        return self._layout.join(blocks)

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """The natural parameters of the sites, the same for every x."""
        return self._layout.split(self._sites.natural.unsqueeze(0))[block].expand_as(blocks[block])


class Joint(Energy):
    """(1 - share) E_0(x) + share E(x, h) with h summed out."""

    def __init__(self, energy: Energy, bipartite: Bipartite, base: Energy | None, share: Share) -> None:
        super().__init__(energy.space)
        # Not a submodule: this is a view that lives for a step, and registering costs more than it does.
        object.__setattr__(self, "_parts", (bipartite, base))
        self._share = share
        self._start: Factorised | None = None
        if base is not None:
            self._start = require(
                base, Factorised, who="annealing an energy with hidden units", instead="start from en.Independent"
            )

    def go_to(self, share: Share) -> None:
        """Move the view to another share of the way."""
        self._share = share

    @property
    def _bipartite(self) -> Bipartite:
        return self._parts[0]  # type: ignore[index,return-value]

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Bipartite` alone."""
        return self if kind is Bipartite else None  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def hidden(self) -> Units:
        """What h is drawn from."""
        return self._bipartite.hidden

    @property
    def visible(self) -> Units:
        """What x is drawn from, with precisions mixed by the share."""
        units = self._bipartite.visible
        if not isinstance(units, Weighted):
            return units
        share = beside(self._share, units.precision.unsqueeze(0))
        precision = share * units.precision
        if self._start is not None:
            other = self._start.visible
            if not isinstance(other, Weighted):
                raise CapabilityError(
                    f"annealing: visible units are {type(units).__name__}, those of the base {type(other).__name__}; "
                    "start from a base of the same kind (en.Gaussian for real units)"
                )
            precision = precision + (1 - share) * other.precision
        return units.with_precision(precision)

    def visible_energy(self, x: Tensor) -> Tensor:
        """The part without h, `[B]`."""
        own = self._share * self._bipartite.visible_energy(x)
        base: Energy | None = self._parts[1]  # type: ignore[index,assignment]
        return own if base is None else own + (1 - self._share) * base(x)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """Those of the model, scaled by the share."""
        natural = self._bipartite.hidden_parameters(x)
        return beside(self._share, natural) * natural

    def visible_parameters(self, h: Tensor) -> Tensor:
        """Those of the model and of the base, mixed by the share."""
        natural = self._bipartite.visible_parameters(h)
        share = beside(self._share, natural)
        natural = share * natural
        return natural if self._start is None else natural + (1 - share) * self._start.natural


def beside(share: Share, other: Tensor) -> Share:
    """The share of each chain, to multiply `[B, ...]` with; one share of all as it is."""
    return share.view(-1, *[1] * (other.dim() - 1)) if isinstance(share, Tensor) else share
