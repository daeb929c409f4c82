"""A first depth, and which pixels stand still: what the camera's motion is solved from."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from .camera import EVIDENCE
from .features import conv, head, resized

NEAREST, FARTHEST = 4.0, 0.2  # inverse depths that planes reach, the scene's median being 1
LOWEST, HIGHEST = math.log(FARTHEST) - 1, math.log(NEAREST) + 1  # log inverse depth that is guessed


@dataclass(frozen=True, eq=False)
class Guess:
    """What a round believes, at stride 4."""

    prior: Tensor  # (B, h, w) log inverse depth
    still: Tensor  # (B, h, w) in (0, 1): moves by the camera alone

    def finer(self, factor: int) -> Guess:
        """The same on a grid `factor` times as fine."""
        return Guess(*resized(torch.stack([self.prior, self.still], dim=1), factor).unbind(1)) if factor > 1 else self


class Geometry(nn.Module):
    """A U-Net over strides 4 to 32, called once a round: it sees what the camera found so far makes of the motion (`camera.evidence`)."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        widths = config.geometry_channels
        steps = list(itertools.pairwise(widths))
        self.enter = conv(config.feature_channels[1] + config.hidden_channels + 1 + 4 + EVIDENCE, widths[0])
        self.down = nn.ModuleList(nn.Sequential(conv(fine, coarse, stride=2), conv(coarse, coarse)) for fine, coarse in steps)
        self.join = nn.ModuleList(nn.Sequential(conv(fine + coarse, fine), conv(fine, fine)) for fine, coarse in steps)
        self.out = head(widths[0], 2)

    def forward(self, features: Tensor, hidden: Tensor, flow: Tensor, ray: Tensor, known: Tensor) -> Guess:
        """
        Args:
            features: (B, K, h, w), both frames' mean. hidden: (B, K + 1, h, w) state of matching, and how well texture tells the motion.
            flow: (B, 2, h, w) motion of rays. ray: (B, 2, h, w). known: (B, EVIDENCE, h, w).
        """
        states = [self.enter(torch.cat([features, hidden, flow * 10, ray, known], dim=1))]
        for down in self.down:
            states.append(down(states[-1]))
        state = states.pop()
        for join in reversed(self.join):
            fine = states.pop()
            state = F.interpolate(state, fine.shape[-2:], mode="bilinear", align_corners=False)
            state = join(torch.cat([fine, state], dim=1))
        prior, still = self.out(state).float().unbind(1)
        return Guess(prior.clamp(LOWEST, HIGHEST), torch.sigmoid(4 * still))
