"""Warnings point at the line of the caller, whatever lies between."""

import inspect
import warnings

import numpy as np
import pytest
import torch

import energeia as en


def _told_at(call):
    """Lines of this file that the warnings of a call point at, `call` being one line long."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    # Not those of torch itself, which are of other kinds.
    ours = [warning for warning in told if warning.category is UserWarning]
    assert ours
    assert {warning.filename for warning in ours} == {__file__}
    return {warning.lineno for warning in ours}


def _line_of(call):
    lines, first = inspect.getsourcelines(call)
    (at,) = [number for number, line in enumerate(lines) if "# here" in line]
    return {first + at}


def test_of_an_objective_at_the_line_that_calls_fit():
    energy = en.Neural(torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)), en.Real(2))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))

    def call():
        en.fit(energy, en.ScoreMatching(), x, num_steps=1, batch_size=64, progress=False)  # here

    assert _told_at(call) == _line_of(call)


def test_of_an_objective_at_the_line_that_calls_it():
    energy = en.Neural(torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)), en.Real(2))

    def call():
        en.ScoreMatching()(energy, en.Batch(torch.zeros(4, 2)), torch.Generator())  # here

    assert _told_at(call) == _line_of(call)


@pytest.mark.parametrize("in_a_pipeline", [False, True])
def test_of_an_estimator_at_the_line_that_fits_it(in_a_pipeline):
    pipeline = pytest.importorskip("sklearn.pipeline")
    rows = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 0.0]
    model = en.Density(n_updates=0)
    whole = pipeline.make_pipeline(model) if in_a_pipeline else model

    def call():
        whole.fit(rows)  # here

    assert _told_at(call) == _line_of(call)
