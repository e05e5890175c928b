"""Contrastive divergence without bias, by two chains that meet."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from energeia.core.energy import Centred, Energy
from energeia.core.errors import CapabilityError, DivergenceError, InputError, check_count
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.sampler import Sampler
from energeia.core.space import Binary, Categorical, Spin
from energeia.objectives.rows import energies_of, rows_of
from energeia.samplers.tempering import ParallelTempering


class UnbiasedCD(Objective):
    """mean E(data) - an estimate of E_model[E] whose gradient has the right mean after finitely many steps.

    Two chains x and y start alike, x one step ahead, and go on with the same random numbers until they meet: from step
    T on, x_t and y_(t-1) are the same. For any k <= m, with H_k = E(x_k) + sum_(k < t < T) [E(x_t) - E(y_(t-1))], the
    mean of H_k..H_m is

        1 / (m - k + 1) sum_(t = k..m) E(x_t) + sum_(k < t < T) min(1, (t - k) / (m - k + 1)) [E(x_t) - E(y_(t-1))].

    It has the mean of E under the model (Jacob et al. 2020), as y_(t-1) is distributed as x_(t-1) is, so that the sum
    telescopes. E stands for its gradient with respect to the parameters, which is what is wanted.

    Args:
        sampler: the transition, of discrete x: `BlockGibbs` for machines with hidden units, `Gibbs` for graphs;
            others where chains meet with it at all (see below). Its next step must depend on x and on
            random numbers alone; these are drawn before the step, and both chains are given the same ones. Sites
            drawn from their natural parameters then differ as seldom as they can, one by one: for bits and spins,
            common uniforms are the maximal coupling.
        burn_in: k, >= 0. More of it makes the correction rarer, and its noise less.
        num_steps: m, >= k; all states from k to m are averaged.
        start: where both chains of each row begin: "data", or "noise", the space's start points.
        max_steps: chains that have not met by then raise `DivergenceError`...
        unmet: ... unless this is "report": their corrections end there, which is biased, and the metric "unmet" says
            what share of the pairs it was.

    Unbiased for the gradient of any model, at the price of noise: the estimate is a sum of many terms of both signs
    where chains meet late. Choose k where most have met (the metric "meeting" is the mean T, "meeting_most" the
    largest) and m a few times k. A model that mixes slowly meets slowly, and a T that grows in training says so.
    `Metropolis` changes the same sites of both chains and keeps them apart until one of them refuses: on four coupled
    spins it took 14 steps on average and `GibbsWithGradients` 20, where a sweep of `Gibbs` took 3.5; without
    couplings and fields it never ends.

    Cost: for each row 2 max(T, m) steps (all pairs wait for the last one), and one evaluation with a graph of
    m - k + 1 states and two for each step beyond k of a pair that has not met.

    Reference: Qiu, Zhang & Wang (2019), Unbiased contrastive divergence algorithm for training energy-based latent
    variable models, https://openreview.net/forum?id=r1eyceSYPr; Jacob, O'Leary & Atchadé (2020), Unbiased Markov
    chain Monte Carlo methods with couplings, https://arxiv.org/abs/1708.03625

    >>> import torch, energeia as en
    >>> objective = en.UnbiasedCD(en.BlockGibbs(), burn_in=2, num_steps=6)
    >>> loss = objective(en.RBM(4, 3), en.Batch(torch.ones(5, 4)), torch.Generator().manual_seed(0))
    >>> loss.value.backward()
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        burn_in: int = 1,
        num_steps: int = 5,
        start: Literal["data", "noise"] = "data",
        max_steps: int = 10_000,
        unmet: Literal["raise", "report"] = "raise",
    ) -> None:
        super().__init__()
        check_count("UnbiasedCD", num_steps=num_steps, max_steps=max_steps)
        if not 0 <= burn_in <= num_steps <= max_steps:
            raise InputError(
                f"UnbiasedCD: 0 <= burn_in <= num_steps <= max_steps is needed, got {burn_in}, {num_steps}, {max_steps}"
            )
        if start not in ("data", "noise"):
            raise InputError(f'UnbiasedCD: start must be "data" or "noise", got {start!r}')
        if unmet not in ("raise", "report"):
            raise InputError(f'UnbiasedCD: unmet must be "raise" or "report", got {unmet!r}')
        if isinstance(sampler, ParallelTempering):
            raise InputError(
                "UnbiasedCD: chains of ParallelTempering have replicas beside x and part again when these differ; give "
                "the sampler inside it alone"
            )
        self.sampler, self.burn_in, self.num_steps = sampler, burn_in, num_steps
        self.start, self.max_steps, self.unmet = start, max_steps, unmet

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrastive loss, with states of the chains weighed by more and less than zero."""
        if not isinstance(energy.space, Binary | Spin | Categorical):
            raise CapabilityError(
                "UnbiasedCD waits for chains to meet at one state and needs a Binary, Spin or Categorical space, but "
                f"the energy lives on {energy.space}; use PersistentCD there"
            )
        rows_of(energy, batch, "UnbiasedCD")
        centred = energy.capability(Centred)
        if centred is not None and self.training:
            centred.recentre(batch.x)
        x = batch.x if self.start == "data" else energy.space.start(len(batch.x), generator, dtype=batch.x.dtype)
        states, weights, meeting = self.couple(energy, x.detach(), generator)
        energies = energies_of(energy, torch.cat([batch.x, states]))
        data, model = energies[: len(batch.x)].mean(), (weights * energies[len(batch.x) :]).sum() / len(x)
        value = data - model
        unmet = meeting > self.max_steps
        steps = meeting.to(batch.x.dtype)
        metrics = {
            "loss": value.detach(),
            "energy_data": data.detach(),
            "energy_negatives": model.detach(),
            "meeting": steps.mean(),
            "meeting_most": steps.max(),
            "unmet": unmet.to(steps.dtype).mean(),
        }
        return Loss(value, metrics)

    def couple(self, energy: Energy, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Run pairs of chains from rows x `[B, *event]` until all have met and num_steps are done.

        Returns:
            States `[S, *event]` of all chains, their weights `[S]`, which are B in sum, and the step T `[B]` at which
            each pair met (max_steps + 1 where it did not).
        """
        first, last = self.burn_in, self.num_steps
        number = last - first + 1
        ahead = self.sampler.init(energy, x)
        behind = ahead
        found: list[Tensor] = [x] if first == 0 else []
        weights: list[Tensor] = [x.new_full((len(x),), 1 / number)] if first == 0 else []
        meeting = torch.full((len(x),), self.max_steps + 1, device=x.device)
        apart = torch.ones(len(x), dtype=torch.bool, device=x.device)
        step = 0
        while step < last or bool(apart.any()):
            if step == self.max_steps:
                self._stop(apart)
                break
            step += 1
            noise = self.sampler.draw(ahead, generator)
            ahead = self._step(energy, ahead, noise)
            # The first step is x's alone; from then on y goes where x would go from its place.
            behind = behind if step == 1 else self._step(energy, behind, noise)
            same = (ahead.x == behind.x).flatten(1).all(1)
            meeting = torch.where(apart & same, step, meeting)
            apart = apart & ~same
            if first <= step <= last:
                found.append(ahead.x)
                weights.append(x.new_full((len(x),), 1 / number))
            if step > first and bool(apart.any()):
                share = min(1.0, (step - first) / number)
                found += [ahead.x[apart], behind.x[apart]]
                weights += [x.new_full((int(apart.sum()),), sign * share) for sign in (1, -1)]
        return torch.cat(found), torch.cat(weights), meeting

    def _step(self, energy: Energy, state: Any, noise: Sequence[Tensor]) -> Any:
        return self.sampler.step(energy, state, tuple(noise))[0]

    def _stop(self, apart: Tensor) -> None:
        """What is done when max_steps are over."""
        if self.unmet == "raise":
            raise DivergenceError(
                f"UnbiasedCD: {int(apart.sum())} of {len(apart)} pairs of chains have not met after max_steps="
                f"{self.max_steps}; the model mixes too slowly for {self.sampler}. Raise max_steps, take BlockGibbs or "
                'Gibbs, or accept a bias with unmet="report"'
            )
