"""Conditional RBMs against the sum over every next frame and every hidden state."""

import itertools

import pytest
import torch

import energeia as en
from energeia import testing

ORDER, HIDDEN = 2, 3


def _machine(frame=None, *, scale=0.8):
    torch.manual_seed(2)
    machine = en.ConditionalRBM(en.Binary(3) if frame is None else frame, HIDDEN, order=ORDER).double()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape))
    return machine


def _states(space):
    return space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))


def _log_table(machine, past):
    """log p(x | past) of every frame, by all x and h written out."""
    inner, x = machine.machine, _states(machine.frame)
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=HIDDEN)), dtype=torch.float64)
    to_visible = inner.bias + machine.past_to_visible @ past.flatten()
    to_hidden = inner.hidden_bias + machine.past_to_hidden @ past.flatten()
    minus = (x.flatten(1) @ to_visible).unsqueeze(1) + h @ to_hidden + x.flatten(1) @ inner.weight @ h.T
    return minus.logsumexp(1) - minus.flatten().logsumexp(0)


def _rows(machine, num_rows, seed=0):
    return machine.space.start(num_rows, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("frame", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)])
def test_next_frame_has_its_distribution(frame):
    machine = _machine(frame)
    x = _rows(machine, 5)
    frames, pasts = machine.divide(x)
    listed = _states(frame)
    for row, (one, past) in enumerate(zip(frames, pasts, strict=True)):
        table = _log_table(machine, past)
        energies = en.given(machine, context=past.unsqueeze(0))(listed)
        torch.testing.assert_close((-energies).log_softmax(0), table, rtol=0, atol=1e-10)
        place = int((listed == one).flatten(1).all(1).nonzero())
        torch.testing.assert_close(machine.log_prob(x)[row], table[place], rtol=0, atol=1e-10)


def test_a_window_is_its_frame_given_its_past():
    machine = _machine()
    x = _rows(machine, 4)
    frames, pasts = machine.divide(x)
    pairs = zip(frames, pasts, strict=True)
    singly = torch.cat([en.given(machine, context=past[None])(frame[None]) for frame, past in pairs])
    torch.testing.assert_close(machine(x), singly, rtol=0, atol=1e-12)
    torch.testing.assert_close(en.given(machine, context=pasts)(frames), singly, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frame", [en.Binary(3), en.Spin(3), en.Real(3)])
def test_bound_energy_is_bipartite_with_a_gradient_in_closed_form(frame):
    machine = _machine(frame)
    _, pasts = machine.divide(_rows(machine, 3))
    testing.check_energy(machine)
    testing.check_energy(en.given(machine, context=pasts[:1]))
    bound = en.given(machine, context=pasts)
    data, negatives = _rows(machine, 3, 1)[:, -1], _rows(machine, 3, 2)[:, -1]
    first, second, gradients = bound.contrast(data, negatives)
    values = (bound(data), bound(negatives))
    torch.testing.assert_close((first, second), values, rtol=0, atol=1e-12)
    expected = torch.autograd.grad((values[0] - values[1]).mean(), list(bound.parameters()))
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


class _Given(en.ContrastiveDivergence):
    """Negatives that are handed over."""

    def __init__(self, x):
        super().__init__(en.BlockGibbs(), 1)
        self.given = x

    def negatives(self, energy, batch, generator):
        ones = torch.ones(len(self.given), dtype=self.given.dtype)
        return self.given, en.Info(ones, ones, ones, ones > 2)


def test_conditioned_contrast_is_the_gradient_of_the_conditional_likelihood():
    """Over every negative, weighed by its probability given its own past."""
    machine = _machine()
    x = _rows(machine, 3)
    listed = _states(machine.frame)
    expected = torch.autograd.grad(-machine.log_prob(x).mean(), list(machine.parameters()))
    total = [torch.zeros_like(parameter) for parameter in machine.parameters()]
    # Row by row, so that each has its own weights: the gradient is linear in the rows.
    for row in x:
        table = _log_table(machine, row[:-1]).exp().detach()
        for weight, negative in zip(table, listed, strict=True):
            objective = en.Conditioned(_Given(negative.unsqueeze(0)))
            loss = objective(machine, en.Batch(row.unsqueeze(0)), torch.Generator())
            for part, slope in zip(total, torch.autograd.grad(loss.value, list(machine.parameters())), strict=True):
                part.add_(weight * slope / len(x))
    for found, wanted in zip(total, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_real_frames_are_a_mixture_of_normals():
    machine = _machine(en.Real(1))
    frame = torch.linspace(-60, 60, 40_001, dtype=torch.float64)
    past = torch.tensor([[0.4], [-1.3]], dtype=torch.float64)
    window = torch.cat([past.expand(len(frame), 2, 1), frame.view(-1, 1, 1)], 1)
    total = torch.trapezoid(machine.log_prob(window).exp(), frame)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-10)


def test_chains_of_different_pasts_each_reach_their_own_distribution():
    machine = _machine(scale=0.5)
    pasts = machine.divide(_rows(machine, 2))[1]
    each = 5_000
    bound = en.given(machine, context=pasts.repeat_interleave(each, 0))
    x = en.sample(bound, en.BlockGibbs(), num_chains=2 * each, num_steps=20, generator=3, progress=False).x
    place = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    for rows, past in zip(x.split(each), pasts, strict=True):
        expected = _log_table(machine, past).exp().detach()
        found = (rows @ place).long().bincount(minlength=8) / each
        assert ((found - expected).abs() / (expected * (1 - expected) / each).sqrt()).max() < 5


def test_generated_frames_follow_the_chain_of_conditionals():
    """Two frames on from a past: their joint distribution is a product of conditionals."""
    machine = _machine(en.Binary(2), scale=0.6)
    past = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    listed, each = _states(machine.frame), 5_000
    drawn = machine.generate(past.expand(each, 2, 2), 2, num_steps=15, generator=5)
    assert drawn.shape == (each, 2, 2)
    first = _log_table(machine, past).exp()
    rows = [_log_table(machine, torch.stack([past[1], x])).exp() for x in listed]
    expected = (first.unsqueeze(1) * torch.stack(rows)).detach().flatten()
    number = (drawn @ torch.tensor([1.0, 2.0], dtype=torch.float64)).long()
    found = (4 * number[:, 0] + number[:, 1]).bincount(minlength=16) / each
    assert ((found - expected).abs() / (expected * (1 - expected) / each).sqrt()).max() < 5


def test_one_past_has_a_log_z_and_can_be_annealed():
    machine = _machine()
    bound = en.given(machine, context=machine.divide(_rows(machine, 1))[1])
    exact = (-bound(_states(machine.frame))).logsumexp(0).detach()
    torch.testing.assert_close(en.exact_log_z(bound).value.detach(), exact)
    estimate = en.ais(bound, levels=100, num_chains=200)
    assert abs(float(estimate.value - exact)) < 5 * float(estimate.standard_error) < 0.3


def test_windows_stay_within_their_sequence():
    sequences = torch.arange(10.0).view(2, 5, 1)
    cut = en.windows(sequences, 2).squeeze(-1)
    assert cut.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7], [6, 7, 8], [7, 8, 9]]
    frames = torch.randn(2, 5, 3, 4)
    assert torch.equal(en.windows(frames, 1)[1], frames[0, 1:3])


