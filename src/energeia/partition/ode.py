"""log p(x) under the probability-flow equation of a model of all noise levels, log Z and all."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.algebra import given
from energeia.core.energy import Energy, NoiseLevels, require
from energeia.core.errors import CapabilityError, DivergenceError, InputError, check_count
from energeia.core.gradient import score_along
from energeia.core.record import LogZ
from energeia.core.space import Real
from energeia.energies.fitted import check_tractable
from energeia.energies.noise_conditional import NoiseConditional, NoiseConditionalScore
from energeia.energies.reference import Gaussian
from energeia.partition.likelihood import LogLikelihood

# Numbers in an event up to which the trace is exact by default, and the probes beyond.
_EXACT, _NUM_PROBES = 64, 10
# Columns of Jacobians side by side: more fill the cache and gain nothing.
_AT_ONCE = 4096
# Rows that are integrated once more, with half as many steps.
_NUM_TRIED = 100
_RESOLVED = 1e-3


def ode_log_prob(
    energy: Energy,
    x: Tensor,
    *,
    base: Energy | None = None,
    num_steps: int = 40,
    num_probes: int | None = None,
    generator: torch.Generator | int = 0,
) -> LogLikelihood:
    """log p(x) of rows under the probability-flow equation dx/dsigma = -sigma s(x, sigma) of a model of noise levels.

    From x at the last level sigma_L up to x_1 at the first, sigma_1, the density changes as the flow is compressed:

        log p(x) = log p_1(x_1) - integral from sigma_L to sigma_1 of sigma tr(ds/dx)(x_sigma, sigma) dsigma

    with p_1 the base. It is the density of what `ReverseDiffusion(levels, kind="ode")` draws from starts drawn from the
    base, in the limit of many levels: one that integrates to 1 for any network, which exp(-E) of the last level is not.

    Args:
        energy: a model with `NoiseLevels`, an energy or a score network, such as `NoiseConditional` after
            `MultiScaleDenoising`. Its first and last levels are the ends; those between do not matter here.
        x: rows `[B, *event]` of a `Real` space.
        base: p_1, an energy with `Tractable`: the data with the noise of the first level, or near it, such as
            `fitted_noise(space, rows + levels[0] * torch.randn_like(rows))`. None is N(0, levels[0]^2 + scale^2)
            with the scale of a `NoiseConditional` or `NoiseConditionalScore`; others need one.
        num_steps: steps >= 2 of the classical Runge-Kutta method, evenly in log sigma: fourth order. Rows far from the
            data want more of them than rows of the data: too few steps find densities there that are far too high.
        num_probes: 0 is the exact trace; from 2 on it is estimated from so many random signs for each row, the same
            all the way up (Hutchinson): unbiased, with a standard error. None is 0 up to 64 numbers in x, else 10.
        generator: or its seed, for the probes.

    Returns:
        `LogLikelihood`. Its log_z is 0, as the density is normalised. log_z.standard_error is that of the mean from the
        probes, or without probes the error of the solver; low and high hold both; kind is "exact" without probes where
        the solver's error is below 1e-3 nats. details: "standard_error" of each row `[B]`, from the probes;
        "solver_error", the mean absolute change of some 100 of the rows with half as many steps, about 16 times what is
        left; "start", x_1 `[B, *event]`.

    Raises:
        CapabilityError: a model of one noise level, or another space. InputError: x or base do not fit.
        DivergenceError: a row left the finite numbers on its way; more steps, or rows nearer to the data.

    What it does not do: the density is that of data with the noise sigma_L, not without. It equals exp(-E) / Z of the
    last level only where the scores of all levels are those of one density under growing noise, as they are at the
    optimum of training, and p_1 is that density at sigma_1: the two differ by an error of training that neither tells.
    Compare by this one, which is what the sampler draws. The values have no graph: this judges, and does not train.

    Cost: 4 num_steps times a gradient and its derivative along d axes, or num_probes directions, for each row, and 1.5
    times as much for 100 rows.

    Reference: Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole (2021), Score-based generative modeling through
    stochastic differential equations, https://arxiv.org/abs/2011.13456; Grathwohl, Chen, Bettencourt, Sutskever &
    Duvenaud (2019), FFJORD (the trace), https://arxiv.org/abs/1810.01367

    >>> import torch, energeia as en
    >>> energy = en.NoiseConditional(en.LevelMLP(2), en.Real(2), levels=(2.0, 1.0, 0.5)).double()
    >>> found = en.ode_log_prob(energy, torch.zeros(3, 2, dtype=torch.float64), num_steps=10)
    >>> found.log_z.kind, found.values.shape
    ('exact', torch.Size([3]))
    """
    model = require(
        energy,
        NoiseLevels,
        who="ode_log_prob",
        instead="take en.NoiseConditional(network, space, levels=...), or en.log_likelihood for an energy of one level",
    )
    if not isinstance(energy.space, Real):
        raise CapabilityError(
            f"ode_log_prob: noise leads out of {energy.space}; models of noise levels live on Real. Use "
            "en.log_likelihood there"
        )
    energy.space.check(x, "ode_log_prob: x")
    check_count("ode_log_prob", num_steps=num_steps)
    if num_steps < 2:
        raise InputError(
            f"ode_log_prob: num_steps is 2 at least, for the error is told by half as many; got {num_steps}"
        )
    probes = num_probes
    if probes is None:
        probes = 0 if energy.space.num_dims <= _EXACT else _NUM_PROBES
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < 0 or probes == 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            "ode_log_prob: num_probes is 0 for the exact trace, or 2 and more for an estimate with its error, got "
            f"{probes!r}"
        )
    if isinstance(generator, int):
        generator = torch.Generator(x.device).manual_seed(generator)
    flow = _Flow(energy, model.levels, _base(energy, model, base), num_steps, probes)
    found = flow.solve(x, generator)
    lost = int((~found.values.isfinite()).sum())
    if lost:
        raise DivergenceError(
            f"ode_log_prob: {lost} of {len(x)} rows left the finite numbers on their way up the noise levels; raise "
            f"num_steps={num_steps}, or leave out rows far from the data"
        )
    return _told(flow, found, _solver_error(flow, x))


class _Found(NamedTuple):
    """log p `[B]` and its standard error from the probes `[B]`, float64, and x at the first level `[B, *event]`."""

    values: Tensor
    errors: Tensor
    start: Tensor


class _Flow(NamedTuple):
    """The equation, from the last level up to the first."""

    energy: Energy
    levels: Tensor
    base: Energy
    num_steps: int
    num_probes: int

    def solve(self, x: Tensor, generator: torch.Generator) -> _Found:
        """log p of rows, as many at once as fill the cache."""
        size = max(1, _AT_ONCE // (self.num_probes or x[0].numel()))
        parts = [self._up(part, self._signs(part, generator)) for part in x.detach().split(size)]
        return _Found(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _up(self, x: Tensor, signs: Tensor | None) -> _Found:
        """Runge-Kutta in log sigma; the trace is a sum beside x."""
        low, high = (float(self.levels[place].double().log()) for place in (-1, 0))
        step = (high - low) / self.num_steps
        grown = 0.0
        for number in range(self.num_steps):
            time = low + number * step
            first, a = self._slope(x, time, signs)
            second, b = self._slope(x + step / 2 * first, time + step / 2, signs)
            third, c = self._slope(x + step / 2 * second, time + step / 2, signs)
            fourth, d = self._slope(x + step * third, time + step, signs)
            x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
            grown = grown + step / 6 * (a + 2 * b + 2 * c + d)
        assert isinstance(grown, Tensor)
        tractable = check_tractable("ode_log_prob", "base", self.base, self.energy)
        with torch.no_grad():
            start = -self.base(x).double() - tractable.log_z().value.to(x.device)
        error = grown.std(0) / math.sqrt(len(grown)) if len(grown) > 1 else torch.zeros_like(start)
        return _Found(start + grown.mean(0), error, x)

    def _slope(self, x: Tensor, time: float, signs: Tensor | None) -> tuple[Tensor, Tensor]:
        """dx / dlog sigma = -sigma^2 s, and its divergence `[1, B]`, or from each probe `[S, B]`."""
        sigma = torch.tensor(math.exp(time), dtype=x.dtype, device=x.device)
        energy = given(self.energy, context=sigma)
        exact = signs is None
        if exact:
            axes = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).view(-1, 1, *x.shape[1:])
            signs = axes.expand(-1, *x.shape)
        found, slopes = score_along(energy, x, signs)
        trace = slopes.detach().sum(0, keepdim=True) if exact else slopes.detach()
        square = sigma.square()
        return -square * found.detach(), (-square * trace).double()

    def _signs(self, x: Tensor, generator: torch.Generator) -> Tensor | None:
        """Probes `[S, B, *event]`, whose second moments are those of the identity, or None for the exact trace."""
        if not self.num_probes:
            return None
        shape = (self.num_probes, *x.shape)
        return torch.randint(0, 2, shape, generator=generator, device=x.device).to(x) * 2 - 1


def _base(energy: Energy, model: NoiseLevels, base: Energy | None) -> Energy:
    """The density at the first level."""
    if base is not None:
        return base
    if not isinstance(energy, NoiseConditional | NoiseConditionalScore):
        raise InputError(
            f"ode_log_prob: how wide the data are is not known of {type(energy).__name__}; give base=, such as "
            "en.fitted_noise(space, rows + levels[0] * torch.randn_like(rows))"
        )
    total = (model.levels[0].square() + energy.scale**2).sqrt()
    return Gaussian(energy.space.event_shape, scale=total)


def _solver_error(flow: _Flow, x: Tensor) -> float:
    """Mean absolute change of log p of some of the rows with half as many steps."""
    rows = x[:: -(-len(x) // _NUM_TRIED)]
    few = flow._replace(num_probes=2 if flow.num_probes else 0)
    once, again = (
        few._replace(num_steps=number).solve(rows, torch.Generator(x.device).manual_seed(0)).values
        for number in (flow.num_steps, flow.num_steps // 2)
    )
    return float((once - again).abs().mean())


def _told(flow: _Flow, found: _Found, solver: float) -> LogLikelihood:
    """With the errors of the probes and of the solver."""
    sampled = float(found.errors.square().sum().sqrt()) / len(found.errors)
    half = 1.96 * sampled + solver
    zero = torch.zeros((), dtype=torch.float64, device=found.values.device)
    log_z = LogZ(
        zero,
        zero + (sampled if flow.num_probes else solver),
        "approximate" if flow.num_probes or solver >= _RESOLVED else "exact",
        zero - half,
        zero + half,
        f"probability-flow equation, {flow.num_steps} steps, "
        + (f"trace from {flow.num_probes} probes" if flow.num_probes else "exact trace"),
        {"standard_error": found.errors, "solver_error": solver, "start": found.start},
    )
    mean = float(found.values.mean())
    return LogLikelihood(found.values, mean, mean - half, mean + half, log_z)
