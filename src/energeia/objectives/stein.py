"""Stein discrepancies: how far the score of the model is from that of the data, by a kernel or by a critic."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from energeia.core.energy import Energy, FromModule
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.gradient import value_and_gradient
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Space
from energeia.objectives.rows import real_rows
from energeia.objectives.score import warn_of_kinks
from energeia.stats.samples import median_distance
from energeia.stats.stein import InverseMultiquadric, Kernel, Statistic, kernel_discrepancy

_INSTEAD = "use PseudoLikelihood or RatioMatching on discrete spaces, PersistentCD on others"


class KernelStein(Objective):
    """The squared kernel Stein discrepancy of the data from the model: mean of u(x_i, x_j) over pairs of rows.

        u(x, y) = s(x)'s(y) k + s(x)'d_y k + s(y)'d_x k + tr d_x d_y k,  s = -dE/dx.

    On average over rows from q it is E[d(x)' k(x, y) d(y)] with d = s - s_q, zero only where the scores agree.

    Args:
        kernel: k, an `InverseMultiquadric` (default) or a `GaussianKernel` of energeia.stats.stein.
        bandwidth: width of the kernel, > 0, in units of x. None takes the median distance between rows of the
            first batch in training, and keeps it; in eval mode before that, of the batch at hand.
        statistic: "u" leaves pairs of a row with itself out: no bias, noisier, may be negative. "v" has them in:
            never negative, but it pulls the scores towards zero by about mean |s|^2 k(0) / N.

    Consistent for a model of the family on `Real`, with "u" from batches of any size. Less efficient than score
    matching where the kernel is narrow, for then few pairs say anything, and in many dimensions, where all pairs
    are equally far. Robust: one outlier changes it little. Blind, as all that looks at scores is, to the
    weights of modes that lie far apart: there d is small wherever there are data.

    Cost: one forward and one backward pass of E, with their graph (twice differentiable networks: no ReLU), and
    matrices `[B, B]`. Fails on heavy tails of E with "v", and where a bandwidth is far from the distances of the rows.

    Reference: Liu, Lee & Jordan (2016), A kernelized Stein discrepancy for goodness-of-fit tests,
    https://arxiv.org/abs/1602.03253; Barp, Briol, Duncan, Girolami & Mackey (2019), Minimum Stein discrepancy
    estimators, https://arxiv.org/abs/1906.08283

    >>> import torch, energeia as en
    >>> rows = torch.tensor([[0.0], [1.0], [-1.0]])
    >>> loss = en.KernelStein(bandwidth=1.0)(en.Gaussian(1), en.Batch(rows), torch.Generator())
    >>> round(loss.value.item(), 4)  # (-.5303 - .5303 - .9302) / 3
    -0.6636
    """

    width: Tensor

    def __init__(
        self, kernel: Kernel | None = None, *, bandwidth: float | None = None, statistic: Statistic = "u"
    ) -> None:
        super().__init__()
        if bandwidth is not None:
            check_positive("KernelStein", bandwidth=bandwidth)
        if statistic not in ("u", "v"):
            raise InputError(f'KernelStein: statistic must be "u" or "v", got {statistic!r}')
        self.kernel: Kernel = InverseMultiquadric() if kernel is None else kernel
        self.statistic: Statistic = statistic
        self._seen = False
        # Zero: not known yet. A buffer, so that a resumed run goes on with the same kernel.
        self.register_buffer("width", torch.tensor(bandwidth or 0.0, dtype=torch.float64))

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The discrepancy of the batch; nothing is random."""
        x = real_rows(energy, batch, "KernelStein", why="compares scores", instead=_INSTEAD, least=2)
        self._seen = self._seen or warn_of_kinks(energy, x, "KernelStein")
        _, gradient = value_and_gradient(energy, x, create_graph=True)
        rows = x.flatten(1)
        width = float(self.width)
        if width == 0:
            width = median_distance(rows, "KernelStein")
            if self.training:
                self.width.fill_(width)
        value = kernel_discrepancy(rows, -gradient.flatten(1), self.kernel, width, self.statistic)
        return Loss(value, {"loss": value.detach(), "bandwidth": value.detach().new_tensor(width)})


class LearnedStein(Objective):
    """The learned Stein discrepancy: a critic f seeks where the score of the model is wrong, the model mends it.

        min_E max_f  mean [s(x)'f(x) + div f(x)] - penalty mean |f(x)|^2,  s = -dE/dx.

    Over all f the maximum is at f = (s - s_q) / (2 penalty), s_q the score of the data, and the value there is
    E|s - s_q|^2 / (4 penalty), a multiple of what score matching minimises, without a second derivative of E.

    Args:
        critic: f, a smooth network from `[B, *event]` to `[B, *event]` (or flattened). Its parameters are part of
            this objective and train with those of the energy, by the same optimiser: the gradient that the loss has
            for them is turned round, so that one descent serves both players.
        penalty: of the critic's squares, > 0. It scales the optimal critic and the loss.
        num_projections: random directions v, signs with E[vv'] = I, in which div f is estimated as v'(df/dx)v
            (Hutchinson 1989), >= 1; None takes all D directions, exactly.

    Consistent where the critic can express s - s_q and is near its maximum; a critic that is too weak, or lags
    behind, makes the model stop too early, with a loss near zero. The loss may then fall below zero: the
    critic does worse than f = 0. Few steps of the critic come to one of the model here: let the critic be
    the smaller network, and the learning rate small. Blind to the weights of modes that lie far apart, as score
    matching is. For `Real` spaces.

    Cost: one forward and one backward pass of E, and (1 + num_projections) of f, with their graphs; no more in
    many dimensions than in few.

    Reference: Grathwohl, Wang, Jacobsen, Duvenaud & Zemel (2020), Learning the Stein discrepancy for training and
    evaluating energy-based models without sampling. https://arxiv.org/abs/2002.05616

    >>> import torch, energeia as en
    >>> objective = en.LearnedStein(en.MLP(2, 2, widths=(16,)))
    >>> loss = objective(en.Neural(en.MLP(2), en.Real(2)), en.Batch(torch.ones(3, 2)), torch.Generator())
    >>> loss.value.backward()
    """

    def __init__(self, critic: nn.Module, *, penalty: float = 0.5, num_projections: int | None = 1) -> None:
        super().__init__()
        check_positive("LearnedStein", penalty=penalty)
        check_count("LearnedStein", num_projections=1 if num_projections is None else num_projections)
        self.critic, self.penalty, self.num_projections = critic, float(penalty), num_projections
        self._seen = False

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The discrepancy less its penalty; the gradient of the critic's parameters is that of its negative."""
        x = real_rows(energy, batch, "LearnedStein", why="compares scores", instead=_INSTEAD)
        self._seen = self._seen or warn_of_kinks(energy, x, "LearnedStein")
        _, gradient = value_and_gradient(energy, x, create_graph=True)
        turned = {name: _turned(parameter) for name, parameter in self.critic.named_parameters()}

        def critic(points: Tensor) -> Tensor:
            found: Tensor = functional_call(self.critic, turned, (points,))
            if found.numel() != points.numel() or len(found) != len(points):
                raise InputError(
                    f"LearnedStein: the critic maps {tuple(points.shape)} to {tuple(found.shape)}; it must return as "
                    "many numbers as it is given, such as en.MLP(D, D) for vectors of D"
                )
            return found.reshape(points.shape)

        direction = critic(x)
        along = -(gradient * direction).flatten(1).sum(1)
        stein = (along + self._divergence(critic, x, energy.space, generator)).mean()
        size = direction.flatten(1).square().sum(1).mean()
        value = stein - self.penalty * size
        metrics = {"loss": value.detach(), "stein": stein.detach(), "critic_square": size.detach()}
        return Loss(value, metrics)

    def _divergence(
        self, critic: Callable[[Tensor], Tensor], x: Tensor, space: Space, generator: torch.Generator
    ) -> Tensor:
        """div f at each row, `[B]`, with its graph: v'(df/dx)v for all directions v at once."""
        if self.num_projections is None:
            basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).view(-1, 1, *x.shape[1:])
            directions, share = basis.expand(-1, *x.shape), 1.0
        else:
            bits = torch.randint(2, (self.num_projections, *x.shape), generator=generator, device=x.device)
            directions, share = (2 * bits - 1).to(x.dtype), 1 / self.num_projections
        number = len(directions)
        directions = directions.flatten(0, 1)
        along = FromModule(lambda points: (critic(points) * directions).flatten(1).sum(1), space)
        _, change = value_and_gradient(along, x.repeat(number, *[1] * (x.dim() - 1)), create_graph=True)
        return share * (change * directions).flatten(1).sum(1).view(number, -1).sum(0)


def _turned(parameter: Tensor) -> Tensor:
    """The same numbers, exactly, with the gradient turned round."""
    still = parameter.detach()
    return still - (parameter - still)
