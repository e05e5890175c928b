import pytest
import torch

import energeia as en
from energeia.objectives import Replay


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _take(replay, num, generator):
    return replay.take(num, en.Real(1), generator, dtype=torch.float32)


def test_each_chain_goes_back_to_its_slot_and_no_line_of_descent_is_lost():
    replay, generator = Replay(100), _generator()
    _take(replay, 100, generator)
    replay.x = torch.arange(100.0).unsqueeze(1)
    for _ in range(200):
        slots, x = _take(replay, 10, generator)
        assert len(slots.unique()) == 10
        # A move far smaller than the distance of two lineages.
        replay.put(slots, x + 1e-4)
    assert replay.x.round().unique().tolist() == list(range(100))
    torch.testing.assert_close(replay.x.flatten() - torch.arange(100.0), replay.age * 1e-4, atol=2e-4, rtol=0)
    assert int(replay.age.sum()) == 2000
    # Every slot is reached: 20 visits expected, sd about 4.2.
    assert int(replay.age.min()) > 0
    assert int(replay.age.max()) < 45


def test_fresh_share_restarts_chains_and_their_age():
    replay, generator = Replay(2000, fresh=0.25), _generator()
    _take(replay, 2000, generator)
    replay.x = torch.full((2000, 1), 50.0)
    replay.age.fill_(7)
    slots, x = _take(replay, 2000, generator)
    restarted = x[:, 0] < 40
    assert pytest.approx(restarted.float().mean().item(), abs=5 * (0.25 * 0.75 / 2000) ** 0.5) == 0.25
    torch.testing.assert_close(replay.age[slots] == 0, restarted)


def test_eval_mode_leaves_the_buffer_as_it_was():
    replay = Replay(20, fresh=0.5).eval()
    _take(replay, 5, _generator())
    assert replay.x.numel() == 0
    replay.train()
    _take(replay, 5, _generator())
    replay.eval()
    before = {name: value.clone() for name, value in replay.state_dict().items()}
    _take(replay, 5, _generator(1))
    for name, value in replay.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_state_survives_a_checkpoint_of_any_shape_and_dtype():
    replay = Replay(7)
    replay.take(3, en.Box((2, 2)), _generator(), dtype=torch.float64)
    other = Replay(7)
    other.load_state_dict(replay.state_dict())
    torch.testing.assert_close(other.x, replay.x)
    assert other.x.dtype == torch.float64


@pytest.mark.parametrize("arguments", [{"capacity": 0}, {"capacity": 5, "fresh": 1.5}, {"capacity": 5, "fresh": -0.1}])
def test_replay_refuses_what_does_not_fit(arguments):
    with pytest.raises(en.InputError):
        Replay(**arguments)


def test_more_chains_than_slots_are_refused():
    with pytest.raises(en.InputError, match="raise capacity"):
        _take(Replay(5), 6, _generator())
