"""Forward filtering and backward smoothing on batched chains: in scaled probabilities, or in log space."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.errors import InputError


class Chain(NamedTuple):
    """A batch of chains, the batch last, so that sums over labels run along contiguous rows.

    unary: `[T, K, B]`, zero beyond the length. tables: `[K, K]`, `[T-1, K, K]` or, for tables of each row,
    `[T-1, K, K, B]`. lengths: `[B]`. valid, ends: `[T, B]`, whether a place is in its row, and is its last.
    T is the largest length.
    """

    unary: Tensor
    tables: Tensor
    lengths: Tensor
    valid: Tensor
    ends: Tensor


def open_chain(who: str, unary: Tensor, transitions: Tensor, lengths: Tensor | None) -> Chain:
    """Checked arguments in the shape that filters take; nothing beyond a row's length is looked at."""
    check_potentials(who, unary, transitions)
    lengths = check_lengths(who, lengths, unary)
    with torch.no_grad():
        longest = int(lengths.max())
        place = torch.arange(longest, device=unary.device)[:, None]
        valid, ends = place < lengths, place == lengths - 1
        held = unary[:, :longest].permute(1, 2, 0).contiguous()
        held.masked_fill_(~valid[:, None], 0)
        tables = transitions.detach()
        if tables.dim() == 3:
            tables = tables[: longest - 1]
        elif tables.dim() == 4:
            tables = tables[:, : longest - 1].permute(1, 2, 3, 0).contiguous()
            tables.masked_fill_(~valid[1:, None, None], 0)
        for name, values in (("unary", held), ("transitions", tables)):
            # NaN passes through a maximum, so one comparison finds it and +inf.
            if values.numel() and not bool(values.amax() < math.inf):
                raise InputError(
                    f"{who}: {name} has NaN or +inf within the lengths; log potentials are finite, or -inf for what "
                    "is forbidden"
                )
        return Chain(held, tables, lengths, valid, ends)


def check_potentials(who: str, unary: Tensor, transitions: Tensor) -> None:
    """Raise `InputError` unless the shapes and types fit each other."""
    if unary.dim() != 3 or 0 in unary.shape:
        raise InputError(f"{who}: unary has shape {tuple(unary.shape)}, expected [B, T, K], each at least 1")
    if unary.dtype not in (torch.float32, torch.float64) or transitions.dtype != unary.dtype:
        raise InputError(
            f"{who}: unary is {unary.dtype} and transitions {transitions.dtype}, expected both float32 or both "
            "float64; convert with .float() or .double()"
        )
    batch, steps, size = unary.shape
    shapes = {2: (size, size), 3: (steps - 1, size, size), 4: (batch, steps - 1, size, size)}
    if tuple(transitions.shape) != shapes.get(transitions.dim()):
        raise InputError(
            f"{who}: transitions has shape {tuple(transitions.shape)}; for unary {tuple(unary.shape)} it must be "
            f"{shapes[2]} (shared), {shapes[3]} (by place) or {shapes[4]} (by row and place), from label by to label"
        )


def check_lengths(who: str, lengths: Tensor | None, unary: Tensor) -> Tensor:
    """Lengths `[B]`, all T where None was given."""
    batch, steps = unary.shape[:2]
    if lengths is None:
        return torch.full((batch,), steps, device=unary.device)
    if lengths.shape != (batch,) or lengths.dtype != torch.int64:
        raise InputError(
            f"{who}: lengths is {lengths.dtype} of shape {tuple(lengths.shape)}, expected int64 of shape ({batch},)"
        )
    lengths = lengths.to(unary.device)
    least, most = (int(bound) for bound in lengths.aminmax())
    if least < 1 or most > steps:
        raise InputError(
            f"{who}: lengths run from {least} to {most}, expected 1 to T = {steps}; leave out rows that are empty"
        )
    return lengths


