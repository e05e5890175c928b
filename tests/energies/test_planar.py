"""The densities of the plane against quadrature, and their draws against the densities."""

import math

import pytest
import torch
from scipy import stats

import energeia as en
from energeia import testing
from energeia.energies import PLANAR, Planar
from energeia.energies.planar import entropy_on_grid

DOUBLE = torch.float64
SPACING = {"checkerboard": 0.02}


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _grid(name, edge=6.0):
    spacing = SPACING.get(name, 0.04)
    number = round(edge / spacing)
    return torch.arange(-number, number + 1, dtype=DOUBLE) * spacing, spacing


def _density(energy, line):
    """p on the grid, `[N, N]`."""
    parts = [(-energy(torch.cartesian_prod(part, line))).exp() for part in line.split(8)]
    return torch.cat(parts).view(len(line), len(line))


@pytest.mark.parametrize("name", PLANAR)
def test_it_integrates_to_one(name):
    line, spacing = _grid(name)
    mass = _density(Planar(name, dtype=DOUBLE), line).sum().item() * spacing**2
    # Of the funnel 2 in 10^9 lie left or right of the grid, and as many in 10^7 above or below.
    assert mass == pytest.approx(1, abs=3e-7 if name == "funnel" else 1e-10)


@pytest.mark.parametrize("name", PLANAR)
def test_each_part_integrates_to_its_share(name):
    energy = Planar(name, dtype=DOUBLE)
    line, spacing = _grid(name)
    mass = sum(energy.shape.log_parts(torch.cartesian_prod(part, line)).exp().sum(0) for part in line.split(8))
    torch.testing.assert_close(mass * spacing**2, energy.shape.shares, rtol=0, atol=3e-7)


@pytest.mark.parametrize("name", PLANAR)
def test_draws_follow_the_density(name):
    energy, num = Planar(name, dtype=DOUBLE), 100_000
    line, spacing = _grid(name)
    x, y = energy.sample_labelled(num, _generator(1))
    # Cells of 13 by 13 (25 by 25) nodes, whose borders lie between nodes: sums of p are their probabilities.
    size = 25 if name == "checkerboard" else 13
    number = len(line) // size
    kept = size * number
    fine = _density(energy, line)[:kept, :kept].view(number, size, number, size).sum((1, 3)) * spacing**2
    cell = ((x - (line[0] - spacing / 2)) / (size * spacing)).floor().long()
    inside = ((cell >= 0) & (cell < number)).all(1)
    counts = torch.bincount(cell[inside] @ torch.tensor([number, 1]), minlength=number**2).double()
    expected = num * fine.flatten()
    large = expected > 20
    observed = torch.cat([counts[large], num - counts[large].sum().view(1)])
    wanted = torch.cat([expected[large], num - expected[large].sum().view(1)])
    statistic = ((observed - wanted).square() / wanted).sum().item()
    # Midpoint sums of cells of an edge of .5 are right to 1e-4 of a cell; the statistic does not see that.
    assert stats.chi2.sf(statistic, len(wanted) - 1) > 1e-4
    shares = torch.bincount(y, minlength=energy.num_classes) / num
    assert bool(((shares - energy.shape.shares).abs() < 5 * (energy.shape.shares / num).sqrt()).all())


@pytest.mark.parametrize("name", PLANAR)
def test_the_label_is_the_part_it_was_drawn_from(name):
    """Bayes's rule: among rows x, label y comes as often as p(y | x) says."""
    energy, num = Planar(name, dtype=DOUBLE), 50_000
    x, y = energy.sample_labelled(num, _generator(2))
    posterior = (-energy.class_energies(x)).softmax(1)
    given = torch.nn.functional.one_hot(y, energy.num_classes) - posterior
    # Weighed by a function of x, so that labels dealt to the wrong rows are seen.
    scores = given * (1 + x.sum(1, keepdim=True)).square()
    spread = scores.std(0)
    assert bool((scores.mean(0).abs() <= 5 * spread / math.sqrt(num) + 1e-12).all())


