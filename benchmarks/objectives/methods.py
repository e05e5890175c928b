"""The table of methods of the plane: a name, and how a model is trained. A new objective is one more line."""

import functools
import sys
from collections.abc import Callable
from typing import NamedTuple, TypedDict

import torch
import zuko
from sklearn.neighbors import KernelDensity
from torch import Tensor

import energeia as en
from benchmarks.objectives.shifted_grid import ShiftedGrid

# Distances of the nodes (see plane.py). A kernel density is slow, and smooth enough for fewer; so is what carries noise
# of .05, whose integrals over nodes of .08 are right to .0005 nats.
FINE, COARSE, COARSEST = 0.025, 0.05, 0.08


class Trained(NamedTuple):
    """energy: minus log density of x `[B, 2]`, up to a constant. evaluations: rows that went through the network.

    spacing: of the nodes that it is to be integrated on.
    """

    energy: Callable[[Tensor], Tensor]
    evaluations: int
    spacing: float = FINE


# From rows `[N, 2]`, a seed, and whether a few steps are enough (to see that it runs).
Trainer = Callable[[Tensor, int, bool], Trained]


class Slow(TypedDict):
    """Settings of `by` that several methods share."""

    learning_rate: float
    betas: tuple[float, float]


def network(rows: Tensor) -> en.Energy:
    """The model of all objectives: a network on a wide Gaussian, so that exp(-E) has an integral whatever is learned.

    By exact likelihood in the same time, two hidden layers of 128 are left .05 nats above the truth on the spirals
    and .08 on the checkerboard, three .015 and .011.
    """
    return en.Neural(en.MLP(2, widths=(128, 128, 128)), en.Real(2)) + en.Gaussian(2, scale=2.0)


def all_levels(rows: Tensor) -> en.Energy:
    """The network of the objectives that need one at every noise level."""
    return en.NoiseConditional(en.LevelMLP(2, widths=(128, 128, 128)), en.Real(2), levels=LEVELS)


def of_waves(rows: Tensor) -> en.Energy:
    """The network of the rows with Fourier features."""
    return en.Neural(en.FourierMLP(2), en.Real(2)) + en.Gaussian(2, scale=2.0)


def its_flow(energy: en.Energy) -> Callable[[Tensor], Tensor]:
    """Minus log p of what the probability-flow equation draws.

    Eight steps would do for rows of the data (.001 nats). Off the spirals, where log p is -19, they find 10.
    """
    return lambda x: -en.ode_log_prob(energy, x, num_steps=16).values


def fitted_flow(rows: Tensor) -> en.Flow:
    """A spline flow at maximum likelihood, for those that train one against the energy: some 3 seconds."""
    flow = en.Flow.spline(en.Real(2), x=rows, widths=(32, 32))
    adam = functools.partial(torch.optim.Adam, lr=5e-3)
    en.fit(flow, en.ExactLikelihood(), rows, num_steps=300, batch_size=512, optimizer=adam, progress=False)
    return flow


