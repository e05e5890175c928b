"""Conformance checks: run them on your own energies, samplers and objectives.

Each raises AssertionError or `InputError` with what is wrong, and returns nothing.
"""

import math
from typing import Any

import torch
from torch import Tensor

from energeia.core.answers import Answering, Rowwise, Search, Solvable, Tiltable, repeated, rows_of_energy, tilted
from energeia.core.energy import (
    Bipartite,
    Classes,
    Conditional,
    Contrastable,
    Energy,
    Explicit,
    Normalised,
    Scored,
    Tractable,
    dtype_and_device,
    validate,
)
from energeia.core.gradient import score, value_and_gradient
from energeia.core.nodes import integration_nodes
from energeia.core.objective import Objective
from energeia.core.random import Streams
from energeia.core.record import Batch
from energeia.core.sampler import Sampler, sample
from energeia.core.space import Categorical, Enumerable, Spin
from energeia.search.exact import all_energies


def check_energy(energy: Energy, *, num_points: int = 6, seed: int = 0) -> None:
    """An energy is `[B]`, finite, deterministic, chain by chain, and its gradient is its slope.

    Also every capability it claims: class energies that sum to E(x), a log Z that equals
    the integral or the sum where that can be done, natural parameters that are the
    conditionals. float64 energies are checked most sharply.
    """
    dtype, device = dtype_and_device(energy)
    x = energy.space.start(num_points, torch.Generator(device).manual_seed(seed), dtype=dtype)
    before = x.clone()
    validate(energy, x)
    assert torch.equal(x, before), f"{type(energy).__name__} writes to its argument"
    if energy.capability(Scored) is not None:
        assert score(energy, x, create_graph=True).requires_grad, "the score has no graph to the parameters"
        return
    if not isinstance(energy.space, Enumerable):
        _check_slope(energy, x)
    classes = energy.capability(Classes)
    if classes is not None:
        joint = classes.class_energies(x)
        assert joint.shape == (num_points, classes.num_classes), f"class_energies has shape {tuple(joint.shape)}"
        torch.testing.assert_close(-(-joint).logsumexp(1), energy(x), msg="E(x) is not -logsumexp(-E(x, y))")
    normalised = energy.capability(Normalised)
    if normalised is not None and _countable(energy):
        nodes, log_weight = integration_nodes(energy.space, dtype=dtype, device=device)
        with torch.no_grad():
            expected = (log_weight - energy(nodes)).double().logsumexp(0)
        torch.testing.assert_close(normalised.log_z().value, expected, rtol=1e-5, atol=1e-5, msg="log_z() is wrong")
    explicit = energy.capability(Explicit)
    if explicit is not None and normalised is not None:
        torch.testing.assert_close(
            explicit.log_prob(x), -energy(x) - normalised.log_z().value.to(dtype), msg="log_prob is not -E(x) - log Z"
        )
    conditional = energy.capability(Conditional)
    if conditional is not None:
        _check_blocks(energy, conditional, x)
    bipartite = energy.capability(Bipartite)
    if bipartite is not None:
        _check_layers(energy, bipartite, x)
    contrastable = energy.capability(Contrastable)
    if contrastable is not None:
        _check_contrast(energy, contrastable, x)


def _check_layers(energy: Energy, bipartite: Bipartite, x: Tensor) -> None:
    """E(x) is that of its parts, and what is drawn from each side's parameters lies in its space."""
    name = type(energy).__name__
    with torch.no_grad():
        natural = bipartite.hidden_parameters(x)
        parts = bipartite.visible_energy(x) - bipartite.hidden.log_partition(natural)
        torch.testing.assert_close(parts, energy(x), msg=f"E(x) of {name} is not visible_energy - log_partition")
        generator = torch.Generator(x.device).manual_seed(0)
        uniform = torch.rand(natural.shape, generator=generator, dtype=x.dtype, device=x.device)
        h = bipartite.hidden.from_natural(natural, uniform)
        assert h.shape == natural.shape, f"hidden units of {name} have shape {tuple(h.shape)}"
        back = bipartite.visible_parameters(h)
        assert back.shape == x.shape, f"visible_parameters of {name} has shape {tuple(back.shape)} for {tuple(x.shape)}"
        drawn = bipartite.visible.from_natural(back, torch.rand(x.shape, generator=generator, dtype=x.dtype))
        energy.space.check(drawn, f"x drawn by {name}")


