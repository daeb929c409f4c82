"""Below a cell: what matching found, made exact by the pictures' own gradients.

Matching compares features of cells, which tells a motion to a fraction of a pixel at best. Around its answer the grey values of both
frames, carried to the moment t, differ by their gradient times what is still missing (Lucas and Kanade 1981); solved in a window around
every cell, three times over, that is a tenth of a pixel where there is texture. A camera is solved from motion, and depth from what the
camera leaves, so both hang on this (docs/lab-log.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import full_precision
from .features import resized, sample

STEPS = 3
WINDOW = 8  # px a side
STRIDE = 4  # px between the windows
DOUBT = 0.04  # difference of grey at which a pixel counts by half: what the other frame hides should not pull
NOISE = 3e-5  # mean squared gradient, grey a pixel, that noise alone would have
TEXTURE = 3e-4  # mean squared gradient across the weaker direction at which a motion is told by half
FARTHEST = 1.0  # px a step


def grey(frame: Tensor) -> Tensor:
    """(B, 1, H, W) luma (ITU-R BT.601) of frames (B, 3, H, W), slightly smoothed, so that its gradient is that between the pixels."""
    luma = (frame.float() * frame.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (luma + F.avg_pool2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), 3, 1)) / 2


def windows(x: Tensor) -> Tensor:
    """Means (B, C, H / 4, W / 4) over the windows around all cells."""
    return F.avg_pool2d(F.pad(x, ((WINDOW - STRIDE) // 2,) * 4, mode="replicate"), WINDOW, STRIDE)


@torch.no_grad()
def correction(first: Tensor, second: Tensor, motion: Tensor, t: Tensor, corner: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """What a motion lacks, without gradient.

    Args:
        first, second: (B, 1, H, W) grey pictures.
        motion: (B, 2, h, w) px at stride 4, on the grid of t, on the part of it that begins at `corner` (row, column) in px.
        t: (B, 1, 1, 1).
    Returns:
        (B, 2, h, w) px to add; (B, 1, h, w) in [0, 1], how well the texture tells it.
    """
    with full_precision(motion):
        found, texture = motion.float(), motion[:, :1]
        for _ in range(STEPS):
            full = resized(found, STRIDE)
            one, two = sample(first, -t * full, corner=corner), sample(second, (1 - t) * full, corner=corner)
            difference, both = two - one, F.pad((one + two) / 2, (1, 1, 1, 1), mode="replicate")
            dx, dy = (both[..., 1:-1, 2:] - both[..., 1:-1, :-2]) / 2, (both[..., 2:, 1:-1] - both[..., :-2, 1:-1]) / 2
            weight = DOUBT**2 / (DOUBT**2 + difference.square())
            wx, wy = weight * dx, weight * dy
            products = wx * dx, wx * dy, wy * dy, wx * difference, wy * difference
            xx, xy, yy, xd, yd = windows(torch.cat(products, dim=1)).split(1, dim=1)
            texture = (xx + yy) / 2 - ((xx - yy).square() / 4 + xy.square()).sqrt()
            xx, yy = xx + NOISE, yy + NOISE
            step = torch.cat([yy * xd - xy * yd, xx * yd - xy * xd], dim=1) / (xx * yy - xy * xy)
            found = found - step.clamp(-FARTHEST, FARTHEST)
        return found - motion, texture / (texture + TEXTURE)


class Subpixel(nn.Module):
    """The correction, as far as it is to be trusted: one number, none at the start, so that an untrained model is the blend, and
    learnt when matching has learnt alone (`training.ALONE`)."""

    def __init__(self):
        super().__init__()
        self.trust = nn.Parameter(torch.zeros(()))

    def forward(
        self, first: Tensor, second: Tensor, motion: Tensor, t: Tensor, corner: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """The motion (B, 2, h, w) px corrected, and how well the texture tells it (B, 1, h, w); see `correction`."""
        missing, told = correction(first, second, motion, t, corner)
        return motion + self.trust * missing, told
