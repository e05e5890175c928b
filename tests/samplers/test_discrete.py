import math

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from small_models import Restricted, cubic, pairs, tensor

import energeia as en
from energeia.core.algebra import Scaled
from energeia.core.energy import FromModule
from energeia.core.sampler import advance
from energeia.energies import Enumerated, Ising, IsingLattice, Potts
from energeia.samplers import (
    BlockGibbs,
    DiscreteLangevin,
    Gibbs,
    GibbsWithGradients,
    Metropolis,
    SwendsenWang,
)
from energeia.samplers.cluster import agreement, components

SAMPLERS = [
    Gibbs(),
    Gibbs("palindrome"),
    Gibbs("random"),
    Metropolis(num_flips=2),
    GibbsWithGradients(num_flips=2),
    DiscreteLangevin(step_size=2.0),
    SwendsenWang(),
]
CRITICAL = math.log(1 + math.sqrt(2)) / 2


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _chi_square(energy, x):
    """p-value of the frequencies of all states against their probabilities."""
    states = energy.space.enumerate(0, energy.space.num_states, dtype=x.dtype, device=x.device)
    categories = (x > 0).flatten(1) if not isinstance(energy.space, en.Categorical) else x.argmax(2)
    base = energy.space.num_categories if isinstance(energy.space, en.Categorical) else 2
    number = (categories * base ** torch.arange(categories.shape[1])).sum(1)
    with torch.no_grad():
        expected = (-energy(states).double()).softmax(0) * len(x)
    counts = torch.bincount(number, minlength=len(states))
    return stats.chisquare(counts.numpy(), expected.numpy()).pvalue


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["binary", "spin", "categorical"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_exact_draws_stay_exact(sampler, kind, dtype):
    energy = Enumerated(pairs(kind, ferromagnetic=True)).to(dtype)
    generator = _generator(1)
    start = energy.sample_exact(20_000, generator)
    draws = en.sample(energy, sampler, start=start, num_steps=4, generator=generator)
    assert draws.x.dtype == dtype
    assert (draws.x != start).flatten(1).any(1).float().mean() > 0.3
    assert _chi_square(energy, draws.x) > 3e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3)], ids=["binary", "spin"])
def test_exact_draws_stay_exact_between_two_sides(space, dtype):
    energy = Enumerated(Restricted(space)).to(dtype)
    draws = en.sample(energy, BlockGibbs(), start=energy.sample_exact(20_000, _generator(1)), num_steps=4, generator=2)
    assert _chi_square(energy, draws.x) > 3e-7


def test_compiled_gibbs_equals_eager_gibbs_and_keeps_its_target():
    energy = Enumerated(pairs("spin"))
    start = energy.sample_exact(20_000, _generator(1))
    run = {"start": start, "num_steps": 4, "thin": 2, "generator": 2}
    runs = [en.sample(energy, Gibbs(), chunk=chunk, **run) for chunk in (None, 2)]
    torch.testing.assert_close(runs[0].x, runs[1].x, rtol=0, atol=0)
    for eager, compiled in zip(runs[0].info, runs[1].info, strict=True):
        torch.testing.assert_close(eager, compiled)
    assert _chi_square(energy, runs[1].x) > 3e-7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dtype"), [("binary", torch.float32), ("spin", torch.float64), ("categorical", torch.float32)], ids=str
)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_compiled_chunks(sampler, kind, dtype):
    energy = Enumerated(pairs(kind, ferromagnetic=True)).to(dtype)
    start = energy.sample_exact(20_000, _generator(1))
    eager, compiled = (
        en.sample(energy, sampler, start=start, num_steps=4, generator=2, chunk=chunk).x for chunk in (None, 2)
    )
    # Rounding may decide differently where a uniform meets its threshold.
    same = (eager == compiled).flatten(1).all(1)
    assert bool(same.all()) if dtype == torch.float64 else same.float().mean() > 0.999
    assert _chi_square(energy, compiled) > 3e-7


@pytest.mark.parametrize("sampler", [*SAMPLERS, BlockGibbs()], ids=str)
def test_info_is_that_of_the_step(sampler):
    energy = Restricted() if isinstance(sampler, BlockGibbs) else pairs("categorical", ferromagnetic=True)
    x = energy.space.start(200, _generator(3), dtype=torch.float64)
    state = sampler.init(energy, x)
    after, info = sampler.step(energy, state, sampler.draw(state, _generator(4)))
    # Where the step ended; BlockGibbs has the energy where it began for nothing.
    known = x if isinstance(sampler, BlockGibbs) else after.x
    torch.testing.assert_close(info.energy, energy(known).detach())
    torch.testing.assert_close(info.displacement, (after.x - x).flatten(1).square().mean(1).sqrt())
    assert 0 < info.acceptance.mean() <= 1
    assert not bool(info.divergent.any())
    assert not any(part.requires_grad for part in info)