def _check_contrast(energy: Energy, contrastable: Contrastable, x: Tensor) -> None:
    """The gradient in closed form against that of the graph."""
    half = len(x) // 2
    data, negatives, gradients = contrastable.contrast(x[:half], x[half:])
    values = energy(x)
    torch.testing.assert_close(torch.cat([data, negatives]), values.detach(), msg="contrast() has other energies")
    parameters = list(energy.parameters())
    assert len(gradients) == len(parameters), f"contrast() has {len(gradients)} gradients of {len(parameters)}"
    gap = values[:half].mean() - values[half:].mean()
    expected = torch.autograd.grad(gap, parameters, allow_unused=True)
    for number, (found, wanted) in enumerate(zip(gradients, expected, strict=True)):
        wanted = torch.zeros_like(found) if wanted is None else wanted
        torch.testing.assert_close(found, wanted, msg=f"contrast() has a wrong gradient of parameter {number}")


def _check_slope(energy: Energy, x: Tensor) -> None:
    """The gradient against a central difference along a random direction."""
    _, gradient = value_and_gradient(energy, x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x)
    step = torch.finfo(x.dtype).eps ** (1 / 3)
    with torch.no_grad():
        rise = (energy(x + step * direction) - energy(x - step * direction)) / (2 * step)
    slope = (gradient * direction).flatten(1).sum(1)
    error = (rise - slope).abs().max().item()
    scale = slope.abs().max().item() + energy(x).abs().max().item() + 1
    limit = 1e3 * step**2 * scale
    assert error <= limit, f"the gradient of {type(energy).__name__} is not its slope: off by {error:.3g}"


def _countable(energy: Energy) -> bool:
    space = energy.space
    return space.num_states <= 2**16 if isinstance(space, Enumerable) else space.num_dims <= 2


def _check_blocks(energy: Energy, conditional: Conditional, x: Tensor) -> None:
    """Every site in one block, and natural parameters that are the conditionals: E with the site at each value."""
    space = energy.space
    number = torch.arange(space.num_dims, device=x.device).view(1, *space.event_shape)
    places = conditional.split(number)
    assert len(places) == conditional.num_blocks, f"split() gives {len(places)} blocks of {conditional.num_blocks}"
    found = torch.cat([place.flatten() for place in places])
    assert torch.equal(found.sort().values, number.flatten()), "every site must be in exactly one block"
    assert torch.equal(conditional.join(places), number), "join() is not the inverse of split()"
    blocks = conditional.split(x)
    step = space.num_categories if isinstance(space, Categorical) else 1
    for block, place in enumerate(places):
        natural = conditional.natural_parameters(blocks, block)
        assert natural.shape == blocks[block].shape, f"natural_parameters() of block {block}: {tuple(natural.shape)}"
        for sites, values in zip(place.flatten().split(step), natural.flatten(1).split(step, 1), strict=True):
            # What E falls by when the site goes from its first state to another.
            for number_of_state in range(1, step) if step > 1 else [0]:
                first, other = x.flatten(1).clone(), x.flatten(1).clone()
                first[:, sites], other[:, sites] = (-1.0 if isinstance(space, Spin) else 0.0), 0.0
                other[:, sites[number_of_state]] = 1.0
                if step > 1:
                    first[:, sites[0]] = 1.0
                expected = values[:, number_of_state] - (values[:, 0] if step > 1 else 0)
                with torch.no_grad():
                    fall = energy(first.view_as(x)) - energy(other.view_as(x))
                torch.testing.assert_close(
                    fall,
                    expected * (2 if isinstance(space, Spin) else 1),
                    msg=f"natural parameters of block {block} are wrong at {sites.tolist()}",
                )


def check_sampler(
    sampler: Sampler[Any],
    energy: Energy,
    *,
    num_chains: int = 4000,
    num_steps: int = 20,
    exact: bool = True,
    seed: int = 0,
) -> None:
    """A sampler repeats with its random numbers, moves, and leaves a tractable target unchanged.

    Args:
        sampler: what to check.
        energy: a target with `Tractable`, asymmetric if it is to find mistakes.
        num_chains, num_steps: effort; the test sees biases of a few standard errors.
        exact: False for samplers with a known bias (Langevin): the target is then not compared.
        seed: of everything.

    Chains start from exact draws; afterwards the mean and the variance of every
    coordinate and of the energy must be those of other exact draws, within 5 standard errors.
    """
    tractable = energy.capability(Tractable)
    assert tractable is not None, "check_sampler needs an energy with Tractable, for exact draws"
    streams = Streams(seed, device=dtype_and_device(energy)[1])
    start = tractable.sample_exact(num_chains, streams["chains"])
    before = start.clone()
    state = sampler.init(energy, start)
    noise = sampler.draw(state, streams["noise"])
    first, info = sampler.step(energy, state, noise)
    second, _ = sampler.step(energy, state, noise)
    assert torch.equal(first.x, second.x), "step() is not a function of its arguments: randomness belongs in draw()"
    assert torch.equal(start, before), "the start points were written to"
    assert all(part.shape == (num_chains,) for part in info), "every part of Info has shape [B]"
    assert first.x.dtype == start.dtype, f"float type changed from {start.dtype} to {first.x.dtype}"
    assert not first.x.requires_grad, "the chains carry a graph"
    draws = sample(energy, sampler, start=start, num_steps=num_steps, generator=streams["noise"])
    assert not torch.equal(draws.x, start), "no chain moved"
    if not exact:
        return
    fresh = tractable.sample_exact(num_chains, streams["chains"])
    with torch.no_grad():
        pairs = [(draws.x.flatten(1), fresh.flatten(1)), (energy(draws.x)[:, None], energy(fresh)[:, None])]
    for moved, expected in pairs:
        for power in (1, 2):
            a, b = moved.double() ** power, expected.double() ** power
            error = ((a.var(0) + b.var(0)) / num_chains).sqrt()
            off = ((a.mean(0) - b.mean(0)).abs() / error.clamp_min(1e-12)).max().item()
            assert off < 5, f"{sampler} changes moment {power} of its target by {off:.1f} standard errors"


