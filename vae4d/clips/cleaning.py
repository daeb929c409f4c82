"""Data cleaning as published: only videos that the base model can rebuild are kept (specification section 5).

Conventions: the error of a clip is that of its first frame, encoded and decoded whole in eval mode and clamped to [0, 1]; its upper left
70 x 70 pixels count (the whole frame where it is smaller). It is the sum over the three channels of the L2 norm of the difference over the
pixels. At 70 x 70 it lies within [0, 210], and the published limit of 50 is a root mean square error of 0.24 of the colour range in each
channel: only what the model fails on completely is removed. The range shrinks with a smaller frame: 32 x 32 pixels reach 96.

The model chooses its own data here. On test clips that would flatter it, so they are neither looked at nor removed, unless the published
behaviour is asked for (row 8 of the table of defects).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
import torch

from ..errors import ClipError, ConfigError
from ..faithful.model import VideoAutoencoder4D
from .clip import Clip

CORNER = 70  # pixels
LIMIT = 50.0
BATCH = 8  # frames


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What cleaning found: the clips that stay and those that go, in the order given.

    `table` has a row per clip: clip, split, error (NaN where it was not looked at, infinite where the model gave no finite picture) and
    kept. `views.error_histogram(table["error"], limit)` draws it.
    """

    kept: list[Clip]
    removed: list[Clip]
    table: pd.DataFrame
    limit: float


@torch.inference_mode()
def reconstruction_errors(model: VideoAutoencoder4D, clips: Sequence[Clip], batch: int = BATCH) -> np.ndarray:
    """The error of every clip, float64 (N,), as in the module's docstring. Frames are read `batch` at a time.

    Raises:
        ConfigError: the model is in train mode, `batch` is below 1, or a frame's side is not a multiple of 16.
    """
    if model.training:
        raise ConfigError("Cleaning measures the model in eval mode, but it is in train mode: call model.eval() first.")
    if batch < 1:
        raise ConfigError(f"batch = {batch} is out of range: give 1 or more.")
    device, errors = next(model.parameters()).device, []
    for _, alike in groupby(clips, key=lambda clip: clip.size):
        alike = list(alike)
        for start in range(0, len(alike), batch):
            frames = torch.stack([clip.tensor(0) for clip in alike[start : start + batch]]).to(device)
            rebuilt = model.decode(model.encode(frames).code).clamp(0, 1)
            corner = (rebuilt - frames)[..., :CORNER, :CORNER].double()
            errors += corner.flatten(2).norm(dim=2).sum(dim=1).tolist()
    return np.array(errors)


def clean(model: VideoAutoencoder4D, clips: Sequence[Clip], limit: float = LIMIT, own_splits: bool = True) -> Cleaned:
    """Keep the clips whose error is below `limit`.

    Args:
        own_splits: as repaired, clips of the split "test" stay without being looked at; False, as published, treats all alike.

    Raises:
        ConfigError: `limit` is not positive, or as in `reconstruction_errors`.
        ClipError: no clip that was looked at is kept.
    """
    if not limit > 0:
        raise ConfigError(f"limit = {limit} would remove every clip: give a positive error ({LIMIT:g} in the published system).")
    seen = np.array([not own_splits or clip.split != "test" for clip in clips], dtype=bool)
    errors = np.full(len(clips), np.nan)
    found = reconstruction_errors(model, [clip for clip, looked in zip(clips, seen, strict=True) if looked])
    errors[seen] = np.where(np.isnan(found), np.inf, found)
    kept = ~seen | (errors < limit)
    if not (kept & seen).any():
        if not seen.any():
            raise ClipError("There is no clip to clean (test clips are left alone): give clips to train with.")
        said = f"Cleaning would remove all {seen.sum()} clips (the smallest error is {errors[seen].min():.4g}, the limit {limit:g})"
        raise ClipError(f"{said}: load a trained base model, or raise the limit.")
    table = pd.DataFrame({"clip": [clip.name for clip in clips], "split": [clip.split for clip in clips], "error": errors, "kept": kept})
    return Cleaned(
        kept=[clip for clip, stays in zip(clips, kept, strict=True) if stays],
        removed=[clip for clip, stays in zip(clips, kept, strict=True) if not stays],
        table=table,
        limit=limit,
    )
