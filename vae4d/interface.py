"""What both families of models take, two frames of one shape, and what they give for a moment and a camera."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .errors import ConfigError


@dataclass(frozen=True)
class Synthesis:
    """What one synthesis gives: the picture, and what the model believed on the way to it.

    `voxel_flow` F holds offsets (x, y, z) in units in which the volume spans [-1, 1]. In the faithful model it points backwards: frame 0's
    code S is sampled at p + t F(p), so content moves against F. In the sharp one it points forwards, see `SharpSynthesis`.
    """

    image: Tensor  # (B, 3, H, W), clamped to [0, 1]
    voxel_flow: Tensor | None  # (B, D, H/4, W/4, 3) between both frames' codes; None without flow
    pose: Tensor  # (B, 6), from encoder_traj(frame 0, frame 1)
    codes: tuple[Tensor, Tensor, Tensor]  # S, E on the grid the flow lives on, and the code that was decoded


def require_one_shape(first: Tensor, second: Tensor) -> None:
    """Raise ConfigError for two frames (B, 3, H, W) that differ in shape."""
    if first.shape != second.shape:
        raise ConfigError(f"The two frames differ in shape, {tuple(first.shape)} and {tuple(second.shape)}: crop or resize them alike.")
