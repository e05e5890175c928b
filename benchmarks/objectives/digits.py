"""The fourth rung: pictures of digits drawn by models that were trained on many noise levels.

scikit-learn's digits, rows 0 to 1349 for training; draws are compared with the other 447, which other people wrote.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row
from benchmarks.objectives.plane import Measured
from energeia.data import Digits
from energeia.report.style import INK, SMALL, new_figure
from energeia.stats.samples import classifier_test, mmd

CASES = ("digits",)
HIGH, LOW, SCALE = 6.0, 0.08, 0.9
SHOWN = 64


# From rows, a seed and whether a few steps will do, to a function that draws so many digits.
Way = Callable[[Tensor, int, bool], Callable[[int], Tensor]]


def work(name: str) -> str:
    """How the rows of a case are called."""
    return f"pictures: {name}"


def _ladder(number: int) -> tuple[float, ...]:
    return tuple(HIGH * (LOW / HIGH) ** (k / (number - 1)) for k in range(number))


def _fit(energy: en.Energy, objective: en.Objective, rows: Tensor, seed: int, steps: int, rate: float) -> None:
    en.fit(
        energy,
        objective,
        rows,
        num_steps=steps,
        batch_size=128,
        optimizer=functools.partial(torch.optim.Adam, lr=rate),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        average_decay=0.995,
        log_every=max(1, steps // 10),
        seed=seed,
        progress=False,
    )


def _cleaned(energy: en.Energy, x: Tensor) -> Tensor:
    """The digit to be expected behind the noise of the last level."""
    return (x + LOW**2 * en.score(energy, x)).clamp(-1, 1)


def _denoised(rows: Tensor, seed: int, quick: bool, *, score: bool, kind: str) -> Callable[[int], Tensor]:
    torch.manual_seed(seed)
    space, levels = en.Real(64, start_scale=(HIGH**2 + SCALE**2) ** 0.5), _ladder(12)
    network = en.LevelMLP(64, 64 if score else 1, widths=(256, 256, 256))
    made = en.NoiseConditionalScore if score else en.NoiseConditional
    energy = made(network, space, levels=levels, scale=SCALE)
    _fit(energy, en.MultiScaleDenoising(), rows, seed, 30 if quick else 3000, 1e-3)
    sampler = en.ReverseDiffusion(_ladder(101), kind=kind)  # type: ignore[arg-type]

    def draw(number: int) -> Tensor:
        draws = en.sample(energy, sampler, num_chains=number, num_steps=100, generator=seed, progress=False)
        return _cleaned(energy, draws.x)

    return draw


def _recovered(rows: Tensor, seed: int, quick: bool) -> Callable[[int], Tensor]:
    torch.manual_seed(seed)
    space, levels = en.Real(64, start_scale=(HIGH**2 + SCALE**2) ** 0.5), _ladder(8)
    energy = en.NoiseConditional(en.LevelMLP(64, widths=(256, 256, 256)), space, levels=levels, scale=SCALE)
    sampler = en.RecoveryLangevin(levels, num_steps=15, step_size=1.0)
    _fit(energy, en.DiffusionRecovery(sampler), rows, seed, 30 if quick else 1500, 1e-3)

    def draw(number: int) -> Tensor:
        steps = (len(levels) - 1) * sampler.num_steps
        draws = en.sample(energy, sampler, num_chains=number, num_steps=steps, generator=seed, progress=False)
        return _cleaned(energy, draws.x)

    return draw


def _by_flow(rows: Tensor, seed: int, quick: bool) -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Grey levels lie 1/8 apart: without noise a flow would put infinite density on them.
    noisy = rows + (torch.rand(rows.shape, generator=generator) - 0.5) / 8
    torch.manual_seed(seed)
    flow = en.Flow.spline(en.Real(64), x=noisy, widths=(128, 128))
    _fit(flow, en.ExactLikelihood(), noisy, seed, 30 if quick else 1000, 1e-3)
    return lambda number: flow.sample_exact(number, torch.Generator().manual_seed(seed)).clamp(-1, 1).detach()


METHODS: dict[str, Way] = {
    "training digits": lambda rows, seed, quick: lambda number: rows[:number],
    "multi-scale denoising": functools.partial(_denoised, score=False, kind="sde"),
    "multi-scale denoising, ordinary equation": functools.partial(_denoised, score=False, kind="ode"),
    "multi-scale denoising, score network": functools.partial(_denoised, score=True, kind="sde"),
    "recovery likelihood": _recovered,
    "neural spline flow": _by_flow,
}


def cell(name: str, method: str, seed: int, quick: bool) -> Measured:
    """One model: trained, sampled, and its draws held against digits it has not seen."""
    splits = Digits().splits()
    assert splits.validation is not None
    assert splits.test is not None
    rows = torch.cat([splits.train.x, splits.validation.x]).flatten(1)
    test = splits.test.x.flatten(1)
    began = time.process_time()
    draw = METHODS[method](rows, seed, quick)
    seconds = time.process_time() - began
    began = time.process_time()
    draws = draw(len(test))
    numbers = {
        "MMD^2 to test digits": float(mmd(draws, test)),
        "told from test digits by a classifier (%)": 100 * classifier_test(draws, test),
        "seconds of a core": seconds,
        "seconds for 447 draws": time.process_time() - began,
    }
    return Measured([Row(work(name), method, value, unit, seed) for unit, value in numbers.items()], draws[:SHOWN])


def draw_all(pictures: dict[tuple[str, str], Tensor], path: Path) -> None:
    """The draws of every method side by side."""
    figure = new_figure(2.2, width=2.0 * len(pictures))
    for axes, ((_, method), draws) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        tiles = torch.nn.functional.pad(draws.view(8, 8, 8, 8).float(), (0, 1, 0, 1), value=-0.4)
        shown = tiles.permute(0, 2, 1, 3).reshape(72, 72)
        axes.imshow(shown.numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(method.replace(", ", "\n"), fontsize=SMALL, color=INK)
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
