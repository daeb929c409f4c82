"""Procedural scenes: values known on paper, proofs of the truth, options, determinism."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vae4d.errors import ConfigError
from vae4d.scenes import Camera, WorldOptions, generate, load_textures, motion, render
from vae4d.scenes.intersect import radius_of
from vae4d.scenes.render import camera_to_primitives, edges
from vae4d.scenes.textures import build
from vae4d.scenes.trajectories import MARGIN, keep_clear
from vae4d.scenes.world import BOX, FREE_FORM, PLANE, ROOM, SPHERE, Path, rotation_by

STILL = {"camera_motion": (1, 1), "object_motion": (1, 1), "still_cameras": 1.0, "still_worlds": 1.0}


@pytest.fixture(scope="module")
def textures():
    return load_textures()


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


# ---- values known on paper


def test_translation_along_a_wall(textures):
    a, b = two_views(world := hand_made(textures, camera=(0.25, 0.0, 0.0)), 64)
    found = motion(world, a, b)
    assert torch.allclose(a.depth, torch.tensor(4.0))
    torch.testing.assert_close(found.flow[:, 0], torch.full((1, 64, 64), -64 * 0.25 / 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.flow[:, 1], torch.zeros(1, 64, 64), atol=1e-4, rtol=0)
    assert not found.visible[..., :4].any() and found.visible[..., 4:].all()  # 4 columns leave the picture
    assert found.scene_flow.abs().max() == 0  # the wall stands still


def test_rotation_does_not_depend_on_depth(textures):
    sphere = still(SPHERE, (0.5, 0.5, 0.5), (0.0, 0.0, 2.0))
    a, b = two_views(world := hand_made(textures, sphere, camera_spin=(0.0, 0.1, 0.0)), 65)
    flow = motion(world, a, b).flow
    assert flow[0, 0, 32, 32].item() == pytest.approx(-65 * math.tan(0.1), abs=1e-3)
    rotation = rotation_by(torch.tensor([0.0, 0.1, 0.0])).T  # the homography K R^T K^-1
    x, y = (grid(65) - 32.5) / 65
    turned = torch.einsum("ij,jyx->iyx", rotation, torch.stack([x, y, torch.ones_like(x)]))
    torch.testing.assert_close(flow[0], turned[:2] / turned[2:] * 65 + 32.5 - grid(65), atol=1e-3, rtol=0)


def test_depth_of_a_sphere_a_box_and_a_rectangle(textures):
    objects = [
        still(SPHERE, (0.5, 0.5, 0.5), (0.0, 0.0, 3.0)),
        still(BOX, (0.3, 0.3, 0.25), (-1.0, 0.0, 3.0)),
        still(PLANE, (0.3, 0.3, 0.3), (1.0, 0.0, 3.0)),
    ]
    view = render(world := hand_made(textures, *objects), world.camera(0.0, 129), 0.0)
    assert view.depth[0, 64, 64].item() == pytest.approx(2.5, abs=1e-5)
    column = [round(64.5 + x / z * 129 - 0.5) for x, z in ((-1.0, 2.75), (1.0, 3.0))]
    assert view.depth[0, 64, column[0]].item() == pytest.approx(2.75, abs=1e-5)
    assert view.depth[0, 64, column[1]].item() == pytest.approx(3.0, abs=1e-5)
    assert [view.ids[0, 64, c].item() for c in (64, *column)] == [1, 2, 3] and view.ids[0, 5, 5] == 0
    # the silhouette of a sphere on the axis: tan = r / sqrt(d^2 - r^2)
    radius = 129 * 0.5 / math.sqrt(9 - 0.25)
    assert (view.ids == 1).sum().item() == pytest.approx(math.pi * radius**2, rel=0.02)


def test_hidden_strip_beside_a_rectangle(textures):
    world = hand_made(textures, still(PLANE, (0.5, 0.5, 0.5), (0.0, 0.0, 2.0)), camera=(0.4, 0.0, 0.0))
    a, b = two_views(world, 128)
    found = motion(world, a, b)
    row = 64
    hidden = ((a.ids == 0) & ~found.visible & (a.camera.intrinsics[0, 0, 0] * 0.1 < grid(128)[0]))[0, row]
    assert hidden.sum().item() == pytest.approx(128 * 0.4 * (1 / 2 - 1 / 4), abs=1)  # f t (1/z - 1/Z)
    left = (a.ids[0, row] == 1).nonzero()[0, 0]
    assert hidden[left - 10 : left].all() and found.visible[0, row, left + 3]  # it lies to the left of the rectangle


def test_scene_flow_of_a_turning_and_moving_box(textures):
    box = still(BOX, (0.5, 0.5, 0.5), (0.0, 0.0, 3.0), velocity=(0.2, 0.0, 0.1), spin=(0.0, 0.0, 0.3))
    a, b = two_views(world := hand_made(textures, box), 65)
    found = motion(world, a, b)
    depth = a.depth[0, 20:45, 25:40]
    x, y = ((grid(65) - 32.5) / 65)[:, 20:45, 25:40] * depth
    c, s = math.cos(0.3), math.sin(0.3)
    expected = torch.stack([c * x - s * y - x + 0.2, s * x + c * y - y, torch.full_like(x, 0.1)])
    assert (a.ids[0, 20:45, 25:40] == 1).all()
    torch.testing.assert_close(found.scene_flow[0, :, 20:45, 25:40], expected, atol=1e-5, rtol=0)


def test_edges_are_area_averages(textures):
    # the right edge lies at pixel 40.25: a quarter of pixel 40 is white
    half = (40.25 - 32) / 64 * 2
    world = painted(hand_made(textures, still(PLANE, (half, half, 1.0), (0.0, 0.0, 2.0))), 0.0, 1.0)
    view = render(world, world.camera(0.0, 64), 0.0)
    torch.testing.assert_close(view.image[0, 0, 32, 38:43], torch.tensor([1, 1, 0.25, 0, 0]))
    assert view.pure[0, 32].nonzero()[:, 0].tolist() == [*range(0, 23), *range(25, 39), *range(41, 64)]
    assert torch.equal(view.image, view.image.mT)
    assert view.image[0, 0, 40, 40] == 1 / 16  # a quarter each way


def test_a_step_on_a_wall_is_seen_under_the_low_pass():
    """A wall seen face on, 3 texels a pixel: sigma is 0.85 px, and 0.7 for a camera from further away than the scene's own."""
    step = build(["step"], (torch.arange(256) >= 128).float().expand(1, 3, 256, 256))
    world = hand_made(step)
    face = torch.tensor([0.0, 0.375, 0, 0, 0.375, 0.5, 0.5, 0.375, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    world = replace(world, surface=face.expand_as(world.surface).clone())
    camera = world.camera(0.0, 128)
    back = torch.eye(3, 4)[None].clone()
    back[:, 2, 3] = -3.9
    for eye, low, high in ((camera, 0.85, 1.0), (camera.moved(back), 0.7, 0.85)):
        row = render(world, eye, 0.0).image[0, 0, 64, 32:96].double()
        weight, place = row.diff(), torch.arange(63) - 31.0
        variance = (weight * place**2).sum() / weight.sum() - 1 / 12  # less that of differences between neighbours
        assert low < variance.sqrt() < high


def test_what_turns_away_is_hidden(textures):
    box = still(BOX, (0.5, 0.5, 0.25), (0.0, 0.0, 3.0), spin=(0.0, math.pi, 0.0))
    a, b = two_views(world := hand_made(textures, box), 64)
    front = (a.ids == 1) & (a.depth < 2.76)
    found = motion(world, a, b)
    assert front.any() and not found.visible[front].any() and found.visible[a.ids == 0].float().mean() > 0.99


def test_objects_give_way_to_the_camera_and_rooms_grow(textures):
    ways = [still(SPHERE, (r, r, r), (x, 0.0, 2.5)) for x, r in ((0.5, 0.4), (1.0, 0.5), (3.0, 0.5))]
    world = keep_clear(hand_made(textures, *ways, camera=(0.0, 0.0, 5.0)))
    assert world.kind.tolist() == [[ROOM, 0, SPHERE, SPHERE]] == [list(scene) for scene in world.kinds]
    shrunk = (1 - MARGIN) / math.sqrt(3)  # the corner of the box around it keeps the margin
    torch.testing.assert_close(world.half[0, 2:, 0], torch.tensor([shrunk, 0.5]))
    back, front = (world.path.position[0, 0, 2] + sign * world.half[0, 0, 2] for sign in (-1, 1))
    assert back.item() == pytest.approx(-4) and front.item() == pytest.approx(5 + MARGIN)


def test_constant_acceleration():
    vector, nil = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    spin = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    path = Path(vector, vector, 2 * vector, torch.eye(3, dtype=torch.float64)[None], spin, nil + 0.5)
    pose = path.pose(2.0)
    torch.testing.assert_close(pose[0, :, 3], vector[0] * (1 + 2 + 4))
    assert pose[0, 1, 0].item() == pytest.approx(math.sin(2 + 0.5 * 4))
    assert torch.equal(path.pose(torch.tensor([2.0])), pose)


def test_rotation_by_a_right_angle():
    turn = rotation_by(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.tensor([0, 1.0, 0], dtype=torch.float64))
    assert torch.equal(rotation_by(torch.zeros(3)), torch.eye(3))


def test_free_form_hits_lie_on_the_surface(textures):
    world = generate(range(6), WorldOptions(objects=(4, 4), kinds=("free-form",), **STILL), textures)
    camera = world.camera(0.0, 48)
    view = render(world, camera, 0.0)
    rays = camera.rays()
    frames = camera_to_primitives(world, camera, 0.0).float()
    assert sum(FREE_FORM in scene for scene in world.kinds) == 6
    for i in range(6):
        hit = (view.ids[i].flatten() > 0).nonzero()[:, 0]
        prim = view.ids[i].flatten()[hit]
        point = torch.cat([rays[0 if len(rays) == 1 else i, :, hit], torch.ones(1, len(hit))]) * view.depth[i].flatten()[hit]
        local = (frames[i, prim, :, :3] @ point.T[..., None])[..., 0] + frames[i, prim, :, 3]
        distance = local.norm(dim=1)
        radius = radius_of(list((local / distance[:, None]).T), world.waves[i, prim]) * world.half[i, prim, 0]
        assert (distance - radius).abs().max() < 2e-4
        assert radius.std() > 0.01  # they are no spheres


# ---- proofs on drawn worlds


def agreeing(world, a, b, found):
    """Pixels of `a` whose four bilinear neighbours in `b` show the same object, away from edges, and that are visible."""
    size = a.camera.size
    x, y = (grid(size)[i] + found.flow[:, i] for i in range(2))
    left, top = (x - 0.5).floor().long(), (y - 0.5).floor().long()
    fine = found.visible & a.pure & (left >= 0) & (top >= 0) & (left < size - 1) & (top < size - 1)
    scene = torch.arange(len(world))[:, None, None]
    for dx in (0, 1):
        for dy in (0, 1):
            at = scene, (top + dy).clamp(0, size - 1), (left + dx).clamp(0, size - 1)
            fine &= (b.ids[at] == a.ids) & b.pure[at]
    return fine


def warped(image, flow):
    size = image.shape[-1]
    place = ((grid(size) + flow) / size * 2 - 1).permute(0, 2, 3, 1)
    return F.grid_sample(image, place, mode="bilinear", padding_mode="border", align_corners=False)


@pytest.mark.parametrize("low, high", [(0.3, 1), (1, 4), (4, 16)])
def test_true_flow_rebuilds_the_other_frame(textures, low, high):
    options = WorldOptions(camera_motion=(low, high), object_motion=(low, high), still_cameras=0.0, still_worlds=0.0)
    seeds = [*range(100, 106), 1258, 1184]  # the last two with steep walls and fast turning boxes
    a, b = two_views(world := generate(seeds, options, textures), 128)
    found = motion(world, a, b)
    fine = agreeing(world, a, b, found)
    assert fine.float().mean() > 0.5
    error = (warped(b.image, found.flow) - a.image).square().mean(dim=1)
    psnr = torch.stack([-10 * error[i][fine[i]].mean().log10() for i in range(len(world))])
    assert psnr.min() > 38, psnr
    shifted = (warped(b.image, found.flow + 0.3) - a.image).square().mean(dim=1)  # a flow that is 0.4 px off falls behind
    assert -10 * shifted[fine].mean().log10() < psnr.mean() - 5


def test_depth_and_pose_reproject_where_the_flow_says(textures):
    options = WorldOptions(camera_motion=(4, 12), still_cameras=0.0, still_worlds=1.0)
    a, b = two_views(world := generate(range(8), options, textures), 96)
    x, y = a.camera.rays().unbind(1)
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) * a.depth.flatten(1)[..., None]
    points = points.double() @ a.camera.pose[:, :, :3].transpose(1, 2) + a.camera.pose[:, None, :, 3]
    pixels, depth = b.camera.project(points)
    found = motion(world, a, b)
    expected = (grid(96) + found.flow).flatten(2).transpose(1, 2)
    assert (pixels - expected).abs().max() < 0.1
    assert depth.min() > 0
    assert found.scene_flow.abs().max() == 0
    # depth in b, where it is seen, is what b's own picture says
    at = (expected - 0.5).round().long().clamp(0, 95)
    seen = b.depth.flatten(1).gather(1, at[..., 1] * 96 + at[..., 0])
    fine = agreeing(world, a, b, found).flatten(1)
    assert ((seen - depth).abs() / depth)[fine].median() < 0.01


def test_nothing_moves(textures):
    a, b = two_views(world := generate(range(4), WorldOptions(**STILL), textures), 48)
    found = motion(world, a, b)
    assert found.flow.abs().max() == 0 and found.scene_flow.abs().max() == 0 and found.visible.all()
    assert torch.equal(a.image, b.image)
    assert not world.camera_motion.any() and not world.object_motion.any()


def test_forward_and_backward_flow_agree_where_visible(textures):
    options = WorldOptions(camera_motion=(2, 6), object_motion=(2, 6))
    a, b = two_views(world := generate(range(8), options, textures), 96)
    there, back = motion(world, a, b), motion(world, b, a)
    fine = agreeing(world, a, b, there)
    loop = there.flow + warped(back.flow, there.flow)
    assert loop.square().sum(1).sqrt()[fine].max() < 0.15
    # what a does not show, b uncovers: hidden pixels exist both ways
    assert not there.visible.all() and not back.visible.all()


def test_visibility_agrees_with_the_depth_picture(textures):
    a, b = two_views(world := generate(range(8), WorldOptions(camera_motion=(8, 8), object_motion=(8, 8)), textures), 96)
    found = motion(world, a, b)
    x, y = (grid(96)[i] + found.flow[:, i] for i in range(2))
    inside = (x >= 0) & (x < 96) & (y >= 0) & (y < 96)
    assert not found.visible[~inside].any()
    scene = torch.arange(8)[:, None, None]
    at = scene, y.floor().long().clamp(0, 95), x.floor().long().clamp(0, 95)
    same = (b.ids[at] == a.ids) & inside & b.pure[at]
    different = (b.ids[at] != a.ids) & inside & b.pure[at]
    assert found.visible[same].float().mean() > 0.97  # the others are turned away on the same object
    assert not found.visible[different].any()


def test_stereo_at_one_time_and_a_camera_that_never_was(textures):
    world = generate([1, 2], WorldOptions(), textures)
    camera = world.camera(0.5, 64)
    offset = torch.eye(3, 4).expand(2, 3, 4).clone()
    offset[:, 0, 3] = 0.1
    a, b = render(world, camera, 0.5), render(world, camera.moved(offset), 0.5)
    found = motion(world, a, b)
    torch.testing.assert_close(found.flow[:, 0], -camera.intrinsics[:, 0, 0, None, None] * 0.1 / a.depth, atol=1e-3, rtol=1e-4)
    assert found.flow[:, 1].abs().max() < 1e-3 and found.scene_flow.abs().max() == 0


def test_cameras_with_different_lenses(textures):
    world = hand_made(textures)
    camera = world.camera(0.0, 64)
    wide = Camera(camera.intrinsics * torch.tensor([[0.5, 0.5, 1.0]]).diag_embed().mT, camera.pose, 64)
    wide.intrinsics[:, :2, 2] = 32
    found = motion(world, render(world, camera, 0.0), render(world, wide, 0.0))
    torch.testing.assert_close(found.flow[0], (32 - grid(64)) / 2, atol=1e-4, rtol=0)


# ---- options and seeds


def test_motion_sizes_are_honoured(textures):
    options = WorldOptions(camera_motion=(6, 6), still_cameras=0.0, still_worlds=1.0)
    a, b = two_views(world := generate(range(16), options, textures), 128)
    found = motion(world, a, b)
    size = found.flow.norm(dim=1).mean(dim=(1, 2))
    assert (size - 6).abs().max() < 1.2 and torch.all(world.camera_motion == 6)
    options = WorldOptions(object_motion=(6, 6), still_cameras=1.0, still_worlds=0.0, still_objects=0.0, objects=(8, 8))
    a, b = two_views(world := generate(range(16), options, textures), 128)
    found = motion(world, a, b)
    size = found.flow.norm(dim=1)
    assert size[a.ids == 0].max() == 0
    assert 4 < size[a.ids > 0].mean() < 8 and torch.all(world.object_motion == 6)


def test_motion_in_pixels_grows_with_the_picture(textures):
    world = generate([5], WorldOptions(camera_motion=(4, 4), still_cameras=0.0), textures)
    small, large = (motion(world, *two_views(world, size)).flow.norm(dim=1).mean() for size in (64, 128))
    assert large / small == pytest.approx(2, rel=0.02)


def test_objects_and_kinds_are_honoured(textures):
    world = generate(range(32), WorldOptions(objects=(2, 5), kinds=("box", "sphere")), textures)
    counts = (world.kind[:, 1:] > 0).sum(dim=1)
    assert counts.min() >= 1 and counts.max() == 5  # one that would meet the camera may be left out
    assert set(world.kind[:, 1:].unique().tolist()) <= {0, BOX, SPHERE}
    assert torch.all(world.kind[:, 0] == ROOM)
    assert generate([0], WorldOptions(objects=(0, 0)), textures).kind.tolist() == [[ROOM]]


def test_shares_of_still_worlds(textures):
    world = generate(range(300), WorldOptions(still_cameras=0.25, still_worlds=0.5, objects=(3, 3)), textures)
    assert (world.camera_motion == 0).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert (world.object_motion == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    moving = world.camera_motion[world.camera_motion > 0]
    assert moving.min() >= 0.3 and moving.max() <= 16 and moving.log().mean().exp().item() == pytest.approx(math.sqrt(0.3 * 16), rel=0.2)


def test_the_camera_meets_nothing(textures):
    options = WorldOptions(camera_motion=(16, 24), object_motion=(16, 24), objects=(12, 12), still_cameras=0.0, still_worlds=0.0)
    world = generate(range(40), options, textures)
    for t in (0.0, 0.35, 0.7, 1.0):
        assert render(world, world.camera(t, 16), t).depth.min() > 0.15


def test_same_seed_same_bytes(textures):
    options = WorldOptions(camera_motion=(2, 8))
    batch = generate([3, 8, 2, 11], options, textures)
    alone = generate([2], options, textures)
    for world in (batch[2:3], batch[1:4][1:2]):
        a, b = two_views(world, 64)
        c, d = two_views(alone, 64)
        for name in ("image", "depth", "ids", "pure"):
            assert torch.equal(getattr(a, name), getattr(c, name)) and torch.equal(getattr(b, name), getattr(d, name))
        assert torch.equal(motion(world, a, b).flow, motion(alone, c, d).flow)
    whole = render(batch, batch.camera(0.0, 64), 0.0)
    assert torch.equal(whole.image[2:3], render(alone, alone.camera(0.0, 64), 0.0).image)
    assert not torch.equal(whole.image[0], whole.image[1])


def test_scenes_together_as_on_a_gpu(textures, monkeypatch):
    """A CPU works on one scene at a time; together, padded, they must give the same."""
    world = generate(range(5), WorldOptions(camera_motion=(2, 8)), textures)
    a, b = two_views(world, 48)
    found = motion(world, a, b)
    for module in ("render", "truth"):
        monkeypatch.setattr(sys.modules[f"vae4d.scenes.{module}"], "spans", lambda world, rays: [slice(0, len(world))])
    together_a, together_b = two_views(world, 48)
    again = motion(world, together_a, together_b)
    torch.testing.assert_close(together_a.image, a.image, atol=2e-3, rtol=0)
    assert (together_a.ids == a.ids).float().mean() > 0.999 and (again.visible == found.visible).float().mean() > 0.999
    torch.testing.assert_close(again.flow, found.flow, atol=1e-3, rtol=1e-3)


def test_times_per_scene(textures):
    world = generate([4, 5], WorldOptions(camera_motion=(4, 4), still_cameras=0.0), textures)
    t = torch.tensor([0.25, 0.75])
    both = render(world, world.camera(t, 32), t)
    one = render(world[1:2], world[1:2].camera(0.75, 32), 0.75)
    assert torch.equal(both.image[1:], one.image)


def test_self_occlusion_of_a_free_form_object_is_an_edge(textures):
    world = hand_made(textures, still(FREE_FORM, (0.5, 0.7, 0.5), (0.0, 0.0, 3.0)))
    key, ids = torch.ones(1, 4, 4, dtype=torch.int64), torch.ones(1, 16, dtype=torch.int64)
    depth = torch.full((1, 4, 4), 3.0)
    assert not edges(world, key, depth, ids).any()
    depth[..., 2:] = 3.5
    assert edges(world, key, depth, ids)[0].tolist() == [[False, True, True, False]] * 4


# ---- cameras


def test_projection_inverts_the_rays():
    intrinsics = torch.tensor([[[50.0, 0, 16], [0, 60, 18], [0, 0, 1]]])
    pose = torch.cat([rotation_by(torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)), torch.ones(1, 3, 1, dtype=torch.float64)], dim=2)
    camera = Camera(intrinsics, pose, 32)
    x, y = camera.rays().unbind(1)
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1).double() * 2.5
    pixels, depth = camera.project(local @ pose[:, :, :3].transpose(1, 2) + pose[:, None, :, 3])
    torch.testing.assert_close(pixels[0].T.unflatten(1, (32, 32)), grid(32).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, torch.full_like(depth, 2.5))


