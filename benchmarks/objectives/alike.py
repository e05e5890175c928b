"""Whether an objective of another library is the same as ours: its gradient on the same rows and noise.

python -m benchmarks.objectives.alike [--quick] [--json FILE]

All draw from torch's own generator, begun with the seed. Directions of sliced score matching are normal ones here:
signs, which ours and torchebm's take on the planes, are drawn in two ways. Ours is scaled as the other is (denoising by
1 / noise^2). What is left is rounding, or a difference. Runs where the other libraries are installed.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, run
from benchmarks.objectives import plane
from benchmarks.objectives.methods import LANGEVIN, network
from benchmarks.objectives.others import NOISE, TORCHEBM, Ebmkit, Settled, Torchebm, contrastive, ebmkit

Pair = tuple[en.Objective, en.Objective, float]


def pairs(rows: Tensor) -> dict[str, Pair]:
    """Ours, the other, and what ours is to be multiplied by."""

    def gaussian(losses: Any, model: Any) -> Any:
        return losses.SlicedScoreMatching(model, n_projections=1, projection_type="gaussian")

    def plain(losses: Any, model: Any) -> Any:
        return contrastive(losses, model, k_steps=10, energy_reg_weight=0.0)

    def of_torchebm(name: str) -> en.Objective:
        return Torchebm(TORCHEBM[name])

    def of_ebmkit(name: str) -> en.Objective:
        return Ebmkit(ebmkit(name, rows))

    denoising = en.DenoisingScoreMatching(noise_scale=NOISE)
    sliced = en.SlicedScoreMatching(directions="gaussian")
    first = en.SlicedScoreMatching(directions="gaussian", reduce_variance=False)
    chains = en.ContrastiveDivergence(LANGEVIN, 10)
    noise = en.fitted_noise(en.Real(2), rows)
    return {
        "score matching: torchebm": (en.ScoreMatching(), of_torchebm("score matching"), 1.0),
        "score matching: ebmkit": (en.ScoreMatching(), of_ebmkit("score matching"), 1.0),
        "sliced score matching, first form: torchebm": (first, Torchebm(gaussian), 1.0),
        "sliced score matching: torchebm": (sliced, Torchebm(gaussian), 1.0),
        "sliced score matching: ebmkit": (sliced, of_ebmkit("sliced score matching"), 1.0),
        "denoising: torchebm": (denoising, of_torchebm("denoising, noise of .05"), NOISE**-2),
        "denoising: ebmkit": (denoising, of_ebmkit("denoising, noise of .05"), NOISE**-2),
        "CD-10: torchebm": (chains, of_torchebm("CD-10"), 1.0),
        "CD-10, squared energies: torchebm": (Settled(), of_torchebm("CD-10"), 1.0),
        "CD-10, its penalty off: torchebm": (chains, Torchebm(plain), 1.0),
        "noise contrast, log Z from 0: ebmkit": (
            en.NoiseContrast(noise, ratio=4, log_z=0.0),
            of_ebmkit("noise contrast"),
            1.0,
        ),
        "energy discrepancy: ebmkit": (
            en.EnergyDiscrepancy(0.5, num_samples=16),
            of_ebmkit("energy discrepancy"),
            1.0,
        ),
    }


def gradient(objective: en.Objective, energy: en.Energy, x: Tensor, seed: int) -> Tensor:
    """Of the loss by the energy's parameters, one after the other."""
    torch.manual_seed(seed)
    value = objective(energy, en.Batch(x), torch.default_generator).value
    found = torch.autograd.grad(value, list(energy.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def main(quick: bool) -> Sequence[Row]:
    """At networks as they come, and after some updates of noise contrast."""
    told: list[Row] = []
    for name in ("mixture",) if quick else ("mixture", "rings"):
        rows, _ = plane.data(name, 0)
        torch.manual_seed(0)
        energy = network(rows)
        contrast = en.NoiseContrast(en.fitted_noise(en.Real(2), rows))
        en.fit(energy, contrast, rows, num_steps=30 if quick else 300, batch_size=512, progress=False)
        for who, (ours, other, scale) in pairs(rows).items():
            one, two = (gradient(objective, copy.deepcopy(energy), rows[:512], 1) for objective in (ours, other))
            value = float((scale * one - two).norm() / two.norm())
            told.append(Row(f"alike: {name}", who, value, "relative difference of gradients", 0))
    return told


if __name__ == "__main__":
    run("objectives.alike", main)
