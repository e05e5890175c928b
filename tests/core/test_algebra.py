import math

import pytest
import torch
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

import energeia as en
from energeia.core.nodes import integration_nodes

X = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)


def _gaussian(mean, scale):
    return en.Gaussian(
        1, mean=torch.tensor([mean], dtype=torch.float64), scale=torch.tensor(scale, dtype=torch.float64)
    )


@settings(max_examples=30, deadline=None)
@cases(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 2), st.floats(-2, 2))
def test_sums_and_scalings_obey_the_laws(mean_a, mean_b, alpha, beta):
    a, b = _gaussian(mean_a, 1.0), _gaussian(mean_b, 0.5)
    torch.testing.assert_close((a + b)(X), (b + a)(X))
    torch.testing.assert_close((alpha * (a + b))(X), (alpha * a + alpha * b)(X))
    torch.testing.assert_close((alpha * (beta * a))(X), ((alpha * beta) * a)(X))
    torch.testing.assert_close((a - b)(X), a(X) - b(X))
    torch.testing.assert_close(en.without(a, b, weight=0.3)(X), a(X) - 0.3 * b(X))


def test_product_of_gaussians_is_the_gaussian_with_added_precisions():
    a, b = _gaussian(1.0, 1.0), _gaussian(-2.0, 0.5)
    mean, precision = (1.0 * 1 + -2.0 * 4) / 5, 5.0
    expected = precision * (X[:, 0] - mean) ** 2 / 2
    difference = (a + b)(X) - expected
    torch.testing.assert_close(difference, difference[0].expand_as(difference))


def test_any_of_is_the_mixture_with_its_weights():
    a, b = _gaussian(1.0, 1.0), _gaussian(-2.0, 0.5)
    expected = -(0.3 * (-a(X)).exp() + 0.7 * (-b(X)).exp()).log()
    torch.testing.assert_close(en.any_of(a, b, weights=[0.3, 0.7])(X), expected)
    z = en.exact_log_z(en.any_of(a, b, weights=[0.3, 0.7])).value
    assert z.item() == pytest.approx(
        math.log(0.3 * math.sqrt(2 * math.pi) + 0.7 * 0.5 * math.sqrt(2 * math.pi)), abs=1e-8
    )


def test_any_of_does_not_overflow_where_one_energy_is_huge():
    far = _gaussian(1e4, 1e-2)
    near = _gaussian(0.0, 1.0)
    torch.testing.assert_close(en.any_of(far, near)(X), near(X))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_any_of_refuses_weights_that_are_none(weights):
    with pytest.raises(en.InputError, match="one positive weight"):
        en.any_of(_gaussian(0.0, 1.0), _gaussian(1.0, 1.0), weights=weights)


def test_energies_of_different_spaces_do_not_add():
    with pytest.raises(en.InputError, match="different spaces"):
        en.Gaussian(1) + en.Gaussian(2)


def test_nan_scale_is_refused():
    with pytest.raises(en.InputError, match="finite"):
        math.nan * en.Gaussian(1)


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    return en.Classifier(nn.Linear(2, 3).double(), en.Real(2))


def test_given_label_is_the_class_energy(classifier):
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(en.given(classifier, label=2)(x), classifier.class_energies(x)[:, 2])
    labels = torch.tensor([0, 1, 2, 1, 0])
    expected = classifier.class_energies(x)[torch.arange(5), labels]
    torch.testing.assert_close(en.given(classifier, label=labels)(x), expected)
    for wrong in (1.5, True, torch.zeros(2, 2).long()):
        with pytest.raises(en.InputError, match="class number"):
            en.given(classifier, label=wrong)
    for wrong in (3, -1):
        with pytest.raises(en.InputError, match=r"outside 0\.\.2"):
            en.given(classifier, label=wrong)


def test_a_label_for_each_chain_samples_every_class(classifier):
    labels = torch.tensor([0, 1, 2, 0, 2, 1])
    prior = en.Gaussian(2, mean=torch.zeros(2, dtype=torch.float64))
    start, sampler = torch.randn(6, 2, dtype=torch.float64), en.MALA(step_size=0.1)
    together = en.sample(en.given(classifier, label=labels) + prior, sampler, start=start, num_steps=3).x
    # The same noise for all six chains, of which those of class 2 must move as with that label alone.
    twos = en.sample(en.given(classifier, label=2) + prior, sampler, start=start, num_steps=3).x
    torch.testing.assert_close(together[labels == 2], twos[labels == 2])
    assert not torch.equal(together, twos)


def test_sum_of_a_classifier_and_a_prior_keeps_the_classes(classifier):
    prior = en.Gaussian(2, mean=torch.zeros(2, dtype=torch.float64))
    both = classifier + prior
    x = torch.randn(5, 2, dtype=torch.float64)
    classes = en.require(both, en.Classes, who="test", instead="")
    torch.testing.assert_close(-(-classes.class_energies(x)).logsumexp(1), both(x))
    assert (classifier + classifier).capability(en.Classes) is None
    assert (0.5 * classifier).capability(en.Classes) is None


def test_given_observed_is_the_conditional_density():
    precision = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    joint = en.from_module(lambda x: (x.double() @ precision * x).sum(1).to(x.dtype) / 2, en.Real(2))
    mask, values = torch.tensor([False, True]), torch.tensor([0.0, 1.5], dtype=torch.float64)
    conditional = en.given(joint, observed=(mask, values))
    assert conditional.space == en.Real(1)
    # N(-0.8 * 1.5 / 2, 1/2)
    expected = 2.0 * (X[:, 0] + 0.6) ** 2 / 2
    difference = conditional(X) - expected
    torch.testing.assert_close(difference, difference[0].expand_as(difference))
    with pytest.raises(en.InputError, match="lie outside"):
        en.given(joint, observed=(mask, torch.tensor([0.0, float("nan")], dtype=torch.float64)))
    with pytest.raises(en.InputError, match="nothing is left"):
        en.given(joint, observed=(torch.tensor([True, True]), values))


def test_given_context_binds_the_second_argument():
    class Shifted(en.Energy):
        def forward(self, x, context):
            return (x - context).square().sum(1)

    energy = en.given(Shifted(en.Real(1)), context=torch.tensor([1.0]))
    torch.testing.assert_close(energy(torch.tensor([[3.0], [1.0]])), torch.tensor([4.0, 0.0]))


def test_given_wants_exactly_one(classifier):
    with pytest.raises(en.InputError, match="exactly one"):
        en.given(classifier)
    with pytest.raises(en.InputError, match="exactly one"):
        en.given(classifier, label=1, context=torch.zeros(1))


@pytest.mark.parametrize("space", [en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)])
def test_natural_parameters_of_sums_and_scalings_by_enumeration(space):
    torch.manual_seed(2)
    first, second = (en.Independent(space, torch.randn(space.event_shape, dtype=torch.float64)) for _ in range(2))
    energy = 0.5 * first + 2.0 * second
    conditional = en.require(energy, en.Conditional, who="test", instead="")
    x, _ = integration_nodes(space)
    natural = conditional.natural_parameters(conditional.split(x), 0)
    # Independent sites: the exact marginals of the sum are those of its natural parameters.
    weights = (-energy(x)).softmax(0)
    marginal = (weights.view(-1, *[1] * (x.dim() - 1)) * x).sum(0)
    if isinstance(space, en.Categorical):
        expected = natural[0].softmax(-1)
    elif isinstance(space, en.Spin):
        expected = natural[0].tanh()
    else:
        expected = natural[0].sigmoid()
    torch.testing.assert_close(marginal, expected)
    assert en.any_of(first, second).capability(en.Conditional) is None
