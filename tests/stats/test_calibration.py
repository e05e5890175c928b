import pytest
import torch

from energeia.core.errors import InputError
from energeia.stats.calibration import reliability


def test_matches_a_case_worked_by_hand() -> None:
    probabilities = torch.tensor(
        [[0.95, 0.05], [0.85, 0.15], [0.10, 0.90], [0.55, 0.45], [0.40, 0.60]], dtype=torch.float64
    )
    labels = torch.tensor([0, 1, 1, 0, 0])
    # Five bins of width 0.2: (0.8, 1] holds .95 right, .85 wrong, .90 right; (0.4, 0.6] holds .55 right, .60 wrong.
    result = reliability(probabilities, labels, num_bins=5)
    assert result.bin_count.tolist() == [0, 0, 2, 0, 3]
    assert result.bin_confidence[[2, 4]].tolist() == pytest.approx([0.575, 0.9])
    assert result.bin_accuracy[[2, 4]].tolist() == pytest.approx([0.5, 2 / 3])
    assert result.bin_accuracy[[0, 1, 3]].isnan().all()
    assert result.ece == pytest.approx(2 / 5 * 0.075 + 3 / 5 * (0.9 - 2 / 3))


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_worst() -> None:
    one_hot = torch.eye(3)
    assert reliability(one_hot, torch.tensor([0, 1, 2])).ece == 0
    assert reliability(one_hot, torch.tensor([1, 2, 0])).ece == 1


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.randn(40_000, 4, generator=generator).mul(2).softmax(1)
    labels = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
    assert reliability(probabilities, labels).ece < 0.015
    sharpened = probabilities.square() / probabilities.square().sum(1, keepdim=True)
    assert reliability(sharpened, labels).ece > 0.1


def test_refuses_logits_and_labels_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="softmax"):
        reliability(torch.tensor([[2.0, -1.0]]), torch.tensor([0]))
    with pytest.raises(InputError, match="softmax"):
        reliability(torch.tensor([[torch.nan, 1.0]]), torch.tensor([0]))
    with pytest.raises(InputError, match=r"0\.\.1, got 2 to 2"):
        reliability(torch.tensor([[0.5, 0.5]]), torch.tensor([2]))
    with pytest.raises(InputError, match="integers"):
        reliability(torch.tensor([[0.5, 0.5]]), torch.tensor([[0]]))
    with pytest.raises(InputError, match="num_bins"):
        reliability(torch.tensor([[0.5, 0.5]]), torch.tensor([0]), num_bins=0)
