"""Collages: shapes, values known on paper, truth against the pictures, bad input."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from vae4d.errors import ConfigError
from vae4d.geometry import invert
from vae4d.scenes.collage import CollageOptions, draw
from vae4d.scenes.collage_render import bank_of, lay_over, tiled, untiled
from vae4d.scenes.collage_world import exponential

CLEAN = CollageOptions(noisy=0, flicker=0, soft=0, recoloured=0, still=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centres(size: int) -> torch.Tensor:
    """(2, S, S) pixel centres."""
    centre = torch.arange(size) + 0.5
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"))


def projected(sample, pose: torch.Tensor) -> torch.Tensor:
    """Flow (B, 2, S, S) of a standing world, whose points `pose` (B, 3, 4) maps from target's camera to the other."""
    size = sample.depth.shape[-1]
    pixels, focal = centres(size).double(), (sample.focal * size).double()[:, None, None, None]
    rays = torch.cat([(pixels - size / 2) / focal, torch.ones(len(focal), 1, size, size)], dim=1)
    points = rays * sample.depth.double()[:, None]
    there = torch.einsum("bij,bjhw->bihw", pose[:, :, :3].double(), points) + pose[:, :, 3, None, None].double()
    return there[:, :2] / there[:, 2:] * focal + size / 2 - pixels


def warped(pictures: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    size = pictures.shape[-1]
    grid = (centres(size) + flow).permute(0, 2, 3, 1) * 2 / size - 1
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="border", align_corners=False)


def test_shapes_and_ranges(textures):
    for size in (24, 64):
        sample = draw(3, size, textures, seeded())
        square = (3, size, size)
        shapes = {"t": (3,), "focal": (3,), "pose": (3, 3, 4), "depth": square, "visible0": square, "visible1": square, "own": square}
        shapes |= {"flow0": (3, 2, size, size), "flow1": (3, 2, size, size)}
        for field in fields(sample):
            value = getattr(sample, field.name)
            assert value.shape == shapes.get(field.name, (3, 3, size, size)), field.name
            assert value.dtype == (torch.bool if field.name in ("visible0", "visible1", "own") else torch.float32), field.name
            assert value.isfinite().all(), field.name
        pictures = torch.stack([sample.first, sample.target, sample.second])
        assert 0 <= pictures.min() < pictures.max() <= 1 and pictures.std() > 0.02
        torch.testing.assert_close(pictures * 255, (pictures * 255).round(), atol=1e-4, rtol=0)
        assert ((sample.t >= 1 / 8) & (sample.t <= 7 / 8)).all() and (sample.depth > 0).all()


def test_same_seed_same_sample(textures):
    one, again, other = (draw(4, 32, textures, seeded(seed)) for seed in (7, 7, 8))
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(one.target, other.target)


def test_a_still_scene_does_not_move(textures):
    sample = draw(6, 48, textures, seeded(), replace(CLEAN, still=1.0))
    assert sample.flow0.abs().max() == 0 and sample.flow1.abs().max() == 0 and not sample.own.any()
    assert sample.visible0.all() and sample.visible1.all()
    assert torch.equal(sample.first, sample.target) and torch.equal(sample.first, sample.second)
    torch.testing.assert_close(sample.pose, torch.eye(3, 4).expand(6, 3, 4), atol=1e-7, rtol=0)


def test_flow_of_a_standing_world_is_projected_depth(textures):
    standing = replace(CLEAN, still_cameras=0.0, still_worlds=1.0, camera_motion=(2.0, 12.0))
    # at its ends the target's camera is the first or the second, whatever lies between
    for t, pose_of in ((1.0, lambda s: s.pose), (0.0, lambda s: invert(s.pose))):
        sample = draw(6, 64, textures, seeded(3), standing, t=t)
        flow, none = (sample.flow0, sample.flow1) if t else (sample.flow1, sample.flow0)
        assert none.abs().max() == 0 and flow.abs().mean() > 0.3
        expected = projected(sample, pose_of(sample))
        seen = expected.abs().amax(dim=1) < 64
        assert ((flow - expected).abs().amax(dim=1)[seen] < 1e-3).all()


