"""Scores of one method on one clip: every frame between the given ones, in constant memory.

A method gets the given frames alone. What it returns is checked, rounded to uint8 and compared in memory with the true frame; the given
frames are never scored. Everything runs on one thread: processes share the work (`benchmark`), and the results do not hang on the
number of threads.

Columns of the table (`COLUMNS`), one row a scored frame: clip; size in pixels; gap, start and frame in source frames; t in (0, 1);
cut (the pair spans one) and repeated (see `pairs.pairs_of`); motion, the mean length in pixels of the DIS flow from the first given
frame to the second (NaN without OpenCV); method; mse in squared grey levels; psnr in dB (infinite where equal); ssim; lpips (NaN where
not available).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .. import metrics
from ..clips.clip import Clip
from ..errors import MethodError
from .methods import Method, Pair, checked
from .optical_flow import dis_flow
from .pairs import PairIndex, pairs_of

COLUMNS = ["clip", "size", "gap", "start", "frame", "t", "cut", "repeated", "motion", "method", "mse", "psnr", "ssim", "lpips"]
END = object()
LPIPS_BATCH = 32  # frames of several pairs that go through the network at once


def clean(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that pose an interpolation problem: not across a cut, and not of a repeated frame."""
    return scores[~scores["cut"] & ~scores["repeated"]]


def score_method(
    clip: Clip, gap: int, name: str, method: Method, lpips: nn.Module | None = None, limit: int | None = None, label: str | None = None
) -> pd.DataFrame:
    """One row per frame between the given ones, columns `COLUMNS`.

    Args:
        lpips: what `perceptual.load_lpips` returns, on the CPU; None leaves the column NaN.
        limit: see `pairs.pairs_of`.
        label: what the clip is called in the table and in `Pair.clip`, where its name is not unique.
    Raises:
        ClipError, ConfigError: see `pairs.pairs_of`.
        MethodError: the method returned something that is no frame, or too few or too many predictions. Its own errors pass through.
    """
    label = label or clip.name
    indices = pairs_of(clip, gap, limit)
    rows, perceptual = [], _Perceptual(lpips)
    with one_thread():
        given: deque[Pair] = deque()  # read by the method and not answered yet
        predictions = iter(method(_given(clip, gap, indices, label, given)))
        for index in indices:
            prediction = next(predictions, END)
            if prediction is END or not given:
                count = "fewer" if prediction is END else "more"
                raise MethodError(f"Method {name!r} returned {count} predictions than the pairs it read of clip {label!r} at gap {gap}: "
                                  "yield one for each pair, after reading it.")
            pair = given.popleft()
            prediction, truth = checked(name, prediction, pair), clip.tensor(list(index.numbers))
            error, similarity = metrics.mse(prediction, truth), metrics.ssim(prediction, truth)
            common = (label, clip.size, gap, index.start)
            both = (index.cut, motion(pair.first, pair.second), name)
            values = zip(index.numbers, index.times, index.repeated, error, metrics.psnr_of_mse(error), similarity, strict=True)
            rows += [(*common, i, t, both[0], repeated, *both[1:], e, p, s) for i, t, repeated, e, p, s in values]
            perceptual.add(prediction, truth)
        if next(predictions, END) is not END:
            raise MethodError(f"Method {name!r} returned more predictions than the {len(indices)} pairs of clip {label!r} at gap {gap}: "
                              "yield one for each pair.")
        return pd.DataFrame(rows, columns=COLUMNS[:-1]).assign(lpips=perceptual.values())


def motion(first: Tensor, second: Tensor) -> float:
    """Mean length of the DIS flow between two frames (3, S, S) in pixels; NaN where OpenCV is not installed."""
    try:
        return float(np.hypot(*dis_flow(first, second)).mean(dtype=np.float64))
    except MethodError:
        return float("nan")


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one CPU thread within the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _given(clip: Clip, gap: int, indices: list[PairIndex], label: str, read: deque[Pair]) -> Iterator[Pair]:
    """The pairs for a method; each is noted in `read`. A frame that ends one pair and begins the next is the same tensor."""
    last: tuple[int, Tensor] | None = None
    for index in indices:
        end = index.start + gap
        first = last[1] if last is not None and last[0] == index.start else clip.tensor(index.start)
        last = (end, clip.tensor(end))
        pair = Pair(label, clip.size, gap, index.start, first, last[1], index.numbers, index.times)
        read.append(pair)
        yield pair


class _Perceptual:
    """LPIPS of frames that come pair by pair, computed in batches of at least `LPIPS_BATCH`."""

    def __init__(self, model: nn.Module | None):
        self.model = model
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.done: list[np.ndarray] = []

    def add(self, prediction: Tensor, truth: Tensor) -> None:
        if self.model is None:
            self.done.append(np.full(len(truth), np.nan))
            return
        self.waiting.append((prediction, truth))
        if sum(len(frames) for frames, _ in self.waiting) >= LPIPS_BATCH:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            predictions, truths = (torch.cat(frames) for frames in zip(*self.waiting, strict=True))
            self.done.append(metrics.lpips(self.model, predictions, truths))
            self.waiting.clear()

    def values(self) -> np.ndarray:
        self._flush()
        return np.concatenate(self.done)