def test_a_camera_moved_in_its_own_frame():
    quarter = rotation_by(torch.tensor([[0.0, math.pi / 2, 0.0]], dtype=torch.float64))  # looks along the world's x
    camera = Camera(torch.eye(3)[None], torch.cat([quarter, torch.zeros(1, 3, 1)], dim=2), 32)
    forward = torch.eye(3, 4)[None].clone()
    forward[:, 2, 3] = 2
    torch.testing.assert_close(camera.moved(forward).pose[0, :, 3], torch.tensor([2.0, 0, 0], dtype=torch.float64), atol=1e-9, rtol=0)


# ---- bad input


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"objects": (5, 3)}, "low <= high"),
        ({"objects": (1.5, 3)}, "whole numbers"),
        ({"objects": 3}, "two numbers"),
        ({"kinds": ("torus",)}, "plane, box, sphere, free-form"),
        ({"kinds": ()}, "one or more"),
        ({"kinds": "box"}, "one or more"),
        ({"camera_motion": (0, 4)}, "between 0.01 and 48"),
        ({"object_motion": (1, 100)}, "between 0.01 and 48"),
        ({"object_motion": (1, math.nan)}, "two numbers"),
        ({"still_cameras": 1.5}, "share between 0 and 1"),
        ({"still_worlds": True}, "share between 0 and 1"),
        ({"focal": (0, 1)}, "focal"),
    ],
)
def test_wrong_options(wrong, words):
    with pytest.raises(ConfigError, match=words):
        WorldOptions(**wrong)


@pytest.mark.parametrize("seeds, words", [([], "No seeds"), ([1, -2], "-2 is no seed"), ([1.5], "1.5 is no seed"), ([True], "True is no")])
def test_wrong_seeds(textures, seeds, words):
    with pytest.raises(ConfigError, match=words):
        generate(seeds, WorldOptions(), textures)


def test_wrong_cameras_and_views(textures):
    world = generate([1, 2], WorldOptions(), textures)
    with pytest.raises(ConfigError, match="1 cameras for 2 scenes"):
        render(world, world[:1].camera(0.0, 16), 0.0)
    with pytest.raises(ConfigError, match="at least 4 pixels"):
        world.camera(0.0, 2)
    with pytest.raises(ConfigError, match=r"\(B, 3, 3\)"):
        Camera(torch.eye(3), torch.eye(3, 4)[None], 16)
    a, b = (render(world, world.camera(0.0, size), 0.0) for size in (16, 24))
    with pytest.raises(ConfigError, match="same world and size"):
        motion(world, a, b)