@pytest.mark.parametrize("sampler", [*SAMPLERS, BlockGibbs()], ids=str)
def test_chains_do_not_depend_on_their_company(sampler):
    energy = Restricted() if isinstance(sampler, BlockGibbs) else pairs("spin", ferromagnetic=True)
    x = energy.space.start(20, _generator(3), dtype=torch.float64)
    state = sampler.init(energy, x)
    noise = sampler.draw(state, _generator(4))
    whole, _ = sampler.step(energy, state, noise)
    alone, _ = sampler.step(energy, sampler.init(energy, x[7:8]), tuple(part[7:8] for part in noise))
    torch.testing.assert_close(whole.x[7:8], alone.x)


def test_each_chain_has_its_own_temperature():
    scale = tensor(0.0, 0.5, 1.0, 2.0).repeat_interleave(5000)
    energy = Scaled(pairs("spin"), scale)
    start = pairs("spin").space.start(len(scale), _generator(1), dtype=torch.float64)
    x, _ = advance(energy, Gibbs(), Gibbs().init(energy, start), num_steps=60, generator=_generator(2))
    for part, value in zip(x.x.split(5000), (0.0, 0.5, 1.0, 2.0), strict=True):
        assert _chi_square(value * pairs("spin"), part) > 3e-7


def test_sums_are_sampled_block_by_block():
    field = en.Independent(en.Spin(4), tensor(0.2, 0.1, -0.5, 0.3))
    both = Ising(4, pairs("spin").edges, couplings=0.4 * torch.ones(4).double()) + pairs("spin")
    draws = en.sample(both, Gibbs(), num_chains=20_000, num_steps=40, generator=3)
    assert _chi_square(both, draws.x) > 3e-7
    # The blocks of these two differ, so the sum has none.
    with pytest.raises(en.CapabilityError, match="Conditional"):
        en.sample(pairs("spin") + field, Gibbs(), num_chains=2, num_steps=1)


def test_evaluations_a_step():
    calls = []

    def square(x):
        calls.append(len(x))
        return (x.flatten(1).sum(1) - 1).square()

    energy = en.from_module(square, en.Binary(5))
    for sampler in (Metropolis(), GibbsWithGradients(), DiscreteLangevin()):
        calls.clear()
        state = sampler.init(energy, torch.zeros(3, 5))
        advance(energy, sampler, state, num_steps=10, generator=_generator())
        assert len(calls) == 11, sampler


def test_warm_up_finds_the_step_size():
    energy = Ising(50, [(i, (i + 1) % 50) for i in range(50)], couplings=0.5, fields=0.1)
    for first in (1e-3, 50.0):
        draws = en.sample(
            energy, DiscreteLangevin(step_size=first), num_chains=100, num_steps=200, warmup=300, generator=1
        )
        assert draws.sampler.target_acceptance == 0.574
        tail = en.sample(energy, draws.sampler, start=draws.x, num_steps=100, keep="all", generator=2)
        assert tail.info.acceptance.mean().item() == pytest.approx(0.574, abs=0.05)
    # Without adjustment there is nothing to aim at.
    sampler = DiscreteLangevin(step_size=0.3, adjusted=False)
    assert en.sample(energy, sampler, num_chains=10, num_steps=5, warmup=5).sampler == sampler


def test_warm_up_of_an_energy_whose_proposals_are_all_accepted_stays_finite():
    flat = en.Independent(en.Binary(4), torch.zeros(4))
    draws = en.sample(flat, DiscreteLangevin(), num_chains=10, num_steps=5, warmup=300)
    assert 100 < draws.sampler.step_size < 1e5


# The physics of the square lattice: exact energies of finite tori (Kaufman 1949).


def _energy_per_spin(sampler, *, size, coupling, num_chains, num_steps, skip, seed):
    energy = IsingLattice((size, size), coupling=coupling)
    draws = en.sample(energy, sampler, num_chains=num_chains, num_steps=num_steps, keep="all", thin=5, generator=seed)
    values = draws.info.energy[skip:].mean(0) / (size**2 * coupling)
    return values.mean().item(), (values.std() / math.sqrt(num_chains)).item()


