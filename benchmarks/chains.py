"""Linear-chain conditional random fields: training step and Viterbi against pytorch-crf and torch-struct.

Times are processor time of one thread, which other work on the machine disturbs least; contenders run in turn (A B C
A B C), and the ratio of a peer is its time over ours in the same round. Peers that need seconds have three rounds. All
are given the same potentials, and what they answer is compared before anything is timed. Runs in
the environment of the peers (make .venv-peers/installed); those that are not installed are left out, and said so.
"""

import importlib
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Row, progress, run
from energeia.energies.chains import chain_best, chain_log_partition, chain_score

# torch-struct tells of a class attribute that it lacks.
warnings.filterwarnings("ignore", message=".*does not define `arg_constraints`")
OURS = "Energeia"
LOGS = "Energeia, one transition forbidden (log space)"
BATCH, PLACES = 128, 50
LABELS = (26, 9)
Answer = tuple[Tensor, ...]
Step = Callable[[], Answer]


def found(name: str) -> Any | None:
    """A peer, or None where it is not installed."""
    if importlib.util.find_spec(name) is None:
        progress(f"{name} is not installed and is left out")
        return None
    return importlib.import_module(name)


class Problem:
    """Potentials, right answers and lengths; ragged rows have 1 to T places, one of them T."""

    def __init__(self, labels: int, ragged: bool) -> None:
        generator = torch.Generator().manual_seed(labels)
        self.unary = torch.randn(BATCH, PLACES, labels, generator=generator).requires_grad_()
        self.transitions = (0.5 * torch.randn(labels, labels, generator=generator)).requires_grad_()
        self.answers = torch.randint(labels, (BATCH, PLACES), generator=generator)
        self.lengths = torch.full((BATCH,), PLACES)
        if ragged:
            self.lengths = torch.randint(1, PLACES + 1, (BATCH,), generator=generator)
            self.lengths[0] = PLACES
        self.mask = torch.arange(PLACES) < self.lengths[:, None]

    def stepped(self, loss: Tensor) -> Answer:
        """Loss and its gradients; the gradients are cleared."""
        loss.backward()
        found = (loss.detach(), self.unary.grad, self.transitions.grad)
        self.unary.grad = self.transitions.grad = None
        return found  # pyright: ignore[reportReturnType]

    def score_of(self, labels: Tensor) -> Tensor:
        return chain_score(self.unary.detach(), self.transitions.detach(), labels, self.lengths)


def ours(problem: Problem, transitions: Tensor | None = None) -> tuple[Step, Step]:
    """Negative mean log-likelihood with its gradients, and the best labels."""
    table = problem.transitions if transitions is None else transitions

    def train() -> Answer:
        score = chain_score(problem.unary, table, problem.answers, problem.lengths)
        return problem.stepped((chain_log_partition(problem.unary, table, problem.lengths) - score).mean())

    def best() -> Answer:
        with torch.no_grad():
            return (chain_best(problem.unary, table, problem.lengths)[0][:, 0],)

    return train, best


def plain(problem: Problem) -> Step:
    """A loop in scaled probabilities for the compiler, without checks, forbidden labels or a way out of its range."""
    last = torch.nn.functional.one_hot(problem.lengths - 1, PLACES).to(problem.unary.dtype)

    def log_z(unary: Tensor, transitions: Tensor) -> Tensor:
        held, top = unary.permute(1, 2, 0), transitions.amax().detach()
        peak = held.amax(1, keepdim=True).detach()
        likelihood, table = (held - peak).exp(), (transitions - top).exp()
        alpha, total, sums = likelihood[0], held.new_zeros(()), []
        for t in range(PLACES):
            if t:
                alpha = (table.T @ alpha) * likelihood[t]
            size = alpha.sum(0)
            alpha = alpha / size
            total = total + size.log() + peak[t, 0] + (top if t else 0)
            sums.append(total)
        return (torch.stack(sums, 1) * last).sum(1)

    compiled = torch.compile(log_z, fullgraph=True)

    def train() -> Answer:
        score = chain_score(problem.unary, problem.transitions, problem.answers, problem.lengths)
        return problem.stepped((compiled(problem.unary, problem.transitions) - score).mean())

    return train


