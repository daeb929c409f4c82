"""Exact motion between two views of a world.

Conventions: flow (x right, y down) in pixels, from a pixel's centre in `a` to where its surface point lies in `b`, in pixels of
b's grid. Scene flow in world units and world axes: where the surface point goes from a's time to b's. `visible`: the surface
point lies inside b's picture, and nothing hides it there; found by casting a ray from b's camera through it.
The two views may differ in time, in camera, or in both: with one time it is stereo and co-visibility, with one camera it is
the objects' own motion. Flow the other way is `motion(world, b, a)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..geometry import compose, invert
from .intersect import NEAR, cast
from .render import View, camera_to_primitives, rows, spans
from .world import World

SAME_DEPTH = 2e-3  # relative; nearer hits hide the point


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of what view `a` shows, towards view `b`."""

    flow: Tensor  # (B, 2, S, S) px of b's grid
    visible: Tensor  # (B, S, S) bool: seen in b as well
    scene_flow: Tensor  # (B, 3, S, S) world units, world axes


@torch.no_grad()
def motion(world: World, a: View, b: View) -> Motion:
    """Where the surface points seen in `a` are in `b`.

    Args:
        world: the B scenes that both views show.
        a, b: views from `render`.
    Raises:
        ConfigError: the views are not of as many scenes, or not of one size.
    """
    if not len(world) == len(a.depth) == len(b.depth) or a.camera.size != b.camera.size:
        shapes = f"{tuple(a.depth.shape)} and {tuple(b.depth.shape)} for {len(world)} scenes"
        raise ConfigError(f"The views have depths {shapes}: give two views of the same world and size.")
    from_a, to_b = camera_to_primitives(world, a.camera, a.t), camera_to_primitives(world, b.camera, b.t)
    # in the camera's frames: a -> primitive -> b. In the world's: a -> primitive -> world at b's time, less where it was.
    between = compose(invert(to_b), from_a)
    travel = compose(world.path.pose(b.t), from_a) - a.camera.pose[:, None]
    # rounded, what stands still has a motion of exactly nothing
    table = (torch.cat([between, travel], dim=2).flatten(2) * 2**40).round().div(2**40).float()
    to_b = to_b.float()
    parts = [part(world[s], a, b, s, table[s], to_b[s]) for s in spans(world, a.camera.size**2)]
    return Motion(*(torch.cat(p) if len(parts) > 1 else p[0] for p in zip(*parts, strict=True)))


def part(world: World, a: View, b: View, span: slice, table: Tensor, to_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """flow, visible, scene flow of a few scenes."""
    rays = a.camera[span].rays()
    x, y = rays[:, 0], rays[:, 1]
    depth = a.depth[span].flatten(1)
    ids = a.ids[span].flatten(1)
    m = rows(table, ids)
    nearness = depth.reciprocal()

    def turned(i: int) -> Tensor:
        return torch.addcmul(torch.addcmul(m[i + 2], m[i], x), m[i + 1], y)

    qx, qy, qz = (torch.addcmul(turned(4 * i), m[4 * i + 3], nearness) for i in range(3))  # in b's camera, over a's depth
    scene_flow = torch.stack([torch.addcmul(m[4 * i + 3], turned(4 * i), depth) for i in range(3, 6)], dim=1)
    there = torch.stack([qx / qz, qy / qz], dim=1)
    first, second = a.camera.intrinsics[span], b.camera.intrinsics[span]
    size = a.camera.size
    same_lens = a.camera.intrinsics is b.camera.intrinsics or torch.equal(first, second)
    focal, centre = second[:, [0, 1], [0, 1], None], second[:, :2, 2:]
    pixels = torch.addcmul(centre, there, focal)
    if same_lens:
        flow = (there - rays) * focal  # exactly 0 where nothing moves
    else:
        flow = pixels - torch.addcmul(first[:, :2, 2:], rays, first[:, [0, 1], [0, 1], None])
    inside = ((pixels >= 0) & (pixels < size)).all(dim=1) & (qz > NEAR * nearness)
    far = qz * depth
    # rays that miss the picture are not cast for; outside they would be wasted, and NaN behind the camera
    hit, owner = cast(world, to_b, torch.where(inside[:, None], there, 0.0))
    visible = inside & (owner == ids) & ((hit - far).abs() < SAME_DEPTH * far)
    shape = (-1, size, size)
    return flow.unflatten(2, (size, size)), visible.view(shape), scene_flow.unflatten(2, (size, size))
