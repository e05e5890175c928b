"""Couplings found again from samples of 16 spins: how far each method is from the Cramer-Rao scale.

Every pair is coupled, J ~ N(0, s^2 / 16), h ~ N(0, .3^2); 100,000 exact draws. Errors are root mean squares over all
couplings and models. The scale is what the best unbiased estimate would have,
sqrt(mean diagonal of the inverse Fisher information / number of rows). `benchmarks.inverse_lattice` is the hard case.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run

ERROR, SCALE, TIME = "rms error of J", "times the Cramer-Rao scale", "s of processor"
NUM_SPINS = 16
GENERATOR = torch.Generator()


class Task(NamedTuple):
    """Data, the couplings behind them, and what the best estimate could do (None where that is not known).

    make: the model to fit, without couplings. couplings: J of such a model in the order of truth.
    """

    name: str
    data: Tensor
    truth: Tensor
    scale: float | None
    make: Callable[[], en.Energy]
    couplings: Callable[[en.Energy], Tensor]


Fit = Callable[[Task], en.Energy]


def convex(objective: en.Objective) -> Fit:
    """All rows at once, L-BFGS to the minimum."""

    def fit(task: Task) -> en.Energy:
        model, batch = task.make(), en.Batch(task.data)
        optimizer = torch.optim.LBFGS(
            model.parameters(), max_iter=150, history_size=20, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = objective(model, batch, GENERATOR).value
            value.backward()
            return value

        optimizer.step(closure)
        return model

    return fit


def stochastic(
    make: Callable[[], en.Objective],
    *,
    num_steps: int,
    batch_size: int,
    optimizer: Callable[[Any], torch.optim.Optimizer] = functools.partial(torch.optim.SGD, lr=0.2),
    hold: int = 100,
) -> Fit:
    """`en.fit` with a rate that falls as 1 / (1 + step / hold): noise of chains and batches is averaged out."""
    falls = functools.partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1 / (1 + step / hold))

    def fit(task: Task) -> en.Energy:
        model = task.make()
        en.fit(
            model,
            make(),
            task.data,
            num_steps=num_steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=falls,
            log_every=num_steps,
            checkpoint_every=num_steps,
            progress=False,
        )
        return model

    return fit


def inversion(method: str) -> Fit:
    """Closed form."""

    def fit(task: Task) -> en.Energy:
        assert isinstance(task.make().space, en.Spin)
        return en.mean_field_inversion(task.data, en.Spin(task.data.shape[1]), method=method)  # type: ignore[arg-type]

    return fit


def methods(quick: bool) -> dict[str, Fit]:
    """Those for 16 spins."""
    steps, rows = (60, 1_000) if quick else (600, 4_000)
    return {
        "exact likelihood": convex(en.ExactLikelihood()),
        "pseudo-likelihood": convex(en.PseudoLikelihood()),
        "ratio matching": convex(en.RatioMatching()),
        "minimum probability flow": convex(en.MinimumProbabilityFlow()),
        "PCD-1": stochastic(lambda: en.PersistentCD(en.Gibbs(), 1, num_chains=rows), num_steps=steps, batch_size=rows),
        "CD-1": stochastic(lambda: en.ContrastiveDivergence(en.Gibbs(), 1), num_steps=steps, batch_size=rows),
        "mean-field CD-1": stochastic(lambda: en.MeanFieldCD(1), num_steps=steps, batch_size=rows),
        "perturb-and-MAP": stochastic(lambda: en.PerturbAndMAP(200), num_steps=steps // 10, batch_size=rows, hold=20),
        "mean-field inversion": inversion("naive"),
        "TAP inversion": inversion("tap"),
    }


def glass(spread: float, seed: int, num_rows: int) -> Task:
    """16 spins, their couplings and fields drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(NUM_SPINS))
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    couplings, fields = spread / math.sqrt(NUM_SPINS) * draw(len(pairs)), 0.3 * draw(NUM_SPINS)
    model = en.Ising(NUM_SPINS, pairs, couplings=couplings, fields=fields)
    states = model.space.enumerate(0, 2**NUM_SPINS, dtype=torch.float64, device=torch.device("cpu"))  # type: ignore[attr-defined]
    with torch.no_grad():
        chances = (-model(states)).softmax(0)
    statistics = torch.cat([states[:, pairs[:, 0]] * states[:, pairs[:, 1]], states], 1)
    return Task(
        f"16 spins, s = {spread:g}",
        en.Enumerated(model).sample_exact(num_rows, generator),
        couplings,
        cramer_rao(statistics, chances, num_rows, len(pairs)),
        lambda: en.BoltzmannMachine(en.Spin(NUM_SPINS), bias=torch.zeros(NUM_SPINS, dtype=torch.float64)),
        pair_couplings,
    )


def pair_couplings(model: en.Energy) -> Tensor:
    """J of all pairs of a Boltzmann machine."""
    assert isinstance(model, en.BoltzmannMachine)
    first, second = model.pairs.unbind(1)
    return model.couplings().detach()[first, second]


def cramer_rao(statistics: Tensor, chances: Tensor, num_rows: int, num_couplings: int) -> float:
    """The scale from the covariance of the statistics, the couplings' first."""
    centred = statistics - chances @ statistics
    fisher = (centred * chances.unsqueeze(1)).T @ centred
    return float((torch.linalg.inv(fisher).diagonal()[:num_couplings].mean() / num_rows).sqrt())


def measured(tasks: list[Task], methods: dict[str, Fit]) -> list[Row]:
    """Each method on models of one kind."""
    found: list[Row] = []
    name, scales = tasks[0].name, [task.scale for task in tasks if task.scale is not None]
    scale = math.sqrt(sum(each**2 for each in scales) / len(scales)) if scales else math.nan
    for who, fit in methods.items():
        square, seconds = 0.0, 0.0
        for task in tasks:
            began = time.process_time()
            model = fit(task)
            seconds += time.process_time() - began
            square += float((task.couplings(model) - task.truth).square().mean())
        error = math.sqrt(square / len(tasks))
        progress(f"{time.strftime('%H:%M:%S')} {name}: {who}: {error:.4g}, {error / scale:.3g} x, {seconds:.1f} s")
        found.append(Row(who, name, error, ERROR, 0))
        if scales:
            found.append(Row(who, name, error / scale, SCALE, 0))
        found.append(Row(who, name, seconds / len(tasks), TIME, 0))
    return [*found, Row("Cramer-Rao scale", name, scale, ERROR, 0)] if scales else found


def rows(quick: bool) -> list[Row]:
    """Everything."""
    found: list[Row] = []
    num_models, num_rows = (1, 2_000) if quick else (2, 100_000)
    for spread in (0.5, 1.0):
        tasks = [glass(spread, seed, num_rows) for seed in range(num_models)]
        found += measured(tasks, methods(quick))
    return found


if __name__ == "__main__":
    run("inverse_ising", rows)
