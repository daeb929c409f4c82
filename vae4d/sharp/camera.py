"""The camera between two frames: rigid motion of the pair, where it moves pixels of a given inverse depth, and how it is found.

Conventions:
    ray         (x, y) on the plane z = 1 of the camera, x right, y down; pixel (u, v) of a W x H picture has x = (u + 0.5 - W / 2) / (f W)
                and y = (v + 0.5 - H / 2) / (f W), where f is the focal length in widths of the picture.
    z           inverse depth, in units of the inverse of the scene's scale: 1 is the scene's median.
    xi          (B, 6) = (T, omega), the twist whose exponential maps the second camera's points to the first camera's. T in units of the
                scene's median depth, omega in radians. The camera at t is exp(t xi).
    motion      (B, 2, H, W) in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import full_precision

TOLD = 0.003**2  # a translation that moves a ray by this much (0.4 px of 128) tells its depth by half
LEAST = 1e-3  # weight of a pixel that certainly moves by itself
DAMPING = 1e-6  # of the normal equations: a twist that the motion does not tell stays at nothing


def rays(height: int, width: int, focal: Tensor, stride: float = 1) -> Tensor:
    """(B, 2, H, W) rays through the centres of pixels that are `stride` pixels wide; focal (B,) in widths of the whole picture."""
    x = (torch.arange(width, device=focal.device, dtype=torch.float32) + 0.5 - width / 2) / width
    y = (torch.arange(height, device=focal.device, dtype=torch.float32) + 0.5 - height / 2) / width
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    return grid / focal[:, None, None, None]


def twist_matrix(xi: Tensor) -> Tensor:
    """exp(xi) as (B, 4, 4)."""
    zero = torch.zeros_like(xi[:, 0])
    tx, ty, tz, x, y, z = xi.unbind(1)
    rows = [zero, -z, y, tx, z, zero, -x, ty, -y, x, zero, tz, zero, zero, zero, zero]
    with full_precision(xi):
        return torch.linalg.matrix_exp(torch.stack(rows, dim=1).view(-1, 4, 4))


def jacobian(ray: Tensor, z: Tensor) -> Tensor:
    """(B, 2, 6, H, W): motion of a ray from the first to the second camera per unit of the twist, to first order.

    X1 = X0 - omega x X0 - T, so dx = z (-Tx + x Tz) + x y wx - (1 + x^2) wy + y wz, and likewise for y (Longuet-Higgins and Prazdny
    1980, equation 2.10, with the camera's motion of the opposite sign).
    """
    x, y = ray[:, 0], ray[:, 1]
    zero = torch.zeros_like(z)
    first = torch.stack([-z, zero, x * z, x * y, -(1 + x * x), y], dim=1)
    second = torch.stack([zero, -z, y * z, 1 + y * y, -x * y, -x], dim=1)
    return torch.stack([first, second], dim=1)


def solve_twist(motion: Tensor, ray: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """The twist (B, 6) that explains a motion best, by weighted least squares: linear in the motion, so no motion gives no twist.

    Args:
        motion: (B, 2, H, W) motion of rays, from the first to the second camera.
        ray: (B, 2, H, W). z: (B, H, W) inverse depth. weight: (B, H, W) >= 0; even no weight at all counts a little.
    """
    with full_precision(motion):
        j = jacobian(ray, z.float()).flatten(3).permute(0, 1, 3, 2).flatten(1, 2)  # (B, 2 H W, 6)
        weight = weight.float().flatten(1) + LEAST
        weight = (weight / weight.sum(dim=1, keepdim=True)).repeat(1, 2)[..., None]
        weighted = (j * weight).transpose(1, 2)
        normal = weighted @ j + DAMPING * torch.eye(6, device=j.device)
        return torch.linalg.solve(normal, weighted @ motion.float().flatten(1)[..., None])[..., 0]


def homogeneous(theta: Tensor) -> Tensor:
    """(B, 3, 4) with its last row, (B, 4, 4)."""
    last = theta.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(theta), 1, 4)
    return torch.cat([theta, last], dim=1)


def evidence(motion: Tensor, ray: Tensor, z: Tensor, xi: Tensor) -> Tensor:
    """What a twist makes of a motion, (B, 4, h, w): log inverse depth by triangulation, how far the translation tells it (0 to 1), and the
    motion that is left over at the inverse depth z (B, h, w).
    """
    with full_precision(motion):
        turning = torch.einsum("bckhw,bk->bchw", jacobian(ray, torch.zeros_like(z)), xi)
        sliding = torch.einsum("bckhw,bk->bchw", jacobian(ray, torch.ones_like(z)), xi) - turning
        rest = motion - turning
        length = sliding.square().sum(1)
        depth = (sliding * rest).sum(1) / (length + TOLD)
        told = length / (length + TOLD)
        left = rest - sliding * z[:, None]
        return torch.cat([(depth.clamp(0.05, 10).log() * told)[:, None], told[:, None], 30 * left], dim=1)


def displacement(theta: Tensor, ray: Tensor, z: Tensor) -> Tensor:
    """Motion of rays from one camera to another, exact: (B, 2, ...) for rays (B, 2, ...) of inverse depth z (B, ...).

    Args:
        theta: (B, 4, 4) or (B, 3, 4), this camera's points to the other camera's.
    """
    shape = (-1,) + (1,) * (z.ndim - 1)
    m = [[theta[:, i, k].reshape(shape) for k in range(4)] for i in range(3)]
    x, y = ray[:, 0], ray[:, 1]
    p, q, r = (m[i][0] * x + m[i][1] * y + m[i][2] + m[i][3] * z for i in range(3))
    r = r.clamp_min(0.05)  # what lies behind the other camera goes far away instead of turning round
    return torch.stack([p / r - x, q / r - y], dim=1)
