"""Where rays meet primitives.

Conventions: rays (B, 2, N) are points of the camera's plane z = 1 (`Camera.rays`), so the parameter along a ray is depth. `frames`
(B, P, 3, 4) map the camera's frame to the primitives'. Depths are (B, n, N) float32, infinite where a ray misses.
Boxes and rooms by slabs (Kay and Kajiya 1986), spheres in closed form, free-form objects by marching and regula falsi.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .world import BOX, FREE_FORM, PLANE, ROOM, SPHERE, World

NEAR = 1e-3  # world units; nothing nearer is seen
MARCH = 16  # steps through a free-form object's bounding sphere; lobes thinner than a step can be missed
REFINEMENTS = 6


def cast(world: World, frames: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """First hits: depth (B, N) and number of the primitive (B, N) int64."""
    depths, owners = [], []
    for kind, meet in ((ROOM, rooms), (BOX, boxes), (SPHERE, spheres), (PLANE, planes), (FREE_FORM, free_forms)):
        members = [[p for p, k in enumerate(scene) if k == kind] for scene in world.kinds]
        most = max(map(len, members))
        if not most:
            continue
        used = torch.tensor([[n < len(m) for n in range(most)] for m in members], device=world.device)
        index = torch.tensor([m + [0] * (most - len(m)) for m in members], device=world.device)
        row = torch.arange(len(world), device=world.device)[:, None]
        found = meet(world.half[row, index], frames[row, index], rays, *((world.waves[row, index],) if kind == FREE_FORM else ()))
        if min(map(len, members)) < most:
            found = found.masked_fill_(~used[..., None], torch.inf)
        depths.append(found)
        owners.append(index)
    depths, owners = torch.cat(depths, dim=1), torch.cat(owners, dim=1)
    depth, place = depths.min(dim=1)
    return depth, owners.gather(1, place)


def turned(frames: Tensor, rays: Tensor, axis: int) -> Tensor:
    """Component `axis` (B, n, N) of the rays' directions in the primitives' frames."""
    x, y = rays[:, :1], rays[:, 1:]
    turn = frames[:, :, axis, :3, None]
    return torch.addcmul(torch.addcmul(turn[:, :, 2], turn[:, :, 0], x), turn[:, :, 1], y)


def slabs(half: Tensor, frames: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Depths at which rays enter and leave boxes, both (B, n, N); enter > leave is a miss."""
    enter = leave = None
    for axis in range(3):
        # clamped, a ray parallel to a slab gives large numbers instead of NaN
        inverse = turned(frames, rays, axis).reciprocal_().clamp_(-1e12, 1e12)
        middle = inverse * -frames[:, :, axis, 3:]
        reach = inverse.abs_().mul_(half[:, :, axis, None])
        near, far = middle - reach, middle.add_(reach)
        enter = near if enter is None else torch.maximum(enter, near, out=enter)
        leave = far if leave is None else torch.minimum(leave, far, out=leave)
    return enter, leave


def rooms(half: Tensor, frames: Tensor, rays: Tensor) -> Tensor:
    """Boxes from inside: where a ray leaves."""
    return slabs(half, frames, rays)[1]


def boxes(half: Tensor, frames: Tensor, rays: Tensor) -> Tensor:
    """Boxes from outside: where a ray enters."""
    enter, leave = slabs(half, frames, rays)
    return enter.masked_fill_((enter >= leave).logical_or_(enter < NEAR), torch.inf)


