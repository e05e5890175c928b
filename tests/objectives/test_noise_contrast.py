"""Noise contrast against populations that are summed or integrated, and maximum likelihood."""

import math
import warnings

import pytest
import torch
from small_truths import TRUTHS, density, moved, noise_of, random, whole
from torch import nn

import energeia as en
from energeia.energies import Enumerated

LOSSES = [en.Logistic(), *(en.Power(a) for a in (0.0, 1.0, -1.0, -0.5, 0.3))]


class Told(en.Energy):
    """Noise of the same energy as another's, whose draws are what they are told to be."""

    def __init__(self, noise, rows):
        super().__init__(noise.space)
        self.noise, self.rows = noise, rows

    def forward(self, x):
        return self.noise(x)

    def log_z(self):
        return self.noise.log_z()

    def sample_exact(self, num_chains, generator):
        # What coverage is judged by are other draws.
        return self.rows if num_chains == len(self.rows) else self.noise.sample_exact(num_chains, generator)


def _gradient(value, energy, *others):
    return torch.autograd.grad(value, [*energy.parameters(), *others])


def _population(objective, energy, p, x, log_weight):
    """The expectation of the loss, its rows weighed by their probabilities."""
    log_q = -objective.noise(x) - objective.noise.log_z().value
    log_ratio = -energy(x) - objective.log_z - log_q
    # Further out, u and 1/u leave the floating numbers.
    near = p > 1e-100
    at_data, at_noise = objective.terms(log_ratio[near])
    return p[near] @ at_data + (log_weight + log_q)[near].exp() @ at_noise


@pytest.mark.parametrize("ratio", [1, 5])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("name", TRUTHS)
def test_the_expected_gradient_is_zero_at_the_truth_and_nowhere_near(name, loss, ratio):
    energy = TRUTHS[name]()
    x, log_weight = whole(energy.space)
    p, log_z = density(energy, x, log_weight), (log_weight - energy(x)).logsumexp(0)
    objective = en.NoiseContrast(noise_of(energy.space), ratio=ratio, loss=loss, log_z=float(log_z.detach()))
    for found in _gradient(_population(objective, energy, p, x, log_weight), energy, objective.log_z):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)
    moved(energy)
    away = _gradient(_population(objective, energy, p, x, log_weight), energy, objective.log_z)
    assert min(float(found.abs().max()) for found in away) > 1e-4


@pytest.mark.parametrize("ratio", [1, 3])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_forward_is_the_formula_and_its_gradient(loss, ratio):
    """Noise rows that are every state as often as it is likely: the loss of a batch is then an expectation."""
    energy = moved(TRUTHS["bits"]())
    states, _ = whole(energy.space)
    noise = en.Independent(energy.space, torch.zeros(3).double())
    data = states[[0, 3, 3, 5, 7, 7, 7, 1]]
    objective = en.NoiseContrast(Told(noise, states.repeat(ratio, 1)), ratio=ratio, loss=loss, log_z=1.7)
    loss_of_batch = objective(energy, en.Batch(data), torch.Generator())
    found = _gradient(loss_of_batch.value, energy, objective.log_z)
    # u = exp(-E) / (Z nu q) and its weights, as published.
    u_data, u_noise = ((-energy(x) - 1.7).exp() * 8 / ratio for x in (data, states))
    if isinstance(loss, en.Logistic):
        value = (1 + 1 / u_data).log().mean() + ratio * (1 + u_noise).log().mean()
        weight_data, weight_noise = 1 / (1 + u_data), u_noise / (1 + u_noise)
    else:
        a = loss.exponent
        at_data = u_data.log() if a == 0 else u_data**a / a
        at_noise = u_noise.log() if a == -1 else u_noise ** (a + 1) / (a + 1)
        value = ratio * at_noise.mean() - at_data.mean()
        weight_data, weight_noise = u_data**a, u_noise ** (a + 1)
    torch.testing.assert_close(loss_of_batch.value, value, rtol=1e-12, atol=1e-12)
    lift = (weight_data.detach() * energy(data)).mean() - ratio * (weight_noise.detach() * energy(states)).mean()
    for one, other in zip(found, _gradient(lift, energy), strict=False):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[-1], (weight_data.mean() - ratio * weight_noise.mean()).detach())