def test_halfway_along_a_straight_path_the_pose_is_the_root(textures):
    straight = replace(CLEAN, still_cameras=0.0, still_worlds=1.0, camera_motion=(2.0, 12.0), curved=0.0)
    sample = draw(4, 32, textures, seeded(5), straight, t=0.5)
    root, other = F.pad(sample.pose.double(), (0, 0, 0, 1)), torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    root[:, 3, 3] = 1
    for _ in range(8):  # Denman and Beavers' iteration
        root, other = (root + torch.linalg.inv(other)) / 2, (other + torch.linalg.inv(root)) / 2
    for flow, pose in ((sample.flow0, root), (sample.flow1, torch.linalg.inv(root))):
        expected = projected(sample, pose[:, :3])
        assert flow.abs().mean() > 0.1
        assert ((flow - expected).abs()[expected.abs() < 32] < 1e-3).all()


def test_truth_brings_first_and_second_to_target(textures):
    sample = draw(16, 64, textures, seeded(1), replace(CLEAN, still_cameras=0.0, camera_motion=(4.0, 12.0)))
    for pictures, flow, visible in ((sample.first, sample.flow0, sample.visible0), (sample.second, sample.flow1, sample.visible1)):
        left = (warped(pictures, flow) - sample.target).abs().mean(dim=1)
        before = (pictures - sample.target).abs().mean(dim=1)
        place = centres(64) + flow
        hidden = ~visible & ((place > 0) & (place < 64)).all(dim=1)
        assert 0.5 < visible.float().mean() < 1
        assert left[visible].mean() < 0.015 and left[visible].mean() < before[visible].mean() / 4
        assert hidden.any() and left[hidden].mean() > 4 * left[visible].mean()


def test_only_objects_move_before_a_still_camera(textures):
    options = replace(CLEAN, still_cameras=1.0, still_worlds=0.0, still_objects=0.0, object_motion=(8.0, 8.0), sprites=(4, 4))
    sample = draw(6, 64, textures, seeded(2), options, t=1.0)
    moved = sample.flow0.abs().amax(dim=1)
    assert sample.own.any() and (~sample.own).any()
    assert moved[~sample.own].max() == 0 and (moved[sample.own] > 0).float().mean() > 0.99
    # 8 px at 128 are 4 at 64, by 0.5 to 1.5 an object
    assert 2 < sample.flow0.norm(dim=1)[sample.own].mean() < 6
    torch.testing.assert_close(sample.pose, torch.eye(3, 4).expand(6, 3, 4), atol=1e-7, rtol=0)


def test_the_camera_moves_the_picture_by_as_much_as_asked(textures):
    options = replace(CLEAN, still_cameras=0.0, still_worlds=1.0, camera_motion=(8.0, 8.0), sprites=(0, 0))
    flow = draw(16, 64, textures, seeded(4), options, t=1.0).flow0.norm(dim=1).mean(dim=(1, 2))
    assert 3.5 < flow.median() < 4.5  # 8 px at 128


def test_large_motion_stays_in_the_room(textures):
    options = replace(CLEAN, still_cameras=0.0, still_worlds=0.0, camera_motion=(16.0, 32.0), object_motion=(8.0, 48.0))
    for seed in range(4):
        sample = draw(16, 32, textures, seeded(seed), options, t=1.0)
        assert sample.flow0.abs().amax() < 200 and sample.depth.min() > 0.1
        assert (sample.visible0.float().mean(dim=(1, 2)) > 0.02).all()


