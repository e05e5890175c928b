"""Bounds of log p(x) of deep models against enumeration."""

import pytest
import torch

import energeia as en
from energeia.partition import choose


def _random(model, scale=1.0):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return model


def _bits(size):
    return en.Binary(size).enumerate(0, 2**size, dtype=torch.float64, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", [en.DBM, en.DBN])
def test_bound_lies_below_the_likelihood(kind):
    model = _random(kind(4, (3, 3)).double())
    x = _bits(4)
    exact = en.log_likelihood(model, x)
    found = en.variational_bound(model, x.repeat(500, 1))
    assert found.log_z.kind == "exact"
    torch.testing.assert_close(found.log_z.value, exact.log_z.value, rtol=1e-10, atol=1e-10)
    assert exact.mean - 2 < found.mean < exact.mean
    assert found.low == found.mean == found.high
    if kind is en.DBM:
        assert bool((found.values[:16] <= exact.values).all())
        torch.testing.assert_close(found.values[:16], -model.bound(x) - exact.log_z.value, rtol=1e-10, atol=1e-10)


def _without_closed_forms(energy, kind):
    closed = (en.Normalised, en.Tractable, en.Listed)
    return None if kind in closed else en.Energy.capability(energy, kind)


@pytest.mark.parametrize("kind", [en.DBM, en.DBN])
def test_log_z_from_both_sides(kind, monkeypatch):
    model = _random(kind(6, (4, 5)).double())
    exact = float(en.exact_log_z(model.undirected).value)
    for part in (en.RBM, en.energies.DeepJoint):
        monkeypatch.setattr(part, "capability", _without_closed_forms)
    monkeypatch.setattr(choose, "DEFAULT_MOST", 10)
    x = model.sample(200, num_steps=50)
    found = en.variational_bound(model, x, num_chains=500, levels=300, num_steps=50)
    lower, upper = found.log_z.details["lower"], found.log_z.details["upper"]
    assert abs(float(lower.value) - exact) < 5 * float(lower.standard_error) < 0.2
    assert abs(float(upper.value) - exact) < 5 * float(upper.standard_error) < 0.2
    assert found.low < found.mean < found.high
    assert found.high - found.low < 0.4


def test_closed_forms_are_sent_elsewhere():
    with pytest.raises(en.CapabilityError, match="log_likelihood"):
        en.variational_bound(en.RBM(4, 3), torch.zeros(2, 4))
