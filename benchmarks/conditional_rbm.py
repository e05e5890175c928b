"""Conditional RBMs on spikes of known structure: exact log-likelihood of held-out frames given their past.

Twelve cells fire by the two frames before (a logistic network) and, on top of it, one of four assemblies may
light up, chosen by those frames too: so cells depend on the past, and on each other within a frame. The law
is known, and with it the log-likelihood that no model can beat on average.
"""

import time
from functools import partial
from typing import NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

import energeia as en
from benchmarks.harness import Row, progress, run

CELLS, ORDER, ASSEMBLIES, HIDDEN = 12, 2, 4, 8


class Law(NamedTuple):
    """p(x_t | past) = sum_m softmax(choice past)_m prod_i Bernoulli(sigmoid(rate_i + (network past)_i + lit_mi))."""

    rate: Tensor
    network: Tensor
    choice: Tensor
    lit: Tensor


def random_law(generator: torch.Generator) -> Law:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    members = torch.rand(ASSEMBLIES, CELLS, generator=generator) < 0.35
    lit = 4.0 * members
    lit[0] = 0
    return Law(normal(CELLS) * 0.3 - 2.5, normal(CELLS, ORDER * CELLS) * 0.5, normal(ASSEMBLIES, ORDER * CELLS), lit)


def log_prob(law: Law, windows: Tensor) -> Tensor:
    """log p(last frame | frames before), `[B]`."""
    x, past = windows[:, -1].unsqueeze(1), windows[:, :-1].flatten(1)
    natural = (law.rate + past @ law.network.T).unsqueeze(1) + law.lit
    given_assembly = (x * natural - functional.softplus(natural)).sum(2)
    return ((past @ law.choice.T).log_softmax(1) + given_assembly).logsumexp(1)


def draw(law: Law, num_sequences: int, num_frames: int, generator: torch.Generator) -> Tensor:
    """Sequences `[B, T, cells]`, after 50 frames that are thrown away."""
    frames = [torch.zeros(num_sequences, CELLS)] * ORDER
    for _ in range(num_frames + 50):
        past = torch.cat(frames[-ORDER:], 1)
        which = torch.multinomial((past @ law.choice.T).softmax(1), 1, generator=generator).squeeze(1)
        natural = law.rate + past @ law.network.T + law.lit[which]
        frames.append((natural.sigmoid() > torch.rand(num_sequences, CELLS, generator=generator)).float())
    return torch.stack(frames[-num_frames:], 1)


def fitted(energy: en.Energy, objective: en.Objective, x: Tensor, seed: int, num_steps: int) -> float:
    """Train by Adam with a rate that falls to nothing; seconds."""
    started = time.perf_counter()
    en.fit(
        energy,
        objective,
        x,
        num_steps=num_steps,
        batch_size=200,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        scheduler=lambda made: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1e-2, num_steps),
        log_every=1000,
        checkpoint_every=10**6,
        seed=seed,
        progress=False,
    )
    return time.perf_counter() - started


def logistic(train: Tensor, test: Tensor) -> float:
    """Each cell by itself given the past: a generalised linear model, the usual one for spikes."""
    past, unseen = (windows[:, :-1].flatten(1).numpy() for windows in (train, test))
    total = 0.0
    for cell in range(CELLS):
        model = LogisticRegression(C=100.0, max_iter=1000).fit(past, train[:, -1, cell].numpy())
        natural = torch.from_numpy(model.decision_function(unseen))
        total += float((test[:, -1, cell] * natural - functional.softplus(natural)).mean())
    return total


def one(seed: int, quick: bool) -> list[Row]:
    work = f"{CELLS} cells, {HIDDEN} hidden units, {ORDER} frames of past"
    progress(f"seed {seed}: {work}")
    generator = torch.Generator().manual_seed(seed)
    law = random_law(generator)
    num_frames, num_steps = (200, 200) if quick else (1000, 6000)
    train, test = (en.windows(draw(law, num, num_frames, generator), ORDER) for num in (40, 10))
    frames, unseen = train[:, -1], test[:, -1]
    torch.manual_seed(seed)
    machine = en.ConditionalRBM(CELLS, HIDDEN, order=ORDER, mean=frames.mean(0), weight_scale=0.1)
    objective = en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 5))
    seconds = fitted(machine, objective, train, seed, num_steps)
    plain = en.RBM(CELLS, HIDDEN, mean=frames.mean(0), weight_scale=0.1)
    fitted(plain, en.PersistentCD(en.BlockGibbs(), 5, num_chains=200), frames, seed, num_steps)
    rates = frames.mean(0).clamp(1e-4, 1 - 1e-4)
    independent = (unseen * rates.log() + (1 - unseen) * (1 - rates).log()).sum(1).mean()
    with torch.no_grad():
        values = {
            "the law itself": float(log_prob(law, test).mean()),
            "ConditionalRBM, CD-5": float(machine.log_prob(test).mean()),
            "logistic regression of each cell on the past": logistic(train, test),
            "RBM of single frames, PCD-5": en.log_likelihood(plain, unseen).mean,
            "independent cells": float(independent),
        }
    rows = [
        Row(work, f"{who}, test log-likelihood, exact", value, "nats a frame", seed) for who, value in values.items()
    ]
    gap = values["the law itself"] - values["independent cells"]
    for who in list(values)[1:4]:
        share = (values[who] - values["independent cells"]) / gap
        rows.append(Row(work, f"{who}, share of what there is to gain", 100 * share, "%", seed))
    return [*rows, Row(work, "training time of ConditionalRBM", seconds, "s", seed)]


def rows(quick: bool) -> list[Row]:
    return [row for seed in range(1 if quick else 3) for row in one(seed, quick)]


if __name__ == "__main__":
    run("conditional_rbm", rows)
