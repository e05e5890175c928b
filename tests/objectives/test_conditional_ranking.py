"""Noise contrast for regression: by hand, at the optimum, and where it is biased as its page says."""

import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes


class Linear(nn.Module):
    """E = |y - a x - b|^2 exp(t) / 2, with a slope for each dimension."""

    def __init__(self, a, b, t):
        super().__init__()
        self.a, self.b, self.t = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, b, t))

    def forward(self, x, y):
        return (y - x * self.a - self.b).square().flatten(1).sum(1) * self.t.exp() / 2


def _pair(num_dims=1, a=0.7, b=-0.2, t=0.3):
    return en.from_pair(Linear([a] * num_dims, b, t), en.Real(1), en.Real(num_dims))


def _rows(num_rows, num_dims=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, 1, generator=generator, dtype=torch.float64)
    return x, 0.5 * x + torch.randn(num_rows, num_dims, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_dims", [1, 3])
@pytest.mark.parametrize("centre", ["shared", "answer"])
def test_value_and_gradient_by_hand(centre, num_dims):
    (x, y), energy = _rows(4, num_dims), _pair(num_dims)
    scales, num_noise = [0.2, 1.1], 3
    objective = en.ConditionalRanking(scales, num_noise=num_noise, centre=centre)
    loss = objective(energy, en.Batch(x, y), torch.Generator().manual_seed(5))
    found = torch.autograd.grad(loss.value, list(energy.parameters()))

    generator = torch.Generator().manual_seed(5)
    number = num_noise + (centre == "shared")
    which = torch.randint(2, (4, number), generator=generator)
    noise = torch.randn(4, number, num_dims, generator=generator, dtype=torch.float64)
    a, b, t = (parameter.detach().tolist() for parameter in energy.parameters())
    value, slopes, hits = 0.0, [torch.zeros(num_dims).double(), 0.0, 0.0], 0
    for row in range(4):
        steps = [[scales[which[row, m]] * step for step in noise[row, m].tolist()] for m in range(number)]
        if centre == "shared":
            steps = [[start + step for start, step in zip(steps[0], other, strict=True)] for other in steps[1:]]
        steps = [[0.0] * num_dims, *steps]
        logs, terms = [], []
        for step in steps:
            gaps = [float(y[row, d]) + step[d] - a[d] * float(x[row]) - b for d in range(num_dims)]
            level = sum(gap * gap for gap in gaps) * math.exp(t) / 2
            density = sum(
                math.exp(-sum(s * s for s in step) / (2 * q * q)) / (q * math.sqrt(2 * math.pi)) ** num_dims / 2
                for q in scales
            )
            logs.append(-level - (math.log(density) if centre == "answer" else 0))
            push = torch.tensor([-gap * math.exp(t) for gap in gaps], dtype=torch.float64)
            terms.append((push * float(x[row]), float(push.sum()), level))
        total = sum(math.exp(log) for log in logs)
        value += (math.log(total) - logs[0]) / 4
        hits += logs[0] == max(logs)
        for place in range(3):
            mean = sum(math.exp(log) / total * term[place] for log, term in zip(logs, terms, strict=True))
            slopes[place] = slopes[place] + (terms[0][place] - mean) / 4
    assert float(loss.value.detach()) == pytest.approx(value, rel=1e-12)
    for got, expected in zip(found, slopes, strict=True):
        torch.testing.assert_close(got, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    assert float(loss.metrics["found"]) == hits / 4


def _expected_gradient(centre, num_nodes=60):
    """d/dt of the expected loss at the truth N(0, 1), M = 1, one scale of .7: all integrals by quadrature."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    space, scale = en.Real(1), 0.7
    node, log_weight = integration_nodes(space, num_nodes)
    node = node[:, 0]

    def log_normal(value, spread):
        return -(value**2) / (2 * spread**2) - math.log(spread * math.sqrt(2 * math.pi))

    y = node
    if centre == "answer":
        other = node[None]
        log_joint = log_normal(y[:, None], 1.0) + log_normal(other - y[:, None], scale)
        log_joint = log_joint + log_weight[:, None] + log_weight
        correction = log_normal(other - y[:, None], scale) - log_normal(torch.zeros(()).double(), scale)
    else:
        # c is integrated out: the noisy answer is two steps away.
        other = node[None]
        log_joint = log_normal(y[:, None], 1.0) + log_normal(other - y[:, None], scale * math.sqrt(2))
        log_joint = log_joint + log_weight[:, None] + log_weight
        correction = 0.0
    rise = t.exp() / 2 * (other**2 - y[:, None] ** 2) + correction
    value = (log_joint.exp() * nn.functional.softplus(-rise)).sum()
    assert float(log_joint.exp().sum()) == pytest.approx(1, abs=1e-6)
    return float(torch.autograd.grad(value, t)[0])


def test_the_truth_is_the_optimum_with_a_shared_centre_alone():
    assert abs(_expected_gradient("shared")) < 1e-7
    # Around the answer, with one noisy one, the model wants to be narrower than the truth: as published, and told.
    assert _expected_gradient("answer") < -0.05


@pytest.mark.parametrize(
    ("centre", "num_noise", "biased"),
    [("shared", 1, False), ("shared", 8, False), ("answer", 1, True), ("answer", 256, False)],
)
def test_parameters_go_to_the_truth(centre, num_noise, biased):
    """y = x / 2 + N(0, 1): minimised on many rows, and as near as the sandwich estimate of the error allows."""
    num_rows = 2_000 if num_noise > 8 else 20_000
    (x, y), energy = _rows(num_rows), _pair(a=0.0, b=0.0, t=0.0)
    objective = en.ConditionalRanking([0.3, 3.0], num_noise=num_noise, centre=centre)
    parameters = list(energy.parameters())
    optimiser = torch.optim.LBFGS(parameters, max_iter=40, line_search_fn="strong_wolfe")

    def loss(rows=slice(None)):
        return objective(energy, en.Batch(x[rows], y[rows]), torch.Generator().manual_seed(1)).value

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    # H^-1 C H^-1 / n; C from the spread of the gradients of 50 parts.
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), parameters, create_graph=True)])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True) for g in gradient]
    hessian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    parts = torch.stack([
        torch.cat([g.flatten() for g in torch.autograd.grad(loss(part), parameters)])
        for part in torch.arange(num_rows).chunk(50)
    ])  # fmt: skip
    spread = torch.linalg.inv(hessian) @ (parts.T.cov() / 50) @ torch.linalg.inv(hessian)
    found = torch.cat([parameter.detach().flatten() for parameter in parameters])
    far = (found - torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)) / spread.diagonal().sqrt()
    if biased:
        # Precision e^t: a standard deviation of about two thirds.
        assert float(far[2]) > 10
        assert float(torch.exp(-found[2] / 2)) == pytest.approx(0.664, abs=0.03)
    else:
        assert float(far.abs().max()) < 4


def test_answers_outside_a_box_count_for_nothing():
    """The energy is NaN outside: neither value nor gradient may see it."""
    rate = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = rate

        def forward(self, x, y):
            return self.rate * y.sqrt().sum(1)

    energy = en.from_pair(Root(), en.Real(1), en.Box(1, 0.0, 1.0))
    x, y = torch.zeros(3, 1).double(), torch.tensor([[0.1], [0.5], [0.9]]).double()
    objective = en.ConditionalRanking([0.8], num_noise=4)
    loss = objective(energy, en.Batch(x, y), torch.Generator().manual_seed(3))
    (slope,) = torch.autograd.grad(loss.value, rate)
    generator = torch.Generator().manual_seed(3)
    torch.randint(1, (3, 5), generator=generator)
    noise = 0.8 * torch.randn(3, 5, 1, generator=generator, dtype=torch.float64)
    value, expected, outside = 0.0, 0.0, 0
    for row in range(3):
        tried = [float(y[row]), *(float(y[row] + noise[row, 0] + noise[row, m]) for m in range(1, 5))]
        inside = [answer for answer in tried if 0 <= answer <= 1]
        outside += len(tried) - len(inside)
        weights = [math.exp(-2 * math.sqrt(answer)) for answer in inside]
        value += (math.log(sum(weights)) - math.log(weights[0])) / 3
        roots = [math.sqrt(answer) for answer in inside]
        expected += (roots[0] - sum(w * r for w, r in zip(weights, roots, strict=True)) / sum(weights)) / 3
    assert outside > 3
    assert float(loss.value.detach()) == pytest.approx(value, rel=1e-12)
    assert float(slope) == pytest.approx(expected, rel=1e-10)


def test_pictures_of_answers():
    """Any event shape: a 2 x 3 answer is what its six numbers are."""

    class Flat(Linear):
        def forward(self, x, y):
            return super().forward(x, y.flatten(1))

    flat = _pair(6)
    shaped = en.from_pair(Flat([0.7] * 6, -0.2, 0.3), en.Real(1), en.Real((2, 3)))
    x, y = _rows(5, 6)
    for centre in ("shared", "answer"):
        objective = en.ConditionalRanking([0.3, 1.0], num_noise=2, centre=centre)
        one = objective(flat, en.Batch(x, y), torch.Generator().manual_seed(0)).value
        other = objective(shaped, en.Batch(x, y.view(5, 2, 3)), torch.Generator().manual_seed(0)).value
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_bad_input():
    for scales in ([], [0.0], [-1.0], [math.nan], [math.inf]):
        with pytest.raises(en.InputError, match="scales"):
            en.ConditionalRanking(scales)
    with pytest.raises(en.InputError, match="num_noise"):
        en.ConditionalRanking([1.0], num_noise=0)
    with pytest.raises(en.InputError, match="centre"):
        en.ConditionalRanking([1.0], centre="middle")
    objective, generator = en.ConditionalRanking([1.0]), torch.Generator().manual_seed(0)
    x, y = _rows(4)
    for wrong in (torch.full_like(y, math.nan), y[:3], y[:, 0]):
        with pytest.raises(en.InputError):
            objective(_pair(), en.Batch(x, wrong), generator)
    with pytest.raises(en.InputError, match="y"):
        objective(_pair(), en.Batch(x), generator)
    box = en.from_pair(Linear([1.0], 0.0, 0.0), en.Real(1), en.Box(1, -1.0, 1.0))
    with pytest.raises(en.InputError, match="lie outside"):
        objective(box, en.Batch(x, y + 10), generator)
    labels = en.from_pair(lambda x, y: (x * y).sum(1), en.Real(1), en.Categorical((), 3))
    with pytest.raises(en.InputError, match="ConditionalLikelihood"):
        objective(labels, en.Batch(torch.zeros(2, 1), torch.tensor([0, 2])), generator)
    with pytest.raises(en.CapabilityError, match="from_pair"):
        objective(en.Gaussian(1), en.Batch(x, y), generator)
