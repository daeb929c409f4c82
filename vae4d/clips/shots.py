"""Cuts and repeated frames, found in one pass over prepared frames.

Both are measured by the absolute difference of a frame to the one before, in grey levels (0 to 255).
For cuts the frames are compared as 16 x 16 blocks, each with the nearest blocks before, so that motion counts little.
Hard cuts are found; dissolves and fades are not. Checked by eye on the three sample clips: 5 cuts in bikes
(30, 76, 137, 187, 242), none in the others; bigbuckbunny repeats every 25th frame (24 frames a second shown at 25).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

GRID = 16  # blocks a side
CUT_LEVEL, CUT_RATIO, CUT_REACH = 6.0, 2.2, 2
REPEAT_LEVEL, REPEAT_RATIO, REPEAT_REACH = 1.0, 3.0, 12


def find_shots(chunks: Iterable[np.ndarray]) -> tuple[list[int], list[int]]:
    """Cuts and repeats of uint8 (n, S, S, 3) chunks that follow each other, S a multiple of 16.

    Returns (cuts, repeats): frame i in cuts begins a new shot; frame i in repeats shows frame i - 1 again.
    """
    moved, strongest, last = [np.empty(0)], [np.empty(0)], None
    for chunk in chunks:
        frames = chunk if last is None else np.concatenate([last, chunk])
        n, block = len(frames), frames.shape[1] // GRID
        means = frames.reshape(n, GRID, block, GRID, block, 3).mean(axis=(2, 4), dtype=np.float32)
        moved.append(_moved(means[:-1], means[1:]))
        difference = np.abs(np.subtract(frames[1:], frames[:-1], dtype=np.int16))
        sums = difference.reshape(n - 1, GRID, block, GRID, block * 3).sum(axis=(2, 4), dtype=np.int32)
        strongest.append(sums.max(axis=(1, 2), initial=0) / (3 * block**2))
        last = chunk[-1:]
    cuts = _cuts(np.concatenate(moved))
    return cuts, _repeats(np.concatenate(strongest), cuts)


def _moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean change (n,) of block means (n, GRID, GRID, 3), each block compared with the best of its 9 neighbours before."""
    padded = np.pad(before, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = (padded[:, y : y + GRID, x : x + GRID] for y in range(3) for x in range(3))
    return np.min([np.abs(after - earlier).mean(axis=3) for earlier in shifted], axis=0).mean(axis=(1, 2))


def _cuts(change: np.ndarray) -> list[int]:
    """A cut changes the picture much more than any transition nearby; fast motion goes on, a flash comes and goes."""
    cuts = []
    for i in np.flatnonzero(change >= CUT_LEVEL):
        near = np.concatenate([change[max(0, i - CUT_REACH) : i], change[i + 1 : i + 1 + CUT_REACH]])
        if change[i] >= CUT_RATIO * max(near, default=CUT_LEVEL):
            cuts.append(int(i) + 1)
    return cuts


def _repeats(change: np.ndarray, cuts: list[int]) -> list[int]:
    """An equal frame, or one that differs by encoder noise alone while the frames around it move.

    A still shot of a camera is no repeat: its noise differs as much from frame to frame everywhere.
    """
    moving = change.copy()
    moving[[c - 1 for c in cuts]] = np.nan
    repeats = []
    for i in np.flatnonzero(change <= REPEAT_LEVEL):
        around = moving[max(0, i - REPEAT_REACH) : i + REPEAT_REACH + 1]
        around = around[~np.isnan(around)]
        if change[i] == 0 or (len(around) and np.percentile(around, 90) >= REPEAT_RATIO * change[i]):
            repeats.append(int(i) + 1)
    return repeats