def test_finest_level_of_a_texture_is_the_photograph(textures):
    bank = bank_of(textures, torch.device("cpu"))
    assert bank.photographs == len(textures) < len(bank)
    texel = torch.tensor([0, 5, 100, 255])
    x, y = textures.corners[2 * textures.levels].long()
    place = (texel + 0.5) / textures.size
    for mirrored in (place, -place, 2 - place):
        found = bank.colours(mirrored, place, torch.full((4,), 2 * bank.levels))
        torch.testing.assert_close(found, textures.atlas[:, y + texel, x + texel], atol=2e-4, rtol=0)


def test_exponential_of_known_twists():
    quarter = torch.tensor([[1.0, 2, 3, 0, 0, 0], [torch.pi / 2, 0, 0, 0, 0, torch.pi / 2]], dtype=torch.float64)
    expected = torch.tensor([[[1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]], [[0, -1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0]]])
    torch.testing.assert_close(exponential(quarter), expected.double(), atol=1e-12, rtol=0)


def test_tiles_are_put_together_again():
    pictures = torch.arange(2 * 48 * 48).view(2, 48, 48)
    parts = tiled(pictures)
    assert torch.equal(parts[0, 1].view(16, 16), pictures[0, :16, 16:32])
    assert torch.equal(untiled(parts), pictures)


def test_what_is_laid_over_shows_where_it_is_nearer():
    picture, behind, owner = torch.zeros(3, 2, 4), torch.tensor([[9.0] * 4, [0.5, 0.5, 0.5, 2.0]]), torch.zeros(2, 4, dtype=torch.int32)
    opacity = torch.tensor([[1.0, 0.6, 0.4, 1.0]])
    white, ids = torch.ones(3, 1, 4), torch.tensor([[7]], dtype=torch.int32)
    lay_over((picture, behind, owner), torch.tensor([1]), white, opacity, torch.ones(1, 4), ids)
    assert picture[:, 0].max() == 0 and (behind[0] == 9).all() and (owner[0] == 0).all()  # the other tile
    torch.testing.assert_close(picture[0, 1], torch.tensor([1.0, 0.6, 0.4, 0.0]))
    assert behind[1].tolist() == [1, 1, 0.5, 2] and owner[1].tolist() == [7, 7, 0, 0]


def test_flicker_and_noise_are_small(textures):
    plain = replace(CLEAN, still=1.0)
    noisy = draw(4, 48, textures, seeded(6), replace(plain, noisy=1.0, noise=0.02))
    difference = noisy.first - noisy.second
    assert 0.001 < difference.std() < 0.02 * 2**0.5 and difference.mean().abs() < 1e-3
    flicker = draw(8, 48, textures, seeded(6), replace(plain, flicker=1.0), t=0.5)
    change = (flicker.second - flicker.first).mean(dim=(1, 2, 3))
    assert 0.001 < change.abs().max() <= 0.031
    torch.testing.assert_close((flicker.target - flicker.first).mean(dim=(1, 2, 3)), change / 2, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sprites": (3, 2)}, r"sprites is \(3, 2\): give low <= high between 0 and 16"),
        ({"sprites": (1, 2.5)}, "give whole numbers"),
        ({"camera_motion": 4}, "camera_motion is 4: give two numbers"),
        ({"object_motion": (0, 4)}, "object_motion is .* between 0.01 and 48"),
        ({"still": 1.5}, "still is 1.5: give a number between 0 and 1"),
        ({"noise": True}, "noise is True"),
    ],
)
def test_options_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        CollageOptions(**change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0: give a whole number"),
        ({"size": 30}, "size is 30: give a multiple of 8"),
        ({"t": 1.5}, "t is 1.5: give moments between 0 and 1"),
        ({"t": torch.tensor([0.5, 0.5, 0.5])}, "give one moment"),
    ],
)
def test_arguments_out_of_range(textures, arguments, message):
    with pytest.raises(ConfigError, match=message):
        draw(**{"count": 2, "size": 32, "textures": textures, "generator": seeded(), **arguments})
