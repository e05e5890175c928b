"""Couplings found again from samples of models of spins: how far each method is from the Cramer-Rao scale.

16 spins, every pair coupled, J ~ N(0, s^2 / 16), h ~ N(0, .3^2), 100,000 exact draws; and the 10 x 10 torus with
K = .44, 10,000 draws by Swendsen-Wang, with every pair a candidate or with the graph known. Errors are root mean
squares over all couplings and models. The scale is what the best unbiased estimate would have,
sqrt(mean diagonal of the inverse Fisher information / number of rows).
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
NUM_SPINS, LATTICE = 16, (10, 10)
GENERATOR = torch.Generator()


class Task(NamedTuple):
    """Data, the couplings behind them, and what the best estimate could do.

    make: the model to fit, without couplings. couplings: J of such a model in the order of truth.
    start: closed-form first estimate of mean field.
    """

    name: str
    data: Tensor
    truth: Tensor
    scale: float
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


def small_methods(quick: bool) -> dict[str, Fit]:
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


def lattice_methods(quick: bool, *, known: bool) -> dict[str, Fit]:
    """Those for the lattice: nothing is enumerated."""
    steps, rows = (30, 500) if quick else (800, 1_000)
    # The products of all pairs rise and fall together: one step size for all would be tiny.
    optimizer = functools.partial(torch.optim.Adam, lr=5e-3)
    fitted = functools.partial(stochastic, num_steps=steps, batch_size=rows, optimizer=optimizer, hold=200)
    methods = {
        "pseudo-likelihood": convex(en.PseudoLikelihood()),
        "ratio matching": convex(en.RatioMatching()),
        "minimum probability flow": convex(en.MinimumProbabilityFlow()),
        "PCD-1": fitted(lambda: en.PersistentCD(en.Gibbs(), 1, num_chains=rows)),
        "CD-1": fitted(lambda: en.ContrastiveDivergence(en.Gibbs(), 1)),
        "mean-field CD-1": fitted(lambda: en.MeanFieldCD(1)),
    }
    if known:
        methods["perturb-and-MAP"] = stochastic(
            lambda: en.PerturbAndMAP(100), num_steps=steps // 8, batch_size=rows, optimizer=optimizer, hold=100
        )
        return methods
    return {**methods, "mean-field inversion": inversion("naive"), "TAP inversion": inversion("tap")}


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


def edge_couplings(model: en.Energy) -> Tensor:
    """J of the edges of an Ising model."""
    assert isinstance(model, en.Ising)
    return model.couplings.detach()


def cramer_rao(statistics: Tensor, chances: Tensor, num_rows: int, num_couplings: int) -> float:
    """The scale from the covariance of the statistics, the couplings' first."""
    centred = statistics - chances @ statistics
    fisher = (centred * chances.unsqueeze(1)).T @ centred
    return float((torch.linalg.inv(fisher).diagonal()[:num_couplings].mean() / num_rows).sqrt())


def lattice(num_rows: int, quick: bool) -> tuple[Task, Task]:
    """The torus: every pair a candidate, and the graph known."""
    torus = en.IsingLattice(LATTICE, coupling=0.44)
    num_chains = 100 if quick else 1_000
    data = draws_of(torus, num_rows, num_chains, seed=0)
    more = draws_of(torus, num_rows, num_chains, seed=1)
    size = torus.space.num_dims
    pairs = torch.combinations(torch.arange(size))
    truth = torch.zeros(size, size).index_put((torus.edges[:, 0], torus.edges[:, 1]), torch.tensor(0.44))
    truth = (truth + truth.T)[pairs[:, 0], pairs[:, 1]].double()
    return (
        Task(
            "10 x 10, K = .44",
            data,
            truth,
            sampled_scale(more, pairs, num_rows) if not quick else math.nan,
            lambda: en.BoltzmannMachine(en.Spin(size)),
            pair_couplings,
        ),
        Task(
            "10 x 10, K = .44, graph known",
            data,
            torch.full((len(torus.edges),), 0.44, dtype=torch.float64),
            sampled_scale(more, torus.edges, num_rows),
            lambda: en.Ising(size, torus.edges, couplings=torch.zeros(len(torus.edges)), fields=torch.zeros(size)),
            edge_couplings,
        ),
    )


def draws_of(torus: en.Energy, num_rows: int, num_chains: int, *, seed: int) -> Tensor:
    """Rows `[num_rows, 100]` of Swendsen-Wang chains, 5 steps apart, after 50."""
    start = en.sample(torus, en.SwendsenWang(), num_chains=num_chains, num_steps=50, generator=seed, progress=False)
    steps = 5 * num_rows // num_chains
    draws = en.sample(
        torus,
        en.SwendsenWang(),
        start=start.x,
        num_steps=steps,
        keep="all",
        thin=5,
        generator=seed + 10,
        progress=False,
    )
    return draws.kept.flatten(0, 1).flatten(1)


def sampled_scale(x: Tensor, pairs: Tensor, num_rows: int) -> float:
    """The scale from draws alone: of couplings without fields, which do not touch them as E(-x) = E(x).

    The inverse of a covariance of p numbers from n rows is n / (n - p - 1) times too large.
    """
    products = x[:, pairs[:, 0]] * x[:, pairs[:, 1]]
    products -= products.mean(0)
    covariance = (products.T @ products / len(x)).double()
    shrink = (len(x) - len(pairs) - 1) / len(x)
    return float((torch.linalg.inv(covariance).diagonal().mean() * shrink / num_rows).sqrt())


def measured(tasks: list[Task], methods: dict[str, Fit]) -> list[Row]:
    """Each method on models of one kind."""
    found: list[Row] = []
    name, scale = tasks[0].name, math.sqrt(sum(task.scale**2 for task in tasks) / len(tasks))
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
        found.append(Row(who, name, error / scale, SCALE, 0))
        found.append(Row(who, name, seconds / len(tasks), TIME, 0))
    return [*found, Row("Cramer-Rao scale", name, scale, ERROR, 0), Row("Cramer-Rao scale", name, 1.0, SCALE, 0)]


def rows(quick: bool) -> list[Row]:
    """Everything."""
    found: list[Row] = []
    num_models, num_rows = (1, 2_000) if quick else (2, 100_000)
    for spread in (0.5, 1.0):
        tasks = [glass(spread, seed, num_rows) for seed in range(num_models)]
        found += measured(tasks, small_methods(quick))
    whole, known = lattice(1_000 if quick else 10_000, quick)
    found += measured([known], lattice_methods(quick, known=True))
    return found + measured([whole], lattice_methods(quick, known=False))


if __name__ == "__main__":
    run("inverse_ising", rows)
