"""Sets of labels with a structured prediction energy network (SPEN), against independent logistic regressions.

    python -m benchmarks.spen [--quick] [--json FILE]

The pictures are made of scikit-learn's digits: one to four digits that follow each other (0 after 9) are laid over
each other, the brightest pixel wins, and the ten labels say which are there. So labels hang together, and what is hard
to see can be told from what else is there. Training pictures are made of rows 0 to 999 of the digits, validation ones
of 1000 to 1349, test ones of the rest (other writers): 3000, 1000 and 2000 of them. scikit-learn's yeast (real genes,
14 labels) is taken too where it lies in its cache.

E(x, y) = -b(x) . y + g(y), with b a network of one hidden layer and g another; "independent network" has g = 0. All
say that a label is there from one half on. Learning rates and numbers of updates are the same for all of the energies;
the weights are those of the validation with the most exact matches.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import fetch_openml, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multioutput import MultiOutputClassifier
from torch import Tensor, nn

import energeia as en
from benchmarks.harness import Row, progress, run

WIDTH = 128


class Split(NamedTuple):
    """Rows x `[N, D]` and labels `[N, L]`, 0 or 1."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def overlaid(rows: slice, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures of digits that follow each other, laid over each other."""
    digits, classes = (torch.tensor(part[rows]) for part in load_digits(return_X_y=True))
    of_class = [digits[classes == k].float() / 16 for k in range(10)]
    first = torch.randint(10, (number,), generator=generator)
    length = torch.randint(1, 5, (number,), generator=generator)
    x, y = torch.zeros(number, 64), torch.zeros(number, 10)
    for row in range(number):
        for step in range(int(length[row])):
            k = int(first[row] + step) % 10
            one = of_class[k][int(torch.randint(len(of_class[k]), (1,), generator=generator))]
            x[row], y[row, k] = torch.maximum(x[row], one), 1.0
    return x, y


