"""Noisy binary pictures restored by a grid of labels that is learnt: every search against the exact minimum.

Digits are cut into bits; each pixel is flipped with chance .15, or sees Gaussian noise of standard deviation .75. The
labels y of a grid of 4 neighbours have E(x, y) = -sum_i u_i(x) y_i - sum_(ij) J_ij [y_i = y_j], J > 0 one number along
rows and one along columns; u is a x_i + b (2 numbers), or a small convolutional network of the noisy picture. Learnt by
pseudo-likelihood given x, or by the structured hinge of wrong pixels with minimum cuts. MNIST is read from --mnist and
left out if that file is not there; scikit-learn's 8 by 8 digits are always there. --picture FILE draws some of them.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.rbm import MNIST, bits
from energeia.data.digits import Digits

WRONG, ABOVE, SHARE, SECONDS = (
    "% of pixels wrong",
    "nats above the minimum",
    "% of pictures at the minimum",
    "ms a picture",
)
FLIPS, SPREAD = 0.15, 0.75
# Pictures of MNIST to restore; of the small digits all 447 that are held out.
NUM_TEST = 100


class Task(NamedTuple):
    """Noisy pictures x `[N, H, W]`, zeros and ones but for noise, and the clean bits y."""

    name: str
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


class Pixel(nn.Module):
    """u_i = a x_i + b."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(-1.5))

    def forward(self, x: Tensor) -> Tensor:
        u = self.slope * x + self.offset
        return torch.stack([torch.zeros_like(u), u], -1)


