"""Every discrete sampler's transition matrix, exactly: it leaves its target unchanged, to 1e-12.

All matrices come out of the sampler's own `step`, by integrating over its noise: where a
number of the noise is compared with a threshold, the threshold is found by bisection
(`threshold_matrix`); where a proposal is drawn, every proposal is forced by extreme noise and
weighted with its probability by the published formula (`proposal_matrix`). A chi-square test
then compares the matrix with steps that draw their own noise.
"""

import itertools
import math

import pytest
import torch
from scipy import stats
from small_models import Restricted, cubic, pairs, tensor

import energeia as en
from energeia.samplers import (
    BlockGibbs,
    DiscreteLangevin,
    Gibbs,
    GibbsWithGradients,
    Metropolis,
    SwendsenWang,
)

KINDS = ["binary", "spin", "categorical"]
HIGH = 1 - 2.0**-53


def _states(energy):
    return energy.space.enumerate(0, energy.space.num_states, dtype=torch.float64, device=torch.device("cpu"))


def _number(energy, x):
    """The number of each state in the list."""
    states = _states(energy).flatten(1)
    return (x.flatten(1).unsqueeze(1) == states).all(2).int().argmax(1)


def _target(energy):
    with torch.no_grad():
        return (-energy(_states(energy))).softmax(0)


def _bits(uniform):
    """Bits that `uniform_from_bits` turns into these uniforms."""
    return ((uniform - 0.5) * 2.0**53).round().long() << 11


class Watched(en.Energy):
    """An energy that writes down what its conditionals are asked for: the inside of a step."""

    def __init__(self, energy):
        super().__init__(energy.space)
        self.energy, self.seen = energy, []
        if energy.capability(en.Bipartite) is not None:
            self.hidden, self.visible, self.visible_energy = energy.hidden, energy.visible, energy.visible_energy

    def forward(self, x):
        return self.energy(x)

    def capability(self, kind):
        return self if kind in (en.core.energy.Conditional, en.core.energy.Bipartite) else self.energy.capability(kind)

    @property
    def num_blocks(self):
        return self.energy.num_blocks

    def split(self, x):
        return self.energy.split(x)

    def join(self, blocks):
        return self.energy.join(blocks)

    def natural_parameters(self, blocks, block):
        self.seen.append(self.energy.join(blocks))
        return self.energy.natural_parameters(blocks, block)

    def hidden_parameters(self, x):
        self.seen.append(x)
        return self.energy.hidden_parameters(x)

    def visible_parameters(self, h):
        self.seen.append(h)
        return self.energy.visible_parameters(h)


def threshold_matrix(sampler, energy, *, fixed=None):
    """P by integrating over noise of which each number is compared with one threshold, in order."""
    watched = Watched(energy)
    states = _states(energy)
    shapes = [part.shape[1:] for part in sampler.draw(sampler.init(watched, states), torch.Generator())]
    shapes = shapes[: len(shapes) - (fixed is not None)]
    sizes = [math.prod(shape) for shape in shapes]

    def run(rows, uniform):
        """The last state, and all that could be seen on the way to it."""
        x = states[rows]
        noise = [_bits(part).view(-1, *shape) for part, shape in zip(uniform.split(sizes, 1), shapes, strict=True)]
        noise += [] if fixed is None else [torch.full((len(x),), fixed)]
        state = sampler.init(watched, x)
        watched.seen.clear()
        after, _ = sampler.step(watched, state, tuple(noise))
        parts = [after.x, *(part for part in after[1:] if isinstance(part, torch.Tensor))]
        return after.x, torch.cat([part.reshape(len(x), -1) for part in [*watched.seen, *parts]], 1)

    def set_number(uniform, place, value):
        return torch.cat([uniform[:, :place], value.view(-1, 1), uniform[:, place + 1 :]], 1)

    rows, weight = torch.arange(len(states)), torch.ones(len(states), dtype=torch.float64)
    uniform = torch.full((len(states), sum(sizes)), 0.5, dtype=torch.float64)
    for place in range(sum(sizes)):
        low, high = torch.zeros(len(rows)).double(), torch.full((len(rows),), HIGH, dtype=torch.float64)
        at_low = run(rows, set_number(uniform, place, low))[1]
        at_high = run(rows, set_number(uniform, place, high))[1]
        differs = (at_low != at_high).any(1)
        for _ in range(55):
            middle = (low + high) / 2
            is_low = (run(rows, set_number(uniform, place, middle))[1] == at_low).all(1)
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        threshold = torch.where(differs, high, torch.ones_like(high))
        # One threshold and no more.
        for value in torch.linspace(0.01, 0.97, 5).double():
            seen = run(rows, set_number(uniform, place, value.expand(len(rows))))[1]
            assert torch.equal(seen, torch.where((value < threshold).unsqueeze(1), at_low, at_high))
        below = set_number(uniform, place, torch.where(differs, threshold / 2, 0.5 * torch.ones_like(threshold)))
        above = set_number(uniform, place, (1 + threshold) / 2)[differs]
        uniform = torch.cat([below, above])
        weight = torch.cat([weight * threshold, (weight * (1 - threshold))[differs]])
        rows = torch.cat([rows, rows[differs]])
    matrix = torch.zeros(len(states), len(states), dtype=torch.float64)
    return matrix.index_put_((rows, _number(energy, run(rows, uniform)[0])), weight, accumulate=True)


