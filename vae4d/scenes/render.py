"""Pictures of worlds by ray casting.

Conventions: images (B, 3, S, S) RGB in [0, 1]; depth (B, S, S) along the optical axis in world units; ids (B, S, S), 0 the room.
One ray through every pixel's centre gives depth, id and colour. Where an edge passes (another object, another face, or
a jump in depth within the 3 x 3 pixels around), the colour is the mean over 4 x 4 rays in the pixel; ids and depth stay
those of the centre. Inside surfaces the texture's own low-pass does the antialiasing: a Gaussian of at least 0.7 px.
No colour depends on the viewpoint, and the low-pass hardly does: it is 0.85 px as the scene's own camera sees the point at t = 0 or
t = 1, whichever is coarser, and more only where the picture at hand needs it. So surface points keep their colours (brightness
constancy): bilinear sampling along the true flow rebuilds the other picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..geometry import compose, invert
from .camera import Camera
from .intersect import cast, radius_of
from .world import BOX, FACES, FREE_FORM, PLANE, SURFACE, World

BLUR = 0.85  # px, sigma of the textures' low-pass in the pictures of the scene's own camera at t = 0 and 1
LEAST_BLUR = 0.7  # px, in any picture
STEEPEST = 0.1  # cosine of incidence below which the former is not widened any more
SUPERSAMPLES = 4  # a side
JUMP = 0.03  # a relative change of depth on a free-form object between neighbours that counts as an edge
RAYS = 1 << 22  # at a time on a GPU; on a CPU one scene at a time, whose temporaries stay in the cache


@dataclass(frozen=True, eq=False)
class View:
    """What a camera sees at one time."""

    image: Tensor  # (B, 3, S, S) in [0, 1]
    depth: Tensor  # (B, S, S) world units
    ids: Tensor  # (B, S, S) int64; 0 is the room
    pure: Tensor  # (B, S, S) bool: no edge passes within the 3 x 3 pixels around
    camera: Camera
    t: float | Tensor


def camera_to_primitives(world: World, camera: Camera, t: float | Tensor) -> Tensor:
    """(B, P, 3, 4) float64: maps the camera's frame to every primitive's at time t."""
    return compose(invert(world.path.pose(t)), camera.pose[:, None])


def spans(world: World, rays: int) -> list[slice]:
    """The batch in parts that are worked on at a time, `rays` rays per scene."""
    count = 1 if world.device.type == "cpu" else max(1, RAYS // rays)
    return [slice(i, i + count) for i in range(0, len(world), count)]


@torch.no_grad()
def render(world: World, camera: Camera, t: float | Tensor) -> View:
    """The worlds at time t, seen by `camera`.

    Args:
        world: B scenes.
        camera: B cameras (`world.camera(t, size)`, or any others inside the rooms).
        t: a number, or (B,) one time per scene.
    Raises:
        ConfigError: the batch sizes differ.
    """
    if len(camera) != len(world):
        raise ConfigError(f"{len(camera)} cameras for {len(world)} scenes: give one camera per scene.")
    frames = camera_to_primitives(world, camera, t).float()
    own = [camera_to_primitives(world, world.camera(end, camera.size), end)[..., 3] for end in (0.0, 1.0)]
    eyes = torch.cat(own, dim=-1).float()
    parts = [picture(world[span], camera[span], frames[span], eyes[span]) for span in spans(world, camera.size**2)]
    image, depth, ids, pure = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
    return View(image, depth, ids, pure, camera, t)


def picture(world: World, camera: Camera, frames: Tensor, eyes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """image, depth, ids, pure of a few scenes; `frames` and `eyes` as in `shade`."""
    size = camera.size
    rays = camera.rays()
    depth, ids = cast(world, frames, rays)
    colour, face = shade(world, camera, frames, eyes, rays, depth, ids)
    edge = edges(world, (ids * FACES + face).view(-1, size, size), depth.view(-1, size, size), ids).flatten(1)
    most = int(edge.sum(dim=1).max())
    if most:
        # the scenes' edge pixels first; scenes with fewer fill up with pixels that are then left as they are
        place = torch.argsort(edge.to(torch.uint8), dim=1, descending=True, stable=True)[:, :most]
        offset = (torch.arange(SUPERSAMPLES, device=rays.device) + 0.5) / SUPERSAMPLES - 0.5
        x, y = (rays[:, i].gather(1, place)[..., None, None] for i in range(2))
        step = 1 / camera.intrinsics[:, [0, 1], [0, 1], None, None, None]
        x, y = x + offset * step[:, 0], y + offset[:, None] * step[:, 1]
        fine = torch.stack([a.expand(-1, -1, SUPERSAMPLES, SUPERSAMPLES).flatten(1) for a in (x, y)], dim=1)
        samples, _ = shade(world, camera, frames, eyes, fine, *cast(world, frames, fine))
        mean = samples.unflatten(2, (-1, SUPERSAMPLES**2)).mean(dim=3)
        if len(world) > 1:
            mean = torch.where(edge.gather(1, place)[:, None], mean, colour.gather(2, place[:, None].expand(-1, 3, -1)))
        colour.scatter_(2, place[:, None].expand(-1, 3, -1), mean)
    shape = (-1, size, size)
    return colour.view(-1, 3, size, size), depth.view(shape), ids.view(shape), ~edge.view(shape)


def edges(world: World, key: Tensor, depth: Tensor, ids: Tensor) -> Tensor:
    """(B, S, S) bool: pixels around which `key` differs within 3 x 3, or depth jumps on a free-form object."""
    bends = any(FREE_FORM in scene for scene in world.kinds)
    if bends:
        bent = (world.kind == FREE_FORM).gather(1, ids).view(depth.shape)
    edge = torch.zeros_like(key, dtype=torch.bool)
    height, width = key.shape[1:]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = (slice(None), slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
        two = (slice(None), slice(dy, height), slice(max(dx, 0), width + min(dx, 0)))
        differ = key[one] != key[two]
        if bends:
            differ |= (depth[one] - depth[two]).abs_() > JUMP * torch.where(bent[one], depth[one], torch.inf)
        edge[one] |= differ
        edge[two] |= differ
    return edge


def rows(table: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Columns (B, N) of the rows `index` (B, N) of a table (B, R, K)."""
    start = torch.arange(len(table), device=table.device)[:, None] * table.shape[1]
    columns = table.flatten(0, 1).T.contiguous()
    return columns.index_select(1, (index + start).flatten()).view(-1, *index.shape).unbind(0)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Inner product of two vectors given by their three components."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def shade(
    world: World, camera: Camera, frames: Tensor, eyes: Tensor, rays: Tensor, depth: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Colours (B, 3, N) at the hits of rays, and the faces (B, N) that they hit.

    `frames` (B, P, 3, 4) map the camera's frame to the primitives'; `eyes` (B, P, 6) are where the scene's own camera is in the
    primitives' frames at t = 0 and t = 1.
    """
    table = torch.cat([frames.flatten(2), eyes, world.half.reciprocal(), world.kind[..., None]], dim=2)
    *f, ex0, ey0, ez0, ex1, ey1, ez1, hx, hy, hz, kind = rows(table, ids)
    x, y = rays[:, 0], rays[:, 1]
    direction = [f[4 * i] * x + f[4 * i + 1] * y + f[4 * i + 2] for i in range(3)]
    p = [torch.addcmul(f[4 * i + 3], direction[i], depth) for i in range(3)]

    # boxes and rooms: the face is where |p / half| is largest; the others' "faces" come out as masks of zeros
    ax, ay, az = (p[0] * hx).abs_(), (p[1] * hy).abs_(), (p[2] * hz).abs_()
    flat = (kind <= BOX).to(p[0].dtype)
    on_x = ((ax >= ay) & (ax >= az)).to(flat).mul_(flat)
    on_y = ((ay > ax) & (ay >= az)).to(flat).mul_(flat)
    on_z = flat - on_x - on_y
    face = (on_x * (p[0] > 0) + on_y * (2 + (p[1] > 0).to(flat)) + on_z * (4 + (p[2] > 0).to(flat))).long()
    plane = (kind == PLANE).to(flat)
    bent = 1 - flat - plane

    # round objects: the direction from the centre, by Lambert's equal-area map of both halves
    distance = dot(p, p).sqrt_()
    n = [c / distance for c in p]
    spread = (2 / (1 + n[2].abs())).sqrt_() / hx * bent
    a = on_x * p[2] + (on_y + on_z + plane) * p[0] + spread * n[0]
    b = (on_x + on_z + plane) * p[1] + on_y * p[2] + spread * n[1]
    normal = [on_x * p[0].sign(), on_y * p[1].sign(), on_z * p[2].sign() + plane]
    bulge = normals(world, n, ids, kind)
    normal = [torch.addcmul(normal[i], bent, bulge[i]) for i in range(3)]

    s = dict(zip(SURFACE, rows(world.surface.flatten(1, 2), ids * FACES + face), strict=True))
    u = torch.addcmul(torch.addcmul(s["u"], s["uu"], a), s["uv"], b)
    v = torch.addcmul(torch.addcmul(s["v"], s["vu"], a), s["vv"], b)
    # a pixel's longest extent on the surface is depth / focal length, over the cosine of incidence
    length = torch.addcmul(torch.addcmul(torch.ones_like(x), x, x), y, y).sqrt_()
    cosine = dot(normal, direction).abs_().clamp_(min=1e-3)
    extent = (LEAST_BLUR / camera.intrinsics[:, 0, 0, None]) * depth * length / cosine
    for eye in ((ex0, ey0, ez0), (ex1, ey1, ez1)):
        offset = [p[i] - eye[i] for i in range(3)]
        square = dot(offset, offset)
        distance = square.sqrt()
        own = square / torch.maximum(dot(normal, offset).abs_(), distance.mul_(STEEPEST))
        extent = torch.maximum(extent, own.mul_(BLUR / (world.focal[:, None] * camera.size)))
    blur = extent.mul_(s["density"]).mul_(world.textures.size)
    colour = world.textures.sample(s["photo"].long().flatten(), u.flatten(), v.flatten(), blur.flatten()).view(3, *ids.shape)
    light = 1 - s["shade"] * (1 - dot(normal, [s["lx"], s["ly"], s["lz"]]))
    channels = [torch.addcmul(s[c + "0"], s[c], colour[i]).mul_(light).clamp_(0, 1) for i, c in enumerate(("red", "green", "blue"))]
    return torch.stack(channels, dim=1), face


def normals(world: World, n: list[Tensor], ids: Tensor, kind: Tensor) -> list[Tensor]:
    """Unit normals of round objects: `n` itself on spheres; of |p| - radius(p / |p|) on free-form objects."""
    chosen = (kind == FREE_FORM).nonzero(as_tuple=True)
    if not any(FREE_FORM in scene for scene in world.kinds):
        return n
    direction = [c[chosen] for c in n]
    waves = world.waves[chosen[0], ids[chosen]]
    # gradient of the radius over the distance, which is the radius: sum_k a_k cos(w_k n + phase_k) w_k / radius
    slope = [0.0, 0.0, 0.0]
    for wave in waves.unbind(1):
        w = wave.unbind(1)
        rate = (w[0] * direction[0] + w[1] * direction[1] + w[2] * direction[2] + w[3]).cos_() * w[4]
        slope = [slope[i] + rate * w[i] for i in range(3)]
    radius = radius_of(direction, waves)
    slope = [g / radius for g in slope]
    along = dot(slope, direction)
    gradient = [direction[i] * (1 + along) - slope[i] for i in range(3)]
    length = dot(gradient, gradient).sqrt_()
    result = [c.clone() for c in n]
    for i in range(3):
        result[i][chosen] = gradient[i] / length
    return result
