"""Coarse to fine: how the picture moves from frame 0 to frame 1, on the grid of the moment in between.

At a pixel p of the moment t, the motion u(p) says that frame 0 shows at p - t u what frame 1 shows at p + (1 - t) u. Features of both
frames, carried to t along the motion so far, are compared at all displacements within `RADIUS` cells, each split evenly between both; a
small network turns the comparison into a better motion. One network serves all levels (as in UPR-Net, Jin et al., CVPR 2023), so larger
frames only take more levels. Motions are in pixels of the full frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from .features import conv, head, resized, sample

RADIUS = 3  # cells of a level
SPLITS = [(dy, dx) for dy in range(-RADIUS, RADIUS + 1) for dx in range(-RADIUS, RADIUS + 1)]


def carried(first: Tensor, second: Tensor, motion: Tensor, t: Tensor, stride: int, corner: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Both frames' features on the grid of t; motion, the features' stride and the motion's corner in pixels, t (B, 1, 1, 1)."""
    cell = corner[0] // stride, corner[1] // stride
    return sample(first, motion * (-t / stride), corner=cell), sample(second, motion * ((1 - t) / stride), corner=cell)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """(B, 49, h, w): cosine between both frames' features, frame 0's shifted by one half of a displacement, frame 1's by the other."""
    height, width = first.shape[-2:]
    pad = (RADIUS + 1) // 2
    first, second = (F.pad(x * (x * x).sum(1, keepdim=True).clamp_min(1e-6).rsqrt(), (pad,) * 4) for x in (first, second))
    costs = []
    for dy, dx in SPLITS:
        y0, x0 = -(dy // 2), -(dx // 2)
        y1, x1 = y0 + dy, x0 + dx
        one = first[..., pad + y0 : pad + y0 + height, pad + x0 : pad + x0 + width]
        two = second[..., pad + y1 : pad + y1 + height, pad + x1 : pad + x1 + width]
        costs.append((one * two).sum(dim=1))
    return torch.stack(costs, dim=1)


class Matching(nn.Module):
    """One step of refinement of the motion, at any level."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        features, hidden, inside = config.feature_channels[1], config.hidden_channels, config.matching_channels
        self.layers = nn.Sequential(
            conv(len(SPLITS) + 2 * features + hidden + 3, inside), conv(inside, inside), conv(inside, inside), conv(inside, inside)
        )
        self.hidden = nn.Conv2d(inside, hidden, 3, padding=1)
        self.motion = head(inside, 2)

    def forward(
        self, first: Tensor, second: Tensor, motion: Tensor, hidden: Tensor, t: Tensor, stride: int, corner: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """Motion and hidden state anew.

        Args:
            first, second: features (B, C, ., .) of both frames, whose cells are `stride` px wide.
            motion: (B, 2, h, w) px. hidden: (B, K, h, w). On the part of the features' grid that begins at `corner` (row, column) in px.
            t: (B, 1, 1, 1).
        """
        one, two = carried(first, second, motion, t, stride, corner)
        costs = correlation(one, two)
        state = self.layers(torch.cat([costs, one, two, hidden, motion / (8 * stride), t.expand_as(motion[:, :1])], dim=1))
        return motion + self.motion(state).float() * stride, torch.tanh(self.hidden(state)).float()


def finer(motion: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Motion and hidden state on the grid of the next finer level."""
    return resized(motion, 2), resized(hidden, 2)
