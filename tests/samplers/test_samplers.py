import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.sampler import advance

MEAN, SCALE = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _skewed(dtype):
    """An asymmetric target with exact draws: two Gaussians of unequal weight and width."""
    parts = [
        en.Gaussian(2, mean=MEAN.to(dtype), scale=SCALE.to(dtype)),
        en.Gaussian(2, mean=torch.tensor([3.0, 0.0], dtype=dtype), scale=torch.tensor([1.0, 0.6], dtype=dtype)),
    ]
    # Equal shares would need weights 1/Z; these give shares 0.3 and 0.7.
    weights = [share / math.exp(part.log_z().value) for share, part in zip((0.3, 0.7), parts, strict=True)]

    def draw(num, generator):
        exact = torch.stack([part.sample_exact(num, generator) for part in parts])
        which = (torch.rand(num, generator=generator) < 0.7).long()
        return exact[which, torch.arange(num)]

    return en.any_of(*parts, weights=weights), draw


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [None, 5], ids=["eager", "compiled"])
@pytest.mark.parametrize("sampler", [en.MALA(step_size=0.4), en.RandomWalk(step_size=0.7)], ids=["mala", "walk"])
def test_exact_draws_stay_exact(sampler, chunk, dtype):
    if chunk is not None and dtype == torch.float64:
        pytest.skip("one compilation of each sampler is enough for the quick suite")
    energy, draw = _skewed(dtype)
    generator = _generator(1)
    num = 20_000
    draws = en.sample(energy, sampler, start=draw(num, generator), num_steps=20, generator=generator, chunk=chunk)
    fresh = draw(num, generator)
    assert draws.x.dtype == dtype
    assert 0.3 < draws.info.acceptance.mean() < 0.99
    for column in range(2):
        assert stats.ks_2samp(draws.x[:, column].numpy(), fresh[:, column].numpy()).pvalue > 1e-6
        for power in (1, 2, 3):
            a, b = draws.x[:, column] ** power, fresh[:, column] ** power
            error = (a.var() / num + b.var() / num).sqrt()
            assert abs(a.mean() - b.mean()) < 5 * error
    product = draws.x.prod(1), fresh.prod(1)
    assert abs(product[0].mean() - product[1].mean()) < 5 * (product[0].var() / num + product[1].var() / num).sqrt()


@pytest.mark.parametrize(("h", "variance"), [(0.5, 1.142857), (1.0, 1.333333)])
def test_langevin_has_its_known_variance(h, variance):
    draws = en.sample(en.Gaussian(1), en.Langevin(step_size=h), num_chains=100_000, num_steps=60, generator=2)
    assert draws.x.var().item() == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / 100_000))


def test_langevin_temperature_scales_the_variance():
    sampler = en.Langevin(step_size=0.02, temperature=0.25)
    draws = en.sample(en.Gaussian(1), sampler, num_chains=20_000, num_steps=600, generator=2)
    assert draws.x.var().item() == pytest.approx(0.25 / (1 - 0.02 / 4), rel=5 * math.sqrt(2 / 20_000))


def test_langevin_step_is_the_convention_of_the_docstring():
    energy = en.from_module(lambda x: (3 * x).sum(1), en.Real(2))
    x, xi = torch.zeros(1, 2), torch.tensor([[1.0, -2.0]])
    step = lambda sampler: sampler.step(energy, sampler.init(energy, x), (xi,))[0].x  # noqa: E731
    torch.testing.assert_close(step(en.Langevin(step_size=0.5)), -0.75 + math.sqrt(0.5) * xi)
    # x - a dE/dx + sigma xi with a = 1, sigma = .01
    torch.testing.assert_close(step(en.Langevin(step_size=2.0, noise_scale=0.01)), -3.0 + 0.01 * xi)
    torch.testing.assert_close(step(en.Langevin(step_size=2.0, noise_scale=0.0, gradient_clamp=0.5)), x - 0.5)


