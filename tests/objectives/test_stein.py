"""Stein discrepancies: closed forms, zero gradients at the truth, and what each player's gradient is."""

import math

import pytest
import torch
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.energies import GaussianMixture
from energeia.stats.stein import GaussianKernel, InverseMultiquadric, kernel_discrepancy, stein_kernel

KERNELS = [GaussianKernel(), InverseMultiquadric(), InverseMultiquadric(-0.8)]


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Line(en.Energy):
    """E(x) = -a x + b x^2 / 2 + c x^4: an exponential family on the line."""

    def __init__(self, a, b, c=0.0):
        super().__init__(en.Real(1))
        self.natural = nn.Parameter(_tensor(a, b, c))

    def forward(self, x):
        x = x[:, 0]
        a, b, c = self.natural
        return -a * x + b * x**2 / 2 + c * x**4


class Pair(en.Energy):
    """A mixture of two Gaussians on the line, of unequal weight; the parameters are log odds, means and log sd."""

    def __init__(self, log_odds=0.8, means=(-1.0, 1.7), log_sd=-0.2):
        super().__init__(en.Real(1))
        self.log_odds, self.means = nn.Parameter(_tensor(log_odds)[0]), nn.Parameter(_tensor(*means))
        self.log_sd = nn.Parameter(_tensor(log_sd)[0])

    def forward(self, x):
        parts = -((x - self.means) ** 2) / (2 * (2 * self.log_sd).exp())
        return -torch.stack([parts[:, 0] + self.log_odds, parts[:, 1]]).logsumexp(0)


TRUTHS = {"quartic": lambda: Line(0.7, -1.0, 0.3), "pair": Pair, "gaussian": lambda: Line(0.6, 1.4)}


def _population(energy, num_nodes=160):
    """Nodes and their probabilities under the energy."""
    x, log_weight = integration_nodes(energy.space, num_nodes)
    with torch.no_grad():
        return x, (log_weight - energy(x)).softmax(0)


def _scores(energy, x, graph=False):
    return -en.value_and_gradient(energy, x, create_graph=graph)[1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_stein_kernel_is_that_of_the_definition(kernel):
    """Derivatives of k by differentiation of k itself, in three dimensions."""
    x, scores, width = _random(5, 3), _random(5, 3, seed=1), 1.3

    def k(a, b):
        return kernel.profile((a - b).square().sum(), width).value

    found = stein_kernel(x, scores, kernel, width)
    for i in range(5):
        for j in range(5):
            to_x = torch.func.grad(k, 0)(x[i], x[j])
            to_y = torch.func.grad(k, 1)(x[i], x[j])
            mixed = torch.func.jacfwd(torch.func.grad(k, 1), 0)(x[i], x[j])
            wanted = scores[i] @ scores[j] * k(x[i], x[j]) + scores[i] @ to_y + scores[j] @ to_x + mixed.trace()
            assert found[i, j].item() == pytest.approx(wanted.item(), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", TRUTHS)
def test_population_discrepancy_is_the_kernel_distance_of_the_scores(name, kernel):
    """Quadrature of u under q x q against E[(s - s_q)(x) k(x, y) (s - s_q)(y)], and both gradients."""
    truth = TRUTHS[name]()
    x, weight = _population(truth)
    model = TRUTHS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8).add_(0.1)
    own = _scores(truth, x)
    found = weight @ stein_kernel(x, _scores(model, x, graph=True), kernel, 0.9) @ weight
    away = _scores(model, x, graph=True)[:, 0] - own[:, 0]
    gram = kernel.profile((x - x.T).square(), 0.9).value
    wanted = (weight * away) @ gram @ (weight * away)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
    assert wanted.item() > 1e-3
    parameters = list(model.parameters())
    one, other = torch.autograd.grad(found, parameters), torch.autograd.grad(wanted, parameters)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    assert max(float(part.abs().max()) for part in one) > 1e-2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", TRUTHS)
def test_population_gradient_is_zero_at_the_truth(name, kernel):
    truth = TRUTHS[name]()
    x, weight = _population(truth)
    value = weight @ stein_kernel(x, _scores(truth, x, graph=True), kernel, 0.9) @ weight
    assert abs(value.item()) < 1e-9
    for gradient in torch.autograd.grad(value, list(truth.parameters())):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)


