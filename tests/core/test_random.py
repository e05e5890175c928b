import torch

import energeia as en


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
