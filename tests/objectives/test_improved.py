"""Improved contrastive divergence: the gradient through the chain, the entropy, and what the sum of terms is."""

import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.objectives.improved import entropy


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


class Quadratic(en.Energy):
    """E(x) = sum_i (-a_i x_i + b_i x_i^2 / 2)."""

    def __init__(self, a, b):
        super().__init__(en.Real(len(a)))
        self.a, self.b = nn.Parameter(_tensor(*a)), nn.Parameter(_tensor(*b))

    def forward(self, x):
        return (-self.a * x + self.b * x.square() / 2).sum(1)


def _network():
    torch.manual_seed(0)
    return en.Gaussian(2).double() + en.Neural(en.MLP(2, widths=(6,)).double(), en.Real(2))


@pytest.mark.parametrize("num_steps", [1, 3])
def test_gradient_through_the_last_steps_is_that_of_the_chain_written_out(num_steps):
    energy, step_size = _network(), 0.3
    sampler = en.Langevin(step_size=step_size)
    rows = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parameters = list(energy.parameters())

    def gradient(weight):
        objective = en.ImprovedCD(
            en.ContrastiveDivergence(sampler, 4), sampler, num_steps=num_steps, weight=weight, entropy_weight=0.0
        )
        loss = objective(energy, en.Batch(rows), torch.Generator().manual_seed(2))
        return loss, torch.autograd.grad(loss.value, parameters)

    (with_term, through), (without, plain) = gradient(0.7), gradient(0.0)
    generator = torch.Generator().manual_seed(2)
    x = en.ContrastiveDivergence(sampler, 4).negatives(energy, en.Batch(rows), generator)[0]
    for _ in range(num_steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        if not x.requires_grad:
            x = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
        x = x - step_size / 2 * slope + math.sqrt(step_size) * noise
    still = _network()
    for parameter in still.parameters():
        parameter.requires_grad_(False)
    reached = still(x).mean()
    assert with_term.value.item() - without.value.item() == pytest.approx(0.7 * reached.item(), rel=1e-12)
    # The last bias never enters a slope.
    wanted = torch.autograd.grad(reached, parameters, allow_unused=True)
    for one, other, right in zip(through, plain, wanted, strict=True):
        right = torch.zeros_like(one) if right is None else right
        torch.testing.assert_close(one - other, 0.7 * right, rtol=1e-9, atol=1e-12)
    assert max(float(part.abs().max()) for part in wanted if part is not None) > 1e-3
    # Without the term it is contrastive divergence with steps more.
    longer = en.ContrastiveDivergence(sampler, 4 + num_steps)(energy, en.Batch(rows), torch.Generator().manual_seed(2))
    for one, other in zip(plain, torch.autograd.grad(longer.value, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_the_energy_and_its_parameters_stay_as_they_were():
    energy, sampler = _network(), en.UnderdampedLangevin(step_size=0.3)
    objective = en.ImprovedCD(en.PersistentCD(sampler, 2, num_chains=7), sampler, num_steps=2)
    loss = objective(energy, en.Batch(torch.zeros(3, 2).double()), torch.Generator().manual_seed(0))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in energy.parameters())
    assert not objective.negatives.replay.x.requires_grad
    assert not any(metric.requires_grad for metric in loss.metrics.values())
    loss.value.backward()
    assert max(float(p.grad.abs().max()) for p in energy.parameters() if p.grad is not None) > 0


def test_entropy_of_known_densities():
    """5 standard errors over repetitions, and k / N of bias, from the tails."""
    generator = torch.Generator().manual_seed(0)
    scale = _tensor(0.5, 2.0)
    for num_neighbours in (1, 3, 10):
        found = torch.stack(
            [
                entropy(scale * torch.randn(1000, 2, generator=generator, dtype=torch.float64), num_neighbours)
                for _ in range(12)
            ]
        )
        wanted = float(scale.log().sum()) + math.log(2 * math.pi * math.e)
        assert abs(found.mean().item() - wanted) < 5 * found.std().item() / math.sqrt(12) + num_neighbours / 1000
    line = torch.stack([entropy(3 * torch.rand(1000, 1, generator=generator).double(), 3) for _ in range(12)])
    assert abs(line.mean().item() - math.log(3)) < 5 * line.std().item() / math.sqrt(12)


def test_gradient_of_the_entropy_is_that_of_the_density():
    """One Langevin step from N(0, I), x' = (1 - h b / 2) x + sqrt(h) noise: dH/db in closed form, in 1 to 20 dims."""
    generator, step = torch.Generator().manual_seed(0), 0.4
    for size, num_neighbours in ((1, 20), (2, 5), (20, 5)):
        found = []
        for _ in range(60):
            b = _tensor(1.3).requires_grad_(True)
            x, noise = torch.randn(2, 500, size, generator=generator, dtype=torch.float64)
            moved = (1 - step / 2 * b) * x + math.sqrt(step) * noise
            found.append(torch.autograd.grad(entropy(moved, num_neighbours), b)[0] / size)
        found = torch.stack(found)
        error = found.std() / math.sqrt(len(found))
        shrink = 1 - step / 2 * 1.3
        wanted = -step / 2 * shrink / (shrink**2 + step)
        assert abs(found.mean().item() - wanted) < 5 * error
        assert error < 0.2 * abs(wanted)
    assert error < 0.003 * abs(wanted)


def test_entropy_of_a_stretched_set_grows_by_the_logarithm_of_the_stretch():
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stretch = _tensor(1.7).requires_grad_(True)
    value = entropy(stretch * x, 4)
    assert value.item() - entropy(x, 4).item() == pytest.approx(3 * math.log(1.7), rel=1e-12)
    assert torch.autograd.grad(value, stretch)[0].item() == pytest.approx(3 / 1.7, rel=1e-12)


MEAN, VARIANCE, STEP = _tensor(0.6, -0.3), _tensor(0.5, 1.5), 0.4


def _after(energy, step=STEP):
    """Mean and variance of one Langevin step from normal data."""
    shrink = 1 - step / 2 * energy.b
    return shrink * MEAN + step / 2 * energy.a, shrink.square() * VARIANCE + step


def _divergence(mean, variance, energy):
    """KL(N(mean, variance) || p), p normal with mean a / b and variance 1 / b."""
    return (energy.b * (variance + (mean - energy.a / energy.b) ** 2) - 1 - (energy.b * variance).log()).sum() / 2


class _FromData(en.ContrastiveDivergence):
    """No step before the last: the chains stand at the rows."""

    def negatives(self, energy, batch, generator):
        nothing = torch.zeros(len(batch.x), dtype=batch.x.dtype)
        return batch.x, en.Info(nothing, nothing, nothing, nothing > 0)


def _estimates(energy, weight, number=60, rows=1200):
    sampler, generator = en.Langevin(step_size=STEP), torch.Generator().manual_seed(0)
    objective = en.ImprovedCD(_FromData(sampler, 1), sampler, weight=weight, num_neighbours=4)
    found = []
    for _ in range(number):
        x = MEAN + VARIANCE.sqrt() * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
        value = objective(energy, en.Batch(x), generator).value
        found.append(torch.cat(torch.autograd.grad(value, [energy.a, energy.b])))
    found = torch.stack(found)
    return found.mean(0), found.std(0) / math.sqrt(number)


def _closed(energy, weight, step=STEP):
    """d/dtheta of mean E(data) - mean E(q) + weight KL(q || p), E and p held fast in the last, q in the middle."""
    parameters = [energy.a, energy.b]
    mean, variance = (part.detach() for part in _after(energy, step))
    data = (-energy.a * MEAN + energy.b * (VARIANCE + MEAN**2) / 2).sum()
    chain = (-energy.a * mean + energy.b * (variance + mean**2) / 2).sum()
    still = Quadratic(energy.a.tolist(), energy.b.tolist())
    total = data - chain + weight * _divergence(*_after(energy, step), still)
    return torch.cat(torch.autograd.grad(total, parameters))


@pytest.mark.parametrize("weight", [-1.0, 1.0])
def test_gradient_of_the_whole_is_the_closed_form(weight):
    energy = Quadratic((0.2, 0.4), (0.9, 1.3))
    mean, error = _estimates(energy, weight)
    wanted = _closed(energy, weight)
    assert bool(((mean - wanted).abs() < 5 * error).all()), (mean, wanted, error)
    assert bool(((wanted - _closed(energy, -weight)).abs() > 5 * error).any())


def test_minus_one_is_the_derivative_of_the_difference_of_divergences():
    """KL(data || p) - KL(q || p), differentiated as a whole: an identity of the closed forms."""
    energy = Quadratic((0.2, 0.4), (0.9, 1.3))
    whole = _divergence(MEAN, VARIANCE, energy) - _divergence(*_after(energy), energy)
    wanted = torch.cat(torch.autograd.grad(whole, [energy.a, energy.b]))
    torch.testing.assert_close(_closed(energy, -1.0), wanted, rtol=1e-10, atol=1e-12)
    assert (wanted - _closed(energy, 1.0)).abs().max() > 0.05


def test_at_the_truth_only_the_step_size_is_left():
    """Each weight's gradient at the truth is the closed form, and that vanishes with the step."""
    truth = Quadratic((MEAN / VARIANCE).tolist(), (1 / VARIANCE).tolist())
    for weight in (-1.0, 1.0):
        mean, error = _estimates(truth, weight, number=30)
        assert bool(((mean - _closed(truth, weight)).abs() < 5 * error).all())
    sizes = {
        step: {weight: _closed(truth, weight, step).abs().max().item() for weight in (-1.0, 0.0, 1.0)}
        for step in (0.1, 0.05)
    }
    for weight in (-1.0, 0.0, 1.0):
        assert sizes[0.05][weight] < 0.3 * sizes[0.1][weight]


def test_wrong_arguments():
    step = en.Langevin(step_size=0.1)
    with pytest.raises(en.InputError, match="MALA"):
        en.ImprovedCD(en.PersistentCD(step, 1), en.MALA(step_size=0.1))
    with pytest.raises(en.InputError, match="more chains than num_neighbours=5"):
        en.ImprovedCD(en.ContrastiveDivergence(step, 1), step)(
            _network(), en.Batch(torch.zeros(3, 2).double()), torch.Generator()
        )
    with pytest.raises(en.InputError, match="weight"):
        en.ImprovedCD(en.PersistentCD(step, 1), step, weight=math.inf)
