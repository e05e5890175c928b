"""Multi-grid contrastive divergence: sizes, starts, the sum of terms, and rest at the truth of every size."""

import math

import pytest
import torch
from torch import nn

import energeia as en


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


class Pixels(en.Energy):
    """Independent pixels N(mean_c, exp(log_variance_c)), one of each for a channel."""

    def __init__(self, shape, mean=(0.4, -0.3), variance=(0.5, 1.2)):
        super().__init__(en.Real(shape))
        self.mean, self.log_variance = nn.Parameter(_tensor(*mean)), nn.Parameter(_tensor(*variance).log())

    def forward(self, x):
        square = (x - self.mean[:, None, None]).square() / self.log_variance.exp()[:, None, None]
        return square.flatten(1).sum(1) / 2


class _Record(en.Langevin):
    """Langevin that remembers where its chains began."""

    def init(self, energy, x):
        starts.append(x)
        return super().init(energy, x)


starts: list[torch.Tensor] = []


def test_each_size_starts_from_the_one_below_and_all_terms_are_added():
    sampler = _Record(step_size=0.3)
    coarse = [Pixels((2, 1, 2)), Pixels((2, 2, 4), mean=(0.1, 0.2))]
    energy = Pixels((2, 6, 8), mean=(-0.2, 0.9))
    objective = en.MultigridCD(coarse, sampler, 3)
    x = torch.randn(5, 2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    starts.clear()
    loss = objective(energy, en.Batch(x), torch.Generator().manual_seed(1))
    began = list(starts)
    generator, total = torch.Generator().manual_seed(1), torch.zeros((), dtype=torch.float64)
    start = x.mean((2, 3))[:, :, None, None].expand(5, 2, 1, 2)
    enlarge = [(2, 2), (3, 2), None]
    data = [
        torch.stack([x[..., :4].mean((2, 3)), x[..., 4:].mean((2, 3))], 2).view(5, 2, 1, 2),
        x.view(5, 2, 2, 3, 4, 2).mean((3, 5)),
        x,
    ]
    for one, rows, factors, began_here in zip([*coarse, energy], data, enlarge, began, strict=True):
        torch.testing.assert_close(began_here, start)
        moved = start
        for _ in range(3):
            noise = torch.randn(moved.shape, generator=generator, dtype=moved.dtype)
            moved = moved - 0.15 * en.value_and_gradient(one, moved)[1] + math.sqrt(0.3) * noise
        total = total + one(rows).mean() - one(moved).mean()
        if factors is not None:
            start = torch.kron(moved, torch.ones(1, 1, *factors).double())
    torch.testing.assert_close(loss.value, total)
    parameters = [*energy.parameters(), *objective.parameters()]
    assert len(parameters) == 6
    found, wanted = torch.autograd.grad(loss.value, parameters), torch.autograd.grad(total, parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_every_size_rests_at_its_own_truth():
    """Pixels without correlation: shrunk by k, their variance falls by k. Chains that mix: within 5 errors of zero."""
    mean, variance = (0.4, -0.3), (0.5, 1.2)
    generator = torch.Generator().manual_seed(0)

    def models(shift):
        return [
            Pixels((2, side, side), tuple(m + shift for m in mean), tuple(v * side**2 / 16 for v in variance))
            for side in (1, 2, 4)
        ]

    for shift, least, most in ((0.0, 0.0, 5.0), (0.3, 10.0, math.inf)):
        *coarse, energy = models(shift)
        objective = en.MultigridCD(coarse, en.MALA(step_size=0.15), 40)
        parameters, found = [*energy.parameters(), *objective.parameters()], []
        for _ in range(20):
            noise = torch.randn(60, 2, 4, 4, generator=generator, dtype=torch.float64)
            x = _tensor(*mean)[:, None, None] + _tensor(*variance).sqrt()[:, None, None] * noise
            gradients = torch.autograd.grad(objective(energy, en.Batch(x), generator).value, parameters)
            found.append(torch.cat([part.flatten() for part in gradients]))
        found = torch.stack(found)
        scores = (found.mean(0).abs() / (found.std(0) / math.sqrt(20))).view(3, 4).amax(1)
        assert bool((scores >= least).all())
        assert bool((scores < most).all())


def test_negatives_are_samples_of_every_size_from_colours():
    coarse, energy = [Pixels((2, 2, 2))], Pixels((2, 4, 4))
    objective = en.MultigridCD(coarse, en.Langevin(step_size=0.2), 4)
    found = objective.negatives(energy, torch.zeros(7, 2).double(), torch.Generator().manual_seed(0))
    assert [tuple(x.shape) for x, _ in found] == [(7, 2, 2, 2), (7, 2, 4, 4)]


def test_wrong_arguments():
    step = en.Langevin(step_size=0.1)
    with pytest.raises(en.InputError, match="at least one energy"):
        en.MultigridCD([], step)
    with pytest.raises(en.InputError, match="grow by whole factors"):
        en.MultigridCD([Pixels((2, 4, 4)), Pixels((2, 6, 6))], step)
    with pytest.raises(en.InputError, match="grow by whole factors"):
        en.MultigridCD([Pixels((2, 4, 4))], step)(
            Pixels((2, 4, 4)), en.Batch(torch.zeros(1, 2, 4, 4)), torch.Generator()
        )
    with pytest.raises(en.CapabilityError, match="needs pictures"):
        en.MultigridCD([Pixels((2, 4, 4))], step)(en.Gaussian(2), en.Batch(torch.zeros(1, 2)), torch.Generator())
    with pytest.raises(en.InputError, match="expects"):
        en.MultigridCD([Pixels((2, 2, 2))], step)(
            Pixels((2, 4, 4)), en.Batch(torch.zeros(1, 2, 3, 4)), torch.Generator()
        )
