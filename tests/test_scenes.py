"""Procedural scenes: values known on paper."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from make_worlds import STILL, grid, hand_made, painted, still, two_views

from vae4d.scenes import Camera, WorldOptions, generate, motion, render
from vae4d.scenes.intersect import radius_of
from vae4d.scenes.render import camera_to_primitives
from vae4d.scenes.textures import build
from vae4d.scenes.trajectories import MARGIN, keep_clear
from vae4d.scenes.world import BOX, FREE_FORM, PLANE, ROOM, SPHERE, Path, rotation_by


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
