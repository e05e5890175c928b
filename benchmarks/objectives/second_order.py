"""What a second-order term adds to denoising score matching of an energy: python -m benchmarks.objectives.second_order.

Two normals seen through little noise, whose score and Hessian are known. The term (Meng, Song, Song & Ermon 2021,
https://arxiv.org/abs/2111.04726) holds the Hessian H of log p against what the noise z says of it,

    weight / 2 mean |sigma^2 (H v + s s'v) - (z z'v - v)|^2,    v random signs,

one backward pass more, and all of it differentiated. First the variance of the precision of a normal, then a network.
"""

import functools
import time
from collections.abc import Sequence

import torch

import energeia as en
from benchmarks.harness import Row, progress, run
from energeia.core.gradient import score
from energeia.energies import GaussianMixture

MEANS, SHARES, VARIANCE = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([0.3, 0.7]), 0.1


class SecondOrderDenoising(en.Objective):
    """Denoising score matching with the second-order term."""

    def __init__(self, *, noise_scale: float, weight: float) -> None:
        super().__init__()
        self.noise_scale, self.weight = noise_scale, weight

    def forward(self, energy: en.Energy, batch: en.Batch, generator: torch.Generator) -> en.Loss:
        z = torch.randn(batch.x.shape, generator=generator)
        noisy = (batch.x + self.noise_scale * z).requires_grad_(True)
        s = score(energy, noisy, create_graph=True)
        value = (self.noise_scale * s + z).square().sum(1).mean() / 2
        if self.weight:
            v = 2.0 * torch.randint(2, z.shape, generator=generator) - 1
            (curved,) = torch.autograd.grad(s, noisy, v, create_graph=True)
            found = self.noise_scale**2 * (curved + s * (s * v).sum(1, keepdim=True))
            told = z * (z * v).sum(1, keepdim=True) - v
            value = value + self.weight * (found - told).square().sum(1).mean() / 2
        return en.Loss(value, {"loss": value.detach()})


def variance_of_a_precision(noise: float, weight: float, number: int = 2_000_000) -> float:
    """N var(k) / k^2 of E = k x^2 / 2 fitted to N rows of N(0, 1) with one draw of noise each, for large N."""
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, number, generator=generator, dtype=torch.float64)
    k = torch.full((number,), 1 / (1 + noise**2), dtype=torch.float64, requires_grad=True)
    s = -k * (x + noise * z)
    losses = (noise * s + z) ** 2 / 2 + weight * (noise**2 * (s**2 - k) - (z**2 - 1)) ** 2 / 2
    (first,) = torch.autograd.grad(losses.sum(), k, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), k)
    return float(first.detach().square().mean() / second.mean() ** 2 / k[0].detach() ** 2)


def train(noise: float, weight: float, steps: int, seed: int) -> tuple[float, float, float]:
    """Mean squared errors of the score and of the Hessian at draws of the noisy truth, and seconds."""
    rows = GaussianMixture(MEANS, VARIANCE * torch.eye(2).expand(2, 2, 2), SHARES)
    truth = GaussianMixture(MEANS, (VARIANCE + noise**2) * torch.eye(2).expand(2, 2, 2), SHARES)
    torch.manual_seed(seed)
    energy = en.Neural(en.MLP(2, widths=(64, 64)), en.Real(2)) + en.Gaussian(2, scale=2.0)
    began = time.process_time()
    en.fit(
        energy,
        SecondOrderDenoising(noise_scale=noise, weight=weight),
        rows.sample_exact(5000, torch.Generator().manual_seed(seed)),
        num_steps=steps,
        batch_size=256,
        optimizer=functools.partial(torch.optim.Adam, lr=3e-3),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps),
        average_decay=0.99,
        progress=False,
    )
    seconds = time.process_time() - began
    at = truth.sample_exact(2000, torch.Generator().manual_seed(99))

    def hessian(model: en.Energy) -> torch.Tensor:
        one = torch.func.hessian(lambda x: model(x.unsqueeze(0))[0])
        return torch.stack([one(x) for x in at[:500]]).detach()

    slope = (en.score(energy, at) - en.score(truth, at)).square().sum(1).mean()
    curve = (hessian(energy) - hessian(truth)).square().sum((1, 2)).mean()
    return float(slope), float(curve), seconds


def main(quick: bool) -> Sequence[Row]:
    """All of it."""
    rows = [
        Row(f"precision of a normal, noise of {noise}", f"weight {weight}", value, "rows x variance / precision^2", 0)
        for noise in (0.1, 0.3, 1.0)
        for weight in (0.0, 0.1, 1.0)
        for value in (variance_of_a_precision(noise, weight),)
    ]
    for noise in (0.1, 0.3):
        for weight, steps in ((0.0, 2000), (0.1, 2000), (0.0, 3500)):
            for seed in range(1 if quick else 5):
                slope, curve, seconds = train(noise, weight, 30 if quick else steps, seed)
                work, who = f"two normals, noise of {noise}", f"weight {weight}, {steps} steps"
                rows += [
                    Row(work, who, slope, "squared error of the score", seed),
                    Row(work, who, curve, "squared error of the Hessian", seed),
                    Row(work, who, seconds, "s of a core", seed),
                ]
                progress(f"{work}, {who}, seed {seed}: {slope:.4f}, {curve:.3f}, {seconds:.1f} s")
    return rows


if __name__ == "__main__":
    run("objectives.second_order", main)
