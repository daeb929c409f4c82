"""How the camera and the objects move, scaled to a motion in the picture.

Between t = 0 and 1 something is displaced by V, along V (t + k (t^2 - t)) + C (t^2 - t): k speeds it up or slows it down, C bends
the path. It turns about a fixed axis, with the same k.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..geometry import compose, invert
from .intersect import cast
from .layout import WIDTH
from .options import Draws, WorldOptions
from .world import NONE, PLANE, Path, World

MARGIN = 0.3  # world units that the camera keeps to objects and walls for 0 <= t <= 1
MOST_TURN = 0.8  # radians that an object turns between t = 0 and 1
SMALLEST = 0.3  # an object that would have to shrink below this share to keep clear of the camera is left out
GRID = 16  # rays a side by which the camera's motion is measured
ROUNDS = 5  # of scaling; displacements are nearly proportional to the motion


def path_of(path: Path, draws: Draws, shift: Tensor, turn: Tensor) -> Path:
    """A standing path set in motion: displaced by `shift` (..., 3) and turned by `turn` (..., 3) at t = 1."""
    speed_up = draws.uniform(-0.6, 0.6, 1) * draws.chance(0.5)[..., None]
    bend = draws.direction() * shift.square().sum(-1, keepdim=True).sqrt() * draws.uniform(0, 0.4, 1)
    velocity, acceleration = shift * (1 - speed_up) - bend, 2 * (shift * speed_up + bend)
    spin_up = (speed_up / (1 - speed_up))[..., 0]
    return replace(path, velocity=velocity, acceleration=acceleration, spin=turn * (1 - speed_up), spin_up=spin_up)


def scaled(path: Path, factor: Tensor, most_turn: float = torch.inf) -> Path:
    """A path with its motion times `factor` (...,), turning by at most `most_turn` radians at t = 1."""
    angle = path.spin.square().sum(-1).sqrt() * (1 + path.spin_up)
    turn = torch.minimum(factor, most_turn / angle.clamp(min=1e-9))[..., None]
    factor = factor[..., None]
    return replace(path, velocity=path.velocity * factor, acceleration=path.acceleration * factor, spin=path.spin * turn)


def draw_target(draws: Draws, limits: tuple[float, float], still: Tensor) -> Tensor:
    """(B,) px of motion, 0 for those that stand still."""
    return draws.log_uniform(*limits, 1)[:, 0] * ~still


def rounded(factor: Tensor) -> Tensor:
    """To 20 binary places: the last digits of sums may depend on the batch, the worlds must not."""
    return (factor * 2**20).round() / 2**20


def displacement(world: World, first: Tensor, second: Tensor) -> Tensor:
    """(B, N) px, in a picture 128 px wide, between points (B, N, 3) in the frames of two cameras."""
    flat = [points[..., :2] / points[..., 2:].clamp(min=0.2) for points in (first, second)]
    return (flat[1] - flat[0]).square().sum(-1).sqrt() * (world.focal[:, None] * WIDTH)


def apply(theta: Tensor, points: Tensor) -> Tensor:
    """theta (..., 3, 4) on points (..., N, 3)."""
    return points @ theta[..., :3].transpose(-1, -2) + theta[..., None, :, 3]


def move_camera(world: World, scene: Draws, options: WorldOptions) -> World:
    """Cameras set in motion."""
    target = draw_target(scene, options.camera_motion, scene.chance(options.still_cameras))
    pose = world.camera_path.pose(0.0)
    camera = world.camera(0.0, GRID)
    rays = camera.rays()
    depth, _ = cast(world, compose(invert(world.path.pose(0.0)), pose[:, None]).float(), rays)
    points = torch.cat([rays, torch.ones_like(rays[:, :1])], dim=1).transpose(1, 2) * depth[..., None]
    points = points.to(torch.float64)

    unit = target[:, None] / (world.focal[:, None] * WIDTH)  # radians
    share = scene.uniform(0, 1, 1)
    shift = scene.direction(1, 0.7, 0.8) * unit * (1 - share) * points[..., 2].mean(dim=1, keepdim=True)
    turn = scene.direction(0.8, 1, 0.6) * unit * share
    shift, turn = ((pose[:, :, :3] @ vector[..., None])[..., 0] for vector in (shift, turn))
    path = path_of(world.camera_path, scene, shift, turn)
    factor = torch.ones_like(target)
    for _ in range(ROUNDS):
        moved = compose(invert(scaled(path, factor).pose(1.0)), pose)
        measured = displacement(world, points, apply(moved, points)).clamp(max=4 * options.camera_motion[1]).mean(dim=1)
        factor = factor * (target / measured.clamp(min=1e-6)).clamp(0.25, 4)
    return replace(world, camera_path=scaled(path, rounded(factor) * (target > 0)), camera_motion=target.float())


def move_objects(world: World, scene: Draws, primitive: Draws, options: WorldOptions) -> World:
    """Objects set in motion; each by 0.5 to 1.5 times what is drawn for the scene."""
    target = draw_target(scene, options.object_motion, scene.chance(options.still_worlds))
    share_of_target = primitive.uniform(0.5, 1.5, 1)[..., 0]
    moves = ~primitive.chance(options.still_objects)
    moves[:, 0] = False
    own = target[:, None] * share_of_target * moves
    camera = world.camera_path.pose(0.0)
    to_camera = compose(invert(camera)[:, None], world.path.pose(0.0))
    # the corners of the box around it, somewhat inside
    corners = torch.cartesian_prod(*[torch.tensor([-0.7, 0.7], dtype=torch.float64)] * 3) * world.half[:, :, None]
    flat_z = torch.where((world.kind == PLANE)[..., None], 0.0, 1.0)
    corners[..., 2] *= flat_z
    before = apply(to_camera, corners)

    unit = own[..., None] / (world.focal[:, None, None] * WIDTH)
    share = primitive.uniform(0, 1, 1)
    distance = before[..., 2].mean(dim=-1, keepdim=True)
    radius = world.half.amax(dim=-1, keepdim=True)
    shift = primitive.direction(1, 1, 0.7) * unit * (1 - 0.8 * share) * distance
    turn = primitive.direction() * (unit * share * distance / radius).clamp(max=MOST_TURN)
    shift = (camera[:, None, :, :3] @ shift[..., None])[..., 0]
    path = path_of(world.path, primitive, shift, turn)
    factor = torch.ones_like(own)
    for _ in range(ROUNDS):
        after = apply(compose(invert(camera)[:, None], scaled(path, factor, MOST_TURN).pose(1.0)), corners)
        moved = displacement(world, before.flatten(1, 2), after.flatten(1, 2)).unflatten(1, before.shape[1:3]).mean(dim=2)
        factor = factor * (own / moved.clamp(min=1e-6)).clamp(0.25, 4)
    moving = (moves & (world.kind != NONE)).any(dim=1)
    return replace(world, path=scaled(path, rounded(factor) * (own > 0), MOST_TURN), object_motion=(target * moving).float())


def keep_clear(world: World) -> World:
    """Objects shrunk, or left out, and rooms enlarged, so that the camera meets nothing while 0 <= t <= 1."""
    times = torch.linspace(0, 1, 9).tolist()
    positions = torch.stack([world.camera_path.pose(t)[:, :, 3] for t in times])  # (T, B, 3)
    objects = torch.stack([world.path.pose(t)[..., 3] for t in times])
    distance = (objects - positions[:, :, None]).square().sum(-1).sqrt()
    extent = world.half.square().sum(-1).sqrt()
    shrink = ((distance.amin(dim=0) - MARGIN) / extent).clamp(max=1)
    kind = torch.where(shrink < SMALLEST, NONE, world.kind)
    kind[:, 0] = world.kind[:, 0]
    half = world.half * shrink.clamp(min=SMALLEST)[..., None].float()

    centre, room = world.path.position[:, 0], world.half[:, 0].to(torch.float64)
    low = torch.minimum(centre - room, positions.amin(dim=0) - MARGIN)
    high = torch.maximum(centre + room, positions.amax(dim=0) + MARGIN)
    half[:, 0] = ((high - low) / 2).float()
    position = world.path.position.clone()
    position[:, 0] = (high + low) / 2
    kinds = tuple(map(tuple, kind.tolist()))
    return replace(world, kind=kind, kinds=kinds, half=half, path=replace(world.path, position=position))
