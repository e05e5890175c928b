"""How often answers are right, against counting by hand."""

import pytest
import torch

import energeia as en
from energeia.tasks.spell import spelled


def _chain(**options):
    """Labels 0, 1, 2 with terms that are the features themselves."""
    return en.LinearChain(torch.nn.Identity(), en.Real((3, 3)), 3, transitions=False, per_site=True, **options).double()


X = torch.tensor(
    [
        [[2.0, 0.0, -1.0], [0.0, 3.0, 0.5], [0.0, 1.0, 5.0]],
        [[0.0, 1.5, 1.0], [4.0, 0.0, 0.0], [9.0, 9.0, 9.0]],
        [[0.0, 0.25, -9.0], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0]],
    ],
    dtype=torch.float64,
)
# Best answers: 0 1 2, gap 2; 1 0, gap .5; 1, gap .25.


def test_errors_are_those_that_are_counted():
    y = torch.tensor([[0, 1, 2], [2, 0, -1], [1, -1, 7]])
    found = en.assess(_chain(padding=9.0), X, y)
    assert found.prediction.answers.tolist() == [[0, 1, 2], [1, 0, -1], [1, -1, -1]]
    torch.testing.assert_close(found.prediction.gap, torch.tensor([2.0, 0.5, 0.25], dtype=torch.float64))
    assert found.num_sites == 6
    assert found.site_error == pytest.approx(1 / 6)
    assert found.row_error == pytest.approx(1 / 3)
    # The second answer to row 1 is 2 0, which is right.
    assert found.second_right == pytest.approx(1 / 3)
    # Gaps of right answers 2 and .25, of the wrong one .5: one of two pairs.
    assert found.gap_auroc == pytest.approx(0.5)
    assert found.confusion.tolist() == [[2, 0, 0], [0, 2, 0], [0, 1, 1]]
    # Each site's largest chance against whether it is right.
    sites = X[torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()].softmax(1)
    right = torch.tensor([1, 1, 1, 0, 1, 1], dtype=torch.float64)
    bins = (sites.max(1).values * 15).ceil()
    ece = sum(abs(float((right[bins == b] - sites[bins == b].max(1).values).sum())) for b in bins.unique().tolist())
    assert found.reliability.ece == pytest.approx(ece / 6)


def test_with_nothing_wrong_the_gap_tells_nothing():
    found = en.assess(_chain(padding=9.0), X, torch.tensor([[0, 1, 2], [1, 0, 0], [1, 0, 0]]))
    assert (found.site_error, found.row_error, found.gap_auroc) == (0.0, 0.0, None)


def test_classes_are_answers_too():
    network = torch.nn.Linear(1, 2)
    network.weight.data = torch.tensor([[-1.0], [1.0]])
    network.bias.data.zero_()
    found = en.assess(en.Classifier(network, en.Real(1)), torch.tensor([[-1.0], [2.0], [0.5]]), torch.tensor([0, 1, 0]))
    assert found.row_error == found.site_error == pytest.approx(1 / 3)
    assert found.confusion.tolist() == [[1, 1], [0, 1]]


def test_bits_are_counted_and_real_answers_are_told():
    pull = en.from_pair(lambda x, y: -(x * (2 * y - 1)).sum(1), en.Real(2), en.Binary(2))
    found = en.assess(pull, torch.tensor([[1.0, -1.0], [2.0, 0.5]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    assert (found.site_error, found.row_error, found.second_right) == (0.25, 0.5, 0.5)
    assert found.confusion is None
    real = en.from_pair(lambda x, y: (x - y).square().sum(1), en.Real(2), en.Real(2))
    with pytest.raises(en.InputError, match="counts wrong labels and bits"):
        en.assess(real, torch.zeros(2, 2), torch.zeros(2, 2))


WRONG = [
    (torch.tensor([[0, 1], [1, 0], [1, 0]]), r"y has shape \(3, 2\), expected an answer for each site \[3, 3\]"),
    (torch.tensor([[0, 1, 3], [1, 0, 0], [1, 0, 0]]), r"labels must lie in 0..2, got 0 to 3"),
    (torch.tensor([[0, 1, 2], [1, -1, 0], [1, 0, 0]]), r"labels must lie in 0..2, got -1 to 2"),
]


@pytest.mark.parametrize(("y", "told"), WRONG)
def test_answers_that_do_not_fit_are_told(y, told):
    with pytest.raises(en.InputError, match=told):
        en.assess(_chain(padding=9.0), X, y)


def test_answers_are_spelled():
    assert spelled(torch.tensor([2, 0, 1, -1]), ("a", "b", "c")) == "cab"
    assert spelled(torch.tensor([1, 0]), ("noun", "verb")) == "verb noun"
    assert spelled(torch.tensor(1), ("noun", "verb")) == "verb"
    assert spelled(torch.tensor([[2, 0]]), None) == "2 0"
    assert spelled(torch.tensor([0.5, 1.0]), None) == "0.5 1"