def test_mala_acceptance_is_the_formula_of_its_docstring():
    torch.manual_seed(3)
    energy = en.from_module(lambda x: (x**4).sum(1) / 4 + x[:, 0], en.Real(2))
    sampler = en.MALA(step_size=0.3)
    x = torch.randn(50, 2, dtype=torch.float64)
    xi, uniform = torch.randn(50, 2, dtype=torch.float64), torch.rand(50, dtype=torch.float64)
    state, info = sampler.step(energy, sampler.init(energy, x), (xi, uniform))

    def gradient(z):
        return z**3 + torch.tensor([1.0, 0.0], dtype=torch.float64)

    y = x - 0.15 * gradient(x) + math.sqrt(0.3) * xi

    def log_q(to, start):
        return -((to - start + 0.15 * gradient(start)) ** 2).sum(1) / (2 * 0.3)

    ratio = (energy(x) - energy(y) + log_q(x, y) - log_q(y, x)).clamp(max=0).exp()
    torch.testing.assert_close(info.acceptance, ratio)
    accepted = uniform < ratio
    assert 0 < accepted.sum() < 50
    torch.testing.assert_close(state.x, torch.where(accepted.unsqueeze(1), y, x))
    torch.testing.assert_close(state.energy, energy(state.x))
    torch.testing.assert_close(state.gradient, gradient(state.x))


def test_detailed_balance_of_the_acceptance():
    """exp(-E(x)) q(y|x) a(x, y) = exp(-E(y)) q(x|y) a(y, x), point by point."""
    energy = en.from_module(lambda x: (x**4).sum(1) / 4 + x.sum(1), en.Real(1))
    h, x, y = 0.3, torch.tensor([[0.2]], dtype=torch.float64), torch.tensor([[-0.9]], dtype=torch.float64)

    def flow(start, to):
        sampler = en.MALA(step_size=h)
        state = sampler.init(energy, start)
        xi = (to - start + h / 2 * state.gradient) / math.sqrt(h)
        _, info = sampler.step(energy, state, (xi, torch.zeros(1, dtype=torch.float64)))
        return -energy(start) - xi.square().sum(1) / 2 + info.acceptance.log()

    torch.testing.assert_close(flow(x, y), flow(y, x))


@pytest.mark.parametrize(
    "sampler",
    [
        en.MALA(step_size=0.5),
        en.RandomWalk(step_size=1.0),
        en.HMC(step_size=0.15, num_leapfrog=8),
        en.HMC(step_size=0.3, num_leapfrog=5, mass=en.DiagonalMass(0.7)),
    ],
    ids=["mala", "walk", "hmc", "hmc with mass"],
)
def test_box_target_with_mass_at_a_wall(sampler):
    # density 2 (1 - x) on [0, 1]
    energy = en.from_module(lambda x: -(1 - x[:, 0]).clamp_min(1e-12).log(), en.Box(1, low=0.0, high=1.0))
    generator = _generator(5)
    start = 1 - torch.rand(20_000, 1, generator=generator).sqrt()
    draws = en.sample(energy, sampler, start=start, num_steps=15, generator=generator)
    assert bool(energy.space.contains(draws.x).all())
    assert stats.kstest(draws.x.flatten().numpy(), lambda x: 1 - (1 - x) ** 2).pvalue > 1e-6


def test_reflection_keeps_the_uniform_and_clamping_does_not():
    box = en.Uniform(en.Box(1))
    start = box.sample_exact(20_000, _generator())
    run = lambda boundary: en.sample(  # noqa: E731
        box, en.Langevin(step_size=0.1, boundary=boundary), start=start, num_steps=50
    ).x.flatten()
    uniform = stats.uniform(-1, 2).cdf
    assert stats.kstest(run("reflect").numpy(), uniform).pvalue > 1e-6
    clamped = run("clamp")
    assert (clamped.abs() == 1).float().mean() > 0.05
    assert clamped.abs().max() == 1
    assert run("none").abs().max() > 1