def by(
    objective: Callable[[Tensor], en.Objective],
    *,
    num_steps: int,
    learning_rate: float = 1e-2,
    batch_size: int = 512,
    betas: tuple[float, float] = (0.9, 0.999),
    gradient_clip: float | None = None,
    average_decay: float = 0.99,
    held_out: float = 0.0,
    model: Callable[[Tensor], en.Energy] = network,
    judged: Callable[[en.Energy], Callable[[Tensor], Tensor]] = lambda energy: energy,
    spacing: float = FINE,
) -> Trainer:
    """Adam with a cosine to zero, and an average of the weights.

    Args:
        objective: made from the training rows (noise is fitted to them).
        num_steps, learning_rate, batch_size, betas, gradient_clip, average_decay: of `fit`.
        held_out: share of the rows that is kept to choose the weights at which the loss was best; 0 takes the last.
        model: makes the energy, from the training rows too.
        judged: the energy of the data in what was trained (that of the lowest noise level, say).
        spacing: of the nodes that it is integrated on.
    """

    def train(rows: Tensor, seed: int, quick: bool) -> Trained:
        steps = 30 if quick else num_steps
        torch.manual_seed(seed)
        energy = model(rows)
        made = objective(rows)
        counter = Counter(energy)
        cut = round(held_out * len(rows))
        result = en.fit(
            energy,
            made,
            rows[cut:],
            validation=rows[:cut] if cut else None,
            validate_every=max(1, steps // 40) if cut else None,
            select="best" if cut else "last",
            num_steps=steps,
            batch_size=batch_size,
            optimizer=functools.partial(torch.optim.Adam, lr=learning_rate, betas=betas),
            scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
            gradient_clip=gradient_clip,
            average_decay=average_decay,
            log_every=max(1, steps // 10),
            checkpoint_every=max(1, steps // 4),
            seed=seed,
            progress=False,
        )
        if result.stopped == "interrupted":
            sys.exit("stopped: the model in training is left out; --resume makes it again")
        return Trained(judged(energy), counter.stop(), spacing)

    return train


class Counter:
    """Counts the rows that go through the networks (`MLP`, `LevelMLP`) of an energy, until it is stopped."""

    def __init__(self, energy: torch.nn.Module) -> None:
        self.rows = 0
        networks = [module for module in energy.modules() if isinstance(module, en.MLP | en.LevelMLP)]
        self._handles = [module.register_forward_pre_hook(self._count) for module in networks]

    def _count(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.rows += inputs[0].shape[0]

    def stop(self) -> int:
        """How many."""
        for handle in self._handles:
            handle.remove()
        return self.rows


def spline_flow(rows: Tensor, seed: int, quick: bool) -> Trained:
    """A neural spline flow of zuko by maximum likelihood, with the rows and steps of the exact likelihood."""
    steps = 30 if quick else STEPS
    torch.manual_seed(seed)
    flow = zuko.flows.NSF(2, transforms=3, hidden_features=(64, 64))
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = rows[torch.randint(len(rows), (512,), generator=generator)]
        optimizer.zero_grad()
        (-flow().log_prob(x).mean()).backward()
        optimizer.step()
        schedule.step()
    return Trained(lambda x: -flow().log_prob(x), 512 * steps)


def kernel_density(rows: Tensor, seed: int, quick: bool) -> Trained:
    """scikit-learn's, its bandwidth the best of nine for a tenth of the rows, held out."""
    held, kept = rows[: len(rows) // 10].numpy(), rows[len(rows) // 10 :].numpy()
    widths = [0.2 * 2 ** (-k / 2) for k in range(9)]
    scores = [KernelDensity(bandwidth=width).fit(kept).score(held[:1000]) for width in widths]
    best = KernelDensity(bandwidth=widths[scores.index(max(scores))]).fit(rows.numpy())
    return Trained(lambda x: -torch.from_numpy(best.score_samples(x.numpy())), 0, COARSE)


# Updates of the exact likelihood: some 15 seconds of a quiet core.
STEPS = 1800
# Noise from 3 to .05, each level .63 of the one above.
LEVELS = tuple(3.0 * (0.05 / 3.0) ** (number / 9) for number in range(10))
LANGEVIN = en.Langevin(step_size=4e-3)
MALA = en.MALA(step_size=1e-2)
HMC = en.HMC(step_size=0.05, num_leapfrog=5)

# For chains that have to follow the model.
SLOW: Slow = {"learning_rate": 2e-3, "betas": (0.0, 0.99)}

METHODS: dict[str, Trainer] = {
    "exact likelihood": by(lambda rows: ShiftedGrid(40, 4.0), num_steps=STEPS),
    # Chains that begin at the data allow steps as large as those of the exact likelihood. Persistent ones do not: with
    # 1e-2 the model runs away from them (.8 nats on the mixture, with 2e-3 .03).
    "CD-10, Langevin": by(lambda rows: en.ContrastiveDivergence(LANGEVIN, 10), num_steps=800),
    "CD-10, MALA": by(lambda rows: en.ContrastiveDivergence(MALA, 10), num_steps=800),
    "PCD, Langevin": by(lambda rows: en.PersistentCD(LANGEVIN, 5, num_chains=512), num_steps=1200, **SLOW),
    "PCD, MALA": by(lambda rows: en.PersistentCD(MALA, 5, num_chains=512), num_steps=1200, **SLOW),
    "PCD, HMC": by(lambda rows: en.PersistentCD(HMC, 1, num_chains=512), num_steps=1200, **SLOW),
    "replay, MALA": by(
        lambda rows: en.PersistentCD(MALA, 5, num_chains=512, capacity=2000, fresh=0.01), num_steps=1200, **SLOW
    ),
    "improved CD": by(
        lambda rows: en.ImprovedCD(en.ContrastiveDivergence(LANGEVIN, 9), LANGEVIN), num_steps=600, learning_rate=5e-3
    ),
    "score matching": by(lambda rows: en.ScoreMatching(), num_steps=1000, gradient_clip=10.0),
    "sliced score matching": by(lambda rows: en.SlicedScoreMatching(), num_steps=1400, gradient_clip=10.0),
    "finite-difference score matching": by(
        lambda rows: en.FiniteDifferenceScoreMatching(step=0.03), num_steps=2500, gradient_clip=10.0
    ),
    # The loss is that of the other scores times the squared noise, and so is the clip.
    "denoising, noise of .05": by(
        lambda rows: en.DenoisingScoreMatching(noise_scale=0.05), num_steps=2500, gradient_clip=0.025
    ),
    # exp(-E) of the lowest level alone: where its little noise does not reach, nothing was learned.
    "multi-scale denoising": by(lambda rows: en.MultiScaleDenoising(), num_steps=2500, model=all_levels),
    "multi-scale denoising, by its flow": by(
        lambda rows: en.MultiScaleDenoising(), num_steps=2500, model=all_levels, judged=its_flow, spacing=COARSEST
    ),
    "recovery likelihood": by(
        lambda rows: en.DiffusionRecovery(en.RecoveryLangevin(levels=LEVELS[::2], num_steps=10)),
        num_steps=700,
        learning_rate=5e-3,
        batch_size=256,
        model=all_levels,
    ),
    "energy discrepancy": by(lambda rows: en.EnergyDiscrepancy(0.5, num_samples=16), num_steps=1500, batch_size=256),
    "noise contrast, Gaussian": by(
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows), ratio=4), num_steps=1500
    ),
    "noise contrast, mixture": by(
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows, kind="mixture"), ratio=4), num_steps=1500
    ),
    # Where noise is scarce, waves make peaks: Gaussian noise as narrow as the data left 23 nats of them on the spirals.
    "noise contrast, Fourier features": by(
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows, widen=1.5), ratio=4),
        num_steps=1500,
        model=of_waves,
    ),
    "noise contrast, self-normalised": by(
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows), ratio=4, self_normalised=True), num_steps=1500
    ),
    # Its weights have no bound.
    "noise contrast, exponential loss": by(
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows), ratio=4, loss=en.Power(-0.5)),
        num_steps=1500,
        gradient_clip=5.0,
    ),
    "ranking noise contrast": by(
        lambda rows: en.RankingNCE(en.fitted_noise(en.Real(2), rows), ratio=4), num_steps=1500
    ),
    "conditional noise contrast": by(lambda rows: en.ConditionalNCE(), num_steps=2000),
    # Four updates of the energy for one of the flow: at every update, as many seconds leave .33 nats on the pinwheel.
    "flow contrast": by(lambda rows: en.FlowContrast(fitted_flow(rows), turns=(4, 1)), num_steps=900, batch_size=256),
    "adversarial noise contrast": by(
        lambda rows: en.AdversarialNCE(fitted_flow(rows), en.fitted_noise(en.Real(2), rows), turns=(4, 1)),
        num_steps=1000,
    ),
    "adversarial likelihood": by(
        lambda rows: en.AdversarialLikelihood(fitted_flow(rows)),
        num_steps=700,
        learning_rate=2e-3,
        betas=(0.0, 0.9),
    ),
    "energy matching": by(
        lambda rows: en.EnergyMatching(en.ContrastiveDivergence(MALA, 10), until=0.5, weight=10.0, warmup=100),
        num_steps=600,
        learning_rate=5e-3,
        batch_size=256,
    ),
    "kernel Stein": by(lambda rows: en.KernelStein(), num_steps=3000, batch_size=256),
    "learned Stein": by(lambda rows: en.LearnedStein(en.MLP(2, 2)), num_steps=1500, learning_rate=2e-3),
    "neural spline flow": spline_flow,
    "kernel density": kernel_density,
}
