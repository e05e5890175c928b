"""log Z between two estimates: what the interval covers and what is said."""

import math

import pytest
import torch

import energeia as en
from energeia.partition import enclosing
from energeia.partition.signs import check_bounded


def _estimate(value, error, kind):
    value, error = torch.tensor(value), torch.tensor(error)
    ends, nothing = (value - 2 * error, value + 2 * error), torch.tensor(math.inf)
    low, high = (ends[0], nothing) if kind == "lower" else (-nothing, ends[1])
    return en.LogZ(value, error, kind, low, high, kind, {"interval": ends})


@pytest.mark.parametrize(
    ("lower", "upper", "low", "high"),
    [
        ((1.0, 0.1), (2.0, 0.3), 0.8, 2.6),
        ((2.0, 0.1), (1.0, 0.1), 0.8, 2.2),
        # The wide one lies inside out on both sides of the narrow one.
        ((1.0, 0.01), (1.1, 1.0), -0.9, 3.1),
    ],
)
def test_the_interval_covers_both_estimates(lower, upper, low, high):
    found = enclosing(_estimate(*lower, "lower"), _estimate(*upper, "upper"))
    assert float(found.low) == pytest.approx(low)
    assert float(found.high) == pytest.approx(high)


def test_sides_that_contradict_are_told():
    apart = enclosing(_estimate(2.0, 0.1, "lower"), _estimate(1.0, 0.1, "upper"))
    assert apart.details["contradicted"]
    assert "1 nats below" in apart.method
    assert "not mixed" in apart.method
    crossed = enclosing(_estimate(2.0, 0.1, "lower"), _estimate(1.9, 0.1, "upper"))
    assert not crossed.details["contradicted"]
    assert "mixed" not in crossed.method


def test_an_energy_without_parameters():
    """The volume of hidden units needs a dtype, which parameters need not give."""
    machine = en.RBM(5, 4).double()
    exact = en.exact_log_z(machine).value
    for name in [name for name, _ in machine.named_parameters()]:
        value = getattr(machine, name).detach().clone()
        delattr(machine, name)
        machine.register_buffer(name, value)
    assert not list(machine.parameters())
    base = en.Independent(machine.space, torch.zeros(5, dtype=torch.float64))
    assert (en.ais(machine, base=base, levels=200).value - exact).abs() < 0.1


class _Hidden(en.Energy):
    """An energy whose exact log Z nobody may ask for."""

    def __init__(self, energy):
        super().__init__(energy.space)
        self.energy = energy

    def forward(self, x):
        return self.energy(x)

    def capability(self, kind):
        return None if kind in (en.Normalised, en.Tractable, en.Listed) else self.energy.capability(kind)


def _machine(scale=0.9):
    torch.manual_seed(0)
    return en.RBM(10, 6, weight_scale=scale).double()


def test_exact_draws_are_taken_where_they_can_be_had():
    machine = _machine()
    found = en.bracket(machine, levels=50)
    assert "exact draws" in found.method
    hidden = en.bracket(_Hidden(machine), levels=50)
    assert "exact draws" not in hidden.method
    exact = en.exact_log_z(machine).value
    for each in (found, hidden):
        assert each.low < exact < each.high
        assert each.low < each.value < each.high


def test_a_tolerance_is_reached_by_doubling_or_it_is_told():
    machine = _Hidden(_machine())
    found = en.bracket(machine, levels=4, tolerance=0.03)
    history = found.details["history"]
    assert float(found.high - found.low) <= 0.06
    assert "within the 0.03 nats asked for" in found.method
    assert len(history) > 1
    levels = [round_["levels"] for round_ in history]
    assert levels == [4 * 2**number for number in range(len(levels))]
    assert history[0]["high"] - history[0]["low"] > 0.06
    with pytest.warns(UserWarning, match="allow more max_levels"):
        short = en.bracket(machine, levels=20, tolerance=1e-4, max_levels=40)
    assert "max_levels is reached" in short.method
    assert len(short.details["history"]) == 2


def _wells(other=4.0):
    """Two wells 24 standard deviations apart, the lesser of a share of e^-other."""
    weights = torch.tensor([0.0, -other]).double().softmax(0)
    means = torch.tensor([[-12.0, 0.0], [12.0, 0.0]], dtype=torch.float64)
    return en.energies.GaussianMixture(means, torch.eye(2).double().expand(2, 2, 2), weights)


