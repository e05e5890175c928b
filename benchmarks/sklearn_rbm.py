"""The estimator against scikit-learn's, and the speed of an RBM's updates and Gibbs steps against other libraries.

Seconds are processor time of one thread, which other work on the machine disturbs least. Contenders run in
turn (A B A B). MNIST is read from --mnist (an .npz with x_train); a pixel of 128 or more is one. Runs in the
environment of the peers (make .venv-peers/installed); those that are not installed are left out, and said so.
"""

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import shift
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM
from sklearn.preprocessing import minmax_scale
from threadpoolctl import threadpool_limits
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, progress, run
from energeia.sklearn import RBM

MNIST = Path("../shared/data/mnist.npz")
PARTS = ("digits", "epoch", "gibbs")
BATCH, HIDDEN, RATE = 100, 500, 0.01
OURS = "Energeia, sklearn.RBM"
Work = Callable[[], Any]


def seconds(work: Work) -> float:
    """Processor time of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, all once for nothing and then in turn."""
    for work in works.values():
        work()
    found: dict[str, list[float]] = {who: [] for who in works}
    for _ in range(rounds):
        for who, work in works.items():
            found[who].append(seconds(work))
            progress(f"  {who:48s} {found[who][-1]:8.3f} s")
    return found


def timed(work: str, found: dict[str, list[float]], ours: str, *, scale: float, unit: str) -> list[Row]:
    """A row for each contender and round; the ratio of a peer is its time over ours in the same round."""
    rows: list[Row] = []
    for who, times in found.items():
        ratios = [None if who.startswith("Energeia") else t / o for t, o in zip(times, found[ours], strict=True)]
        rows += [Row(work, who, scale * t, unit, n, r) for n, (t, r) in enumerate(zip(times, ratios, strict=True))]
    return rows


def nudged() -> tuple[np.ndarray, ...]:
    """Digits and their copies moved by a pixel in four directions; training and test rows, in [0, 1]."""
    x, y = load_digits(return_X_y=True)
    pictures = np.asarray(x, np.float32).reshape(-1, 8, 8)
    moves = [(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0)]
    moved = [shift(pictures, (0, *move), order=0, mode="constant") for move in moves]
    rows = minmax_scale(np.concatenate(moved).reshape(-1, 64), feature_range=(0, 1))
    parts: Any = train_test_split(rows, np.concatenate([y] * 5), test_size=0.2, random_state=0)
    return tuple(parts)


def accuracy(features: Sequence[np.ndarray], labels: Sequence[np.ndarray], strength: float) -> float:
    """Of logistic regression, on test rows."""
    model = LogisticRegression(solver="newton-cg", C=strength, max_iter=1000)
    return float(model.fit(features[0], labels[0]).score(features[1], labels[1]))


def digits(quick: bool) -> list[Row]:
    """scikit-learn's example "Restricted Boltzmann Machine features for digit classification"."""
    x, test, y, test_y = nudged()
    work = "nudged digits, 100 hidden units, 10 passes, logistic regression"
    rows = [Row(work, "pixels alone", accuracy((x, test), (y, test_y), 100), "test accuracy", 0)]
    for seed in range(1 if quick else 5):
        progress(f"{work}: seed {seed}")
        makes: dict[str, Callable[[], Any]] = {
            f"scikit-learn {version('scikit-learn')}, BernoulliRBM": lambda seed=seed: BernoulliRBM(
                100, n_iter=10, learning_rate=0.06, random_state=seed
            ),
            OURS: lambda seed=seed: RBM(100, n_iter=10, learning_rate=0.5, batch_size=128, random_state=seed),
            f"{OURS}, centred": lambda seed=seed: RBM(
                100, n_iter=10, learning_rate=1.0, batch_size=128, centred=True, random_state=seed
            ),
        }
        times = in_turn({who: lambda make=make: make().fit(x) for who, make in makes.items()}, 1 if quick else 2)
        ours = statistics.median(times[OURS])
        for who, make in makes.items():
            model, median = make().fit(x), statistics.median(times[who])
            value = accuracy((model.transform(x), model.transform(test)), (y, test_y), 6000)
            rows.append(Row(work, who, value, "test accuracy", seed))
            ratio = None if who.startswith("Energeia") else median / ours
            rows.append(Row(f"{work}: fit", who, median, "s", seed, ratio))
    return rows


def found(name: str) -> Any | None:
    """A peer, or None where it is not installed."""
    if importlib.util.find_spec(name) is None:
        progress(f"{name} is not installed and is left out")
        return None
    return importlib.import_module(name)


def bits(path: Path) -> np.ndarray:
    if not path.exists():
        sys.exit(f"{path} is not there: give the file of MNIST pictures with --mnist PATH")
    with np.load(path) as held:
        return (held["x_train"] >= 128).reshape(-1, 784).astype(np.float32)


