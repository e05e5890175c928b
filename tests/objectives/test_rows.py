"""What objectives ask of rows and of energies, with no loader before them; and that shapes of events do not matter."""

import math
import warnings

import pytest
import torch
from torch import nn

import energeia as en
from energeia.data import Dequantize

SHAPE = (2, 3)
LEVELS = (2.0, 1.0, 0.5)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class _Flat(nn.Module):
    """A network that flattens, so that it is the same function of events of any shape; with or without a level."""

    def __init__(self, event, outputs=1, shape=(1,)):
        super().__init__()
        torch.manual_seed(0)
        self.network = en.LevelMLP(event, outputs, widths=(7,)).double()
        self.shape = shape

    def forward(self, x, level=None):
        level = x.new_ones(len(x)) if level is None else level
        return self.network(x, level).view(len(x), *self.shape)


def _neural(event):
    return en.Neural(_Flat(event), en.Real(event))


def _conditional(event):
    return en.NoiseConditional(_Flat(event), en.Real(event), levels=LEVELS)


def _flow(event):
    torch.manual_seed(1)
    return en.Flow.spline(en.Real(event), x=_random(9, *((event,) if isinstance(event, int) else event)), widths=(4,))


def _gaussian(event):
    return en.Gaussian(event).double()


def _chains(event):
    return en.PersistentCD(en.Langevin(step_size=0.1), 2, num_chains=7)


def _latent(event):
    torch.manual_seed(2)
    shape = (event,) if isinstance(event, int) else event
    return en.Generator(nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, shape)).double(), en.Real(event), 2)


OBJECTIVES = {
    "contrastive divergence": lambda event: en.ContrastiveDivergence(en.Langevin(step_size=0.1), 2),
    "persistent chains": lambda event: _chains(event),
    "exact": lambda event: en.ScoreMatching(),
    "exact, penalised": lambda event: en.ScoreMatching(curvature_penalty=0.3, chunk=2),
    "sliced": lambda event: en.SlicedScoreMatching(num_projections=2),
    "sliced, as first proposed": lambda event: en.SlicedScoreMatching(num_projections=2, reduce_variance=False),
    "sliced, sphere": lambda event: en.SlicedScoreMatching(directions="sphere"),
    "finite differences": lambda event: en.FiniteDifferenceScoreMatching(num_projections=2),
    "denoising": lambda event: en.DenoisingScoreMatching(noise_scale=0.3),
    "multi-scale denoising": lambda event: en.MultiScaleDenoising(),
    "noise contrast": lambda event: en.NoiseContrast(_gaussian(event), ratio=2),
    "ranking": lambda event: en.RankingNCE(_gaussian(event), ratio=2),
    "conditional noise contrast": lambda event: en.ConditionalNCE(ratio=2),
    "flow contrast": lambda event: en.FlowContrast(_flow(event), fixed_noise=_gaussian(event)),
    "adversarial noise": lambda event: en.AdversarialNCE(_flow(event), _gaussian(event), ratio=2),
    "adversarial, flow": lambda event: en.AdversarialLikelihood(_flow(event), gradient_penalty=0.1),
    "adversarial, generator": lambda event: en.AdversarialLikelihood(_latent(event)),
    "kernel Stein": lambda event: en.KernelStein(),
    "learned Stein": lambda event: en.LearnedStein(_Flat(event, 6, (6,)), num_projections=2),
    "learned Stein, exact": lambda event: en.LearnedStein(_Flat(event, 6, (6,)), num_projections=None),
    "energy discrepancy": lambda event: en.EnergyDiscrepancy(0.5, num_samples=3),
    "recovery": lambda event: en.DiffusionRecovery(en.RecoveryLangevin(levels=LEVELS, num_steps=3)),
    "energy matching": lambda event: en.EnergyMatching(_chains(event)),
    "improved": lambda event: en.ImprovedCD(_chains(event), en.Langevin(step_size=0.1)),
}
BY_LEVEL = ("multi-scale denoising", "recovery")
# Two rows have a distance; one has none.
SEVERAL = ("kernel Stein",)


def _energy(name, event):
    return _conditional(event) if name in BY_LEVEL else _neural(event)