@pytest.mark.parametrize("name", TRUTHS)
def test_it_becomes_maximum_likelihood_as_noise_grows(name):
    energy = TRUTHS[name]()
    x, log_weight = whole(energy.space)
    p = density(energy, x, log_weight)
    moved(energy)
    log_z = (log_weight - energy(x)).logsumexp(0)
    likelihood = _gradient(p @ energy(x) + log_z, energy)
    errors = []
    for ratio in (1_000, 10_000, 100_000):
        objective = en.NoiseContrast(noise_of(energy.space), ratio=ratio, log_z=float(log_z.detach()))
        found = _gradient(_population(objective, energy, p, x, log_weight), energy)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, likelihood, strict=True)))
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "categorical"])
def test_the_optimum_is_the_truth_with_its_log_z(name):
    truth, energy = TRUTHS[name](), moved(TRUTHS[name]())
    x, log_weight = whole(energy.space)
    p = density(truth, x, log_weight)
    objective = en.NoiseContrast(noise_of(energy.space), ratio=2, log_z=0.0).double()
    optimizer = torch.optim.LBFGS(
        [*energy.parameters(), *objective.parameters()],
        max_iter=500,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = _population(objective, energy, p, x, log_weight)
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        torch.testing.assert_close(objective.log_z.data, (log_weight - energy(x)).logsumexp(0), rtol=0, atol=1e-6)
        torch.testing.assert_close((log_weight - energy(x)).softmax(0), p, rtol=0, atol=1e-7)


class Raised(en.Energy):
    """An energy with a level of its own."""

    def __init__(self, energy, level):
        super().__init__(energy.space)
        self.energy, self.level = energy, nn.Parameter(torch.tensor(level, dtype=torch.float64))

    def forward(self, x):
        return self.energy(x) + self.level


def test_self_normalised_energies_find_their_level():
    plain = TRUTHS["exponential family"]()
    x, log_weight = whole(plain.space)
    p, log_z = density(plain, x, log_weight), (log_weight - plain(x)).logsumexp(0)
    energy = Raised(plain, float(log_z.detach()))
    objective = en.NoiseContrast(noise_of(plain.space), self_normalised=True)
    assert not list(objective.parameters())
    for found in _gradient(_population(objective, energy, p, x, log_weight), energy):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)
    with torch.no_grad():
        energy.level += 0.3
    assert _gradient(_population(objective, energy, p, x, log_weight), energy)[0] > 0.05


def test_log_z_starts_at_an_estimate_and_validation_leaves_it():
    energy = TRUTHS["gaussian"]()
    batch, noise = en.Batch(random(20, 2)), en.Gaussian(2, scale=torch.tensor(2.0).double())
    objective = en.NoiseContrast(noise)
    objective.eval()
    objective(energy, batch, torch.Generator())
    assert objective.log_z.item() == 0
    objective.train()
    loss = objective(energy, batch, torch.Generator().manual_seed(5))
    started = objective.log_z.item()
    assert started == pytest.approx(float(en.exact_log_z(energy).value), abs=0.2)
    assert loss.metrics["log_z"].item() == started
    objective(energy, batch, torch.Generator())
    assert objective.log_z.item() == started
    again = en.NoiseContrast(noise)
    again(energy, en.Batch(random(3, 2, seed=9)), torch.Generator().manual_seed(77))
    assert again.log_z.item() == started, "processes with other rows and other noise must start alike"
    other = en.NoiseContrast(noise)
    other.load_state_dict(objective.state_dict())
    other(moved(energy, 1.0), batch, torch.Generator())
    assert other.log_z.item() == started, "a resumed run begins anew"


def test_noise_is_copied_and_held_fixed():
    torch.manual_seed(0)
    flow = en.Flow.spline(en.Real(2), widths=(4,)).double()
    objective = en.NoiseContrast(flow)
    energy = TRUTHS["gaussian"]()
    assert [name for name, p in objective.named_parameters() if p.requires_grad] == ["log_z"]
    assert all(p.requires_grad for p in flow.parameters())
    before = [p.clone() for p in flow.parameters()]
    en.fit(energy, objective, random(50, 2), num_steps=3, batch_size=10)
    for one, other, mine in zip(before, flow.parameters(), objective.noise.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, mine)