@pytest.mark.parametrize(
    ("sampler", "num_chains", "num_steps", "skip"),
    [(Gibbs(), 256, 600, 40), (SwendsenWang(), 256, 120, 6)],
    ids=["gibbs", "clusters"],
)
def test_energy_of_a_torus(sampler, num_chains, num_steps, skip):
    mean, error = _energy_per_spin(
        sampler, size=16, coupling=0.4, num_chains=num_chains, num_steps=num_steps, skip=skip, seed=5
    )
    assert error < 3e-3
    assert abs(mean + 1.1313181) < 5 * error


@pytest.mark.slow
def test_energy_of_a_torus_at_the_critical_point():
    mean, error = _energy_per_spin(
        SwendsenWang(), size=32, coupling=CRITICAL, num_chains=64, num_steps=600, skip=10, seed=5
    )
    assert error < 2e-3
    assert abs(mean + 1.4336582) < 5 * error


def test_clusters_cross_between_the_two_phases_where_single_sites_do_not():
    energy = IsingLattice((16, 16), coupling=0.6)
    start = torch.ones(100, 16, 16)
    up = [
        en.sample(energy, s, start=start, num_steps=20).x.mean((1, 2)).gt(0).float().mean()
        for s in (Gibbs(), SwendsenWang())
    ]
    assert up[0] == 1
    assert abs(up[1] - 0.5) < 5 * 0.05


# Clusters


def test_components_are_those_of_scipy():
    generator = _generator(6)
    edges = torch.combinations(torch.arange(40))[torch.randperm(780, generator=generator)[:120]]
    for share in (0.0, 0.1, 0.3, 1.0):
        closed = torch.rand(20, 120, generator=generator) < share
        label = components(edges, closed, 40)
        for row in range(20):
            i, j = edges[closed[row]].T.numpy()
            graph = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(40, 40))
            _, expected = sparse.csgraph.connected_components(graph, directed=False)
            smallest = [int(np.flatnonzero(expected == part)[0]) for part in expected]
            assert label[row].tolist() == smallest
    # A long chain, its sites in random order.
    order = torch.randperm(3000, generator=generator)
    chain = torch.stack([order[:-1], order[1:]], 1)
    assert bool((components(chain, torch.ones(2, 2999, dtype=torch.bool), 3000) == 0).all())


@pytest.mark.parametrize("kind", ["binary", "spin", "categorical"])
def test_agreement_and_sites_are_the_energy_again(kind):
    energy = pairs(kind)
    states = energy.space.enumerate(0, energy.space.num_states, dtype=torch.float64, device=torch.device("cpu"))
    coupling, sites = agreement(energy)
    index = states.argmax(2) if kind == "categorical" else (states > 0).long()
    total = sites[torch.arange(index.shape[1]), index].sum(1)
    first, second = energy.edges.unbind(1)
    total = total + ((index[:, first] == index[:, second]) * coupling).sum(1)
    difference = total + energy(states)
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))


def test_clusters_without_edges_are_sites():
    energy = Ising(3, [], couplings=1.0, fields=torch.tensor([0.5, -0.2, 1.0]))
    draws = en.sample(energy, SwendsenWang(), num_chains=20_000, num_steps=1, generator=2)
    assert _chi_square(energy, draws.x) > 3e-7


class _Tables(en.Energy):
    """Three categories whose first is rewarded more for agreement."""

    def __init__(self):
        super().__init__(en.Categorical(2, num_categories=3))
        self.edges = torch.tensor([[0, 1]])

    def forward(self, x):
        return -(x[:, 0] * x[:, 1] * torch.tensor([2.0, 1.0, 1.0])).sum(1)

    def site_log_potentials(self):
        return torch.zeros(2, 3)

    def edge_log_potentials(self):
        return torch.diag(torch.tensor([2.0, 1.0, 1.0])).unsqueeze(0)


# Bad input


@pytest.mark.parametrize("sampler", [*SAMPLERS, BlockGibbs()], ids=str)
def test_continuous_spaces_are_refused(sampler):
    told = "HMC or MALA" if isinstance(sampler, BlockGibbs) else r"Binary, Spin or Categorical space.*use MALA, HMC or"
    for energy in (en.Gaussian(2), en.Uniform(en.Box(2))):
        with pytest.raises(en.CapabilityError, match=told):
            en.sample(energy, sampler, num_chains=2, num_steps=1)