def check_objective(objective: Objective, energy: Energy, batch: Batch, *, seed: int = 0) -> None:
    """An objective returns a finite scalar with a graph to the energy, repeats, and validates without a trace."""
    device = dtype_and_device(energy)[1]
    x = batch.x.clone()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.eval()
    values = [objective(energy, batch, torch.Generator(device).manual_seed(seed)).value.item() for _ in range(2)]
    assert values[0] == values[1], "the same generator gives two different losses"
    after = objective.state_dict()
    assert list(before) == list(after), "eval mode added state"
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "eval mode changed the state"
    objective.train()
    loss = objective(energy, batch, torch.Generator(device).manual_seed(seed))
    assert loss.value.shape == (), f"the loss must be a scalar, got shape {tuple(loss.value.shape)}"
    assert math.isfinite(loss.value.item()), "the loss is not finite"
    assert "loss" in loss.metrics, 'metrics must hold "loss"'
    assert not any(metric.requires_grad for metric in loss.metrics.values()), "metrics must be detached"
    parameters = [p for p in energy.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss.value, parameters, allow_unused=True)
    assert any(gradient is not None and bool(gradient.any()) for gradient in gradients), (
        "no gradient reaches the energy"
    )
    assert torch.equal(batch.x, x), "the batch was written to"


def check_answers(energy: Energy, x: Tensor, *, seed: int = 0) -> None:
    """An energy of inputs and answers: each row's energy from its own x and y alone, and inference that is exact.

    Args:
        energy: with `Answering`.
        x: a few inputs `[B, *event]`, B >= 2, best of different lengths where sites can be missing.
        seed: of the answers that are tried.

    What it claims beside is compared with the list of all answers, of which there should be at most 2^16 for that:
    log Z, the best answers, marginals, draws (to 5 standard errors), the pull of a linear term, natural parameters.
    """
    dtype, device = dtype_and_device(energy)
    answering = energy.capability(Answering)
    assert answering is not None, (
        f"{type(energy).__name__} has no answers: answers, within(x) and present(x) are missing"
    )
    field = answering.within(x)
    assert rows_of_energy(field) == len(x), f"within(x) has {rows_of_energy(field)} rows for {len(x)} of x"
    assert field.capability(Rowwise) is not None, "within(x) lacks Rowwise: num_rows and take"
    present = answering.present(x)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = field.capability(Solvable)
    if drawn is not None:
        y = drawn.draw(1, generator)[:, 0]
    else:
        y = answering.answers.start(len(x), generator, dtype=dtype)
        y = y if present is None else y * present.unsqueeze(-1)
    validate(field, y)
    values = field(y)
    alone = [answering.within(x[row : row + 1])(y[row : row + 1]) for row in range(len(x))]
    torch.testing.assert_close(values, torch.cat(alone), msg="the energy of a row depends on the rows beside it")
    twice = repeated(field, 2)(y.repeat_interleave(2, 0)).view(-1, 2)
    torch.testing.assert_close(twice, torch.stack([values, values], 1), msg="take() changes the energies")
    parameters = [p for p in energy.parameters() if p.requires_grad]
    if parameters and values.requires_grad:
        found = torch.autograd.grad(values[values.isfinite()].sum(), parameters, allow_unused=True)
        assert any(part is not None and bool(part.any()) for part in found), "no gradient reaches the energy"
    pull = torch.linspace(-1, 1, y.numel(), dtype=dtype, device=device).view_as(y)
    offset = torch.linspace(0, 1, len(y), dtype=dtype, device=device)
    if field.capability(Tiltable) is not None:
        torch.testing.assert_close(
            tilted(field, pull, offset)(y), values + (pull * y).flatten(1).sum(1) + offset, msg="tilted() is wrong"
        )
    conditional = field.capability(Conditional)
    if conditional is not None and present is None:
        _check_blocks(field, conditional, y)
    space = field.space
    if not isinstance(space, Enumerable) or space.num_states > 2**16:
        return
    for tried in [field, tilted(field, pull, offset)]:
        solvable = tried.capability(Solvable)
        if solvable is not None:
            _check_inference(tried, solvable, None if present is None else present.unsqueeze(-1))


