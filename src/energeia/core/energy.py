"""E(x): what an energy is, what it may offer beside, and the check at the door."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from energeia.core.errors import CapabilityError, InputError
from energeia.core.gradient import value_and_gradient
from energeia.core.record import LogZ
from energeia.core.space import Space
from energeia.core.units import Units

Capability = TypeVar("Capability")


class Energy(nn.Module, ABC):
    """p(x) = exp(-E(x)) / Z: low energy means likely.

    A subclass sets `space` and implements `forward`, which maps `[B, *event]` to
    `[B]`, each row from its own x alone.

    Energies add and scale: `a + b` is the product of the densities, `0.5 * a` is a
    at temperature 2, `a - b` takes b out of a.
    """

    space: Space

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]` of x `[B, *event]`."""

    def capability(self, kind: type[Capability]) -> Capability | None:
        """This energy as the given capability, or None if it does not have it.

        Compositions override this: what a sum offers depends on its terms.
        """
        return self if isinstance(self, kind) else None

    def __add__(self, other: "Energy") -> "Energy":
        from energeia.core import algebra

        return algebra.Sum(self, other)

    def __mul__(self, scale: float) -> "Energy":
        from energeia.core import algebra

        return algebra.Scaled(self, scale)

    __rmul__ = __mul__

    def __sub__(self, other: "Energy") -> "Energy":
        return self + (-1.0) * other


@runtime_checkable
class Classes(Protocol):
    """Capability: a label y in 0..K-1 beside x, with E(x) = -logsumexp_y(-E(x, y))."""

    num_classes: int

    def class_energies(self, x: Tensor) -> Tensor:
        """E(x, y) for every y: `[B, K]`."""
        ...


@runtime_checkable
class Normalised(Protocol):
    """Capability: log Z is known."""

    def log_z(self) -> LogZ:
        """log Z in closed form."""
        ...


@runtime_checkable
class Tractable(Normalised, Protocol):
    """Capability: log Z is known and exact draws can be made."""

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`."""
        ...


@runtime_checkable
class Explicit(Protocol):
    """Capability: log p(x) itself, log Z and all, with its graph to x and the parameters: for maximum likelihood."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) `[B]`, in nats."""
        ...


@runtime_checkable
class Reparameterised(Explicit, Protocol):
    """Capability: draws that are a differentiable function of the parameters and of noise."""

    def rsample(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`, with their graph to the parameters."""
        ...


# What goes with a log Z in closed form: an energy that has one for some settings alone denies both for the others.
CLOSED = (Normalised, Tractable)


@runtime_checkable
class Listed(Protocol):
    """Capability: Z as a sum with a term for each state of fewer units than x has."""

    @property
    def num_terms(self) -> int:
        """How many terms there are."""
        ...

    def log_terms(self, first: int, last: int) -> Tensor:
        """The logs of terms first to last - 1, float64."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """Capability: blocks of sites that are independent of each other given the rest.

    What Gibbs sampling needs. Chains are held block by block, in any layout the energy
    likes (a lattice keeps its two colours apart), so a sweep touches each site once.
    Natural parameters of sums add, of scalings scale.
    """

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        ...

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The blocks `[B, *block]` of x `[B, *event]`; every site is in one block, K stays the last axis."""
        ...

    def join(self, blocks: tuple[Tensor, ...]) -> Tensor:
        """x `[B, *event]` from its blocks: the inverse of split."""
        ...

    def natural_parameters(self, blocks: tuple[Tensor, ...], block: int) -> Tensor:
        """The natural parameters of the sites of a block given all other blocks, in the block's shape."""
        ...


@runtime_checkable
class Local(Protocol):
    """Capability: the natural parameters of every site given all others, in one go (no blocks, no sampling)."""

    def local_parameters(self, x: Tensor) -> Tensor:
        """Natural parameters of each site of x given the rest of x, `[B, *event]`."""
        ...


@runtime_checkable
class Pairwise(Protocol):
    """Capability: -E(x) = sum_i a_i(x_i) + sum_(ij) b_ij(x_i, x_j), on discrete sites of K states.

    Sites are numbered as in the flattened event; states as in `enumerate` (0 before 1,
    -1 before +1). What clusters and belief propagation need.
    """

    @property
    def edges(self) -> Tensor:
        """Pairs of sites, int64 `[M, 2]`."""
        ...

    def site_log_potentials(self) -> Tensor:
        """a `[N, K]`."""
        ...

    def edge_log_potentials(self) -> Tensor:
        """b `[M, K, K]`, first axis the state of the edge's first site."""
        ...