def _run(name, event, x, seed=0):
    energy, objective = _energy(name, event), OBJECTIVES[name](event)
    loss = objective(energy, en.Batch(x), torch.Generator().manual_seed(seed))
    gradients = torch.autograd.grad(loss.value, list(energy.parameters()), allow_unused=True)
    return loss.value.detach(), [part for part in gradients if part is not None]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_events_of_any_shape_give_the_loss_of_flat_ones(name):
    x = _random(5, 6)
    value, gradients = _run(name, 6, x)
    shaped, found = _run(name, SHAPE, x.view(5, *SHAPE))
    assert value.dtype == torch.float64
    torch.testing.assert_close(shaped, value, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert any(bool(part.any()) for part in found)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_row_is_a_batch_and_random_numbers_are_the_generator_s_alone(name):
    x = _random(2 if name in SEVERAL else 1, 6)
    energy, objective = _energy(name, 6), OBJECTIVES[name](6).eval()
    before = torch.get_rng_state()
    values = [objective(energy, en.Batch(x), torch.Generator().manual_seed(s)).value.item() for s in (1, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert values[0] == values[1]
    assert math.isfinite(values[0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_that_do_not_fit_are_refused_at_the_door(name):
    energy, objective = _energy(name, 6), OBJECTIVES[name](6)
    broken = _random(4, 6)
    broken[2, 1] = math.nan
    for x, match in (
        (broken, "1 of 4 rows lie outside"),
        (torch.ones(4, 6, dtype=torch.int64), "floating dtype"),
        (_random(4, 5), r"expects \[B, 6\]"),
    ):
        with pytest.raises(en.InputError, match=match):
            objective(energy, en.Batch(x), torch.Generator())


@pytest.mark.parametrize(
    "objective",
    [
        en.PseudoLikelihood(),
        en.RatioMatching(),
        en.ConcreteScoreMatching(),
        en.MinimumProbabilityFlow(),
        en.ContrastiveDivergence(en.Gibbs(), 1),
        en.PersistentCD(en.Gibbs(), 1),
    ],
)
def test_spins_given_to_a_model_of_bits_are_refused(objective):
    """Natural parameters of -1 and 2 would give a loss without a word."""
    energy, bits = en.BoltzmannMachine(3), torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    with pytest.raises(en.InputError, match="these look like spins"):
        objective(energy, en.Batch(2 * bits - 1), torch.Generator())
    with pytest.raises(en.InputError, match="lie outside"):
        objective(energy, en.Batch(bits * math.nan), torch.Generator())


class _Column(en.Energy):
    """E of shape [B, 1]."""

    def forward(self, x, context=None):
        return x.square().sum(1, keepdim=True)


@pytest.mark.parametrize(
    "objective",
    [
        en.FiniteDifferenceScoreMatching(),
        en.EnergyDiscrepancy(0.5, num_samples=3),
        en.DiffusionRecovery(en.RecoveryLangevin(levels=LEVELS, num_steps=2)),
    ],
    ids=str,
)
def test_an_energy_with_a_column_too_many_is_refused_and_not_broadcast(objective):
    with pytest.raises(en.InputError, match=r"squeeze\(-1\)"):
        objective(_Column(en.Real(2)), en.Batch(_random(5, 2)), torch.Generator())


class _ColumnOfSites(en.Independent):
    def forward(self, x):
        return super().forward(x).unsqueeze(1)


def test_unbiased_chains_refuse_a_column_too():
    bits = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    energy = _ColumnOfSites(en.Binary(2), torch.tensor([0.3, -1.0]))
    with pytest.raises(en.InputError, match=r"squeeze\(-1\)"):
        en.UnbiasedCD(en.Gibbs())(energy, en.Batch(bits), torch.Generator().manual_seed(0))


BENT = [
    en.ScoreMatching,
    en.SlicedScoreMatching,
    lambda: en.DenoisingScoreMatching(noise_scale=0.3),
    en.KernelStein,
    lambda: en.LearnedStein(en.MLP(2, 2, widths=(4,))),
    en.EnergyMatching,
]


def _told(objective, energy, x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            objective(energy, en.Batch(x), torch.Generator().manual_seed(0)).value.backward()
    return [str(one.message) for one in caught if one.category is UserWarning]


@pytest.mark.parametrize("objective", BENT)
def test_a_network_of_planes_is_told_though_a_gaussian_bends_the_sum(objective):
    torch.manual_seed(0)
    x = torch.randn(9, 2)
    planes = en.Neural(en.MLP(2, widths=(8,), activation="relu"), en.Real(2))
    energy = planes + en.Gaussian(2)
    found = _told(objective(), energy, x)
    assert len(found) == 1
    assert "linear piece by piece" in found[0]
    # What the warning says: hidden biases, which place the kinks, learn nothing.
    hidden = planes.network[1].bias.grad
    assert hidden is None or not bool(hidden.any())
    smooth = en.Neural(en.MLP(2, widths=(8,)), en.Real(2)) + en.Gaussian(2)
    assert _told(objective(), smooth, x) == []
    # A straight line on a Gaussian is an exponential family like any other.
    tilted = en.from_module(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), en.Real(2)) + en.Gaussian(2)
    assert _told(objective(), tilted, x) == []


def test_scores_of_relu_and_squares_of_it_are_fine():
    torch.manual_seed(0)
    x = torch.randn(9, 2)
    model = en.ScoreModel(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)), en.Real(2))
    squares = en.from_module(_Squares(), en.Real(2))
    for energy in (model, squares):
        assert _told(en.SlicedScoreMatching(), energy, x) == []
        assert _told(en.DenoisingScoreMatching(noise_scale=0.3), energy, x) == []


class _Squares(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 8)

    def forward(self, x):
        return self.layer(x).relu().square().sum(1)


@pytest.mark.parametrize(
    "objective", [en.ScoreMatching, en.SlicedScoreMatching, en.FiniteDifferenceScoreMatching], ids=str
)
def test_whole_numbers_are_told(objective):
    energy = en.Gaussian(4)
    energy.scale = nn.Parameter(energy.scale.clone())
    x = torch.randint(0, 9, (100, 4), generator=torch.Generator().manual_seed(0)) / 8
    found = _told(objective(), energy, x)
    assert len(found) == 1
    assert "9 different values in 400 numbers" in found[0]
    assert "Dequantize(0.125)" in found[0]
    assert "RatioMatching" in found[0]
    spread = Dequantize(0.125)(x, torch.Generator().manual_seed(0))
    assert _told(objective(), energy, spread) == []


def test_the_curvature_penalty_in_closed_form():
    """E = k x^2 / 2 with data of second moment m: k^2 m / 2 - k + lambda k^2, least at k = 1 / (m + 2 lambda)."""
    x, penalty = _random(20, 1), 0.3
    moment = float(x.square().mean())

    class _Parabola(en.Energy):
        def __init__(self, k):
            super().__init__(en.Real(1))
            self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

        def forward(self, x):
            return self.k * x.square().sum(1) / 2

    for k in (1 / (moment + 2 * penalty), 0.4):
        energy = _Parabola(k)
        loss = en.ScoreMatching(curvature_penalty=penalty)(energy, en.Batch(x), torch.Generator())
        assert loss.value.item() == pytest.approx(k**2 * moment / 2 - k + penalty * k**2, abs=1e-12)
        assert loss.metrics["fisher"].item() == pytest.approx(k**2 * moment / 2 - k, abs=1e-12)
        (found,) = torch.autograd.grad(loss.value, [energy.k])
        assert found.item() == pytest.approx(k * moment - 1 + 2 * penalty * k, abs=1e-12)
    assert abs(found.item()) > 0.1


def test_the_curvature_penalty_is_a_sum_over_numbers_of_squares():
    energy, x = _neural(6), _random(3, 6)
    hessians = [torch.func.hessian(lambda y: energy(y[None])[0])(row) for row in x]
    expected = sum(hessian.diagonal().square().sum() for hessian in hessians) / 3
    batch = en.Batch(x)
    values = [en.ScoreMatching(curvature_penalty=c)(energy, batch, torch.Generator()).value for c in (0.0, 2.0)]
    torch.testing.assert_close(values[1] - values[0], 2 * expected)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: en.NoiseConditional(en.MLP(3), en.Real(3), levels=LEVELS), r"called with \(x \[B, \*event\], level"),
        (lambda: en.NoiseConditional(en.LevelMLP(3, 3), en.Real(3), levels=LEVELS), "NoiseConditionalScore"),
        (lambda: en.NoiseConditionalScore(en.LevelMLP(3), en.Real(3), levels=LEVELS), r"LevelMLP\(event, 3\)"),
        (lambda: en.DiffusionRecovery(en.Langevin(step_size=0.1)), r"RecoveryLangevin\(levels="),
        (lambda: en.NoiseContrast(torch.distributions.Normal(0.0, 1.0)), r"en.Distribution\(distribution, space\)"),
        (lambda: en.FlowContrast(en.Gaussian(3)), r"en.Flow\(flow, space\)"),
        (lambda: en.fitted_noise(3, torch.randn(5, 3)), r"en.Real\(3\)"),
        (lambda: en.from_module(en.MLP(3), en.Real(3)), "take en.Neural"),
    ],
)
def test_errors_say_what_to_take(build, match):
    with pytest.raises(en.EnergeiaError, match=match):
        build()