@pytest.mark.parametrize("name", ["gaussian", "bits"])
def test_fit_finds_the_truth_and_its_log_z(name):
    truth = TRUTHS[name]()
    generator = torch.Generator().manual_seed(0)
    if name == "bits":
        data = Enumerated(truth).sample_exact(20_000, generator)
    else:
        root = truth.root.detach().tril()
        covariance = torch.linalg.inv(root @ root.T)
        data = en.energies.CorrelatedGaussian(covariance, mean=covariance @ truth.slope.detach()).sample_exact(
            20_000, generator
        )
    energy = moved(TRUTHS[name](), 0.4)
    objective = en.NoiseContrast(en.fitted_noise(energy.space, data, widen=1.3), ratio=3)
    schedule = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)  # noqa: E731
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    en.fit(energy, objective, data, num_steps=250, batch_size=1000, optimizer=adam, scheduler=schedule)
    assert float(objective.log_z.detach()) == pytest.approx(float(en.exact_log_z(energy).value), abs=0.02)
    x, log_weight = whole(energy.space)
    p = density(truth, x, log_weight)
    divergence = p @ (p.log() - density(energy, x, log_weight).log()).where(p > 1e-300, 0)
    assert 0 <= divergence < 1e-3


def _ranking(energy, noise, data, rows, p_data=None):
    return en.RankingNCE(Told(noise, rows), ratio=len(rows) // len(data))(energy, en.Batch(data), torch.Generator())


def test_ranking_against_all_pairs_of_noise_rows():
    energy = TRUTHS["bits"]()
    states, log_weight = whole(energy.space)
    noise = noise_of(energy.space)
    p, q = density(energy, states, log_weight), density(noise, states, log_weight)

    def expected():
        total = 0.0
        for one in range(8):
            for other in range(8):
                rows = states[[one, other]]
                losses = [_ranking(energy, noise, state[None], rows).value for state in states]
                total = total + q[one] * q[other] * (p @ torch.stack(losses))
        return total

    for found in _gradient(expected(), energy):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    moved(energy)
    total = expected()
    assert max(float(found.abs().max()) for found in _gradient(total, energy)) > 1e-3
    # By hand: minus the log of a softmax over three.
    s = -energy(states) - q.log()
    grid = torch.cartesian_prod(*[torch.arange(8)] * 3)
    chances = p[grid[:, 0]] * q[grid[:, 1]] * q[grid[:, 2]]
    torch.testing.assert_close(total, -(chances @ s[grid].log_softmax(1)[:, 0]))


def test_ranking_of_a_batch_is_the_mean_of_its_rows_and_becomes_maximum_likelihood():
    energy = moved(TRUTHS["bits"]())
    states, _ = whole(energy.space)
    noise, data = en.Independent(energy.space, torch.zeros(3).double()), states[[0, 3, 3, 5]]
    rows = states[[2, 1, 7, 7, 0, 4, 6, 6]]
    together = _ranking(energy, noise, data, rows).value
    alone = torch.stack([_ranking(energy, noise, row[None], rows).value for row in data]).mean()
    torch.testing.assert_close(together, alone)
    likelihood = _gradient(en.ExactLikelihood()(energy, en.Batch(data), torch.Generator()).value, energy)
    errors = []
    for copies in (100, 1000):
        loss = _ranking(energy, noise, data, states.repeat(copies, 1))
        found = _gradient(loss.value, energy)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, likelihood, strict=True)))
        assert float(loss.metrics["log_z"]) == pytest.approx(float(en.exact_log_z(energy).value), abs=1e-10)
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)


def test_a_wrong_shape_is_refused_and_not_broadcast():
    class Column(en.Energy):
        def forward(self, x):
            return x.square().sum(1, keepdim=True)

    batch = en.Batch(torch.randn(5, 2))
    flow = en.Flow.spline(en.Real(2), widths=(4,))
    for objective in (
        en.NoiseContrast(en.Gaussian(2)),
        en.NoiseContrast(en.Gaussian(2), log_z=0.0),
        en.RankingNCE(en.Gaussian(2)),
        en.ConditionalNCE(),
        en.FlowContrast(flow, log_z=0.0),
        en.AdversarialLikelihood(flow),
    ):
        with pytest.raises(en.InputError, match=r"squeeze\(-1\)"):
            objective(Column(en.Real(2)), batch, torch.Generator())


