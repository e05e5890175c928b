"""Tractable energies fitted to rows: where annealing starts, and the noise of noise contrast."""

from typing import Literal, get_args

import torch
from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Energy, Tractable, dtype_and_device
from energeia.core.errors import CapabilityError, InputError, check_count, check_positive
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.energies.gaussians import CorrelatedGaussian, GaussianMixture
from energeia.energies.kernel import KernelDensity
from energeia.energies.reference import Gaussian, Independent, Uniform

Kind = Literal["gaussian", "mixture", "kernel"]


def fitted_base(space: Space, x: Tensor, *, widen: float = 1.2) -> Energy:
    """The tractable energy of a space that is nearest to rows x: data, or draws of the model.

    Args:
        space: of x.
        x: rows `[N, *event]`, N >= 2.
        widen: factor on the standard deviations of `Real` coordinates: a base must cover the
            model, and one that is too wide costs less than one that is too narrow.

    Returns:
        On `Binary`, `Spin` and `Categorical`, `Independent` sites with the mean of x, kept off the
        ends by one row in all; on `Counts`, words with the frequencies of x, one more word in all;
        on `Real`, a diagonal `Gaussian`; on a `Box`, `Uniform`.
    """
    if len(x) < 2:
        raise InputError(f"fitted_base: needs at least two rows, got {len(x)}")
    mean, rows = x.double().mean(0), len(x)
    if isinstance(space, Binary):
        return Independent(space, ((mean * rows + 0.5) / (rows + 1)).logit().to(x))
    if isinstance(space, Spin):
        return Independent(space, (mean * rows / (rows + 1)).atanh().to(x))
    if isinstance(space, Categorical):
        return Independent(space, ((mean * rows + 1 / space.num_categories) / (rows + 1)).log().to(x))
    if isinstance(space, Counts):
        return Independent(space, (mean * rows + 1 / space.num_dims).log().to(x))
    if isinstance(space, Real):
        scale = x.double().std(0).clamp_min(1e-3) * widen
        return Gaussian(space.event_shape, mean=mean.to(x), scale=scale.to(x))
    if isinstance(space, Box):
        return Uniform(space).to(x)
    raise CapabilityError(f"annealing: no base is known for {space}; give one with Tractable: base=...")


def fitted_noise(
    space: Space,
    x: Tensor,
    *,
    kind: Kind = "gaussian",
    num_components: int = 10,
    bandwidth: float | Tensor | None = None,
    widen: float = 1.0,
    seed: int = 0,
) -> Energy:
    """A tractable energy fitted to rows x, closer to them than `fitted_base`: noise for noise contrast.

    Args:
        space: of x.
        x: rows `[N, *event]`, N >= 2.
        kind: on `Real`, "gaussian" (all correlations), "mixture" of Gaussians (EM of scikit-learn) or "kernel" (a
            Gaussian on every row). On other spaces there is one kind alone, that of `fitted_base`.
        num_components: of the mixture.
        bandwidth: of the kernels; None is Scott's rule.
        widen: factor on the standard deviations, of each component in a mixture and of the bandwidth, > 0. Above 1
            it covers outer rows better.
        seed: of the first guess of EM.

    Returns:
        An energy with `Tractable`. Correlations are shrunk as Ledoit & Wolf (2004) do, towards none, by less the more
        rows there are, so that fewer rows than columns are enough. "gaussian" and "mixture" need flat rows `[N, d]`.

    What to take: the nearer the noise to the data, the fewer noise rows are needed, but the harder it is to tell them
    apart: "mixture" for a few modes, "gaussian" where d is large. For more, train a `Flow`, or on bits an
    `Autoregressive`.

    >>> import torch, energeia as en
    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 0.9], [0.0, 0.4]])
    >>> noise = en.fitted_noise(en.Real(2), x)
    >>> draws = noise.sample_exact(5000, torch.Generator().manual_seed(0))
    >>> round(float(draws.T.corrcoef()[0, 1]), 1)
    0.9
    """
    if kind not in get_args(Kind):
        raise InputError(f'fitted_noise: kind must be "gaussian", "mixture" or "kernel", got {kind!r}')
    check_count("fitted_noise", num_components=num_components)
    check_positive("fitted_noise", widen=widen)
    if not isinstance(space, Space):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"fitted_noise: space must be a Space, such as en.Real({x[0].numel()}), got {space!r}")
    space.check(x)
    if len(x) < 2:
        raise InputError(f"fitted_noise: needs at least two rows, got {len(x)}")
    if not isinstance(space, Real):
        return fitted_base(space, x)
    if kind == "kernel":
        plain = KernelDensity(x, bandwidth)
        return plain if widen == 1 else KernelDensity(x, plain.bandwidth * widen)
    if len(space.event_shape) != 1:
        raise InputError(
            f'fitted_noise: kind="{kind}" needs flat rows [N, d], got {list(x.shape)}; flatten them and let the '
            'network give them their shape back (nn.Unflatten), or take kind="kernel" or en.fitted_base'
        )
    # Columns may have units of their own: fitted at scale 1, and scaled back.
    mean, scale = x.double().mean(0), x.double().std(0).clamp_min(1e-3)
    white = ((x.double() - mean) / scale).cpu().numpy()
    outer = (scale[:, None] * scale * widen**2).cpu()
    if kind == "gaussian":
        from sklearn.covariance import ledoit_wolf

        found = torch.as_tensor(ledoit_wolf(white, assume_centered=True)[0])
        return CorrelatedGaussian((found * outer).to(x), mean=mean.to(x))
    return _mixture(white, num_components, seed, mean, scale, outer, x)


def _mixture(
    white: "object", num_components: int, seed: int, mean: Tensor, scale: Tensor, outer: Tensor, like: Tensor
) -> GaussianMixture:
    # scikit-learn takes a second to import.
    from sklearn.mixture import GaussianMixture as Fitted

    if num_components > len(like):
        raise InputError(f"fitted_noise: num_components={num_components} is more than the {len(like)} rows")
    fitted = Fitted(num_components, reg_covar=1e-4, random_state=seed).fit(white)
    means = torch.as_tensor(fitted.means_).to(mean) * scale + mean
    covariances = torch.as_tensor(fitted.covariances_) * outer
    return GaussianMixture(means.to(like), covariances.to(like), torch.as_tensor(fitted.weights_).to(like))


def check_tractable(who: str, name: str, base: Energy, energy: Energy) -> Tractable:
    """The base, or the noise, as `Tractable`, on the space of the energy.

    Args:
        who: the estimator or objective that asks.
        name: what it calls the base.
        base: what is checked.
        energy: the model.

    Raises:
        InputError: it lives on another space: a Gaussian cannot be the base of a model of bits.
        CapabilityError: its log Z is not known, or it cannot be drawn from.
    """
    if not base.space.same_set(energy.space):
        raise InputError(
            f"{who}: the {name} lives on {base.space} and the energy on {energy.space}; take a {name} of the same "
            "space: en.Independent on bits, spins and categories, en.Uniform on a box, en.Gaussian on real numbers"
        )
    own, other = dtype_and_device(base)[0], dtype_and_device(energy)[0]
    if own != other:
        raise InputError(f"{who}: the {name} is {own} and the energy {other}; make them equal: {name}.to({other})")
    tractable = base.capability(Tractable)
    if tractable is None:
        raise CapabilityError(
            f"{who}: log Z of the {name} {type(base).__name__} is not known, or it has no exact draws; take "
            "en.Independent, en.Gaussian or en.Uniform, or one that is fitted: en.fitted_noise(space, x)"
        )
    return tractable
