"""Stein's kernel: how samples disagree with the score of a model, without its Z."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from energeia.core.errors import InputError, check_positive

Statistic = Literal["u", "v"]


class Profile(NamedTuple):
    """A kernel k(x, y) = g(|x - y|^2) and the first two derivatives of g, in the shape of what it is given."""

    value: Tensor
    first: Tensor
    second: Tensor


class Kernel(Protocol):
    """A positive definite function of the distance alone."""

    def profile(self, square: Tensor, bandwidth: float | Tensor) -> Profile:
        """g, g' and g'' at squared distances."""
        ...


@dataclass(frozen=True)
class GaussianKernel:
    """k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)).

    Its tails are so light that in three dimensions or more a sequence of samples that spreads out to infinity may
    have a discrepancy that falls to zero: `InverseMultiquadric` is the safe choice.
    """

    def profile(self, square: Tensor, bandwidth: float | Tensor) -> Profile:
        """g, g' and g'' at squared distances."""
        rate = -0.5 / bandwidth**2
        value = (rate * square).exp()
        return Profile(value, rate * value, rate**2 * value)


@dataclass(frozen=True)
class InverseMultiquadric:
    """k(x, y) = (1 + |x - y|^2 / bandwidth^2)^exponent.

    Args:
        exponent: between -1 and 0. In that range a discrepancy that falls to zero means that the samples converge
            to the model, if its score is Lipschitz and it is dissipative (Gorham & Mackey 2017).
    """

    exponent: float = -0.5

    def __post_init__(self) -> None:
        if not -1 < self.exponent < 0:
            raise InputError(f"InverseMultiquadric: exponent must lie between -1 and 0, got {self.exponent}")

    def profile(self, square: Tensor, bandwidth: float | Tensor) -> Profile:
        """g, g' and g'' at squared distances."""
        base, power, rate = 1 + square / bandwidth**2, self.exponent, 1 / bandwidth**2
        value = base**power
        first = power * rate * value / base
        return Profile(value, first, (power - 1) * rate * first / base)


def stein_kernel(x: Tensor, scores: Tensor, kernel: Kernel, bandwidth: float | Tensor) -> Tensor:
    """u(x_i, x_j) `[N, N]`: the kernel after Stein's operator of the model in both arguments.

    u(x, y) = s(x)'s(y) k + s(x)'d_y k + s(y)'d_x k + tr d_x d_y k, s the score of the model. For any y the mean of
    u(x, y) over x from the model is zero (Stein's identity), and the mean over x and y from q is
    E[(s - s_q)(x)' k(x, y) (s - s_q)(y)], s_q the score of q.

    Args:
        x: `[N, D]`.
        scores: d log p / dx at x, `[N, D]`.
        kernel, bandwidth: k and its width, in units of x.

    Cost: three products of `[N, D]` with `[D, N]`, and some matrices `[N, N]`.
    """
    # Only differences of x count: near the origin |a|^2 + |b|^2 - 2ab loses least.
    x = x - x.mean(0)
    gram = x @ x.T
    norm = gram.diagonal()
    square = (norm.unsqueeze(1) + norm - 2 * gram).clamp_min(0)
    across = scores @ x.T
    own = across.diagonal()
    # (s_i - s_j)'(x_i - x_j)
    along = own.unsqueeze(1) + own - across - across.T
    value, first, second = kernel.profile(square, bandwidth)
    return (scores @ scores.T) * value - 2 * first * along - 2 * x.shape[1] * first - 4 * square * second


def kernel_discrepancy(
    x: Tensor, scores: Tensor, kernel: Kernel, bandwidth: float | Tensor, statistic: Statistic
) -> Tensor:
    """The squared kernel Stein discrepancy of rows x `[N, D]` and a model with these scores, a scalar with its graph.

    statistic: "u" is the mean of `stein_kernel` over pairs of different rows: unbiased, and below zero half of the
    time if the rows are from the model. "v" is the mean over all pairs: never below zero, and too large by about
    the mean of u(x, x) / N.
    """
    check_positive("kernel_discrepancy", bandwidth=float(bandwidth))
    matrix = stein_kernel(x, scores, kernel, bandwidth)
    if statistic == "v":
        return matrix.mean()
    return (matrix.sum() - matrix.diagonal().sum()) / (len(x) * (len(x) - 1))
