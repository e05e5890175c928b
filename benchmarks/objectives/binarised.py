"""The third rung, with pictures: MNIST at 14 x 14 as bits, and a machine of 64 hidden bits for every objective.

log Z is annealed from both sides (`en.bracket`), and the ends of its interval are told. A pixel of a small picture is
the mean of four, and one from the middle of the range on; pixels that never vary in the training rows are left out.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

import energeia as en
from benchmarks.harness import MissingDataError
from benchmarks.objectives.methods import Slow, by
from benchmarks.objectives.plane import Measured
from benchmarks.objectives.tabular import Judge, Judged, bracketed, told
from energeia.data import Mnist

CASES = ("MNIST 14 x 14",)
# Where it is not, the pictures are those that scikit-learn has fetched from OpenML before.
MNIST = Path("../shared/data/mnist.npz")
NUM_HIDDEN, NUM_COMPONENTS = 64, 64
# Sites an update, of some 170.
_SITES = 24
_SLOW: Slow = {"learning_rate": 2e-3, "betas": (0.0, 0.99)}


def work(name: str) -> str:
    """How the rows of a case are called."""
    return f"binarised: {name}"


@functools.cache
def data(path: Path) -> tuple[Tensor, Tensor]:
    """60,000 rows to train, 10,000 to test."""
    try:
        splits = Mnist(str(path) if path.is_file() else None, validation_fraction=0.0).splits()
    except en.InputError as error:
        raise MissingDataError(f"MNIST cannot be had: {error}") from error
    assert splits.test is not None
    train, test = (
        (torch.nn.functional.avg_pool2d(part.x, 2) >= 0).float().flatten(1) for part in (splits.train, splits.test)
    )
    varies = train.std(0) > 0
    return train[:, varies], test[:, varies]


def machine(rows: Tensor) -> en.RBM:
    """What all objectives train."""
    return en.RBM(rows.shape[1], NUM_HIDDEN, mean=rows.mean(0))


def trained(
    objective: Callable[[Tensor], en.Objective],
    *,
    num_steps: int,
    learning_rate: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    gradient_clip: float | None = None,
) -> Judge:
    """An objective of the machine."""
    trainer = by(
        objective,
        num_steps=num_steps,
        learning_rate=learning_rate,
        betas=betas,
        batch_size=256,
        gradient_clip=gradient_clip,
        model=machine,
    )

    def judge(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
        energy = trainer(train, seed, quick).energy
        assert isinstance(energy, en.RBM)
        return judged(energy, train, test, seed, quick)

    return judge


def judged(energy: en.RBM, train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """Annealed from independent bits with the means of the rows."""
    return bracketed(energy, test, en.fitted_base(energy.space, train), 20 if quick else 1000, seed)


def _independent(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    base = en.fitted_base(en.Binary(train.shape[1]), train)
    return Judged(en.log_likelihood(base, test).values)


def _mixture(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """Independent bits in each of some classes, by expectation and maximisation; a row of halves added to each."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.full((NUM_COMPONENTS,), 1 / NUM_COMPONENTS)
    mean = 0.25 + 0.5 * torch.rand(NUM_COMPONENTS, train.shape[1], generator=generator)

    def joint(x: Tensor) -> Tensor:
        return x @ mean.log().T + (1 - x) @ (1 - mean).log().T + share.log()

    for _ in range(3 if quick else 60):
        belongs = joint(train).softmax(1)
        number = belongs.sum(0)
        mean = (belongs.T @ train + 0.5) / (number.unsqueeze(1) + 1)
        share = (number + 1) / (number + 1).sum()
    return Judged(joint(test).double().logsumexp(1))


def _autoregressive(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """Each bit by logistic regression on those before it."""
    trainer = by(
        lambda rows: en.ExactLikelihood(),
        num_steps=1500,
        batch_size=256,
        model=lambda rows: en.Autoregressive(en.Binary(rows.shape[1])),
    )
    energy = trainer(train, seed, quick).energy
    with torch.no_grad():
        return Judged(-energy(test).double())


def _scikit(train: Tensor, test: Tensor, seed: int, quick: bool) -> Judged:
    """scikit-learn's machine of the same size, by its PCD-1, with the log Z of ours."""
    fitted = BernoulliRBM(NUM_HIDDEN, learning_rate=0.05, batch_size=100, n_iter=1 if quick else 10, random_state=seed)
    fitted.fit(train[:2000].numpy() if quick else train.numpy())
    energy = en.RBM(train.shape[1], NUM_HIDDEN, centred=False)
    with torch.no_grad():
        energy.weight.copy_(torch.from_numpy(fitted.components_.T))
        energy.bias.copy_(torch.from_numpy(fitted.intercept_visible_))
        energy.hidden_bias.copy_(torch.from_numpy(fitted.intercept_hidden_))
    return judged(energy, train, test, seed, quick)


METHODS: dict[str, Judge] = {
    "PCD-10": trained(lambda rows: en.PersistentCD(en.BlockGibbs(), 10, num_chains=256), num_steps=2000, **_SLOW),
    "CD-10": trained(lambda rows: en.ContrastiveDivergence(en.BlockGibbs(), 10), num_steps=2000),
    "pseudo-likelihood": trained(lambda rows: en.PseudoLikelihood(num_sites=_SITES), num_steps=2000),
    "ratio matching": trained(lambda rows: en.RatioMatching(num_sites=_SITES), num_steps=2000),
    "probability flow": trained(
        lambda rows: en.MinimumProbabilityFlow(num_sites=_SITES), num_steps=2000, gradient_clip=10.0
    ),
    "concrete score matching": trained(
        lambda rows: en.ConcreteScoreMatching(num_sites=_SITES), num_steps=2000, gradient_clip=10.0
    ),
    "scikit-learn, BernoulliRBM": _scikit,
    "independent bits": _independent,
    "mixture of independent bits": _mixture,
    "logistic autoregression": _autoregressive,
}


def cell(name: str, method: str, seed: int, quick: bool) -> Measured:
    """One model of the pictures."""
    train, test = data(MNIST)
    began = time.process_time()
    found = METHODS[method](train, test, seed, quick)
    return told(work(name), method, seed, found, time.process_time() - began)
