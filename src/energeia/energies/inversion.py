"""Couplings from correlations in closed form: mean-field inversion."""

from typing import Literal

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.core.space import Binary, Spin
from energeia.energies.boltzmann import BoltzmannMachine


def mean_field_inversion(
    x: Tensor,
    space: Binary | Spin,
    *,
    weights: Tensor | None = None,
    method: Literal["naive", "tap"] = "naive",
) -> BoltzmannMachine:
    """The Boltzmann machine that mean-field theory finds behind the correlations of data.

    With means m and covariance C of spins, linear response gives J = -C^-1 off the diagonal and
    h_i = atanh m_i - sum_j J_ij m_j ("naive"); "tap" keeps the next order,
    -C^-1_ij = J_ij + 2 J_ij^2 m_i m_j and h_i += m_i sum_j J_ij^2 (1 - m_j^2). Bits are treated as spins.

    Args:
        x: data `[B, *event]`.
        space: of x.
        weights: how much each row counts `[B]`, >= 0; None counts all alike.
        method: "naive" or "tap".

    One matrix inverse: a first look, or where learning starts. Not consistent: its errors are
    second (naive) and third order (tap) in J and do not fall with more data; near a transition they are as
    large as the couplings. It needs more rows than sites, by far.

    Raises:
        InputError: a column never varies, or C cannot be inverted.

    Reference: Kappen & Rodriguez (1998), Efficient learning in Boltzmann machines using linear response
    theory, https://doi.org/10.1162/089976698300017386; Tanaka (1998), Mean-field theory of Boltzmann
    machine learning, https://doi.org/10.1103/PhysRevE.58.2302

    >>> import torch, energeia as en
    >>> rows = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    >>> en.mean_field_inversion(rows, en.Spin(2)).couplings()[0, 1] > 0
    tensor(True)
    """
    if not isinstance(space, Binary | Spin):
        raise InputError(f"mean_field_inversion: needs Binary or Spin data, got {space}")
    if method not in ("naive", "tap"):
        raise InputError(f'mean_field_inversion: method must be "naive" or "tap", got {method!r}')
    space.check(x, "mean_field_inversion: x")
    spins = x.flatten(1).double() * (1 if isinstance(space, Spin) else 2) - (0 if isinstance(space, Spin) else 1)
    share = torch.full_like(spins[:, 0], 1 / len(x)) if weights is None else weights.double() / weights.double().sum()
    mean = share @ spins
    centred = spins - mean
    couplings = -_inverse((centred * share.unsqueeze(1)).T @ centred, mean).fill_diagonal_(0.0)
    fields = mean.atanh()
    if method == "tap":
        couplings = _next_order(couplings, torch.outer(mean, mean))
        fields = fields + mean * (couplings.square() @ (1 - mean.square()))
    fields = fields - couplings @ mean
    if isinstance(space, Binary):
        # s = 2 x - 1 in J s s' and h s.
        fields, couplings = 2 * (fields - couplings.sum(1)), 4 * couplings
    return BoltzmannMachine(space, weight=((couplings + couplings.T) / 4).to(x), bias=fields.to(x))


def _inverse(covariance: Tensor, mean: Tensor) -> Tensor:
    still = (1 - mean.square()) < 1e-12
    if bool(still.any()):
        raise InputError(
            f"mean_field_inversion: {int(still.sum())} of {len(mean)} columns never vary, the first is "
            f"{int(still.nonzero()[0, 0])}; leave them out: nothing can be learnt about their couplings"
        )
    if int(torch.linalg.matrix_rank(covariance, hermitian=True)) < len(mean):
        raise InputError(
            "mean_field_inversion: the correlations cannot be inverted: some columns determine others, or there are "
            "fewer rows than columns; give more rows, or learn with PseudoLikelihood and weight decay"
        )
    return torch.linalg.inv(covariance)


def _next_order(naive: Tensor, both: Tensor) -> Tensor:
    """J + 2 J^2 m m' = naive, the root that goes to naive as m m' vanishes.

    Where there is none (strong couplings) the square root is taken to be zero.
    """
    root = (1 + 8 * both * naive).clamp_min(0).sqrt()
    return 2 * naive / (1 + root)
