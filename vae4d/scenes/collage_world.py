"""Where the planes of a collage stand, how they and the camera move.

Conventions: as in `collage`. A plane's matrix (3, 3) = [e1 e2 o] maps (a, b, 1) to a point. For the room (a, b) are texture coordinates,
for a sprite those of its mask, -1 to 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import compose, invert
from .collage_options import CollageOptions, Dice
from .collage_render import FORESHORTENED, LEAST_BLUR, MASKS, Bank, Planes, tile_side
from .world import rotation_by

WIDTH = 128  # pixels across of the picture in which motions are given
ROOM = 5  # planes: backdrop, floor, ceiling, left and right wall
FREQUENT = (1.0, 0.4, 0.15, 0.2, 0.2)  # how often each is there
NEAR = 0.15  # world units from the camera: a sprite that comes nearer, or grows over LARGEST of the picture's width, is left out
LARGEST = 0.9
STRETCH = 1.5  # the backdrop fills a picture this many times as wide
MOST_TURN = 0.8  # radians that an object turns


class Scene:
    """The paths of a batch: the camera's poses, and what the world draws them against."""

    def __init__(self, dice: Dice, focal: Tensor, moment: Tensor, options: CollageOptions) -> None:
        self.focal, self.moment = focal, moment
        still = dice.chance(options.still)
        self.still_camera = still | dice.chance(options.still_cameras)
        self.still_world = still | dice.chance(options.still_worlds)
        self.camera_px = dice.log_uniform(*options.camera_motion) * ~self.still_camera
        self.object_px = dice.log_uniform(*options.object_motion) * ~self.still_world
        self.options = options
        self.bent = dice.chance(options.curved)
        self.speed_up = dice.uniform(-0.6, 0.6) * self.bent
        self.times = torch.stack([torch.zeros_like(moment), moment, torch.ones_like(moment)], dim=1)  # (B, 3)
        self.normals, self.distances = self.room(dice)
        self.twist = self.camera(dice)

    def along(self, t: Tensor, speed_up: Tensor) -> Tensor:
        """s(t)."""
        return t + speed_up * (t**2 - t)

    def camera_at(self, s: Tensor) -> Tensor:
        """(B, ..., 3, 4) poses of the camera, camera to world, at s (B, ...)."""
        return exponential(self.twist.view(len(s), *[1] * (s.ndim - 1), 6) * (s - 0.5)[..., None])

    def pose(self, source: float, target: float) -> Tensor:
        """(B, 3, 4) maps points of the camera at t = source to the camera at t = target, both 0 or 1."""
        s = torch.tensor([source, target], dtype=torch.float64).expand(len(self.focal), 2)
        poses = self.camera_at(s)
        return compose(invert(poses[:, 1]), poses[:, 0])

    def room(self, dice: Dice) -> tuple[Tensor, Tensor]:
        """Planes n X = d of the room: unit normals (B, P, 3) away from the camera, distances (B, P)."""
        # the backdrop's inverse depth is proportional to 1 + slope ray: kept positive over a wider picture, 0.15 to 1.85
        slope = dice.uniform(-1, 1, 2)
        slope = slope / slope.abs().sum(1, keepdim=True).clamp(min=1) * 0.85 * torch.where(dice.chance(0.4), 0.15, 1.0)[:, None]
        slope = slope * (2 * self.focal / STRETCH)[:, None]
        back = torch.cat([slope, torch.ones_like(slope[:, :1])], dim=1)
        depth = dice.log_uniform(2.5, 14)
        length = back.norm(dim=1)
        others = torch.tensor([[0.0, 1, 0], [0, -1, 0], [-1, 0, 0], [1, 0, 0]], dtype=torch.float64)
        turn = rotation_by(dice.uniform(-1, 1, 3) * torch.tensor([0.3, 0.5, 0.25]))
        sides = others @ turn.transpose(1, 2)
        normals = torch.cat([(back / length[:, None])[:, None], sides], dim=1)
        distances = torch.cat([(depth / length)[:, None], depth[:, None] * dice.log_uniform(0.07, 0.4, ROOM - 1)], dim=1)
        here = dice.uniform(0, 1, ROOM) < torch.tensor(FREQUENT)
        # a plane that is not there stands far behind the camera
        missing = torch.tensor([0.0, 0, -1], dtype=torch.float64)
        return torch.where(here[..., None], normals, missing), torch.where(here, distances, 1000.0)

    def nearness(self, rays: Tensor) -> Tensor:
        """(B, N) inverse depths of the room along rays (B, N, 3), halfway."""
        return (rays @ (self.normals / self.distances[..., None]).transpose(1, 2)).amax(dim=2).clamp(min=1e-2)

    def rays(self, places: Tensor) -> Tensor:
        """(B, N, 3) through places (B, N, 2) in widths of the picture, from its centre."""
        return torch.cat([places / self.focal[:, None, None], torch.ones_like(places[..., :1])], dim=2)

    def camera(self, dice: Dice) -> Tensor:
        """(B, 6) translation and rotation of the camera from t = 0 to 1, scaled to a motion in the picture."""
        side = (torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5
        rays = self.rays(torch.cartesian_prod(side, side).expand(dice.count, -1, 2))
        nearness = self.nearness(rays)
        points = rays / nearness[..., None]
        share = dice.uniform(0, 1, 1)
        unit = self.camera_px[:, None] / (self.focal[:, None] * WIDTH)
        shift = dice.direction(stretch=(1, 0.7, 0.8)) * unit * (1 - share) / nearness.mean(dim=1, keepdim=True)
        twist = torch.cat([shift, dice.direction(stretch=(0.8, 1, 0.6)) * unit * share], dim=1)
        # half of the way to the nearest thing in sight, and less than to any plane, also out of sight: half of it lies to either side
        most = torch.minimum(0.5 / nearness.amax(dim=1), 1.6 * self.distances.amin(dim=1))
        for _ in range(3):
            ends = exponential(torch.stack([-twist, twist], dim=1) / 2)
            local = (points[:, None] - ends[:, :, None, :, 3]) @ ends[..., :3]
            flat = local[..., :2] / local[..., 2:].clamp(min=0.05)
            moved = (flat[:, 1] - flat[:, 0]).norm(dim=-1).mean(dim=1) * self.focal * WIDTH
            factor = (self.camera_px / moved.clamp(min=1e-6)).clamp(0.25, 4)
            twist = twist * factor[:, None]
            # no further than that; nor may turning take over then: no more than would make the whole motion by itself
            too_far = twist[:, :3].norm(dim=1) / most
            alone = torch.maximum(twist[:, 3:5].norm(dim=1) * self.focal, twist[:, 5].abs() * 0.38) * WIDTH / self.camera_px.clamp(min=1e-6)
            twist = twist / torch.stack([too_far, alone / 1.1], dim=1).clamp(min=1).repeat_interleave(3, dim=1)
        return twist


def exponential(twist: Tensor) -> Tensor:
    """Rigid motions (..., 3, 4) of twists (..., 6) = (translation, rotation): exp of [[w]x v; 0 0]."""
    x, y, z = twist[..., 3:].unbind(-1)
    nil = torch.zeros_like(x)
    cross = torch.stack([nil, -z, y, z, nil, -x, -y, x, nil], dim=-1).unflatten(-1, (3, 3))
    matrix = F.pad(torch.cat([cross, twist[..., :3, None]], dim=-1), (0, 0, 0, 1))
    return torch.linalg.matrix_exp(matrix)[..., :3, :]


def frames(normals: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Two unit vectors (B, N, 3) that span the planes across `normals`, at a random angle, every other one mirrored."""
    first = torch.linalg.cross(normals, dice.direction(normals.shape[1]))
    first = first / first.norm(dim=-1, keepdim=True)
    mirrored = torch.where(dice.chance(0.5, normals.shape[1]), 1.0, -1.0)
    return first, torch.linalg.cross(normals, first) * mirrored[..., None]


def to_cameras(scene: Scene, points: Tensor) -> Tensor:
    """Matrices (B, 3 or 1, N, 3, 3) of planes in the world as matrices (B, 3, N, 3, 3) in the three views' cameras."""
    pose = scene.camera_at(scene.along(scene.times, scene.speed_up[:, None]))[:, :, None]
    points = points.expand(-1, 3, -1, -1, -1)
    corner = torch.cat([points[..., :2], points[..., 2:] - pose[..., 3:]], dim=-1)
    return pose[..., :3].transpose(-1, -2) @ corner


def textured(dice: Dice, bank: Bank, count: int) -> tuple[Tensor, Tensor]:
    """Textures (B, count) and their texels a pixel: below 1 a photograph is smooth, at 4 it repeats."""
    photograph = dice.whole(bank.photographs, count)
    noise = bank.photographs + dice.whole(len(bank) - bank.photographs, count)
    return torch.where(dice.chance(0.85, count), photograph, noise), dice.log_uniform(0.8, 4, count)


def lay_out(scene: Scene, dice: Dice, bank: Bank, size: int) -> tuple[Planes, Tensor, Tensor]:
    """What to draw, the planes' matrices (B, 3, P + N, 3, 3) in the views' cameras, and whether they move (B, P + N)."""
    device, focal = bank.atlas.device, scene.focal[:, None] * size
    texture, density = textured(dice, bank, ROOM)
    first, second = frames(scene.normals, dice)
    away = scene.distances * torch.tensor([1.0] + [2.5] * (ROOM - 1))
    extent = away * bank.size / (density * focal)  # of one photograph in the world
    first, second = first * extent[..., None], second * extent[..., None]
    shift = dice.uniform(0, 2, ROOM, 2)
    origin = scene.normals * scene.distances[..., None] + first * shift[..., :1] + second * shift[..., 1:]
    room = to_cameras(scene, torch.stack([first, second, origin], dim=-1)[:, None])
    level = 2 * (LEAST_BLUR * bank.size / (focal * extent) * scene.distances**-FORESHORTENED).log2()

    flat = Sprites(scene, dice, size)
    matrices = torch.cat([room, flat.matrices], dim=2)
    to_pixel = torch.diag_embed(torch.cat([focal, focal, torch.ones_like(focal)], dim=1))[:, None, None]
    homographies = torch.linalg.inv(to_pixel @ matrices)
    view, sprite, row, column, ranks = tiles_of(flat, to_pixel, size)
    scenes, side = view // 3, tile_side(size)

    corner = torch.eye(3, dtype=torch.float64).repeat(len(view), 1, 1)
    corner[:, 0, 2], corner[:, 1, 2] = column * side - size / 2, row * side - size / 2
    texture_of, texels = textured(dice, bank, flat.count)
    across = texels * flat.pixels / bank.size  # textures a unit of the mask
    blur = (2 * (LEAST_BLUR * texels * flat.steepness**FORESHORTENED).log2()).round().clamp(0, bank.levels - 1).long()
    crop = torch.stack([across, dice.uniform(0, 2, flat.count), across * flat.aspect, dice.uniform(0, 2, flat.count)], dim=-1)
    gain = dice.uniform(0.6, 1.2, flat.count, 3) * torch.where(dice.chance(0.15, flat.count, 1), -1.0, 1.0)  # at times a negative
    tint = torch.cat([gain, torch.where(gain < 0, 1.0, 0.0) + dice.uniform(-0.1, 0.1, flat.count, 1)], dim=-1)
    mask = dice.whole(MASKS, flat.count)

    def rows(table: Tensor) -> Tensor:
        return table[scenes, sprite].float().to(device)

    nearness = flat.nearness.flatten(0, 1)[view, sprite]
    planes = Planes(
        room=homographies[:, :, :ROOM].flatten(0, 1).float().to(device),
        room_texture=(texture * bank.levels).repeat_interleave(3, dim=0).float().to(device),
        room_level=level.repeat_interleave(3, dim=0).float().to(device),
        place=(view * (size // side) ** 2 + row * (size // side) + column).to(device),
        sprite=(homographies[:, :, ROOM:].flatten(0, 1)[view, sprite] @ corner).float().to(device),
        ids=(sprite + ROOM)[:, None].int().to(device),
        mask=rows(mask)[:, None],
        pixels=(flat.radius * flat.squeeze * focal)[scenes, sprite].mul(nearness).float().to(device)[:, None],
        crop=rows(crop),
        texture=(texture_of * bank.levels + blur)[scenes, sprite].to(device)[:, None],
        tint=rows(tint),
        ranks=ranks,
    )
    return planes, matrices, F.pad(flat.moving, (ROOM, 0))


class Sprites:
    """N flat objects a scene."""

    def __init__(self, scene: Scene, dice: Dice, size: int) -> None:
        fewest, most = scene.options.sprites
        self.count = n = most
        here = torch.arange(n) < fewest + dice.whole(most - fewest + 1)[:, None]
        share = dice.log_uniform(0.05, 0.36, n)  # radius over the picture's width
        self.aspect = dice.uniform(0.5, 1, n)
        place = dice.uniform(-0.48, 0.48, n, 2)
        # in front of all that the room has around it
        about = torch.tensor([[0.0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], dtype=torch.float64)
        behind = scene.nearness(scene.rays((place[:, :, None] + about * share[..., None, None]).flatten(1, 2)))
        nearness = behind.unflatten(1, (n, len(about))).amax(dim=2) * dice.log_uniform(1.05, 3, n)
        travel = scene.twist[:, :3].norm(dim=1, keepdim=True)
        nearness = torch.minimum(nearness, 1 / (NEAR + 2 * travel))
        rays = scene.rays(place)
        centre = rays / nearness[..., None]
        self.radius = share / scene.focal[:, None] / nearness
        self.pixels = share * size

        # across the line of sight, or slanted against it
        towards = rays / rays.norm(dim=-1, keepdim=True)
        first, _ = frames(towards, dice)
        tilt = dice.uniform(0, 1, n) * torch.where(dice.chance(0.5, n), 0.95, 0.2)  # radians
        normals = (rotation_by(first * tilt[..., None]) @ towards[..., None])[..., 0]
        self.steepness = 1 / tilt.cos()
        first, second = frames(normals, dice)
        self.squeeze = (self.aspect / self.steepness).sqrt()

        self.moving = here & ~dice.chance(scene.options.still_objects, n) & (scene.object_px > 0)[:, None]
        own = scene.object_px[:, None] * dice.uniform(0.5, 1.5, n) * self.moving
        part = dice.uniform(0.3, 1, n)  # of the motion that is no turning
        unit = own / (scene.focal[:, None] * WIDTH * nearness)
        shift = dice.direction(n, stretch=(1, 1, 0.6)) * (unit * part)[..., None]
        shift[..., 2].clamp_(-0.35 / nearness, 0.35 / nearness)
        bend = dice.direction(n) * shift.norm(dim=-1, keepdim=True) * dice.uniform(0, 0.4, n, 1) * scene.bent[:, None, None]
        # the mean distance of a disc's points from its centre is 2/3 of the radius
        turn = (own * (1 - part) / (0.67 * share * WIDTH)).clamp(max=MOST_TURN) * torch.where(dice.chance(0.5, n), 1.0, -1.0)
        speed_up = dice.uniform(-0.6, 0.6, n) * scene.bent[:, None]
        times = scene.times[:, :, None]
        s = scene.along(times, speed_up[:, None])[..., None] - 0.5  # (B, 3, N, 1)
        turned = rotation_by((normals * turn[..., None])[:, None] * s)
        basis = torch.stack([first, second * self.aspect[..., None]], dim=-1) * self.radius[..., None, None]
        origin = centre[:, None] + shift[:, None] * s + bend[:, None] * (times**2 - times)[..., None]
        self.matrices = to_cameras(scene, torch.cat([turned @ basis[:, None], origin[..., None]], dim=-1))
        depth = self.matrices[..., 2, 2]
        reach = (self.matrices[..., 2, :2]).abs().sum(-1)
        self.nearness = 1 / depth.clamp(min=NEAR)  # (B, 3, N) of the centres
        large = self.radius[:, None] * self.nearness * scene.focal[:, None, None] > LARGEST / 2
        self.here = here & ~((depth - reach < NEAR) | large).any(dim=1)
        self.moving = self.moving & self.here


def tiles_of(flat: Sprites, to_pixel: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Which sprites may be seen in which tiles.

    Returns:
        view, sprite, tile's row and column, (L,) each, the farthest sprites of all views first; how many are farthest, next, ...
    """
    side = tile_side(size)
    corners = torch.tensor([[-1.0, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]], dtype=torch.float64)
    points = to_pixel @ flat.matrices @ corners
    points = points[..., :2, :] / points[..., 2:, :].clamp(min=NEAR / 2) + size / 2
    low, high = points.amin(dim=-1) / side, points.amax(dim=-1) / side
    tile = torch.arange(size // side)
    hit = (tile + 1 > low[..., None]) & (tile < high[..., None])  # (B, 3, N, 2, tiles)
    hit = hit[..., 1, :, None] & hit[..., 0, None, :] & flat.here[:, None, :, None, None]
    view, sprite, row, column = hit.flatten(0, 1).nonzero().unbind(1)
    rank = flat.nearness.flatten(0, 1).argsort(dim=1).argsort(dim=1)[view, sprite]
    order = rank.argsort(stable=True)
    return view[order], sprite[order], row[order], column[order], tuple(rank.bincount(minlength=1).tolist())
