import math

import pytest
import torch

import energeia as en


def _patterns(number, size, seed=0):
    return en.Spin(size).start(number, torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hebbs_rule():
    patterns = _patterns(3, 6)
    network = en.hebb(patterns, inverse_temperature=2.0)
    for i in range(6):
        for j in range(6):
            expected = 0.0 if i == j else sum(float(p[i] * p[j]) for p in patterns) / 6
            assert network.couplings()[i, j].item() == pytest.approx(2.0 * expected, abs=1e-12)
    # -1/2 sum_ij J_ij s_i s_j with J of trace P: beta times Hopfield's energy.
    s = _patterns(4, 6, seed=1)
    overlap = (s @ patterns.T).square().sum(1) / 6
    torch.testing.assert_close(network(s), -2.0 * (overlap - 3) / 2, rtol=1e-12, atol=1e-12)


def test_going_down_ends_where_no_flip_helps_and_never_rises():
    energy = en.hebb(_patterns(8, 20))
    with torch.no_grad():
        energy.bias += torch.linspace(-0.1, 0.3, 20)
    start = _patterns(50, 20, seed=1)
    found = en.retrieve(energy, start)
    assert bool(found.settled.all())
    level = energy(start)
    for sweeps in range(1, found.sweeps + 1):
        after = energy(en.retrieve(energy, start, max_sweeps=sweeps).x)
        assert bool((after <= level + 1e-12).all())
        level = after
    for site in range(20):
        flipped = found.x.clone()
        flipped[:, site] *= -1
        assert bool((energy(flipped) >= energy(found.x) - 1e-12).all())
    again = en.retrieve(energy, found.x)
    assert again.sweeps == 1
    assert torch.equal(again.x, found.x)


def test_sites_are_visited_in_the_order_given():
    """Two spins that want to agree, one up and one down: whoever moves first gives in."""
    pair = en.Ising(2, [(0, 1)], couplings=1.0)
    start = torch.tensor([[1.0, -1.0]])
    assert en.retrieve(pair, start).x.tolist() == [[-1.0, -1.0]]
    assert en.retrieve(pair, start, order=[1, 0]).x.tolist() == [[1.0, 1.0]]
    with pytest.raises(en.InputError, match="each of the 2 blocks once"):
        en.retrieve(pair, start, order=[0, 0])


def test_a_site_without_preference_stays():
    free = en.Ising(3, [(0, 1)], couplings=0.0)
    start = _patterns(4, 3).float()
    assert torch.equal(en.retrieve(free, start).x, start)
    potts = en.Potts(2, [], num_categories=3, couplings=1.0, fields=torch.tensor([1.0, 1.0, 0.0]))
    x = torch.eye(3)[torch.tensor([[1, 2], [0, 1]])]
    assert en.retrieve(potts, x).x.argmax(2).tolist() == [[1, 0], [0, 1]]


def test_categories_and_bits_find_a_minimum():
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    mrf = en.PairwiseMRF(4, [(0, 1), (1, 2), (2, 0)], num_categories=3, edge_tables=tables)
    found = en.retrieve(mrf, mrf.space.start(10, generator, dtype=torch.float64))
    for site in range(4):
        for category in range(3):
            other = found.x.clone()
            other[:, site] = torch.eye(3).double()[category]
            assert bool((mrf(other) >= mrf(found.x) - 1e-12).all())


def test_unsettled_is_said():
    assert not bool(en.retrieve(en.Ising(1, [], couplings=0.0, fields=1.0), -torch.ones(1, 1), max_sweeps=1).settled)


def test_one_step_errors_are_those_of_the_crosstalk():
    """Of P stored patterns of N bits a bit is unstable with probability erfc(sqrt(N / 2 (P - 1))) / 2, nearly."""
    size, number = 400, 80
    flips, bits = 0, 0
    for seed in range(10):
        patterns = _patterns(number, size, seed)
        local = en.hebb(patterns).local_parameters(patterns)
        flips, bits = flips + int((local * patterns < 0).sum()), bits + patterns.numel()
    # Each bit's crosstalk is a sum of (P - 1)(N - 1) signs over N against 1 - 1 / N.
    threshold = (1 - 1 / size) / math.sqrt((number - 1) * (size - 1) / size**2)
    expected = math.erfc(threshold / math.sqrt(2)) / 2
    # Bits of a pattern and of each other share crosstalk; the spread over networks was 3 % of the mean.
    assert flips / bits == pytest.approx(expected, rel=0.05)


def test_capacity():
    """Well below .138 N patterns come back; well above they do not."""
    for number, low, high in ((20, 0.995, 1.0), (100, 0.0, 0.6)):
        patterns = _patterns(number, 200)
        overlap = (en.retrieve(en.hebb(patterns), patterns).x * patterns).mean()
        assert low <= float(overlap) <= high


def test_wrong_patterns():
    with pytest.raises(en.InputError, match="lie outside Spin"):
        en.hebb(torch.tensor([[0.0, 1.0]]))
    with pytest.raises(en.InputError, match="no patterns"):
        en.hebb(torch.zeros(0, 3))
    with pytest.raises(en.CapabilityError, match="Conditional"):
        en.retrieve(en.from_module(lambda x: x.sum(1), en.Spin(2)), torch.ones(1, 2))
