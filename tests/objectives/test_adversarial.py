"""Adversarial maximum likelihood: both gradients, the bound, and the score of a linear generator."""

import math

import pytest
import torch
from small_truths import TRUTHS, random, whole
from torch import nn

import energeia as en


def _normal(mean, log_scale):
    """A flow of two normals, its mean and log scale parameters."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
            self.log_scale = nn.Parameter(torch.tensor(log_scale, dtype=torch.float64))

        def forward(self):
            return torch.distributions.Independent(torch.distributions.Normal(self.mean, self.log_scale.exp()), 1)

    return en.Flow(Pair(), en.Real(2))


def _gradients(value, *modules):
    return torch.autograd.grad(value, [p for module in modules for p in module.parameters()])


def test_the_gradient_of_the_energy_is_that_of_contrast_with_the_samplers_draws():
    energy, flow, batch = TRUTHS["gaussian"](), _normal([0.5, 0.0], [0.1, -0.2]), en.Batch(random(30, 2))
    loss = en.AdversarialLikelihood(flow)(energy, batch, torch.Generator().manual_seed(1))
    draws = flow.sample_exact(30, torch.Generator().manual_seed(1))
    wanted = energy(batch.x).mean() - energy(draws).mean()
    for one, other in zip(_gradients(loss.value, energy), _gradients(wanted, energy), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert loss.metrics["gap"].item() == pytest.approx(wanted.item())
    assert loss.value.item() == pytest.approx(wanted.item() - flow.log_prob(draws).mean().item())


def test_the_gradient_of_the_sampler_is_that_of_the_divergence():
    """KL(q || p) up to log Z, of normals and a quadratic energy, in closed form."""
    energy, flow = TRUTHS["gaussian"](), _normal([0.5, 0.0], [0.1, -0.2])
    root = energy.root.detach().tril()
    precision, slope = root @ root.T, energy.slope.detach()
    mean, log_scale = flow.flow.mean, flow.flow.log_scale
    second = torch.diag((2 * log_scale).exp()) + torch.outer(mean, mean)
    divergence = (precision * second).sum() / 2 - slope @ mean - log_scale.sum()
    wanted = torch.cat(_gradients(divergence, flow))
    objective = en.AdversarialLikelihood(flow, num_samples=500)
    generator = torch.Generator().manual_seed(0)
    found = torch.stack(
        [torch.cat(_gradients(objective(energy, en.Batch(random(2, 2)), generator).value, flow)) for _ in range(200)]
    )
    assert ((found.mean(0) - wanted).abs() < 5 * found.std(0) / 200**0.5).all()
    assert ((wanted.abs() / (found.std(0) / 200**0.5)) > 20).all()


def test_at_the_model_itself_the_sampler_stands_still_row_by_row_and_the_bound_is_log_z():
    flow = _normal([1.0, -2.0], [math.log(0.5), math.log(2.0)])
    energy = en.Gaussian(2, mean=torch.tensor([1.0, -2.0]).double(), scale=torch.tensor([0.5, 2.0]).double())
    loss = en.AdversarialLikelihood(flow)(energy, en.Batch(random(3, 2)), torch.Generator().manual_seed(0))
    for found in _gradients(loss.value, flow):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    assert loss.metrics["log_z"].item() == pytest.approx(energy.log_z().value.item(), abs=1e-12)
    likelihood = (energy(random(3, 2)).mean() + energy.log_z().value).item()
    assert loss.value.item() == pytest.approx(likelihood, abs=1e-12)
    # Any other sampler gives less.
    other = en.AdversarialLikelihood(_normal([0.8, -1.5], [0.1, 0.2]), num_samples=20_000)
    bound = other(energy, en.Batch(random(3, 2)), torch.Generator().manual_seed(0)).metrics["log_z"].item()
    assert bound < energy.log_z().value.item() - 0.1


def test_the_gradient_penalty_is_the_square_of_the_slope():
    energy, flow, batch = TRUTHS["gaussian"](), _normal([0.5, 0.0], [0.1, -0.2]), en.Batch(random(6, 2))
    with_it, without = (
        en.AdversarialLikelihood(flow, gradient_penalty=weight)(energy, batch, torch.Generator().manual_seed(0)).value
        for weight in (0.3, 0.0)
    )
    root = energy.root.tril()
    slope = batch.x @ (root @ root.T) - energy.slope
    wanted = 0.3 * slope.square().sum(1).mean()
    torch.testing.assert_close(with_it - without, wanted)
    for one, other in zip(_gradients(with_it - without, energy), _gradients(wanted, energy), strict=True):
        torch.testing.assert_close(one, other)


def test_turns_move_one_player_at_a_time():
    energy, flow, batch = TRUTHS["gaussian"](), _normal([0.5, 0.0], [0.1, -0.2]), en.Batch(random(6, 2))
    plain, turns = (en.AdversarialLikelihood(flow, turns=turns) for turns in (None, (1, 2)))
    players = [*energy.parameters(), *flow.parameters()]
    wanted = torch.autograd.grad(plain(energy, batch, torch.Generator().manual_seed(0)).value, players)
    for moves in (0, 1, 1, 0):
        value = turns(energy, batch, torch.Generator().manual_seed(0)).value
        found = torch.autograd.grad(value, players, allow_unused=True)
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if (place >= 2) == bool(moves):
                torch.testing.assert_close(one, other)
            else:
                assert one is None
    with pytest.raises(en.InputError, match="turns"):
        en.AdversarialLikelihood(flow, turns=(1, 2, 3))


def _linear(num_pairs=1, noise_scale=0.4):
    """x = W z + b + noise: q is normal, and so is the posterior of z."""
    network = nn.Linear(3, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.9, 0.2, -0.3], [0.1, 0.7, 0.4]]))
        network.bias.copy_(torch.tensor([0.5, -1.0]))
    return en.Generator(network, en.Real(2), 3, noise_scale=noise_scale, num_pairs=num_pairs)


def _covariance(made):
    return made.network.weight @ made.network.weight.T + made.noise_scale**2 * torch.eye(2).double()


@pytest.mark.parametrize("noise_scale", [0.05, 0.4])
def test_the_density_of_a_linear_generator_is_exact(noise_scale):
    made = _linear(noise_scale=noise_scale)
    drawn = made.rsample(50, torch.Generator().manual_seed(0))
    log_q, score = made.density(drawn, torch.Generator().manual_seed(1))
    x, covariance = drawn.x.detach(), _covariance(made).detach()
    exact = torch.distributions.MultivariateNormal(made.network.bias.detach(), covariance)
    torch.testing.assert_close(log_q, exact.log_prob(x))
    torch.testing.assert_close(score, -torch.linalg.solve(covariance, (x - exact.loc).T).T, rtol=1e-9, atol=1e-9)


class Bent(nn.Module):
    """A curve in the plane, with a factor that is trained."""

    def __init__(self, bend=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([1.5, bend], dtype=torch.float64))

    def forward(self, z):
        return torch.stack([z[:, 0], 0.5 * z[:, 0].square() + z[:, 0].sin()], 1) * self.factor


def _bent_density(made, x):
    """log q of a curve, by quadrature over z."""
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    normal = -z.square() / 2 - math.log(2 * math.pi) / 2 + (z[1] - z[0]).log()
    off = (x[:, None] - made.network(z[:, None])) / made.noise_scale
    constant = 2 * math.log(made.noise_scale * math.sqrt(2 * math.pi))
    return (normal - off.square().sum(2) / 2).logsumexp(1) - constant


def test_the_density_of_a_curve_comes_with_samples():
    errors, lows = [], []
    for num_pairs in (10, 1000):
        made = en.Generator(Bent(), en.Real(2), 1, noise_scale=0.5, num_pairs=num_pairs)
        drawn = made.rsample(200, torch.Generator().manual_seed(0))
        log_q, score = made.density(drawn, torch.Generator().manual_seed(1))
        x = drawn.x.detach().requires_grad_()
        exact = _bent_density(made, x)
        exact_score = torch.autograd.grad(exact.sum(), x)[0]
        errors.append(float((score - exact_score).square().mean() / exact_score.square().mean()))
        lows.append(float((exact.detach() - log_q).mean()))
    assert errors[0] < 0.05
    assert errors[1] < 0.002
    assert 0 < lows[0] < 0.1
    assert abs(lows[1]) < 0.005


def test_the_gradient_of_a_generator_is_that_of_the_divergence():
    """d/dW of KL(q || p) for a linear generator and a quadratic energy, in closed form."""
    energy, made = TRUTHS["gaussian"](), _linear()
    root = energy.root.detach().tril()
    precision, slope, bias = root @ root.T, energy.slope.detach(), made.network.bias
    covariance = _covariance(made)
    mean_energy = (precision * (covariance + torch.outer(bias, bias))).sum() / 2 - slope @ bias
    wanted = torch.cat([part.flatten() for part in _gradients(mean_energy - covariance.logdet() / 2, made.network)])
    objective = en.AdversarialLikelihood(made, num_samples=500)
    generator, batch = torch.Generator().manual_seed(0), en.Batch(random(2, 2))
    found = torch.stack(
        [
            torch.cat([part.flatten() for part in _gradients(objective(energy, batch, generator).value, made)])
            for _ in range(100)
        ]
    )
    error = found.std(0) / 10
    assert ((found.mean(0) - wanted).abs() < 5 * error).all()
    assert ((wanted.abs() / error) > 8).sum() >= 5


@pytest.mark.parametrize("kind", ["flow", "generator"])
def test_training_finds_a_gaussian(kind):
    """Data of a known covariance: the energy comes to its precision."""
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double()
    data = random(4000, 2) @ torch.linalg.cholesky(covariance).T
    if kind == "flow":
        from zuko.flows import MAF

        sampler = en.Flow(MAF(2, transforms=1, hidden_features=(8,)).double(), en.Real(2))
    else:
        sampler = en.Generator(nn.Linear(3, 2).double(), en.Real(2), 3, noise_scale=0.3, num_pairs=1)
    energy = TRUTHS["gaussian"]()
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.02, betas=(0.5, 0.9))  # noqa: E731
    schedule = lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 400)  # noqa: E731
    en.fit(
        energy,
        en.AdversarialLikelihood(sampler),
        data,
        num_steps=400,
        batch_size=300,
        optimizer=adam,
        scheduler=schedule,
    )
    x, log_weight = whole(energy.space)
    with torch.no_grad():
        p = (log_weight - energy(x)).softmax(0)
    mean = p @ x
    found = (x - mean).T @ (p[:, None] * (x - mean))
    torch.testing.assert_close(found, data.T.cov(), rtol=0, atol=0.12)
    torch.testing.assert_close(mean, data.mean(0), rtol=0, atol=0.12)


def test_wrong_samplers():
    with pytest.raises(en.CapabilityError, match="Reparameterised"):
        en.AdversarialLikelihood(en.Gaussian(2))
    with pytest.raises(en.InputError, match="the sampler lives on"):
        en.AdversarialLikelihood(_linear())(en.Gaussian(3), en.Batch(torch.zeros(2, 3)), torch.Generator())
    with pytest.raises(en.InputError, match="gradient_penalty"):
        en.AdversarialLikelihood(_linear(), gradient_penalty=-1.0)
    with pytest.raises(en.InputError, match="Unflatten"):
        en.Generator(nn.Linear(3, 4), en.Real((2, 2)), 3)
    with pytest.raises(en.InputError, match="Real space"):
        en.Generator(nn.Linear(3, 4), en.Binary(4), 3)
