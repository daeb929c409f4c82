"""The pixels decide what: both frames warped to the target, refined, and fused with what the voxels decode where no pixel is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from .features import conv, head, resized, sample

BOUND = 0.2  # of the residual, in units of colour
REFINE = 2.0  # px a unit of the motion's refinement


@dataclass(frozen=True)
class Fused:
    """A picture and what it is made of, at full resolution."""

    image: Tensor  # (B, 3, H, W), not clamped
    composite: Tensor  # (B, 3, H, W) without the residual
    motion: tuple[Tensor, Tensor]  # (B, 2, H, W) px each, from the target to frame 0 and to frame 1
    weights: Tensor  # (B, 3, H, W): shares of frame 0, of frame 1, of the voxels
    decoded: Tensor  # (B, 3, H, W), the voxels' own picture


class Fusion(nn.Module):
    """Works at stride 2, with pixels folded into channels."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        width, state = config.fusion_channels, config.volume_channels
        self.refine = nn.Sequential(
            conv(24 + 12 + state + 6, width), conv(width, width), conv(width, width), conv(width, width), head(width, 4)
        )
        self.enter = nn.Sequential(conv(24 + 12 + state + 4 + 8, width), conv(width, width))
        self.down = nn.Sequential(conv(width, width + 16, stride=2), conv(width + 16, width + 16), conv(width + 16, width + 16))
        self.join = nn.Sequential(conv(2 * width + 16, width), conv(width, width))
        self.out = head(width, 4 * 9)

    def forward(
        self, frames: tuple[Tensor, Tensor], motion: tuple[Tensor, Tensor], state: Tensor, own: Tensor, t: Tensor, apart: Tensor,
        corner: tuple[int, int] = (0, 0),
    ) -> Fused:  # fmt: skip
        """
        Args:
            frames: (B, 3, H, W) both.
            motion: (B, 2, H / 4, W / 4) px each, from the target to frame 0 and to frame 1.
            state: (B, K, H / 4, W / 4) of the volume. own: (B, 1, H / 4, W / 4) share that moves by itself.
            t: (B, 1, 1, 1).
            apart: (B, 1, 1, 1) in [0, 1], 0 where the answer is a given frame: then nothing is invented.
            corner: (row, column) in px at which motion, state and own begin; the frames are whole.
        """
        state, own = resized(state, 2), resized(own, 2)
        both = torch.cat(motion, dim=1)
        both = resized(both, 2)
        context = seen(frames, resized(both, 2), corner)
        refinement = self.refine(torch.cat([context, state, own, t.expand_as(own), both / 8], dim=1)).float() * REFINE
        # frame 0 is the picture at t = 0, frame 1 that at t = 1: no refinement there
        scale = torch.cat([t, t, 1 - t, 1 - t], dim=1) * 2 * apart
        both = resized(both + refinement * scale, 2)
        near, far = both[:, :2], both[:, 2:]
        one, two = sample(frames[0], near, "bicubic", corner), sample(frames[1], far, "bicubic", corner)
        beyond = torch.cat([outside(m, frames[0].shape[-2:], corner) for m in (near, far)], dim=1)
        folded = F.pixel_unshuffle(torch.cat([one, two, (one - two).abs(), beyond], dim=1), 2)
        fine = self.enter(torch.cat([folded, state, own, t.expand_as(own), resized(both, 0.5)[:, :2] / 8], dim=1))
        coarse = resized(self.down(fine), 2)
        out = F.pixel_shuffle(self.out(self.join(torch.cat([fine, coarse], dim=1))), 2).float()
        logits, residual, decoded = out.split(3, dim=1)
        floor = 1e-6  # t = 0 and 1 leave next to nothing of the other frame
        start = torch.cat([(1 - t).clamp_min(floor).log(), t.clamp_min(floor).log(), (apart * 1e-2).clamp_min(floor).log()], dim=1)
        weights = torch.softmax(logits * torch.cat([apart, apart, torch.ones_like(apart)], dim=1) + start, dim=1)
        blurred = resized(resized((1 - t) * one + t * two, 0.25), 4)
        decoded = blurred + decoded
        composite = weights[:, :1] * one + weights[:, 1:2] * two + weights[:, 2:] * decoded
        return Fused(composite + BOUND * torch.tanh(residual) * apart, composite, (near, far), weights, decoded)


def seen(frames: tuple[Tensor, Tensor], motion: Tensor, corner: tuple[int, int]) -> Tensor:
    """Both frames along the motion (B, 4, h, w), and their difference, folded to stride 2."""
    one, two = sample(frames[0], motion[:, :2], corner=corner), sample(frames[1], motion[:, 2:], corner=corner)
    return F.pixel_unshuffle(torch.cat([one, two, (one - two).abs()], dim=1), 2)


def outside(motion: Tensor, size: tuple[int, int], corner: tuple[int, int]) -> Tensor:
    """(B, 1, h, w): how far a pixel's source lies outside the frame of this size (rows, columns), in units of 8 px, at most 2."""
    height, width = size
    x = torch.arange(motion.shape[-1], device=motion.device) + corner[1] + motion[:, 0]
    y = torch.arange(motion.shape[-2], device=motion.device)[:, None] + corner[0] + motion[:, 1]
    beyond = torch.maximum((-x).clamp_min(0) + (x - width + 1).clamp_min(0), (-y).clamp_min(0) + (y - height + 1).clamp_min(0))
    return (beyond / 8).clamp(max=2)[:, None]
