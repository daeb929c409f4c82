"""The voxels decide where: two frames' codes on planes of inverse depth, carried to one camera and moment, give depth and residual flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from ..layers import SmoothConv3d
from .camera import displacement
from .features import LEAK, sample
from .geometry import FARTHEST, NEAREST

STRIDE = 4  # pixels a cell of the codes
SHARPNESS = 4.0  # of the softmax over planes, and of the gate of own motion


def plane_depths(count: int, device: torch.device | None = None) -> Tensor:
    """(D,) inverse depths of the planes, from far to near, evenly spaced in their logarithm; one plane alone lies at the median."""
    if count == 1:
        return torch.ones(1, device=device)
    return torch.exp(torch.linspace(math.log(FARTHEST), math.log(NEAREST), count, device=device))


@dataclass(frozen=True, eq=False)
class Scene:
    """What the volume holds at one moment, in the camera there, and what a pixel sees of it; at stride 4."""

    codes: tuple[Tensor, Tensor]  # (B, C, D, h, w) both frames', carried to the target
    share: Tensor  # (B, D, h, w) of each plane in a pixel, adds up to 1
    flow: Tensor  # (B, D, 2, h, w) px: the voxels' residual flow, from frame 0 to frame 1
    gate: Tensor  # (B, D, h, w) in (0, 1): a voxel moves by itself
    voxels: Tensor  # (B, K, D, h, w) what the voxels tell the pixels
    inverse_depth: Tensor  # (B, h, w)
    residual: Tensor  # (B, 2, h, w) px
    own: Tensor  # (B, h, w) in (0, 1)
    state: Tensor  # (B, K, h, w)

    @classmethod
    def composited(cls, codes: tuple[Tensor, Tensor], share: Tensor, flow: Tensor, gate: Tensor, voxels: Tensor) -> Scene:
        """With what a pixel sees: means over the planes by their shares, that of depth in its logarithm."""
        log = plane_depths(share.shape[1], share.device).log().view(1, -1, 1, 1)
        seen = (share * log).sum(1).exp(), (share[:, :, None] * flow).sum(1), (share * gate).sum(1), (share[:, None] * voxels).sum(2)
        return cls(codes, share, flow, gate, voxels, *seen)

    def seen_from(self, offset: Tensor, ray: Tensor, cells: Tensor) -> Scene:
        """The same moment from a moved camera: planes slide by their depth, and are composited front to back.

        A plane keeps its distance from the camera, as in a multiplane image (Zhou et al. 2018, arXiv 1805.09817), so the camera's
        motion should be small beside the depth.

        Args:
            offset: (B, 4, 4), the moved camera's points to this one's. cells: (B, 1, 1, 1) cells a unit of ray.
        """
        # Opacities that give these shares: of what reaches a plane, those behind it and itself get the rest.
        opacity = self.share / self.share.cumsum(1).clamp_min(1e-6)
        motion = plane_motion(offset, ray, self.share.shape[1]) * cells[:, None]
        fields = [opacity[:, None], self.flow.transpose(1, 2), self.gate[:, None], self.voxels, *self.codes]
        moved = carry(torch.cat(fields, dim=1), motion).split([f.shape[1] for f in fields], dim=1)
        opacity = torch.cat([torch.ones_like(moved[0][:, 0, :1]), moved[0][:, 0, 1:].clamp(0, 1)], dim=1)
        passing = (1 - opacity).flip(1).cumprod(1).flip(1)  # through a plane and all before it
        share = opacity * torch.cat([passing[:, 1:], torch.ones_like(passing[:, :1])], dim=1)
        return Scene.composited((moved[4], moved[5]), share, moved[1].transpose(1, 2), moved[2][:, 0], moved[3])


def plane_motion(theta: Tensor, ray: Tensor, planes: int) -> Tensor:
    """(B, D, 2, h, w): motion of the rays of each plane from one camera to another, see `camera.displacement`."""
    depth = plane_depths(planes, ray.device).view(1, -1, 1, 1).expand(len(ray), -1, *ray.shape[-2:])
    return displacement(theta, ray[:, :, None].expand(-1, -1, planes, -1, -1), depth).transpose(1, 2)


def carry(code: Tensor, motion: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """A code (B, C, D, H, W) with each plane sampled along its own motion (B, D, 2, h, w), in cells, from the cell `corner` on."""
    planes = code.transpose(1, 2).flatten(0, 1)
    return sample(planes, motion.flatten(0, 1), corner=corner).unflatten(0, motion.shape[:2]).transpose(1, 2)


class Conv3d(nn.Module):
    """3 x 3 x 3 convolution with its leaky ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.layer = SmoothConv3d(inputs, outputs)
        nn.init.kaiming_normal_(self.layer.weight, a=LEAK)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.layer(x), LEAK)