def proposal_matrix(sampler, energy, proposals):
    """P by forcing every proposal: pairs of noise (the same for every state) and probability from every state `[S]`."""
    states = _states(energy)
    state = sampler.init(energy, states)
    count = len(states)
    matrix = torch.zeros(count, count, dtype=torch.float64)
    rows = torch.arange(count)
    total = torch.zeros(count, dtype=torch.float64)
    for noise, probability in proposals(states):
        noise = tuple(part.expand(count, *part.shape[1:]) for part in noise)
        taken, info = sampler.step(energy, state, (*noise, torch.zeros(count, dtype=torch.float64)))
        accept = info.acceptance
        assert not bool(info.divergent.any())
        # The uniform is compared with the acceptance that is reported.
        edge, _ = sampler.step(energy, state, (*noise, accept))
        torch.testing.assert_close(edge.x, state.x)
        inside, _ = sampler.step(energy, state, (*noise, accept * (1 - 1e-12)))
        torch.testing.assert_close(inside.x, taken.x)
        matrix.index_put_((rows, _number(energy, taken.x)), probability * accept, accumulate=True)
        matrix.diagonal().add_(probability * (1 - accept))
        total += probability
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)
    return matrix


def _check(matrix, target, *, reversible):
    torch.testing.assert_close(matrix.sum(1), torch.ones_like(target), rtol=1e-12, atol=0)
    torch.testing.assert_close(target @ matrix, target, rtol=1e-12, atol=1e-14)
    flow = target.unsqueeze(1) * matrix
    unbalanced = (flow - flow.T).abs().max().item()
    assert (unbalanced < 1e-14) == reversible, f"largest difference of flows {unbalanced}"


@pytest.fixture(params=[10_000, pytest.param(100_000, marks=pytest.mark.slow)], ids="{} each".format)
def repeats(request):
    """Steps from every state for the chi-square test."""
    return request.param


