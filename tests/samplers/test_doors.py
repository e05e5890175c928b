"""What goes wrong in a user's hands, and what it says."""

import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core import sampler as core

TUNABLE = [en.HMC(), en.MALA(), en.RandomWalk(), en.UnderdampedLangevin()]


def _names(value):
    return type(value).__name__


@pytest.mark.parametrize("sampler", TUNABLE, ids=_names)
@pytest.mark.parametrize("slope", [0.0, 2.0], ids=["flat", "tilted"])
def test_a_warm_up_in_a_box_finds_a_step_that_fits_in(slope, sampler):
    """Where every step is accepted there is no largest one; folded at the walls it would mean nothing."""
    energy = en.from_module(lambda x: slope * x[:, 0] + 0 * x.sum(1), en.Box(2, low=0.0, high=1.0))
    draws = en.sample(energy, sampler, num_chains=2000, num_steps=150, warmup=150, generator=3)
    assert draws.sampler.step_size < 20
    tilted = stats.uniform().cdf if slope == 0 else stats.truncexpon(b=slope, scale=1 / slope).cdf
    assert stats.kstest(draws.x[:, 0].numpy(), tilted).pvalue > 1e-6
    assert stats.kstest(draws.x[:, 1].numpy(), stats.uniform().cdf).pvalue > 1e-6


@pytest.mark.parametrize("sampler", TUNABLE, ids=_names)
@pytest.mark.parametrize("warmup", [1, 2, 5, 20, 45])
def test_a_short_warm_up_does_no_harm(warmup, sampler):
    draws = en.sample(en.Gaussian(10), sampler, num_chains=50, num_steps=50, warmup=warmup)
    assert draws.info.acceptance.mean() > 0.1
    assert draws.x.std() < 3


@pytest.mark.parametrize(
    "sampler", [en.HMC(tune_mass="dense"), en.RandomWalk(tune_mass="dense"), en.UnderdampedLangevin(tune_mass="dense")]
)
def test_a_dense_mass_is_not_learnt_in_a_box(sampler):
    with pytest.raises(en.CapabilityError, match="tilt the walls"):
        en.sample(en.Uniform(en.Box(2)), sampler, num_chains=20, num_steps=1, warmup=100)


@pytest.mark.parametrize("sampler", [en.HMC(), en.MALA()], ids=_names)
@pytest.mark.parametrize("space", [en.Real(1), en.Box(1)], ids=["real", "box"])
def test_a_nan_proposal_is_told_in_every_space(space, sampler):
    energy = en.from_module(lambda x: (x.abs().sqrt() * 0).sum(1) + x.square().sum(1), space)
    draws = en.sample(energy, sampler, start=torch.zeros(5, 1), num_steps=5, keep="all")
    assert bool(draws.info.divergent.all())
    assert torch.equal(draws.x, torch.zeros(5, 1))


def test_info_of_the_last_state_is_that_of_all_steps():
    def holed(x):
        return torch.where(x[:, 0] > 1, torch.full_like(x[:, 0], math.nan), x[:, 0].square() / 2)

    energy = en.from_module(holed, en.Real(1, start_scale=0.1))
    runs = [en.sample(energy, en.RandomWalk(2.0), num_chains=50, num_steps=200, keep=keep) for keep in ("all", "last")]
    torch.testing.assert_close(runs[1].info.divergent[0], runs[0].info.divergent.any(0))
    torch.testing.assert_close(runs[1].info.acceptance[0], runs[0].info.acceptance.mean(0))
    torch.testing.assert_close(runs[1].info.energy[0], runs[0].info.energy[-1])


def test_every_sampler_is_compiled_however_many_there_were(monkeypatch):
    """The compiler gives up on a code object that it has seen too often: each function has its own."""
    compiled = []
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run: compile_with(run, backend=_counting(compiled)))
    energy = en.Gaussian(2)
    for number in range(12):
        en.sample(energy, en.Langevin(step_size=0.01 * (number + 1)), num_chains=3, num_steps=2, chunk=2)
    assert len(compiled) == 12


def _counting(compiled):
    def backend(module, _):
        compiled.append(module)
        return module.forward

    return backend


