"""Objectives of a grid of labels, whose log Z no message gives: values and gradients against all labellings listed."""

import pytest
import torch
from torch import nn

import energeia as en
from energeia.search import all_energies

SITES, NUM_LABELS = (2, 3), 3


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class _Unary(nn.Module):
    """A linear map of x `[B, 4]` to the terms `[B, 2, 3, K]`."""

    def __init__(self, num_labels):
        super().__init__()
        self.weight = nn.Parameter(0.7 * _random(4, *SITES, num_labels))

    def forward(self, x):
        return torch.einsum("bf,fhwk->bhwk", x, self.weight)


def _present(x):
    return torch.stack([x[:, 0] > 0, x[:, 0] > -9, x[:, 1] > 0, x[:, 1] > -9, x[:, 2] > 0, x[:, 3] > 0], 1).view(
        -1, 2, 3
    )


def _crf(num_labels=NUM_LABELS, *, joint="table", masked=False):
    edges, kinds = en.lattice(*SITES)
    crf = en.PairwiseCRF(
        _Unary(num_labels),
        en.Real(4),
        num_labels,
        sites=SITES,
        edges=edges,
        kinds=kinds,
        joint=joint,
        present=_present if masked else None,
    ).double()
    with torch.no_grad():
        crf.couplings.copy_(_random(*crf.couplings.shape, seed=2))
        if joint == "potts":
            crf.couplings.abs_()
    return crf


def _batch(num_labels=NUM_LABELS, rows=4):
    y = torch.randint(num_labels, (rows, *SITES), generator=torch.Generator().manual_seed(5))
    return en.Batch(_random(rows, 4, seed=3), y)


def _gradients(value, energy):
    return torch.autograd.grad(value, list(energy.parameters()), retain_graph=True)


def _compare(objective, energy, batch, expected):
    value = objective(energy, batch, torch.Generator().manual_seed(0)).value
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    for found, right in zip(_gradients(value, energy), _gradients(expected, energy), strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-10)


def _energy_by_hand(crf, x, y):
    """E(x_b, y_b) of label numbers `[B, 2, 3]`, from the definition; sites that are not there cost nothing."""
    unary, labels = crf.network(x).flatten(1, 2), y.flatten(1)
    there = torch.ones_like(labels, dtype=torch.bool) if crf.present(x) is None else crf.present(x).flatten(1)
    rows, value = torch.arange(len(x)), torch.zeros(len(x), dtype=torch.float64)
    for site in range(6):
        value = value - there[:, site] * unary[rows, site, labels[:, site]]
    for kind, (first, second) in zip(crf.structure.kinds.tolist(), crf.structure.edges.tolist(), strict=True):
        table = crf.couplings[kind]
        table = table if table.dim() else table * torch.eye(crf.num_labels, dtype=torch.float64)
        value = value - (there[:, first] & there[:, second]) * table[labels[:, first], labels[:, second]]
    return value


