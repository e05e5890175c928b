"""Score matching: the slope of log p against that of the data, without Z and without chains."""

import math
from typing import Literal

import torch
from torch import Tensor

from energeia.core.answers import Rowwise
from energeia.core.energy import Energy
from energeia.core.errors import CapabilityError, InputError, check_count, check_positive
from energeia.core.gradient import is_piecewise_linear, score_along, score_and_diagonal
from energeia.core.objective import Objective
from energeia.core.positive import Positive
from energeia.core.record import Batch, Loss
from energeia.core.space import Box, Real
from energeia.core.warn import warn
from energeia.objectives.rows import beside, real_rows, rows_of

Directions = Literal["rademacher", "gaussian", "sphere"]
INSTEAD = (
    "use ScoreMatching where x has walls, and en.unconstrained(energy) on a simplex; on discrete x use RatioMatching, "
    "ConcreteScoreMatching or PseudoLikelihood, or make whole numbers continuous (energeia.data.Dequantize)"
)


class ScoreMatching(Objective):
    """mean of |s|^2 / 2 + sum_i ds_i/dx_i, with s = d log p / dx: score matching, exact.

    That is the Fisher divergence E |s - s_data|^2 / 2 up to a constant, by parts. Where x has walls (`Positive`, `Box`)
    each coordinate is weighed by its distance h to the nearest, which makes what is left at the walls vanish:

        sum_i h(x_i) (s_i^2 / 2 + ds_i/dx_i) + h'(x_i) s_i,    h = min(distance, reach)

    Args:
        reach: largest h, > 0, in units of x: coordinates farther in count alike. None has no bound. Without walls h =
        1. curvature_penalty: lambda >= 0; adds lambda sum_i (ds_i/dx_i)^2, as Kingma & LeCun (2010) do: data of whole
            numbers or with repeats otherwise reward ever sharper peaks without end.
        chunk: rows of the Jacobian taken side by side; None takes all d. Memory grows with it.

    Consistent: least at the data's density if the family has it, for densities that vanish smoothly at infinity (or are
    bounded at the walls). Values compare models on the same data; they are not likelihoods.

    Blind to how much mass separate modes have: s does not change when a mode far from the others is made
    heavier, so the shares that a fit gives to modes are arbitrary. Score at several noise levels
    (`MultiScaleDenoising`), or use `NoiseContrast` or a likelihood.

    Cost: a forward and 1 + d backward passes with graph for d numbers in x; use `SlicedScoreMatching` for large d.
    A network of ReLU is linear piece by piece, its second derivative is zero, and the loss is wrong: a warning tells
    so. Data of whole numbers or few levels have no density, and get a warning too. For `Real`, `Box` and `Positive`; a
    `ScoreModel` will do.

    Reference: Hyvarinen (2005), Estimation of non-normalized statistical models by score matching; Hyvarinen (2007),
    Some extensions of score matching, https://doi.org/10.1016/j.csda.2006.09.003; Yu, Drton & Shojaie (2019),
    Generalized score matching for non-negative data; Liu, Kanamori & Williams (2022), Estimating density models with
    truncation boundaries using score matching; Kingma & LeCun (2010), Regularized estimation of image statistics by
    score matching.

    >>> import torch, energeia as en
    >>> normal = en.Gaussian(2)
    >>> en.ScoreMatching()(normal, en.Batch(torch.tensor([[1.0, 2.0]])), torch.Generator()).value.item()
    0.5
    """

    def __init__(self, *, reach: float | None = None, curvature_penalty: float = 0.0, chunk: int | None = None) -> None:
        super().__init__()
        if reach is not None:
            check_positive("ScoreMatching", reach=reach)
        if not 0 <= curvature_penalty < math.inf:
            raise InputError(f"ScoreMatching: curvature_penalty must be at least 0, got {curvature_penalty}")
        check_count("ScoreMatching", chunk=1 if chunk is None else chunk)
        self.reach, self.curvature_penalty, self.chunk = reach, curvature_penalty, chunk
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss per row; nothing is random."""
        walls = _walls(energy)
        x = rows_of(energy, batch, "ScoreMatching")
        score, diagonal = score_and_diagonal(energy, x, chunk=self.chunk)
        if not self._seen:
            self._seen = warn_if_straight(energy, x, diagonal, "ScoreMatching")
            if self.curvature_penalty == 0:
                warn_of_steps(x, "ScoreMatching")
        terms = score.square() / 2 + diagonal
        if walls is not None:
            weight, slope = _weight(x, *walls, self.reach)
            terms = weight * terms + slope * score
        fisher = terms.flatten(1).sum(1).mean()
        penalty = diagonal.square().flatten(1).sum(1).mean()
        value = fisher + self.curvature_penalty * penalty if self.curvature_penalty else fisher
        return Loss(value, {"loss": value.detach(), "fisher": fisher.detach()})


class SlicedScoreMatching(Objective):
    """mean of |s|^2 / 2 + v' (ds/dx) v over random directions v with E[v v'] = I: sliced score matching.

    On average over v that is `ScoreMatching` (Hutchinson's estimate of the trace).

    Args:
        num_projections: directions for each row, >= 1.
        directions: "rademacher", signs, the least variance; "gaussian"; or "sphere", uniform of length sqrt(d).
        reduce_variance: False takes (v's)^2 / 2 in place of |s|^2 / 2, the form first proposed: the same on
            average and no cheaper. It varies more with v, but along thin ridges in few dimensions less: for a
            normal in the plane and signs, where the partial correlation is above .71.

    Consistent as `ScoreMatching` is, and as blind to the mass of modes. Cost: a forward and
    1 + num_projections backward passes with graph, whatever d. For `Real`; a `ScoreModel` will do.

    Reference: Song, Garg, Shi & Ermon (2019), Sliced score matching, https://arxiv.org/abs/1905.07088

    >>> import torch, energeia as en
    >>> objective = en.SlicedScoreMatching()
    >>> objective(en.Gaussian(2), en.Batch(torch.tensor([[1.0, 2.0]])), torch.Generator()).value.item()
    0.5
    """

    def __init__(
        self, *, num_projections: int = 1, directions: Directions = "rademacher", reduce_variance: bool = True
    ) -> None:
        super().__init__()
        check_count("SlicedScoreMatching", num_projections=num_projections)
        check_directions("SlicedScoreMatching", directions)
        self.num_projections, self.reduce_variance = num_projections, reduce_variance
        self.directions: Directions = directions
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss per row, on directions of this call."""
        x = real_rows(energy, batch, "SlicedScoreMatching", why="is derived for x without walls", instead=INSTEAD)
        v = draw_directions(self.directions, self.num_projections, x, generator)
        score, curvature = score_along(energy, x, v)
        if not self._seen:
            self._seen = warn_if_straight(energy, x, curvature, "SlicedScoreMatching")
            warn_of_steps(x, "SlicedScoreMatching")
        whole, along = score.square().flatten(1).sum(1), (score * v).flatten(2).sum(2).square()
        squares = whole if self.reduce_variance else along
        value = (squares / 2 + curvature).mean()
        return Loss(value, {"loss": value.detach()})


class FiniteDifferenceScoreMatching(Objective):
    """Sliced score matching from differences of E alone: no derivative with respect to x is taken.

    With L = log p up to a constant, v as in `SlicedScoreMatching` and a step e:

        mean of (L(x + e v) + L(x - e v) - 2 L(x)) / e^2 + (L(x + e v) - L(x - e v))^2 / (8 e^2)

    Args:
        step: e, > 0, in units of x: what the data vary by is the scale, .05 to .2 of it. The bias is O(e^2). Rounding
            grows as 1 / e^2: in float32 an energy near 10 is seen to 1e-6 / e^2.
        num_projections: directions for each row, >= 1.
        directions: as for `SlicedScoreMatching`.

    Consistent for e to zero; blind to the mass of modes. Cost: 1 + 2 num_projections evaluations in one pass and one
    backward pass, without second derivatives: the cheapest of the family. It sees E between the points, so
    a network of ReLU will do. For `Real`; needs E(x), so not a `ScoreModel`.

    Reference: Pang, Xu, Li, Song, Ermon & Zhu (2020), Efficient learning of generative models via finite-difference
    score matching, https://arxiv.org/abs/2007.03317
    """

    def __init__(self, *, step: float = 0.1, num_projections: int = 1, directions: Directions = "rademacher") -> None:
        super().__init__()
        check_positive("FiniteDifferenceScoreMatching", step=step)
        check_count("FiniteDifferenceScoreMatching", num_projections=num_projections)
        check_directions("FiniteDifferenceScoreMatching", directions)
        self.step, self.num_projections = step, num_projections
        self.directions: Directions = directions
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The loss per row, on directions of this call."""
        who = "FiniteDifferenceScoreMatching"
        x = real_rows(energy, batch, who, why="is derived for x without walls", instead=INSTEAD)
        if not self._seen:
            warn_of_steps(x, who)
            self._seen = True
        shape = (self.num_projections, len(x))
        moved = self.step * draw_directions(self.directions, self.num_projections, x, generator)
        here, others = beside(energy, x, torch.cat([(x + moved).flatten(0, 1), (x - moved).flatten(0, 1)]))
        here, ahead, behind = -here, *(-others.view(2, *shape))
        curvature = (ahead + behind - 2 * here) / self.step**2
        slope = (ahead - behind) / (2 * self.step)
        value = (slope.square() / 2 + curvature).mean()
        return Loss(value, {"loss": value.detach()})


def check_directions(who: str, directions: str) -> None:
    """Raise `InputError` unless the kind of direction is known."""
    if directions not in ("rademacher", "gaussian", "sphere"):
        raise InputError(f'{who}: directions must be "rademacher", "gaussian" or "sphere", got {directions!r}')


def draw_directions(kind: Directions, number: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Directions v `[number, B, *event]` with E[v v'] = I."""
    shape = (number, *x.shape)
    if kind == "rademacher":
        signs = torch.randint(0, 2, shape, generator=generator, device=x.device)
        return (2 * signs - 1).to(x.dtype)
    normal = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
    if kind == "gaussian":
        return normal
    flat = normal.flatten(2)
    return (flat * (math.sqrt(flat.shape[2]) / flat.norm(dim=2, keepdim=True))).view(shape)


def _walls(energy: Energy) -> tuple[float, float] | None:
    """Between what x lies: None on `Real`."""
    space = energy.space
    if isinstance(space, Real):
        return None
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, Positive):
        return 0.0, math.inf
    raise CapabilityError(f"ScoreMatching needs Real, Box or Positive, but the energy lives on {space}; {INSTEAD}")


def _weight(x: Tensor, low: float, high: float, reach: float | None) -> tuple[Tensor, Tensor]:
    """h = min(distance to the nearest wall, reach) and h', both `[B, *event]`."""
    distance = torch.minimum(x - low, high - x)
    slope = torch.where(x - low <= high - x, 1.0, -1.0).to(x.dtype)
    if reach is None:
        return distance, slope
    return distance.clamp(max=reach), slope * (distance < reach)


def warn_if_straight(energy: Energy, x: Tensor, curvature: Tensor, who: str) -> bool:
    """Warn if E has no curvature at all, or none that training moves; looked at once, as it waits for the device."""
    if not bool(curvature.detach().any()):
        warn(
            f"{who}: all second derivatives of E are zero, so half of the loss is missing and what is left pulls every "
            f"score to zero. ReLU and leaky ReLU do this: {_BEND}",
        )
        return True
    return warn_of_kinks(energy, x, who)


def warn_of_kinks(energy: Energy, x: Tensor, who: str) -> bool:
    """Warn if E is linear piece by piece but for terms that are not trained; looked at once."""
    # A handful is enough, but where each row has an energy of its own none can be left out.
    if is_piecewise_linear(energy, x[:8] if energy.capability(Rowwise) is None else x):
        warn(
            f"{who}: the network is linear piece by piece (ReLU, leaky ReLU): its score jumps at the kinks and is "
            "constant between them, so the loss does not see where the kinks lie, and biases of hidden layers learn "
            f"nothing: {_BEND}",
        )
    return True


_BEND = (
    "use silu, softplus, elu or tanh, or a loss of E(x) alone, such as FiniteDifferenceScoreMatching or NoiseContrast"
)
# So many numbers, and so few different ones among them, are no accident.
_NUM_ENOUGH, _SHARE_OF_VALUES = 256, 0.25


def warn_of_steps(x: Tensor, who: str) -> None:
    """Warn if x takes few values, as whole numbers and levels of grey do; looked at once."""
    values = x.detach().unique()
    if x.numel() < _NUM_ENOUGH or len(values) > _SHARE_OF_VALUES * x.numel():
        return
    step = f"{values.diff().min().item():g}" if len(values) > 1 else "width"
    warn(
        f"{who}: x takes only {len(values)} different values in {x.numel()} numbers, as whole numbers and levels of "
        "grey do. Such data have no density, and the loss falls without end as E gets a narrow well at each value. "
        f"Spread them over their steps (x = energeia.data.Dequantize({step})(x, generator)), add noise "
        "(DenoisingScoreMatching), or model them as discrete: en.Binary or en.Categorical with RatioMatching",
    )