class Convolutional(nn.Module):
    """u of three layers of 16 channels, which see 11 by 11 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.SiLU(),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.SiLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        u = self.layers(x.unsqueeze(1)).squeeze(1)
        return torch.stack([torch.zeros_like(u), u], -1)


SEARCHES: dict[str, en.Search] = {
    "minimum cut (exact)": en.MinimumCut(),
    "iterated modes, 1 start": en.IteratedModes(num_starts=1),
    "iterated modes, 10 starts": en.IteratedModes(),
    "mean field": en.MeanFieldModes(),
    "max-product": en.MaxProduct(),
    "annealing": en.Annealing(en.Gibbs(), num_steps=50, num_temperatures=25, num_starts=1),
    "alpha-expansion": en.AlphaExpansion(),
}


def noisy(y: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """x of the bits y `[N, H, W]`."""
    if kind == "flips":
        return (y - (torch.rand(y.shape, generator=generator) < FLIPS).float()).abs()
    return y + SPREAD * torch.randn(y.shape, generator=generator)


def tasks(seed: int, mnist: Path, quick: bool) -> list[Task]:
    """Training and test pictures of each set and noise."""
    splits = Digits(flat=True).splits()
    assert splits.test is not None
    sets = {"8x8 digits": (splits.train.x, splits.test.x, 8)}
    if mnist.exists():
        train, test = bits(mnist)
        sets["MNIST"] = (2 * train[10_000 * seed :][:2_000] - 1, 2 * test[: 40 if quick else NUM_TEST] - 1, 28)
    else:
        progress(f"{mnist} is not there: MNIST is left out")
    found: list[Task] = []
    for name, (train, test, side) in sets.items():
        for kind in ("flips", "Gaussian") if side == 28 else ("flips",):
            generator = torch.Generator().manual_seed(seed)
            clean = [(x > 0).float().view(-1, side, side) for x in (train, test)]
            x, test_x = (noisy(y, kind, generator) for y in clean)
            found.append(Task(f"{name}, {kind}", x, clean[0].long(), test_x, clean[1].long()))
    return found


def grid(network: nn.Module, side: int, *, joined: bool = True) -> en.PairwiseCRF:
    """Bits on a grid, without joints if not joined."""
    edges, kinds = en.lattice(side, side)
    if not joined:
        edges, kinds = edges[:0], kinds[:0]
    space = en.Real((side, side))
    return en.PairwiseCRF(network, space, 2, sites=(side, side), edges=edges, kinds=kinds, joint="attractive")


def learnt(
    task: Task, seed: int, quick: bool, *, network: str, objective: en.Objective, joined: bool
) -> en.PairwiseCRF:
    """A model of the training pictures."""
    torch.manual_seed(seed)
    crf = grid(Pixel() if network == "pixel" else Convolutional(), task.x.shape[1], joined=joined)
    # A step of the hinge takes a cut for each row.
    cuts = isinstance(objective, en.StructuredHinge)
    num_steps, batch_size = (200, 16) if cuts else (300, 32)
    num_steps = 10 if quick else num_steps
    en.fit(
        crf,
        objective,
        (task.x, task.y),
        num_steps=num_steps,
        batch_size=batch_size,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05 if network == "pixel" else 0.01),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 0.02, num_steps),
        checkpoint_every=10**6,
        progress=False,
        seed=seed,
    )
    return crf.eval()


def models(task: Task, seed: int, quick: bool) -> dict[str, en.PairwiseCRF]:
    """Each kind of model, learnt."""
    pseudo, hinge = en.Conditioned(en.PseudoLikelihood()), en.StructuredHinge(search=en.MinimumCut())
    kinds: dict[str, tuple[str, en.Objective, bool]] = {
        "pixel, pseudo-likelihood": ("pixel", pseudo, True),
        "pixel, hinge": ("pixel", hinge, True),
        "convolutional, alone": ("convolutional", pseudo, False),
        "convolutional, pseudo-likelihood": ("convolutional", pseudo, True),
        "convolutional, hinge": ("convolutional", hinge, True),
    }
    found: dict[str, en.PairwiseCRF] = {}
    for name, (network, objective, joined) in kinds.items():
        started = time.perf_counter()
        found[name] = learnt(task, seed, quick, network=network, objective=objective, joined=joined)
        told = [round(float(each), 2) for each in nn.functional.softplus(found[name].couplings.detach())]
        share = wrong(restored(task, found[name], None, seed)[0], task)
        progress(f"{task.name}, {name}: J {told}, {share:.2f} % wrong, {time.perf_counter() - started:.0f} s")
    return found


def wrong(answers: Tensor, task: Task) -> float:
    """% of test pixels."""
    return 100 * float((answers != task.test_y).double().mean())


def best_threshold(task: Task) -> float:
    """That which leaves the fewest training pixels wrong."""
    tried = torch.linspace(float(task.x.min()), float(task.x.max()), 201)
    errors = [float(((task.x > each).long() != task.y).double().mean()) for each in tried]
    return float(tried[torch.tensor(errors).argmin()])


def baselines(task: Task, seed: int) -> list[Row]:
    answers = {
        "noisy pixel": (task.test_x > 0.5).long(),
        "best threshold": (task.test_x > best_threshold(task)).long(),
    }
    return [Row(f"{task.name}: no model", who, wrong(found, task), WRONG, seed) for who, found in answers.items()]


def restored(task: Task, model: en.PairwiseCRF, search: en.Search | None, seed: int) -> tuple[Tensor, Tensor, float]:
    """Answers, their energies and ms a picture; without a search the modes of loopy sum-product."""
    started = time.perf_counter()
    found = en.predict(
        model, task.test_x, search or en.IteratedModes(num_starts=1), marginals=search is None, generator=seed
    )
    answers = found.answers
    if search is None:
        assert found.marginals is not None
        answers = found.marginals.argmax(-1)
    took = 1e3 * (time.perf_counter() - started) / len(answers)
    with torch.no_grad():
        energies = en.given(model, context=task.test_x)(nn.functional.one_hot(answers, 2).float()).double()
    return answers, energies, took


def measured(task: Task, name: str, model: en.PairwiseCRF, seed: int) -> list[Row]:
    """Every search on one model."""
    work = f"{task.name}: {name}"
    if not len(model.structure.edges):
        return [Row(work, "minimum cut (exact)", wrong(en.predict(model, task.test_x).answers, task), WRONG, seed)]
    found: list[Row] = []
    least = restored(task, model, en.MinimumCut(), seed)[1]
    for who, search in {**SEARCHES, "sum-product modes": None}.items():
        answers, energies, took = restored(task, model, search, seed)
        above = (energies - least).clamp_min(0)
        found += [
            Row(work, who, wrong(answers, task), WRONG, seed),
            Row(work, who, float(above.mean()), ABOVE, seed),
            # Energies are float32 sums of some thousand terms.
            Row(work, who, 100 * float((above < 0.01).double().mean()), SHARE, seed),
            Row(work, who, took, SECONDS, seed),
        ]
    return found


def rows(quick: bool, mnist: Path = MNIST, picture: Path | None = None) -> list[Row]:
    found: list[Row] = []
    for seed in range(1 if quick else 3):
        for task in tasks(seed, mnist, quick):
            found += baselines(task, seed)
            made = models(task, seed, quick)
            for name, model in made.items():
                found += measured(task, name, model, seed)
            if picture is not None and seed == 0 and task.name.endswith("flips"):
                # The larger pictures, where they are there, come last.
                draw(task, made, picture)
    return found


def draw(task: Task, made: dict[str, en.PairwiseCRF], path: Path, *, num: int = 6) -> None:
    """Clean, noisy, and what each search makes of it."""
    pixel, convolutional = made["pixel, hinge"], made["convolutional, hinge"]
    columns: list[tuple[str, Callable[[], Tensor]]] = [
        ("clean", lambda: task.test_y),
        ("noisy", lambda: (task.test_x > 0.5).long()),
        ("iterated modes", lambda: restored(task, pixel, SEARCHES["iterated modes, 1 start"], 0)[0]),
        ("mean field", lambda: restored(task, pixel, SEARCHES["mean field"], 0)[0]),
        ("max-product", lambda: restored(task, pixel, SEARCHES["max-product"], 0)[0]),
        ("annealing", lambda: restored(task, pixel, SEARCHES["annealing"], 0)[0]),
        ("minimum cut", lambda: restored(task, pixel, SEARCHES["minimum cut (exact)"], 0)[0]),
        ("minimum cut,\nconvolutional", lambda: restored(task, convolutional, SEARCHES["minimum cut (exact)"], 0)[0]),
    ]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.25 * len(columns), 1.25 * num + 0.7), layout="constrained")
    axes = figure.subplots(num, len(columns))
    for column, (title, make) in enumerate(columns):
        answers = make()
        told = "" if title == "clean" else f"\n{wrong(answers, task):.1f} % wrong"
        for row in range(num):
            axis = axes[row, column]
            # Black where the label is right, red where it is wrong.
            off, clean = answers[row] != task.test_y[row], answers[row].float()
            colours = torch.stack([1 - clean] * 3, -1)
            colours[off & (answers[row] == 1)] = torch.tensor([0.85, 0.15, 0.1])
            colours[off & (answers[row] == 0)] = torch.tensor([1.0, 0.75, 0.7])
            axis.imshow(colours.numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, column].set_title(title + told, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--mnist", type=Path, default=MNIST)
    own.add_argument("--picture", type=Path)
    options, rest = own.parse_known_args()
    sys.argv[1:] = rest
    run("restoration", lambda quick: rows(quick, options.mnist, options.picture))
