"""Machines with other hidden units, on data that says what they are for: subspace, gated, spike-and-slab, documents.

All data are made here or come with scikit-learn; nothing is downloaded.
"""

import math
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run


def _train(
    energy: en.Energy, objective: en.Objective, x: Tensor, num_steps: int, rate: float, seed: int, decay: float = 0.99
) -> None:
    """Adam, the learning rate falling to a hundredth, averaged weights."""
    en.fit(
        energy,
        objective,
        x,
        num_steps=num_steps,
        batch_size=100,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-2, num_steps),
        average_decay=decay,
        checkpoint_every=10**6,
        progress=False,
        seed=seed,
    )


def subspace(seed: int, quick: bool) -> list[Row]:
    """Digits as bits: gates with subspace units and a plain machine of as many weights."""
    work = "digits as bits, 4,000 updates"
    levels, _ = load_digits(return_X_y=True)
    pixels = torch.as_tensor(levels >= 8).float()
    # Those that ever vary in the rows for training.
    pixels = pixels[:, pixels[:1350].std(0) > 0]
    size = pixels.shape[1]
    x, test = pixels[:1350], pixels[1350:]
    machines: dict[str, Callable[[], en.SubspaceRBM | en.RBM]] = {
        "SubspaceRBM, 10 gates of 4 units": lambda: en.SubspaceRBM(size, 10, 4, mean=x.mean(0), weight_scale=0.05),
        "RBM, 40 hidden bits": lambda: en.RBM(size, 40, mean=x.mean(0)),
    }
    rows: list[Row] = []
    for who, make in machines.items():
        progress(f"seed {seed}: {work}, {who}")
        torch.manual_seed(seed)
        machine = make()
        objective = en.PersistentCD(en.BlockGibbs(), 1, num_chains=100)
        _train(machine, objective, x, 400 if quick else 4000, 5e-3, seed)
        found = en.log_likelihood(machine, test, levels=200 if quick else 2000, generator=seed)
        rows += [
            Row(work, f"{who}: test log-likelihood, lower end", found.low, "nats", seed),
            Row(work, f"{who}: test log-likelihood, upper end", found.high, "nats", seed),
        ]
    return rows


SIDE = 8