@pytest.mark.parametrize("joint", ["table", "potts"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_labels", [2, 3])
def test_pseudo_likelihood_given_x(joint, masked, num_labels):
    """-sum_i log p(y_i | other y, x) over the sites that are there, each by its K energies."""
    crf, batch = _crf(num_labels, joint=joint, masked=masked), _batch(num_labels)
    there = crf.present(batch.x)
    there = torch.ones(4, 6) if there is None else there.flatten(1)
    total = torch.zeros(4, dtype=torch.float64)
    for site in range(6):
        levels = []
        for label in range(num_labels):
            y = batch.y.flatten(1).clone()
            y[:, site] = label
            levels.append(-_energy_by_hand(crf, batch.x, y.view(-1, *SITES)))
        chances = torch.stack(levels, 1).log_softmax(1)
        total = total - there[:, site] * chances.gather(1, batch.y.flatten(1)[:, site : site + 1]).squeeze(1)
    _compare(en.Conditioned(en.PseudoLikelihood()), crf, batch, total.mean())


def test_pseudo_likelihood_of_any_function_of_x_and_y():
    """Without natural parameters every change of a site is evaluated, in the row it belongs to."""
    crf, batch = _crf(), _batch()

    class Function(nn.Module):
        def __init__(self):
            super().__init__()
            self.crf = crf

        def forward(self, x, y):
            return en.given(self.crf, context=x)(y)

    pair = en.from_pair(Function(), en.Real(4), en.Categorical(SITES, NUM_LABELS))
    generator = torch.Generator()
    found = en.Conditioned(en.PseudoLikelihood())(pair, batch, generator).value
    expected = en.Conditioned(en.PseudoLikelihood())(crf, batch, generator).value
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for one, other in zip(_gradients(found, crf), _gradients(expected, crf), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("search", [None, en.MinimumCut(), en.Elimination()])
def test_hinge_and_perceptron_with_exact_searches(search):
    crf, batch = _crf(2, joint="potts"), _batch(2)
    field = en.given(crf, context=batch.x)
    states = field.space.enumerate(0, 64, dtype=torch.float64, device=torch.device("cpu"))
    levels, right = all_energies(field, states), _energy_by_hand(crf, batch.x, batch.y)
    wrong = (states.argmax(-1).unsqueeze(0) != batch.y.unsqueeze(1)).flatten(2).sum(2).double()
    _compare(en.Perceptron(search=search), crf, batch, (right - levels.amin(1)).mean())
    for scale in (1.0, 0.3):
        expected = (right - (levels - scale * wrong).amin(1)).mean()
        _compare(en.StructuredHinge(scale=scale, search=search), crf, batch, expected)


def test_hinge_with_the_cut_where_sites_are_missing():
    crf, batch = _crf(2, joint="potts", masked=True), _batch(2)
    there = crf.present(batch.x)
    field = en.given(crf, context=batch.x)
    states = field.space.enumerate(0, 64, dtype=torch.float64, device=torch.device("cpu"))
    levels, right = all_energies(field, states), _energy_by_hand(crf, batch.x, batch.y)
    wrong = ((states.argmax(-1).unsqueeze(0) != batch.y.unsqueeze(1)) & there.unsqueeze(1)).flatten(2).sum(2).double()
    expected = (right - (levels - wrong).amin(1)).mean()
    _compare(en.StructuredHinge(search=en.MinimumCut()), crf, batch, expected)


def _after_sweeps(field, y, num_sweeps):
    """p of each state `[S]` after Gibbs sweeps over two colours from y, by sums over all states."""
    space = field.space
    states = space.enumerate(0, space.num_states, dtype=torch.float64, device=torch.device("cpu"))
    chances = (-all_energies(field, states)[0]).softmax(0)
    flat = states.argmax(-1).flatten(1)
    now = (flat == y.flatten()).all(1).double()
    for _ in range(num_sweeps):
        for colour in range(field.num_blocks):
            numbers = torch.arange(6.0).view(1, *SITES, 1).expand(1, *SITES, space.num_categories)
            own = field.split(numbers)[colour][0, :, 0].long().tolist()
            rest = [site for site in range(6) if site not in own]
            _, group = flat[:, rest].unique(dim=0, return_inverse=True)
            size = int(group.max()) + 1
            mass = torch.zeros(size, dtype=torch.float64).index_add(0, group, now)
            whole = torch.zeros(size, dtype=torch.float64).index_add(0, group, chances)
            now = (mass / whole)[group] * chances
    return states, now


@pytest.mark.parametrize("num_steps", [1, 3])
def test_contrastive_divergence_given_x(num_steps):
    """Its mean gradient is that of E(x, y) - E[E(x, y')] with y' k sweeps away, whose law is summed over all states."""
    crf, rows = _crf(2), 20_000
    x, y = _random(1, 4, seed=3), torch.tensor([[[0, 1, 1], [1, 0, 0]]])
    field = en.given(crf, context=x)
    states, chances = _after_sweeps(field, y, num_steps)
    expected = _gradients(_energy_by_hand(crf, x, y)[0] - chances.detach() @ all_energies(field, states)[0], crf)
    objective = en.Conditioned(en.ContrastiveDivergence(en.Gibbs(), num_steps))
    batch = en.Batch(x.expand(rows, -1), y.expand(rows, -1, -1))
    found = _gradients(objective(crf, batch, torch.Generator().manual_seed(1)).value, crf)
    # A row's gradient by a number of E is a count times x or 1, of spread at most half its range.
    for one, right, most in zip(found, expected, (float(x.abs().max()), 4.0), strict=True):
        assert float((one - right).abs().max()) < 5 * most / 2 / rows**0.5
    assert max(float(right.abs().max()) for right in expected) > 0.2


def test_contrastive_divergence_where_sites_are_missing():
    """Sites that are not there stay zeros, and rows keep their own x."""
    crf, batch = _crf(masked=True), _batch()
    field = en.given(crf, context=batch.x)
    there = crf.present(batch.x)
    y = torch.nn.functional.one_hot(batch.y, NUM_LABELS).double() * there.unsqueeze(-1)
    objective = en.ContrastiveDivergence(en.Gibbs(), 2)
    negatives, _ = objective.negatives(field, en.Batch(y), torch.Generator().manual_seed(0))
    assert torch.equal(negatives.sum(-1), there.double())
    whole = en.Conditioned(objective)(crf, batch, torch.Generator().manual_seed(0))
    expected = (field(y) - field(negatives)).mean()
    torch.testing.assert_close(whole.value, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", ["pseudo", "cd", "hinge"])
def test_a_grid_is_learnt_by_fit(make):
    """Couplings of labels drawn exactly from a known field come back; a hinge gets as few labels wrong as the truth."""
    truth = _crf(2, joint="potts")
    x = _random(2_000, 4, seed=8)
    field = en.given(truth, context=x)
    states = field.space.enumerate(0, 64, dtype=torch.float64, device=torch.device("cpu"))
    with torch.no_grad():
        chances = (-all_energies(field, states)).softmax(1)
    draws = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(9)).squeeze(1)
    y = states[draws].argmax(-1)
    model = _crf(2, joint="potts")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    objective = {
        "pseudo": en.Conditioned(en.PseudoLikelihood()),
        "cd": en.Conditioned(en.ContrastiveDivergence(en.Gibbs(), 2)),
        "hinge": en.StructuredHinge(search=en.Enumeration()),
    }[make]
    en.fit(
        model,
        objective,
        (x, y),
        num_steps=150,
        batch_size=250,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05),
        progress=False,
    )
    if make == "hinge":
        wrong = [float((en.predict(each, x).answers != y).double().mean()) for each in (model, truth)]
        assert wrong[0] < wrong[1] + 0.01
    else:
        torch.testing.assert_close(model.couplings, truth.couplings, rtol=0, atol=0.15)


def test_a_site_that_is_there_needs_a_label():
    """Zeros pass for a label only where the row lacks the site."""
    crf, batch = _crf(masked=True), _batch()
    field, there = en.given(crf, context=batch.x), crf.present(batch.x)
    y = torch.nn.functional.one_hot(batch.y, NUM_LABELS).double() * there.unsqueeze(-1)
    y[2, 0, 1] = 0.0
    assert bool(there[2, 0, 1])
    for objective in (en.PseudoLikelihood(), en.ContrastiveDivergence(en.Gibbs(), 1)):
        with pytest.raises(en.InputError, match=r"1 of 4 rows lie outside.*row 2"):
            objective(field, en.Batch(y), torch.Generator())
