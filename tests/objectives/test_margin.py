"""The losses of the tutorial's table against hand computation over all answers, and the margin of each."""

import functools
import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch
from answered import LISTED, assert_same, classes, gradients, grid, loss_of, waves
from small_truths import random

import energeia as en
from energeia.core.answers import Found, Search
from energeia.objectives.margin import Kind, Outside, most_offending, posed

KINDS = get_args(Kind)
# Table 1 of the tutorial, with m = .7, M = .6, gamma = 1.3; E of the right answer, W of the most offending wrong one.
SETTINGS = {"margin": 0.7, "bound": 0.6, "gamma": 1.3}
TABLE = {
    "hinge": lambda e, w: max(0.0, 0.7 + e - w),
    "log": lambda e, w: math.log(1 + math.exp(e - w)),
    "lvq2": lambda e, w: min(0.6, max(0.0, e - w)),
    "mce": lambda e, w: 1 / (1 + math.exp(w - e)),
    "square-square": lambda e, w: e**2 + max(0.0, 0.7 - w) ** 2,
    "square-exponential": lambda e, w: e**2 + 1.3 * math.exp(-w),
}
# dL/dE and dL/dW, by hand.
SLOPES = {
    "hinge": lambda e, w: (1.0, -1.0) if w < 0.7 + e else (0.0, 0.0),
    "log": lambda e, w: (1 / (1 + math.exp(w - e)), -1 / (1 + math.exp(w - e))),
    "lvq2": lambda e, w: (1.0, -1.0) if 0 < e - w < 0.6 else (0.0, 0.0),
    "mce": lambda e, w: (TABLE["mce"](e, w) * TABLE["mce"](w, e), -TABLE["mce"](e, w) * TABLE["mce"](w, e)),
    "square-square": lambda e, w: (2 * e, -2 * max(0.0, 0.7 - w)),
    "square-exponential": lambda e, w: (2 * e, -1.3 * math.exp(-w)),
}


def by_hand(kind, right, wrong):
    """The mean loss over rows, with the gradient written out."""
    value, slopes = 0.0, []
    for e, w in zip(right.tolist(), wrong.tolist(), strict=True):
        value += TABLE[kind](e, w) / len(right)
        slopes.append(SLOPES[kind](e, w))
    down, up = torch.tensor(slopes, dtype=torch.float64).unbind(1)
    # The value is the hand's, and so is its derivative along E and W.
    linear = (down * right + up * wrong).mean()
    return value + linear - linear.detach()


def least_wrong(case):
    """E of the right answers and of the wrong ones of least energy, by listing."""
    table, right = case.table(), case.right()
    others = table.masked_fill(torch.nn.functional.one_hot(right, table.shape[1]).bool(), torch.inf)
    return table.gather(1, right.unsqueeze(1))[:, 0], others.min(1).values


@pytest.mark.parametrize("name", LISTED)
def test_half_of_the_answers_are_not_the_best(name):
    case = LISTED[name]()
    right, wrong = least_wrong(case)
    assert (right < wrong).tolist() == [True, False] * 3


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("kind", KINDS)
def test_table_by_enumeration(name, kind):
    case = LISTED[name]()
    loss = loss_of(en.Margin(kind, **SETTINGS), case.energy, case.batch())
    assert_same(loss.value, by_hand(kind, *least_wrong(case)), case.energy)
    right, wrong = least_wrong(case)
    torch.testing.assert_close(loss.metrics["gap_to_wrong"], (wrong - right).mean().detach())
    assert loss.metrics["found"] == 1


@pytest.mark.parametrize("name", LISTED)
def test_energy_and_perceptron_by_enumeration(name):
    case = LISTED[name]()
    right, _ = least_wrong(case)
    energy_loss = loss_of(en.EnergyLoss(), case.energy, case.batch())
    assert_same(energy_loss.value, right.mean(), case.energy)
    perceptron = loss_of(en.Perceptron(), case.energy, case.batch())
    assert_same(perceptron.value, (right - case.table().min(1).values).mean(), case.energy)
    assert perceptron.value > 0


