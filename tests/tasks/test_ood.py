import pytest
import torch
from torch import Tensor

from energeia.core.energy import Energy, FromModule
from energeia.core.errors import DivergenceError, InputError
from energeia.core.space import Binary, Box, Real
from energeia.tasks.ood import detect, ood


def test_auroc_counts_pairs_and_half_of_the_ties() -> None:
    own = torch.tensor([3.0, 1.0, 2.0, 2.0, 5.0])
    foreign = torch.tensor([2.0, 0.0, 5.0, 2.0])
    wins = (own[:, None] > foreign).double() + 0.5 * (own[:, None] == foreign).double()
    assert detect(own, foreign).auroc == pytest.approx(float(wins.mean()), abs=1e-12)
    assert detect(foreign, own).auroc == pytest.approx(1 - float(wins.mean()), abs=1e-12)
    assert detect(torch.zeros(3), torch.zeros(4)).auroc == 0.5


def test_direction_and_average_precision_of_a_known_ranking() -> None:
    result = detect(torch.tensor([4.0, 2.0]), torch.tensor([3.0, 1.0]))
    assert result.auroc == 0.75
    # Down the ranking: own 1/1, foreign, own 2/3, foreign.
    assert result.aupr == pytest.approx((1 + 2 / 3) / 2)


def test_false_positives_where_95_percent_of_own_points_pass() -> None:
    own = torch.arange(20.0) + 1  # 1..20: the threshold 2 keeps 19 of 20.
    foreign = torch.tensor([1.5, 2.0, 2.5, 0.0])
    assert detect(own, foreign).fpr_at_95_tpr == 0.5
    assert detect(own[:19] + 1, foreign).fpr_at_95_tpr == 0.5  # 19 points: 95% rounds up to all of them.


class Bowl(Energy):
    """Two classes; E(x) = |x|^2 / 2 for both, less a step that makes the first class sure where x_0 is large."""

    num_classes = 2

    def class_energies(self, x: Tensor) -> Tensor:
        bowl = x.square().sum(1) / 2
        return torch.stack([bowl, bowl + 50 * x[:, 0].abs()], 1)

    def forward(self, x: Tensor) -> Tensor:
        return -(-self.class_energies(x)).logsumexp(1)


def test_scores_are_minus_energy_confidence_and_minus_the_gradient_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    x_in, far = torch.randn(30, 2, generator=generator), 8 + torch.randn(20, 2, generator=generator)
    energy = Bowl(Real(2))
    result = ood(energy, x_in, {"far": far, "same": x_in.clone()}, batch_size=7)
    assert set(result["far"]) == {"energy", "confidence", "gradient_norm"}
    assert torch.allclose(result["far"]["energy"].score_out, -energy(far).double())
    assert torch.allclose(result["far"]["gradient_norm"].score_out, -far.norm(dim=1).double(), atol=1e-4)
    assert result["far"]["energy"].auroc == 1
    assert result["far"]["gradient_norm"].auroc == 1
    # The far points are surer than the own ones: confidence is wrong here, and says so.
    assert result["far"]["confidence"].auroc < 0.5
    assert all(found.auroc == pytest.approx(0.5) for found in result["same"].values())
    assert x_in.grad is None
    assert not x_in.requires_grad


def test_confidence_keeps_its_ranking_where_float32_would_round_to_one() -> None:
    energy = Bowl(Real(2))
    assert ood(energy, torch.full((2, 2), 0.5), {"less": torch.full((2, 2), 0.42)})["less"]["confidence"].auroc == 1


def test_discrete_spaces_have_no_gradient_score() -> None:
    energy = FromModule(lambda x: -x.sum(1), Binary(3))
    result = ood(energy, torch.ones(4, 3), {"zeros": torch.zeros(4, 3)})
    assert set(result["zeros"]) == {"energy"}
    assert result["zeros"]["energy"].auroc == 1


def test_says_what_is_wrong() -> None:
    energy = FromModule(lambda x: 1 / x[:, 0], Box(2, 0.0, 1.0))
    x = torch.full((4, 2), 0.5)
    with pytest.raises(InputError, match="at least one foreign set"):
        ood(energy, x, {})
    with pytest.raises(InputError, match="fashion: 4 of 4 rows lie outside"):
        ood(energy, x, {"fashion": 255 * x})
    with pytest.raises(DivergenceError, match="4 points of black"):
        ood(energy, x, {"black": torch.zeros(4, 2)})
    with pytest.raises(InputError, match="score_out"):
        detect(x[:, 0], torch.tensor([torch.nan]))
