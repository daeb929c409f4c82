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

import math

import torch
from torch import Tensor

from ..geometry import full_precision

TOLD = 0.003**2  # a translation that moves a ray by this much (0.4 px of 128) tells its depth by half
LEFT = 0.001**2  # squared motion of a ray that, left over by a solution, has it count by a quarter: what moves by itself is known by then
FINE = 0.001**2  # as `TOLD`, by a finer measure
MEASURED = 0.0016  # error of a ray's motion: 0.2 px of 128
GUESSED = 0.5  # error of an inverse depth that a network guessed, of itself
LEAST = 1e-3  # weight of a pixel that certainly moves by itself
SPREADS = (0.25, 0.08, 0.03)  # radii of the grids of directions around the best one
REWEIGHTED = 3  # rounds of robust weights
STRICTER = 0.3  # of `TOLD`, where what moves by itself is known
POINTS = 16  # a side, about, at which directions are compared: more take longer, and tell no more
EVIDENCE = 5  # facts a ray, see `evidence`
SHOWN = 1 / 30  # motion of a ray that is shown to a network as 1: 4 px of 128
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


@torch.no_grad()
def solve_twist(motion: Tensor, ray: Tensor, z: Tensor, weight: Tensor, xi: Tensor) -> Tensor:
    """The twist (B, 6) that explains a motion best, one step from `xi`: linear in the motion, so no motion gives no twist.

    Least squares in which the inverse depth is uncertain as well: along the way in which the translation moves a pixel its motion may be
    the depth's fault, so what is measured there counts less, the more the translation moves it; across, it is the camera's (the variance of
    depth, marginalised). Pixels that `xi` leaves unexplained count less (Geman and McClure). Without gradient.

    Args:
        motion: (B, 2, H, W) motion of rays, from the first to the second camera.
        ray: (B, 2, H, W). z: (B, H, W) inverse depth. weight: (B, H, W) >= 0; even no weight at all counts a little.
        xi: (B, 6), a first answer.
    """
    with full_precision(motion):
        j, motion = jacobian(ray, z.float()), motion.float()
        sliding = torch.einsum("bckhw,bk->bchw", j[:, :, :3], xi[:, :3])
        squared = sliding.square().sum(1, keepdim=True)
        direction = sliding * (squared + 1e-12).rsqrt()
        # 1 - the square root of the share of variance that the measurement has along the direction
        less = 1 - (MEASURED**2 / (MEASURED**2 + GUESSED**2 * squared)).sqrt()
        j = j - (less * direction)[:, :, None] * torch.einsum("bchw,bckhw->bkhw", direction, j)[:, None]
        motion = motion - less * direction * (direction * motion).sum(1, keepdim=True)
        left = (motion - torch.einsum("bckhw,bk->bchw", j, xi)).square().sum(1)
        weight = (weight.float() + LEAST) * (LEFT / (LEFT + left)).square()
        weight = (weight / weight.sum(dim=(1, 2), keepdim=True)).flatten(1).repeat(1, 2)[..., None]
        j = j.flatten(3).permute(0, 1, 3, 2).flatten(1, 2)  # (B, 2 H W, 6)
        weighted = (j * weight).transpose(1, 2)
        normal = weighted @ j + DAMPING * torch.eye(6, device=j.device)
        return torch.linalg.solve(normal, weighted @ motion.flatten(1)[..., None])[..., 0]


