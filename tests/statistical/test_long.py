"""Long statistics: make test-slow."""

import functools
import math

import pytest
import torch

import energeia as en

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sampler", [en.MALA(step_size=0.4), en.RandomWalk(step_size=0.7)], ids=["mala", "walk"])
def test_many_chains_and_steps_leave_the_target_unchanged(sampler):
    target = en.any_of(
        en.Gaussian(2, mean=torch.tensor([1.0, -2.0], dtype=torch.float64)),
        en.Gaussian(2, mean=torch.tensor([3.0, 0.0], dtype=torch.float64), scale=torch.tensor([0.5, 0.8]).double()),
        weights=[1.0, 5.0],
    )
    # Shares are w_i Z_i: 2 pi and 5 * 2 pi * 0.4.
    share = 5 * 0.4 / (1 + 5 * 0.4)
    generator, num = torch.Generator().manual_seed(0), 100_000
    parts = [part.sample_exact(num, generator) for part in target.energies]
    which = (torch.rand(num, generator=generator) < share).long()
    start = torch.stack(parts)[which, torch.arange(num)]
    x = en.sample(target, sampler, start=start, num_steps=100, generator=generator).x
    mean = (1 - share) * torch.tensor([1.0, -2.0]) + share * torch.tensor([3.0, 0.0])
    error = x.std(0) / math.sqrt(num)
    assert bool(((x.mean(0) - mean).abs() < 5 * error).all())
    far = (x[:, 0] > 2).double().mean()
    exact = (1 - share) * (1 - torch.special.ndtr(torch.tensor(1.0))) + share * torch.special.ndtr(torch.tensor(2.0))
    assert abs(far - exact) < 5 * math.sqrt(exact * (1 - exact) / num)


def test_persistent_cd_comes_close_to_maximum_likelihood():
    """Held-out nats of a network trained by PCD, against the same network trained by the exact likelihood."""
    mixture = en.any_of(
        en.Gaussian(1, mean=torch.tensor([-1.5])), en.Gaussian(1, mean=torch.tensor([1.5]), scale=0.5), weights=[1, 2]
    )
    draws = en.sample(mixture, en.MALA(step_size=0.5), num_chains=4000, num_steps=300, generator=1).x
    train, test = draws[:3000], draws[3000:]
    nats = {}
    for name, objective in {
        "exact": en.ExactLikelihood(num_nodes=100),
        "pcd": en.PersistentCD(en.MALA(step_size=0.3), 10, num_chains=500),
    }.items():
        torch.manual_seed(0)
        # The Gaussian keeps the density normalisable; the network learns the rest.
        energy = en.Neural(en.MLP(1, widths=(32, 32)), en.Real(1)) + en.Gaussian(1, scale=3.0)
        adam = functools.partial(torch.optim.Adam, lr=2e-3)
        en.fit(energy, objective, train, num_steps=1500, batch_size=500, optimizer=adam, average_decay=0.99)
        log_z = en.exact_log_z(energy.double()).value
        nats[name] = (energy(test.double()) + log_z).mean().item()
    best = float((mixture.double()(test.double()) + en.exact_log_z(mixture.double()).value).mean())
    assert best - 0.02 < nats["exact"] < best + 0.03
    assert nats["pcd"] < nats["exact"] + 0.03