class Scaled(NamedTuple):
    """Filtered chains in probabilities: no logarithm or exponential in the loops, products of matrices instead.

    alpha: p(y_t | unary up to t) `[T, K, B]`. likelihoods: exp(unary_t - max). inverse: 1 / the sum that alpha_t was
    divided by, zero beyond the length, `[T, 1, B]`. tables: exp(transitions - max). ends: 1 at the last place of
    each row that has a labeling, else 0, `[T, 1, B]`.
    """

    alpha: Tensor
    likelihoods: Tensor
    inverse: Tensor
    tables: Tensor
    ends: Tensor

    def log_alpha(self) -> Tensor:
        """Log of alpha."""
        return self.alpha.log()

    def smooth(self, weights: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        """Marginals `[T, K, B]` and pair marginals, both times weights `[B]`, zero beyond the lengths.

        Args:
            dims: of the pairs: 4 for each row and place `[T-1, K, K, B]`, 3 for each place, summed over rows, 2 summed
                over both, 0 for none. At least the dimensions of the transitions, or 0.
        """
        # beta_t(i) = sum_j A(i, j) ratio_{t+1}(j) with ratio_t = likelihood_t beta_t / sum_t, and 1 at the end.
        ratio = self.likelihoods * self.inverse
        beta = torch.empty_like(self.alpha)
        ratios, betas, ends, tables = ratio.unbind(), beta.unbind(), self.ends.unbind(), _each(self.tables, len(beta))
        betas[-1].copy_(ends[-1])
        for t in range(len(betas) - 1, 0, -1):
            ratios[t].mul_(betas[t])
            if tables[t - 1].dim() == 2:
                torch.addmm(ends[t - 1], tables[t - 1], ratios[t], out=betas[t - 1])
            else:
                torch.sum(tables[t - 1] * ratios[t], 1, out=betas[t - 1]).add_(ends[t - 1])
        before, after, pairs = self.alpha[:-1], ratio[1:].mul_(weights), beta.new_empty(0)
        if dims == 4:
            tables = self.tables if self.tables.dim() == 4 else self.tables[..., None]
            pairs = before[:, :, None] * after[:, None] * tables
        elif dims:
            with torch.autocast(before.device.type, enabled=False):
                pairs = torch.bmm(before, after.transpose(1, 2))
            pairs = (pairs.sum(0) if dims == 2 else pairs).mul_(self.tables)
        return beta.mul_(self.alpha).mul_(weights), pairs


class Logs(NamedTuple):
    """Filtered chains in log space: right for potentials of any size and for forbidden labels and transitions.

    alpha: log p(y_t | unary up to t) `[T, K, B]`. predicted: log p(y_t | unary up to t - 1), 0 for -inf, first place
    unused. tables: transitions. ends: see `Scaled`.
    """

    alpha: Tensor
    predicted: Tensor
    tables: Tensor
    ends: Tensor

    def log_alpha(self) -> Tensor:
        """Log of alpha."""
        return self.alpha

    def smooth(self, weights: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        """See `Scaled.smooth`."""
        # Backwards by p(y_{t-1} = i | y_t = j, unary up to t-1), which no distance from the ends makes inexact.
        alphas, tables = self.alpha.unbind(), _each(self.tables, len(self.alpha))
        size, batch = alphas[0].shape
        last = self.alpha.exp().mul_(self.ends * weights)
        pairs = [last.new_zeros(size, size)] if dims == 2 else []
        for t in range(len(alphas) - 1, 0, -1):
            share = _joint(alphas[t - 1], tables[t - 1]).sub_(self.predicted[t]).exp_().mul_(last[t])
            last[t - 1].add_(share.sum(1))
            if dims == 2:
                pairs[0].add_(share.sum(2))
            elif dims:
                pairs.append(share.sum(2) if dims == 3 else share)
        if dims == 2:
            return last, pairs[0]
        shape = (size, size) if dims == 3 else (size, size, batch)
        return last, torch.stack(pairs[::-1]) if pairs else last.new_zeros(0, *shape)


Filtered = Scaled | Logs


def filtered(chain: Chain) -> tuple[Tensor, Filtered]:
    """Log partition `[B]`, and what smoothing and sampling start from; the faster way where it is exact."""
    size = chain.unary.shape[1]
    dims = (0, 1) if chain.tables.dim() == 2 else (1, 2)
    top, low = chain.tables.amax(dims), chain.tables.amin(dims)
    narrow = bool(((top - low) <= largest_range(chain.unary.dtype, size)).all())
    return _scaled(chain, top) if narrow else _logs(chain)


def largest_range(dtype: torch.dtype, size: int) -> float:
    r"""Largest max - min of a table of transitions, in nats, at which scaled probabilities are exact to rounding.

    Let r be that range, so that A = exp(transitions - max) lies in [e^-r, 1], and alpha sum to 1. Then every
    prediction sum_i alpha(i) A(i, j) is at least e^-r. What a product below the smallest normal number `tiny` loses:

    - a term alpha(i) A(i, j): K of them lose K tiny of a prediction of at least e^-r, relatively K tiny e^r;
    - a label k whose alpha or exp(unary - max) falls below tiny, however wide the unary potentials are: the label of
      the largest potential keeps at least e^-r where k had at most tiny, and as any label leads on at most e^r times
      as well as another, the labelings through k were at most tiny e^2r of the sum; K labels, K tiny e^2r.

    The same holds backwards. 2 K tiny e^2r <= eps makes the loss of a place no larger than its rounding: with 26
    labels 33.7 nats in float32, 334 in float64. (Nothing overflows: beta <= e^r and 1 / sum <= e^r.)
    """
    info = torch.finfo(dtype)
    return (math.log(info.eps) - math.log(info.tiny) - math.log(2 * size)) / 2


def _scaled(chain: Chain, top: Tensor) -> tuple[Tensor, Filtered]:
    """alpha_t = normalised(exp(unary_t - max) * A^T alpha_{t-1})."""
    peak = chain.unary.amax(1, keepdim=True)
    possible = peak > -math.inf
    # A place where every label is forbidden: any numbers do, as the log partition is -inf and the gradient 0.
    likelihoods = (chain.unary - peak).exp_().masked_fill_(~possible, 1)
    tables = (chain.tables - (top if top.dim() == 0 else top[:, None, None])).exp_()
    alpha, total = torch.empty_like(likelihoods), torch.empty_like(peak)
    likelihood, alphas, totals = likelihoods.unbind(), alpha.unbind(), total.unbind()
    each = _each(tables, len(alpha))
    alphas[0].copy_(likelihood[0])
    for t in range(len(alphas)):
        if t:
            if each[t - 1].dim() == 2:
                torch.mm(each[t - 1].T, alphas[t - 1], out=alphas[t])
            else:
                torch.sum(each[t - 1] * alphas[t - 1][:, None], 0, out=alphas[t])
            alphas[t].mul_(likelihood[t])
        torch.sum(alphas[t], 0, keepdim=True, out=totals[t])
        alphas[t].div_(totals[t])
    shift = total.log().add_(peak)[:, 0]
    shift[1:].add_(top if top.dim() != 1 else top[:, None])
    log_z = _summed(shift, chain)
    inverse = chain.valid[:, None] / total
    return log_z, Scaled(alpha, likelihoods, inverse, tables, _open_ends(chain, log_z))


def _logs(chain: Chain) -> tuple[Tensor, Filtered]:
    alpha, predicted = chain.unary.clone(), torch.zeros_like(chain.unary)
    each, totals = _each(chain.tables, len(alpha)), []
    for t in range(len(alpha)):
        if t:
            torch.logsumexp(_joint(alpha[t - 1], each[t - 1]), 0, out=predicted[t])
            alpha[t].add_(predicted[t])
        totals.append(alpha[t].logsumexp(0))
        alpha[t].sub_(_finite(totals[-1]))
    log_z = _summed(torch.stack(totals), chain)
    return log_z, Logs(alpha, _finite(predicted), chain.tables, _open_ends(chain, log_z))


def _summed(shift: Tensor, chain: Chain) -> Tensor:
    return shift.masked_fill(~chain.valid, 0).sum(0, dtype=torch.float64).to(shift.dtype)


def _open_ends(chain: Chain, log_z: Tensor) -> Tensor:
    return (chain.ends & (log_z > -math.inf)).to(log_z.dtype)[:, None]


def _finite(log: Tensor) -> Tensor:
    """Zero for -inf: taken from -inf it leaves -inf, not NaN."""
    return log.masked_fill(log == -math.inf, 0)


def _joint(log: Tensor, table: Tensor) -> Tensor:
    """log_i + table_ij, `[K, K, B]`."""
    return log[:, None] + (table if table.dim() == 3 else table[..., None])


def _each(tables: Tensor, num_places: int) -> tuple[Tensor, ...]:
    """A table for each step: `[K, K]`, or `[K, K, B]` of each row."""
    return (tables,) * (num_places - 1) if tables.dim() == 2 else tables.unbind()
