"""Pinhole cameras.

Conventions:
    Axes as OpenCV: x right, y down, z forward, for the camera and for the world. Depth is z along the optical axis, in
    world units. Pixels are (x, y); the centre of the upper left pixel is (0.5, 0.5), as in `align_corners=False`.
    pose        (B, 3, 4) = [R | t], camera to world.
    ray         a point (x, y) of the plane z = 1 of the camera. The ray's point at depth z is z * (x, y, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ConfigError
from ..geometry import compose


@dataclass(frozen=True, eq=False)
class Camera:
    """B cameras with square pictures of one size."""

    intrinsics: Tensor  # (B, 3, 3), in pixels of the picture
    pose: Tensor  # (B, 3, 4) camera to world, float64
    size: int  # side of the picture in pixels

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 4:
            raise ConfigError(f"The picture's size is {self.size!r}: give a whole number of at least 4 pixels.")
        if self.intrinsics.shape[1:] != (3, 3) or self.pose.shape[1:] != (3, 4) or len(self.intrinsics) != len(self.pose):
            shapes = f"{tuple(self.intrinsics.shape)} and {tuple(self.pose.shape)}"
            raise ConfigError(f"A camera has intrinsics (B, 3, 3) and pose (B, 3, 4), got {shapes}: give one of each per scene.")

    def __len__(self) -> int:
        return len(self.pose)

    def __getitem__(self, span: slice) -> Camera:
        return Camera(self.intrinsics[span], self.pose[span], self.size)

    def rays(self, pixels: Tensor | None = None) -> Tensor:
        """(B, 2, N) rays through `pixels` (B, N, 2), or through all pixel centres, row by row."""
        if pixels is None:
            centre = torch.arange(self.size, device=self.pose.device, dtype=torch.float32) + 0.5
            y, x = torch.meshgrid(centre, centre, indexing="ij")
            pixels = torch.stack([x.flatten(), y.flatten()], dim=-1)[None]
        k = self.intrinsics
        return torch.stack([(pixels[..., i] - k[:, i, 2:]) / k[:, i, i, None] for i in range(2)], dim=1)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points (B, N, 3) to pixels (B, N, 2) and depth (B, N). Points with depth <= 0 lie behind the camera."""
        rotation, translation = self.pose[:, :, :3].to(points.dtype), self.pose[:, :, 3].to(points.dtype)
        local = (points - translation[:, None]) @ rotation
        depth = local[..., 2]
        focal = torch.stack([self.intrinsics[:, 0, 0], self.intrinsics[:, 1, 1]], dim=-1)
        return local[..., :2] / depth[..., None] * focal[:, None] + self.intrinsics[:, None, :2, 2], depth

    def moved(self, offset: Tensor) -> Camera:
        """The camera after a motion in its own frame: `offset` (B, 3, 4) maps the new camera's points to this camera's."""
        return replace(self, pose=compose(self.pose, offset.to(self.pose)))