def test_gaussian_model_of_gaussian_data_in_closed_form():
    """With s - s_q = alpha + beta x, x ~ N(m, v) and y its copy: E[(alpha + beta x) k (alpha + beta y)]."""
    mean, variance, width = 0.7, 0.6, 1.1
    model = Line(0.3, 1.9)
    a, b = 0.3, 1.9
    alpha, beta = a - mean / variance, 1 / variance - b
    # k is 1 / its mass times a density of the difference: x and y given that are normal with correlation rho.
    total = width**2 + 2 * variance
    height = width / math.sqrt(total)
    own = variance * (width**2 + variance) / total
    cross = variance**2 / total
    assert own - cross == pytest.approx(variance * width**2 / total)
    wanted = height * ((alpha + beta * mean) ** 2 + beta**2 * cross)
    data = Line(mean / variance, 1 / variance)
    x, weight = _population(data)
    found = weight @ stein_kernel(x, _scores(model, x), GaussianKernel(), width) @ weight
    assert found.item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_statistics_are_means_over_pairs_of_any_event_shape(kernel):
    rows, model = _random(6, 2, 3), en.Gaussian((2, 3), mean=_random(2, 3, seed=2), scale=_tensor(0.5, 1.0, 2.0))
    flat = rows.flatten(1)
    matrix = stein_kernel(flat, _scores(model, rows).flatten(1), kernel, 1.7)
    pairs = [matrix[i, j] for i in range(6) for j in range(6) if i != j]
    for statistic, wanted in (("u", sum(pairs) / 30), ("v", matrix.mean())):
        objective = en.KernelStein(kernel, bandwidth=1.7, statistic=statistic)
        loss = objective(model, en.Batch(rows), torch.Generator())
        assert loss.value.item() == pytest.approx(float(wanted), rel=1e-12)
    assert matrix.mean() > 0


def test_u_is_unbiased_and_v_is_not():
    """The mean over all pairs drawn from a population of three points is the population's, for U alone."""
    x, model = _tensor([-1.0], [0.3], [1.2]), Line(0.2, 1.1)
    weight = _tensor(0.2, 0.5, 0.3)
    objective = {name: en.KernelStein(bandwidth=1.0, statistic=name) for name in ("u", "v")}
    mean = dict.fromkeys(objective, 0.0)
    for i in range(3):
        for j in range(3):
            for name, one in objective.items():
                value = one(model, en.Batch(x[[i, j]]), torch.Generator()).value.item()
                mean[name] += float(weight[i] * weight[j]) * value
    wanted = weight @ stein_kernel(x, _scores(model, x), InverseMultiquadric(), 1.0) @ weight
    assert mean["u"] == pytest.approx(wanted.item(), rel=1e-12)
    assert mean["v"] > wanted.item() + 0.1


def test_bandwidth_is_the_median_of_the_first_batch_and_stays():
    objective, model = en.KernelStein(), en.Gaussian(2).double()
    first, second = _random(20, 2), 5 * _random(30, 2, seed=1)
    objective.eval()
    assert objective(model, en.Batch(second), torch.Generator()).metrics["bandwidth"].item() > 5
    assert objective.width.item() == 0
    objective.train()
    median = torch.nn.functional.pdist(first).median().item()
    assert objective(model, en.Batch(first), torch.Generator()).metrics["bandwidth"].item() == pytest.approx(median)
    assert objective(model, en.Batch(second), torch.Generator()).metrics["bandwidth"].item() == pytest.approx(median)
    other = en.KernelStein()
    other.load_state_dict(objective.state_dict())
    assert other.width.item() == pytest.approx(median)


def test_no_discrepancy_of_scores_sees_the_weights_of_far_modes():
    """Modes 16 sd apart: a model with shares .5, .5 of data with .2, .8 costs nothing; KL is .19 nats."""

    def mixture(share):
        return GaussianMixture(_tensor([-8.0], [8.0]), torch.ones(2, 1, 1).double(), _tensor(share, 1 - share))

    data, wrong = mixture(0.2), mixture(0.5)
    x, weight = _population(data, 400)
    kl = weight @ ((wrong(x) + wrong.log_z().value) - (data(x) + data.log_z().value))
    assert kl.item() == pytest.approx(0.2 * math.log(0.4) + 0.8 * math.log(1.6), rel=1e-6)
    for kernel in KERNELS:
        found = weight @ stein_kernel(x, _scores(wrong, x), kernel, 2.0) @ weight
        assert abs(found.item()) < 1e-9