def _check_steps(sampler, energy, matrix, repeats):
    """Chi-square of what steps do with noise of their own, from every state."""
    states = _states(energy)
    generator = torch.Generator().manual_seed(11)
    counts = torch.zeros_like(matrix)
    for number, x in enumerate(states):
        state = sampler.init(energy, x.expand(repeats, *x.shape))
        after, _ = sampler.step(energy, state, sampler.draw(state, generator))
        # One number for each state, whatever the space.
        code = torch.randn(x.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        order = (states.flatten(1) @ code).sort()
        place = torch.searchsorted(order.values - 1e-9, after.x.flatten(1) @ code) - 1
        counts[number] = torch.bincount(order.indices[place], minlength=len(states)).double()
    expected = matrix * repeats
    assert bool((counts[expected == 0] == 0).all())
    frequent = expected >= 5
    rest_expected, rest = (expected * ~frequent).sum(1), (counts * ~frequent).sum(1)
    value = ((counts - expected)[frequent].square() / expected[frequent]).sum() + (
        (rest - rest_expected).square() / rest_expected.clamp_min(1)
    ).sum()
    freedom = int(frequent.sum()) - len(states) + int((rest_expected > 0).sum())
    # Five standard deviations.
    assert stats.chi2.sf(value.item(), freedom) > 3e-7, f"chi-square {value.item():.0f} of {freedom}"


# Gibbs and clusters


@pytest.mark.parametrize("scan", ["sweep", "palindrome"])
@pytest.mark.parametrize("kind", ["binary", "spin"])
def test_gibbs(kind, scan, repeats):
    energy, sampler = pairs(kind), Gibbs(scan)
    matrix = threshold_matrix(sampler, energy)
    _check(matrix, _target(energy), reversible=sampler.reversible)
    _check_steps(sampler, energy, matrix, repeats)


@pytest.mark.parametrize("kind", ["binary", "spin"])
def test_random_scan(kind, repeats):
    energy, sampler = pairs(kind), Gibbs("random")
    parts = [threshold_matrix(sampler, energy, fixed=block) for block in range(energy.num_blocks)]
    matrix = torch.stack(parts).mean(0)
    for part in parts:
        _check(part, _target(energy), reversible=True)
    assert sampler.reversible
    _check_steps(sampler, energy, matrix, repeats)


@pytest.mark.parametrize("scan", ["sweep", "palindrome", "random"])
def test_gibbs_of_categories(scan, repeats):
    energy, sampler = pairs("categorical"), Gibbs(scan)
    parts = [_conditional_matrix(energy, block) for block in range(energy.num_blocks)]
    order = {"sweep": [0, 1, 2], "palindrome": [0, 1, 2, 1, 0]}
    matrix = sum(parts) / 3 if scan == "random" else torch.linalg.multi_dot([parts[block] for block in order[scan]])
    _check(matrix, _target(energy), reversible=sampler.reversible)
    _check_steps(sampler, energy, matrix, repeats)


def _conditional_matrix(energy, block):
    """P of drawing the sites of a block given the rest, from the energies of all states alone."""
    target, states = _target(energy), _states(energy)
    sites = energy.graph.sites(block).tolist()
    rest = [site for site in range(states.shape[1]) if site not in sites]
    same = (states[:, None, rest] == states[None, :, rest]).flatten(2).all(2)
    weight = same * target
    return weight / weight.sum(1, keepdim=True)


def test_a_categorical_draw_is_the_largest_of_conditionals_with_gumbel_noise():
    """Which is a draw from them exactly; here point by point, with log conditionals from the energies alone."""
    energy, sampler = pairs("categorical"), Gibbs()
    states, generator = _states(energy), torch.Generator().manual_seed(2)
    x = states[torch.randint(len(states), (5000,), generator=generator)]
    uniform = torch.rand(5000, 9, generator=generator, dtype=torch.float64)
    after, _ = sampler.step(energy, sampler.init(energy, x), (_bits(uniform),))
    for block in range(3):
        site = int(energy.graph.sites(block))
        candidates = x.unsqueeze(1).expand(-1, 3, -1, -1).clone()
        candidates[:, :, site] = torch.eye(3).double()
        with torch.no_grad():
            log_weight = -energy(candidates.flatten(0, 1)).view(-1, 3)
        noise = -(-uniform[:, 3 * block : 3 * block + 3].log()).log()
        x = candidates[torch.arange(5000), (log_weight + noise).argmax(1)]
    torch.testing.assert_close(after.x, x)


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3)], ids=["binary", "spin"])
def test_block_gibbs(space, repeats):
    energy, sampler = Restricted(space), BlockGibbs()
    matrix = threshold_matrix(sampler, energy)
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3)], ids=["binary", "spin"])
def test_block_gibbs_of_gates_and_subspace_units(space, repeats):
    torch.manual_seed(2)
    energy, sampler = en.SubspaceRBM(space, 2, 2, weight_scale=0.9).double(), BlockGibbs()
    with torch.no_grad():
        energy.bias.copy_(tensor(0.4, -0.6, 0.1))
        energy.inner_bias.copy_(tensor([0.3, -0.5], [0.8, 0.1]))
        energy.hidden_bias.copy_(tensor(0.2, -0.4))
    matrix = threshold_matrix(sampler, energy)
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