def test_compiled_functions_do_not_pile_up():
    energy = en.Gaussian(2)
    for number in range(20):
        core._compiled(energy, en.Langevin(step_size=0.1 + number), en.Langevin(0.1).init(energy, torch.zeros(2, 2)))
    assert len(core._COMPILED[energy]) == core._MAX_COMPILED


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (en.DiagonalMass(torch.ones(2, dtype=torch.float64)), r"float64 .*float32"),
        (en.DiagonalMass(torch.ones(1, 1, 2)), r"\(1, 1, 2\), x has the event shape \(2,\)"),
        (en.DiagonalMass(torch.ones(3, 1)), "event shape"),
        (en.DiagonalMass(torch.ones(3)), "event shape"),
        (en.DenseMass(torch.eye(3)), r"give \[2, 2\]"),
        (en.DenseMass(torch.eye(2, dtype=torch.float64)), "float64"),
    ],
)
@pytest.mark.parametrize("kind", [en.HMC, en.MALA, en.RandomWalk, en.UnderdampedLangevin])
def test_a_mass_that_does_not_fit_is_refused(kind, mass, message):
    with pytest.raises(en.InputError, match=message):
        en.sample(en.Gaussian(2), kind(mass=mass), num_chains=3, num_steps=1)


def test_masses_say_what_they_are_not():
    with pytest.raises(en.InputError, match="symmetric"):
        en.DenseMass(torch.tensor([[2.0, 1.0], [0.0, 2.0]]))
    with pytest.raises(en.InputError, match="not finite"):
        en.DenseMass(torch.tensor([[math.nan, 0.0], [0.0, 1.0]]))
    with pytest.raises(en.InputError, match=r"DiagonalMass\(scale\)"):
        en.HMC(mass=torch.ones(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: en.sample(g, en.HMC, num_chains=2, num_steps=1), r"got the class HMC; write HMC\(...\)"),
        (lambda g: en.sample(en.HMC(), g, num_chains=2, num_steps=1), "energy must be an Energy, got a HMC"),
        (lambda g: en.sample(lambda x: x.sum(1), en.HMC(), num_chains=2, num_steps=1), "en.from_module"),
        (lambda g: en.sample(g, en.HMC(), start=[[0.0, 0.0]], num_steps=1), "start must be a tensor"),
        (lambda g: en.sample(g, en.HMC(), num_chains=2, num_steps=1, generator=1.5), "generator must be"),
        (lambda g: en.sample(g, en.HMC(), num_chains=2, num_steps=3, thin=10), "use 10$"),
        (lambda g: en.sample(g, en.HMC(), num_chains=2, num_steps=1, warmup=-3), "at least 0, got -3"),
        (lambda g: en.ParallelTempering(en.HMC), "sampler must be one such as"),
        (lambda g: en.TemperedTransitions((1.0, 2.0)), "sampler must be one such as"),
        (lambda g: en.ParallelTempering(en.HMC(), 4.0), "must be a sequence"),
        (lambda g: en.ParallelTempering(en.ParallelTempering(en.HMC())), "ladder of its own"),
        (lambda g: en.ParallelTempering(en.TemperedTransitions(en.HMC())), "ladder of its own"),
        (lambda g: en.TemperedTransitions(en.TemperedTransitions(en.HMC())), "ladder of its own"),
        (lambda g: en.sample(g, en.AnnealedLangevin((2.0, 1.0)), num_chains=2, num_steps=1, warmup=9), "schedule"),
        (lambda g: en.sample_parallel(g, en.HMC(), num_steps=1, devices=1), "either num_chains or start"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(call, message):
    with pytest.raises(en.InputError, match=message):
        call(en.Gaussian(2))


@pytest.mark.parametrize("make", [en.ParallelTempering, en.TemperedTransitions])
def test_what_cannot_be_tempered_says_so(make):
    torus = en.IsingLattice((4, 4), coupling=0.3)
    with pytest.raises(en.CapabilityError, match="SwendsenWang cannot be tempered"):
        en.sample(torus, make(en.SwendsenWang()), num_chains=2, num_steps=1)


def test_gibbs_finds_neighbours_whose_pairs_cancel():
    """-s1 s2 s3 in one block: turning all three changes no natural parameter."""

    class Three(en.Energy):
        num_blocks = 1

        def __init__(self):
            super().__init__(en.Spin(3))

        def forward(self, x):
            return -x.prod(1)

        def split(self, x):
            return (x,)

        def join(self, blocks):
            return blocks[0]

        def natural_parameters(self, blocks, block):
            return torch.stack(
                [blocks[0][:, [1, 2]].prod(1), blocks[0][:, [0, 2]].prod(1), blocks[0][:, [0, 1]].prod(1)], 1
            )

    with pytest.raises(en.InputError, match="holds neighbours"):
        en.sample(Three(), en.Gibbs(), num_chains=2, num_steps=1)
