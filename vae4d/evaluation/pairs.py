"""Which frames are given and which are scored: one grid of pairs over a whole clip.

The given frames are 0, gap, 2 gap, ...; two neighbours on that grid are a pair, and every frame between them is wanted. Frames behind
the last whole pair are not scored. The grid ignores cuts: a pair with a cut in (start, start + gap] is no interpolation problem and is
flagged, not moved, so that the row with cuts included is the one that others publish. Moments come from the clip's time stamps.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from ..clips.clip import Clip
from ..errors import ClipError, ConfigError

CHAIN = 4  # pairs that follow each other where not all are taken


@dataclass(frozen=True)
class PairIndex:
    """A pair by its frame numbers: frames `start` and `start + gap` are given, `numbers` are wanted."""

    start: int
    numbers: tuple[int, ...]
    times: tuple[float, ...]  # t in (0, 1) of each number
    cut: bool  # the two given frames lie in different shots
    repeated: tuple[bool, ...]  # the wanted frame shows again a neighbour (see `pairs_of`)


def pairs_of(clip: Clip, gap: int, limit: int | None = None) -> list[PairIndex]:
    """The pairs of a clip at one gap, in order.

    A wanted frame counts as repeated where it shows the frame before it again, or where the second given frame shows it again: its
    truth is then another frame's, often a given one's.

    Args:
        gap: distance between the given frames in source frames, at least 2.
        limit: at most that many pairs, for a quick look; None takes all. They are chains of up to `CHAIN` pairs spread evenly over the
            clip: single pairs would be unfair to a method that reads a sequence, and the first ones alone may show one shot.
    Raises:
        ConfigError: gap below 2, limit below 1.
        ClipError: the clip is too short for one pair.
    """
    if gap < 2:
        raise ConfigError(f"gap is {gap}: the given frames are at least 2 source frames apart, so that one lies between them.")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: score at least one pair a clip, or leave it out for all.")
    starts = list(range(0, len(clip) - gap, gap))
    if not starts:
        raise ClipError(f"Clip {clip.name!r} has {len(clip)} frames, gap {gap} needs {gap + 1}: choose a smaller gap or a longer clip.")
    if limit is not None and len(starts) > limit:
        starts = _chains(starts, limit)
    cuts, duplicates, times = sorted(clip.cuts), set(clip.duplicates), clip.times
    pairs = []
    for start in starts:
        end = start + gap
        numbers = tuple(range(start + 1, end))
        # rounded, so that the middle is 0.5 and not a hair beside it, where the nearer frame would be another
        moments = tuple(round(float((times[i] - times[start]) / (times[end] - times[start])), 9) for i in numbers)
        repeated = tuple(i in duplicates or (i + 1 == end and end in duplicates) for i in numbers)
        cut = bisect_right(cuts, start) < bisect_right(cuts, end)
        pairs.append(PairIndex(start, numbers, moments, cut, repeated))
    return pairs


def _chains(starts: list[int], limit: int) -> list[int]:
    """`limit` of the starts, in chains of nearly equal length, the first and the last at the ends (a single one in the middle)."""
    count, spare = -(-limit // CHAIN), len(starts) - limit
    kept = []
    for chain in range(count):
        skipped = round(spare * chain / (count - 1)) if count > 1 else spare // 2
        kept += [starts[skipped + i] for i in range(limit * chain // count, limit * (chain + 1) // count)]
    return kept
