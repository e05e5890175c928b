"""The objectives that torchebm and ebmkit have as well, on the planes: the same network, rows, optimizer and judge.

Runs where the other libraries are installed (`make bench`). Half the updates of the first rung. Steps, numbers of
chains and of draws are the same in all; whatever else a library sets by itself is left as it comes: torchebm adds a
thousandth of the squared energies to contrastive divergence and takes the first form of sliced score matching, and
ebmkit begins its chains at normal noise, not at the data, and log Z at 0. Rows of their own tell what ours make of the
penalty, of that form and of that log Z.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

import energeia as en
from benchmarks.objectives import plane
from benchmarks.objectives.methods import LANGEVIN, SLOW, Trainer, by

CASES = plane.CASES
# The others' Langevin moves by s dE/dx and the root of 2 s, ours by half of that.
_STEP = LANGEVIN.step_size / 2
_NUM_CHAINS, NOISE = 512, 0.05


class _Settings(TypedDict, total=False):
    """Those of `by` that an objective has, whoever wrote it."""

    num_steps: int
    learning_rate: float
    betas: tuple[float, float]
    batch_size: int
    gradient_clip: float | None


_SETTINGS: dict[str, _Settings] = {
    "score matching": {"num_steps": 500, "gradient_clip": 10.0},
    "sliced score matching": {"num_steps": 700, "gradient_clip": 10.0},
    "denoising, noise of .05": {"num_steps": 1250, "gradient_clip": 10.0},
    "CD-10": {"num_steps": 400},
    "PCD-5": {"num_steps": 600, **SLOW},
    "noise contrast": {"num_steps": 750},
    "energy discrepancy": {"num_steps": 750, "batch_size": 256},
}


class Torchebm(en.Objective):
    """A loss of torchebm, which is made around a model; it draws from the generator of torch."""

    def __init__(self, make: Callable[[Any, nn.Module], Any]) -> None:
        super().__init__()
        self._make = make
        # In a list, so that the model's parameters are not counted as the objective's too.
        self._made: list[Any] = []

    def forward(self, energy: en.Energy, batch: en.Batch, generator: torch.Generator) -> en.Loss:
        if not self._made:
            self._made.append(self._make(importlib.import_module("torchebm.losses"), _wrapped(energy)))
        told = self._made[0](batch.x)
        value = told[0] if isinstance(told, tuple) else told
        return en.Loss(value, {"loss": value.detach()})


def _wrapped(energy: en.Energy) -> nn.Module:
    """The energy as torchebm's samplers want it."""
    base: Any = importlib.import_module("torchebm.core").BaseModel

    class Wrapped(base):
        def __init__(self) -> None:
            super().__init__()
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            return self.energy(x)

    return Wrapped()


def contrastive(losses: Any, model: nn.Module, **chains: Any) -> Any:
    sampler = importlib.import_module("torchebm.samplers").LangevinDynamics(model, step_size=_STEP)
    return losses.ContrastiveDivergence(model, sampler, **chains)


TORCHEBM: dict[str, Callable[[Any, nn.Module], Any]] = {
    "score matching": lambda losses, model: losses.ScoreMatching(model),
    "sliced score matching": lambda losses, model: losses.SlicedScoreMatching(model, n_projections=1),
    "denoising, noise of .05": lambda losses, model: losses.DenoisingScoreMatching(model, noise_scale=NOISE),
    "CD-10": lambda losses, model: contrastive(losses, model, k_steps=10),
    "PCD-5": lambda losses, model: contrastive(losses, model, k_steps=5, persistent=True, buffer_size=_NUM_CHAINS),
}


class Ebmkit(en.Objective):
    """A loss of ebmkit, which takes the energy with every batch; log Z of its noise contrast is trained with it."""

    def __init__(self, made: Callable[..., Any]) -> None:
        super().__init__()
        self.made = made

    def forward(self, energy: en.Energy, batch: en.Batch, generator: torch.Generator) -> en.Loss:
        value = self.made(energy, batch.x).loss
        return en.Loss(value, {"loss": value.detach()})


def _noise_of(rows: Tensor) -> torch.distributions.Distribution:
    """Our Gaussian noise as a distribution of torch."""
    noise: Any = en.fitted_noise(en.Real(2), rows)
    return torch.distributions.MultivariateNormal(noise.mean, scale_tril=noise.factor)


