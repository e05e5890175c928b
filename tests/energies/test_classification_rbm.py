"""Classification RBMs against the sum over every class and every hidden state."""

import itertools

import pytest
import torch

import energeia as en
from energeia import testing

VISIBLE, HIDDEN, CLASSES = 4, 3, 3


def _machine(space=None):
    torch.manual_seed(4)
    machine = en.ClassificationRBM(space or en.Binary(VISIBLE), HIDDEN, CLASSES, weight_scale=0.8).double()
    with torch.no_grad():
        for parameter in (machine.machine.bias, machine.machine.hidden_bias, machine.label_bias):
            parameter.copy_(torch.randn(parameter.shape))
    return machine


def _states(space):
    return space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))


def _joint_energies(machine, x):
    """E(x, y, h) for every x, y and h, written out: `[X, K, H]`."""
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=HIDDEN)), dtype=torch.float64)
    inner, flat = machine.machine, x.flatten(1)
    energies = torch.empty(len(x), CLASSES, len(h), dtype=torch.float64)
    for y in range(CLASSES):
        tied = h @ (inner.hidden_bias + machine.label_weight[y])
        energies[:, y] = -(flat @ inner.bias).unsqueeze(1) - machine.label_bias[y] - tied - (flat @ inner.weight) @ h.T
    return energies


@pytest.mark.parametrize("space", [en.Binary(4), en.Spin(4), en.Categorical(2, num_categories=2)])
def test_energies_are_sums_over_hidden_states(space):
    machine = _machine(space)
    x = _states(space)
    joint = _joint_energies(machine, x)
    torch.testing.assert_close(machine.class_energies(x), -(-joint).logsumexp(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(machine(x), -(-joint).flatten(1).logsumexp(1), rtol=0, atol=1e-12)


def test_hidden_units_have_the_moments_of_the_joint():
    machine = _machine()
    x = _states(machine.space)
    share = (-_joint_energies(machine, x)).flatten(1).softmax(1).view(len(x), CLASSES, -1)
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=HIDDEN)), dtype=torch.float64)
    expected = torch.cat([share.sum(2), share.sum(1) @ h], 1)
    torch.testing.assert_close(machine.transform(x), expected, rtol=0, atol=1e-12)


def test_draws_of_class_and_hidden_units_have_their_joint_distribution():
    machine = _machine()
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    expected = (-_joint_energies(machine, x))[0].flatten().softmax(0)
    num_draws = 40_000
    natural = machine.hidden_parameters(x).expand(num_draws, -1)
    uniform = torch.rand(natural.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = machine.hidden.from_natural(natural, uniform)
    number = (drawn[:, CLASSES:] @ torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)).long()
    found = (drawn[:, :CLASSES].argmax(1) * 8 + number).bincount(minlength=CLASSES * 8) / num_draws
    error = (expected * (1 - expected) / num_draws).sqrt()
    assert ((found - expected).abs() / error).max() < 5


def _gradient(loss, machine):
    return torch.autograd.grad(loss, list(machine.parameters()))


def test_joint_of_weight_w_is_the_hybrid_of_the_paper():
    """(1 + alpha) (CE + w (E(data) + log Z)), w = alpha / (1 + alpha), is -log p(y|x) - alpha log p(x, y)."""
    machine, alpha = _machine(), 0.3
    x = _states(machine.space)[[1, 6, 11, 11, 14]]
    y = torch.tensor([0, 2, 1, 2, 0])
    everything = _joint_energies(machine, _states(machine.space))
    own = _joint_energies(machine, x)[torch.arange(5), y]
    log_joint = (-own).logsumexp(1) - (-everything).flatten().logsumexp(0)
    log_class = (-own).logsumexp(1) - (-_joint_energies(machine, x)).flatten(1).logsumexp(1)
    expected = _gradient((-log_class - alpha * log_joint).mean(), machine)
    generator = torch.Generator().manual_seed(0)
    batch = en.Batch(x, y)
    loss = en.CrossEntropy()(machine, batch, generator).value
    loss = loss + alpha / (1 + alpha) * en.ExactLikelihood()(machine, batch, generator).value
    for found, wanted in zip(_gradient((1 + alpha) * loss, machine), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


class _Given(en.PersistentCD):
    """Negatives that are handed over."""

    def __init__(self, x):
        super().__init__(en.BlockGibbs(), 1)
        self.given = x

    def negatives(self, energy, batch, generator):
        ones = torch.ones(len(self.given), dtype=self.given.dtype)
        return self.given, en.Info(ones, ones, ones, ones > 2)


def test_generative_gradient_with_draws_from_the_model():
    """`Joint` of weight 1 with many exact draws is the gradient of -log p(x, y), within five standard errors."""
    machine = _machine()
    states = _states(machine.space)
    x, y = states[[3, 9, 12]], torch.tensor([1, 0, 2])
    everything = _joint_energies(machine, states)
    own = _joint_energies(machine, x)[torch.arange(3), y]
    exact = _gradient((-(-own).logsumexp(1)).mean() + (-everything).flatten().logsumexp(0), machine)
    share = (-machine(states)).softmax(0).detach()
    num_draws = 20_000
    drawn = states[torch.multinomial(share, num_draws, replacement=True, generator=torch.Generator().manual_seed(1))]
    loss = en.Joint(_Given(drawn))(machine, en.Batch(x, y), torch.Generator())
    found = _gradient(loss.value, machine)
    slopes = [_gradient(machine(state.unsqueeze(0)).sum(), machine) for state in states]
    for number, (one, wanted) in enumerate(zip(found, exact, strict=True)):
        each = torch.stack([slope[number] for slope in slopes]).flatten(1)
        mean = share @ each
        error = ((share @ (each - mean).square()) / num_draws).sqrt().view_as(one)
        assert ((one - wanted).abs() <= 5 * error + 1e-12).all()


def test_block_gibbs_leaves_the_distribution_of_x_unchanged():
    testing.check_sampler(en.BlockGibbs(), en.Enumerated(_machine()))


def test_annealing_finds_log_z():
    machine = _machine()
    exact = en.exact_log_z(machine).value.detach()
    estimate = en.ais(machine, levels=150, num_chains=200)
    assert abs(float(estimate.value - exact)) < 5 * float(estimate.standard_error)
    assert float(estimate.standard_error) < 0.05


def test_real_inputs_are_a_mixture_of_normals():
    """The integral of exp(-E(x)) over the line is the sum over classes and hidden states."""
    torch.manual_seed(1)
    machine = en.ClassificationRBM(en.Real(1), 2, 2, weight_scale=0.7).double()
    x = torch.linspace(-30, 30, 20_001, dtype=torch.float64).unsqueeze(1)
    total = torch.trapezoid((-machine(x)).exp(), x.squeeze(1))
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    inner = machine.machine
    shift = (inner.weight @ h.T).squeeze(0)
    expected = torch.zeros((), dtype=torch.float64)
    for y in range(2):
        tied = machine.label_bias[y] + h @ (inner.hidden_bias + machine.label_weight[y])
        expected = expected + ((2 * torch.pi) ** 0.5 * (tied + shift.square() / 2).exp()).sum()
    torch.testing.assert_close(total, expected)


def test_what_it_refuses():
    with pytest.raises(en.InputError, match="at least 2"):
        en.ClassificationRBM(4, 3, 1)
    with pytest.raises(en.InputError, match="num_hidden"):
        en.ClassificationRBM(4, 0, 2)