def ball(radius: Tensor, frames: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The quadratic a d^2 - 2 b d + c = 0 for depth d of spheres: b and discriminant (B, n, N), a (B, 1, N)."""
    centre = -(frames[..., :3].transpose(-1, -2) @ frames[..., 3:])  # (B, n, 3, 1) in the camera's frame
    x, y = rays[:, :1], rays[:, 1:]
    b = torch.addcmul(torch.addcmul(centre[:, :, 2], centre[:, :, 0], x), centre[:, :, 1], y)
    a = torch.addcmul(1 + x * x, y, y)
    c = centre.square().sum(dim=2) - radius[:, :, None].square()
    return b, (b * b).sub_(a * c), a


def spheres(half: Tensor, frames: Tensor, rays: Tensor) -> Tensor:
    """Spheres from outside."""
    b, discriminant, a = ball(half[..., 0], frames, rays)
    miss = discriminant < 0
    depth = b.sub_(discriminant.clamp_(min=0).sqrt_()).div_(a)  # clamped: roots of negative numbers are slow
    return depth.masked_fill_(miss.logical_or_(depth < NEAR), torch.inf)


def planes(half: Tensor, frames: Tensor, rays: Tensor) -> Tensor:
    """Rectangles in the plane z = 0 of their frame, seen from both sides."""
    depth = turned(frames, rays, 2).reciprocal_().mul_(-frames[:, :, 2, 3:])
    outside = depth < NEAR
    for axis in range(2):
        place = torch.addcmul(frames[:, :, axis, 3:], turned(frames, rays, axis), depth)
        outside.logical_or_((place.abs_() <= half[:, :, axis, None]).logical_not_())  # NaN counts as outside
    return depth.masked_fill_(outside, torch.inf)


def radius_of(normal: list[Tensor], waves: Tensor) -> Tensor:
    """Radii, over the mean radius, of star-shaped objects in the directions `normal` (3 components); waves (..., WAVES, 5)."""
    total = torch.ones_like(normal[0])
    for wave in waves.unbind(-2):
        x, y, z, phase, height = wave.unbind(-1)
        angle = torch.addcmul(torch.addcmul(torch.addcmul(phase, x, normal[0]), y, normal[1]), z, normal[2])
        total = torch.addcmul(total, angle.sin_(), height)
    return total


def gap(depth: Tensor, origin: list[Tensor], direction: list[Tensor], size: Tensor, waves: Tensor) -> Tensor:
    """|p| - radius(p / |p|) at points p along rays: positive outside of a star-shaped object. Shapes broadcast to (..., M)."""
    point = [torch.addcmul(o, d, depth) for o, d in zip(origin, direction, strict=True)]
    distance = torch.addcmul(torch.addcmul(point[0] * point[0], point[1], point[1]), point[2], point[2]).sqrt_().clamp_(min=1e-9)
    return distance - radius_of([p.div_(distance) for p in point], waves).mul_(size)


def free_forms(half: Tensor, frames: Tensor, rays: Tensor, waves: Tensor) -> Tensor:
    """Star-shaped objects from outside: the first change of sign of `gap` on a march through the bounding sphere."""
    b, discriminant, a = ball(half[..., 1], frames, rays)
    result = torch.full_like(b, torch.inf)
    scene, member, ray = torch.nonzero((discriminant > 0).logical_and_(b > 0), as_tuple=True)
    root = discriminant[scene, member, ray].sqrt_()
    scale = a[scene, 0, ray]
    start, step = (b[scene, member, ray] - root) / scale, root / scale * (2 / MARCH)
    frame, x, y = frames[scene, member], rays[scene, 0, ray], rays[scene, 1, ray]
    direction = [frame[:, i, 0] * x + frame[:, i, 1] * y + frame[:, i, 2] for i in range(3)]
    origin = list(frame[..., 3].unbind(1))
    size, waves = half[scene, member, 0], waves[scene, member]

    steps = torch.arange(1, MARCH, device=rays.device, dtype=rays.dtype)[:, None]  # the ends lie outside
    values = gap(start + steps * step, origin, direction, size, waves)  # (MARCH - 1, M)
    left = ((values < 0) * (MARCH - steps)).amax(dim=0)  # steps left at the first that is inside, 0 if none is; faster than argmax
    hit = left.nonzero()[:, 0]
    first = MARCH - 1 - left[hit].long()
    start, step, size, waves = start[hit], step[hit], size[hit], waves[hit]
    origin, direction = [c[hit] for c in origin], [c[hit] for c in direction]
    near = start + first * step
    far = near + step
    value_far = values[first, hit]
    value_near = torch.where(first == 0, gap(near, origin, direction, size, waves), values[first - 1, hit]).clamp_(min=1e-9)
    for _ in range(REFINEMENTS):  # Illinois: a chord's root replaces the end of its sign; the end that stays counts half
        middle = near + (far - near) * (value_near / (value_near - value_far))
        value = gap(middle, origin, direction, size, waves)
        out = value > 0
        near, far = torch.where(out, middle, near), torch.where(out, far, middle)
        value_near, value_far = torch.where(out, value, value_near / 2), torch.where(out, value_far / 2, value)
    result[scene[hit], member[hit], ray[hit]] = middle.masked_fill_(middle < NEAR, torch.inf)
    return result
