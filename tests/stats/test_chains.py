import math
import sys
from statistics import NormalDist
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import energeia as en
from energeia.core.record import Draws, Info
from energeia.stats import effective_sample_size, r_hat, summary, to_arviz


class Replicas(NamedTuple):
    x: Tensor
    swap_rate: Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def autoregression(seed: int, rho: float, *shape: int) -> Tensor:
    """x_t = rho x_(t-1) + noise along the first axis, stationary with variance one."""
    noise = normal(seed, *shape)
    kept = [noise[0]]
    for fresh in noise[1:]:
        kept.append(rho * kept[-1] + math.sqrt(1 - rho**2) * fresh)
    return torch.stack(kept)


def drawn(
    kept: Tensor,
    *,
    acceptance: float = 0.6,
    divergent: Tensor | None = None,
    energy: Tensor | None = None,
    state: Any = None,
) -> Draws:
    """Draws as `sample` returns them, with the energy of a standard normal unless another is given."""
    num_draws, num_chains = kept.shape[:2]
    values = kept.flatten(2).square().sum(2) / 2 if energy is None else energy
    ones = torch.ones(num_draws, num_chains)
    info = Info(values, acceptance * ones, ones, ones < 0 if divergent is None else divergent)
    return Draws(kept[-1], kept, info, en.Langevin(step_size=0.1), state)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9, -0.4])
def test_ess_of_an_autoregression_is_the_known_one(rho: float) -> None:
    num_draws, num_chains, num_repeats = 2000, 8, 200
    ess = effective_sample_size(autoregression(1, rho, num_draws, num_chains, num_repeats), kind="mean")
    relative = ess / (num_draws * num_chains) * (1 + rho) / (1 - rho)
    error = relative.std().item() / math.sqrt(num_repeats)
    assert abs(relative.mean().item() - 1) < 5 * error + 0.01  # truncating the sum of the autocorrelations costs < 1 %
    assert error < 0.01


@pytest.mark.parametrize("rho", [0.6, -0.4])
def test_mcse_is_the_spread_of_the_estimates(rho: float) -> None:
    num_draws, num_chains, num_repeats = 2000, 4, 200
    result = summary(
        drawn(autoregression(2, rho, num_draws, num_chains, num_repeats))
    )  # the bias of the ESS falls with T
    number = num_draws * num_chains
    # The squares of an AR(1) are correlated by rho^2, so the standard deviation has an error of its own.
    for stated, estimates, truth in (
        (result.mcse_mean, result.mean, math.sqrt((1 + rho) / (1 - rho) / number)),
        (result.mcse_sd, result.sd, math.sqrt((1 + rho**2) / (1 - rho**2) / (2 * number))),
    ):
        assert estimates[:-1].std().item() == pytest.approx(truth, rel=5 / math.sqrt(2 * num_repeats))
        assert stated[:-1].mean().item() == pytest.approx(truth, rel=0.02)


def test_r_hat_matches_the_published_formula() -> None:
    kept = (normal(3, 20, 3) + torch.tensor([0.0, 0.3, 1.0])).round(decimals=1)  # with ties
    halves = torch.cat([kept[:10], kept[10:]], 1)

    def split_r_hat(values: Tensor) -> float:
        flat = values.flatten()
        below, equal = (flat[:, None] > flat).sum(1), (flat[:, None] == flat).sum(1)
        rank = below + (equal + 1) / 2
        scores = [NormalDist().inv_cdf((r - 3 / 8) / (len(flat) + 1 / 4)) for r in rank.tolist()]
        z = torch.tensor(scores, dtype=torch.float64).view(values.shape)
        within, between = z.var(0).mean(), z.mean(0).var()
        num_draws = len(values)
        return math.sqrt((num_draws - 1) / num_draws + between / within)

    # The median of an even number of values is the mean of the middle two.
    middle = halves.flatten().sort().values[[29, 30]].mean()
    expected = max(split_r_hat(halves), split_r_hat((halves - middle).abs()))
    assert r_hat(kept).item() == pytest.approx(expected, abs=1e-10)
    assert expected > 1.05


def test_r_hat_sees_chains_apart_in_place_or_in_width_and_drift_in_one_chain() -> None:
    alike = normal(4, 1000, 4, 3)
    assert r_hat(alike).max() < 1.01
    apart = alike + torch.tensor([0.0, 0.0, 0.0, 3.0]).view(1, 4, 1)
    assert r_hat(apart).min() > 1.3
    wider = alike * torch.tensor([1.0, 1.0, 1.0, 4.0]).view(1, 4, 1)
    assert r_hat(wider).min() > 1.1
    one = normal(5, 1000, 1, 2)
    drift = one + torch.linspace(0, 3, 1000).view(-1, 1, 1)
    assert r_hat(one).max() < 1.02
    assert r_hat(drift).min() > 1.2


