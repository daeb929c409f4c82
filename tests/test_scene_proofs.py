"""Proofs of the scenes' truth on drawn worlds: what is said of pictures agrees with the pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from make_worlds import STILL, grid, hand_made, two_views

from vae4d.scenes import Camera, WorldOptions, generate, motion, render


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
