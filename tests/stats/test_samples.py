import math

import pytest
import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.stats import samples
from energeia.stats.samples import classifier_test, mmd


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mmd_matches_a_double_loop() -> None:
    x, y, bandwidth = normal(0, 7, 2, 3), 1 + 2 * normal(1, 5, 2, 3), 1.7

    def mean_kernel(a: Tensor, b: Tensor, skip: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return sum(math.exp(-float((a[i] - b[j]).square().sum()) / (2 * bandwidth**2)) for i, j in pairs) / len(pairs)

    expected = mean_kernel(x, x, True) + mean_kernel(y, y, True) - 2 * mean_kernel(x, y, False)
    assert mmd(x, y, bandwidth=bandwidth).item() == pytest.approx(expected, abs=1e-12)


def test_mmd_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(0, 30, 2), normal(1, 20, 2) + 0.5
    whole = mmd(x, y)
    monkeypatch.setattr(samples, "_MAX_ENTRIES", 64)
    assert mmd(x, y).item() == pytest.approx(whole.item(), abs=1e-13)


def test_mmd_converges_to_the_closed_form_for_two_gaussians() -> None:
    dims, shift, scale, bandwidth = 2, 1.5, 0.7, 1.3

    def kernel_mean(variance: float, square_distance: float) -> float:
        # E exp(-|d|^2 / 2b^2) for d ~ N(m, variance I): (b^2 / (b^2 + v))^(D/2) exp(-|m|^2 / 2(b^2 + v)).
        total = bandwidth**2 + variance
        return (bandwidth**2 / total) ** (dims / 2) * math.exp(-square_distance / (2 * total))

    expected = kernel_mean(2, 0) + kernel_mean(2 * scale**2, 0) - 2 * kernel_mean(1 + scale**2, dims * shift**2)
    values = torch.stack(
        [mmd(normal(s, 400, dims), shift + scale * normal(100 + s, 300, dims), bandwidth=bandwidth) for s in range(20)]
    )
    error = values.std().item() / math.sqrt(len(values))
    assert error < 0.01
    assert abs(values.mean().item() - expected) < 5 * error


def test_mmd_is_zero_on_average_for_equal_distributions() -> None:
    values = torch.stack([mmd(normal(s, 60, 3), normal(1000 + s, 40, 3), bandwidth=2.0) for s in range(200)])
    assert abs(values.mean().item()) < 5 * values.std().item() / math.sqrt(200)
    assert (values < 0).any()


def test_mmd_default_bandwidth_is_the_median_distance_of_the_first_set() -> None:
    x, y = normal(0, 51, 2), 10 * normal(1, 40, 2)
    distances = sorted(float((x[i] - x[j]).norm()) for i in range(51) for j in range(i))
    median = distances[(len(distances) - 1) // 2]
    assert mmd(x, y).item() == pytest.approx(mmd(x, y, bandwidth=median).item(), abs=1e-12)
    assert mmd(x, y).item() != pytest.approx(mmd(y, x).item(), abs=1e-3)


def test_mmd_keeps_precision_far_from_the_origin_and_leaves_its_input_alone() -> None:
    x, y = normal(0, 30, 2), normal(1, 30, 2)
    before = x.clone()
    assert mmd(x + 1e5, y + 1e5, bandwidth=1.0).item() == pytest.approx(mmd(x, y, bandwidth=1.0).item(), abs=1e-8)
    assert torch.equal(x, before)


def test_classifier_finds_no_difference_where_there_is_none() -> None:
    accuracy = classifier_test(normal(0, 500, 3), normal(1, 500, 3))
    assert abs(accuracy - 0.5) < 5 * 0.5 / math.sqrt(1000)


def test_classifier_sees_correlation_that_the_means_do_not_show() -> None:
    x, z = normal(0, 600, 2), normal(1, 600, 2)
    y = torch.stack([z[:, 0], 0.95 * z[:, 0] + math.sqrt(1 - 0.95**2) * z[:, 1]], 1)
    assert classifier_test(x, y) > 0.7


def test_classifier_is_balanced_and_repeatable() -> None:
    x, y = normal(0, 900, 2), normal(1, 100, 2)
    accuracy = classifier_test(x, y)  # always answering "x" would earn 0.9
    assert abs(accuracy - 0.5) < 5 * 0.5 / math.sqrt(200)
    assert accuracy == classifier_test(x, y)


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="one event shape"):
        mmd(normal(0, 5, 2), normal(0, 5, 3))
    with pytest.raises(InputError, match="not finite"):
        mmd(normal(0, 5, 2), torch.full((5, 2), torch.nan))
    with pytest.raises(InputError, match="bandwidth"):
        mmd(torch.ones(5, 2), normal(0, 5, 2))
    with pytest.raises(InputError, match="bandwidth"):
        mmd(normal(0, 5, 2), normal(0, 5, 2), bandwidth=-1.0)
    with pytest.raises(InputError, match="folds"):
        classifier_test(normal(0, 5, 2), normal(0, 5, 2))
