"""What a source's frame becomes in the cache: the central square, shrunk by area; and the exact rate behind its time stamps."""

from __future__ import annotations

import functools
from fractions import Fraction

import numpy as np
from PIL import Image

from .frame_folder import VideoInfo


def crop_box(info: VideoInfo) -> tuple[int, int, int, int]:
    """(left, top, width, height) in upright source pixels of the central square as displayed."""
    side = min(info.width * info.pixel_aspect, Fraction(info.height))
    width, height = max(1, min(info.width, round(side / info.pixel_aspect))), max(1, round(side))
    return (info.width - width) // 2, (info.height - height) // 2, width, height


def square(image: np.ndarray, crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Crop and resize uint8 (H, W, 3) to (size, size, 3)."""
    left, top, width, height = crop
    image = image[top : top + height, left : left + width]
    if (width, height) == (size, size):
        return np.ascontiguousarray(image)
    if min(width, height) >= size:
        rows = area_weights(height, size) @ image.reshape(height, -1).astype(np.float32)
        return np.rint(area_weights(width, size) @ rows.reshape(size, width, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BICUBIC))


@functools.cache
def area_weights(source: int, target: int) -> np.ndarray:
    """float32 (target, source): the share of every source pixel in each of fewer target pixels; rows sum to 1."""
    edges = np.linspace(0, source, target + 1)
    overlap = np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(edges[:-1, None], np.arange(source))
    return (overlap.clip(0) * target / source).astype(np.float32)


def constant_rate(ticks: np.ndarray, info: VideoInfo) -> tuple[Fraction, bool]:
    """(rate, False) when every time stamp lies on a constant rate up to rounding to ticks, else (mean rate, True).

    Where a tick is as long as a frame, a quarter of a frame is the limit: a dropped frame is no rounding.
    """
    if len(ticks) < 2:
        return info.fps, False
    mean = (len(ticks) - 1) / (int(ticks[-1] - ticks[0]) * info.time_base)
    ntsc = Fraction(round(mean * Fraction(1001, 1000)) * 1000, 1001)
    for rate in (info.fps, Fraction(round(mean)), ntsc, mean.limit_denominator(1001)):
        if rate > 0:
            frame = float(1 / (rate * info.time_base))  # in ticks
            if np.abs(ticks - ticks[0] - np.arange(len(ticks)) * frame).max() <= min(1, frame / 4) + 1e-6 * len(ticks):
                return rate, False
    return mean.limit_denominator(100_000), True