@pytest.mark.parametrize("kind", ["binary", "spin"])
def test_swendsen_wang(kind, repeats):
    energy, sampler = pairs(kind, ferromagnetic=True), SwendsenWang()
    matrix = threshold_matrix(sampler, energy)
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


def test_swendsen_wang_of_categories(repeats):
    energy, sampler = pairs("categorical", ferromagnetic=True), SwendsenWang()
    states, edges = _states(energy), energy.edges.tolist()
    index, log_site = states.argmax(2), energy.site_log_potentials().detach()
    closing = (1 - (-energy.couplings.detach()).exp()).tolist()
    matrix = torch.zeros(27, 27, dtype=torch.float64)
    for row, closed in itertools.product(range(27), itertools.product([0, 1], repeat=3)):
        weight, cluster = 1.0, [0, 1, 2]
        for (i, j), bond, probability in zip(edges, closed, closing, strict=True):
            agrees = bool(index[row, i] == index[row, j])
            weight *= (probability if bond else 1 - probability) if agrees else float(not bond)
            if bond:
                cluster = [min(cluster[i], cluster[j]) if c in (cluster[i], cluster[j]) else c for c in cluster]
        if weight == 0:
            continue
        for column in range(27):
            probability = weight
            for root in set(cluster):
                members = [site for site in range(3) if cluster[site] == root]
                drawn = {int(index[column, site]) for site in members}
                chance = log_site[members].sum(0).softmax(0)
                probability *= float(chance[drawn.pop()]) if len(drawn) == 1 else 0.0
            matrix[row, column] += probability
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


# Metropolis kinds


