"""Large frames in tiles, without a seam: each tile is computed with a margin as wide as anything that its pixels depend on.

What a pair says is found on the whole frame, and frames, features and codes are whole; only what belongs to the target's pixels is computed
tile by tile (`model.make`). Windows are (top, left, height, width) in pixels of the padded frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import ConfigError

Window = tuple[int, int, int, int]

MARGIN = 168  # px: what convolutions after the pair reach; tests/test_sharp_model.py finds a seam with a quarter of it
UNIT = 8  # px: windows begin and end at cells of the second finest level
BYTES = 800  # a pixel that a moment of preset `sharp` needs beside its pair, in float32: 640 measured (docs/lab-log.md)


def windows(height: int, width: int, tile: int, margin: int = MARGIN) -> Iterator[tuple[Window, Window]]:
    """(tile, the same with its margin) for all tiles of a padded frame; `tile` px a side, a multiple of 8.

    Raises:
        ConfigError: a tile that is not a positive multiple of 8.
    """
    if not isinstance(tile, int) or tile < UNIT or tile % UNIT:
        raise ConfigError(f"tile is {tile!r}: give a side in pixels that is a multiple of {UNIT}, such as 512.")
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(0, top - margin), max(0, left - margin)
            yield (top, left, bottom - top, right - left), (y, x, min(bottom + margin, height) - y, min(right + margin, width) - x)


def part(field: Tensor, stride: int, window: Window) -> Tensor:
    """What of a field (..., H / stride, W / stride) lies in a window."""
    top, left, height, width = (n // stride for n in window)
    return field[..., top : top + height, left : left + width]


def assembled(pieces: Iterator[tuple[Window, Window, dict[str, Tensor]]], height: int, width: int) -> dict[str, Tensor]:
    """Whole fields (..., H / stride, W / stride) from those of windows with their margins, the margins cut off."""
    whole: dict[str, Tensor] = {}
    for tile, window, fields in pieces:
        for name, field in fields.items():
            stride = window[3] // field.shape[-1]
            if name not in whole:
                whole[name] = field.new_empty(*field.shape[:-2], height // stride, width // stride)
            inner = tile[0] - window[0], tile[1] - window[1], tile[2], tile[3]
            part(whole[name], stride, tile).copy_(part(field, stride, inner))
    return whole


def require_memory(pixels: int, scale: float, device: torch.device, size: tuple[int, int]) -> None:
    """Refuse what would end in the system's killing the process.

    Args:
        pixels: of the largest window, times the batch. scale: of the model's width beside preset `sharp`.
    Raises:
        ConfigError: there is not enough memory; the sentence names the remedy.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    else:
        import psutil

        free = psutil.virtual_memory().available
    needed = pixels * BYTES * scale
    if needed > free:
        raise ConfigError(
            f"A frame of {size[1]} x {size[0]} px needs about {needed / 1e9:.2g} GB at once, and {free / 1e9:.2g} GB are free: "
            "give tile=512, which computes it in tiles of that side without a seam (or smaller ones), or shrink the frames."
        )