def _shifted(x: Tensor, kind: Tensor) -> Tensor:
    """Each picture moved by (kind // 3 - 1, kind % 3 - 1) around the border."""
    pictures = x.view(-1, SIDE, SIDE)
    moved = [p.roll((k // 3 - 1, k % 3 - 1), (0, 1)) for p, k in zip(pictures, kind.tolist(), strict=True)]
    return torch.stack(moved).flatten(1)


def gated(seed: int, quick: bool) -> list[Row]:
    """Random dots of 8 by 8 spins, moved by one of nine shifts that nobody names in training."""
    work = f"random dots {SIDE} x {SIDE}, nine shifts, 4,000 updates"
    progress(f"seed {seed}: {work}")
    generator = torch.Generator().manual_seed(seed)
    space, size = en.Spin(SIDE * SIDE), SIDE * SIDE
    x, other = space.start(12_000, generator), space.start(2000, generator)
    kind = torch.randint(9, (12_000,), generator=generator)
    pairs = torch.stack([x, _shifted(x, kind)], 1)
    train, test, named = pairs[:10_000], pairs[10_000:], kind[10_000:]
    torch.manual_seed(seed)
    machine = en.GatedRBM(space, num_factors=200, num_hidden=40)
    objective = en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1))
    _train(machine, objective, train, 400 if quick else 4000, 3e-3, seed)
    h, held = machine.transform(train), machine.transform(test)
    centres = torch.stack([h[kind[:10_000] == k].mean(0) for k in range(9)])
    right = (torch.cdist(held, centres).argmin(1) == named).float().mean()
    moved = (machine.analogy(test, other).sign() == _shifted(other, named)).float().mean()
    start = en.GatedRBM(space, num_factors=200, num_hidden=40)
    h, held = start.transform(train), start.transform(test)
    centres = torch.stack([h[kind[:10_000] == k].mean(0) for k in range(9)])
    before = (torch.cdist(held, centres).argmin(1) == named).float().mean()
    return [
        Row(work, "shift named by the nearest of nine mean h, held-out pairs", 100 * float(right), "%", seed),
        Row(work, "the same before training", 100 * float(before), "%", seed),
        Row(work, f"spins right of {size} when the shift is applied to other dots", 100 * float(moved), "%", seed),
    ]


def _crossed(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two Gaussians of mean 0, long in different directions: rows, and their exact log density."""
    covariances = torch.tensor([[[4.0, 0.0], [0.0, 0.25]], [[1.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
    which = torch.randint(2, (number,), generator=generator)
    noise = torch.randn(number, 2, 1, generator=generator, dtype=torch.float64)
    x = (torch.linalg.cholesky(covariances)[which] @ noise).squeeze(2)
    parts = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariances)
    return x.float(), parts.log_prob(x.unsqueeze(1)).logsumexp(1) - math.log(2)


def spike_and_slab(seed: int, quick: bool) -> list[Row]:
    """Rows that differ in how two numbers vary together, and not in their mean."""
    work = "two crossed Gaussians of mean 0, 4,000 updates"
    generator = torch.Generator().manual_seed(seed)
    (x, _), (test, log_density) = _crossed(20_000, generator), _crossed(20_000, generator)
    variance = torch.full((2,), 0.15)
    machines: dict[str, Callable[[], en.SpikeAndSlabRBM | en.RBM]] = {
        "SpikeAndSlabRBM, 4 spikes": lambda: en.SpikeAndSlabRBM(
            2, 4, variance=variance, weight_scale=0.5, hidden_bias=-1.0
        ),
        "RBM of real x, 4 hidden bits": lambda: en.RBM(en.Real(2), 4, variance=variance, weight_scale=0.5),
    }
    rows: list[Row] = []
    for who, make in machines.items():
        progress(f"seed {seed}: {work}, {who}")
        torch.manual_seed(seed)
        machine = make()
        objective = en.PersistentCD(en.BlockGibbs(), 2, num_chains=400)
        _train(machine, objective, x, 400 if quick else 4000, 1e-2, seed)
        rows.append(
            Row(work, f"{who}: test log-likelihood, exact", en.log_likelihood(machine, test).mean, "nats", seed)
        )
    normal = torch.distributions.MultivariateNormal(x.double().mean(0), x.double().T.cov())
    return [
        *rows,
        Row(work, "one Gaussian: test log-likelihood", float(normal.log_prob(test.double()).mean()), "nats", seed),
        Row(work, "the truth: test log-likelihood", float(log_density.mean()), "nats", seed),
    ]


VOCABULARY, SUBJECTS, STYLES = 100, 5, 3


def _documents(number: int, tables: Tensor, generator: torch.Generator) -> Tensor:
    """Counts of documents of 10 to 40 words; each has a subject and a style, whose effects on words multiply."""
    lengths = torch.randint(10, 41, (number,), generator=generator)
    kind = torch.randint(len(tables), (number,), generator=generator)
    words = torch.multinomial(tables.softmax(1)[kind], 40, replacement=True, generator=generator)
    present = torch.arange(40) < lengths.unsqueeze(1)
    return torch.zeros(number, VOCABULARY).scatter_add_(1, words, present.float())


def documents(seed: int, quick: bool) -> list[Row]:
    """Held-out perplexity a word: exact, as 10 hidden bits can be listed for every length."""
    work = "documents of 10 to 40 words out of 100, 4,000 updates"
    progress(f"seed {seed}: {work}")
    generator = torch.Generator().manual_seed(seed)
    common, subjects, styles = (torch.randn(n, VOCABULARY, generator=generator) for n in (1, SUBJECTS, STYLES))
    tables = (common + subjects.unsqueeze(1) + styles).flatten(0, 1)
    x, test = _documents(10_000, tables, generator), _documents(2000, tables, generator)
    torch.manual_seed(seed)
    space = en.Counts(VOCABULARY, 40, least=10)
    machine = en.ReplicatedSoftmax(space, 10, frequencies=x.mean(0), weight_scale=0.05)
    objective = en.ContrastiveDivergence(en.BlockGibbs(), 5)
    _train(machine, objective, x, 400 if quick else 4000, 5e-3, seed)
    length = test.sum(1).double()
    frequencies = (x.sum(0).double() + 0.01) / (x.sum().double() + 0.01 * VOCABULARY)
    log_probabilities = {
        "ReplicatedSoftmax, 10 hidden bits": machine.log_probability(test),
        "one set of word frequencies (unigram)": test.double() @ frequencies.log(),
        "the truth, a mixture of 15 kinds": (test.double() @ tables.double().log_softmax(1).T).logsumexp(1)
        - math.log(len(tables)),
    }
    return [
        Row(work, f"{who}: test perplexity", float((-log_p / length).mean().exp()), "a word", seed)
        for who, log_p in log_probabilities.items()
    ]


def rows(quick: bool) -> list[Row]:
    found: list[Row] = []
    for part in (documents, spike_and_slab, gated, subspace):
        found += part(0, quick)
    return found


if __name__ == "__main__":
    run("hidden", rows)
