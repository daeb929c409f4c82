"""Camera poses and warps of the normalised voxel cube (specification section 2).

Conventions:
    pose        (B, 6) = (r0, r1, r2, t0, t1, t2): rotations about y, x, z in radians, then translation in
                normalised-cube units (the cube spans [-1, 1] along x = columns, y = rows, z = depth).
    theta       (B, 3, 4) = [R | t]. It maps **output** (target view) coordinates to **input** (source view)
                coordinates, which is what `affine_grid` and `grid_sample` expect: a backward warp.
    code        (B, C, D, h, w). Grids are (B, D, h, w, 3) with the last axis (x, y, z).
    All sampling is trilinear with `align_corners=False`: -1 and 1 are the outer faces of the border voxels.
    Geometry is computed in at least float32, also under mixed precision: half a voxel is lost in bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError

CENTRE = 2.0  # cube units from the camera to the cube's centre; a convention of ours, as the published cube has no camera


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast leaves matrix products alone."""
    return torch.autocast(tensor.device.type, enabled=False)


def euler_to_theta(pose: Tensor) -> Tensor:
    """Pose six-vectors to `[R | t]` with R = Rx(r1) Ry(r0) Rz(r2), right-handed elementary rotations.

    Args:
        pose: (B, 6).
    Returns:
        (B, 3, 4).
    Raises:
        ConfigError: the last axis does not hold six numbers.
    """
    if pose.ndim != 2 or pose.shape[1] != 6:
        raise ConfigError(f"A pose has shape (B, 6), got {tuple(pose.shape)}: give three rotations (y, x, z) and three translations.")
    pose = pose.to(torch.promote_types(pose.dtype, torch.float32))
    y, x, z = pose[:, 0], pose[:, 1], pose[:, 2]
    one, nil = torch.ones_like(x), torch.zeros_like(x)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=1).view(-1, 3, 3)

    rx = matrix(one, nil, nil, nil, x.cos(), -x.sin(), nil, x.sin(), x.cos())
    ry = matrix(y.cos(), nil, y.sin(), nil, one, nil, -y.sin(), nil, y.cos())
    rz = matrix(z.cos(), -z.sin(), nil, z.sin(), z.cos(), nil, nil, nil, one)
    with full_precision(pose):
        return torch.cat([rx @ ry @ rz, pose[:, 3:, None]], dim=2)


