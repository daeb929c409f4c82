"""Where things stand, their shapes and their surfaces at time 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .intersect import radius_of
from .options import Draws, WorldOptions
from .textures import Textures
from .world import BOX, FACES, FREE_FORM, KINDS, NONE, PLANE, ROOM, SPHERE, WAVES, Path, World, rotation_by

WIDTH = 128  # px: the picture for which sizes, textures and motions are laid out
TEXELS = 256  # of a photograph, for the density below
NEAREST = 1.6  # world units; where the nearest objects' centres stand


def layout(scene: Draws, primitive: Draws, options: WorldOptions, textures: Textures) -> World:
    """Worlds in which nothing moves yet."""
    batch, count = primitive.numbers.shape[:2]
    focal = scene.uniform(*options.focal, 1)[:, 0]
    nothing = torch.zeros(batch, 3, dtype=torch.float64)
    rotation = look(scene)
    camera_path = standing(nothing, rotation)

    used = torch.arange(1, count) <= scene.whole(options.objects[0], options.objects[1] + 1, 1)
    names = torch.tensor([KINDS[name] for name in options.kinds])
    kind = names[primitive.whole(0, len(names), 1)[..., 0]]
    kind = torch.cat([torch.full((batch, 1), ROOM), torch.where(used, kind[:, 1:], NONE)], dim=1)

    centre, room = room_of(scene, options)
    place = primitive.uniform(-0.42, 0.42, 2) / focal[:, None, None]
    ray = torch.cat([place, torch.ones(batch, count, 1, dtype=torch.float64)], dim=-1) @ rotation.transpose(1, 2)  # in world axes
    wall = ((centre[:, None] + ray.sign() * room[:, None]) / ray).amin(dim=-1, keepdim=True)
    depth = NEAREST * (0.9 * wall / NEAREST).clamp(min=1) ** primitive.uniform(0, 1, 1)
    size = primitive.log_uniform(8, 28, 1) / WIDTH * depth / focal[:, None, None]  # about the radius

    waves = bumps(primitive)
    half = size * shapes(primitive, kind)
    half[..., 1] *= torch.where(kind == FREE_FORM, widest(waves), 1.0)
    half[:, 0] = room
    position = ray * depth
    position[:, 0] = centre
    path = standing(position, turned(primitive, kind, rotation))
    surface = surfaces(primitive, kind, reference_depth(depth, centre, room, focal), focal, len(textures))
    return World(
        kind, half.float(), waves.float(), path, surface.float(), camera_path, focal.float(),
        torch.zeros(batch), torch.zeros(batch), textures, tuple(map(tuple, kind.tolist())),
    )  # fmt: skip


def standing(position: Tensor, rotation: Tensor) -> Path:
    """Paths of what does not move."""
    nothing = torch.zeros_like(position)
    return Path(position, nothing, nothing, rotation, nothing, nothing[..., 0])


def look(scene: Draws) -> Tensor:
    """(B, 3, 3) cameras that look roughly along z: yaw within 0.45 rad, pitch 0.15, roll 0.1."""
    angles = scene.uniform(-1, 1, 3) * torch.tensor([0.15, 0.45, 0.1], dtype=torch.float64)
    return rotation_by(angles)


def room_of(scene: Draws, options: WorldOptions) -> tuple[Tensor, Tensor]:
    """Centre and half extents (B, 3) of rooms around a camera at 0."""
    open_room = scene.chance(options.open_rooms)
    left, right = scene.log_uniform(1.5, 5, 2).unbind(1)
    up, down = scene.log_uniform(1.2, 4, 1)[:, 0], scene.log_uniform(1, 2.5, 1)[:, 0]
    front, back = scene.log_uniform(3.5, 14, 1)[:, 0], scene.uniform(2, 4, 1)[:, 0]
    far = torch.where(open_room, 8.0, 1.0)
    low = -torch.stack([left * far, up * far, back], dim=1)
    high = torch.stack([right * far, down, front], dim=1)
    return (low + high) / 2, (high - low) / 2


def shapes(primitive: Draws, kind: Tensor) -> Tensor:
    """(B, P, 3) half extents of primitives of radius 1."""
    sides = primitive.uniform(0.45, 0.9, 3)
    round_ = torch.where(kind == SPHERE, 0.8, 0.65)[..., None].to(sides)
    return torch.where(((kind == BOX) | (kind == PLANE))[..., None], sides, round_)


def bumps(primitive: Draws) -> Tensor:
    """(B, P, WAVES, 5) of free-form objects: radii between about 0.6 and 1.4 of their mean."""
    vectors = primitive.uniform(-1, 1, 3 * WAVES).unflatten(-1, (WAVES, 3))
    vectors = vectors * torch.linspace(1.5, 4.5, WAVES, dtype=torch.float64)[:, None]
    phase = primitive.uniform(0, 2 * math.pi, WAVES)
    # the finer, the flatter
    height = torch.linspace(0.16, 0.06, WAVES, dtype=torch.float64).expand_as(phase)
    return torch.cat([vectors, phase[..., None], height[..., None]], dim=-1)


def widest(waves: Tensor) -> Tensor:
    """(B, P) bounding radii of free-form objects over their mean radius, from 256 directions and 5 % to spare."""
    z = (torch.arange(256, dtype=torch.float64) + 0.5) / 128 - 1
    flat, turn = (1 - z * z).sqrt(), torch.arange(256) * math.pi * (3 - math.sqrt(5))
    directions = [flat * turn.cos(), flat * turn.sin(), z]  # a Fibonacci lattice
    return radius_of(directions, waves[..., None, :, :]).amax(dim=-1) * 1.05


def turned(primitive: Draws, kind: Tensor, camera: Tensor) -> Tensor:
    """(B, P, 3, 3) rotations: the room upright, rectangles facing the camera within 55 degrees, the others any."""
    free = rotation_by(primitive.direction() * primitive.uniform(0, math.pi, 1))
    tilt = primitive.uniform(-1, 1, 2)
    tilt = tilt * (primitive.uniform(0, 0.96, 1) / tilt.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6))
    roll = primitive.uniform(-math.pi, math.pi, 1)
    nil = torch.zeros_like(roll)
    facing = camera[:, None] @ rotation_by(torch.cat([tilt, nil], dim=-1)) @ rotation_by(torch.cat([nil, nil, roll], dim=-1))
    rotation = torch.where((kind == PLANE)[..., None, None], facing, free)
    rotation[:, 0] = torch.eye(3, dtype=torch.float64)
    return rotation


def reference_depth(depth: Tensor, centre: Tensor, room: Tensor, focal: Tensor) -> Tensor:
    """(B, P, FACES) depth at which a face is usually seen: of objects their own, of walls where they come into the picture."""
    faces = depth.expand(-1, -1, FACES).clone()
    low, high = room - centre, room + centre  # distances from the camera to the walls before and behind it on each axis
    walls = torch.stack([low, high], dim=-1)  # (B, axis, side)
    walls[:, :2] *= 3 * focal[:, None, None]  # seen from 2 focal lengths on
    faces[:, 0] = walls.flatten(1)
    return faces


def surfaces(primitive: Draws, kind: Tensor, depth: Tensor, focal: Tensor, photographs: int) -> Tensor:
    """(B, P, FACES, columns): photograph, crop, mirror, turn, tint, contrast and light of every face.

    The density is such that a pixel of a picture 128 px wide covers 2 to 7 texels of a photograph of 256 (walls: 1.4 to 5), seen face on.
    """
    batch, count = kind.shape
    photo = primitive.whole(0, photographs, FACES)
    density = primitive.log_uniform(2, 7, FACES)
    density[:, 0] *= 0.7  # walls are large enough to show a photograph
    density = density * focal[:, None, None] * WIDTH / (depth * TEXELS)
    angle = primitive.uniform(-1, 1, FACES)
    mirror = torch.where(primitive.uniform(-1, 1, FACES) < 0, -1.0, 1.0)
    u, v = primitive.uniform(0, 2, FACES), primitive.uniform(0, 2, FACES)
    one_photo = primitive.chance(0.5)
    one_photo[:, 0] = False  # every wall has its own
    photo = torch.where(one_photo[..., None], photo[..., :1], photo)
    angle = angle * math.pi
    angle[:, 0] *= 0.06  # walls hang nearly straight
    cosine, sine = angle.cos() * density, angle.sin() * density

    contrast, brightness = primitive.uniform(0.7, 1.1, 1), primitive.uniform(-0.12, 0.12, 1)
    gain = primitive.uniform(0.65, 1.1, 3) * contrast
    bias = 0.5 + brightness - 0.5 * gain
    shade = primitive.uniform(0, 0.3, 1)
    light = primitive.direction()
    # equal-area maps of round objects stretch by up to sqrt 2
    stretch = torch.where((kind == SPHERE) | (kind == FREE_FORM), math.sqrt(2), 1.0)[..., None]
    per_face = [photo, mirror * cosine, -sine, mirror * sine, cosine, u, v, density * stretch]
    columns = [c.to(torch.float64)[..., None] for c in per_face]
    columns += [c[:, :, None].expand(batch, count, FACES, c.shape[-1]) for c in (gain, bias, shade, light)]
    return torch.cat(columns, dim=-1)