def test_rows_from_the_lesser_well_alone_contradict_annealing():
    """From below both wells are found by a base that covers both; from above only what the rows know."""
    energy = _Hidden(_wells())
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor(
        [12.0, 0]
    )
    base = en.Gaussian(2, scale=14.0).double()
    with pytest.warns(UserWarning, match="have not mixed"):
        found = en.bracket(energy, rows, base=base, levels=300)
    assert found.details["contradicted"]
    # The interval covers both sides, and so the truth, which is on the other side of both.
    exact, lower = float(_wells().log_z().value), found.details["lower"]
    assert abs(float(lower.value) - exact) < 4 * float(lower.standard_error)
    assert float(found.low) < exact - 2 < float(lower.value) < float(found.high)


def test_few_effective_weights_are_told():
    with pytest.warns(UserWarning, match=r"effective weights of 100 carry the estimate"):
        found = en.bracket(_Hidden(en.Gaussian(10, scale=0.1)), base=en.Gaussian(10, scale=5.0), levels=2)
    assert "weights carry the estimate" in found.method


class _StoppedError(Exception):
    pass


def test_a_checkpoint_goes_on_to_the_bit(tmp_path, monkeypatch):
    from energeia.partition import journal

    energy, rows = _Hidden(_machine()), torch.ones(50, 10, dtype=torch.float64)
    path = tmp_path / "log_z.safetensors"
    options = {"rows": rows, "levels": 40, "tolerance": 0.05, "num_steps": 30}
    expected = en.bracket(energy, **options)
    monkeypatch.setitem(journal.Journal.__init__.__kwdefaults__, "seconds", 0.0)
    keep, written = journal.Journal._keep, 0

    def stop(self, name, now):
        nonlocal written
        keep(self, name, now)
        written += 1
        if written % 23 == 0:
            raise _StoppedError

    monkeypatch.setattr(journal.Journal, "_keep", stop)
    stops = 0
    while True:
        try:
            found = en.bracket(energy, **options, checkpoint=path)
            break
        except _StoppedError:
            stops += 1
    assert stops > 2
    for name in ("value", "low", "high"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    monkeypatch.setattr(journal.Journal, "_keep", keep)
    again = en.bracket(energy, **options, checkpoint=path)
    assert torch.equal(again.value, expected.value)
    with pytest.raises(en.CheckpointError, match="another estimate"):
        en.bracket(energy, **{**options, "levels": 50}, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(en.CheckpointError, match="not a whole checkpoint"):
        en.bracket(energy, **options, checkpoint=path)


def test_an_energy_that_falls_for_ever_is_told():
    rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = en.from_module(lambda x: x.norm(dim=1) * (1 - 2.0 * (x[:, 0] > 2 * x[:, 1].abs())), en.Real(2))
    dome = en.from_module(lambda x: -x.square().sum(1), en.Real(2))
    flat = en.from_module(lambda x: x.square().sum(1).log1p() / 2, en.Real(2))
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(en.InputError, match=r"falls in 64 of them.*en\.Gaussian"):
        en.bracket(dome, rows)
    with pytest.warns(UserWarning, match=r"it falls in .* can hardly be normalised"):
        check_bounded("log Z", slope, rows, generator)
    with pytest.warns(UserWarning, match="hardly grows"):
        check_bounded("log Z", flat, rows, generator)


def test_nothing_is_told_of_energies_that_can_be_normalised(recwarn):
    rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for energy in (en.Gaussian(2).double(), en.from_module(lambda x: x.abs().sum(1), en.Real(2))):
        check_bounded("log Z", energy, rows, generator)
    assert not recwarn.list


def test_a_base_that_does_not_cover_is_told():
    energy = en.Gaussian(2).double()
    rows = energy.sample_exact(500, torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="does not cover the model"):
        en.bracket(energy, rows, base=en.Gaussian(2, scale=0.1).double(), levels=20)


def test_arguments():
    machine = _Hidden(_machine())
    for options, message in (
        ({"tolerance": 0.0}, "tolerance"),
        ({"num_chains": 0}, "num_chains"),
        ({"rows": torch.ones(0, 10).double()}, "empty"),
        ({"rows": torch.full((5, 10), 2.0).double()}, "outside"),
    ):
        with pytest.raises(en.InputError, match=message):
            en.bracket(machine, **options)


def test_log_z_says_why():
    torch.manual_seed(0)
    for energy, kind, why in (
        (en.Gaussian(3), "exact", "closed form"),
        (en.Ising(10, [(0, 1)], couplings=0.3), "exact", "few enough to list"),
        (en.energies.Banana(), "exact", "closed form"),
        (en.from_module(lambda x: x.square().sum(1) + x[:, 0].cos(), en.Real(2)), "exact", "quadrature resolves"),
        (en.from_module(lambda x: x.square().sum(1), en.Real(3)), "approximate", "too many for quadrature"),
        (_Hidden(en.RBM(30, 25)), "approximate", "too many to list"),
    ):
        found = en.log_z(energy, levels=50, num_steps=20)
        assert (found.kind, why in found.details["why"]) == (kind, True), found.details["why"]