def epoch(quick: bool, mnist: Path) -> list[Row]:
    """A pass over 12,000 rows, 120 updates: CD-1 (BernoulliRBM has PCD-1 alone, of the same cost)."""
    x = bits(mnist)[: 2000 if quick else 12_000]
    rows, held = torch.from_numpy(x), x.astype(np.float64)
    one_pass = {"batch_size": BATCH, "n_iter": 1, "learning_rate": RATE, "random_state": 0}
    scikit = f"scikit-learn {version('scikit-learn')}, BernoulliRBM"
    works: dict[str, Work] = {
        OURS: lambda: RBM(HIDDEN, algorithm="cd", **one_pass).fit(x),
        f"{OURS}, given float64": lambda: RBM(HIDDEN, algorithm="cd", **one_pass).fit(held),
        f"{OURS}, centred": lambda: RBM(HIDDEN, algorithm="cd", centred=True, **one_pass).fit(x),
        "Energeia, fit": lambda: _fit(rows),
        f"{scikit}, float32": lambda: BernoulliRBM(HIDDEN, **one_pass).fit(x),
        f"{scikit}, float64": lambda: BernoulliRBM(HIDDEN, **one_pass).fit(held),
    }
    for name, peer in (("ebm", _ebmkit), ("rbms", _rbms), ("learnergy", _learnergy)):
        if found(name) is not None:
            package = "ebmkit" if name == "ebm" else name
            works[f"{package} {version(package)}"] = lambda peer=peer: peer(rows)
    works["five products of 100 x 784 x 500 alone"] = lambda: _products(len(rows) // BATCH)
    progress("CD-1")
    times = in_turn(works, 1 if quick else 4)
    work = "CD-1, MNIST 784-500, batch 100, an epoch of 600 updates, from a fifth of one"
    return timed(work, times, OURS, scale=60_000 / len(rows), unit="s")


def _fit(rows: Tensor) -> None:
    en.fit(
        en.RBM(784, HIDDEN, mean=rows.mean(0)),
        en.ContrastiveDivergence(en.BlockGibbs(), 1),
        rows,
        num_steps=len(rows) // BATCH,
        batch_size=BATCH,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=RATE),
        log_every=600,
        checkpoint_every=10**6,
        progress=False,
    )


def _products(number: int) -> None:
    """What an update cannot do without."""
    x, h, weight = torch.rand(BATCH, 784), torch.rand(BATCH, HIDDEN), torch.rand(784, HIDDEN)
    for _ in range(number):
        _ = x @ weight, h @ weight.T, x @ weight, x.T @ h, x.T @ h


def _ebmkit(rows: Tensor) -> None:
    ebm, nets = importlib.import_module("ebm"), importlib.import_module("ebm.nets")
    machine = nets.RBM(784, HIDDEN)
    optimizer = torch.optim.SGD(machine.parameters(), lr=RATE)
    for batch in rows[torch.randperm(len(rows))].split(BATCH):
        loss = ebm.ContrastiveDivergence(ebm.GibbsSampler(steps=1), init_fn=lambda _, batch=batch: batch)
        optimizer.zero_grad()
        loss(machine, batch).loss.backward()
        optimizer.step()


def _rbms(rows: Tensor) -> None:
    """The body of its training loop, without the file that it writes at each update."""
    machine, fit_batch = _rbms_machine(rows), importlib.import_module("rbms.training.pcd").fit_batch_pcd
    machine.init_grad()
    optimizer = torch.optim.SGD(machine.parameters(), lr=RATE, maximize=True)
    weights = torch.ones(len(rows))
    with torch.no_grad():
        for index in torch.randperm(len(rows)).split(BATCH):
            batch = (rows[index], weights[index])
            chains = machine.init_chains(BATCH, weights=batch[1], start_v=batch[0])
            optimizer.zero_grad(set_to_none=False)
            fit_batch(batch=batch, parallel_chains=chains, params=machine, gibbs_steps=1, beta=1.0, centered=True)
            optimizer.step()


def _rbms_machine(rows: Tensor) -> Any:
    implement = importlib.import_module("rbms.bernoulli_bernoulli.implement")
    visible, hidden, weight = implement._init_parameters(HIDDEN, rows, torch.device("cpu"), torch.float32)
    classes = importlib.import_module("rbms.bernoulli_bernoulli.classes")
    return classes.BBRBM(weight_matrix=weight, vbias=visible, hbias=hidden)


def _learnergy(rows: Tensor) -> None:
    """Its fit, which also computes a pseudo-likelihood of every batch."""
    models = importlib.import_module("learnergy.models.bernoulli")
    held = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    models.RBM(784, HIDDEN, steps=1, learning_rate=RATE).fit(held, batch_size=BATCH, epochs=1)


