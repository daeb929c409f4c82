"""Which frames are given and which are scored, on clips whose cuts and repeats are known."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vae4d.clips.clip import Clip
from vae4d.errors import ClipError, ConfigError
from vae4d.evaluation.pairs import CHAIN, pairs_of


def make_clip(count: int, cuts=(), duplicates=(), times=None) -> Clip:
    times = np.arange(count) / 25 if times is None else np.asarray(times, float)
    frames = np.zeros((count, 16, 16, 3), np.uint8)
    return Clip("c", Path("c"), "test", Fraction(25), frames, times, tuple(cuts), tuple(duplicates), "0", Path("c"))


def test_one_grid_over_the_whole_clip_whatever_its_cuts():
    clip = make_clip(11, cuts=[3])
    assert [pair.start for pair in pairs_of(clip, 2)] == [0, 2, 4, 6, 8]
    assert [pair.start for pair in pairs_of(clip, 4)] == [0, 4]  # frames 9 and 10 are behind the last whole pair
    assert [pair.numbers for pair in pairs_of(clip, 4)] == [(1, 2, 3), (5, 6, 7)]
    assert pairs_of(make_clip(10), 9)[0].numbers == tuple(range(1, 9))


@pytest.mark.parametrize(("cut", "flagged"), [(1, [0]), (4, [0]), (5, [4]), (8, [4]), (9, [])])
def test_a_pair_is_across_a_cut_where_its_frames_lie_in_two_shots(cut, flagged):
    assert [pair.start for pair in pairs_of(make_clip(10, cuts=[cut]), 4) if pair.cut] == flagged


def test_repeats_are_flagged_where_the_truth_is_another_frame():
    first, second = pairs_of(make_clip(9, duplicates=[2, 8]), 4)
    assert first.repeated == (False, True, False)
    assert second.repeated == (False, False, True)  # given frame 8 shows frame 7 again
    assert pairs_of(make_clip(9, duplicates=[4]), 4)[1].repeated == (False, False, False)  # it repeats a frame of the pair before


def test_moments_follow_the_time_stamps():
    assert pairs_of(make_clip(9), 4)[1].times == (0.25, 0.5, 0.75)
    assert pairs_of(make_clip(5, times=[0, 1, 2, 6, 10]), 4)[0].times == (0.1, 0.2, 0.6)


@pytest.mark.parametrize("limit", [1, 5, 12, 16, 30, 39])
def test_a_limit_takes_chains_spread_over_the_clip(limit):
    starts = [pair.start for pair in pairs_of(make_clip(81), 2, limit)]
    assert len(starts) == limit == len(set(starts)) and starts == sorted(starts)
    chains = 1 + sum(b - a > 2 for a, b in pairwise(starts))
    assert chains <= -(-limit // CHAIN)
    if limit > CHAIN:
        assert (starts[0], starts[-1]) == (0, 78)


def test_a_limit_above_the_number_of_pairs_takes_all():
    assert pairs_of(make_clip(9), 2, 4) == pairs_of(make_clip(9), 2, 100) == pairs_of(make_clip(9), 2)


def test_what_cannot_be_scored_is_said():
    with pytest.raises(ClipError, match=r"Clip 'c' has 4 frames, gap 4 needs 5: choose a smaller gap or a longer clip"):
        pairs_of(make_clip(4), 4)
    with pytest.raises(ConfigError, match="gap is 1: "):
        pairs_of(make_clip(9), 1)
    with pytest.raises(ConfigError, match="limit is 0: "):
        pairs_of(make_clip(9), 2, 0)