@pytest.mark.parametrize("sampler", [en.Langevin(step_size=0.2), en.MALA(step_size=0.2), en.RandomWalk(step_size=0.2)])
def test_compiled_chunks_equal_eager_steps(sampler):
    energy = en.Neural(en.MLP(2, widths=(8,)), en.Real(2)).double()
    start = torch.randn(16, 2, dtype=torch.float64, generator=_generator())
    runs = [en.sample(energy, sampler, start=start, num_steps=12, chunk=chunk, generator=7) for chunk in (None, 4)]
    torch.testing.assert_close(runs[0].x, runs[1].x, rtol=1e-10, atol=1e-12)
    assert runs[0].info.acceptance.shape == (1, 16)


def test_compiled_functions_follow_new_weights():
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, widths=(8,)), en.Real(2)).double()
    sampler, start = en.Langevin(step_size=0.2), torch.randn(4, 2, dtype=torch.float64)
    before = en.sample(energy, sampler, start=start, num_steps=4, chunk=4).x
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(2)
    after = en.sample(energy, sampler, start=start, num_steps=4, chunk=4).x
    torch.testing.assert_close(after, en.sample(energy, sampler, start=start, num_steps=4).x, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(before, after)


def test_one_gradient_a_step():
    calls = []

    def quadratic(x):
        calls.append(len(x))
        return x.square().sum(1)

    energy = en.from_module(quadratic, en.Real(2))
    for sampler, expected in (
        (en.MALA(step_size=0.1), 11),
        (en.Langevin(step_size=0.1), 10),
        (en.RandomWalk(step_size=0.1), 11),
    ):
        calls.clear()
        state = sampler.init(energy, torch.zeros(3, 2))
        advance(energy, sampler, state, num_steps=10, generator=_generator())
        assert len(calls) == expected, sampler


def test_each_chain_accepts_by_itself():
    energy, draw = _skewed(torch.float32)
    draws = en.sample(energy, en.MALA(step_size=2.0), start=draw(500, _generator()), num_steps=1)
    moved = (draws.x != draw(500, _generator())).any(1)
    assert 0.02 < moved.float().mean() < 0.98


def test_chains_do_not_depend_on_their_company():
    energy, draw = _skewed(torch.float64)
    x, xi, uniform = draw(6, _generator()), torch.randn(6, 2, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    sampler = en.MALA(step_size=0.5)
    whole, _ = sampler.step(energy, sampler.init(energy, x), (xi, uniform))
    alone, _ = sampler.step(energy, sampler.init(energy, x[2:3]), (xi[2:3], uniform[2:3]))
    torch.testing.assert_close(whole.x[2:3], alone.x)


def test_keep_and_thin():
    arguments = {"num_chains": 3, "num_steps": 12, "generator": 4}
    every = en.sample(en.Gaussian(2), en.MALA(step_size=0.3), keep="all", **arguments)
    third = en.sample(en.Gaussian(2), en.MALA(step_size=0.3), keep="all", thin=3, **arguments)
    last = en.sample(en.Gaussian(2), en.MALA(step_size=0.3), **arguments)
    assert every.kept.shape == (12, 3, 2)
    torch.testing.assert_close(third.kept, every.kept[2::3])
    torch.testing.assert_close(last.kept, every.kept[-1:])
    torch.testing.assert_close(last.x, every.x)
    torch.testing.assert_close(third.info.acceptance, every.info.acceptance.view(4, 3, 3).mean(1))


def test_start_is_not_written_to_and_a_generator_moves_on():
    start = torch.zeros(3, 2)
    generator = _generator()
    first = en.sample(en.Gaussian(2), en.Langevin(step_size=0.3), start=start, num_steps=2, generator=generator).x
    second = en.sample(en.Gaussian(2), en.Langevin(step_size=0.3), start=start, num_steps=2, generator=generator).x
    assert not bool(start.any())
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_steps": 0, "num_chains": 2}, "num_steps must be an integer of at least 1, got 0"),
        ({"num_steps": -3, "num_chains": 2}, "got -3"),
        ({"num_steps": 5, "num_chains": 0}, "num_chains"),
        ({"num_steps": 5}, "num_chains or start"),
        ({"num_steps": 5, "num_chains": 2, "thin": 2}, "use 4 or 6"),
        ({"num_steps": 25, "num_chains": 2, "chunk": 10}, "use 20 or 30"),
        ({"num_steps": 30, "num_chains": 2, "chunk": 10, "thin": 5}, "multiple of chunk=10"),
        ({"num_steps": 5, "num_chains": 2, "keep": "some"}, "keep must be"),
        ({"num_steps": 5, "start": torch.zeros(2, 3)}, r"expects \[B, 2\]"),
    ],
)
def test_wrong_arguments_get_words(arguments, words):
    with pytest.raises(en.InputError, match=words):
        en.sample(en.Gaussian(2), en.MALA(step_size=0.3), **arguments)