@pytest.mark.parametrize("objective", [en.NoiseContrast, en.RankingNCE])
def test_noise_of_another_kind_is_refused(objective):
    generator = torch.Generator()
    with pytest.raises(en.InputError, match="the noise lives on"):
        objective(en.Gaussian(3))(en.BoltzmannMachine(3), en.Batch(torch.ones(2, 3)), generator)
    with pytest.raises(en.InputError, match=r"noise\.to\(torch\.float64\)"):
        objective(en.Gaussian(2))(TRUTHS["gaussian"](), en.Batch(random(2, 2)), generator)
    with pytest.raises(en.InputError, match="exact draws"):
        objective(TRUTHS["gaussian"]())
    with pytest.raises(en.InputError, match="exact draws"):
        objective(torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(en.InputError, match="ratio"):
        objective(en.Gaussian(2), ratio=0)
    with pytest.raises(en.InputError, match="exponent"):
        en.Power(math.nan)


def _uniform(low, high):
    box = torch.distributions.Uniform(torch.full((2,), low).double(), torch.full((2,), high).double())
    return en.Distribution(torch.distributions.Independent(box, 1), en.Real(2))


@pytest.mark.parametrize("objective", [en.NoiseContrast, en.RankingNCE])
@pytest.mark.parametrize(
    "noise", [lambda: en.Gaussian(2, scale=torch.tensor(0.1).double()), lambda: _uniform(-1.0, 1.0)]
)
def test_noise_that_does_not_cover_the_data_is_told_once(objective, noise):
    energy, batch = TRUTHS["gaussian"](), en.Batch(random(40, 2) + 2)
    made = objective(noise())
    with pytest.warns(UserWarning, match="does not cover the data"):
        loss = made(energy, batch, torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            made(energy, batch, torch.Generator().manual_seed(0))
    assert all(bool(metric.isfinite()) for metric in loss.metrics.values())
    gradients = torch.autograd.grad(loss.value, list(energy.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(en.fitted_noise(en.Real(2), batch.x))(energy, batch, torch.Generator())


def test_accuracy_tells_noise_that_says_nothing():
    energy, near = en.Gaussian(2).double(), en.Gaussian(2).double()
    far = en.Gaussian(2, mean=torch.tensor(60.0).double(), scale=torch.tensor(1.0).double())
    batch = en.Batch(near.sample_exact(4000, torch.Generator().manual_seed(0)))
    log_z = float(energy.log_z().value)

    def accuracy(noise):
        made = en.NoiseContrast(noise, log_z=log_z).eval()
        return float(made(energy, batch, torch.Generator().manual_seed(1)).metrics["accuracy"])

    assert accuracy(far) == 1
    # p = q but for rounding: pure chance, and near enough by a small shift.
    shifted = en.Gaussian(2, mean=torch.tensor(0.1).double(), scale=torch.tensor(1.0).double())
    # |shift| / 2 standard deviations from the middle: Phi(.0707).
    assert accuracy(shifted) == pytest.approx(0.528, abs=0.02)


@pytest.mark.parametrize("number", [1, 7])
def test_draws_repeat_and_one_row_is_enough(number):
    torch.manual_seed(0)
    flow = en.Flow.spline(en.Real(2), widths=(4,)).double()
    energy, batch = TRUTHS["gaussian"](), en.Batch(random(number, 2))
    for objective in (
        en.NoiseContrast(en.Gaussian(2).double(), ratio=2, log_z=0.0),
        en.NoiseContrast(flow, log_z=0.0),
        en.RankingNCE(flow, ratio=2),
        en.ConditionalNCE(),
        en.FlowContrast(flow, log_z=0.0),
        en.FlowContrast(flow, fixed_noise=en.Gaussian(2).double(), log_z=0.0),
        en.AdversarialNCE(flow, en.Gaussian(2).double(), ratio=2, log_z=0.0),
        en.AdversarialLikelihood(flow),
    ):
        state = torch.get_rng_state()
        values = [objective(energy, batch, torch.Generator().manual_seed(seed)).value.item() for seed in (3, 3, 4)]
        assert values[0] == values[1] != values[2]
        assert torch.equal(torch.get_rng_state(), state), "the global random numbers were used"
    with pytest.raises(en.InputError, match="two rows of noise"):
        en.AdversarialNCE(flow, en.Gaussian(2).double())(energy, en.Batch(random(1, 2)), torch.Generator())