@pytest.mark.parametrize("name", PLANAR)
def test_the_entropy_is_the_mean_energy_of_draws(name):
    energy, num = Planar(name, dtype=DOUBLE), 100_000
    values = energy(energy.sample_exact(num, _generator(3)))
    assert abs(values.mean() - energy.entropy()) < 5 * values.std() / math.sqrt(num)


@pytest.mark.parametrize("name", PLANAR)
def test_the_entropy_does_not_change_with_the_grid(name):
    energy = Planar(name, dtype=DOUBLE)
    # Not a multiple of the spacing that it was computed with, and wide for the funnel, whose value is a formula.
    spacing, edge = {"checkerboard": (0.0083, 4.5), "funnel": (0.04, 10.0)}.get(name, (0.0171, 4.5))
    assert entropy_on_grid(energy, spacing, edge=edge).item() == pytest.approx(energy.entropy().item(), abs=1e-9)


@pytest.mark.parametrize("name", PLANAR)
def test_single_and_double_precision_agree(name):
    single, double = Planar(name), Planar(name, dtype=DOUBLE)
    x = single.sample_exact(5_000, _generator(4))
    assert x.dtype == torch.float32
    assert double.sample_exact(3, _generator(4)).dtype == DOUBLE
    far = torch.tensor([[40.0, -35.0], [0.0, 0.0], [3.0, 60.0]])
    torch.testing.assert_close(single(x).double(), double(x.double()), rtol=1e-5, atol=2e-4)
    # Angles of hundreds of radians, of which float32 has five digits.
    torch.testing.assert_close(single(far).double(), double(far.double()), rtol=1e-4, atol=2e-4)
    gradient = en.value_and_gradient(single, torch.cat([x, far]))[1]
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", [name for name in PLANAR if name != "checkerboard"])
def test_it_meets_the_contract(name):
    testing.check_energy(Planar(name, dtype=DOUBLE))


def test_the_edges_of_the_board_are_too_sharp_for_the_nodes_of_the_check_alone():
    energy = Planar("checkerboard", dtype=DOUBLE)
    x = energy.sample_exact(6, _generator())
    torch.testing.assert_close(-(-energy.class_energies(x)).logsumexp(1), energy(x))
    assert torch.autograd.gradcheck(lambda x: energy(x), (x.requires_grad_(True),))


def test_a_field_of_the_board_is_a_difference_of_sigmoids():
    energy = Planar("checkerboard", dtype=DOUBLE)
    x = torch.tensor([[-1.52, -1.03], [-1.01, -1.98], [0.3, 0.4]], dtype=DOUBLE)
    low, high = torch.tensor([-2.0, -2.0]), torch.tensor([-1.0, -1.0])
    sides = ((x - low) / 0.02).sigmoid() - ((x - high) / 0.02).sigmoid()
    torch.testing.assert_close((-energy.class_energies(x)[:2, 0]).exp(), sides.prod(1)[:2] / 8, rtol=1e-9, atol=0)


def test_rings_are_rows_of_gaussians_to_eight_digits():
    """The Rice density against what it is the limit of."""
    angle = 2 * math.pi * torch.arange(400, dtype=DOUBLE) / 400
    x = Planar("rings", dtype=DOUBLE).sample_exact(200, _generator(5))
    squares = [
        (x.unsqueeze(1) - radius * torch.stack([angle.cos(), angle.sin()], 1)).square().sum(2)
        for radius in (0.6, 1.2, 1.8, 2.4)
    ]
    values = torch.cat(squares, 1) / (2 * 0.01)
    expected = math.log(1600 * 2 * math.pi * 0.01) - (-values).logsumexp(1)
    torch.testing.assert_close(Planar("rings", dtype=DOUBLE)(x), expected, rtol=1e-8, atol=1e-8)


def test_parts_are_classes_where_there_are_several():
    moons, roll = Planar("two_moons", dtype=DOUBLE), Planar("swiss_roll", dtype=DOUBLE)
    assert roll.capability(en.Classes) is None
    assert moons.capability(en.Tractable) is moons
    x = moons.sample_exact(5, _generator(6))
    torch.testing.assert_close(en.given(moons, label=1)(x), moons.class_energies(x)[:, 1])
    with pytest.raises(en.InputError, match="two_moons"):
        Planar("moons")  # type: ignore[arg-type]
