import pytest
import torch

import energeia as en
from energeia.tasks.restore import denoise


def test_denoising_a_mixture_is_its_posterior_mean():
    """Clean points at -1 (share .3) and 2 (share .7), noise of variance .4: the posterior mean in closed form."""
    variance, shares, places = 0.4, torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 2.0])
    energy = en.any_of(
        *(en.Gaussian(1, mean=place.view(1), scale=variance**0.5) for place in places), weights=shares.tolist()
    )
    x = torch.linspace(-2, 3, 11).unsqueeze(1)
    posterior = (shares.log() - (x - places).square() / (2 * variance)).softmax(1)
    torch.testing.assert_close(denoise(energy, x, variance=variance), (posterior * places).sum(1, keepdim=True))
    # exp(-E / T) with T = .5: the energy is half as steep, the variance over T twice as large.
    torch.testing.assert_close(denoise(0.5 * energy, x, variance=variance / 0.5), denoise(energy, x, variance=variance))


def test_denoised_points_stay_in_their_box():
    box = en.from_module(lambda x: -50 * x.sum(1), en.Box(2))
    assert bool((denoise(box, torch.zeros(3, 2), variance=1.0) == 1).all())
    with pytest.raises(en.InputError, match="variance"):
        denoise(box, torch.zeros(3, 2), variance=0.0)