def theta_to_euler(theta: Tensor) -> Tensor:
    """The six-vectors of rigid thetas: the inverse of `euler_to_theta`, for rotations about y within [-pi/2, pi/2].

    With R = Rx(x) Ry(y) Rz(z): R02 = sin y, R00 = cos y cos z, R01 = -cos y sin z, R12 = -sin x cos y, R22 = cos x cos y.
    Where cos y vanishes, only x + z (or x - z) is determined, and z is 0.

    Args:
        theta: (B, 3, 4), rotations without scale or mirror.
    Returns:
        (B, 6).
    Raises:
        ConfigError: not (B, 3, 4).
    """
    if theta.ndim != 3 or theta.shape[1:] != (3, 4):
        raise ConfigError(f"A theta has shape (B, 3, 4), got {tuple(theta.shape)}: give [R | t] per sample.")
    theta = theta.to(torch.promote_types(theta.dtype, torch.float32))
    r = theta[:, :, :3]
    cosine = torch.hypot(r[:, 0, 0], r[:, 0, 1])
    locked = cosine < 1e-6
    y = torch.atan2(r[:, 0, 2], cosine)
    x = torch.where(locked, torch.atan2(r[:, 2, 1], r[:, 1, 1]), torch.atan2(-r[:, 1, 2], r[:, 2, 2]))
    z = torch.atan2(-r[:, 0, 1], r[:, 0, 0]).masked_fill(locked, 0.0)
    return torch.cat([torch.stack([y, x, z], dim=1), theta[:, :, 3]], dim=1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """theta of `outer(inner(x))`: first `inner`, then `outer`. Both (..., 3, 4)."""
    with full_precision(outer):
        rotation = outer[..., :3] @ inner[..., :3]
        translation = outer[..., :3] @ inner[..., 3:] + outer[..., 3:]
    return torch.cat([rotation, translation], dim=-1)


def invert(theta: Tensor) -> Tensor:
    """Inverse of a rigid theta (..., 3, 4): [R^T | -R^T t]."""
    rotation = theta[..., :3].transpose(-1, -2)
    with full_precision(theta):
        return torch.cat([rotation, -rotation @ theta[..., 3:]], dim=-1)


def relative_pose(first: Tensor, second: Tensor) -> Tensor:
    """Relative pose of two thetas seen from the same reference: [R0^T R1 | R0^T (t1 - t0)], (..., 3, 4)."""
    return compose(invert(first), second)


def camera_of_cube(theta: Tensor, centre: float = CENTRE) -> Tensor:
    """A theta (B, 3, 4) of the cube as the camera's pose: turned about the camera, `centre` in front of the cube's centre."""
    shift = torch.eye(3, 4, dtype=theta.dtype, device=theta.device).repeat(len(theta), 1, 1)
    shift[:, 2, 3] = centre
    return compose(compose(shift, theta), invert(shift))


def offset_in_cube(offset: Tensor, focal: float, depth: float, width: int) -> Tensor:
    """A camera's offset (B, 3, 4) in world units as a theta of the cube.

    The scale is s = 2 focal / (width depth): a point at the depth `depth` then moves by as many pixels as in truth, as the picture is 2
    cube units wide. It also puts the camera s depth in front of the cube's centre (2 where the focal length is the width), so that a
    rotation, too, moves such a point as in truth.

    Args:
        focal: in pixels. depth: in world units. width: of the picture in pixels.
    """
    scale = 2 * focal / (width * depth)
    theta = torch.cat([offset[..., :3], offset[..., 3:] * scale], dim=-1)
    return camera_of_cube(theta, -scale * depth)


def warp(code: Tensor, theta: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Resample a code under a rigid motion: out(x) = code(theta x).

    Args:
        code: (B, C, D, h, w).
        theta: (B, 3, 4), output to input coordinates.
    Returns:
        (B, C, D, h, w).
    """
    with full_precision(code):
        grid = F.affine_grid(theta, list(code.shape), align_corners=False)
    return sample(code, grid, padding_mode)


def flow_warp(code: Tensor, offset: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Resample a code under a dense voxel flow: out(x) = code(x + offset(x)).

    Args:
        code: (B, C, D, h, w).
        offset: (B, D, h, w, 3), normalised-cube units, order (x, y, z).
    Returns:
        (B, C, D, h, w).
    """
    identity = torch.eye(3, 4, dtype=torch.promote_types(offset.dtype, torch.float32), device=offset.device)
    with full_precision(code):
        grid = F.affine_grid(identity.expand(code.shape[0], 3, 4), list(code.shape), align_corners=False)
    return sample(code, grid + offset, padding_mode)


def sample(code: Tensor, grid: Tensor, padding_mode: str) -> Tensor:
    """Trilinear `grid_sample` in the wider of both precisions; the result has the precision of `code`."""
    wide = torch.promote_types(code.dtype, grid.dtype)
    with full_precision(code):
        sampled = F.grid_sample(code.to(wide), grid.to(wide), mode="bilinear", padding_mode=padding_mode, align_corners=False)
    return sampled.to(code.dtype)


def accumulate(self_pose: Tensor, relative: Tensor) -> Tensor:
    """Chain relative poses into a trajectory, in the order of the published system.

    (R, t) starts as `self_pose`; then t <- t + R d with the old R, and R <- r R, for each (r, d).

    Args:
        self_pose: (3, 4), the first entry.
        relative: (T - 1, 3, 4), relative pose of frame i to i + 1.
    Returns:
        (T, 3, 4).
    """
    path = [self_pose]
    for step in relative:
        rotation, translation = path[-1][:, :3], path[-1][:, 3:]
        path.append(torch.cat([step[:, :3] @ rotation, translation + rotation @ step[:, 3:]], dim=1))
    return torch.stack(path)
