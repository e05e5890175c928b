"""Parallel tempering of an energy with hidden units: every rung keeps its own distribution."""

import torch

import energeia as en
from energeia.core.path import tempered
from energeia.energies import Enumerated


def test_every_rung_keeps_its_distribution():
    torch.manual_seed(0)
    machine = en.RBM(4, 3, weight_scale=1.5).double()
    with torch.no_grad():
        machine.bias.normal_()
    ladder, num_chains = (1.0, 1.7, 3.0), 20_000
    generator = torch.Generator().manual_seed(1)
    rungs = [Enumerated(tempered(machine, 1 / temperature)) for temperature in ladder]
    # dtype is that of the parameters, which a view does not hold.
    for rung in rungs:
        rung.register_buffer("like", torch.zeros((), dtype=torch.float64))
    exact = torch.cat([rung.sample_exact(num_chains, generator) for rung in rungs])
    sampler = en.ParallelTempering(en.BlockGibbs(), ladder)
    state = sampler.start(machine, exact)
    for _ in range(6):
        state, info = sampler.step(machine, state, sampler.draw(state, generator))
        assert not info.divergent.any()
    assert (state.swap_rate > 0.2).all()
    assert (state.swap_rate < 0.99).all()
    x = machine.space.enumerate(0, 16, dtype=torch.float64, device=exact.device)
    for rung, chains in zip(rungs, state.inner.x.split(num_chains), strict=True):
        with torch.no_grad():
            p = (-rung(x)).softmax(0)
        counts = (chains.unsqueeze(1) == x).all(2).double().sum(0)
        assert ((counts - num_chains * p).abs() < 5 * (num_chains * p * (1 - p)).sqrt()).all()
    with torch.no_grad():
        torch.testing.assert_close(info.energy, machine(state.x))


def test_persistent_chains_may_be_tempered():
    torch.manual_seed(0)
    machine = en.RBM(6, 4)
    data = en.Binary(6).start(100, torch.Generator().manual_seed(0))
    sampler = en.ParallelTempering(en.BlockGibbs(), (1.0, 1.5))
    result = en.fit(machine, en.PersistentCD(sampler, 1, num_chains=20), data, num_steps=5, log_every=5)
    assert result.records[0]["acceptance"] == 1