@pytest.mark.parametrize("make", [en.MALA, en.RandomWalk, en.Langevin])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_step_sizes_that_are_none_are_refused(make, value):
    with pytest.raises(en.InputError, match="step_size must be a positive finite number"):
        make(step_size=value)


@pytest.mark.parametrize(
    "arguments",
    [{"noise_scale": -0.1}, {"noise_scale": 0.1, "temperature": 2.0}, {"boundary": "wrap"}, {"gradient_clamp": 0.0}],
)
def test_langevin_refuses_what_does_not_fit(arguments):
    with pytest.raises(en.InputError):
        en.Langevin(step_size=0.1, **arguments)


def test_divergence_is_told_and_not_hidden():
    steep = en.from_module(lambda x: (x**4).sum(1), en.Real(1))
    with pytest.raises(en.DivergenceError, match=r"the first went wrong in step [34] of .* smaller step_size"):
        en.sample(steep, en.Langevin(step_size=5.0), num_chains=10, num_steps=50)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("sampler", [en.Langevin(step_size=0.1), en.MALA(), en.HMC(), en.UnderdampedLangevin()])
def test_an_energy_without_gradient_is_refused(sampler, chunk):
    energy = en.from_module(lambda x: x.detach().square().sum(1), en.Real(2))
    with pytest.raises(en.CapabilityError, match=r"no gradient .*RandomWalk"):
        en.sample(energy, sampler, num_chains=3, num_steps=2, chunk=chunk)
    en.sample(energy, en.RandomWalk(), num_chains=3, num_steps=2)


def test_a_nan_proposal_is_rejected_and_reported():
    def holed(x):
        return torch.where(x[:, 0] > 1, torch.full_like(x[:, 0], math.nan), x[:, 0].square() / 2)

    energy = en.from_module(holed, en.Real(1, start_scale=0.1))
    draws = en.sample(energy, en.RandomWalk(step_size=2.0), num_chains=200, num_steps=10, keep="all", generator=3)
    assert bool((draws.kept <= 1).all())
    assert bool(draws.info.divergent.any())
    assert float(draws.info.acceptance[draws.info.divergent].max()) == 0


@pytest.mark.parametrize("sampler", [en.Langevin(step_size=0.1), en.MALA(step_size=0.1), en.RandomWalk(step_size=0.1)])
def test_continuous_samplers_refuse_discrete_spaces(sampler):
    energy = en.Independent(en.Binary(3), torch.zeros(3))
    with pytest.raises(en.CapabilityError, match="Real or Box"):
        en.sample(energy, sampler, num_chains=2, num_steps=2)


@pytest.mark.parametrize("boundary", ["reflect", "clamp"])
def test_a_box_does_not_hide_a_step_that_is_far_too_long(boundary):
    steep = en.from_module(lambda x: 1e6 * x.square().sum(1), en.Box(2))
    draws = en.sample(steep, en.Langevin(step_size=0.1, boundary=boundary), num_chains=20, num_steps=5)
    assert bool(draws.info.divergent.all())
    calm = en.sample(0.0 * steep, en.Langevin(step_size=0.1, boundary=boundary), num_chains=20, num_steps=5)
    assert not bool(calm.info.divergent.any())