def digit_sets(seed: int, quick: bool) -> Split:
    generator = torch.Generator().manual_seed(seed)
    scale = 10 if quick else 1
    parts = (slice(1000), slice(1000, 1350), slice(1350, None))
    return Split(*(overlaid(rows, n // scale, generator) for rows, n in zip(parts, (3000, 1000, 2000), strict=True)))


def yeast(seed: int) -> Split:
    data: Any = fetch_openml("yeast", version=4, as_frame=False, parser="liac-arff", n_retries=0)
    order = torch.randperm(len(data.data), generator=torch.Generator().manual_seed(seed))
    x = torch.tensor(np.asarray(data.data, dtype=np.float32))[order]
    y = torch.tensor((np.asarray(data.target) == "TRUE").astype(np.float32))[order]
    first, second = int(0.6 * len(x)), int(0.75 * len(x))
    x = (x - x[:first].mean(0)) / x[:first].std(0)
    return Split(*((x[part], y[part]) for part in (slice(first), slice(first, second), slice(second, None))))


class Network(nn.Module):
    """E = -b . y + g(y) of b = b(x)."""

    def __init__(self, num_labels: int, joint: bool) -> None:
        super().__init__()
        self.joint = en.MLP(num_labels, widths=(32,), activation="softplus") if joint else None

    def forward(self, b: Tensor, y: Tensor) -> Tensor:
        local = -(b * y).sum(1)
        return local if self.joint is None else local + self.joint(y).squeeze(1)


Answers = Callable[[en.Energy, Tensor], Tensor]


def listed(energy: en.Energy, x: Tensor) -> Tensor:
    return en.predict(energy, x, en.Enumeration()).answers


def descended(energy: en.Energy, x: Tensor) -> Tensor:
    return en.predict(energy, x, en.Descent(num_steps=60, num_starts=5)).answers


class Way(NamedTuple):
    """How a SPEN is trained, and how its answers are found."""

    relaxed: bool
    joint: bool
    make: Callable[[], en.Objective]
    answers: Callable[[en.Objective], Answers]


def distance(answers: Tensor, right: Tensor) -> Tensor:
    """The hamming cost, of relaxed answers too."""
    return (answers - right).abs().sum(1)


def unrolled() -> en.Unrolled:
    return en.Unrolled("cross entropy", num_steps=10, step_size=0.3, mirror=True, learn_step=True)


def hinge() -> en.StructuredHinge:
    return en.StructuredHinge(distance, search=en.Descent(num_steps=15, num_starts=2))


def unrolled_answers(objective: en.Objective) -> Answers:
    assert isinstance(objective, en.Unrolled)
    return objective.answers


WAYS = {
    "independent network": Way(False, False, en.ConditionalLikelihood, lambda _: listed),
    "SPEN, likelihood by enumeration": Way(False, True, en.ConditionalLikelihood, lambda _: listed),
    "SPEN, unrolled": Way(True, True, unrolled, unrolled_answers),
    "SPEN, structured hinge on relaxed labels": Way(True, True, hinge, lambda _: descended),
}


def trained(way: Way, split: Split, seed: int, num_rounds: int, num_steps: int) -> Tensor:
    """Labels of the test rows."""
    x, y = split.train
    torch.manual_seed(seed)
    features = en.MLP(x.shape[1], y.shape[1], widths=(WIDTH,))
    space: en.Space = en.Box(y.shape[1], 0.0, 1.0) if way.relaxed else en.Binary(y.shape[1])
    energy = en.from_pair(Network(y.shape[1], way.joint), en.Real(x.shape[1]), space, features=features)
    objective = way.make()
    answers = way.answers(objective)
    best, found = -1.0, torch.zeros_like(split.test[1])
    for number in range(num_rounds):
        rate = 3e-3 * (1 - number / num_rounds)
        en.fit(
            energy,
            objective,
            split.train,
            num_steps=num_steps,
            batch_size=64,
            optimizer=functools.partial(torch.optim.AdamW, lr=rate, weight_decay=1e-2),
            gradient_clip=10.0,
            seed=100 * seed + number,
            progress=False,
        )
        right = ((answers(energy, split.validation[0]) > 0.5) == split.validation[1]).all(1).float().mean()
        if float(right) > best:
            best, found = float(right), (answers(energy, split.test[0]) > 0.5).float()
    return found


def logistic(split: Split) -> Tensor:
    """A logistic regression for each label; its penalty is the one with the most exact matches in validation."""
    best, found = -1.0, torch.zeros_like(split.test[1])
    for strength in (0.1, 1.0, 10.0, 100.0):
        model = MultiOutputClassifier(LogisticRegression(C=strength, max_iter=2000))
        model.fit(*(part.numpy() for part in split.train))
        right = float((model.predict(split.validation[0].numpy()) == split.validation[1].numpy()).all(1).mean())
        if right > best:
            best, found = right, torch.tensor(model.predict(split.test[0].numpy()))
    return found


def figures(work: str, who: str, found: Tensor, right: Tensor, seconds: float, seed: int) -> list[Row]:
    a, b = right.numpy(), found.numpy()
    exact = float((a == b).all(1).mean())
    score: Any = f1_score
    samples, macro = (score(a, b, average=kind, zero_division=0) for kind in ("samples", "macro"))
    progress(f"{work}, seed {seed}: {who}: F1 {samples:.3f} {macro:.3f}, exact {exact:.3f}, {seconds:.0f} s")
    return [
        Row(f"{work}: F1, mean over rows", who, 100 * float(samples), "%", seed),
        Row(f"{work}: F1, mean over labels", who, 100 * float(macro), "%", seed),
        Row(f"{work}: exact match", who, 100 * exact, "%", seed),
        Row(f"{work}: training, processor", who, seconds, "s", seed),
    ]


def rows(quick: bool) -> list[Row]:
    works: dict[str, Callable[[int], Split]] = {"sets of digits": lambda seed: digit_sets(seed, quick)}
    try:
        yeast(0)
    except (OSError, ValueError):
        progress("yeast: left out, it is not among scikit-learn's files here and there is no network to OpenML")
    else:
        works["yeast"] = yeast
    found: list[Row] = []
    num_rounds, num_steps = (2, 20) if quick else (6, 150)
    for work, make in works.items():
        for seed in range(1 if quick else 3):
            split = make(seed)
            began = time.process_time()
            labels = logistic(split)
            seconds = time.process_time() - began
            found += figures(work, "logistic regressions", labels, split.test[1], seconds, seed)
            for who, way in WAYS.items():
                began = time.process_time()
                labels = trained(way, split, seed, num_rounds, num_steps)
                found += figures(work, who, labels, split.test[1], time.process_time() - began, seed)
    return found


if __name__ == "__main__":
    run("spen", rows)