def gibbs(quick: bool) -> list[Row]:
    """Block Gibbs steps of 100 chains, 784-500; thrml runs a twentieth of them."""
    num_steps = 40 if quick else 200
    torch.manual_seed(0)
    machine = en.RBM(784, HIDDEN, weight_scale=0.05)
    start = (torch.rand(BATCH, 784) < 0.5).float()
    weight, bias, hidden = (p.detach() for p in (machine.weight, machine.bias, machine.hidden_bias))
    works: dict[str, Work] = {
        "Energeia, RBM.sample": lambda: machine.sample(BATCH, num_steps=num_steps),
        "Energeia, sample with BlockGibbs": lambda: en.sample(
            machine, en.BlockGibbs(), start=start, num_steps=num_steps, progress=False
        ),
    }
    if found("rbms") is not None:
        classes = importlib.import_module("rbms.bernoulli_bernoulli.classes")
        peer = classes.BBRBM(weight_matrix=weight, vbias=bias, hbias=hidden)
        chains = peer.init_chains(BATCH, start_v=start)
        works[f"rbms {version('rbms')}"] = lambda: peer.sample_state(chains, num_steps)
    if found("ebm") is not None:
        other = importlib.import_module("ebm.nets").RBM(784, HIDDEN)
        other.load_state_dict({"W": weight.T, "b": bias, "c": hidden})
        works[f"ebmkit {version('ebmkit')}"] = lambda: _steps(other, start, num_steps)
    progress("block Gibbs")
    times = in_turn(works, 1 if quick else 4)
    if found("thrml") is not None:
        some = max(1, num_steps // 20)
        spent = in_turn({f"thrml {version('thrml')}": _thrml(weight, bias, hidden, start, some)}, 1 if quick else 2)
        times |= {who: [t * num_steps / some for t in each] for who, each in spent.items()}
        shortest = min(len(each) for each in times.values())
        times = {who: each[:shortest] if who.startswith("thrml") else each for who, each in times.items()}
    work, ours = "block Gibbs, 784-500, 100 chains", "Energeia, RBM.sample"
    rows: list[Row] = []
    for who, each in times.items():
        rows += timed(work, {ours: times[ours][: len(each)], who: each}, ours, scale=1e3 / num_steps, unit="ms a step")
    return list(dict.fromkeys(rows))


def _steps(machine: Any, x: Tensor, num_steps: int) -> Tensor:
    for _ in range(num_steps):
        x = machine.gibbs_step(x)
    return x


def _thrml(weight: Tensor, bias: Tensor, hidden: Tensor, start: Tensor, num_steps: int) -> Work:
    """The machine as spins s = 2 x - 1, on a graph of two blocks; chains by vmap, jitted."""
    thrml, models, jax = (importlib.import_module(name) for name in ("thrml", "thrml.models", "jax"))
    nodes = [thrml.SpinNode() for _ in range(784 + HIDDEN)]
    blocks = [thrml.Block(nodes[:784]), thrml.Block(nodes[784:])]
    edges = [(v, h) for v in nodes[:784] for h in nodes[784:]]
    field = torch.cat([bias / 2 + weight.sum(1) / 4, hidden / 2 + weight.sum(0) / 4])
    numpy = jax.numpy
    model = models.IsingEBM(
        nodes, edges, numpy.asarray(field.numpy()), numpy.asarray((weight / 4).reshape(-1).numpy()), numpy.array(1.0)
    )
    # Hidden units first, from the visible ones.
    program = models.IsingSamplingProgram(model, [blocks[1], blocks[0]], [])
    schedule = thrml.SamplingSchedule(num_steps, 1, 1)
    begin = [numpy.zeros((len(start), HIDDEN), bool), numpy.asarray(start.numpy() > 0)]

    def one(key: Any, state: Any) -> Any:
        return thrml.sample_states(key, program, schedule, state, [], [blocks[0]])[0]

    chains = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.key(0), len(start))
    return lambda: np.asarray(chains(keys, begin))


def rows(quick: bool, mnist: Path = MNIST, parts: Sequence[str] = PARTS) -> list[Row]:
    torch.set_num_threads(1)
    # The first and last columns of MNIST never vary: not what is measured here.
    warnings.filterwarnings("ignore", message=".*columns (of the data )?never vary")
    measured: list[Row] = []
    with threadpool_limits(1):
        measured += digits(quick) if "digits" in parts else []
        measured += epoch(quick, mnist) if "epoch" in parts else []
        measured += gibbs(quick) if "gibbs" in parts else []
    return measured


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--mnist", type=Path, default=MNIST)
    own.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    options, rest = own.parse_known_args()
    sys.argv[1:] = rest
    run("sklearn_rbm", lambda quick: rows(quick, options.mnist, options.parts))
