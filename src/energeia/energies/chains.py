"""Exact inference on batches of linear chains: linear-chain conditional random fields, hidden Markov models.

A labeling y of a row has the log potential (negative energy)

    score(y) = sum_t unary[t, y_t] + sum_t transitions[y_t, y_{t+1}],    p(y) = exp(score(y)) / Z.

Every function takes `unary` `[B, T, K]`, rows of up to T places with K labels, and `transitions`, from label by to
label: `[K, K]` shared by all, `[T-1, K, K]` by place, or `[B, T-1, K, K]` by row and place. `lengths`, int64 `[B]`,
says how many places a row has, 1 to T, None for T; nothing that stands beyond is looked at, NaN included. Potentials
are float32 or float64 and finite, or -inf for what is forbidden. Potentials of the first and last label are added to
`unary` at these places.

Reference: Rabiner (1989), A tutorial on hidden Markov models, https://doi.org/10.1109/5.18626; Lafferty, McCallum &
Pereira (2001), Conditional random fields; Sutton & McCallum (2012), An introduction to conditional random fields,
https://doi.org/10.1561/2200000013.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from energeia.core.errors import CapabilityError, InputError, check_count
from energeia.energies.chain_filter import Chain, Filtered, check_lengths, check_potentials, filtered, open_chain


def chain_score(unary: Tensor, transitions: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Log potential score(y) of given labelings; less `chain_log_partition` it is log p(y).

    Args:
        unary, transitions, lengths: see the module.
        labels: int64 `[B, T]`, or `[B, N, T]` for N labelings of each row; 0 to K-1, anything beyond the length.

    Returns:
        `[B]` or `[B, N]`, differentiable in unary and transitions as often as wanted.

    Raises:
        InputError: a shape does not fit, or a label within the length is not in 0..K-1.
    """
    check_potentials("chain_score", unary, transitions)
    batch, steps, size = unary.shape
    lengths = check_lengths("chain_score", lengths, unary)
    if labels.dtype != torch.int64 or labels.dim() not in (2, 3) or labels.shape[:: labels.dim() - 1] != (batch, steps):
        raise InputError(
            f"chain_score: labels is {labels.dtype} of shape {tuple(labels.shape)}, expected int64 of shape "
            f"[{batch}, {steps}] or [{batch}, N, {steps}]"
        )
    y = labels if labels.dim() == 3 else labels[:, None]
    valid = (torch.arange(steps, device=unary.device) < lengths[:, None])[:, None]
    y = y.masked_fill(~valid, 0)
    if bool((y < 0).any()) or bool((y >= size).any()):
        raise InputError(f"chain_score: labels within the lengths must lie in 0..{size - 1}")
    single = unary.gather(2, y.transpose(1, 2)).transpose(1, 2)
    entry = y[..., :-1] * size + y[..., 1:]
    if transitions.dim() > 2:
        entry = entry + torch.arange(steps - 1, device=y.device) * size**2
    if transitions.dim() == 4:
        entry = entry + torch.arange(batch, device=y.device)[:, None, None] * ((steps - 1) * size**2)
    pairs = transitions.reshape(-1).index_select(0, entry.flatten()).view_as(entry)
    score = single.where(valid, 0).sum(2) + pairs.where(valid[..., 1:], 0).sum(2)
    return score if labels.dim() == 3 else score[:, 0]


def chain_log_partition(unary: Tensor, transitions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """log Z = log sum_y exp(score(y)) `[B]`, by the forward algorithm.

    Differentiable once in unary and transitions: the gradient is the marginals, by the backward algorithm, zero
    beyond the lengths. A row without any labeling that is allowed has log Z = -inf, and gradient 0.

    Costs B T K^2 multiplications and B T K exponentials where the transitions span few nats (at most about 33 in
    float32, 330 in float64; see `chain_filter.largest_range`), and B T K^2 exponentials where they span more, or where
    some are forbidden. Both are exact to rounding. Memory B T K, and B K^2 in the second case.

    Raises:
        InputError: a shape, a type or a length does not fit, or NaN or +inf stands within a row.
        CapabilityError: a second derivative is asked for.

    Example:
        >>> from energeia.energies.chains import chain_log_partition, chain_score
        >>> unary, transitions = torch.randn(2, 5, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
        >>> labels = torch.tensor([[0, 1, 2, 0, 1], [1, 1, 2, -1, -1]])
        >>> lengths = torch.tensor([5, 3])
        >>> log_p = chain_score(unary, transitions, labels, lengths) - chain_log_partition(unary, transitions, lengths)
        >>> (-log_p.mean()).backward()
    """
    return _LogPartition.apply(unary, transitions, lengths)  # pyright: ignore[reportReturnType]


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unary: Tensor, transitions: Tensor, lengths: Tensor | None) -> Tensor:
        log_z, found = filtered(open_chain("chain_log_partition", unary, transitions, lengths))
        ctx.kind = type(found)
        ctx.save_for_backward(unary, transitions, *found)
        return log_z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        unary, transitions, *rest = ctx.saved_tensors
        found: Filtered = ctx.kind(*rest)
        single, pairs = _Smoothed.apply(gradients[0], unary, transitions, found, transitions.dim())
        return single, pairs, None


