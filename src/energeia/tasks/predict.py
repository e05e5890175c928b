"""The answer of least energy to an input, the ones after it, and how far they can be believed."""

from typing import NamedTuple

import torch
from torch import Tensor

from energeia.core.answers import Answering, Search, Solvable, decoded, trimmed
from energeia.core.energy import Energy, dtype_and_device
from energeia.core.errors import DivergenceError, InputError, check_count
from energeia.core.space import Enumerable
from energeia.energies.fields import Field
from energeia.energies.pair import answering
from energeia.search.choose import suitable
from energeia.search.exact import MOST_STATES, all_energies
from energeia.search.messages import loopy


class Prediction(NamedTuple):
    """What `predict` finds; on the device of the energy.

    answers: the best y of every row: label numbers `[B, *sites]` (-1 at sites that are not there), else `[B, *event]`.
    energies: E(x, y) of them `[B]`.
    exact: whether no answer has less energy.
    method: how it was found.
    best: the k best `[B, k, ...]`, the best first, best_energies `[B, k]`; inf where fewer are known.
    gap: E of the second less E of the best `[B]`, in nats: how sure the choice is. None for num_best=1.
    marginals: the chance of each label at each site `[B, *sites, K]` (mean of y for bits); None if not asked for.
    marginals_exact: whether they are; else they are those of loopy sum-product, which has no bound.
    """

    answers: Tensor
    energies: Tensor
    exact: bool
    method: str
    best: Tensor
    best_energies: Tensor
    gap: Tensor | None
    marginals: Tensor | None
    marginals_exact: bool | None


def predict(
    energy: Energy,
    x: Tensor,
    method: Search | None = None,
    *,
    num_best: int = 1,
    marginals: bool = False,
    batch_size: int = 256,
    generator: torch.Generator | int = 0,
) -> Prediction:
    """y* = argmin over y of E(x, y), for every row of x.

    Args:
        energy: with `Answering` (`LinearChain`, `PairwiseCRF`, `from_pair`, ...) or with `Classes`.
        x: `[B, *event]`.
        method: a search, such as `Exact()`, `Enumeration()`, `MinimumCut()`, `Elimination()`, `MaxProduct()`,
            `IteratedModes()`, `Annealing(sampler)` or `Descent()`. None takes the first that fits (`suitable`), exact
            wherever that is cheap.
        num_best: k, how many answers; from 2 on the gap to the runner-up is given.
        marginals: whether to give p(y_i | x) too: exact where the energy's structure or the number of answers allows,
            else, on graphs, by loopy sum-product, and said to be so.
        batch_size: rows at once.
        generator: random numbers of searches that need some, or a seed.

    Returns:
        `Prediction`.

    Raises:
        CapabilityError: the energy has no answers, or lacks what the method or the marginals need.
        InputError: x does not fit. DivergenceError: energies of the answers are NaN.

    The energy is used in the mode it is in: call `.eval()` first. Cost: that of the method; the network once for x.

    >>> import torch, energeia as en
    >>> network = torch.nn.Linear(1, 2)
    >>> _ = network.weight.data.copy_(torch.tensor([[-1.0], [1.0]])), network.bias.data.zero_()
    >>> found = en.predict(en.Classifier(network, en.Real(1)), torch.tensor([[-3.0], [0.5]]), num_best=2)
    >>> found.answers.tolist(), found.gap.tolist(), found.exact
    ([0, 1], [6.0, 1.0], True)
    """
    check_count("predict", num_best=num_best, batch_size=batch_size)
    found = answering(energy, "predict")
    dtype, device = dtype_and_device(energy)
    # An energy without parameters or buffers has no dtype of its own.
    bound = next(energy.parameters(), None) is not None
    if not isinstance(x, Tensor) or not x.is_floating_point() or (bound and x.dtype != dtype):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"predict: x is {kind} and the energy {dtype}; give torch.as_tensor(x).to({dtype})")
    if len(x) == 0:
        raise InputError("predict: x has no rows")
    if isinstance(generator, int):
        generator = torch.Generator(device).manual_seed(generator)
    with torch.no_grad():
        parts = [
            _predict(found, rows, method, num_best, marginals, generator) for rows in x.to(device).split(batch_size)
        ]
    return joined(parts)


def joined(parts: list[Prediction]) -> Prediction:
    """The predictions of batches of rows, one after another, as one."""
    first = parts[0]
    return Prediction(
        torch.cat([part.answers for part in parts]),
        torch.cat([part.energies for part in parts]),
        all(part.exact for part in parts),
        "; ".join(dict.fromkeys(part.method for part in parts)),
        torch.cat([part.best for part in parts]),
        torch.cat([part.best_energies for part in parts]),
        None if first.gap is None else torch.cat([part.gap for part in parts if part.gap is not None]),
        None
        if first.marginals is None
        else torch.cat([part.marginals for part in parts if part.marginals is not None]),
        first.marginals_exact,
    )


def _predict(
    energy: Answering,
    x: Tensor,
    method: Search | None,
    num_best: int,
    marginals: bool,
    generator: torch.Generator,
) -> Prediction:
    field, present = energy.within(x), energy.present(x)
    search = suitable(field) if method is None else method
    found = search.find(field, generator, num_best=num_best)
    if bool(found.energies[:, 0].isnan().any()):
        row = int(found.energies[:, 0].isnan().nonzero()[0])
        raise DivergenceError(f"predict: the energy of the answers is NaN, first in row {row}; check weights and x")
    best = decoded(field.space, found.answers, None if present is None else present.unsqueeze(1))
    gap = found.energies[:, 1] - found.energies[:, 0] if num_best > 1 else None
    chances, exact = _marginals(field) if marginals else (None, None)
    return Prediction(
        best[:, 0], found.energies[:, 0], found.exact, found.method, best, found.energies, gap, chances, exact
    )


def _marginals(field: Energy) -> tuple[Tensor, bool]:
    solvable = field.capability(Solvable)
    if solvable is not None:
        return solvable.marginals(), True
    space = field.space
    if isinstance(space, Enumerable) and space.num_states <= MOST_STATES:
        dtype, device = dtype_and_device(field)
        states = space.enumerate(0, space.num_states, dtype=dtype, device=device)
        chances = (-all_energies(field, states)).softmax(1)
        return trimmed(field, (chances @ states.flatten(1)).view(-1, *space.event_shape)), True
    if isinstance(field, Field):
        passed = loopy(field, num_rounds=500, damping=0.3, tolerance=1e-6, best=False)
        return trimmed(field, passed.beliefs.softmax(2).view(-1, *space.event_shape)), False
    raise InputError(
        f"predict: marginals of answers on {space} are not known; draw them: "
        "en.sample(en.given(energy, context=x), ...)"
    )
