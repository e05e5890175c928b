import pytest
import torch
from scipy import stats

import energeia as en
from energeia.core.random import random_bits, uniform_from_bits


def _draw(stream):
    return torch.rand(4, generator=stream)


def test_streams_differ_from_each_other_and_repeat_with_the_seed():
    names = ("init", "data", "chains", "noise")
    values = [_draw(en.Streams(3)[name]) for name in names]
    assert len({tuple(value.tolist()) for value in values}) == 4
    for name, value in zip(names, values, strict=True):
        torch.testing.assert_close(_draw(en.Streams(3)[name]), value)
        assert not torch.equal(_draw(en.Streams(4)[name]), value)


def test_chains_and_noise_differ_between_ranks_and_the_others_do_not():
    first, second = en.Streams(3, rank=0), en.Streams(3, rank=1)
    same = {name: torch.equal(_draw(first[name]), _draw(second[name])) for name in ("init", "data", "chains", "noise")}
    assert same == {"init": True, "data": True, "chains": False, "noise": False}


def test_streams_continue_from_a_saved_state():
    streams = en.Streams(3)
    _draw(streams["noise"])
    state = streams.state_dict()
    expected = _draw(streams["noise"])
    other = en.Streams(99)
    other.load_state_dict(state)
    torch.testing.assert_close(_draw(other["noise"]), expected)


def test_drawing_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    en.sample(en.Gaussian(2), en.MALA(step_size=0.5), num_chains=5, num_steps=3)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_become_uniforms(dtype):
    generator = torch.Generator().manual_seed(5)
    uniform = uniform_from_bits(random_bits((1000, 201), generator, dtype=dtype))
    assert uniform.dtype == dtype
    assert stats.kstest(uniform.flatten().double().numpy(), "uniform").pvalue > 1e-6
    # Neighbours in a row come from one draw and must not know of each other.
    left, right = uniform[:, 0:200:2].flatten().double(), uniform[:, 1:201:2].flatten().double()
    correlation = torch.corrcoef(torch.stack([left, right]))[0, 1]
    assert abs(correlation) < 5 / 100_000**0.5
    assert len(uniform[0].unique()) == 201


def test_every_bit_pattern_has_its_uniform():
    ends = torch.tensor([-(2**31), -256, -1, 0, 255, 256, 2**31 - 1], dtype=torch.int32)
    expected = torch.tensor([0.0, 0.5 - 2**-24, 0.5 - 2**-24, 0.5, 0.5, 0.5 + 2**-24, 1 - 2**-24])
    assert torch.equal(uniform_from_bits(ends), expected)
    ends = torch.tensor([-(2**63), -1, 0, 2**63 - 1])
    expected = torch.tensor([0.0, 0.5 - 2**-53, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert torch.equal(uniform_from_bits(ends), expected)