class _Smoothed(torch.autograd.Function):
    """Marginals times weights `[B]`; a second derivative, which nothing here computes, is refused, not taken as 0."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, unary: Tensor, transitions: Tensor, found: Filtered, dims: int
    ) -> tuple[Tensor, Tensor]:
        single, pairs = found.smooth(weights, dims)
        steps = unary.shape[1]
        if dims > 2:
            pairs = _places(pairs, 0, steps - 1) if dims == 3 else _rows(pairs, steps - 1)
        return _rows(single, steps), pairs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise CapabilityError(
            "the marginals of a chain have no derivative here: chain_log_partition is differentiable once. Detach "
            "them, or write the loss with log partitions, whose first derivative they are"
        )


def chain_marginals(unary: Tensor, transitions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """p(y_t = k) `[B, T, K]`, by the forward-backward algorithm; zero beyond the length.

    Forbidden labels get exactly 0, and so does a row without any labeling that is allowed. Not differentiable: an
    attempt raises. Cost twice that of `chain_log_partition`.

    Raises:
        InputError: as `chain_log_partition`.
        CapabilityError: a derivative is asked for.
    """
    return _marginals("chain_marginals", unary, transitions, lengths, 0)[0]


def chain_pair_marginals(unary: Tensor, transitions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """p(y_t = i, y_{t+1} = j) `[B, T-1, K, K]`, zero where t + 1 is beyond the length. See `chain_marginals`.

    Their sum over places, or over rows too, is the gradient of `chain_log_partition` in transitions, at B T K memory.
    """
    return _marginals("chain_pair_marginals", unary, transitions, lengths, 4)[1]


def _marginals(who: str, unary: Tensor, transitions: Tensor, lengths: Tensor | None, dims: int) -> tuple[Tensor, ...]:
    with torch.no_grad():
        _, found = filtered(open_chain(who, unary, transitions, lengths))
    return _Smoothed.apply(unary.new_ones(len(unary)), unary, transitions, found, dims)  # pyright: ignore[reportReturnType]


def chain_best(
    unary: Tensor, transitions: Tensor, lengths: Tensor | None = None, num_best: int = 1
) -> tuple[Tensor, Tensor]:
    """The labelings of the highest scores, best first, all different: (list) Viterbi.

    Args:
        unary, transitions, lengths: see the module.
        num_best: how many, N >= 1.

    Returns:
        labels: int64 `[B, N, T]`, -1 beyond the length. Equal scores stand in any order.
        scores: `[B, N]`, differentiable in unary and transitions for the labelings found, and sorted up to rounding.
            A row with fewer than N labelings that are allowed has scores -inf and labels -1 after these.

    Costs B T K^2 additions and comparisons; with N > 1, a sort of N K candidates for each place and label.

    Raises:
        InputError: as `chain_log_partition`.

    Reference: Viterbi (1967), https://doi.org/10.1109/TIT.1967.1054010; Seshadri & Sundberg (1994), List Viterbi
    decoding algorithms with applications, https://doi.org/10.1109/26.277837.
    """
    check_count("chain_best", num_best=num_best)
    with torch.no_grad():
        chain = open_chain("chain_best", unary, transitions, lengths)
        labels, found = _viterbi(chain) if num_best == 1 else _list_viterbi(chain, num_best)
        labels = pad(labels.permute(2, 1, 0), (0, unary.shape[1] - len(labels)), value=0)
        place = torch.arange(unary.shape[1], device=unary.device)
        there = found.T[..., None] & (place < chain.lengths[:, None])[:, None]
    scores = chain_score(unary, transitions, labels, chain.lengths).masked_fill(~found.T, -math.inf)
    return labels.masked_fill(~there, -1), scores


def _viterbi(chain: Chain) -> tuple[Tensor, Tensor]:
    """Labels `[T, 1, B]`, and whether there are any `[1, B]`."""
    delta, tables = chain.unary.clone(), chain.tables
    for t in range(1, len(delta)):
        table = tables if tables.dim() == 2 else tables[t - 1]
        delta[t].add_((delta[t - 1][:, None] + (table if table.dim() == 3 else table[..., None])).amax(0))
    best = (delta[-1]).max(0)
    found = best.values.where(chain.ends[-1], 0)
    labels = [best.indices]
    for t in range(len(delta) - 2, -1, -1):
        # Back pointers are found again where they are followed: K sums for each row, not K^2 positions kept.
        column = _towards(tables if tables.dim() == 2 else tables[t], labels[-1])
        best = (delta[t] + column.masked_fill(chain.ends[t], 0)).max(0)
        found = best.values.where(chain.ends[t], found)
        labels.append(best.indices)
    return torch.stack(labels[::-1])[:, None], (found > -math.inf)[None]


def _list_viterbi(chain: Chain, num_best: int) -> tuple[Tensor, Tensor]:
    """Labels `[T, N, B]`, and whether there are so many `[N, B]`."""
    steps, size, batch = chain.unary.shape
    tables = chain.tables
    # The n-th best labeling up to each label, [K N, B]: of one place, there is only one.
    delta = chain.unary.new_full((size, num_best, batch), -math.inf)
    delta[:, 0] = chain.unary[0]
    last = delta.view(-1, batch).topk(num_best, 0)
    scores, states, pointers = last.values, last.indices, []
    for t in range(1, steps):
        table = tables if tables.dim() == 2 else tables[t - 1]
        table = table if table.dim() == 3 else table[..., None]
        candidates = (delta[:, :, None] + table[:, None]).reshape(-1, size, batch)
        best = candidates.topk(num_best, 0)
        pointers.append(best.indices.transpose(0, 1).reshape(-1, batch))
        delta = best.values.transpose(0, 1) + chain.unary[t][:, None]
        last = delta.reshape(-1, batch).topk(num_best, 0)
        scores, states = last.values.where(chain.ends[t], scores), last.indices.where(chain.ends[t], states)
    labels = [states.div(num_best, rounding_mode="floor")]
    for t in range(steps - 1, 0, -1):
        # Beyond the length a row waits at its last state.
        states = pointers[t - 1].gather(0, states).where(chain.valid[t], states)
        labels.append(states.div(num_best, rounding_mode="floor"))
    return torch.stack(labels[::-1]), scores > -math.inf


def chain_sample(
    unary: Tensor,
    transitions: Tensor,
    lengths: Tensor | None = None,
    *,
    num_samples: int = 1,
    generator: torch.Generator,
) -> Tensor:
    """Independent exact draws from p(y), int64 `[B, N, T]`, -1 beyond the length.

    Forward filtering, backward sampling, in float64 whatever the potentials are; every draw uses T uniform numbers.

    Args:
        unary, transitions, lengths: see the module.
        num_samples: of each row, N >= 1.
        generator: source of the random numbers.

    Costs a filter pass, and N B T K exponentials.

    Raises:
        InputError: as `chain_log_partition`; or a row has no labeling that is allowed.

    Reference: Scott (2002), Bayesian methods for hidden Markov models, https://doi.org/10.1198/016214502753479464.
    """
    check_count("chain_sample", num_samples=num_samples)
    with torch.no_grad():
        chain = open_chain("chain_sample", unary.double(), transitions.double(), lengths)
        log_z, found = filtered(chain)
        if bool((log_z == -math.inf).any()):
            row = int((log_z == -math.inf).nonzero()[0])
            raise InputError(f"chain_sample: row {row} has no labeling that is allowed: every one has a score of -inf")
        alpha, tables = found.log_alpha(), chain.tables
        shape = (len(alpha), num_samples, len(unary))
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).to(alpha.device)
        labels: list[Tensor] = []
        for t in range(len(alpha) - 1, -1, -1):
            logits = alpha[t][:, None].expand(-1, num_samples, -1)
            if labels:
                column = _towards(tables if tables.dim() == 2 else tables[t], labels[-1])
                logits = logits + column.masked_fill(chain.ends[t] | ~chain.valid[t], 0)
            # The first label whose cumulative probability exceeds u times the whole; never one of probability 0.
            sums = (logits - logits.amax(0)).exp().cumsum(0)
            labels.append((sums <= uniform[t] * sums[-1]).sum(0))
        drawn = pad(torch.stack(labels[::-1]).permute(2, 1, 0), (0, unary.shape[1] - len(alpha)))
        place = torch.arange(unary.shape[1], device=unary.device)
        return drawn.masked_fill((place >= chain.lengths[:, None])[:, None], -1)


def _towards(table: Tensor, labels: Tensor) -> Tensor:
    """table[:, labels] `[K, *labels]` for labels `[..., B]`; a table `[K, K, B]` is of each row."""
    if table.dim() == 2:
        return table.index_select(1, labels.flatten()).view(-1, *labels.shape)
    places = labels.reshape(1, -1, labels.shape[-1]).expand(len(table), -1, -1)
    return table.gather(1, places).view(-1, *labels.shape)


def _rows(values: Tensor, steps: int) -> Tensor:
    """The batch first again, and zero beyond the longest row: `[T, ..., B]` to `[B, steps, ...]`."""
    return _places(values.movedim(-1, 0), 1, steps)


def _places(values: Tensor, dim: int, steps: int) -> Tensor:
    """Zeros appended until dim has that many places."""
    return pad(values, (0, 0) * (values.dim() - 1 - dim) + (0, steps - values.shape[dim]))
