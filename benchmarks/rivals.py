"""Samplers that are not in the library, beside those that are: microcanonical ones, written here, and numpyro's NUTS.

What decides is the smaller ESS of x and x^2 per gradient, with the bias; the microcanonical sampler is not exact.
NUTS needs numpyro and is left out, with a word, where it is not installed.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.samplers import Counted
from energeia import energies
from energeia.core.gradient import value_and_gradient
from energeia.samplers.adapt import ChEES, RunningMoments, Tuner
from energeia.samplers.langevin import Differentiated
from energeia.samplers.mass import gather, spread
from energeia.samplers.metropolis import choose, displacement, metropolis, normal_noise, uniform_noise
from energeia.stats.chains import effective_sample_size

GAUSSIAN, SCHOOLS, LOGISTIC = "Gaussian, d = 100, condition 1e4", "eight schools", "logistic regression, d = 31"
WIDE, FIELD = "Gaussian, d = 1000, scales 1 to 100", "phi^4, 8 x 8"
CHOSEN: dict[str, Callable[[], en.Energy]] = {
    GAUSSIAN: lambda: energies.CorrelatedGaussian.ill_conditioned(100, condition=1e4),
    WIDE: lambda: en.Gaussian(1000, scale=torch.logspace(0, 2, 1000)),
    "banana": energies.Banana,
    "funnel, d = 10": lambda: energies.Funnel(10),
    "Rosenbrock": energies.Rosenbrock,
    FIELD: lambda: energies.Phi4(8, mass_squared=-0.5, coupling=0.5),
    SCHOOLS: energies.EightSchools,
    LOGISTIC: energies.LogisticRegression.breast_cancer,
}
NUM_CHAINS, WARMUP = 50, 1000
# Gradients a chain. Where draws are nearly independent few are enough, and all of them must be kept: ESS
# cannot exceed their number. It is estimated from at most so many numbers, of so many coordinates, evenly spaced.
NUM_GRADIENTS, FEWER, MAX_NUMBERS, MAX_COORDINATES = 4000, {WIDE: 600, FIELD: 1000}, 4e6, 100
# As in HMC.
_MAX_LEAPFROG = 128


def _unit(z: Tensor) -> Tensor:
    return z / torch.linalg.vector_norm(z.flatten(1), dim=1).view(-1, *[1] * (z.dim() - 1))


def kick(u: Tensor, gradient: Tensor, time: Tensor | float) -> tuple[Tensor, Tensor]:
    """The direction u after a time at constant gradient g, and minus the log of the map's Jacobian on the sphere.

    du/dt = -(1 - u u') g / (d - 1). With e = -g / |g| and s = time |g| / (d - 1), the end is
    along u + e (sinh s + (e u) (cosh s - 1)), and the Jacobian (cosh s + e u sinh s)^(1 - d).
    """
    num_dims, shape = u[0].numel(), (-1, *[1] * (u.dim() - 1))
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    downhill = -gradient / norm.clamp_min(1e-30).view(shape)
    s = time * norm / (num_dims - 1)
    along, shrunk = (u * downhill).flatten(1).sum(1), (-s).exp()
    # All of it times 2 exp(-s), which cannot overflow.
    end = _unit(
        u * (2 * shrunk).view(shape) + downhill * ((1 - shrunk) * (1 + shrunk + along * (1 - shrunk))).view(shape)
    )
    return end, (num_dims - 1) * (s - math.log(2) + (1 + along + (1 - along) * shrunk.square()).log())


class Heading(NamedTuple):
    """Chains with energy and gradient, and the direction in which they go; zero before the first step draws it."""

    x: Tensor
    energy: Tensor
    gradient: Tensor
    direction: Tensor


@dataclass(frozen=True)
class MCLMC(en.Sampler[Heading]):
    """Microcanonical Langevin dynamics, unadjusted: dx = A sqrt(d) u dt, |u| = 1; u turns downhill and diffuses.

    step_size h and length (after which the direction is forgotten) are in units of the mass, in which HMC's are too.
    A warm-up of n steps tunes mass and h, to a variance of the energy error of `variance` a dimension; n
    more set the length to .4 times the mean autocorrelation time. minimal_norm: two gradients a step.

    Reference: Robnik, De Luca, Silverstein & Seljak (2023), Microcanonical Hamiltonian Monte
    Carlo, https://arxiv.org/abs/2212.08549
    """

    step_size: float = 0.1
    length: float = 1.0
    mass: en.Mass | None = None
    variance: float = 5e-4
    minimal_norm: bool = False

    def init(self, energy: en.Energy, x: Tensor) -> Heading:
        return Heading(x, *value_and_gradient(energy, x), torch.zeros_like(x))

    def draw(self, state: Heading, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (normal_noise(state.x, generator),)

    def step(self, energy: en.Energy, state: Heading, noise: tuple[Tensor, ...]) -> tuple[Heading, en.Info]:
        end, error = self.move(energy, state, noise)
        info = en.Info(end.energy, torch.ones_like(error), displacement(state.x, end.x), ~error.isfinite())
        return end, info

    def move(self, energy: en.Energy, state: Heading, noise: tuple[Tensor, ...]) -> tuple[Heading, Tensor]:
        """The next state, and the energy error of its integration."""
        num_dims, x, values, gradient = state.x[0].numel(), *state[:3]
        blur = math.sqrt(math.expm1(2 * self.step_size / self.length) / num_dims)
        u, time = _unit(state.direction + blur * noise[0]), self.step_size * math.sqrt(num_dims)
        kicks = (0.1931833275037836, 0.6136333449924328, 0.1931833275037836) if self.minimal_norm else (0.5, 0.5)
        u, error = kick(u, gather(self.mass, gradient), kicks[0] * time)
        for part in kicks[1:]:
            x = x + time / (len(kicks) - 1) * spread(self.mass, u)
            values, gradient = value_and_gradient(energy, x)
            u, change = kick(u, gather(self.mass, gradient), part * time)
            error = error + change
        return Heading(x, values, gradient, u), values - state.energy + error

    def warm_up(
        self, energy: en.Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["MCLMC", Heading]:
        state, moments = self.init(energy, x), RunningMoments(dense=False)
        ends = {num_steps * part // 100 for part in Tuner.ENDS}
        mass, log_step, average, count = self.mass, math.log(self.step_size), math.log(self.step_size), 0
        for number in range(1, num_steps + 1):
            current = replace(self, step_size=math.exp(log_step), mass=mass)
            end, error = current.move(energy, state, current.draw(state, generator))
            usable = error.isfinite() & end.x.flatten(1).isfinite().all(1) & (error.abs() < 1000)
            square = torch.where(usable, error.square(), torch.full_like(error, 1e6)).mean().item() / x[0].numel()
            # A step that goes wrong is taken back and the chain turned round.
            state = choose(usable, end, state._replace(direction=-state.direction))
            count += 1
            # The error's variance grows as h^6.
            change = (math.log(self.variance) - math.log(square + 1e-300)) / 6
            log_step += min(max(change, -1.0), 0.5) * min(1.0, 2 * count**-0.5)
            average += count**-0.75 * (log_step - average)
            moments.add(state.x)
            if number in ends:
                found, moments = moments.mass(state.x), RunningMoments(dense=False)
                if found is not None:
                    mass, log_step, count = found, average, 0
        tuned = replace(self, step_size=math.exp(average), mass=mass)
        visited: list[Tensor] = []
        for _ in range(num_steps):
            state, _ = tuned.step(energy, state, tuned.draw(state, generator))
            visited.append(state.x)
        kept = torch.stack(visited)
        time = kept.shape[0] * kept.shape[1] / effective_sample_size(kept, kind="mean")
        return replace(tuned, length=0.4 * tuned.step_size * time.mean().item()), state


@dataclass(frozen=True)
class AdjustedMCLMC(en.Sampler[Differentiated]):
    """Whole microcanonical trajectories from fresh directions, accepted or not: exact. Warm-up and units as in HMC.

    Reference: Robnik, Cohn-Gordon & Seljak (2025), Metropolis adjusted microcanonical
    Hamiltonian Monte Carlo, https://arxiv.org/abs/2503.01707
    """

    step_size: float = 0.1
    num_leapfrog: int = 10
    jitter: float = 0.2
    mass: en.Mass | None = None
    target_acceptance: float = 0.9
    tune_mass: Any = "diagonal"

    def init(self, energy: en.Energy, x: Tensor) -> Differentiated:
        return Differentiated(x, *value_and_gradient(energy, x))

    def draw(self, state: Differentiated, generator: torch.Generator) -> tuple[Tensor, ...]:
        return tuple([normal_noise(state.x, generator), *(uniform_noise(state.x, generator) for _ in range(2))])

    def step(
        self, energy: en.Energy, state: Differentiated, noise: tuple[Tensor, ...]
    ) -> tuple[Differentiated, en.Info]:
        end, _, error = self.trajectory(energy, state, noise)
        return metropolis(energy, state, end, -error, noise[1])

    def step_sizes(self, noise: tuple[Tensor, ...]) -> Tensor:
        """Of every chain `[B]`."""
        return self.step_size * (1 + self.jitter * (2 * noise[2] - 1))

    def trajectory(
        self, energy: en.Energy, state: Differentiated, noise: tuple[Tensor, ...]
    ) -> tuple[Differentiated, Tensor, Tensor]:
        """End, direction there, and the energy error."""
        x, values, gradient = state
        u, time = _unit(noise[0]), self.step_sizes(noise) * math.sqrt(x[0].numel())
        u, error = kick(u, gather(self.mass, gradient), time / 2)
        for number in range(self.num_leapfrog):
            x = x + time.view(-1, *[1] * (x.dim() - 1)) * spread(self.mass, u)
            values, gradient = value_and_gradient(energy, x)
            last = number == self.num_leapfrog - 1
            u, change = kick(u, gather(self.mass, gradient), time / 2 if last else time)
            error = error + change
        return Differentiated(x, values, gradient), u, values - state.energy + error

    def warm_up(
        self, energy: en.Energy, x: Tensor, *, num_steps: int, generator: torch.Generator
    ) -> tuple["AdjustedMCLMC", Differentiated]:
        state = self.init(energy, x)
        tuner, trajectory = (
            Tuner(energy, replace(self, num_leapfrog=1), state, num_steps, generator),
            ChEES(math.pi / 2),
        )
        for _ in range(num_steps):
            num_leapfrog = min(
                max(1, round(trajectory.length / tuner.step.step_size)), 16 if tuner.travelling else _MAX_LEAPFROG
            )
            current = replace(self, step_size=tuner.step.step_size, num_leapfrog=num_leapfrog, mass=tuner.mass)
            noise = current.draw(state, generator)
            end, u, error = current.trajectory(energy, state, noise)
            following, info = metropolis(energy, state, end, -error, noise[1])
            if not tuner.travelling:
                length = current.step_sizes(noise) * num_leapfrog
                velocity = u * math.sqrt(x[0].numel())
                trajectory.update(current.mass, state.x, end.x, velocity, length, info.acceptance)
            state = following
            if tuner.update(state, info):
                trajectory = ChEES(math.pi / 2)
        num_leapfrog = min(max(1, math.ceil(trajectory.average / (1.1 * tuner.step.average))), _MAX_LEAPFROG)
        step_size = min(trajectory.average / num_leapfrog, 1.1 * tuner.step.average)
        return replace(self, step_size=step_size, num_leapfrog=num_leapfrog, mass=tuner.mass), state


METHODS: dict[str, en.Sampler] = {
    "HMC": en.HMC(),
    "UnderdampedLangevin": en.UnderdampedLangevin(),
    "MCLMC": MCLMC(),
    "MCLMC, minimal norm": MCLMC(minimal_norm=True),
    "adjusted MCLMC": AdjustedMCLMC(),
}


def _runs(target: str, who: str) -> bool:
    """Two gradients a step are tried on two targets; in curved valleys the adjusted trajectories grow without end."""
    if who == "MCLMC, minimal norm":
        return target in (GAUSSIAN, SCHOOLS)
    return who != "adjusted MCLMC" or target not in ("Rosenbrock", "funnel, d = 10")


def rows(quick: bool) -> list[Row]:
    """Every method on every target, then NUTS."""
    found: list[Row] = []
    warmup, num_gradients = (100, 200) if quick else (WARMUP, NUM_GRADIENTS)
    for target in CHOSEN:
        for who, sampler in METHODS.items():
            if not _runs(target, who):
                continue
            progress(f"{target}: {who}")
            try:
                found += _measure(target, who, sampler, warmup, min(num_gradients, FEWER.get(target, num_gradients)))
            except en.DivergenceError as error:
                progress(f"  diverged: {error}")
                found.append(Row(target, who, 1, "runs that diverged", 0))
    return found + _nuts(quick)


def _measure(target: str, who: str, sampler: en.Sampler, warmup: int, num_gradients: int) -> list[Row]:
    energy = CHOSEN[target]()
    counted, size = Counted(energy), min(energy.space.num_dims, MAX_COORDINATES) * NUM_CHAINS
    tuned = en.sample(counted, sampler, num_chains=NUM_CHAINS, num_steps=1, warmup=warmup, generator=0)
    spent, counted.rows = counted.rows / NUM_CHAINS, 0
    settings: Any = tuned.sampler
    each = settings.num_leapfrog if isinstance(settings, en.HMC | AdjustedMCLMC) else 1
    num_steps = max(num_gradients // each, 100)
    thin = max(1, math.ceil(num_steps * size / MAX_NUMBERS))
    num_steps = num_steps // thin * thin
    draws = en.sample(counted, settings, start=tuned.x, num_steps=num_steps, keep="all", thin=thin, generator=1)
    result = _efficiency(target, who, draws.kept, {"gradient": counted.rows})
    result.append(Row(target, who, spent, "warm-up gradients a chain", 0))
    known = energy.capability(energies.KnownMoments)
    if known is not None:
        truth = known.truth()
        standard = (draws.kept.double() - truth.mean) / truth.variance.sqrt()
        result += _worst(target, who, "bias of the mean (sd)", standard)
        result += _worst(target, who, "bias of the variance", standard.square() - 1)
    return result


def _efficiency(target: str, who: str, kept: Tensor, costs: dict[str, int]) -> list[Row]:
    flat = kept.flatten(2)
    kept = flat[:, :, :: max(1, flat.shape[2] // MAX_COORDINATES)]
    first, second = effective_sample_size(kept).min().item(), effective_sample_size(kept.square()).min().item()
    return [
        Row(target, who, value / cost, f"{name} per {unit}", 0)
        for unit, cost in costs.items()
        for name, value in (("ESS of x", first), ("ESS of x^2", second))
    ]


def _worst(target: str, who: str, unit: str, error: Tensor) -> list[Row]:
    """The largest mean error `[T, B, *event]` of a coordinate, its standard error, and the mean over coordinates."""
    chains = error.mean(0).flatten(1)
    place = int(chains.mean(0).abs().argmax())
    noise = chains[:, place].std().item() / math.sqrt(len(chains))
    return [
        Row(target, who, chains.mean(0)[place].item(), unit, 0),
        Row(target, who, noise, f"{unit}, standard error", 0),
        Row(target, who, chains.mean().item(), f"{unit}, mean over coordinates", 0),
    ]


def _nuts(quick: bool) -> list[Row]:
    """numpyro's NUTS, default settings, chains side by side: each draw waits for the longest trajectory of all."""
    if importlib.util.find_spec("numpyro") is None:
        progress("NUTS left out: numpyro is not installed")
        return []
    jax, infer = importlib.import_module("jax"), importlib.import_module("numpyro.infer")
    found: list[Row] = []
    for target, num_draws in ((GAUSSIAN, 100), (SCHOOLS, 500), (LOGISTIC, 200)):
        progress(f"{target}: NUTS")
        warmup, num_draws = (50, 20) if quick else (WARMUP if target == SCHOOLS else 300, num_draws)
        energy = CHOSEN[target]()
        potential = _potential(energy, jax)
        start = energy.space.start(NUM_CHAINS, torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            torch.from_numpy(np.array(jax.vmap(potential)(start.numpy()))), energy(start), rtol=1e-4, atol=1e-4
        )
        chains = infer.MCMC(
            infer.NUTS(potential_fn=potential),
            num_warmup=warmup,
            num_samples=num_draws,
            num_chains=NUM_CHAINS,
            chain_method="vectorized",
            progress_bar=False,
        )
        fields, key = ("num_steps",), jax.random.PRNGKey(0)
        chains.warmup(key, init_params=start.numpy(), extra_fields=fields, collect_warmup=True)
        spent = np.array(chains.get_extra_fields(group_by_chain=True)["num_steps"])
        chains.run(key, init_params=chains.post_warmup_state.z, extra_fields=fields)
        lengths = np.array(chains.get_extra_fields(group_by_chain=True)["num_steps"])
        kept = torch.from_numpy(np.array(chains.get_samples(group_by_chain=True))).transpose(0, 1)
        costs = {"gradient": int(lengths.sum()), "gradient, waiting included": int(lengths.max(0).sum() * NUM_CHAINS)}
        found += _efficiency(target, "NUTS (numpyro)", kept, costs)
        found.append(Row(target, "NUTS (numpyro)", float(spent.sum(1).mean()), "warm-up gradients a chain", 0))
        waited = float(spent.max(0).sum())
        found.append(Row(target, "NUTS (numpyro)", waited, "warm-up gradients a chain, waiting included", 0))
    return found


def _potential(energy: en.Energy, jax: Any) -> Callable[[Any], Any]:
    """The same energy of one x, in JAX."""
    buffers = {name: value.numpy() for name, value in energy.named_buffers()}
    if isinstance(energy, energies.CorrelatedGaussian):
        return lambda x: ((buffers["whitener"] @ x + buffers["offset"]) ** 2).sum() / 2
    if isinstance(energy, energies.LogisticRegression):
        return lambda w: jax.nn.softplus(-(buffers["rows"] @ w)).sum() + (w**2).sum() / 2

    def schools(x: Any) -> Any:
        mu, log_tau, z = x[0], x[1], x[2:]
        misfit = (((buffers["effects"] - mu - jax.numpy.exp(log_tau) * z) / buffers["errors"]) ** 2).sum()
        prior = (mu / 5) ** 2 / 2 + jax.nn.softplus(2 * (log_tau - math.log(5))) - log_tau
        return prior + (misfit + (z**2).sum()) / 2

    return schools


if __name__ == "__main__":
    run("rivals", rows)
