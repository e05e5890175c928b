"""Noise contrast on four mixed Laplace sources, the example of its inventors: efficiency, and log Z.

Gutmann & Hyvarinen (2010), Noise-contrastive estimation: a new estimation principle for unnormalized statistical
models, https://proceedings.mlr.press/v9/gutmann10a.html
"""

import math

import pytest
import torch
from torch import nn

import energeia as en

DIMS = 4


class Sources(en.Energy):
    """sum_i sqrt(2) |b_i' x|: sources of unit variance, without the determinant that normalises them."""

    def __init__(self, unmixing):
        super().__init__(en.Real(DIMS))
        self.unmixing = nn.Parameter(unmixing.clone(memory_format=torch.contiguous_format))

    def forward(self, x):
        return math.sqrt(2) * (x @ self.unmixing.T).abs().sum(1)


def _log_z(unmixing):
    return DIMS * math.log(2) / 2 - torch.linalg.slogdet(unmixing).logabsdet


def _problem(seed, num_rows):
    """A mixing matrix of condition number below 10, and rows."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        mixing = torch.randn(DIMS, DIMS, generator=generator, dtype=torch.float64)
        if torch.linalg.cond(mixing) < 10:
            break
    uniform = torch.rand(num_rows, DIMS, generator=generator, dtype=torch.float64) - 0.5
    sources = -uniform.sign() * (1 - 2 * uniform.abs()).log() / math.sqrt(2)
    return torch.linalg.inv(mixing), sources @ mixing.T


def _fit(parameters, loss):
    optimizer = torch.optim.LBFGS(parameters, max_iter=30, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def _errors(seed, num_rows, ratio):
    """Squared errors of the unmixing matrix (by row, so that all weigh alike) and of log Z."""
    truth, x = _problem(seed, num_rows)
    energy = Sources(truth)
    if ratio is None:
        _fit([energy.unmixing], lambda: energy(x).mean() + _log_z(energy.unmixing))
        log_z = _log_z(energy.unmixing.detach())
    else:
        objective = en.NoiseContrast(en.fitted_noise(energy.space, x), ratio=ratio)
        batch = en.Batch(x)
        # The same noise at every evaluation: a function to be minimised.
        _fit(
            [energy.unmixing, objective.log_z],
            lambda: objective(energy, batch, torch.Generator().manual_seed(seed)).value,
        )
        log_z = objective.log_z.detach()
    # In the frame of the sources the error does not depend on the mixing.
    off = energy.unmixing.detach() @ torch.linalg.inv(truth) - torch.eye(DIMS).double()
    return float(off.square().sum()), float((log_z - _log_z(truth)).square())


def _mean_errors(num_rows, ratio, repeats):
    found = torch.tensor([_errors(seed, num_rows, ratio) for seed in range(repeats)])
    return found.mean(0)


def _slope(sizes, errors):
    x, y = torch.tensor(sizes).double().log(), torch.stack(errors).double().log()
    x = x - x.mean()
    return (x @ y) / x.square().sum()


def test_more_rows_help_as_they_should():
    few, many = (_mean_errors(num_rows, 3, 6) for num_rows in (300, 3000))
    # 10 times the rows: a tenth of the error; that of six repeats of 16 numbers is known to a third or so.
    assert 4 < few[0] / many[0] < 25
    assert many[1] < 0.02


@pytest.mark.slow
def test_the_error_falls_as_one_over_the_rows_and_towards_that_of_maximum_likelihood():
    sizes = (500, 1000, 2000, 4000, 8000)
    errors = [_mean_errors(num_rows, 5, 20) for num_rows in sizes]
    slope = _slope(sizes, errors)
    print("\nslopes", slope.tolist(), "errors", [error.tolist() for error in errors])
    # A mean of k squares of normals is known to sqrt(2 / k): slopes to .04 for 16 numbers, and .15 for
    # log Z, which is one.
    assert abs(slope[0] + 1) < 0.12
    assert abs(slope[1] + 1) < 0.45
    best = _mean_errors(1000, None, 20)[0]
    excess = [float(_mean_errors(1000, ratio, 20)[0] / best) for ratio in (1, 10, 100)]
    print("error over that of maximum likelihood", excess)
    assert excess[0] > excess[1] > excess[2]
    assert excess[0] > 1.5
    assert excess[2] == pytest.approx(1, abs=0.15)
