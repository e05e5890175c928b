"""Couplings of the 10 x 10 torus near its critical point, found again from samples: the hard case of inverse Ising.

K = .44, 10,000 draws by Swendsen-Wang; every pair is a candidate, or the graph is known. Nothing is enumerated. See
`benchmarks.inverse_ising` for what the errors and the scale are; here the scale is from 10,000 other draws, and
for the known graph alone.
"""

import functools

import torch
from torch import Tensor

import energeia as en
from benchmarks.harness import Row, run
from benchmarks.inverse_ising import Fit, Task, convex, inversion, measured, pair_couplings, stochastic

COUPLING, SHAPE = 0.44, (10, 10)


def methods(quick: bool, *, known: bool) -> dict[str, Fit]:
    """Those for the lattice: nothing is enumerated."""
    steps, rows = (30, 500) if quick else (500, 500)
    # The products of all pairs rise and fall together: one step size for all would be tiny.
    optimizer = functools.partial(torch.optim.Adam, lr=5e-3)
    fitted = functools.partial(stochastic, num_steps=steps, batch_size=rows, optimizer=optimizer, hold=150)
    found = {
        "pseudo-likelihood": convex(en.PseudoLikelihood()),
        "ratio matching": convex(en.RatioMatching()),
        "minimum probability flow": convex(en.MinimumProbabilityFlow()),
        "PCD-1": fitted(lambda: en.PersistentCD(en.Gibbs(), 1, num_chains=rows)),
        "CD-1": fitted(lambda: en.ContrastiveDivergence(en.Gibbs(), 1)),
        "mean-field CD-1": fitted(lambda: en.MeanFieldCD(1)),
    }
    if known:
        found["perturb-and-MAP"] = stochastic(
            lambda: en.PerturbAndMAP(100), num_steps=steps // 8, batch_size=rows, optimizer=optimizer, hold=100
        )
        return found
    return {**found, "mean-field inversion": inversion("naive"), "TAP inversion": inversion("tap")}


def edge_couplings(model: en.Energy) -> Tensor:
    """J of the edges of an Ising model."""
    assert isinstance(model, en.Ising)
    return model.couplings.detach()


def tasks(num_rows: int, quick: bool) -> tuple[Task, Task]:
    """The torus: every pair a candidate, and the graph known."""
    torus = en.IsingLattice(SHAPE, coupling=COUPLING)
    num_chains = 100 if quick else 1_000
    data = draws_of(torus, num_rows, num_chains, seed=0)
    more = draws_of(torus, num_rows, num_chains, seed=1)
    size = torus.space.num_dims
    pairs = torch.combinations(torch.arange(size))
    truth = torch.zeros(size, size).index_put((torus.edges[:, 0], torus.edges[:, 1]), torch.tensor(COUPLING))
    truth = (truth + truth.T)[pairs[:, 0], pairs[:, 1]].double()
    return (
        Task(
            "10 x 10, K = .44",
            data,
            truth,
            # Nearly 5,000 numbers: their covariance from as many rows as there are is too rough to invert.
            None,
            lambda: en.BoltzmannMachine(en.Spin(size)),
            pair_couplings,
        ),
        Task(
            "10 x 10, K = .44, graph known",
            data,
            torch.full((len(torus.edges),), COUPLING, dtype=torch.float64),
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


def rows(quick: bool) -> list[Row]:
    """The graph known, then not."""
    whole, known = tasks(1_000 if quick else 10_000, quick)
    return measured([known], methods(quick, known=True)) + measured([whole], methods(quick, known=False))


if __name__ == "__main__":
    run("inverse_lattice", rows)
