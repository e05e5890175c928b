import pytest
import torch

import energeia as en


def test_the_gradient_is_that_of_the_squared_distance_from_the_target():
    torch.manual_seed(0)
    rbm = en.RBM(5, 3, weight_scale=0.7, hidden_bias=-0.3, centred=False).double()
    x = en.Binary(5).start(7, torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = en.ContrastiveDivergence(en.BlockGibbs(), 1)
    sparse = en.Sparse(plain, target=0.1, strength=0.4)
    gradients = []
    for objective in (plain, sparse):
        loss = objective(rbm, en.Batch(x), torch.Generator().manual_seed(2))
        gradients.append(torch.autograd.grad(loss.value, [rbm.weight, rbm.hidden_bias]))
    p = (x @ rbm.weight + rbm.hidden_bias).sigmoid().detach()
    outer = 2 * 0.4 * (p.mean(0) - 0.1)
    slope = p * (1 - p) * outer / len(x)
    torch.testing.assert_close(gradients[1][0] - gradients[0][0], x.T @ slope, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients[1][1] - gradients[0][1], slope.sum(0), rtol=1e-10, atol=1e-12)


def test_wrong_arguments_and_energies_without_hidden_units_are_told():
    plain = en.PersistentCD(en.BlockGibbs(), 1)
    with pytest.raises(en.InputError, match="strength"):
        en.Sparse(plain, strength=0.0)
    with pytest.raises(en.InputError, match="target"):
        en.Sparse(plain, target=float("nan"))
