"""Procedural scenes: options are honoured, seeds decide, bad input is refused."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from make_worlds import hand_made, still, two_views

from vae4d.errors import ConfigError
from vae4d.scenes import Camera, WorldOptions, generate, motion, render
from vae4d.scenes.render import edges
from vae4d.scenes.world import BOX, FREE_FORM, ROOM, SPHERE


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
