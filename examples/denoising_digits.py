"""Digits from noise, one energy for many noise levels: python examples/denoising_digits.py [FILE].

Trained by denoising alone, without chains. The last picture of the film is what the energy says lies behind the noise
that the last level leaves.
"""

import functools
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import energeia as en
from energeia.data import Digits
from energeia.stats.samples import classifier_test, mmd

splits = Digits().splits()
assert splits.validation is not None
assert splits.test is not None
x = torch.cat([splits.train.x, splits.validation.x]).flatten(1)
test = splits.test.x.flatten(1)


def ladder(number: int) -> tuple[float, ...]:
    return tuple(6 * (0.08 / 6) ** (k / (number - 1)) for k in range(number))


torch.manual_seed(0)
network = en.LevelMLP(64, widths=(256, 256, 256))
energy = en.NoiseConditional(network, en.Real(64, start_scale=6.1), levels=ladder(12), scale=0.9)
result = en.fit(
    energy,
    en.MultiScaleDenoising(),
    x,
    num_steps=3000,
    batch_size=128,
    optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
    scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000),
    average_decay=0.995,
)
sampler = en.ReverseDiffusion(ladder(101))
draws = en.sample(energy, sampler, num_chains=len(test), num_steps=100, keep="all", thin=20)
clean = (draws.x + ladder(2)[-1] ** 2 * en.score(energy, draws.x)).clamp(-1, 1)
for name, samples in (("draws", draws.x), ("without their last noise", clean), ("training digits", x[: len(test)])):
    told = 100 * classifier_test(samples, test)
    print(f"{name}: MMD^2 to test digits {float(mmd(samples, test)):.4f}, told apart by a classifier {told:.0f} %")

film = torch.cat([draws.kept[:, :8], clean[None, :8]])
figure = Figure(figsize=(9, 4.2), layout="constrained")
for ax, (name, rows, columns) in zip(
    figure.subplots(1, 3),
    (("test digits", test[:80], 10), ("from noise", clean[:80], 10), ("on their way", film.transpose(0, 1), len(film))),
    strict=True,
):
    tiles = rows.reshape(-1, columns, 8, 8)
    framed = torch.nn.functional.pad(tiles, (0, 1, 0, 1), value=-0.4)
    ax.imshow(framed.permute(0, 2, 1, 3).reshape(len(tiles) * 9, columns * 9), cmap="gray_r", vmin=-1, vmax=1)
    ax.set_title(name)
    ax.set_axis_off()
path = Path(sys.argv[1] if len(sys.argv) > 1 else "denoising-digits.png")
figure.savefig(path, dpi=120)
print(path)
