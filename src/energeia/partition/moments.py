"""A path on which moments change evenly, and not log densities: moment averaging for exponential families."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from energeia.core.energy import Bipartite, Energy, dtype_and_device
from energeia.core.errors import CapabilityError, InputError, check_count, check_positive
from energeia.core.gradient import mean_parameter_gradient
from energeia.core.path import Share, log_volume
from energeia.core.sampler import Sampler, advance
from energeia.core.space import Enumerable
from energeia.partition.ais import default_sampler

Parameters = tuple[Tensor, ...]


class MomentPath:
    """Energies of one family, straight lines in its parameters between knots, from the uniform distribution.

    Made by `moment_path`. At share 0 all parameters are 0.
    """

    def __init__(self, energy: Energy, knots: Sequence[Parameters]) -> None:
        self.energy, self._knots = energy, list(knots)
        # A step needs the energies of two shares at once.
        self._copies = [copy.deepcopy(energy).requires_grad_(False) for _ in range(2)]
        self._shares: list[float | None] = [None, None]
        self._last = 0

    def at(self, share: Share) -> Energy:
        """The energy at a share of the way; it changes at the second call from here with other shares."""
        if isinstance(share, Tensor):
            raise InputError("a moment path has one share for all chains, not one for each; anneal along it")
        if share not in self._shares:
            self._last = 1 - self._last
            place = share * (len(self._knots) - 1)
            number = min(int(place), len(self._knots) - 2)
            pair = zip(self._knots[number], self._knots[number + 1], strict=True)
            _load(self._copies[self._last], tuple(low.lerp(high, place - number) for low, high in pair))
            self._shares[self._last] = share
        self._last = self._shares.index(share)
        return self._copies[self._last]

    def log_z_start(self) -> Tensor:
        """log of the number of states, and of hidden units that are free."""
        space = self.energy.space
        assert isinstance(space, Enumerable)
        return torch.tensor(float(space.num_states), dtype=torch.float64).log() + log_volume(self.energy)

    def draw_start(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Uniform states."""
        return self.energy.space.start(num_chains, generator, dtype=dtype_and_device(self.energy)[0])


def moment_path(
    energy: Energy,
    draws: Tensor,
    *,
    sampler: Sampler[Any] | None = None,
    num_knots: int = 9,
    num_chains: int = 500,
    num_steps: int = 500,
    learning_rate: float = 0.03,
    generator: torch.Generator | int = 0,
) -> MomentPath:
    """A path for `ais` whose knots have moments (1 - t) E_uniform[s] + t E_model[s], s the sufficient statistics.

    Between knots parameters run straight. Each knot is fitted from the one before it by stochastic maximum
    likelihood: theta follows, by Adam, the difference of the moments asked for and those of persistent chains.

    Args:
        energy: an exponential family on a discrete space: E(x), or E(x, h) with hidden units, linear in its
            parameters: `RBM` of discrete units, `BoltzmannMachine`, `Ising`, `Potts`, `PairwiseMRF`.
        draws: of the model, `[N, *event]`: its moments are taken from them. They decide how good the path is,
            not whether the estimate is right.
        sampler: of the persistent chains; None is the default of `ais`.
        num_knots: between the ends, >= 1.
        num_chains, num_steps, learning_rate: effort for each knot.
        generator: random numbers, or a seed for them.

    Geometric paths pass through distributions that put more than the right share of their mass on broad states
    until late; this one does not. Whether that pays depends on the model: `docs/log-likelihood.md` measures it.

    Reference: Grosse, Maddison & Salakhutdinov (2013), Annealing between distributions by averaging moments.
    https://papers.nips.cc/paper/2013/hash/fb60d411a5c5b72b2e7d3527cfc84fd0-Abstract.html

    >>> import energeia as en
    >>> rbm = en.RBM(6, 4, weight_scale=0.5)
    >>> draws = rbm.sample(500)
    >>> estimate, exact = en.ais(rbm, path=en.moment_path(rbm, draws, num_steps=50)), en.exact_log_z(rbm)
    >>> bool((estimate.value - exact.value).abs() < 0.1)
    True
    """
    check_count("moment_path", num_knots=num_knots, num_chains=num_chains, num_steps=num_steps)
    check_positive("moment_path", learning_rate=learning_rate)
    energy.space.check(draws, "moment_path: draws")
    _check_family(energy, draws[:2])
    if isinstance(generator, int):
        generator = torch.Generator(dtype_and_device(energy)[1]).manual_seed(generator)
    model = copy.deepcopy(energy).requires_grad_(True)
    end = _parameters(model)
    start = tuple(torch.zeros_like(value) for value in end)
    x = energy.space.start(num_chains, generator, dtype=draws.dtype)
    last = mean_parameter_gradient(model, draws)
    _load(model, start)
    first = mean_parameter_gradient(model, energy.space.start(len(draws), generator, dtype=draws.dtype))
    knots = [start]
    for number in range(1, num_knots + 1):
        part = number / (num_knots + 1)
        wanted = tuple(low.lerp(high, part) for low, high in zip(first, last, strict=True))
        total = tuple(torch.zeros_like(value) for value in end)
        adam = torch.optim.Adam(model.parameters(), lr=learning_rate)
        for step in range(num_steps):
            state = (sampler or default_sampler(energy)).init(model, x)
            state, _ = advance(model, sampler or default_sampler(energy), state, num_steps=1, generator=generator)
            x = cast(Any, state).x
            theirs = mean_parameter_gradient(model, x)
            for parameter, own, asked in zip(model.parameters(), theirs, wanted, strict=True):
                parameter.grad = asked - own
            adam.step()
            with torch.no_grad():
                if step >= num_steps // 2:
                    for value, parameter in zip(total, model.parameters(), strict=True):
                        value.add_(parameter / (num_steps - num_steps // 2))
        knots.append(total)
        _load(model, total)
    return MomentPath(energy, [*knots, end])


def _parameters(energy: Energy) -> Parameters:
    return tuple(parameter.detach().clone() for parameter in energy.parameters())


def _load(energy: Energy, values: Parameters) -> None:
    with torch.no_grad():
        for parameter, value in zip(energy.parameters(), values, strict=True):
            parameter.copy_(value)


def _check_family(energy: Energy, x: Tensor) -> None:
    """Raise unless the space is discrete and half the parameters give half the (joint) energy."""
    name = type(energy).__name__
    if not isinstance(energy.space, Enumerable) or not list(energy.parameters()):
        raise CapabilityError(
            f"moment_path: needs a discrete space and parameters, from whose zero the path starts; {name} on "
            f"{energy.space} has not: anneal from a base"
        )
    half = copy.deepcopy(energy)
    _load(half, tuple(value / 2 for value in _parameters(energy)))
    with torch.no_grad():
        whole, other = (_linear(each, x) for each in (energy, half))
        if not all(torch.allclose(a, 2 * b, rtol=1e-3, atol=1e-4) for a, b in zip(whole, other, strict=True)):
            raise CapabilityError(
                f"moment_path: the energy of {name} is not linear in its parameters, so that it is no exponential "
                "family; anneal from a base"
            )


def _linear(energy: Energy, x: Tensor) -> tuple[Tensor, ...]:
    bipartite = energy.capability(Bipartite)
    if bipartite is None:
        return (energy(x),)
    return bipartite.visible_energy(x), bipartite.hidden_parameters(x)