class Volume(nn.Module):
    """Density, residual flow and state of every voxel from both codes carried to the target, by a 3D U-Net over the planes."""

    def __init__(self, config: SharpConfig):
        super().__init__()
        width = config.volume_channels
        self.planes, self.code_channels = config.planes, config.code_channels
        self.lift = nn.Conv2d(config.feature_channels[1], config.planes * config.code_channels, 1)
        self.enter = Conv3d(2 * config.code_channels + 7, width)
        self.down = nn.Sequential(Conv3d(width, width + 8), Conv3d(width + 8, width + 8))
        self.join = Conv3d(2 * width + 8, width)
        self.out = SmoothConv3d(width, 4)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def codes(self, features: Tensor) -> Tensor:
        """The voxel code (B, C, D, h, w) of a frame, from its features at stride 4."""
        return self.lift(features).unflatten(1, (self.code_channels, self.planes))

    def forward(
        self, codes: tuple[Tensor, Tensor], thetas: tuple[Tensor, Tensor], motion: Tensor, prior: Tensor, ray: Tensor, t: Tensor,
        pixels: Tensor, moved: Tensor, corner: tuple[int, int] = (0, 0),
    ) -> Scene:  # fmt: skip
        """
        Args:
            codes: of both frames.
            thetas: (B, 4, 4) each, the target camera's points to the first and to the second camera's.
            motion: (B, 2, h, w) px that matching found. prior: (B, h, w) log inverse depth.
            ray: (B, 2, h, w). t: (B, 1, 1, 1). pixels: (B, 1, 1, 1) pixels a unit of ray.
            moved: (B, 1, 1, 1) in [0, 1], 0 where nothing can move.
            corner: (row, column) in px at which motion, prior and ray begin; the codes are whole.
        """
        cell = corner[0] // STRIDE, corner[1] // STRIDE
        moves = [plane_motion(theta, ray, self.planes) * pixels[:, None] for theta in thetas]
        one, two = (carry(code, move / STRIDE, cell) for code, move in zip(codes, moves, strict=True))
        rest = motion[:, None] - (moves[1] - moves[0])  # what the camera leaves unexplained on each plane
        log = plane_depths(self.planes, motion.device).log().view(1, 1, -1, 1, 1).expand(len(motion), -1, -1, *motion.shape[-2:])
        hint = prior[:, None, None] - log
        # cosine, by sums: PyTorch's own takes twice as long
        alike = (one * two).sum(1) / ((one * one).sum(1).clamp_min(1e-6) * (two * two).sum(1).clamp_min(1e-6)).sqrt()
        facts = [one, two, alike[:, None], (rest / 8).clamp(-4, 4).transpose(1, 2), hint, hint.square(), t[:, None].expand_as(log), log]
        fine = self.enter(torch.cat(facts, dim=1))
        coarse = self.down(F.avg_pool3d(fine, (1, 2, 2)))
        coarse = F.interpolate(coarse.flatten(1, 2), fine.shape[-2:], mode="bilinear", align_corners=False)
        state = self.join(torch.cat([fine, coarse.unflatten(1, (-1, self.planes))], dim=1))
        density, gate, *delta = self.out(state).float().unbind(1)
        # At the start a voxel counts by how near its plane is to the first depth, and half of what the camera leaves is its own motion.
        share = torch.softmax(SHARPNESS * density - 2 * hint[:, 0].square(), dim=1)
        gate = torch.sigmoid(SHARPNESS * gate)
        flow = gate[:, :, None] * rest + torch.stack(delta, dim=2) * (STRIDE * moved[:, None])
        return Scene.composited((one, two), share, flow, gate, state.float())