def ebmkit(name: str, rows: Tensor) -> Any:
    """The loss of that name."""
    losses, samplers = (importlib.import_module(f"ebm.{part}") for part in ("losses", "samplers"))
    scores = importlib.import_module("ebm.losses.score_matching")

    def chains(number: int) -> Any:
        return samplers.LangevinDynamics(step_size=_STEP, steps=number)

    def kept() -> Any:
        return importlib.import_module("ebm.buffer").ReplayBuffer(_NUM_CHAINS, (2,))

    made: dict[str, Callable[[], Any]] = {
        "score matching": lambda: scores.ExactScoreMatching(),
        "sliced score matching": lambda: scores.SlicedScoreMatching(1),
        "denoising, noise of .05": lambda: scores.DenoisingScoreMatching(NOISE),
        "CD-10": lambda: losses.ContrastiveDivergence(chains(10)),
        "PCD-5": lambda: losses.ContrastiveDivergence(chains(5), kept()),
        "noise contrast": lambda: losses.NoiseContrastiveEstimation(_noise_of(rows), 4),
        "energy discrepancy": lambda: losses.EnergyDiscrepancy(0.5, 16),
    }
    return made[name]()


_OURS: dict[str, Callable[[Tensor], en.Objective]] = {
    "score matching": lambda rows: en.ScoreMatching(),
    "sliced score matching": lambda rows: en.SlicedScoreMatching(),
    "denoising, noise of .05": lambda rows: en.DenoisingScoreMatching(noise_scale=NOISE),
    "CD-10": lambda rows: en.ContrastiveDivergence(LANGEVIN, 10),
    "PCD-5": lambda rows: en.PersistentCD(LANGEVIN, 5, num_chains=_NUM_CHAINS),
    "noise contrast": lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows), ratio=4),
    "energy discrepancy": lambda rows: en.EnergyDiscrepancy(0.5, num_samples=16),
}


class Settled(en.Objective):
    """Contrastive divergence with torchebm's penalty on squared energies, which settles their constant."""

    def __init__(self) -> None:
        super().__init__()
        self.contrastive = en.ContrastiveDivergence(LANGEVIN, 10)

    def forward(self, energy: en.Energy, batch: en.Batch, generator: torch.Generator) -> en.Loss:
        negatives, info = self.contrastive.negatives(energy, batch, generator)
        loss = self.contrastive.compare(energy, batch.x, negatives, info)
        # Twice the mean over both is the sum of the means.
        squares = energy(torch.cat([batch.x, negatives])).square().mean()
        return loss._replace(value=loss.value + 2e-3 * squares)


# Ours with what another sets by itself; each stands behind the objective it belongs to.
_OURS_AS_THEIRS: dict[str, tuple[str, Callable[[Tensor], en.Objective]]] = {
    "sliced score matching": (
        "sliced score matching, first form",
        lambda rows: en.SlicedScoreMatching(reduce_variance=False),
    ),
    "CD-10": ("CD-10, squared energies", lambda rows: Settled()),
    "noise contrast": (
        "noise contrast, log Z from 0",
        lambda rows: en.NoiseContrast(en.fitted_noise(en.Real(2), rows), ratio=4, log_z=0.0),
    ),
}


def _all() -> dict[str, Trainer]:
    found: dict[str, Trainer] = {}
    for name, settings in _SETTINGS.items():
        # Our denoising loss is theirs times the squared noise, and gradients are clipped alike.
        clip = 10.0 * NOISE**2 if name.startswith("denoising") else settings.get("gradient_clip")
        found[f"{name}: Energeia"] = by(_OURS[name], **{**settings, "gradient_clip": clip})
        if name in _OURS_AS_THEIRS:
            called, made = _OURS_AS_THEIRS[name]
            found[f"{called}: Energeia"] = by(made, **settings)
        if name in TORCHEBM:
            found[f"{name}: torchebm"] = by(lambda rows, make=TORCHEBM[name]: Torchebm(make), **settings)
        found[f"{name}: ebmkit"] = by(lambda rows, name=name: Ebmkit(ebmkit(name, rows)), **settings)
    return found


METHODS = _all()


def work(name: str) -> str:
    """How the rows of a density are called."""
    return f"peers: {name}"


def cell(name: str, method: str, seed: int, quick: bool) -> plane.Measured:
    """One model of one density."""
    rows, picture = plane.cell(name, method, seed, quick, METHODS)
    return plane.Measured([row._replace(work=work(name)) for row in rows], picture)