def test_shapes_follow_the_event_and_kinds_differ() -> None:
    kept = autoregression(6, 0.5, 300, 4, 2, 3)
    for kind in ("bulk", "tail", "mean", "sd", "median"):
        ess = effective_sample_size(kept, kind=kind)
        assert ess.shape == (2, 3)
        assert ess[1, 2] == effective_sample_size(kept[:, :, 1, 2], kind=kind)
    # Squares of an AR(1) have autocorrelation rho^2t: a larger ESS.
    assert (effective_sample_size(kept, kind="sd") > effective_sample_size(kept, kind="mean")).all()
    whole = summary(drawn(kept))
    assert whole.names == ("x[0,0]", "x[0,1]", "x[0,2]", "x[1,0]", "x[1,1]", "x[1,2]", "energy")
    assert torch.equal(whole.r_hat[:-1], r_hat(kept).flatten())
    assert torch.equal(whole.ess_tail[:-1], effective_sample_size(kept, kind="tail").flatten())
    rows = kept.flatten(0, 1).flatten(1)
    assert torch.allclose(whole.mean[:-1], rows.mean(0))
    assert torch.allclose(whole.sd[:-1], rows.std(0))
    assert torch.allclose(whole.quantiles[:-1].T, rows.quantile(torch.tensor([0.05, 0.95], dtype=rows.dtype), 0))
    energy = kept.flatten(2).square().sum(2) / 2
    assert whole.mean[-1].item() == pytest.approx(energy.mean().item())
    assert whole.r_hat[-1] == r_hat(energy)


def test_some_of_many_chains_stand_for_all() -> None:
    kept = autoregression(7, 0.5, 50, 40, 2)
    part, whole = summary(drawn(kept), max_chains=4), summary(drawn(kept), max_chains=40)
    chosen = kept[:, [0, 13, 26, 39]]
    assert torch.allclose(part.ess_bulk[:-1], 10 * effective_sample_size(chosen))
    assert torch.equal(part.r_hat[:-1], r_hat(chosen))
    assert torch.equal(part.mean, whole.mean)
    assert torch.allclose(whole.ess_bulk[:-1], effective_sample_size(kept))
    # The same error is stated, up to the noise of estimating it from a tenth of the chains.
    assert torch.allclose(part.mcse_mean, whole.mcse_mean, rtol=0.5)
    assert "4 of the 40 chains" in str(part)
    assert "of the 40 chains" not in str(whole)


def test_a_sampler_of_a_known_target_is_judged_right() -> None:
    mean, scale = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([1.0, 1.5], dtype=torch.float64)
    target = en.Gaussian(2, mean=mean, scale=scale)
    draws = en.sample(target, en.MALA(step_size=1.2), num_chains=20, num_steps=2000, warmup=200, keep="all")
    result = summary(draws)
    assert result.ok, result
    assert ((result.mean[:2] - mean).abs() < 5 * result.mcse_mean[:2]).all()
    assert ((result.sd[:2] - scale).abs() < 5 * result.mcse_sd[:2]).all()
    assert (result.mcse_mean[:2] < 0.03).all()


class EightSchools(en.Energy):
    """Non-centred: theta_j = mu + tau eta_j; x = (mu / 5, log tau, eta_1..8). Rubin 1981."""

    def __init__(self) -> None:
        super().__init__(en.Real(10))
        self.effect = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
        self.error = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        mu, log_tau, eta = 5 * x[:, 0], x[:, 1], x[:, 2:]
        theta = mu[:, None] + log_tau.exp()[:, None] * eta
        misfit = ((self.effect - theta) / self.error).square().sum(1) / 2 + eta.square().sum(1) / 2
        # mu ~ N(0, 5), tau ~ half Cauchy(5), and the Jacobian of log tau.
        return misfit + (mu / 5).square() / 2 + (1 + (log_tau.exp() / 5).square()).log() - log_tau