@pytest.mark.parametrize("num_flips", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_metropolis(kind, num_flips, repeats):
    energy, sampler = cubic(kind), Metropolis(num_flips=num_flips)
    num_sites, others = (3, 2) if kind == "categorical" else (4, 1)

    def proposals(states):
        bounds = range(num_sites, num_sites - num_flips, -1)
        sites = list(itertools.product(*(range(bound) for bound in bounds)))
        further = list(itertools.product(range(others), repeat=num_flips))
        for chosen, change, many in itertools.product(sites, further, range(num_flips)):
            uniform = torch.tensor([(c + 0.5) / b for c, b in zip(chosen, bounds, strict=True)]).double()
            changes = torch.tensor([(c + 0.5) / others for c in change]).double()
            share = 1 / (len(sites) * len(further) * num_flips)
            how_many = tensor((many + 0.5) / num_flips)
            yield (
                (uniform.unsqueeze(0), changes.unsqueeze(0), how_many),
                torch.full((len(states),), share, dtype=torch.float64),
            )

    matrix = proposal_matrix(sampler, energy, proposals)
    states = _states(energy).view(len(matrix), num_sites, -1)
    flips = (states.unsqueeze(0) != states.unsqueeze(1)).any(3).sum(2)
    for number in range(1, num_flips + 1):
        # All changes of so many sites are equally often proposed.
        share = 1 / (num_flips * math.comb(num_sites, number) * others**number)
        assert matrix[flips == number].max().item() == pytest.approx(share, rel=1e-12)
    assert set(flips[matrix > 0].tolist()) == set(range(num_flips + 1))
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


def _gradient(energy, x):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(energy(x).sum(), x)[0]


def _changes(kind):
    """Every change of one site as (site, number of the noise that stands for it, its new value)."""
    if kind == "categorical":
        eye = torch.eye(3).double()
        return [(site, 3 * site + k, eye[k]) for site in range(3) for k in range(3)]
    values = (0.0, 1.0) if kind == "binary" else (-1.0, 1.0)
    return [(site, site, torch.tensor(value).double()) for site in range(4) for value in values]


@pytest.mark.parametrize("num_flips", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_gibbs_with_gradients(kind, num_flips, repeats):
    energy, sampler = cubic(kind), GibbsWithGradients(num_flips=num_flips)
    changes = _changes(kind)
    shape = energy.space.event_shape

    def proposals(states):
        gradient = _gradient(energy, states)
        weight = torch.zeros(len(states), len(changes), dtype=torch.float64)
        for number, (site, _, value) in enumerate(changes):
            y = states.clone()
            y[:, site] = value
            differs = (y != states).flatten(1).any(1)
            weight[:, number] = differs * (-(gradient * (y - states)).flatten(1).sum(1) / 2).exp()
        paths = [itertools.permutations(range(len(changes)), many) for many in range(1, num_flips + 1)]
        for path in itertools.chain(*paths):
            if len({changes[step][0] for step in path}) < len(path):
                continue
            probability, left = torch.full((len(states),), 1 / num_flips, dtype=torch.float64), weight.clone()
            uniform = torch.zeros(math.prod(shape), dtype=torch.float64)
            for rank, step in enumerate(path):
                probability = probability * left[:, step] / left.sum(1)
                left[:, [number for number, change in enumerate(changes) if change[0] == changes[step][0]]] = 0
                # Gumbel noise of 36, 24 and 12, where all others have -6.6.
                uniform[changes[step][1]] = 1 - 2.0 ** -(53 - 17 * rank)
            yield (_bits(uniform).view(1, *shape), tensor((len(path) - 0.5) / num_flips)), probability

    matrix = _matrix_of_possible(sampler, energy, proposals)
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


def _matrix_of_possible(sampler, energy, proposals):
    """`proposal_matrix` where each noise stands for a proposal in some of the states only."""
    states = _states(energy)
    matrix = torch.zeros(len(states), len(states), dtype=torch.float64)
    for noise, probability in proposals(states):
        rows = probability.nonzero().squeeze(1)
        state = sampler.init(energy, states[rows])
        noise = tuple(part.expand(len(rows), *part.shape[1:]) for part in noise)
        taken, info = sampler.step(energy, state, (*noise, torch.zeros(len(rows)).double()))
        assert not bool(info.divergent.any())
        kept, _ = sampler.step(energy, state, (*noise, info.acceptance))
        torch.testing.assert_close(kept.x, states[rows])
        weight = probability[rows]
        matrix.index_put_((rows, _number(energy, taken.x)), weight * info.acceptance, accumulate=True)
        matrix.index_put_((rows, rows), weight * (1 - info.acceptance), accumulate=True)
    return matrix


def _langevin_proposals(energy, states, step_size):
    """q(y|x) of the paper, normalised over all states y at once."""
    change = states.flatten(1).unsqueeze(0) - states.flatten(1).unsqueeze(1)
    gradient = _gradient(energy, states).flatten(1).unsqueeze(1)
    return (-(gradient * change).sum(2) / 2 - change.square().sum(2) / (2 * step_size)).softmax(1)


@pytest.mark.parametrize("step_size", [0.4, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_adjusted_discrete_langevin(kind, step_size, repeats):
    energy, sampler = cubic(kind), DiscreteLangevin(step_size=step_size)

    def proposals(states):
        probability = _langevin_proposals(energy, states, step_size)
        for number, y in enumerate(states):
            # Bits and spins are up where the uniform is small; categories where theirs is the largest.
            up = (y > 0).double()
            uniform = HIGH * (up if kind == "categorical" else 1 - up)
            yield (_bits(uniform).unsqueeze(0),), probability[:, number]

    matrix = proposal_matrix(sampler, energy, proposals)
    # As much as can be is accepted: one of the two ways between two states always.
    ratio = matrix / _langevin_proposals(energy, _states(energy), step_size)
    best = torch.maximum(ratio, ratio.T).fill_diagonal_(1)
    torch.testing.assert_close(best, torch.ones_like(best), rtol=1e-9, atol=0)
    _check(matrix, _target(energy), reversible=True)
    _check_steps(sampler, energy, matrix, repeats)


@pytest.mark.parametrize("kind", KINDS)
def test_unadjusted_discrete_langevin(kind, repeats):
    energy, sampler = cubic(kind), DiscreteLangevin(step_size=0.7, adjusted=False)
    expected = _langevin_proposals(energy, _states(energy), 0.7)
    if kind != "categorical":
        torch.testing.assert_close(threshold_matrix(sampler, energy), expected, rtol=1e-12, atol=1e-14)
    assert not sampler.reversible
    # It is biased, and says so.
    assert (_target(energy) @ expected - _target(energy)).abs().max() > 1e-3
    _check_steps(sampler, energy, expected, repeats)
