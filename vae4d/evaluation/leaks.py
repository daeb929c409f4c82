"""Whether footage of one split shows up in another: a perceptual hash over a sample of frames (docs/evaluation.md, rule 7).

Splits are by source video, and equal files are refused when a data set is prepared. The same footage encoded again, resized, trimmed or
brightened is another file; it is found here. The hash is pHash (64 bits: the signs of low frequencies of a 32 x 32 grey picture,
package `imagehash`), the distance the number of bits that differ.

Measured on the three sample clips at 128 px: the nearest frames of two different clips are 20 bits apart; those of a clip and its copy
0 bits when encoded again, halved in size, brightened by a fifth, darkened, trimmed by 37 frames or left with every second frame, and
2 bits when cropped by 8 %. `THRESHOLD` lies between. A mirrored or rotated copy is not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..clips.clip import Clip
from ..errors import MissingInputError

THRESHOLD = 8  # bits of 64; at or below, two frames show the same
SAMPLES = 64  # frames of a clip, more where half a second would be stepped over
SPREAD = 8.0  # standard deviation in grey levels; a frame below it, black or blank, resembles any other such frame
COLUMNS = ["clip", "split", "other", "other split", "distance", "frame", "other frame", "frames alike", "leak"]


def find_leaks(clips: Sequence[Clip], labels: Sequence[str] | None = None) -> pd.DataFrame:
    """Every two clips of different splits with the distance of their nearest frames, nearest first; columns `COLUMNS`.

    `frames alike` counts the sampled frames of the first clip that the second shows too; `leak` says that there are any. The distance
    is 64 for a clip all of whose sampled frames are blank.

    Raises:
        MissingInputError: the package `imagehash` is not installed.
    """
    labels = [clip.name for clip in clips] if labels is None else list(labels)
    hashes = {label: frame_hashes(clip) for label, clip in zip(labels, clips, strict=True)}
    rows = []
    for (name, a), (other, b) in combinations(zip(labels, clips, strict=True), 2):
        if a.split == b.split:
            continue
        (frames, bits), (other_frames, other_bits) = hashes[name], hashes[other]
        distance, nearest = _nearest(bits, other_bits)
        at = int(distance.argmin()) if len(distance) else -1
        place = (int(distance[at]), frames[at], other_frames[nearest[at]]) if at >= 0 and len(other_frames) else (64, -1, -1)
        alike = int((distance <= THRESHOLD).sum())
        rows.append((name, a.split, other, b.split, *place, alike, alike > 0))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("distance", kind="stable", ignore_index=True)


def leak_sentence(table: pd.DataFrame) -> str:
    """What `find_leaks` found, in one sentence."""
    if table.empty:
        return "Leak check: all clips are in one split, so there is nothing to compare."
    found = table[table["leak"]]
    if found.empty:
        nearest = table.iloc[0]
        return (f"Leak check: no footage of one split shows up in another; the nearest frames, of {nearest['clip']} and "
                f"{nearest['other']}, are {nearest['distance']} of 64 bits apart (alike up to {THRESHOLD}).")
    pairs = "; ".join(f"{row[0]} ({row[1]}) frame {row[5]} and {row[2]} ({row[3]}) frame {row[6]}, {row[4]} bits apart"
                      for row in found.itertuples(index=False))
    return f"LEAK: splits share footage: {pairs}. A method trained on one has seen the other: put these clips into one split."


def frame_hashes(clip: Clip) -> tuple[list[int], np.ndarray]:
    """Numbers of the sampled frames that are not blank, and their hashes as bool (n, 64).

    Sampled are `SAMPLES` frames spread evenly, more where these are over half a second apart, and the first frame of every shot.
    """
    hashing = _imagehash()
    step = max(1, int(min(len(clip) / SAMPLES, float(clip.fps) / 2)))
    numbers, hashes = [], []
    for number in sorted({*range(0, len(clip), step), *clip.cuts}):
        image = Image.fromarray(np.asarray(clip.frames[number]))
        if np.asarray(image.convert("L").resize((32, 32))).std() >= SPREAD:
            numbers.append(number)
            hashes.append(hashing.phash(image).hash.ravel())
    return numbers, np.array(hashes, dtype=bool).reshape(len(hashes), 64)


def _nearest(bits: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of (n, 64) the distance to the nearest row of (m, 64), and that row's number; 64 where m is 0."""
    if not len(other):
        return np.full(len(bits), 64), np.zeros(len(bits), int)
    a, b = (2.0 * x.astype(np.float32) - 1 for x in (bits, other))
    distances = ((64 - a @ b.T) / 2).round().astype(int)
    return distances.min(axis=1, initial=64), distances.argmin(axis=1)


def _imagehash() -> Any:
    try:
        import imagehash
    except ImportError as error:
        raise MissingInputError("The leak check needs the package imagehash, which is not installed: pip install imagehash.") from error
    return imagehash
