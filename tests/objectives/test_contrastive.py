import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes


class Quadratic(en.Energy):
    """A small Boltzmann machine: E(x) = -(x'Wx + b'x)."""

    def __init__(self, space):
        super().__init__(space)
        generator = torch.Generator().manual_seed(0)
        size = space.num_dims
        self.w = nn.Parameter(torch.randn(size, size, generator=generator, dtype=torch.float64) / 2)
        self.b = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))

    def forward(self, x):
        flat = x.flatten(1)
        return -((flat @ self.w) * flat).sum(1) - flat @ self.b


class ExactDraws(en.Sampler):
    """Returns the states it is built with: a sampler that has converged."""

    def __init__(self, x):
        self.x = x

    def init(self, energy, x):
        return en.Langevin(step_size=1.0).init(en.Gaussian(1), self.x)

    def draw(self, state, generator):
        return ()

    def step(self, energy, state, noise):
        zero = torch.zeros(len(state.x), dtype=state.x.dtype)
        return state, en.Info(zero, zero + 1, zero, zero > 0)


def _gradient(loss, energy):
    return torch.autograd.grad(loss, list(energy.parameters()))


@pytest.mark.parametrize("space", [en.Binary(5), en.Spin((2, 2)), en.Categorical(3, num_categories=3)])
def test_expected_gradient_with_exact_samples_is_the_likelihood_gradient(space):
    """Sum over all states weighted by p(x): the expectation itself, not an estimate of it."""
    energy = Quadratic(space)
    states, _ = integration_nodes(space)
    batch = en.Batch(states[[1, 3, 4]])
    exact = _gradient(en.ExactLikelihood()(energy, batch, torch.Generator()).value, energy)
    probabilities = (-energy(states)).softmax(0).detach()
    total = [torch.zeros_like(g) for g in exact]
    for state, probability in zip(states, probabilities, strict=True):
        for objective in (
            en.ContrastiveDivergence(ExactDraws(state.unsqueeze(0)), 1),
            en.PersistentCD(ExactDraws(state.unsqueeze(0)), 1, num_chains=1),
        ):
            one = _gradient(objective(energy, batch, torch.Generator()).value, energy)
            total = [t + probability * g / 2 for t, g in zip(total, one, strict=True)]
    for expected, found in zip(exact, total, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_joint_expected_gradient_is_that_of_the_joint_likelihood():
    """With weight 1 and exact samples: d/dt of -log p(x, y) = -log p(y|x) - log p(x)."""
    torch.manual_seed(0)
    energy = en.Classifier(nn.Linear(3, 2).double(), en.Binary(3))
    states, _ = integration_nodes(energy.space)
    batch = en.Batch(states[[1, 3, 4, 4]], torch.tensor([0, 1, 1, 0]))
    log_z = (-energy(states)).logsumexp(0)
    joint = energy.class_energies(batch.x).gather(1, batch.y.unsqueeze(1)).mean() + log_z
    exact = _gradient(joint, energy)
    probabilities = (-energy(states)).softmax(0).detach()
    total = [torch.zeros_like(g) for g in exact]
    for state, probability in zip(states, probabilities, strict=True):
        objective = en.Joint(en.ContrastiveDivergence(ExactDraws(state.unsqueeze(0)), 1), weight=1.0)
        one = _gradient(objective(energy, batch, torch.Generator()).value, energy)
        total = [t + probability * g for t, g in zip(total, one, strict=True)]
    for expected, found in zip(exact, total, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_joint_is_cross_entropy_plus_weighted_gap():
    torch.manual_seed(0)
    energy = en.Classifier(nn.Linear(2, 3), en.Real(2))
    x, y, negatives = torch.randn(6, 2), torch.arange(6) % 3, torch.randn(4, 2)
    objective = en.Joint(en.ContrastiveDivergence(ExactDraws(negatives), 1), weight=0.3)
    loss = objective(energy, en.Batch(x, y), torch.Generator())
    cross_entropy = nn.functional.cross_entropy(-energy.class_energies(x), y)
    expected = cross_entropy + 0.3 * (energy(x).mean() - energy(negatives).mean())
    torch.testing.assert_close(loss.value, expected)
    torch.testing.assert_close(loss.metrics["cross_entropy"], cross_entropy)
    torch.testing.assert_close(loss.metrics["gap"], energy(x).mean() - energy(negatives).mean())
    alone = en.CrossEntropy()(energy, en.Batch(x, y), torch.Generator())
    torch.testing.assert_close(alone.value, cross_entropy)


def test_cd_starts_at_the_data_and_at_noise():
    energy = en.Gaussian(2) + en.Neural(en.MLP(2), en.Real(2))
    still = en.Langevin(step_size=1e-12, noise_scale=0.0)
    x = torch.full((5, 2), 3.0)
    data, _ = en.ContrastiveDivergence(still, 1).negatives(energy, en.Batch(x), torch.Generator().manual_seed(0))
    torch.testing.assert_close(data, x)
    objective = en.ContrastiveDivergence(still, 1, start="noise")
    noise, _ = objective.negatives(energy, en.Batch(x), torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise, energy.space.start(5, torch.Generator().manual_seed(0)))


def test_persistent_chains_go_on_where_they_were_and_rest_in_eval_mode():
    energy = en.Gaussian(1)
    objective = en.PersistentCD(en.Langevin(step_size=0.1, noise_scale=0.0), 1, num_chains=4)
    generator, batch = torch.Generator().manual_seed(0), en.Batch(torch.zeros(2, 1))
    first, _ = objective.negatives(energy, batch, generator)
    second, _ = objective.negatives(energy, batch, generator)
    torch.testing.assert_close(second, first * 0.95)
    objective.eval()
    for _ in range(2):
        third, _ = objective.negatives(energy, batch, generator)
        torch.testing.assert_close(third, second * 0.95)
    assert objective.replay.age.tolist() == [2] * 4


def test_no_gradient_reaches_the_energy_through_the_chain():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2), en.Real(2))
    negatives, _ = en.ContrastiveDivergence(en.Langevin(step_size=0.1), 3).negatives(
        energy, en.Batch(torch.randn(4, 2)), torch.Generator()
    )
    assert not negatives.requires_grad


