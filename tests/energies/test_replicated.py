"""Replicated softmax against sums over all documents and hidden bits."""

import itertools

import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.samplers import BlockGibbs

K, J = 3, 2


def _machine(total=4, least=None):
    machine = en.ReplicatedSoftmax(en.Counts(K, total, least), J).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return machine


def _sequences(total):
    """Every document of so many words as one-hot words `[N, D, K]`."""
    words = torch.tensor(list(itertools.product(range(K), repeat=total)))
    return torch.nn.functional.one_hot(words, K).double()


def _bits():
    return en.Binary(J).enumerate(0, 2**J, dtype=torch.float64, device=torch.device("cpu"))


def _joint(machine, words, h):
    """E(V, h) `[V, H]` of the paper, word by word: -sum_dkj V_dk W_kj h_j - sum_dk V_dk b_k - D sum_j c_j h_j."""
    third = torch.einsum("vdk,kj,hj->vh", words, machine.weight, h)
    return -third - (words @ machine.bias).sum(1)[:, None] - words.shape[1] * (h @ machine.hidden_bias)


@pytest.mark.parametrize("total", [1, 4])
def test_the_sum_over_documents_word_by_word(total):
    machine, words, h = _machine(total), _sequences(total), _bits()
    with torch.no_grad():
        joint = _joint(machine, words, h)
        x = words.sum(1)
        torch.testing.assert_close(machine(x), -(-joint).logsumexp(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(machine.transform(x), (-joint).softmax(1) @ h, rtol=1e-11, atol=1e-12)
        back = machine.visible.mean(machine.visible_parameters(h))
        torch.testing.assert_close(back, (-joint).softmax(0).T @ x, rtol=1e-11, atol=1e-12)
        log_z = (-joint).flatten().logsumexp(0)
        nodes, log_orders = integration_nodes(machine.space)
        torch.testing.assert_close((log_orders - machine(nodes)).logsumexp(0), log_z, rtol=1e-12, atol=0)
        torch.testing.assert_close(machine.log_z().value, log_z, rtol=1e-12, atol=0)
        torch.testing.assert_close(machine.log_probability(x), (-joint).logsumexp(1) - log_z, rtol=1e-12, atol=1e-12)


def test_documents_of_various_lengths():
    machine = _machine(4, least=1)
    rows = torch.tensor([[1.0, 0, 0], [0, 2, 2], [1, 0, 1], [0, 0, 4]], dtype=torch.float64)
    expected = torch.cat([machine.of_length(int(row.sum())).log_probability(row[None]) for row in rows])
    torch.testing.assert_close(machine.log_probability(rows), expected, rtol=1e-13, atol=0)
    for total in (1, 2, 4):
        nodes, log_orders = integration_nodes(en.Counts(K, total))
        assert (machine.log_probability(nodes) + log_orders).logsumexp(0).abs() < 1e-12
    # One set of parameters.
    other = machine.of_length(3)
    with torch.no_grad():
        machine.bias.add_(1)
    assert other.bias is machine.bias
    assert machine.capability(en.Tractable) is None
    assert other.capability(en.Tractable) is not None
    with pytest.raises(en.InputError, match=r"of_length\(D\)"):
        machine.log_z()
    with pytest.raises(en.InputError, match="ContrastiveDivergence"):
        en.sample(machine, BlockGibbs(), num_chains=2, num_steps=1)


def test_gradient_of_the_exact_likelihood():
    machine = _machine()
    x, log_orders = integration_nodes(machine.space)
    data = x[torch.tensor([0, 2, 2, 7, 11])]
    words = _sequences(4)
    loss = machine(data).mean() + (-_joint(machine, words, _bits())).flatten().logsumexp(0)
    wanted = torch.autograd.grad(loss, list(machine.parameters()))
    with torch.no_grad():
        p = (log_orders - machine(x)).softmax(0)
    parts = [machine.contrast(data, node[None])[2] for node in x]
    for index, gradient in enumerate(wanted):
        found = sum(share * part[index] for share, part in zip(p, parts, strict=True))
        torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-10)
    exact = en.ExactLikelihood()(machine, en.Batch(data), torch.Generator()).value
    for found, gradient in zip(torch.autograd.grad(exact, list(machine.parameters())), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("total", [2, 4])
def test_block_gibbs_has_the_transition_matrix_of_the_conditionals(total):
    """Both ways of drawing: the matrix from the joint energies leaves p unchanged, and steps follow it."""
    machine, words, h = _machine(total), _sequences(total), _bits()
    nodes, log_orders = integration_nodes(machine.space)
    code = 10.0 ** torch.arange(K).double()
    order = (nodes @ code).sort()
    which = order.indices[torch.searchsorted(order.values, words.sum(1) @ code)]
    with torch.no_grad():
        joint = -_joint(machine, words, h)
        # p(h|V) p(V'|h), summed over the documents V' of each vector of counts.
        onto = torch.zeros(len(nodes), len(h)).double().index_add_(0, which, joint.softmax(0))
        to_hidden = torch.zeros(len(nodes), len(h)).double()
        to_hidden[which] = joint.softmax(1)
        target = (log_orders - machine(nodes)).softmax(0)
    matrix = to_hidden @ onto.T
    torch.testing.assert_close(target @ matrix, target, rtol=1e-12, atol=1e-14)
    flow = target[:, None] * matrix
    torch.testing.assert_close(flow, flow.T, rtol=1e-11, atol=1e-14)
    generator, repeats = torch.Generator().manual_seed(5), 20_000
    sampler, statistic, freedom = BlockGibbs(), 0.0, 0
    for row, x in enumerate(nodes):
        state = sampler.init(machine, x.expand(repeats, -1))
        after, _ = sampler.step(machine, state, sampler.draw(state, generator))
        place = order.indices[torch.searchsorted(order.values, after.x @ code)]
        counts, expected = torch.bincount(place, minlength=len(nodes)), repeats * matrix[row]
        often = expected >= 5
        gap = counts[often] - expected[often]
        statistic += float((gap.square() / expected[often]).sum())
        rest = float(expected[~often].sum())
        if rest > 1:
            statistic += (float(counts[~often].sum()) - rest) ** 2 / rest
        freedom += int(often.sum()) - (rest <= 1)
    assert stats.chi2.sf(statistic, freedom) > 3e-7


def test_chains_keep_the_length_of_their_documents():
    machine = _machine(6, least=1)
    start = torch.tensor([[1.0, 0, 0], [1, 2, 3], [0, 0, 4]], dtype=torch.float64)
    draws = en.sample(machine, BlockGibbs(), start=start, num_steps=30, keep="all")
    assert bool((draws.kept.sum(2) == start.sum(1)).all())
    assert len(draws.kept[:, 1].unique(dim=0)) > 5


def test_annealing_and_tempering_find_what_is_exact():
    machine = _machine(5)
    exact = machine.log_z().value
    lower = en.ais(machine, num_chains=400, levels=200, generator=1)
    upper = en.reverse_ais(machine, machine.sample_exact(400, torch.Generator().manual_seed(4)), levels=200)
    for estimate in (lower, upper):
        assert estimate.standard_error < 0.02
        assert (estimate.value - exact).abs() < 5 * estimate.standard_error
    # Heated documents: the multinomial measure is not heated with the energy.
    x, log_orders = integration_nodes(machine.space)
    ladder = en.ParallelTempering(BlockGibbs(), (1.0, 2.0))
    draws = en.sample(machine, ladder, num_chains=2000, num_steps=25, generator=0).x
    with torch.no_grad():
        p = (log_orders - machine(x)).softmax(0)
    for rows in (draws, machine.sample_exact(20_000, torch.Generator().manual_seed(1))):
        assert ((rows.mean(0) - p @ x).abs() < 5 * rows.std(0) / len(rows) ** 0.5).all()
        assert ((rows.square().mean(0) - p @ x.square()).abs() < 5 * rows.square().std(0) / len(rows) ** 0.5).all()


@pytest.mark.slow
def test_documents_of_various_lengths_are_learned():
    """Two exclusive topics: at every length the machine is nearer the truth than the best single set of frequencies."""
    generator = torch.Generator().manual_seed(0)
    topics = torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04], [0.04, 0.06, 0.1, 0.3, 0.5]])
    lengths = torch.randint(3, 13, (4000,), generator=generator)
    rows = topics[torch.randint(2, (4000,), generator=generator)]
    words = [torch.multinomial(p, int(n), True, generator=generator) for p, n in zip(rows, lengths, strict=True)]
    data = torch.stack([torch.bincount(document, minlength=5) for document in words]).float()
    torch.manual_seed(0)
    machine = en.ReplicatedSoftmax(en.Counts(5, 12, least=3), 2, frequencies=data.mean(0), weight_scale=0.1)
    en.fit(
        machine, en.ContrastiveDivergence(en.BlockGibbs(), 5), data[:3000], num_steps=800, batch_size=200,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01), progress=False,
    )  # fmt: skip
    held = data[3000:]
    truth = (held.double() @ topics.double().log().T).logsumexp(1) - torch.tensor(2.0).log()
    unigram = held.double() @ (data[:3000].sum(0) / data[:3000].sum()).log().double()
    found = machine.log_probability(held)
    length = held.sum(1)
    assert float((truth - unigram).sum() / length.sum()) > 0.15
    for part in (length < 8, length >= 8):
        assert float((truth - found)[part].sum()) < 0.2 * float((truth - unigram)[part].sum())


def test_wrong_arguments_say_what_would_be_right():
    with pytest.raises(en.InputError, match="Counts"):
        en.ReplicatedSoftmax(en.Binary(3), 2)
    with pytest.raises(en.InputError, match="not all 0"):
        en.ReplicatedSoftmax(en.Counts(3, 2), 2, frequencies=torch.zeros(3))
    with pytest.raises(en.InputError, match="too many to list"):
        en.ReplicatedSoftmax(en.Counts(3, 2), 21).log_probability(torch.tensor([[1.0, 1.0, 0.0]]))
