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
from .features import conv, head

NEAREST, FARTHEST = 4.0, 0.2  # inverse depths that planes reach, the scene's median being 1
LOWEST, HIGHEST = math.log(FARTHEST) - 1, math.log(NEAREST) + 1  # log inverse depth that is guessed


@dataclass(frozen=True, eq=False)
class Seen:
    """What a pair of frames tells geometry, on a grid of cells of 4 px or coarser."""

    features: Tensor  # (B, K, h, w), both frames' mean
    hidden: Tensor  # (B, K + 1, h, w) state of matching, and how well texture tells the motion
    flow: Tensor  # (B, 2, h, w) motion of rays, from the first frame to the second
    ray: Tensor  # (B, 2, h, w)

    @property
    def told(self) -> Tensor:
        """(B, h, w) in [0, 1]: how well texture tells the motion."""
        return self.hidden[:, -1]


@dataclass(frozen=True, eq=False)
class Guess:
    """What a round believes."""

    prior: Tensor  # (B, h, w) log inverse depth
    still: Tensor  # (B, h, w) in (0, 1): moves by the camera alone

    def on(self, field: Tensor) -> Guess:
        """The same on the grid of a field (B, ., H, W)."""
        stack = torch.stack([self.prior, self.still], dim=1)
        return Guess(*F.interpolate(stack, field.shape[-2:], mode="bilinear", align_corners=False).unbind(1))


class Geometry(nn.Module):
    """A U-Net over four grids, each half as fine as the one before, called once a round: it sees what the camera found so far makes of the
    motion (`camera.evidence`)."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        widths = config.geometry_channels
        steps = list(itertools.pairwise(widths))
        self.enter = conv(config.feature_channels[1] + config.hidden_channels + 1 + 4 + EVIDENCE, widths[0])
        self.down = nn.ModuleList(nn.Sequential(conv(fine, coarse, stride=2), conv(coarse, coarse)) for fine, coarse in steps)
        self.join = nn.ModuleList(nn.Sequential(conv(fine + coarse, fine), conv(fine, fine)) for fine, coarse in steps)
        self.out = head(widths[0], 2)

    def forward(self, seen: Seen, known: Tensor) -> Guess:
        """`known`: (B, EVIDENCE, h, w)."""
        states = [self.enter(torch.cat([seen.features, seen.hidden, seen.flow * 10, seen.ray, known], dim=1))]
        for down in self.down:
            states.append(down(states[-1]))
        state = states.pop()
        for join in reversed(self.join):
            fine = states.pop()
            state = F.interpolate(state, fine.shape[-2:], mode="bilinear", align_corners=False)
            state = join(torch.cat([fine, state], dim=1))
        prior, still = self.out(state).float().unbind(1)
        return Guess(prior.clamp(LOWEST, HIGHEST), torch.sigmoid(4 * still))