def test_eight_schools_meets_the_reference_draws_of_posteriordb() -> None:
    start = 0.3 * normal(8, 200, 10)
    sampler = en.MALA(step_size=0.35)
    burnt = en.sample(EightSchools(), sampler, start=start, num_steps=400, generator=1).x
    draws = en.sample(EightSchools(), sampler, start=burnt, num_steps=1500, thin=5, keep="all", generator=2)
    result = summary(
        draws, names=["mu", "tau"], transform=lambda x: torch.stack([5 * x[:, 0], x[:, 1].exp()], 1), max_chains=200
    )
    assert result.names == ("mu", "tau", "energy")
    # Means of the reference posterior, and their own standard errors.
    for row, (mean, error) in enumerate([(4.4105, 0.033), (3.6021, 0.032)]):
        total = math.hypot(error, result.mcse_mean[row].item())
        assert abs(result.mean[row].item() - mean) < 5 * total
        assert result.mcse_mean[row] < 0.1
    assert (result.ess_bulk > 400).all()


def test_binary_draws() -> None:
    weight = torch.tensor([0.5, 0.1, 0.9])
    kept = (torch.rand(500, 4, 3, generator=generator(9)) < weight).double()
    result = summary(drawn(kept))
    assert result.ok, result
    number = 2000
    assert torch.allclose(result.mean[:3], weight.double(), atol=5 * math.sqrt(0.25 / number))
    expected = (weight * (1 - weight) / number).sqrt().double()
    assert torch.allclose(result.mcse_mean[:3], expected, rtol=0.2)
    assert (result.ess_bulk[:3] / number - 1).abs().max() < 0.25


def test_one_value_everywhere_is_noted_and_not_held_against_the_draws() -> None:
    kept = normal(10, 500, 4, 3)
    kept[:, :, 1] = -7
    result = summary(drawn(kept))
    assert result.ok
    assert "x[1] is -7 in all draws of all chains" in str(result)
    assert result.mean[1] == -7
    assert result.sd[1] == 0
    for numbers in (result.r_hat, result.ess_bulk, result.ess_tail, result.mcse_mean, result.mcse_sd):
        assert numbers.isnan().tolist() == [False, True, False, False]
    kept[:, :, 2] = 1
    assert "2 of 3 dimensions (such as x[1]) have a single value in all draws" in " ".join(
        str(summary(drawn(kept))).split()
    )


def test_what_never_moved_is_named() -> None:
    kept = normal(11, 500, 4, 3)
    kept[:, :, 2] = torch.arange(4.0)
    result = summary(drawn(kept))
    assert result.r_hat[2] == math.inf
    assert any("x[2] never moved" in warning for warning in result.warnings)
    assert not any("ESS" in warning and "x[2]" in warning for warning in result.warnings)

    kept = normal(12, 500, 4, 3)
    kept[:, 1] = kept[0, 1]
    result = summary(drawn(kept))
    assert result.warnings[0].startswith("chain 1 of 4 chains never moved")
    kept[:, 3] = kept[0, 3]
    assert summary(drawn(kept)).warnings[0].startswith("2 of 4 chains never moved")
    # All chains at one point: nothing varies, and that is not a constant of the target.
    assert summary(drawn(torch.ones(50, 4, 3))).warnings[0].startswith("4 of 4 chains never moved")


def test_the_words_of_every_other_warning() -> None:
    good = normal(13, 500, 4, 10)
    assert summary(drawn(good)).warnings == ()

    apart = good.clone()
    apart[:, 0, 3] += 5
    apart[:, 0, 4] += 1
    words = summary(drawn(apart, energy=normal(14, 500, 4))).warnings
    assert words[0].startswith("R-hat 1.")
    assert "for 2 of 10 dimensions (worst x[3]): run longer, or temper" in words[0]
    assert "bulk ESS" in words[1]
    assert "worst x[3]" in words[1]

    slow = autoregression(15, 0.9, 500, 4, 10)
    (words,) = [w for w in summary(drawn(slow, energy=normal(16, 500, 4))).warnings if "ESS" in w]
    assert "of 10 dimensions" in words
    assert words.endswith("below 400: run longer")
    (words,) = [w for w in summary(drawn(slow, acceptance=0.999)).warnings if "ESS" in w]
    assert words.endswith("take larger steps (acceptance 0.999)")
    assert not any("larger" in w for w in summary(drawn(slow, acceptance=1.0)).warnings)  # a sampler that never rejects

    sticky = autoregression(17, 0.98, 500, 4)
    words = summary(drawn(good, energy=sticky)).warnings
    assert all("for the energy" in w for w in words)
    assert len(words) == 2

    divergent = torch.zeros(500, 4, dtype=torch.bool)
    divergent[10:110, 2] = True
    (words,) = summary(drawn(good, divergent=divergent)).warnings
    assert words == (
        "5 % of the kept steps (100, in 1 of 4 chains) were divergent: use a smaller step_size, or a warm-up "
        "with target_acceptance nearer to 1"
    )

    (words,) = summary(drawn(good, acceptance=0.02)).warnings
    assert words == "acceptance 0.02: use a smaller step_size, or let warmup=... find one"

    rates = torch.tensor([0.4, 0.3, 0.03, 0.5])
    (words,) = summary(drawn(good, state=Replicas(good[-1], rates))).warnings
    assert words == "swap rate 0.03 between temperatures 2 and 3 (of 0 to 4): put one between"

    broken = normal(18, 500, 4)
    broken[3, 1] = math.inf
    result = summary(drawn(good, energy=broken))
    assert result.warnings == ("the energy is not finite in 1 of 2,000 kept states: look at those states",)
    assert result.mean[-1].isnan()

    tails = normal(19, 500, 4, 1)
    tails[200:, :, 0] = tails[200:, :, 0].clamp(-1, 1)  # the tails are visited in one stretch only
    assert any(w.startswith("tail ESS") for w in summary(drawn(tails)).warnings)