def search_twist(motion: Tensor, ray: Tensor, before: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The twist (B, 6) that explains a motion best whatever the depth; without gradient.

    For a direction of translation, the motion across it is turned by rotation alone, linear in omega: so every direction of a grid gets its
    rotation and what it leaves over (Heeger and Jepson 1992, subspace methods), with weights against pixels that move by themselves (Geman
    and McClure); then the grid grows finer around the best. Scale: the median inverse depth, counted by how well it is told, is 1.

    Args:
        motion: (B, 2, H, W) motion of rays. ray: (B, 2, H, W).
        before: weights (B, H, W) in [0, 1] and a twist (B, 6), where a round before found them: pixels that move by themselves hardly count
            then, the others are taken at their word, and the twist's direction is tried as well.
    """
    with torch.no_grad(), full_precision(motion):
        motion = motion.float()
        step = max(1, min(motion.shape[-2:]) // POINTS)
        few, at = motion[..., ::step, ::step], ray[..., ::step, ::step]
        hemisphere, around = directions(motion.device)
        given, told, tried = torch.ones_like(few[:, 0]), TOLD, hemisphere.expand(len(motion), -1, -1)
        if before is not None:
            given, told = before[0].float()[:, ::step, ::step] + LEAST, STRICTER * TOLD
            way = torch.nn.functional.normalize(before[1][:, None, :3], dim=2)
            # As far as directions go a twist and its opposite are one: swapped frames search the same ones.
            way = way * way.gather(2, way.abs().argmax(dim=2, keepdim=True)).sign()
            tried = torch.cat([tried, way], dim=1)
        j = jacobian(at, torch.ones_like(given)).flatten(3)
        for spread in (*SPREADS, 0.0):
            omega, cost = rotations(tried, few.flatten(2), j[:, :, :3], j[:, :, 3:], given.flatten(1), told)
            best = cost.argmin(dim=1)
            index = torch.arange(len(motion), device=motion.device)
            direction, omega = tried[index, best], omega[index, best]
            if spread:
                tried = torch.nn.functional.normalize(direction[:, None] + spread * around, dim=2)
        j = jacobian(ray, torch.ones_like(motion[:, 0]))
        along = torch.einsum("bcihw,bi->bchw", j[:, :, :3], direction)
        rest = motion - torch.einsum("bcihw,bi->bchw", j[:, :, 3:], omega)
        length, product = along.square().sum(1), (along * rest).sum(1)
        # The scene lies in front of the camera: most points say which way it goes.
        sign = torch.where((product / (product.abs() + TOLD)).sum(dim=(1, 2)) < 0, -1.0, 1.0)[:, None]
        depth = sign[..., None] * product / (length + 1e-4)
        scale = depth.flatten(1).clamp_min(0).median(dim=1, keepdim=True).values.clamp_min(1e-6)
        return torch.cat([direction * sign * scale, omega], dim=1)


def rotations(tried: Tensor, motion: Tensor, sliding: Tensor, turning: Tensor, given: Tensor, told: float) -> tuple[Tensor, Tensor]:
    """For directions of translation (B, K, 3) the best rotations (B, K, 3), and their robust costs (B, K).

    Args:
        motion: (B, 2, P). sliding, turning: (B, 2, 3, P), the Jacobian's halves at inverse depth 1.
        given: (B, P) weights. told: squared motion that, left over, counts by half.
    """
    along = torch.einsum("bcip,bki->bkcp", sliding, tried)
    across = torch.stack([-along[:, :, 1], along[:, :, 0]], dim=2)
    across = across / (across.square().sum(2, keepdim=True).sqrt() + 0.05)  # near the focus of expansion no direction is told
    rows = torch.einsum("bkcp,bcip->bkpi", across, turning)
    wanted = torch.einsum("bkcp,bcp->bkp", across, motion)
    given = given[:, None]
    weight = given.expand_as(wanted)
    for _ in range(REWEIGHTED):
        weighted = rows * weight[..., None]
        normal = weighted.transpose(2, 3) @ rows + DAMPING * torch.eye(3, device=rows.device)
        omega = torch.linalg.solve(normal, weighted.transpose(2, 3) @ wanted[..., None])
        squared = (wanted - (rows @ omega)[..., 0]).square()
        weight = given * (told / (told + squared)).square()
    return omega[..., 0], (given * squared / (squared + told)).sum(-1)


def directions(device: torch.device) -> tuple[Tensor, Tensor]:
    """Directions (K, 3) evenly over half a sphere, by Fibonacci's spiral, and offsets (L, 3) around one: none, and a ball of length 1."""
    def spiral(count: int, low: float) -> Tensor:
        index = torch.arange(count, device=device) + 0.5
        z, turn = low + (1 - low) * index / count, index * math.pi * (1 + 5**0.5)
        radius = (1 - z * z).clamp_min(0).sqrt()
        return torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=1)

    ball = torch.cat([torch.zeros(1, 3, device=device), 0.5 * spiral(8, -1.0), spiral(16, -1.0)])
    return spiral(64, 0.0), ball


def homogeneous(theta: Tensor) -> Tensor:
    """(B, 3, 4) with its last row, (B, 4, 4)."""
    last = theta.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(theta), 1, 4)
    return torch.cat([theta, last], dim=1)


@torch.no_grad()
def evidence(motion: Tensor, ray: Tensor, xi: Tensor) -> Tensor:
    """What a twist makes of a motion, (B, EVIDENCE, h, w), whatever anybody believes of depth; without gradient.

    Log inverse depth by triangulation, as far as the translation tells it; how far it does (0 to 1), by a coarse and by a fine measure; and
    the motion (x, y) that no inverse depth in front of the camera explains, in units of `SHOWN`.
    """
    with full_precision(motion):
        zero = torch.zeros_like(motion[:, 0])
        turning = torch.einsum("bckhw,bk->bchw", jacobian(ray, zero), xi)
        sliding = torch.einsum("bckhw,bk->bchw", jacobian(ray, zero + 1), xi) - turning
        rest = motion.float() - turning
        length, product = sliding.square().sum(1), (sliding * rest).sum(1)
        told = length / (length + TOLD)
        depth = (product / (length + TOLD)).clamp(0.05, 10).log() * told
        left = rest - sliding * (product / (length + FINE)).clamp(0.05, 10)[:, None]
        return torch.cat([torch.stack([depth, told, length / (length + FINE)], dim=1), left / SHOWN], dim=1)


@torch.no_grad()
def best_twist(motion: Tensor, ray: Tensor, weight: Tensor, twists: tuple[Tensor, ...]) -> Tensor:
    """Of some twists (B, 6) the one that leaves least of a motion unexplained, robustly (Geman and McClure); weight (B, H, W) >= 0."""
    costs = []
    for xi in twists:
        squared = (evidence(motion, ray, xi)[:, -2:] * SHOWN).square().sum(1)
        costs.append(((weight + LEAST) * squared / (squared + LEFT)).flatten(1).sum(1))
    best = torch.stack(costs).argmin(dim=0)
    return torch.stack(twists)[best, torch.arange(len(motion), device=motion.device)]


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
