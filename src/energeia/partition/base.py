"""Where annealing starts: a tractable energy that covers what the model covers."""

from torch import Tensor

from energeia.core.counts import Counts
from energeia.core.energy import Energy, Tractable, dtype_and_device
from energeia.core.errors import CapabilityError, InputError
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.energies.reference import Gaussian, Independent, Uniform


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


def check_base(who: str, base: Energy, energy: Energy) -> Tractable:
    """The base as `Tractable`, on the space of the energy.

    Raises:
        InputError: it lives on another space: a Gaussian cannot be the base of a model of bits.
        CapabilityError: its log Z is not known.
    """
    if not base.space.same_set(energy.space):
        raise InputError(
            f"{who}: the base lives on {base.space} and the energy on {energy.space}; take a base of the same space: "
            "en.Independent on bits, spins and categories, en.Uniform on a box, en.Gaussian on real numbers"
        )
    own, other = dtype_and_device(base)[0], dtype_and_device(energy)[0]
    if own != other:
        raise InputError(f"{who}: the base is {own} and the energy {other}; make them equal: base.to({other})")
    tractable = base.capability(Tractable)
    if tractable is None:
        raise CapabilityError(
            f"{who}: log Z of the base {type(base).__name__} is not known; take en.Independent, en.Gaussian or "
            "en.Uniform"
        )
    return tractable
