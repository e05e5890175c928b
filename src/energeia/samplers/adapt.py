"""Warm-up: step size by dual averaging, mass from the chains, trajectory length by ChEES; then all is frozen."""

import math
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_positive
from energeia.core.record import Info
from energeia.core.sampler import Sampler
from energeia.core.space import Box
from energeia.samplers.mass import DenseMass, DiagonalMass, Mass, spread, whiten

MassKind = Literal["diagonal", "dense", "none"]


class Tunable(Protocol):
    """A sampler with a step size, a mass and an acceptance to aim at."""

    @property
    def step_size(self) -> float:
        """Step size in units of the mass."""
        ...

    @property
    def mass(self) -> Mass | None:
        """The mass, None for the identity."""
        ...

    @property
    def target_acceptance(self) -> float:
        """Mean acceptance probability that the step size is tuned to."""
        ...

    @property
    def tune_mass(self) -> MassKind:
        """What mass a warm-up learns."""
        ...


Tuned = TypeVar("Tuned", bound=Sampler[Any])


def check_tunable(who: str, sampler: Tunable) -> None:
    """Raise `InputError` unless the fields that a warm-up uses make sense."""
    check_positive(who, step_size=sampler.step_size)
    mass: object = sampler.mass
    if mass is not None and not isinstance(mass, Mass):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"{who}: mass must be en.DiagonalMass(scale) or en.DenseMass(covariance), got a {type(mass).__name__}"
        )
    if not 0 < sampler.target_acceptance < 1:
        raise InputError(f"{who}: target_acceptance must lie strictly between 0 and 1, got {sampler.target_acceptance}")
    if sampler.tune_mass not in ("diagonal", "dense", "none"):
        raise InputError(f'{who}: tune_mass must be "diagonal", "dense" or "none", got {sampler.tune_mass!r}')


def check_axes(who: str, energy: Energy, *, diagonal: bool) -> None:
    """Raise `CapabilityError` where a dense mass meets walls."""
    if isinstance(energy.space, Box) and not diagonal:
        raise CapabilityError(
            f"{who}: a dense mass would tilt the walls of {energy.space}; use a diagonal one, or "
            "en.unconstrained(energy)"
        )


class DualAveraging:
    """Step sizes whose acceptance averages to a target.

    log h_t = mu - sqrt(t) / (gamma (t + t0)) sum_s (target - a_s), and a weighted average of
    them with weights t^-kappa; mu = log h_0, gamma = .05, t0 = 10, kappa = .75. No step is
    larger than `most`: where everything is accepted there is no largest one.

    Reference: Hoffman & Gelman (2014), The No-U-Turn Sampler, https://jmlr.org/papers/v15/hoffman14a.html
    """

    def __init__(self, step_size: float, target: float, most: float = 1e8) -> None:
        self._target, self.most = target, most
        self.restart(step_size)

    def restart(self, step_size: float) -> None:
        """Begin again near a step size."""
        self._mu, self._sum, self._count = math.log(min(step_size, self.most)), 0.0, 0
        self._log = self._log_average = self._mu

    def update(self, acceptance: float) -> None:
        """Take in the acceptance of one step, a mean over chains."""
        self._count += 1
        self._sum += self._target - acceptance
        log = self._mu - math.sqrt(self._count) / (0.05 * (self._count + 10)) * self._sum
        self._log = min(log, math.log(self.most))
        weight = self._count**-0.75
        self._log_average = weight * self._log + (1 - weight) * self._log_average

    @property
    def step_size(self) -> float:
        """To be used in the next step."""
        return math.exp(self._log)

    @property
    def average(self) -> float:
        """To be used after the warm-up."""
        return math.exp(self._log_average)


class FairAcceptance:
    """A mean acceptance over chains in which those that hardly move count the most.

    sum_b w_b a_b / sum_b w_b, w_b = 1 / r_b, where r_b is the exponential average of the
    chain's own acceptances before this step, over some ten steps; it begins at the target.

    The plain mean settles for a step that suits the chains in the bulk and is always
    rejected where others, on their way, meet a steeper energy. Here a chain that stands
    still weighs more and more until the step is so small that it moves. In equilibrium r_b
    is about the same for all, and as weights come from the past and a_b from the present,
    this is then nearly the plain mean. Where the curvature varies (the neck of a funnel) the
    step follows the worst placed, and the plain mean lies above the target.

    No chain counts more than one that accepts once in a thousand steps.
    """

    KEEP, LEAST = 0.9, 1e-3

    def __init__(self, like: Tensor, target: float) -> None:
        self._running = like.new_full((len(like),), target)

    def mean(self, acceptance: Tensor) -> Tensor:
        """That of one step's acceptance `[B]`, scalar."""
        weight = 1 / self._running.clamp_min(self.LEAST)
        self._running = self.KEEP * self._running + (1 - self.KEEP) * acceptance
        return (weight * acceptance).sum() / weight.sum()


