import math

import pytest
import torch
from scipy import special

import energeia as en
from energeia.energies import KnownMoments, Phi4

DOUBLE = torch.float64


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_energy_is_the_sum_over_sites_and_links(size):
    phi = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    expected = torch.zeros(3, dtype=DOUBLE)
    for i in range(size):
        for j in range(size):
            here = phi[:, i, j]
            for there in (phi[:, (i + 1) % size, j], phi[:, i, (j + 1) % size]):
                expected += (here - there) ** 2 / 2
            expected += -0.7 * here**2 / 2 + 0.3 * here**4
    torch.testing.assert_close(Phi4(size, mass_squared=-0.7, coupling=0.3).double()(phi), expected)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_free_field_is_the_gaussian_of_its_hessian(size):
    """log Z, variance and the covariance of neighbours in the draws, from the matrix of second derivatives."""
    energy = Phi4(size, mass_squared=0.4).double()
    flat = torch.zeros(size * size, dtype=DOUBLE)
    hessian = torch.autograd.functional.hessian(lambda phi: energy(phi.view(1, size, size))[0], flat)
    covariance = torch.linalg.inv(hessian)
    log_z = (size**2 * math.log(2 * math.pi) - torch.linalg.slogdet(hessian).logabsdet) / 2
    torch.testing.assert_close(energy.log_z().value, log_z)
    torch.testing.assert_close(energy.truth().variance.flatten(), covariance.diagonal())
    num = 100_000
    draws = energy.sample_exact(num, torch.Generator().manual_seed(1)).flatten(1)
    found = draws.T @ draws / num
    error = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()) / num).sqrt()
    assert ((found - covariance).abs() / error).max() < 5


def test_one_site_is_a_bessel_function():
    """Integral of exp(-a x^2 - b x^4) = sqrt(a / b) exp(a^2 / 8b) K_1/4(a^2 / 8b) / 2."""
    a, b = 0.6, 0.25
    value = en.exact_log_z(Phi4(1, mass_squared=2 * a, coupling=b).double()).value.item()
    # kve(v, z) = exp(z) K_v(z)
    assert value == pytest.approx(math.log(math.sqrt(a / b) * special.kve(0.25, a**2 / (8 * b)) / 2), abs=1e-9)


def test_chains_on_four_sites_have_the_variance_of_quadrature():
    energy = Phi4(2, mass_squared=-2.5, coupling=0.6)
    # Rows of two sites: a row with itself, twice, and two links from each site to the other row.
    line = torch.linspace(-4, 4, 41, dtype=DOUBLE)
    rows = torch.cartesian_prod(line, line)
    site = (-2.5 * rows**2 / 2 + 0.6 * rows**4).sum(1)
    alone = (-site - (rows[:, 0] - rows[:, 1]) ** 2).exp()
    joint = alone[:, None] * alone * (-torch.cdist(rows, rows).square()).exp()
    variance = (joint.sum(1) @ rows[:, 0].square() / joint.sum()).item()
    square = (joint.sum(1) @ rows[:, 0].pow(4) / joint.sum()).item()
    # With larger steps the chains that start far out, where the quartic is steep, stay there.
    x = en.sample(energy, en.MALA(step_size=0.1), num_chains=10_000, num_steps=150, generator=5).x
    # The four sites move together: count the chains only.
    error = math.sqrt((square - variance**2) / 10_000)
    assert abs(x.square().mean().item() - variance) < 5 * error


def test_truth_is_offered_where_it_is_known():
    free, coupled = Phi4(3, mass_squared=0.5), Phi4(3, mass_squared=0.5, coupling=0.1)
    for kind in (en.Tractable, KnownMoments):
        assert free.capability(kind) is free
        assert coupled.capability(kind) is None
    with pytest.raises(en.InputError, match="coupling = 0 only"):
        coupled.log_z()


@pytest.mark.parametrize(("mass_squared", "coupling"), [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (math.nan, 1.0)])
def test_unbounded_fields_are_refused(mass_squared, coupling):
    with pytest.raises(en.InputError, match="needs coupling > 0"):
        Phi4(3, mass_squared=mass_squared, coupling=coupling)