def test_kernel_stein_recovers_an_exponential_family():
    truth = Line(0.7, -1.0, 0.3)
    x, weight = _population(truth)
    counts = (400 * weight).round().long()
    rows = x.repeat_interleave(counts, 0)
    model = Line(0.0, 1.0, 0.1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    objective = en.KernelStein(bandwidth=1.0, statistic="v")

    def closure():
        optimizer.zero_grad()
        value = objective(model, en.Batch(rows), torch.Generator()).value
        value.backward()
        return value

    optimizer.step(closure)
    # V pulls the scores to zero by about 1 / N; the rows are rounded quantiles.
    torch.testing.assert_close(model.natural, truth.natural, rtol=0.05, atol=0.02)


class Affine(nn.Module):
    """f(x) = A x + b."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x):
        return x @ self.weight.T + self.bias


def _averaged(objective, model, x, weight):
    """The loss and the gradients of model and critic, on average over the population."""
    total = sum(
        w * objective(model, en.Batch(row.unsqueeze(0)), torch.Generator()).value
        for w, row in zip(weight, x, strict=True)
    )
    return total, torch.autograd.grad(total, [*model.parameters(), *objective.parameters()])


def test_best_critic_makes_it_score_matching():
    """f = (s - s_q) / (2 penalty): value and gradient are those of E|s - s_q|^2 / (4 penalty), and f is at rest."""
    truth, model, penalty = Line(0.6, 1.4), Line(0.1, 0.9), 0.7
    x, weight = _population(truth)
    slope, offset = 1.4 - 0.9, 0.1 - 0.6
    critic = Affine(_tensor([slope]) / (2 * penalty), _tensor(offset) / (2 * penalty))
    objective = en.LearnedStein(critic, penalty=penalty, num_projections=None)
    value, gradients = _averaged(objective, model, x, weight)
    away = _scores(model, x, graph=True) - _scores(truth, x)
    fisher = weight @ away.square().sum(1)
    assert value.item() == pytest.approx(fisher.item() / (4 * penalty), rel=1e-9)
    (wanted,) = torch.autograd.grad(fisher / (4 * penalty), [model.natural])
    torch.testing.assert_close(gradients[0], wanted, rtol=1e-8, atol=1e-10)
    assert wanted.abs().max() > 0.1
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_both_players_rest_at_the_truth_with_a_critic_of_zero():
    """Whatever the critic's features: its gradient there is Stein's identity of each of them."""
    for name in TRUTHS:
        truth = TRUTHS[name]()
        x, weight = _population(truth, 240)
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
        with torch.no_grad():
            critic[2].weight.zero_()
            critic[2].bias.zero_()
        value, gradients = _averaged(en.LearnedStein(critic, num_projections=None), truth, x, weight)
        assert value.item() == 0
        for gradient in gradients:
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_each_player_gets_its_own_gradient():
    """The model that of the loss, the critic that of its negative; both from one backward pass."""
    model, rows, penalty = Pair(), _random(7, 1), 0.4
    torch.manual_seed(1)
    critic = nn.Sequential(nn.Linear(1, 4), nn.SiLU(), nn.Linear(4, 1)).double()
    objective = en.LearnedStein(critic, penalty=penalty, num_projections=None)
    loss = objective(model, en.Batch(rows), torch.Generator())
    found = torch.autograd.grad(loss.value, [*model.parameters(), *critic.parameters()])
    scores = _scores(model, rows, graph=True)
    direction = critic(rows)
    slope = torch.func.vmap(torch.func.jacrev(lambda row: critic(row.unsqueeze(0))[0]))(rows)
    value = ((scores * direction).sum(1) + slope.diagonal(dim1=1, dim2=2).sum(1)).mean()
    value = value - penalty * direction.square().sum(1).mean()
    torch.testing.assert_close(loss.value, value, rtol=1e-12, atol=1e-12)
    of_model = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    of_critic = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True)
    for one, other in zip(found, [*of_model, *(-part for part in of_critic)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_projections_average_to_the_exact_divergence():
    """Signs in two dimensions: v'Jv is tr J + J12 + J21 or tr J - J12 - J21, and nothing else."""
    model, rows = en.Gaussian(2).double() + en.Neural(en.MLP(2, widths=(4,)).double(), en.Real(2)), _random(1, 2)
    critic = Affine(_tensor([0.3, 1.1], [-0.4, 0.8]), _tensor(0.1, 0.2))
    exact = en.LearnedStein(critic, num_projections=None)(model, en.Batch(rows), torch.Generator()).metrics["stein"]
    generator = torch.Generator().manual_seed(0)
    some = en.LearnedStein(critic, num_projections=1)
    values = {round(some(model, en.Batch(rows), generator).metrics["stein"].item(), 10) for _ in range(20)}
    assert len(values) == 2
    assert sum(values) / 2 == pytest.approx(exact.item(), abs=1e-9)
    assert max(values) - exact.item() == pytest.approx(0.7, abs=1e-9)
    many = en.LearnedStein(critic, num_projections=4000)(model, en.Batch(rows), generator).metrics["stein"]
    assert many.item() == pytest.approx(exact.item(), abs=5 * 0.7 / math.sqrt(4000))


def test_critic_of_a_picture():
    """A convolutional critic on [B, 1, 3, 3]: the exact divergence is that of the Jacobian's trace."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 3, padding=1)).double()
    model, rows = (
        en.Gaussian((1, 3, 3)).double() + en.Neural(en.MLP((1, 3, 3), widths=(3,)).double(), en.Real((1, 3, 3))),
        _random(2, 1, 3, 3),
    )
    loss = en.LearnedStein(critic, num_projections=None)(model, en.Batch(rows), torch.Generator())
    scores, direction = _scores(model, rows), critic(rows)
    traces = [torch.autograd.functional.jacobian(critic, row.unsqueeze(0)).reshape(9, 9).trace() for row in rows]
    wanted = (scores * direction).flatten(1).sum(1).mean() + torch.stack(traces).mean()
    assert loss.metrics["stein"].item() == pytest.approx(wanted.item(), rel=1e-10)


def test_one_descent_serves_both_players():
    """Gaussian data, a Gaussian model, an affine critic: the truth is where both rest."""
    rows = 0.8 + 0.6 * _random(2000, 1)
    model = Line(0.0, 1.0)
    with torch.no_grad():
        model.natural[2] = 0.0
    objective = en.LearnedStein(Affine(_tensor([0.0]), _tensor(0.0)), num_projections=None)
    variance, mean = rows.var(correction=0).item(), rows.mean().item()
    for _ in range(700):
        loss = objective(model, en.Batch(rows), torch.Generator())
        parameters = [model.natural, *objective.parameters()]
        gradients = torch.autograd.grad(loss.value, parameters)
        with torch.no_grad():
            gradients[0][2] = 0.0  # the quartic stays out
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.2 * gradient
    torch.testing.assert_close(model.natural[:2], _tensor(mean / variance, 1 / variance), rtol=1e-3, atol=1e-3)


def test_wrong_arguments():
    rows = torch.zeros(3, 2).double()
    with pytest.raises(en.CapabilityError, match="KernelStein compares scores and needs a Real space"):
        en.KernelStein()(en.Independent(en.Binary(2), torch.zeros(2).double()), en.Batch(rows), torch.Generator())
    with pytest.raises(en.CapabilityError, match="LearnedStein compares scores"):
        en.LearnedStein(en.MLP(2, 2))(en.Uniform(en.Box(2)), en.Batch(rows), torch.Generator())
    with pytest.raises(en.InputError, match="at least 2 rows"):
        en.KernelStein()(en.Gaussian(2), en.Batch(rows[:1]), torch.Generator())
    with pytest.raises(en.InputError, match="give a bandwidth"):
        en.KernelStein()(en.Gaussian(2), en.Batch(rows), torch.Generator())
    with pytest.raises(en.InputError, match="rows lie outside"):
        en.KernelStein()(en.Gaussian(2), en.Batch(rows / 0), torch.Generator())
    with pytest.raises(en.InputError, match="as many numbers"):
        en.LearnedStein(en.MLP(2, 3).double())(en.Gaussian(2).double(), en.Batch(rows), torch.Generator())
    with pytest.raises(en.InputError, match='"u" or "v"'):
        en.KernelStein(statistic="w")
    with pytest.raises(en.InputError, match="exponent"):
        InverseMultiquadric(-1.0)
    with pytest.raises(en.InputError, match="bandwidth"):
        kernel_discrepancy(rows, rows, GaussianKernel(), 0.0, "u")