def test_exact_likelihood_by_quadrature_is_the_closed_form():
    energy = en.Gaussian(
        2, mean=torch.tensor([0.5, -1.0], dtype=torch.float64), scale=torch.tensor(1.5, dtype=torch.float64)
    )
    x = torch.randn(20, 2, dtype=torch.float64)
    loss = en.ExactLikelihood()(energy, en.Batch(x), torch.Generator())
    normal = torch.distributions.Normal(energy.mean, energy.scale)
    assert loss.value.item() == pytest.approx(-normal.log_prob(x).sum(1).mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: en.ContrastiveDivergence(en.MALA(step_size=1.0), 0),
        lambda: en.ContrastiveDivergence(en.MALA(step_size=1.0), start="model"),
        lambda: en.ContrastiveDivergence(en.MALA(step_size=1.0), 25, chunk=20),
        lambda: en.PersistentCD(en.MALA(step_size=1.0), 10, chunk=0),
        lambda: en.PersistentCD(en.MALA(step_size=1.0), num_chains=10, capacity=5),
        lambda: en.PersistentCD(en.MALA(step_size=1.0), fresh=2.0),
        lambda: en.Joint(en.ContrastiveDivergence(en.MALA(step_size=1.0)), weight=0.0),
        lambda: en.CrossEntropy(label_smoothing=-0.1),
    ],
)
def test_wrong_settings_are_refused(make):
    with pytest.raises(en.InputError):
        make()


def test_labels_and_classes_are_asked_for_in_words():
    classifier = en.Classifier(nn.Linear(2, 3), en.Real(2))
    with pytest.raises(en.InputError, match="no labels"):
        en.CrossEntropy()(classifier, en.Batch(torch.zeros(2, 2)), torch.Generator())
    with pytest.raises(en.CapabilityError, match=r"en\.Classifier"):
        en.CrossEntropy()(en.Gaussian(2), en.Batch(torch.zeros(2, 2), torch.zeros(2).long()), torch.Generator())