@pytest.mark.parametrize("search", [None, en.Enumeration(), en.MinimumCut(), en.Elimination()])
def test_most_offending_answer_is_the_wrong_one_of_least_energy(search):
    case = grid()
    found, known = most_offending(posed(case.energy, case.batch(), ""), search, torch.Generator(), radius=None)
    table = case.table().detach()
    for row, right in enumerate(case.right().tolist()):
        others = [number for number in range(64) if number != right]
        expected = min(others, key=lambda number: float(table[row, number]))
        assert found[row].argmax(-1).equal(case.answers[expected])
    assert known.all()


def test_gradient_of_the_hinge_on_a_linear_classifier_in_closed_form():
    """dL/dW = mean [x 1(y') - x 1(y)] over the rows within the margin."""
    case = classes()
    loss = loss_of(en.Margin("hinge", margin=0.7), case.energy, case.batch())
    layer = case.energy.network
    expected = torch.zeros(4, 2).double()
    for x, y in zip(case.x, case.y.tolist(), strict=True):
        logits = (layer.weight @ x + layer.bias).detach()
        wrong = max((k for k in range(4) if k != y), key=lambda k: float(logits[k]))
        if logits[y] - logits[wrong] < 0.7:
            expected[wrong] += x / 6
            expected[y] -= x / 6
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(gradients(loss.value, case.energy)[0], expected)


# Real answers: the ball around the right one is left out.


def nodes(number):
    """Gauss-Legendre nodes on [-3, 3]."""
    return torch.tensor(3 * np.polynomial.legendre.leggauss(number)[0])


def waves_by_hand(function, x, y, radius, line):
    """E of the answers, and of the best on the line that is farther than the radius, row by row.

    A place of the line within the radius stands for the end of the ball on its side.
    """
    right, wrong = [], []
    for row in range(len(x)):
        away = line - y[row]
        ends = torch.where(away < 0, y[row] - radius, y[row] + radius)
        outside = torch.where(away.abs() >= radius, line, ends)
        outside = outside[(outside >= line.min() - 1e-3) & (outside <= line.max() + 1e-3)]
        levels = function(x[row].expand(len(outside), 1), outside.unsqueeze(1))
        right.append(function(x[row : row + 1], y[row : row + 1])[0])
        wrong.append(levels[levels.argmin()])
    return torch.stack(right), torch.stack(wrong)


