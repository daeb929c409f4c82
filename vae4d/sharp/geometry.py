"""A first depth, and which pixels stand still: what the camera's motion is solved from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from .features import conv, head

NEAREST, FARTHEST = 4.0, 0.2  # inverse depths that planes reach, the scene's median being 1


@dataclass(frozen=True, eq=False)
class Solved:
    """One round of depth and camera in turn, at stride 8."""

    prior: Tensor  # (B, h / 2, w / 2) log inverse depth
    still: Tensor  # (B, h / 2, w / 2) in (0, 1): moves by the camera alone
    xi: Tensor  # (B, 6) twist


class Geometry(nn.Module):
    """A small U-Net, called once a round: it sees what the round before made of the motion (`camera.evidence`)."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        width = config.geometry_channels
        self.enter = conv(config.hidden_channels + 1 + config.feature_channels[1] + 8, width)
        self.down = nn.Sequential(conv(width, width, stride=2), conv(width, width), conv(width, width, stride=2), conv(width, width))
        self.up = conv(width, width)
        self.join = conv(2 * width, width)
        self.out = head(width, 2)

    def forward(self, features: Tensor, flow: Tensor, hidden: Tensor, ray: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            features: (B, K, h / 2, w / 2), both frames' mean. flow: (B, 2, ...) motion of rays. hidden: (B, K + 1, ...) state of
                matching, and how well the texture tells the motion.
            ray: (B, 2, ...). known: (B, 4, ...) from the round before, zeros at first.
        Returns:
            prior and still, see `Solved`.
        """
        fine = self.enter(torch.cat([features, hidden, flow * 10, ray, known], dim=1))
        coarse = self.up(self.down(fine))
        coarse = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        depth, still = self.out(self.join(torch.cat([fine, coarse], dim=1))).float().unbind(1)
        return depth.clamp(math.log(FARTHEST) - 1, math.log(NEAREST) + 1), torch.sigmoid(4 * still)
