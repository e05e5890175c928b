"""Langevin and Metropolis-adjusted Langevin: steps per second."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import blackjax
import ebm
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torchebm.core import BaseModel
from torchebm.samplers import LangevinDynamics

import energeia as en
from benchmarks.harness import Row
from benchmarks.peers import targets
from benchmarks.peers.race import OURS, Contender, Setting, compare, named

STEP_SIZE = 0.02
# x' = x - a dE/dx + s xi, as the tutorial trains with; in Energeia step_size is 2 a.
PICTURE_STEP, PICTURE_NOISE = 10.0, 0.005


def rows(setting: Setting) -> list[Row]:
    """All works of this family."""
    found: list[Row] = []
    plane, plane_log = targets.mixture()
    net, net_log = targets.network()
    targets.check(plane, plane_log, targets.normals(8, 2))
    targets.check(net, net_log, targets.normals(8, 2))
    for work, energy, log_density, num_chains, num_steps in (
        ("Langevin, mixture of 4 in 2-D, 10,000 chains", plane, plane_log, 10_000, 1000),
        ("Langevin, MLP 2-128-128-1, 1,000 chains", net, net_log, 1000, 1000),
        ("Langevin, mixture of 4 in 2-D, 16 chains", plane, plane_log, 16, 2000),
    )[: 2 if setting.quick else 3]:
        start = targets.normals(num_chains, 2)
        contenders = [
            ours(energy, start, num_steps),
            *peers(energy, log_density, start, num_steps, step=STEP_SIZE / 2, noise=STEP_SIZE**0.5),
        ]
        # The moments of 16 chains are rough ones.
        tolerance = 1.0 if num_chains < 100 else 0.25
        found += compare(work, contenders, setting, amount=num_steps, unit="steps", tolerance=tolerance)
    if not setting.quick:
        found += _mala(net, net_log, setting, 300)
        found += _pictures(setting)
    return found


def ours(
    energy: en.Energy,
    start: Tensor,
    num_steps: int,
    sampler: en.Sampler | None = None,
    *,
    usage: str = "",
    chunk: int = 10,
) -> Contender:
    """en.sample in compiled chunks."""
    chosen = sampler or en.Langevin(step_size=STEP_SIZE)
    who = OURS + (f", {usage}" if usage else "")
    return Contender(who, lambda: lambda: en.sample(energy, chosen, start=start, num_steps=num_steps, chunk=chunk).x)


class Wrapped(BaseModel):
    """A function as a model of torchebm."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`."""
        return self.function(x)


