"""Annealed importance sampling against exact log Z: unbiased weights, the right side, refusals."""

import math

import pytest
import torch

import energeia as en
from energeia.energies import Enumerated, four_gaussians
from energeia.partition import choose


def _machine(visible=None, hidden=3):
    torch.manual_seed(0)
    return en.RBM(visible or en.Binary(6), hidden, weight_scale=0.9).double()


def _ising():
    edges = [(0, 1), (1, 2), (2, 0), (3, 0)]
    couplings = torch.tensor([0.5, -1.0, 0.2, 0.7], dtype=torch.float64)
    fields = torch.tensor([0.3, -0.6, 0.0, 1.0], dtype=torch.float64)
    return Enumerated(en.Ising(4, edges, couplings=couplings, fields=fields))


CASES = {
    "RBM": (_machine, None),
    "RBM, spins and categories": (lambda: _machine(en.Spin(4), en.Categorical(2, 3)), None),
    "RBM, real": (lambda: _machine(en.Real(2, start_scale=2.0)), None),
    "Ising by Gibbs": (_ising, en.Gibbs(scan="palindrome")),
    "Ising by flips": (_ising, en.Metropolis()),
    "Gaussians by HMC": (lambda: four_gaussians(dtype=torch.float64), en.HMC(step_size=0.5, num_leapfrog=3)),
}


def _base(energy):
    """Asymmetric, and not the best one."""
    generator = torch.Generator().manual_seed(3)
    x = energy.space.start(50, generator, dtype=torch.float64)
    return en.fitted_base(energy.space, 1.5 * x if isinstance(energy.space, en.Real) else x)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_unbiased_up_and_down(name):
    """E[w] = Z / Z_0 up, E[1 / w] = Z_0 / Z down from exact draws; few levels, so that weights vary."""
    make, sampler = CASES[name]
    energy = make()
    exact = en.exact_log_z(energy).value
    # Down from narrow wells, weights of few levels are all but infinite.
    levels = 60 if "Gaussians" in name else 6
    options = {"base": _base(energy), "sampler": sampler, "levels": levels}
    lower = en.ais(energy, num_chains=4000, generator=1, **options)
    draws = energy.sample_exact(4000, torch.Generator().manual_seed(2))
    upper = en.reverse_ais(energy, draws, generator=2, **options)
    assert (lower.value - exact).abs() < 5 * lower.standard_error
    assert (upper.value - exact).abs() < 5 * upper.standard_error
    # One chain at a time shows the side that each is on; the weights must have something to show.
    for estimate, sign in ((lower, 1), (upper, -1)):
        logs = estimate.details["log_estimates"]
        assert logs.std() > 0.05
        alone = sign * (logs.mean() - logs.logsumexp(0) + math.log(len(logs)))
        assert alone < 0 if estimate.kind == "lower" else alone > 0


def test_more_levels_close_the_gap():
    machine = _machine(en.Binary(8), 6)
    exact = en.exact_log_z(machine).value
    errors = [float(en.ais(machine, levels=levels, num_chains=200).standard_error) for levels in (5, 50, 500)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    estimate = en.ais(machine, levels=500, num_chains=200)
    assert (estimate.value - exact).abs() < 5 * estimate.standard_error < 0.05
    assert estimate.details["effective_sample_size"] > 190


def test_the_shares_may_be_given():
    machine = _machine()
    shares = [0.0, 0.05, 0.2, 0.6, 1.0]
    estimate = en.ais(machine, levels=shares, num_chains=4000)
    assert estimate.details["num_levels"] == 4
    assert (estimate.value - en.exact_log_z(machine).value).abs() < 5 * estimate.standard_error


@pytest.mark.parametrize(
    "space", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3), en.Real(3), en.Box(3, 0.0, 2.0)]
)
def test_a_fitted_base_has_the_mean_of_the_rows(space):
    generator = torch.Generator().manual_seed(0)
    x = space.start(400, generator, dtype=torch.float64)
    base = en.fitted_base(space, x)
    draws = base.sample_exact(100_000, generator)
    space.check(draws)
    if not isinstance(space, en.Box):
        assert ((draws.mean(0) - x.mean(0)).abs() < 0.02).all()
    assert not base(x).requires_grad


def test_a_gaussian_is_no_base_of_bits():
    """Elsewhere that pairing gives 1763.6 for 549.99, without a word."""
    with pytest.raises(en.InputError, match=r"lives on Real.*en\.Independent on bits"):
        en.ais(_machine(), base=en.Gaussian(6).double())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: en.ais(m, levels=[0.0, 0.5]), en.InputError, "rise from 0 to 1"),
        (lambda m: en.ais(m, levels=0), en.InputError, "at least 1"),
        (lambda m: en.ais(m, num_chains=0), en.InputError, "at least 1"),
        (lambda m: en.ais(m, base=en.RBM(6, 3).double()), en.CapabilityError, r"Factorised.*en\.Independent"),
        (lambda m: en.ais(m, base=en.RBM(6, 3)), en.InputError, r"base\.to\(torch\.float64\)"),
        (lambda m: en.reverse_ais(m, torch.full((5, 6), 2.0).double()), en.InputError, "outside"),
        (lambda m: en.fitted_base(m.space, torch.zeros(1, 6)), en.InputError, "at least two rows"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(call, error, message):
    with pytest.raises(error, match=message):
        call(_machine())


def test_an_energy_that_is_not_finite_is_told():
    machine = _machine()
    with torch.no_grad():
        machine.weight[0, 0] = float("nan")
    with pytest.raises(en.DivergenceError, match="NaN or infinite"):
        en.ais(machine, base=en.Independent(machine.space, torch.zeros(6, dtype=torch.float64)), levels=5)


class _Unlisted(en.Energy):
    """The machine, without the exact log Z that it has."""

    def __init__(self, machine):
        super().__init__(machine.space)
        self.machine = machine

    def forward(self, x):
        return self.machine(x)

    def capability(self, kind):
        return None if kind in (en.Normalised, en.Tractable, en.Listed) else self.machine.capability(kind)


def test_a_nan_is_told_before_a_base_is_fitted_to_it():
    machine = _machine()
    with torch.no_grad():
        machine.weight[0, 0] = float("nan")
    with pytest.raises(en.InputError, match="NaN or infinite for 200 of 200 points"):
        en.bracket(_Unlisted(machine), levels=5)


def test_log_likelihood_is_exact_or_bracketed(monkeypatch):
    machine = _machine(en.Binary(8), 6)
    x = machine.sample_exact(300, torch.Generator().manual_seed(4))
    exact = en.log_likelihood(machine, x)
    with torch.no_grad():
        expected = -machine(x) - en.exact_log_z(machine).value
    torch.testing.assert_close(exact.values, expected)
    assert exact.low == exact.mean == exact.high
    assert exact.log_z.kind == "exact"
    monkeypatch.setattr(choose, "DEFAULT_MOST", 10)
    bracketed = en.log_likelihood(_Unlisted(machine), x, num_chains=300, levels=300)
    assert bracketed.low < exact.mean < bracketed.high < bracketed.low + 0.1
    assert (exact.log_z.kind, bracketed.log_z.kind) == ("exact", "approximate")
    assert [bracketed.log_z.details[side].kind for side in ("lower", "upper")] == ["lower", "upper"]
    words = "annealed importance sampling, 300 chains, 300 levels"
    assert bracketed.log_z.method == f"{words} and reverse {words}"
    one = en.log_likelihood(_Unlisted(machine), x[:1], levels=300)
    assert one.low < float(exact.values[0]) < one.high