def test_fit_learns_what_follows_what():
    """A bit that turns into its opposite, which no model of single frames can tell: log 2 a frame."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200, generator=generator).round()
    sequence = torch.stack([(first + t) % 2 for t in range(6)], 1).unsqueeze(2).expand(-1, -1, 2)
    torch.manual_seed(0)
    machine = en.ConditionalRBM(2, 2, order=1)
    data = en.windows(sequence.contiguous(), 1)
    objective = en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1))
    en.fit(machine, objective, data, num_steps=60, optimizer=lambda p: torch.optim.Adam(p, lr=0.2), progress=False)
    assert machine.log_prob(data).mean() > -0.1


class _OtherRows(en.Objective):
    """Evaluates more rows than the batch has."""

    def forward(self, energy, batch, generator):
        value = energy(torch.cat([batch.x, batch.x])).mean()
        return en.Loss(value, {"loss": value.detach()})


def test_what_it_refuses():
    machine = _machine()
    with pytest.raises(en.InputError, match="past has shape"):
        en.given(machine, context=torch.zeros(1, 1, 3).double())
    bound = en.given(machine, context=torch.zeros(3, ORDER, 3).double())
    with pytest.raises(en.InputError, match="2 rows, but 3 pasts"):
        bound(torch.zeros(2, 3).double())
    with pytest.raises(en.InputError, match="PersistentCD"):
        en.Conditioned(en.PersistentCD(en.BlockGibbs(), 1))
    with pytest.raises(en.InputError, match="ExactLikelihood lists states"):
        en.Conditioned(en.ExactLikelihood())
    with pytest.raises(en.InputError, match="rows, but"):
        en.Conditioned(_OtherRows())(machine, en.Batch(_rows(machine, 5)), torch.Generator())
    objective = en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1))
    with pytest.raises(en.CapabilityError, match="Contextual"):
        objective(en.RBM(3, 2), en.Batch(torch.zeros(2, 3)), torch.Generator())
    with pytest.raises(en.InputError, match="T > order"):
        en.windows(torch.zeros(2, 2, 3), 2)
    with pytest.raises(en.InputError, match="cannot be listed"):
        en.ConditionalRBM(3, 20).log_prob(torch.zeros(1, 2, 3))