def test_the_table_fits_and_shows_the_worst() -> None:
    kept = normal(20, 200, 4, 5, 8)
    kept[:, 0, 4, 6] += 2
    kept[:, 0, 1, 1] += 4
    result = summary(drawn(kept * 1e4))
    assert result.worst(2) == [9, 38]
    text = str(result)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split()[0] for line in lines if line.startswith(("x[", "energy"))]
    assert len(rows) == 12
    assert rows[:2] == ["x[1,1]", "x[4,6]"]
    assert rows[-1] == "energy"
    assert "29 of 40 dimensions are not shown" in text
    assert repr(result) == text
    few = summary(
        drawn(kept[:, :, 0, :2]), names=["[red]odd[/red]", "a name that is much too long for a column of this table"]
    )
    assert "[red]odd[/red]" in str(few)
    assert max(map(len, str(few).splitlines())) <= 80
    assert "R-hat" in str(few)


def test_one_chain_is_split_and_says_so() -> None:
    result = summary(drawn(normal(21, 1000, 1, 2)))
    assert result.ok
    assert "one chain: R-hat compares its halves alone" in str(result)


def test_bad_input_is_refused() -> None:
    last = en.sample(en.Gaussian(2), en.Langevin(step_size=0.1), num_chains=10, num_steps=5)
    with pytest.raises(en.InputError, match='keep="all"'):
        summary(last)
    with pytest.raises(en.InputError, match="at least 8"):
        r_hat(torch.randn(7, 1, 2))
    kept = normal(22, 50, 4, 3)
    with pytest.raises(en.InputError, match=r"3 different ones.*got 2: a, b"):
        summary(drawn(kept), names=["a", "b"])
    with pytest.raises(en.InputError, match="different"):
        summary(drawn(kept), names=["a", "b", "a"])
    with pytest.raises(en.InputError, match="max_chains"):
        summary(drawn(kept), max_chains=0)
    with pytest.raises(en.InputError, match=r"keep the 200 rows.*\(3,\)"):
        summary(drawn(kept), transform=lambda x: x.mean(0))
    with pytest.raises(en.InputError, match=r"transform.* not finite from number 0"):
        summary(drawn(kept), transform=lambda x: x / 0)
    with pytest.raises(en.InputError, match="bulk"):
        effective_sample_size(kept, kind="bulky")  # type: ignore[arg-type]
    broken = kept.clone()
    broken[7, 2, 1] = math.nan
    with pytest.raises(en.InputError, match="not finite from number 7"):
        r_hat(broken)
    with pytest.raises(en.InputError, match=r"\[T, B"):
        effective_sample_size(torch.randn(5))


def test_arviz_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install arviz"):
        to_arviz(drawn(normal(23, 10, 2, 3)))


def test_arviz_gets_the_draws() -> None:
    arviz = pytest.importorskip("arviz")
    kept = normal(24, 100, 4, 2, 3)
    divergent = torch.zeros(100, 4, dtype=torch.bool)
    divergent[5, 3] = True
    draws = drawn(kept, divergent=divergent)
    data = to_arviz(draws)
    assert data.posterior["x"].dims[:2] == ("chain", "draw")
    assert torch.equal(torch.from_numpy(data.posterior["x"].values.copy()), kept.transpose(0, 1))
    assert data.sample_stats["diverging"].values[3, 5]
    assert set(data.sample_stats) == {"energy", "acceptance_rate", "diverging"}
    found = torch.from_numpy(arviz.rhat(data)["x"].values.copy())
    assert torch.allclose(found, r_hat(kept))
    named = to_arviz(draws, names=list("abcdef"))
    assert named.posterior["x"].sel(dimension="e").values[2, 7] == kept[7, 2, 1, 1]