class RunningMoments:
    """Mean and covariance of the chains, pooled over chains and steps, in float64."""

    def __init__(self, *, dense: bool) -> None:
        self._dense = dense
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Take in the chains `[B, *event]`."""
        flat = x.flatten(1).double()
        mean = flat.mean(0)
        centred = flat - mean
        squares = centred.T @ centred if self._dense else centred.square().sum(0)
        if self.count == 0:
            self.count, self.mean, self._squares = len(flat), mean, squares
            return
        total = self.count + len(flat)
        shift = mean - self.mean
        product = torch.outer(shift, shift) if self._dense else shift.square()
        self._squares = self._squares + squares + product * (self.count * len(flat) / total)
        self.mean = self.mean + shift * (len(flat) / total)
        self.count = total

    def mass(self, like: Tensor) -> Mass | None:
        """A mass with this covariance, drawn a little to safety; None while there is too little to go by."""
        if self.count < 10:
            return None
        variance = (self._squares.diagonal() if self._dense else self._squares) / (self.count - 1)
        if not bool((variance.isfinite() & (variance > 0)).all()):
            return None
        # Few draws underestimate; a small common floor keeps a dimension that has hardly moved yet alive.
        floor = 1e-3 * variance.log().mean().exp()
        weight = self.count / (self.count + 5)
        safe = weight * variance + (1 - weight) * floor
        if not self._dense:
            return DiagonalMass(safe.sqrt().to(like).view(like.shape[1:]))
        covariance = self._squares / (self.count - 1)
        keep = self.count / (self.count + 5 + len(variance))
        return DenseMass((keep * covariance + (1 - keep) * safe.diag()).to(like))


class Tuner:
    """Step size and mass over a warm-up of num_steps.

    The mass is set at the ends of windows that grow, each time from the chains of its
    own window alone: the first ones let the chains travel in better and better units,
    the last, from 48 to 75 % of the steps, is the one that stays. After each the step
    size is sought anew; the last quarter tunes it to the final mass.
    """

    ENDS = (5, 10, 15, 22, 32, 48, 75)

    def __init__(
        self, energy: Energy, sampler: Tunable, state: Any, num_steps: int, generator: torch.Generator
    ) -> None:
        check_axes(type(sampler).__name__, energy, diagonal=sampler.tune_mass != "dense")
        self._energy, self._sampler, self._generator = energy, sampler, generator
        self.mass = sampler.mass
        # The step size has too little left to go by after windows of a warm-up that is shorter than this.
        self._ends = [num_steps * part // 100 for part in self.ENDS] if num_steps >= 40 else []
        self._moments = self._new_moments()
        self._acceptance = FairAcceptance(state.x, sampler.target_acceptance)
        self._count = 0
        first = self._first_guess(state, sampler.step_size)
        self.step = DualAveraging(first, sampler.target_acceptance, self._most(state))

    def _new_moments(self) -> RunningMoments:
        return RunningMoments(dense=self._sampler.tune_mass == "dense")

    def _first_guess(self, state: Any, step_size: float) -> float:
        sampler: Sampler = replace(cast(Any, self._sampler), mass=self.mass)
        return reasonable_step_size(self._energy, sampler, state, self._generator, first=step_size)

    def _most(self, state: Any) -> float:
        """The largest step: in a box, one that crosses it in the direction of the largest scale."""
        space = self._energy.space
        if not isinstance(space, Box):
            return 1e8
        widest = spread(self.mass, torch.ones_like(state.x[:1])).abs().max().item()
        return (space.high - space.low) / widest

    @property
    def travelling(self) -> bool:
        """Whether the chains may still be on their way and the mass is a rough one."""
        return self._sampler.tune_mass != "none" and len(self._ends) > 0 and self._count < self._ends[-2]

    def update(self, state: Any, info: Info) -> bool:
        """Take in one step; says whether the mass is a new one."""
        self._count += 1
        self.step.update(self._acceptance.mean(info.acceptance).item())
        if self._sampler.tune_mass == "none":
            return False
        self._moments.add(state.x)
        if self._count not in self._ends:
            return False
        mass, self._moments = self._moments.mass(state.x), self._new_moments()
        if mass is None:
            return False
        self.mass = mass
        self.step.most = self._most(state)
        self.step.restart(self._first_guess(state, self.step.average))
        return True


def reasonable_step_size(
    energy: Energy, sampler: Sampler, state: Any, generator: torch.Generator, *, first: float
) -> float:
    """A step size at which about half of the next proposals are accepted: doubled or halved until it crosses .5."""
    noise = sampler.draw(state, generator)

    def acceptance(value: float) -> float:
        trial: Sampler = replace(cast(Any, sampler), step_size=value)
        return trial.step(energy, state, noise)[1].acceptance.mean().item()

    too_small = acceptance(first) > 0.5
    factor = 2.0 if too_small else 0.5
    for _ in range(20):
        following = first * factor
        if (acceptance(following) > 0.5) != too_small:
            break
        first = following
    return first


def tune(energy: Energy, sampler: Tuned, x: Tensor, *, num_steps: int, generator: torch.Generator) -> tuple[Tuned, Any]:
    """The sampler with step size and mass tuned over num_steps from x, and its last state.

    Args:
        energy: the target.
        sampler: a `Tunable`; its step_size is the first guess.
        x: chains `[B, *event]`; the more, the better the mass.
        num_steps: steps of the warm-up; some hundreds where the chains start far away.
        generator: random numbers.

    Only the returned sampler, which no longer changes, leaves its target unchanged.
    """
    state: Any = sampler.init(energy, x)
    tuner = Tuner(energy, cast(Tunable, sampler), state, num_steps, generator)
    for _ in range(num_steps):
        current: Any = replace(cast(Any, sampler), step_size=tuner.step.step_size, mass=tuner.mass)
        state, info = current.step(energy, state, current.draw(state, generator))
        tuner.update(state, info)
    return replace(cast(Any, sampler), step_size=tuner.step.average, mass=tuner.mass), state


class ChEES:
    """The trajectory length T that moves the squared distance from the centre the most.

    Maximises E[(|z' - m'|^2 - |z - m|^2)^2] / 4 over T by stochastic gradient ascent
    on log T, where z is a whitened start, z' the end of its trajectory with momentum
    xi', m and m' their means over the chains; the derivative of one chain is
    t (|z' - m'|^2 - |z - m|^2) (z' - m') xi', t the length of its own trajectory.

    Reference: Hoffman, Radul & Sountsov (2021), An adaptive-MCMC scheme for setting
    trajectory lengths in Hamiltonian Monte Carlo, https://proceedings.mlr.press/v130/hoffman21a.html
    """

    MIN_CHAINS = 8

    def __init__(self, length: float) -> None:
        self._log = self._log_average = math.log(length)
        self._square, self._count = 0.0, 0

    def update(
        self, mass: Mass | None, start: Tensor, end: Tensor, momentum: Tensor, length: Tensor, accept: Tensor
    ) -> None:
        """Take in one trajectory of every chain: start, end and momentum there `[B, *event]`, the others `[B]`."""
        usable = end.flatten(1).isfinite().all(1) & momentum.flatten(1).isfinite().all(1) & accept.isfinite()
        if int(usable.sum()) < self.MIN_CHAINS:
            return
        z, ends, xi = (part[usable].flatten(1) for part in (whiten(mass, start), whiten(mass, end), momentum))
        weight = accept[usable]
        centred, centred_start = ends - ends.mean(0), z - z.mean(0)
        gain = centred.square().sum(1) - centred_start.square().sum(1)
        slopes = length[usable] * gain * (centred * xi).sum(1)
        slope = ((weight * slopes).sum() / weight.sum().clamp_min(1e-10)).item()
        if not math.isfinite(slope):
            return
        self._count += 1
        self._square = 0.95 * self._square + 0.05 * slope**2
        scale = math.sqrt(self._square / (1 - 0.95**self._count))
        self._log += 0.05 * slope / (scale + 1e-300)
        share = self._count**-0.5
        self._log_average = share * self._log + (1 - share) * self._log_average

    @property
    def length(self) -> float:
        """To be used in the next step, in units of the mass."""
        return math.exp(self._log)

    @property
    def average(self) -> float:
        """To be used after the warm-up."""
        return math.exp(self._log_average)
