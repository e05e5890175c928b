"""Hamiltonian Monte Carlo: the smallest effective sample size over the dimensions, per second of sampling."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from numpyro.infer import HMC, MCMC, NUTS

import energeia as en
from benchmarks.harness import Row
from benchmarks.peers import targets
from benchmarks.peers.race import OURS, Contender, Setting, compare, named
from energeia.stats.chains import effective_sample_size

WARMUP = 500
# Many chains for what moves all of them at once; NUTS, whose chains wait for each other, does best with few.
MANY, FEW = 64, 4


def rows(setting: Setting) -> list[Row]:
    """Fixed and adapted HMC on a Gaussian of 100 dimensions and on a logistic regression of 31.

    A quick run is the adapted ones on the regression, without numpyro, which compiles longest.
    """
    found: list[Row] = []
    num_draws = 100 if setting.quick else 300
    for name, (energy, log_density), step_size, num_leapfrog in (
        ("Gaussian, d = 100", targets.gaussian(), 0.08, 20),
        ("logistic regression, d = 31", targets.regression(), 0.08, 12),
    )[1 if setting.quick else 0 :]:
        targets.check(energy, log_density, targets.normals(8, *energy.space.event_shape))
        fixed = [
            _ours_fixed(energy, step_size, num_leapfrog, num_draws),
            _blackjax_fixed(log_density, energy, step_size, num_leapfrog, num_draws),
            _numpyro(log_density, energy, num_draws, HMC, f"{MANY} chains", step_size, num_leapfrog),
        ]
        work = f"HMC of {num_leapfrog} leapfrog steps of {step_size}, {name}, {MANY} chains"
        if not setting.quick:
            found += compare(work, fixed, setting, amount=num_draws * MANY, unit="trajectories", moments=_moments)
        adapted = [
            _ours_adapted(energy, num_draws),
            _nuts(log_density, energy, num_draws),
            _chees(log_density, energy, num_draws),
            _numpyro(log_density, energy, num_draws, NUTS, f"NUTS, {FEW} chains"),
        ][: 3 if setting.quick else 4]
        if name.startswith("Gaussian"):
            # Its axes are those of no coordinate: a dense mass is what one would use.
            adapted += [
                _ours_adapted(energy, num_draws, dense=True),
                _nuts(log_density, energy, num_draws, dense=True),
                _numpyro(log_density, energy, num_draws, NUTS, f"NUTS, dense mass, {FEW} chains", dense=True),
            ]
        found += compare(
            f"adapted HMC, {name}", adapted, setting, amount=0, unit="effective draws", score=_ess, moments=_moments
        )
    return found


def _ess(kept: np.ndarray) -> float:
    """Bulk ESS of the worst dimension; kept `[T, B, d]`."""
    return float(effective_sample_size(torch.as_tensor(np.array(kept))).min())


def _moments(kept: np.ndarray) -> np.ndarray:
    """Mean and variance over all draws, averaged over the dimensions."""
    x = np.asarray(kept, dtype=np.float64)
    x = x.reshape(-1, x.shape[-1])
    return np.array([x.mean(), x.var(0).mean()])


def _start(energy: en.Energy, num_chains: int) -> torch.Tensor:
    """Near the mode of both targets: fixed step sizes are no good far out."""
    return 0.3 * targets.normals(num_chains, *energy.space.event_shape)


def _ours_fixed(energy: en.Energy, step_size: float, num_leapfrog: int, num_draws: int) -> Contender:
    def make() -> Callable[[], Any]:
        sampler = en.HMC(step_size=step_size, num_leapfrog=num_leapfrog, jitter=0.0)
        start = _start(energy, MANY)
        return lambda: en.sample(energy, sampler, start=start, num_steps=num_draws, keep="all", chunk=1).kept.numpy()

    return Contender(OURS, make)


def _ours_adapted(energy: en.Energy, num_draws: int, *, dense: bool = False) -> Contender:
    def make() -> Callable[[], Any]:
        tuned = en.HMC(tune_mass="dense" if dense else "diagonal")
        first = en.sample(energy, tuned, start=_start(energy, MANY), num_steps=1, warmup=WARMUP)
        sampler, start = first.sampler, first.x
        return lambda: en.sample(energy, sampler, start=start, num_steps=num_draws, keep="all", chunk=1).kept.numpy()

    return Contender(f"{OURS}, HMC, {'dense mass, ' if dense else ''}{MANY} chains", make)


def _scan(step: Callable[[jax.Array, Any], Any], num_draws: int) -> Callable[[jax.Array, Any], Any]:
    """num_draws steps of all chains (states with a leading chain axis); positions `[T, B, d]`."""

    @jax.jit
    def chain(key: jax.Array, states: Any) -> jax.Array:
        def one(states: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            num_chains = len(jax.tree.leaves(states)[0])
            states = jax.vmap(step)(jax.random.split(key, num_chains), states)
            return states, states.position

        return jax.lax.scan(one, states, jax.random.split(key, num_draws))[1]

    return chain


def _blackjax_fixed(
    log_density: targets.LogDensity, energy: en.Energy, step_size: float, num_leapfrog: int, num_draws: int
) -> Contender:
    def make() -> Callable[[], Any]:
        mass = jnp.ones(energy.space.num_dims)
        kernel = blackjax.hmc(log_density, step_size, mass, num_leapfrog)
        states = jax.vmap(kernel.init)(targets.array(_start(energy, MANY)))
        chain = _scan(lambda key, state: kernel.step(key, state)[0], num_draws)
        return lambda: np.asarray(chain(jax.random.key(0), states))

    return Contender(named("blackjax"), make)


def _nuts(log_density: targets.LogDensity, energy: en.Energy, num_draws: int, *, dense: bool = False) -> Contender:
    """Window adaptation of each chain, then NUTS with its parameters."""

    def make() -> Callable[[], Any]:
        adaptation = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=not dense)
        kernel = blackjax.nuts.build_kernel()

        def adapted(key: jax.Array, x: jax.Array) -> Any:
            found, _ = adaptation.run(key, x, WARMUP)
            return found.state, found.parameters

        keys = jax.random.split(jax.random.key(1), FEW)
        states, parameters = jax.jit(jax.vmap(adapted))(keys, targets.array(_start(energy, FEW)))

        @jax.jit
        def chain(key: jax.Array, states: Any) -> jax.Array:
            def one(states: Any, key: jax.Array) -> tuple[Any, jax.Array]:
                keys = jax.random.split(key, FEW)
                step = jax.vmap(lambda k, s, p: kernel(k, s, log_density, **p)[0])
                states = step(keys, states, parameters)
                return states, states.position

            return jax.lax.scan(one, states, jax.random.split(key, num_draws))[1]

        return lambda: np.asarray(chain(jax.random.key(0), states))

    return Contender(named("blackjax", f"NUTS, {'dense mass, ' if dense else ''}{FEW} chains"), make)


def _chees(log_density: targets.LogDensity, energy: en.Energy, num_draws: int) -> Contender:
    def make() -> Callable[[], Any]:
        adaptation = blackjax.chees_adaptation(log_density, MANY)
        start = targets.array(_start(energy, MANY))
        (states, parameters), _ = adaptation.run(jax.random.key(1), start, 0.1, optax.adam(0.02), WARMUP)
        step = blackjax.dynamic_hmc(log_density, **parameters).step
        chain = _scan(lambda key, state: step(key, state)[0], num_draws)
        return lambda: np.asarray(chain(jax.random.key(0), states))

    return Contender(named("blackjax", f"ChEES-HMC, {MANY} chains"), make)


def _numpyro(
    log_density: targets.LogDensity,
    energy: en.Energy,
    num_draws: int,
    kind: type[HMC],
    usage: str,
    step_size: float | None = None,
    num_leapfrog: int = 0,
    *,
    dense: bool = False,
) -> Contender:
    """With a step size it is fixed; without one, step size and mass are adapted."""

    def make() -> Callable[[], Any]:
        fixed = step_size is not None
        options: dict[str, Any] = {"dense_mass": dense}
        if fixed:
            # Half a step more, as it rounds the number of steps down.
            length = step_size * (num_leapfrog + 0.5)
            options |= {"step_size": step_size, "trajectory_length": length}
            options |= {"adapt_step_size": False, "adapt_mass_matrix": False}
        kernel = kind(potential_fn=lambda x: -log_density(x), **options)
        num_chains = MANY if fixed else FEW
        begin = targets.array(_start(energy, num_chains))
        keys = jax.random.split(jax.random.key(1), num_chains)
        if fixed:
            warm = jax.vmap(lambda key, x: kernel.init(key, 0, x, (), {}))(keys, begin)
        else:
            runner = MCMC(kernel, num_warmup=WARMUP, num_samples=1, num_chains=FEW, progress_bar=False)
            runner.warmup(jax.random.key(1), init_params=begin)
            warm = runner.post_warmup_state

        # MCMC.run compiles anew in each call; the kernel's own step in a scan is what it runs inside.
        def chain(state: Any) -> jax.Array:
            def one(state: Any, _: None) -> tuple[Any, jax.Array]:
                state = kernel.sample(state, (), {})
                return state, state.z

            return jax.lax.scan(one, state, None, num_draws)[1]

        chains = jax.jit(jax.vmap(chain) if fixed else lambda states: jax.lax.map(chain, states))
        return lambda: np.moveaxis(np.asarray(chains(warm)), 0, 1)

    return Contender(named("numpyro", usage), make)
