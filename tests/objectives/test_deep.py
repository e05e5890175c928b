"""Learning of deep models: gradients against sums over all states."""

import pytest
import torch

import energeia as en
from energeia.core.record import Info
from energeia.objectives import Contrastive


class _Given(Contrastive):
    """Negatives that are at hand."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def negatives(self, energy, batch, generator):
        zeros = torch.zeros(len(self.rows), dtype=torch.float64)
        return self.rows, Info(zeros, zeros, zeros, zeros.bool())


def _bits(size):
    return en.Binary(size).enumerate(0, 2**size, dtype=torch.float64, device=torch.device("cpu"))


def _random(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def _gradient(loss, model):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]


@pytest.mark.parametrize("centred", [False, True])
def test_mean_field_gradient_is_that_of_the_bound(centred):
    """With given negatives: the gradient of mean F(v) - mean E_joint(negatives)."""
    dbm = _random(en.DBM(4, (3, 2, 2), centred=centred).double()).eval()
    data, negatives = _bits(4)[[1, 7, 12]], _bits(6)[[5, 40, 63, 22]]
    learn = en.MeanFieldPosterior(_Given(negatives), num_sweeps=1000, tolerance=1e-13).eval()
    loss = learn(dbm, en.Batch(data), torch.Generator())
    expected = _gradient(dbm.bound(data).mean() - dbm.joint(negatives).mean(), dbm)
    for found, wanted in zip(_gradient(loss.value, dbm), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_mean_field_gradient_is_that_of_the_likelihood_where_the_posterior_is_independent():
    """One hidden layer, negatives with each state as often as the model has it: -mean log p and its gradient."""
    dbm = _random(en.DBM(3, (2,), centred=False).double()).eval()
    data, states = _bits(3)[[1, 6]], _bits(3)
    p = (-dbm(states)).detach().softmax(0)
    counts = (p * 200_000).round().long()
    learn = en.MeanFieldPosterior(_Given(states.repeat_interleave(counts, 0))).eval()
    loss = learn(dbm, en.Batch(data), torch.Generator())
    expected = _gradient(dbm(data).mean() + (-dbm(states)).logsumexp(0), dbm)
    for found, wanted in zip(_gradient(loss.value, dbm), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_mean_field_learning_moves_the_offsets_in_training_only():
    dbm = _random(en.DBM(4, (3, 2)).double())
    learn = en.MeanFieldPosterior(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5))
    before = dbm.joint.offset.clone()
    learn.eval()(dbm, en.Batch(_bits(4)), torch.Generator().manual_seed(0))
    assert torch.equal(dbm.joint.offset, before)
    learn.train()(dbm, en.Batch(_bits(4)), torch.Generator().manual_seed(0))
    assert not torch.equal(dbm.joint.offset, before)


def test_wake_and_sleep_gradients_are_expectations():
    """Model weights: E_q of the gradient of E(v, h); recognition: that of -log q(h|v) over what is imagined."""
    dbn = _random(en.DBN(3, (2, 2)).double()).eval()
    dbn.top.centred = False
    v, h = _bits(3)[[5]], _bits(2)
    negative = h[[2]]
    with torch.no_grad():
        on = dbn.upward(1, v).sigmoid()
        q = (h * on + (1 - h) * (1 - on)).prod(1)
        seen = dbn.downward(0, negative).sigmoid()
        p = (_bits(3) * seen + (1 - _bits(3)) * (1 - seen)).prod(1)
    model = (q * dbn.joint_energy([v.expand(4, 3), h])).sum() - dbn.top(negative)[0]
    natural = dbn.upward(1, _bits(3))
    recognition = (p * (torch.nn.functional.softplus(natural) - natural * negative).sum(1)).sum()
    expected = _gradient(model + recognition, dbn)
    generator, parts = torch.Generator().manual_seed(0), []
    for _ in range(20):
        learn = en.WakeSleep(_Given(negative.expand(2000, 2))).eval()
        parts.append(_gradient(learn(dbn, en.Batch(v.expand(2000, 3)), generator).value, dbn))
    for number, wanted in enumerate(expected):
        found = torch.stack([part[number] for part in parts])
        error = found.std(0) / 20**0.5
        assert bool(((found.mean(0) - wanted).abs() <= 5 * error + 1e-12).all())


def _copies():
    """A fair bit with five copies, each wrong in one of ten cases: rows, and minus the entropy of the truth."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 1, generator=generator).gt(0.5).double().repeat(1, 5)
    x = (x + torch.rand(2000, 5, generator=generator).lt(0.1).double()) % 2
    number = _bits(5).sum(1)
    p = (0.1**number * 0.9 ** (5 - number) + 0.9**number * 0.1 ** (5 - number)) / 2
    return x, float((p * p.log()).sum())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["DBM", "DBN"])
def test_learning_reaches_the_distribution(model):
    x, best = _copies()
    torch.manual_seed(0)
    contrastive = en.PersistentCD(en.BlockGibbs(), 1, num_chains=200)
    if model == "DBM":
        machine, learn = en.DBM(5, (3, 3), weight_scale=0.1).double(), en.MeanFieldPosterior(contrastive)
    else:
        machine, learn = en.DBN(5, (3, 3), weight_scale=0.1).double(), en.WakeSleep(contrastive)
    start = en.log_likelihood(machine, x).mean
    en.fit(machine, learn, x, num_steps=500, batch_size=200, optimizer=lambda p: torch.optim.SGD(p, lr=0.3))
    found = en.log_likelihood(machine, x).mean
    assert start < best - 1
    assert found > best - 0.25
    assert en.variational_bound(machine, x).mean < found


def test_other_models_are_refused():
    batch, generator = en.Batch(torch.zeros(2, 4)), torch.Generator()
    with pytest.raises(en.InputError, match="PersistentCD"):
        en.MeanFieldPosterior(_Given(batch.x))(en.RBM(4, 2), batch, generator)
    with pytest.raises(en.InputError, match=r"en\.DBN"):
        en.WakeSleep(_Given(batch.x))(en.RBM(4, 2), batch, generator)