def peers(
    energy: Callable[[Tensor], Tensor],
    log_density: targets.LogDensity,
    start: Tensor,
    num_steps: int,
    *,
    step: float,
    noise: float,
) -> Sequence[Contender]:
    """x' = x - step dE/dx + noise xi by each of them.

    torchebm and ebmkit offer no compilation. blackjax is jitted, all steps in one scan,
    the noise of all chains drawn at once.
    """

    def torchebm() -> Callable[[], Any]:
        # Its noise is noise_scale sqrt(2 step_size).
        sampler = LangevinDynamics(Wrapped(energy), step_size=step, noise_scale=noise / (2 * step) ** 0.5)
        return lambda: sampler.sample(x=start, n_steps=num_steps)

    def ebmkit() -> Callable[[], Any]:
        sampler = ebm.LangevinDynamics(step_size=step, steps=num_steps, noise_scale=noise)
        return lambda: sampler.sample(energy, start)

    def jaxed() -> Callable[[], Any]:
        kernel = blackjax.sgld(targets.batch_gradient(log_density))
        temperature = noise**2 / (2 * step)

        @jax.jit
        def chain(key: jax.Array, x: jax.Array) -> jax.Array:
            def one(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
                return kernel.step(key, x, None, step, temperature), None

            return jax.lax.scan(one, x, jax.random.split(key, num_steps))[0]

        begin = jnp.asarray(start.numpy())
        return lambda: np.asarray(chain(jax.random.key(0), begin))

    return [
        Contender(named("torchebm"), torchebm),
        Contender(named("ebmkit"), ebmkit),
        Contender(named("blackjax"), jaxed),
    ]


def _mala(energy: en.Energy, log_density: targets.LogDensity, setting: Setting, num_steps: int) -> list[Row]:
    start = targets.normals(1000, 2)

    def ebmkit() -> Callable[[], Any]:
        sampler = ebm.MALA(step_size=STEP_SIZE / 2, steps=num_steps)
        return lambda: sampler.sample(energy, start)

    def jaxed() -> Callable[[], Any]:
        kernel = blackjax.mala(log_density, STEP_SIZE / 2)

        @jax.jit
        def chain(key: jax.Array, x: jax.Array) -> jax.Array:
            def one(state: Any, key: jax.Array) -> tuple[Any, None]:
                return jax.vmap(kernel.step)(jax.random.split(key, len(x)), state)[0], None

            return jax.lax.scan(one, jax.vmap(kernel.init)(x), jax.random.split(key, num_steps))[0].position

        begin = jnp.asarray(start.numpy())
        return lambda: np.asarray(chain(jax.random.key(0), begin))

    contenders = [
        ours(energy, start, num_steps, en.MALA(step_size=STEP_SIZE)),
        Contender(named("ebmkit"), ebmkit),
        Contender(named("blackjax"), jaxed),
    ]
    return compare("MALA, MLP 2-128-128-1, 1,000 chains", contenders, setting, amount=num_steps, unit="steps")


class Halved(nn.Module):
    """A network whose products and convolutions are done in bfloat16; energies and gradients are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The network's output, float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x).float()


def _pictures(setting: Setting) -> list[Row]:
    """128 pictures, 30 steps; peers get the network as it is, ours has the memory format channels_last."""
    network, log_density = targets.pictures()
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    space, start, num_steps = en.Real((1, 28, 28)), targets.normals(128, 1, 28, 28), 30
    sampler = en.Langevin(step_size=2 * PICTURE_STEP, noise_scale=PICTURE_NOISE)
    single, half = en.Neural(last, space), en.Neural(Halved(last), space)
    plain = en.Neural(network, space)
    targets.check(single, log_density, start[:4])
    targets.check(plain, log_density, start[:4])
    same = {"step": PICTURE_STEP, "noise": PICTURE_NOISE}
    # What a user of the others gains by the memory format alone, for information.
    faster = peers(single, log_density, start, num_steps, **same)[0]
    contenders = [
        ours(single, start, num_steps, sampler, usage="channels_last"),
        ours(half, start, num_steps, sampler, usage="channels_last, bfloat16"),
        *peers(plain, log_density, start, num_steps, **same),
        Contender(f"{faster.who}, channels_last", faster.make, counts=False),
    ]
    work = "Langevin, convolutional network, 128 pictures of 28 x 28"
    found = compare(work, contenders, setting, amount=num_steps, unit="steps", moments=_pixels(start))
    ends = [en.sample(energy, sampler, start=start, num_steps=num_steps, chunk=10).x for energy in (single, half)]
    # Without its noise the gradient alone moves the pictures, and only there can bfloat16 differ.
    drift = en.Langevin(step_size=2 * PICTURE_STEP, noise_scale=0.0)
    moved = en.sample(single, drift, start=start, num_steps=num_steps).x - start
    apart = float((ends[1] - ends[0]).square().mean().sqrt() / moved.square().mean().sqrt())
    name = setting.name(f"{work}: bfloat16 against float32, same noise")
    return [*found, Row(name, OURS, apart, "rms difference / rms distance moved by the gradient", 0)]


def _pixels(start: Tensor) -> Callable[[Any], np.ndarray]:
    """Root mean square distance travelled: next to it the pictures' own variance would hide a wrong step."""

    def moments(end: Any) -> np.ndarray:
        x = np.asarray(end)
        return np.array([np.sqrt(np.square(x - start.numpy()).mean())])

    return moments
