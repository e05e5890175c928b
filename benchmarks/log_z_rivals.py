"""log Z against the annealed importance sampling of rbms, on a machine that rbms trains: time, error, interval.

Runs where rbms is installed (`make bench`). rbms gives one number and no interval: its width is taken as four
standard deviations of that number over the seeds.
"""

import importlib
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

import energeia as en
from benchmarks.coverage import Hidden
from benchmarks.harness import Row, progress, run

HIDDEN, CHAINS = 20, 100


def trained(rows: Tensor, epochs: int) -> tuple[Any, en.RBM]:
    """A machine of rbms, trained by its persistent chains, and the same as ours."""
    implement = importlib.import_module("rbms.bernoulli_bernoulli.implement")
    classes = importlib.import_module("rbms.bernoulli_bernoulli.classes")
    fit_batch = importlib.import_module("rbms.training.pcd").fit_batch_pcd
    torch.manual_seed(0)
    visible, hidden, weight = implement._init_parameters(HIDDEN, rows, torch.device("cpu"), torch.float32)
    peer = classes.BBRBM(weight_matrix=weight, vbias=visible, hbias=hidden)
    peer.init_grad()
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.05, maximize=True)
    weights = torch.ones(len(rows))
    with torch.no_grad():
        chains = peer.init_chains(100)
        for _ in range(epochs):
            for index in torch.randperm(len(rows)).split(100):
                batch = (rows[index], weights[index])
                optimizer.zero_grad(set_to_none=False)
                fit_batch(batch=batch, parallel_chains=chains, params=peer, gibbs_steps=1, beta=1.0, centered=True)
                optimizer.step()
    ours = en.RBM(rows.shape[1], HIDDEN, centred=False)
    with torch.no_grad():
        for own, other in ((ours.weight, peer.weight_matrix), (ours.bias, peer.vbias), (ours.hidden_bias, peer.hbias)):
            own.copy_(other)
    return peer, ours


def rows(quick: bool) -> list[Row]:
    """Both in turn from each seed, at equal levels and at equal time."""
    compute = importlib.import_module("rbms.partition_function.ais").compute_partition_function_ais
    who = f"rbms {version('rbms')}"
    seeds, levels = (2, 200) if quick else (20, 1000)
    pixels, _ = load_digits(return_X_y=True)
    x = torch.as_tensor(pixels >= 8).float()
    x = x[:, x.std(0) > 0]
    found: list[Row] = []
    for epochs in (5, 10) if quick else (30, 300):
        peer, ours = trained(x[:1350], epochs)
        exact = float(en.exact_log_z(ours.double()).value)
        ours = ours.float()
        work = f"AIS, digits, {HIDDEN} hidden units, {epochs} epochs of rbms, {CHAINS} chains"
        every: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(seeds):
            torch.manual_seed(seed)
            began = time.perf_counter()
            with torch.no_grad():
                told = float(compute(CHAINS, levels + 1, peer))
            spent = time.perf_counter() - began
            every.setdefault(who, []).append((spent, told - exact, float("nan")))
            began = time.perf_counter()
            mine = en.ais(Hidden(ours), num_chains=CHAINS, levels=levels, generator=seed)
            every.setdefault("Energeia, ais", []).append(_line(mine, exact, began))
            began = time.perf_counter()
            # Up and down cost about twice as much, and the draws between as much again.
            both = en.bracket(Hidden(ours), x[1350:], levels=levels // 2, num_steps=levels // 2, generator=seed)
            every.setdefault("Energeia, bracket of half as many levels", []).append(_line(both, exact, began))
        theirs = statistics.median(spent for spent, _, _ in every[who])
        for name, runs in every.items():
            spent, errors = statistics.median(t for t, _, _ in runs), [error for _, error, _ in runs]
            spread = 4 * statistics.stdev(errors)
            width = spread if name == who else statistics.median(width for _, _, width in runs)
            rms = statistics.fmean(error**2 for error in errors) ** 0.5
            found += [
                Row(work, f"{name}: time", spent, "s", 0, theirs / spent),
                Row(work, f"{name}: rms error", rms, "nats", 0),
                Row(work, f"{name}: width of the interval", width, "nats", 0),
            ]
            progress(f"{work}, {name}: {spent:.3f} s, rms error {rms:.3g}, width {width:.3g}")
        found += _steps(work, who, lambda number, peer=peer: compute(CHAINS, number + 1, peer), ours, levels)
    return found


def _steps(work: str, who: str, theirs: Callable[[int], float], ours: en.RBM, levels: int) -> list[Row]:
    """Seconds of a level, what does not grow with levels (the base, the pilot) left out: A B A B."""
    calls: dict[str, Callable[[int], object]] = {
        who: theirs,
        "Energeia, ais": lambda number: en.ais(Hidden(ours), num_chains=CHAINS, levels=number),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(5):
            for name, call in calls.items():
                spent: list[float] = []
                for number in (levels, 4 * levels):
                    began = time.perf_counter()
                    call(number)
                    spent.append(time.perf_counter() - began)
                times[name].append((spent[1] - spent[0]) / (3 * levels))
    first = statistics.median(times[who])
    rows: list[Row] = []
    for name, each in times.items():
        level = statistics.median(each)
        rows.append(Row(work, f"{name}: time of a level of {CHAINS} chains", 1e3 * level, "ms", 0, first / level))
    return rows


def _line(told: en.LogZ, exact: float, began: float) -> tuple[float, float, float]:
    low, high = told.details.get("interval", (told.low, told.high))
    return time.perf_counter() - began, float(told.value) - exact, float(high - low)


if __name__ == "__main__":
    run("log_z_rivals", rows)