def pytorch_crf(problem: Problem, module: Any) -> tuple[Step, Step]:
    """Its module, with start and end transitions of zero (which it always has)."""
    crf = module.CRF(problem.unary.shape[2], batch_first=True)
    crf.transitions = torch.nn.Parameter(problem.transitions.detach())
    for name in ("start_transitions", "end_transitions"):
        torch.nn.init.zeros_(getattr(crf, name))

    def train() -> Answer:
        loss = -crf(problem.unary, problem.answers, mask=problem.mask, reduction="mean")
        loss.backward()
        answer = (loss.detach(), problem.unary.grad, crf.transitions.grad)
        problem.unary.grad = None
        crf.zero_grad()
        return answer  # pyright: ignore[reportReturnType]

    def best() -> Answer:
        with torch.no_grad():
            labels = crf.decode(problem.unary, mask=problem.mask)
        return (torch.tensor([y + [-1] * (PLACES - len(y)) for y in labels]),)

    return train, best


def torch_struct(problem: Problem, module: Any) -> tuple[Step, Step]:
    """LinearChainCRF: potentials [B, T-1, to, from]; labels as indicators of pairs, so rows need two places."""

    def chain() -> Any:
        log = problem.unary[:, 1:, :, None] + problem.transitions.T
        first = torch.nn.functional.pad(problem.unary[:, :1, None, :], (0, 0, 0, 0, 0, PLACES - 2))
        return module.LinearChainCRF(log + first, lengths=problem.lengths)

    def train() -> Answer:
        score = chain_score(problem.unary, problem.transitions, problem.answers, problem.lengths)
        return problem.stepped((chain().partition - score).mean())

    def best() -> Answer:
        pairs = chain().argmax.detach()
        later, first = pairs.sum(3).argmax(2), pairs[:, 0].sum(1).argmax(1)
        return (torch.cat([first[:, None], later], 1).masked_fill(~problem.mask, -1),)

    return train, best


def compared(works: dict[str, Step], check: Callable[[Answer, Answer, str], None]) -> None:
    true = works[OURS]()
    for who, work in works.items():
        check(work(), true, who)


def same_gradients(got: Answer, true: Answer, who: str) -> None:
    for one, other in zip(got, true, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text: f"{who} disagrees: {text}")


def in_turn(works: dict[str, Step], rounds: int, work: str) -> list[Row]:
    """Milliseconds; the ratio of all but ours is their time over ours of the round."""
    rows: list[Row] = []
    slow: set[str] = set()
    for number in range(rounds):
        times: dict[str, float] = {}
        for who, step in works.items():
            if number >= 3 and who in slow:
                continue
            began = time.process_time()
            step()
            times[who] = 1e3 * (time.process_time() - began)
            if times[who] > 1e3:
                slow.add(who)
        for who, spent in times.items():
            rows.append(Row(work, who, spent, "ms", number, None if who == OURS else spent / times[OURS]))
    return rows


def rows(quick: bool, compiled: bool = True) -> list[Row]:
    torch.set_num_threads(1)
    measured: list[Row] = []
    crf, struct = found("torchcrf"), found("torch_struct")
    for labels in LABELS[:1] if quick else LABELS:
        for ragged in (False, True):
            problem = Problem(labels, ragged)
            about = f"{BATCH} x {PLACES}, {labels} labels" + (", lengths 1 to 50" if ragged else "")
            progress(about)
            train, best = ours(problem)
            trains, bests = {OURS: train}, {OURS: best}
            if compiled and labels == LABELS[0] and not ragged:
                trains["a plain loop, compiled (no checks)"] = plain(problem)
            if crf is not None:
                one = f"pytorch-crf {version('pytorch-crf')}"
                trains[one], bests[one] = pytorch_crf(problem, crf)
            if struct is not None and not ragged:
                one = f"torch-struct {version('torch-struct')}"
                trains[one], bests[one] = torch_struct(problem, struct)
            compared(trains, same_gradients)

            def same_score(got: Answer, true: Answer, who: str, problem: Problem = problem) -> None:
                one, other = (problem.score_of(labels[0]) for labels in (got, true))
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4, msg=lambda text: f"{who}: {text}")

            compared(bests, same_score)
            with torch.no_grad():
                barred = problem.transitions.clone()
                # Some right answers make it, and lose all probability: no matter for the time.
                barred[0, 1] = -torch.inf
            trains[LOGS] = ours(problem, barred.requires_grad_())[0]
            trains[LOGS]()
            rounds = 5 if quick else 25
            measured += in_turn(trains, rounds, f"log-likelihood and gradients, {about}")
            measured += in_turn(bests, rounds, f"Viterbi, {about}")
    return measured


if __name__ == "__main__":
    whole = "--no-compile" not in sys.argv
    sys.argv = [word for word in sys.argv if word != "--no-compile"]
    run("chains", lambda quick: rows(quick, whole))