def _check_inference(field: Energy, solvable: Solvable, present: Tensor | None) -> None:
    """Against all answers; those that differ in sites that are not there alone are one."""
    dtype, device = dtype_and_device(field)
    space = field.space
    assert isinstance(space, Enumerable)
    states = space.enumerate(0, space.num_states, dtype=dtype, device=device)
    num_rows = rows_of_energy(field)
    best = solvable.best(3)
    marginals = solvable.marginals()
    draws = solvable.draw(2000, torch.Generator(device).manual_seed(0))
    with torch.no_grad():
        levels = all_energies(field, states)
    for row in range(num_rows):
        there = states if present is None else states * present[row]
        kept, index = there.unique(dim=0, return_inverse=True)
        level = torch.full((len(kept),), torch.inf, dtype=dtype).scatter_reduce(0, index, levels[row], "amin")
        torch.testing.assert_close(solvable.log_partition()[row], (-level).logsumexp(0), msg="log_partition() is wrong")
        number = min(3, int(level.isfinite().sum()))
        expected = level.sort().values[:number]
        torch.testing.assert_close(best.energies[row, :number], expected, msg="best() misses a better answer")
        assert bool(best.energies[row, number:].isinf().all()), "best() knows more answers than there are"
        again = torch.stack([repeated(field, 1)(_in_row(best.answers[:, place], row))[row] for place in range(number)])
        torch.testing.assert_close(again, expected, msg="the energies of best() are not those of its answers")
        chances = (-level).softmax(0)
        mean = (chances @ kept.flatten(1)).view(space.event_shape)
        torch.testing.assert_close(marginals[row], mean, msg="marginals() are wrong")
        error = (mean * (1 - mean) / draws.shape[1]).sqrt().clamp_min(1e-3)
        assert bool(((draws[row].mean(0) - mean).abs() / error < 5).all()), "draw() does not draw from p(y | x)"


def _in_row(answers: Tensor, row: int) -> Tensor:
    """One answer of a row, for every row."""
    return answers[row : row + 1].expand_as(answers).contiguous()


def check_search(search: Search, energy: Energy, *, num_best: int = 3, seed: int = 0) -> None:
    """A search gives what it says: energies of its answers, sorted, all different, none below the least of all.

    Args:
        search: what is checked.
        energy: of at most 2^16 answers, such as `given(energy, context=x)` of several rows.
        num_best: answers asked for.
        seed: of the search.

    Where it calls itself exact its energies must be the least there are.
    """
    dtype, device = dtype_and_device(energy)
    space = energy.space
    assert isinstance(space, Enumerable), f"check_search lists all answers, and cannot on {space}"
    states = space.enumerate(0, space.num_states, dtype=dtype, device=device)
    with torch.no_grad():
        truth = all_energies(energy, states).sort(1).values
    for number in (1, num_best):
        found = search.find(energy, torch.Generator(device).manual_seed(seed), num_best=number)
        again = search.find(energy, torch.Generator(device).manual_seed(seed), num_best=number)
        assert torch.equal(found.energies, again.energies), "the same generator finds two different answers"
        assert found.energies.shape == (len(truth), number), f"energies have shape {tuple(found.energies.shape)}"
        for place in range(number):
            known = found.energies[:, place].isfinite()
            with torch.no_grad():
                value = energy(found.answers[:, place])
            torch.testing.assert_close(value[known], found.energies[known, place], msg="energies are not the answers'")
            below = truth[:, min(place, truth.shape[1] - 1)] - found.energies[:, place]
            assert bool((below < 1e-6).all()), "an answer is better than the best of all"
            if found.exact and place < truth.shape[1]:
                torch.testing.assert_close(
                    found.energies[:, place], truth[:, place], msg=f"{search} calls itself exact and misses an answer"
                )
        flat = found.answers.flatten(2)
        for row, energies in enumerate(found.energies):
            known = flat[row, energies.isfinite()]
            assert len(known.unique(dim=0)) == len(known), "an answer is given twice"
