"""The network for sequences."""

import pytest
import torch

import energeia as en


def _words(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _net(shape, **options):
    torch.manual_seed(0)
    return en.SequenceNet(shape, 5, hidden=6, **options).double()


@pytest.mark.parametrize("shape", [(4, 7), (4, 8, 6), (4, 3, 8, 6)], ids=["vectors", "pictures", "colours"])
def test_without_context_every_site_is_answered_alone(shape):
    net, x = _net(shape), _words(3, *shape)
    alone = torch.cat([net(x[:, place : place + 1]) for place in range(4)], 1)
    torch.testing.assert_close(net(x), alone)
    assert not torch.allclose(net(x)[:, 0], net(x)[:, 1])


def test_with_context_a_site_sees_so_many_neighbours_and_no_more():
    net, x = _net((7, 8, 6), context=2), _words(1, 7, 8, 6)
    moved = x.clone()
    moved[:, 6] += 0.5
    changed = (net(moved) != net(x)).any(2)
    assert changed.tolist() == [[False, False, False, False, True, True, True]]


@pytest.mark.parametrize("context", [0, 1])
def test_what_stands_after_the_end_changes_nothing(context):
    net, x = _net((5, 8, 6), context=context), _words(2, 5, 8, 6)
    x[0, 3:] = 0.0
    torch.testing.assert_close(net(x)[:1, :3], net(x[:1, :3]))
    # A chain shows zeros in the place of the padding, whatever that is.
    padded = x.clone()
    padded[0, 3:] = -1.0
    chain = en.LinearChain(net, en.Real((5, 8, 6)), 5, padding=-1.0)
    field = en.given(chain, context=padded)
    torch.testing.assert_close(field.unary[0, :3], net(x[:1, :3])[0])
    torch.testing.assert_close(field.unary[1], net(x[1:])[0])


def test_a_shape_that_is_no_sequence_is_told():
    with pytest.raises(en.InputError, match=r"event_shape is \(T, features\)"):
        en.SequenceNet((7,), 5)
