"""The targets, once in torch and once in jax, with the same numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

import energeia as en
from energeia.energies.gaussians import CorrelatedGaussian, GaussianMixture, four_gaussians
from energeia.energies.posteriors import LogisticRegression

LogDensity = Callable[[jax.Array], jax.Array]


def array(tensor: Tensor) -> jax.Array:
    """A tensor's numbers as a jax array."""
    return jnp.asarray(tensor.detach().contiguous().numpy())


def mixture() -> tuple[GaussianMixture, LogDensity]:
    """Four Gaussians in the plane."""
    energy = four_gaussians()
    whitener, offset, heights = array(energy.whitener), array(energy.offset)[:, 0], array(energy.log_heights)[:, 0]

    def log_density(x: jax.Array) -> jax.Array:
        white = (whitener @ x + offset).reshape(-1, 2)
        return jax.scipy.special.logsumexp(heights - jnp.square(white).sum(1) / 2)

    return energy, log_density


def network() -> tuple[en.Neural, LogDensity]:
    """A network of 2-128-128-1 with SiLU, as it is initialised."""
    torch.manual_seed(0)
    energy = en.Neural(en.MLP(2, widths=(128, 128)), en.Real(2))
    layers = [(array(m.weight).T, array(m.bias)) for m in energy.modules() if isinstance(m, nn.Linear)]

    def log_density(x: jax.Array) -> jax.Array:
        for weight, bias in layers[:-1]:
            x = jax.nn.silu(x @ weight + bias)
        weight, bias = layers[-1]
        return -(x @ weight + bias)[..., 0]

    return energy, log_density


def pictures() -> tuple[nn.Sequential, LogDensity]:
    """The convolutional network of the deep energy model of handwritten digits; on pictures `[1, 28, 28]`.

    Reference: Lippe, UvA deep learning tutorials, Tutorial 8: deep energy-based generative models.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, stride=2, padding=4), nn.SiLU()]
    for size_in, size_out in ((16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(size_in, size_out, 3, stride=2, padding=1), nn.SiLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 64), nn.SiLU(), nn.Linear(64, 1))
    convolutions = [(array(m.weight.permute(2, 3, 1, 0)), array(m.bias), m) for m in net if isinstance(m, nn.Conv2d)]
    dense = [(array(m.weight).T, array(m.bias)) for m in net if isinstance(m, nn.Linear)]

    def log_density(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, -1)[None]
        for weight, bias, layer in convolutions:
            padding = [(int(layer.padding[0]),) * 2] * 2
            numbers = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, weight, layer.stride, padding, dimension_numbers=numbers)
            x = jax.nn.silu(x + bias)
        x = jnp.moveaxis(x[0], -1, 0).ravel()
        x = jax.nn.silu(x @ dense[0][0] + dense[0][1])
        return -(x @ dense[1][0] + dense[1][1])[0]

    return net, log_density


def gaussian(num_dims: int = 100) -> tuple[CorrelatedGaussian, LogDensity]:
    """Variances from 1/100 to 1, in a random frame."""
    energy = CorrelatedGaussian.ill_conditioned(num_dims, condition=100.0)
    whitener, offset = array(energy.whitener), array(energy.offset)
    return energy, lambda x: -jnp.square(whitener @ x + offset).sum() / 2


def round_gaussian(num_dims: int) -> tuple[en.Gaussian, LogDensity]:
    """Standard normals."""
    return en.Gaussian(num_dims), lambda x: -jnp.square(x).sum(-1) / 2


def regression() -> tuple[LogisticRegression, LogDensity]:
    """Logistic regression of 569 tumours with 30 standardised features."""
    energy = LogisticRegression.breast_cancer()
    rows, precision = array(energy.rows), 1 / energy.prior_scale**2
    return energy, lambda x: -jax.nn.softplus(-(rows @ x)).sum() - precision * jnp.square(x).sum() / 2


def check(energy: Callable[[Tensor], Tensor], log_density: LogDensity, x: Tensor) -> None:
    """Stop unless both sides compute the same: differences of energies, and gradients."""
    point = x.detach().clone().requires_grad_(True)
    values = energy(point).flatten()
    (gradient,) = torch.autograd.grad(values.sum(), point)
    other, slopes = jax.vmap(jax.value_and_grad(lambda one: log_density(one).sum()))(array(x))
    theirs, mine = -np.asarray(other), values.detach().numpy()
    tolerance = 1e-3 * (1 + np.abs(mine).max())
    if np.abs((theirs - theirs[0]) - (mine - mine[0])).max() > tolerance:
        raise SystemExit("the two sides have different energies")
    if np.abs(np.asarray(slopes) + gradient.numpy()).max() > 1e-3 * (1 + float(gradient.abs().max())):
        raise SystemExit("the two sides have different gradients")


def normals(*shape: int) -> Tensor:
    """Start points."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def batch_gradient(log_density: LogDensity) -> Callable[[jax.Array, Any], jax.Array]:
    """The gradient of every chain, in the form blackjax.sgld wants."""
    gradient = jax.vmap(jax.grad(log_density))
    return lambda x, _: gradient(x)