@runtime_checkable
class Bipartite(Protocol):
    """Capability: E(x) = -log sum_h exp(-E(x, h)), with hidden units h that can be summed out.

    Each side is drawn at once given the other, from its natural parameters. In terms of
    these methods E(x) = visible_energy(x) - hidden.log_partition(hidden_parameters(x)).
    """

    @property
    def visible(self) -> Units:
        """What x is drawn from, given h."""
        ...

    @property
    def hidden(self) -> Units:
        """What h is drawn from, given x."""
        ...

    def visible_energy(self, x: Tensor) -> Tensor:
        """The part of E(x, h) that does not depend on h, `[B]`."""
        ...

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """Natural parameters of h given x, `[B, *hidden]`."""
        ...

    def visible_parameters(self, h: Tensor) -> Tensor:
        """Natural parameters of x given h, `[B, *event]`."""
        ...


@runtime_checkable
class Variational(Protocol):
    """Capability: hidden layers that are too many to sum out, so that E(x) itself is for small models only.

    log p(x) >= -variational_energy(x) - log Z, with the log Z of `undirected`.
    """

    @property
    def undirected(self) -> Energy:
        """The part that a log Z belongs to, an energy of x and some hidden layers or of hidden layers alone."""
        ...

    def variational_energy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """An upper bound of E(x), `[B]`, in each row or on average over what is drawn."""
        ...

    def draw_latent(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of `undirected` near its posterior given x: where its chains may start."""
        ...


@runtime_checkable
class Scored(Protocol):
    """Capability: d log p(x) / dx is known and E(x) itself is not: a score model, or what has one in it.

    Its E(x) is NaN where a gradient is taken, and an error elsewhere.
    """

    @property
    def score_model(self) -> Energy:
        """The part without an E(x)."""
        ...


@runtime_checkable
class NoiseLevels(Protocol):
    """Capability: one model for each of several noise levels; `given(energy, context=level)` is that of data with
    Gaussian noise of that standard deviation.
    """

    @property
    def levels(self) -> Tensor:
        """The standard deviations `[L]`, falling."""
        ...


@runtime_checkable
class Contextual(Protocol):
    """Capability: x holds a context that is not modelled beside the rest that is: p(rest | context).

    Only differences of E(x) between x of the same context mean anything.
    """

    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rest `[B, *event of the rest]` and the context `[B, *context]` of x."""
        ...

    def within(self, context: Tensor) -> Energy:
        """The energy of the rest for one context `[1, *context]` or one for each chain `[B, *context]`."""
        ...


@runtime_checkable
class Contrastable(Protocol):
    """Capability: the gradient of mean E(data) - mean E(negatives) in closed form, without a graph."""

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives), and the gradient for each of `parameters()`, in their order."""
        ...


@runtime_checkable
class Centred(Protocol):
    """Capability: offsets that follow the data in training and leave the model as it is."""

    def recentre(self, x: Tensor) -> None:
        """Move the offsets a little towards what they are at data x `[B, *event]`."""
        ...


@runtime_checkable
class Factorised(Protocol):
    """Capability: E(x) = -natural . x - log base measure: every site by itself. Where annealing starts."""

    @property
    def visible(self) -> Units:
        """What x is drawn from."""
        ...

    @property
    def natural(self) -> Tensor:
        """Natural parameters `[*event]`."""
        ...


def require(energy: Energy, kind: type[Capability], *, who: str, instead: str) -> Capability:
    """The energy as the given capability, or an error that names what is missing.

    Args:
        energy: any energy.
        kind: a capability Protocol.
        who: the sampler, objective or estimator that asks.
        instead: what would work in its place.
    """
    found = energy.capability(kind)
    if found is None:
        protocols = [base for base in kind.__mro__ if base is not Protocol and base.__module__ == kind.__module__]
        members = {name for base in protocols for name in (*vars(base), *base.__annotations__)}
        needed = [name for name in members if not name.startswith("_")]
        missing = sorted(name for name in needed if getattr(energy, name, None) is None) or sorted(needed)
        raise CapabilityError(
            f"{who} needs an energy with {kind.__name__} ({', '.join(missing)}), "
            f"which {type(energy).__name__} does not offer; {instead}"
        )
    return found


class FromModule(Energy):
    """E(x) = function(x), for any module or function that maps `[B, *event]` to `[B]`."""

    def __init__(self, function: Callable[[Tensor], Tensor], space: Space) -> None:
        super().__init__(space)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.function(x)


def from_module(function: Callable[[Tensor], Tensor], space: Space) -> Energy:
    """Use any module or function as an energy.

    Args:
        function: maps x `[B, *event]` to energies `[B]`, low = likely, each row
            from its own x alone. Parameters of a module are trained by `fit`.
        space: where x lives.

    Raises:
        InputError: the output is not `[B]`, mixes chains (BatchNorm in training
            mode), is random (dropout in training mode) or is not finite, tried
            once on a few start points of the space.

    >>> import torch, energeia as en
    >>> energy = en.from_module(lambda x: x.square().sum(1) / 2, en.Real(2))
    >>> energy(torch.ones(3, 2))
    tensor([1., 1., 1.])
    """
    energy = FromModule(function, space)
    dtype, device = dtype_and_device(energy)
    generator = torch.Generator(device).manual_seed(0)
    validate(energy, space.start(4, generator, dtype=dtype))
    return energy


def dtype_and_device(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Those of the module's first floating parameter or buffer; the defaults of torch if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.get_default_dtype(), torch.device("cpu")


def validate(energy: nn.Module, x: Tensor) -> None:
    """Raise `InputError` unless the energy of x is `[B]`, finite and the same for each chain alone.

    Of a score model the score is tried, `[B, *event]`.

    Args:
        energy: the energy to try.
        x: `[B, *event]`, B >= 2; a handful is enough.

    Cost: three evaluations.
    """
    name = type(energy).__name__
    if x.numel() == 0:
        raise InputError(f"x is empty, of shape {tuple(x.shape)}; give at least one row")
    if isinstance(energy, Energy) and energy.capability(Scored) is not None:
        _validate(lambda x: value_and_gradient(energy, x)[1].flatten(1), x, f"the score of {name}", "scores")
        return
    with torch.no_grad():
        values = energy(x)
    if values.shape != x.shape[:1]:
        advice = {
            (len(x), 1): "take en.Neural(network, space), or end the network with .squeeze(-1)",
            (): "sum over the event axes only, keep the chain axis",
        }.get(tuple(values.shape), "sum or flatten over everything but the chain axis")
        raise InputError(
            f"{name} returned shape {tuple(values.shape)} for x of shape {tuple(x.shape)}; "
            f"an energy returns [B] = [{len(x)}]: {advice}"
        )
    if values.dtype != x.dtype:
        raise InputError(f"{name} returned {values.dtype} for x of {x.dtype}; keep one dtype: energy.to(x.dtype)")
    _validate(energy, x, name, "energies", values)


def _validate(
    function: Callable[[Tensor], Tensor], x: Tensor, name: str, kind: str, values: Tensor | None = None
) -> None:
    """Raise `InputError` unless `[B, ...]` of x is finite, not random, and each row's own."""
    with torch.no_grad():
        values = function(x) if values is None else values
        finite = values.flatten(1).isfinite().all(1) if values.dim() > 1 else values.isfinite()
        if not bool(finite.all()):
            raise InputError(
                f"{name} is NaN or infinite for {int((~finite).sum())} of {len(x)} points; "
                "check its weights and the range of x"
            )
        tolerance = 1e4 * torch.finfo(values.dtype).eps * (values.abs().max() + 1)
        if bool((values - function(x)).abs().max() > tolerance):
            raise InputError(
                f"{name} gave two different {kind} for the same x: it is random. "
                "Dropout in training mode does this; call .eval() or remove it"
            )
        # The first chain again, with other company: copies of itself.
        company = function(x[:1].expand_as(x).contiguous())
        if bool((values[0] - company[0]).abs().max() > tolerance):
            raise InputError(
                f"{name} gives a chain other {kind} when other chains stand beside it. "
                "BatchNorm in training mode does this; use GroupNorm or LayerNorm, or call .eval()"
            )