@pytest.mark.parametrize("radius", [0.2, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_table_with_real_answers_on_a_grid(kind, radius):
    energy, function, x, y = waves()
    objective = en.Margin(kind, **SETTINGS, radius=radius, search=en.Enumeration(num_nodes=61))
    loss = loss_of(objective, energy, en.Batch(x, y))
    assert_same(loss.value, by_hand(kind, *waves_by_hand(function, x, y, radius, nodes(61))), energy)


@pytest.mark.parametrize("radius", [0.2, 0.5])
def test_descent_finds_the_most_offending_real_answer(radius):
    energy, function, x, y = waves()
    case = posed(energy, en.Batch(x, y), "")
    search = en.Descent(num_steps=200, num_starts=20, step_size=0.05)
    found, known = most_offending(case, search, torch.Generator().manual_seed(0), radius=radius)
    assert known.all()
    assert ((found - y).abs() >= radius - 1e-12).all()
    dense = torch.linspace(-3, 3, 200_001, dtype=torch.float64)
    _, wrong = waves_by_hand(function, x, y, radius, dense)
    torch.testing.assert_close(function(x, found), wrong, rtol=0, atol=1e-4)
    # In some row the best answer outside lies on the ball, in some it does not.
    on_it = ((found - y).abs() - radius).abs() < 1e-3
    assert on_it.any()
    assert not on_it.all()


def test_perceptron_with_real_answers():
    energy, function, x, y = waves()
    loss = loss_of(en.Perceptron(en.Enumeration(num_nodes=61)), energy, en.Batch(x, y))
    right, least = waves_by_hand(function, x, y, 0.0, nodes(61))
    assert_same(loss.value, (right - least).clamp_min(0).mean(), energy)


def test_the_ball_is_round_and_inside_counts_its_nearest_surface():
    centre = random(3, 2)
    plane = en.from_module(lambda y: 2 * y[:, 0] - 3 * y[:, 1], en.Real(2))
    outside = Outside(plane, centre, 1.0)
    for angle in torch.linspace(0, 6, 7):
        way = torch.stack([angle.cos(), angle.sin()]).double()
        torch.testing.assert_close(outside(centre + 0.3 * way), plane(centre + way))
        torch.testing.assert_close(outside(centre + 1.5 * way), plane(centre + 1.5 * way))
    twice = outside.take(torch.arange(3).repeat_interleave(2))
    steps = torch.tensor([[0.0, 0.5], [2.0, 0.0]] * 3, dtype=torch.float64)
    reached = torch.tensor([[0.0, 1.0], [2.0, 0.0]] * 3, dtype=torch.float64)
    both = centre.repeat_interleave(2, 0)
    torch.testing.assert_close(twice(both + steps), plane(both + reached))


# The margin: section 5 of the tutorial. E of the right answer across, E' of the most offending one up.

AXIS = torch.linspace(0, 3, 21, dtype=torch.float64)
PLANE = torch.cartesian_prod(AXIS, AXIS)


class Two(en.Energy):
    """Two classes whose energies are x itself."""

    def __init__(self):
        super().__init__(en.Real(2))
        self.num_classes = 2

    def class_energies(self, x):
        return x

    def forward(self, x):
        return -(-x).logsumexp(1)


@functools.cache
def on_the_plane(objective):
    """The loss of every point (E, E'), and its negative gradient `[n, 2]`, through the objective itself."""
    points = PLANE.clone().requires_grad_(True)
    zeros = torch.zeros(1, dtype=torch.int64)
    values = torch.stack(
        [loss_of(objective, Two(), en.Batch(point.unsqueeze(0), zeros)).value for point in points.unbind(0)]
    )
    return values.detach(), -torch.autograd.grad(values.sum(), points)[0]


def pushes_apart(objective, m):
    """Whether -gradient points into E + m < E' wherever E' < E + m."""
    _, way = on_the_plane(objective)
    within = PLANE[:, 1] < PLANE[:, 0] + m - 1e-9
    return bool((way[within] @ torch.tensor([-1.0, 1.0]).double() > 0).all())


def a_point_beats_all_within(objective, m):
    """Condition 3: some (E, E') with E + m < E' has a lower loss than every point with E' < E + m."""
    values, _ = on_the_plane(objective)
    apart, within = PLANE[:, 0] + m < PLANE[:, 1] - 1e-9, PLANE[:, 1] < PLANE[:, 0] + m - 1e-9
    return bool(values[apart].min() < values[within].min() - 1e-12)


WITH_MARGIN = {
    **{kind: en.Margin(kind, margin=1.0) for kind in ("hinge", "log", "mce", "square-square", "square-exponential")},
    "likelihood": en.ConditionalLikelihood(),
    "empirical error": en.MinimumEmpiricalError(),
}
WITHOUT = {"energy": en.EnergyLoss(), "perceptron": en.Perceptron(), "lvq2": en.Margin("lvq2")}


@pytest.mark.parametrize("name", WITH_MARGIN)
def test_losses_with_a_margin_separate_the_energies(name):
    assert pushes_apart(WITH_MARGIN[name], 1.0)
    assert a_point_beats_all_within(WITH_MARGIN[name], 1.0)


@pytest.mark.parametrize("name", WITHOUT)
def test_losses_without_a_margin_do_not(name):
    assert not a_point_beats_all_within(WITHOUT[name], 0.05)
    values, way = on_the_plane(WITHOUT[name])
    equal = PLANE[:, 0] == PLANE[:, 1]
    if name == "energy":
        # E falls whatever becomes of E', which may fall with it: the loss never asks.
        assert way[:, 1].abs().max() == 0
        assert values[equal].min() == values.min()
    else:
        # All answers alike: as good as it gets, and nothing moves where E < E'.
        assert (values[equal] == 0).all()
        assert way[PLANE[:, 0] < PLANE[:, 1]].abs().max() == 0
        assert not pushes_apart(WITHOUT[name], 0.05)


def test_the_hinge_rests_beyond_its_margin_and_only_there():
    _, way = on_the_plane(en.Margin("hinge", margin=0.52))
    moving = way.abs().sum(1) > 0
    assert torch.equal(moving, PLANE[:, 1] < PLANE[:, 0] + 0.52)


def test_lvq2_gives_up_on_rows_that_are_far_wrong():
    _, way = on_the_plane(en.Margin("lvq2", bound=0.52))
    moving = way.abs().sum(1) > 0
    between = PLANE[:, 0] - PLANE[:, 1]
    # At E = E' there is a kink: either slope will do.
    assert torch.equal(moving[between != 0], ((between > 0) & (between < 0.52))[between != 0])


# What a search may miss.


@dataclass(frozen=True)
class Finds(Search):
    """A search that finds what it is told, the same for all rows; inf beyond it."""

    numbers: tuple[int, ...]

    def find(self, energy, generator, *, num_best=1):
        one_hot = torch.eye(energy.space.num_categories, dtype=torch.float64)
        answers = torch.zeros(energy.num_rows, num_best, len(one_hot), dtype=torch.float64)
        energies = torch.full(answers.shape[:2], torch.inf, dtype=torch.float64)
        for place, number in enumerate(self.numbers[:num_best]):
            answers[:, place] = one_hot[number]
            energies[:, place] = energy(answers[:, place]).detach()
        return Found(answers, energies, False, "told")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_wrong_answer_counts_as_far_from_all(kind):
    """The search knows of answer 2 alone, which is right in rows 1 and 2."""
    case = classes()
    y = torch.tensor([0, 2, 2, 1, 3, 0])
    table = case.table()
    right = table.gather(1, y.unsqueeze(1))[:, 0]
    loss = loss_of(en.Margin(kind, **SETTINGS, search=Finds((2,))), case.energy, en.Batch(case.x, y))
    some = torch.tensor([0, 3, 4, 5])
    expected = 4 / 6 * by_hand(kind, right[some], table[some, 2])
    if "square" in kind:
        expected = expected + right[1:3].square().sum() / 6
    assert_same(loss.value, expected, case.energy)
    torch.testing.assert_close(loss.metrics["gap_to_wrong"], (table[some, 2] - right[some]).mean().detach())
    torch.testing.assert_close(loss.metrics["found"].item(), 4 / 6)


def test_no_wrong_answer_in_any_row_leaves_no_gap():
    case = classes()
    batch = en.Batch(case.x, torch.full((6,), 2))
    loss = loss_of(en.Margin(search=Finds((2,))), case.energy, batch)
    assert loss.value == 0
    assert loss.metrics["found"] == 0
    assert "gap_to_wrong" not in loss.metrics
    assert all(g.abs().max() == 0 for g in gradients(loss.value, case.energy))
    # Training goes on: the guard would stop it for a gap that is NaN.
    result = en.fit(case.energy, en.Margin(search=Finds((2,))), tuple(batch), num_steps=3, batch_size=6, progress=False)
    assert result.rewinds == 0


def test_perceptron_of_a_search_that_ends_above_the_right_answer_is_zero_not_negative():
    case = classes()
    table = case.table().detach()
    best, worst = table.argmin(1), table.argmax(1)
    row = slice(0, 1)
    told = Finds((int(worst[0]),))
    loss = loss_of(en.Perceptron(told), case.energy, en.Batch(case.x[row], best[row]))
    assert loss.value == 0


def test_nothing_is_random_and_searches_leave_no_gradient_behind():
    case = classes()
    loss = loss_of(en.Margin("log"), case.energy, case.batch())
    assert all(parameter.grad is None for parameter in case.energy.parameters())
    assert torch.equal(loss.value, en.Margin("log")(case.energy, case.batch(), torch.Generator().manual_seed(9)).value)


# Bad input, for every loss of inputs and answers.

LOSSES = {
    "energy": en.EnergyLoss(),
    "perceptron": en.Perceptron(),
    "margin": en.Margin(radius=0.1),
    "structured hinge": en.StructuredHinge(),
    "direct": en.DirectLoss(),
    "likelihood": en.ConditionalLikelihood(),
    "empirical error": en.MinimumEmpiricalError(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_bad_rows_are_told(name):
    case, objective = classes(), LOSSES[name]
    who = type(objective).__name__
    with pytest.raises(en.InputError, match=f"{who}: the batch has no answers y; give fit"):
        loss_of(objective, case.energy, en.Batch(case.x))
    for label, text in [
        (4, "outside 0..3; the first is 4, in row 1;"),
        (-1, "outside 0..3; the first is -1, in row 1;"),
    ]:
        with pytest.raises(en.InputError, match=text):
            loss_of(objective, case.energy, en.Batch(case.x, torch.tensor([0, label, 2, 0, 1, 3])))
    with pytest.raises(
        en.InputError,
        match=r"the answers are torch.float64 of shape \(6,\); expected label numbers \(int64\) of shape \[B\]",
    ):
        loss_of(objective, case.energy, en.Batch(case.x, case.y.double()))
    x = case.x.clone()
    x[3, 1] = math.nan
    with pytest.raises(en.InputError, match=f"{who}: x has values that are NaN or infinite; the first is in row 3"):
        loss_of(objective, case.energy, en.Batch(x, case.y))
    with pytest.raises(en.InputError, match="6 rows, each for its own x, and the answers have 5"):
        loss_of(objective, case.energy, en.Batch(case.x, case.y[:5]))
    with pytest.raises(en.InputError, match="no rows"):
        loss_of(objective, case.energy, en.Batch(case.x[:0], case.y[:0]))
    with pytest.raises(en.CapabilityError, match=r"Answering .* Gaussian does not offer; take en.from_pair"):
        loss_of(objective, en.Gaussian(2).double(), case.batch())


@pytest.mark.parametrize("name", ["energy", "perceptron", "margin", "likelihood", "empirical error"])
def test_bad_real_answers_are_told(name):
    energy, _, x, y = waves()
    y[2] = math.nan
    with pytest.raises(en.InputError, match=r"y: 1 of 5 rows lie outside Box.*the first is row 2"):
        loss_of(LOSSES[name], energy, en.Batch(x, y))
    y[2] = 3.5
    with pytest.raises(
        en.InputError, match=r"y: 1 of 5 rows lie outside Box.*the first is row 2, with values from 3.5"
    ):
        loss_of(LOSSES[name], energy, en.Batch(x, y))
    with pytest.raises(en.InputError, match=r"y has shape \(5,\)"):
        loss_of(LOSSES[name], energy, en.Batch(x, y[:, 0]))


def test_bad_settings_are_told():
    with pytest.raises(en.InputError, match=r"kind must be one of hinge, log, lvq2, mce, .* got 'hing'"):
        en.Margin("hing")
    for setting in ("margin", "bound", "gamma", "radius"):
        for value in (-1.0, 0.0, math.nan, math.inf):
            with pytest.raises(en.InputError, match=f"Margin: {setting} must be a positive finite number, got"):
                en.Margin(**{setting: value})


def test_real_answers_need_a_ball_that_leaves_something():
    energy, _, x, y = waves()
    with pytest.raises(en.InputError, match=r"real answers need radius"):
        loss_of(en.Margin(), energy, en.Batch(x, y))
    with pytest.raises(en.InputError, match=r"no answer is wrong for row 0: all of Box.* lies within radius=7"):
        loss_of(en.Margin(radius=7.0), energy, en.Batch(x, y))