def test_levels_below_the_spread_of_the_data_are_told():
    x = 20 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    for levels, expected in (((6.0, 1.0), 1), ((60.0, 6.0, 1.0), 0)):
        torch.manual_seed(0)
        model = en.NoiseConditional(en.LevelMLP(2, widths=(4,)), en.Real(2), levels=levels)
        found = _told(en.MultiScaleDenoising(), model, x)
        assert len(found) == expected
        assert all("below the spread of the data" in one for one in found)


def test_noise_that_leaves_nothing_near_is_told():
    energy = en.Gaussian(40)
    energy.scale = nn.Parameter(energy.scale.clone())
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    found = _told(en.EnergyDiscrepancy(5.0), energy, x)
    assert len(found) == 1
    assert "Take less noise: somewhat below" in found[0]
    assert _told(en.EnergyDiscrepancy(0.2), energy, x) == []
    assert _told(en.EnergyDiscrepancy(5.0).eval(), energy, x) == []


def test_turns_that_are_no_pair_are_refused():
    with pytest.raises(en.InputError, match="turns is"):
        en.FlowContrast(_flow(2), turns=5)


def test_noise_levels_taken_for_temperatures_are_told():
    model = en.NoiseConditional(en.LevelMLP(2, widths=(4,)), en.Real(2), levels=LEVELS)
    with pytest.warns(UserWarning, match='give over="noise"'):
        en.sample(model, en.AnnealedLangevin(LEVELS, num_steps=1), num_chains=4, num_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        en.sample(model, en.AnnealedLangevin(LEVELS, num_steps=1, over="noise"), num_chains=4, num_steps=3)
