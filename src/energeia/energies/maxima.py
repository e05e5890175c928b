"""The most likely states of a discrete energy whose sites are pulled this way and that."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from energeia.core.energy import Energy, Pairwise, dtype_and_device, require
from energeia.core.errors import CapabilityError, InputError
from energeia.core.space import Binary, Categorical, Spin
from energeia.energies.cuts import Cut
from energeia.energies.elimination import Elimination

Solver = Literal["auto", "enumeration", "cut", "elimination"]
MOST_STATES = 2**16
_AT_ONCE = 2**22
_EULER = 0.5772156649015329


def pulled_maxima(energy: Energy, pull: Tensor, *, solver: Solver = "auto") -> Tensor:
    """argmax_x of -E(x) + sum_i pull_i(x_i), exactly, for many pulls: `[M, *event]`.

    Args:
        energy: on `Binary`, `Spin` or `Categorical`.
        pull: `[M, N, K]`, added to the log potential of state k of site i; zeros ask for the most
            likely state itself.
        solver: "enumeration" lists all states, at most 2^16 of them: M 2^N N steps of arithmetic. "cut"
            is a minimum cut for each pull, for `Pairwise` bits or spins whose couplings all favour
            agreement (submodular: b(0,0) + b(1,1) >= b(0,1) + b(1,0)), with capacities rounded to
            30 bits of the largest. "elimination" takes the maximum over one site after another, for `Pairwise`
            models on narrow graphs (`energies.elimination`). "auto" is the first of these that can be done.

    Raises:
        InputError, CapabilityError: there are too many states, no cut gives the maximum, and the graph is wide: in
        general that problem is NP-hard.
    """
    space = energy.space
    if not isinstance(space, Binary | Spin | Categorical):
        raise CapabilityError(f"pulled_maxima: needs a Binary, Spin or Categorical space, got {space}")
    size = space.num_categories if isinstance(space, Categorical) else 2
    num_sites = space.num_dims // size if isinstance(space, Categorical) else space.num_dims
    if pull.dim() != 3 or tuple(pull.shape[1:]) != (num_sites, size):
        raise InputError(f"pulled_maxima: pull has shape {tuple(pull.shape)}, expected [M, {num_sites}, {size}]")
    if solver not in get_args(Solver):
        raise InputError(f"pulled_maxima: solver must be one of {', '.join(get_args(Solver))}, got {solver!r}")
    listed = space.num_states <= MOST_STATES
    if solver == "enumeration" and not listed:
        raise InputError(f"pulled_maxima: {space} has {space.num_states} states; at most 2^16 are listed: solver='cut'")
    with torch.no_grad():
        if listed and solver in ("auto", "enumeration"):
            return _listed(energy, space, pull)
        if solver == "elimination" or (solver == "auto" and not _agrees(energy, space)):
            return _eliminated(energy, space, pull)
        return _cut(energy, space, pull)


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent Gumbel noise of mean 0, float64: -log(-log u) less Euler's constant."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return -(-uniform.clamp_min(torch.finfo(uniform.dtype).tiny).log()).log() - _EULER


def _agrees(energy: Energy, space: Binary | Spin | Categorical) -> bool:
    """Whether a cut gives the maximum."""
    if isinstance(space, Categorical):
        return False
    pairwise = energy.capability(Pairwise)
    if pairwise is None:
        return True
    tables = pairwise.edge_log_potentials()
    return bool((tables[:, 0, 0] + tables[:, 1, 1] >= tables[:, 0, 1] + tables[:, 1, 0]).all())


def _eliminated(energy: Energy, space: Binary | Spin | Categorical, pull: Tensor) -> Tensor:
    elimination = Elimination(energy, "pulled_maxima")
    states = torch.stack([elimination.argmax(part) for part in pull])
    if isinstance(space, Categorical):
        return one_hot(states, space.num_categories).to(pull).view(-1, *space.event_shape)
    return (2 * states - 1 if isinstance(space, Spin) else states).to(pull).view(-1, *space.event_shape)


def _listed(energy: Energy, space: Binary | Spin | Categorical, pull: Tensor) -> Tensor:
    dtype, device = dtype_and_device(energy)
    states = space.enumerate(0, space.num_states, dtype=dtype, device=device)
    if isinstance(space, Categorical):
        chosen = states.view(len(states), -1)
    else:
        up = (states.flatten(1) > 0).to(dtype)
        chosen = torch.stack([1 - up, up], 2).flatten(1)
    level = -energy(states)
    rows = max(1, _AT_ONCE // len(states))
    best = [(level + part.flatten(1).to(dtype) @ chosen.T).argmax(1) for part in pull.split(rows)]
    return states[torch.cat(best)]


def _cut(energy: Energy, space: Binary | Spin | Categorical, pull: Tensor) -> Tensor:
    name = type(energy).__name__
    pairwise = require(energy, Pairwise, who="a minimum cut", instead="take a model of at most 2^16 states")
    if isinstance(space, Categorical):
        raise CapabilityError(f"a minimum cut is for bits and spins, {name} has categories and too many states to list")
    instead = f"{space.num_states} states of {name} are too many to list; use a sampler"
    sites = pairwise.site_log_potentials()
    cut = Cut(len(sites), pairwise.edges, pairwise.edge_log_potentials(), instead=instead)
    up = torch.stack([cut.best(sites.double() + part.double()) for part in pull]).to(pull)
    return (2 * up - 1 if isinstance(space, Spin) else up).view(-1, *space.event_shape)