@pytest.mark.parametrize(
    ("sampler", "capability"), [(Gibbs(), "Conditional"), (BlockGibbs(), "Bipartite"), (SwendsenWang(), "Pairwise")]
)
def test_missing_capabilities_are_named(sampler, capability):
    energy = en.from_module(lambda x: x.sum(1), en.Binary(3))
    with pytest.raises(en.CapabilityError, match=rf"needs an energy with {capability} .*GibbsWithGradients"):
        en.sample(energy, sampler, num_chains=2, num_steps=1)


def test_what_cannot_bind_clusters_is_refused():
    antiferromagnet = Ising(3, [(0, 1), (1, 2)], couplings=torch.tensor([1.0, -0.5]))
    with pytest.raises(en.CapabilityError, match=r"1 of 2 edges of Ising.*\(1, 2\), which favours disagreement"):
        en.sample(antiferromagnet, SwendsenWang(), num_chains=2, num_steps=1)
    with pytest.raises(en.CapabilityError, match="rewards some states of agreement more"):
        en.sample(_Tables(), SwendsenWang(), num_chains=2, num_steps=1)


class _OneBlock(Ising):
    """All sites in one block, neighbours or not."""

    @property
    def num_blocks(self):
        return 1

    def split(self, x):
        return (x,)

    def join(self, blocks):
        return blocks[0]

    def natural_parameters(self, blocks, block):
        x = blocks[0]
        return self.fields + self.couplings * (x.roll(1, 1) + x.roll(-1, 1))


def test_neighbours_in_one_block_are_found():
    energy = _OneBlock(5, [(i, (i + 1) % 5) for i in range(5)], couplings=0.3)
    for num_chains in (1, 100):
        with pytest.raises(en.InputError, match=r"block 0 of _OneBlock holds neighbours.*another block in split"):
            en.sample(energy, Gibbs(), num_chains=num_chains, num_steps=1)
    en.sample(_OneBlock(5, [(0, 1)], couplings=0.0), Gibbs(), num_chains=2, num_steps=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gibbs("backwards"), 'scan must be "sweep", "palindrome" or "random", got \'backwards\''),
        (lambda: Metropolis(num_flips=0), "num_flips must be an integer of at least 1"),
        (lambda: GibbsWithGradients(num_flips=-1), "num_flips must be an integer of at least 1"),
        (lambda: DiscreteLangevin(step_size=0.0), "step_size must be a positive finite number"),
        (lambda: DiscreteLangevin(target_acceptance=1.0), "strictly between 0 and 1"),
        (lambda: en.sample(pairs("spin"), Metropolis(num_flips=5), num_chains=2, num_steps=1), "has only 4 sites"),
        (lambda: en.sample(pairs("categorical"), GibbsWithGradients(4), num_chains=2, num_steps=1), "has only 3 sites"),
    ],
)
def test_wrong_arguments_get_words(make, words):
    with pytest.raises(en.InputError, match=words):
        make()


@pytest.mark.parametrize("sampler", [Metropolis(), GibbsWithGradients(), DiscreteLangevin(step_size=2.0)], ids=str)
def test_a_nan_proposal_is_rejected_and_reported(sampler):
    def holed(x):
        return torch.where(x[:, 0] > 0.5, torch.full_like(x[:, 0], math.nan), x.sum(1))

    energy = FromModule(holed, en.Binary(3))
    state, divergent = sampler.init(energy, torch.zeros(500, 3)), []
    for step in range(10):
        state, info = sampler.step(energy, state, sampler.draw(state, _generator(step)))
        assert not bool(state.x[:, 0].any())
        assert not bool(info.acceptance[info.divergent].any())
        divergent.append(info.divergent)
    assert bool(torch.stack(divergent).any())


@pytest.mark.parametrize("sampler", [Gibbs(), Gibbs("random"), SwendsenWang()], ids=str)
def test_weights_that_are_not_finite_are_reported(sampler):
    for value in (math.nan, math.inf):
        energy = Potts(3, [(0, 1), (1, 2)], num_categories=3, couplings=0.5)
        state = sampler.init(energy, energy.space.start(4, _generator()))
        with torch.no_grad():
            energy.couplings.fill_(value)
        _, info = sampler.step(energy, state, sampler.draw(state, _generator()))
        assert bool(info.divergent.all())


def test_cubic_terms_do_not_bias():
    energy = Enumerated(cubic("spin"))
    for sampler in (GibbsWithGradients(), DiscreteLangevin(step_size=1.0), Metropolis()):
        draws = en.sample(energy, sampler, start=energy.sample_exact(20_000, _generator(2)), num_steps=5, generator=3)
        assert _chi_square(energy, draws.x) > 3e-7
