"""Scoring of synthesised frames beside the two baselines that cost nothing (rules: docs/evaluation.md).

Only frames that were synthesised are scored, as uint8, in memory; pairs of given frames never span a cut, and a frame that repeats
the one before it is not taken as a truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from . import metrics
from .clips.cache import Clip
from .errors import ClipError, ConfigError
from .files import atomic_path
from .model import Encoded, VideoAutoencoder4D
from .synthesis import on_device

Method = Callable[[Tensor, Tensor, list[float]], Tensor]
"""(3, H, W), (3, H, W) and K moments in (0, 1) to (K, 3, H, W) in [0, 1]."""


def repeat(first: Tensor, second: Tensor, times: list[float]) -> Tensor:
    """The nearer of the two given frames; the first where both are equally near."""
    return torch.stack([first if t <= 0.5 else second for t in times])


def blend(first: Tensor, second: Tensor, times: list[float]) -> Tensor:
    """Linear blend: (1 - t) first + t second."""
    return torch.stack([(1 - t) * first + t * second for t in times])


class ModelMethod:
    """A model as a method. A frame that ends one pair and begins the next is encoded once.

    Args:
        how: keyword arguments of `synthesise` (semantics, use_flow, use_correction).
    """

    def __init__(self, model: VideoAutoencoder4D, **how):
        self.model, self.how = model, how
        self._last: tuple[Tensor, Encoded] | None = None

    def _encode(self, frame: Tensor) -> Encoded:
        if self._last is None or self._last[0] is not frame:
            self._last = (frame, self.model.encode(on_device(self.model, frame)))
        return self._last[1]

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor, times: list[float]) -> Tensor:
        start, end = self._encode(first), self._encode(second)
        return torch.cat([self.model.synthesise(start, end, t, **self.how).image for t in times]).cpu()


def gaps(clip: Clip, gap: int, limit: int | None = None) -> list[int]:
    """First frames i of the pairs (i, i + gap) of a clip, one after the other within its shots, at most `limit` spread evenly.

    Raises:
        ConfigError: gap below 2 leaves nothing in between.
    """
    if gap < 2:
        raise ConfigError(f"gap is {gap}: the given frames are at least 2 source frames apart, so that one lies between them.")
    starts = [start for shot in clip.shots() for start in range(shot.start, shot.stop - gap, gap)]
    if limit is not None and len(starts) > limit:
        starts = [starts[round(i * (len(starts) - 1) / max(1, limit - 1))] for i in range(limit)]
    return starts


def moments(clip: Clip, start: int, gap: int) -> list[tuple[int, float]]:
    """The scored frames of a pair: (frame index, t from the real time stamps); frames that repeat their predecessor are left out."""
    times, repeated = clip.times, set(clip.duplicates)
    span = times[start + gap] - times[start]
    return [(i, float((times[i] - times[start]) / span)) for i in range(start + 1, start + gap) if i not in repeated]


def score(
    clips: Iterable[Clip],
    methods: dict[str, Method],
    gap: int = 2,
    limit: int | None = None,
    lpips: nn.Module | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """One row per scored frame and method: clip, gap, frame, t, method, mse, psnr, ssim, lpips (NaN without LPIPS).

    Args:
        limit: pairs a clip, spread evenly; None takes all.
    Raises:
        ClipError: no clip has a frame to score at this gap.
    """
    rows, pairs = [], 0
    for clip in clips:
        starts = gaps(clip, gap, limit)
        pairs += len(starts)
        progress(f"scoring {clip.name}: {len(starts)} pairs at gap {gap}, {len(methods)} methods")
        last: tuple[int, Tensor] | None = None
        for start in starts:
            first = last[1] if last is not None and last[0] == start else clip.tensor(start)
            second = clip.tensor(start + gap)
            last = (start + gap, second)
            between = moments(clip, start, gap)
            if not between:
                continue
            truth = torch.stack([clip.tensor(i) for i, _ in between])
            for name, method in methods.items():
                prediction = method(first, second, [t for _, t in between])
                rows += score_pair(prediction, truth, lpips, {"clip": clip.name, "gap": gap, "method": name}, between)
    if not rows:
        raise ClipError(f"Nothing can be scored: {nothing_scored(gap, pairs)}.")
    return pd.DataFrame(rows)


def nothing_scored(gap: int, pairs: int) -> str:
    """Why no frame can be scored at a gap at which there are `pairs` pairs, and the remedy."""
    if pairs:
        return f"at gap {gap} every frame between the given ones repeats the one before it, choose a larger gap"
    return f"no clip has two frames {gap} apart within one shot, choose a smaller gap or a longer clip"


def score_pair(prediction: Tensor, truth: Tensor, lpips: nn.Module | None, labels: dict, between: list[tuple[int, float]]) -> list[dict]:
    """Rows of one pair and one method."""
    errors, similarity = metrics.mse(prediction, truth), metrics.ssim(prediction, truth)
    distance = metrics.lpips(lpips, prediction, truth) if lpips is not None else np.full(len(errors), np.nan)
    values = zip(between, errors, metrics.psnr_of_mse(errors), similarity, distance, strict=True)
    return [labels | {"frame": i, "t": t, "mse": e, "psnr": p, "ssim": s, "lpips": d} for (i, t), e, p, s, d in values]


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Per clip, gap and method: scored frames, PSNR as mean over frames and from the pooled error, SSIM, LPIPS, infinite PSNRs.

    Frames that were rebuilt exactly have infinite PSNR; they are counted in `exact` and left out of the mean alone.
    """
    scores = scores.assign(exact=np.isinf(scores["psnr"]), psnr=scores["psnr"].replace(np.inf, np.nan))
    groups = scores.groupby(["clip", "gap", "method"], sort=False)
    table = groups[["psnr", "mse", "ssim", "lpips"]].mean()
    table.insert(0, "frames", groups.size())
    table.insert(2, "psnr_pooled", metrics.psnr_of_mse(table.pop("mse")))
    return table.assign(exact=groups["exact"].sum()).reset_index()


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """A table as CSV, atomically, four decimals."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f")
