"""Worlds of known make for the tests of scenes."""

from __future__ import annotations

from dataclasses import replace

import torch

from vae4d.scenes import WorldOptions, generate, render
from vae4d.scenes.world import ROOM, Path

STILL = {"camera_motion": (1, 1), "object_motion": (1, 1), "still_cameras": 1.0, "still_worlds": 1.0}


def hand_made(textures, *objects, room=(100.0, 100.0, 4.0), camera=(0.0, 0.0, 0.0), camera_spin=(0.0, 0.0, 0.0)):
    """One scene with focal length 1 width and a room about the origin; objects are (kind, half, position, velocity, spin).

    `camera` is the camera's velocity, from the origin, looking along z.
    """
    world = generate([0], WorldOptions(objects=(len(objects), len(objects)), **STILL), textures)
    rows = [(ROOM, room, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), *objects]
    kind = torch.tensor([[row[0] for row in rows]])
    half, position, velocity, spin = (torch.tensor([[row[i] for row in rows]], dtype=torch.float64) for i in (1, 2, 3, 4))

    def path(position, velocity, spin):
        eye = torch.eye(3, dtype=torch.float64).expand(*position.shape, 3)
        return Path(position, velocity, torch.zeros_like(position), eye, spin, torch.zeros_like(position[..., 0]))

    moves = [torch.tensor([v], dtype=torch.float64) for v in ((0.0, 0.0, 0.0), camera, camera_spin)]
    return replace(
        world,
        kind=kind, kinds=tuple(map(tuple, kind.tolist())), half=half.float(), path=path(position, velocity, spin),
        camera_path=path(*moves), focal=torch.ones(1),
    )  # fmt: skip


def still(kind, half, position, velocity=(0.0, 0.0, 0.0), spin=(0.0, 0.0, 0.0)):
    return kind, half, position, velocity, spin


def two_views(world, size, first=0.0, second=1.0):
    return tuple(render(world, world.camera(t, size), t) for t in (first, second))


def grid(size):
    centre = torch.arange(size) + 0.5
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y])


def painted(world, *grey):
    """The world with plain colours, one per primitive."""
    surface = world.surface.clone()
    surface[..., 8:15] = 0  # no texture, no shading
    surface[..., 11:14] = torch.tensor(grey)[None, :, None, None]
    return replace(world, surface=surface)
