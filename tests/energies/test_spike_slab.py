"""Spike-and-slab machines against quadrature over x and slabs and sums over spikes."""

import pytest
import torch

import energeia as en
from energeia.core.nodes import integration_nodes


def _machine(num_slabs=2, scale=0.35):
    machine = en.SpikeAndSlabRBM(2, 2, num_slabs).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        machine.hidden_bias.sub_(0.4)
    assert machine.margin() > 0.1
    return machine


def _joint(machine, x, h, s):
    """E(x, h, s) `[X, N]` for h `[J]` and slabs s `[N, J, K]`."""
    precision = machine.log_precision.exp()
    energy = ((x - machine.bias).square() * precision).sum(1)[:, None] / 2 + s.square().flatten(1).sum(1) / 2
    energy = energy - torch.einsum("xi,ijk,j,njk->xn", x, machine.weight, h, s)
    return energy - h @ machine.hidden_bias - torch.einsum("j,njk,jk->n", h, s, machine.inner_bias)


def _spikes():
    return en.Binary(2).enumerate(0, 4, dtype=torch.float64, device=torch.device("cpu"))


def test_spikes_and_slabs_are_summed_out():
    machine = _machine(num_slabs=1)
    s, log_s = integration_nodes(en.Real(2), 80)
    s = s.unsqueeze(2)
    x = 2 * torch.randn(9, 2, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        minus = torch.stack([log_s - _joint(machine, x, h, s) for h in _spikes()], 1)
        torch.testing.assert_close(machine(x), -minus.flatten(1).logsumexp(1), rtol=1e-10, atol=1e-10)
        given_x = minus.flatten(1).softmax(1).view_as(minus)
        torch.testing.assert_close(machine.transform(x), given_x.sum(2) @ _spikes(), rtol=1e-9, atol=1e-10)
        wanted = torch.einsum("xmn,mj,njk->xjk", given_x, _spikes(), s)
        found = machine.hidden.mean(machine.hidden_parameters(x))[..., 1:]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_x_given_spikes_and_slabs():
    machine = _machine()
    x, log_x = integration_nodes(en.Real(2), 100)
    h, s = torch.tensor([1.0, 1.0]).double(), torch.tensor([[[0.5, -1.0], [0.3, 2.0]]]).double()
    with torch.no_grad():
        log_weight = log_x - _joint(machine, x, h, s)[:, 0]
        statistic = torch.cat([h.view(1, 2, 1), h.view(1, 2, 1) * s], -1)
        units, natural = machine.visible, machine.visible_parameters(statistic)
        p = log_weight.softmax(0)
        torch.testing.assert_close(units.mean(natural)[0], p @ x, rtol=1e-9, atol=1e-10)
        covariance = (x - p @ x).T @ ((x - p @ x) * p[:, None])
    torch.testing.assert_close(covariance, (-machine.log_precision).exp().diag().detach(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("num_slabs", [1, 2])
def test_log_z_by_listing_spikes_is_that_of_quadrature(num_slabs):
    machine = _machine(num_slabs)
    x, log_x = integration_nodes(en.Real(2, start_scale=2.0), 300)
    with torch.no_grad():
        expected = (log_x - machine(x)).logsumexp(0)
    torch.testing.assert_close(machine.log_z().value, expected, rtol=1e-9, atol=1e-9)


def test_gradient_of_the_exact_likelihood():
    """Quadrature over x of closed-form contrasts equals the slope of the exact log-likelihood."""
    machine = _machine()
    data = torch.randn(6, 2, generator=torch.Generator().manual_seed(3)).double()
    x, log_x = integration_nodes(en.Real(2, start_scale=1.5), 64)
    loss = machine(data).mean() + (log_x - machine(x)).logsumexp(0)
    wanted = torch.autograd.grad(loss, list(machine.parameters()))
    with torch.no_grad():
        p = (log_x - machine(x)).softmax(0)
        # The gradient of E at many x at once: contrasts are linear in their rows.
        keep = p > 1e-17
    found = [torch.zeros_like(part) for part in wanted]
    for node, share in zip(x[keep], p[keep], strict=True):
        for total, part in zip(found, machine.contrast(data, node[None])[2], strict=True):
            total += share * part
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_exact_draws_and_block_gibbs_have_the_moments_of_quadrature():
    machine = _machine()
    x, log_x = integration_nodes(en.Real(2, start_scale=2.0), 200)
    with torch.no_grad():
        p = (log_x - machine(x)).softmax(0)
    number = 40_000
    start = machine.sample_exact(number, torch.Generator().manual_seed(0))
    moved = en.sample(machine, en.BlockGibbs(), start=start, num_steps=3, generator=1).x

    def features(rows):
        return torch.stack([rows[:, 0], rows[:, 1], rows[:, 0] ** 2, rows[:, 1] ** 2, rows[:, 0] * rows[:, 1]], 1)

    assert not torch.equal(moved, start)
    for draws in (start, moved):
        wanted, found = p @ features(x), features(draws)
        assert ((found.mean(0) - wanted).abs() < 5 * found.std(0) / number**0.5).all()
    # A step leaves x: how it depends on where it began, E[x'|x], by the conditionals alone.
    with torch.no_grad():
        mean = machine.visible.mean(machine.visible_parameters(machine.hidden.mean(machine.hidden_parameters(start))))
    once = en.sample(machine, en.BlockGibbs(), start=start, num_steps=1, generator=2).x
    cross = (once - mean) * start
    assert (cross.mean(0).abs() < 5 * cross.std(0) / number**0.5).all()


def test_annealing_finds_log_z():
    machine = _machine()
    exact = machine.log_z().value
    lower = en.ais(machine, num_chains=400, levels=200, generator=1)
    upper = en.reverse_ais(machine, machine.sample_exact(400, torch.Generator().manual_seed(4)), levels=200)
    for estimate in (lower, upper):
        assert estimate.standard_error < 0.02
        assert (estimate.value - exact).abs() < 5 * estimate.standard_error


def test_normalisable_exactly_where_the_margin_is_positive():
    """Along the weakest direction E falls for ever on one side of margin 0 and rises on the other."""
    for factor, rises in ((0.999, True), (1.001, False)):
        machine = _machine()
        with torch.no_grad():
            machine.weight.mul_(factor / (1 - machine.margin()).sqrt())
        assert (machine.margin() > 0) == rises
        weight = machine.weight.detach().flatten(1)
        root = machine.log_precision.detach().exp().sqrt()
        direction = torch.linalg.eigh((weight / root[:, None]) @ (weight / root[:, None]).T)[1][:, -1] / root
        with torch.no_grad():
            far = machine(torch.stack([1e5 * direction, 2e5 * direction]))
        assert bool(far[1] > far[0]) == rises
        if not rises:
            with pytest.raises(en.InputError, match="no finite integral"):
                machine.log_z()


def test_many_spikes_are_not_listed():
    assert en.SpikeAndSlabRBM(3, 14).capability(en.Tractable) is not None
    assert en.SpikeAndSlabRBM(3, 15).capability(en.Tractable) is None
