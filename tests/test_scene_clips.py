"""Procedural scenes as training windows: drawn or cached they are equal, mixed with videos in the right share, with poses that are true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vae4d.clips.clip import Clip
from vae4d.clips.windows import ClipWindows
from vae4d.errors import ClipError, ConfigError, StorageError
from vae4d.geometry import euler_to_theta
from vae4d.scenes import WorldOptions, clips, generate, load_textures, motion, render
from vae4d.scenes.clips import POSES, MixedWindows, SceneSet, SceneWindows, cached
from vae4d.scenes.world import Path as Trajectory

STATIC = WorldOptions(objects=(2, 3), camera_motion=(4, 8), still_cameras=0.0, still_worlds=1.0)


@pytest.fixture(scope="module")
def textures():
    return load_textures(split="test", size=64)


@pytest.fixture
def scenes(textures):
    return SceneSet(3, 3, 32, STATIC, textures)


def quiet(line: str) -> None:
    pass


def video(count: int) -> Clip:
    """A clip of 32 px whose frame i is grey of the level i."""
    frames = np.repeat(np.arange(count, dtype=np.uint8), 32 * 32 * 3).reshape(count, 32, 32, 3)
    return Clip("v", Path("v.mp4"), "train", Fraction(25), frames, np.arange(count) / 25, (), (), "0" * 64, Path("v"))


def test_drawn_and_cached_windows_are_equal(scenes, tmp_path):
    lines: list[str] = []
    drawn, stored = SceneWindows(scenes), SceneWindows(scenes, cached(scenes, tmp_path, progress=lines.append))
    assert len(drawn) == len(stored) == 3 and lines[-1] == "drew 3 of 3 procedural scenes"
    for number, (a, b) in enumerate(zip(drawn, stored, strict=True)):
        assert a["frames"].shape == (3, 3, 32, 32) and a["poses"].shape == (3, 3, 6)
        assert torch.equal(a["frames"], b["frames"]) and torch.equal(a["poses"], b["poses"])
        assert torch.equal(a["times"], b["times"]) and a["times"].tolist() == [0.0, 0.5, 1.0]
        assert (a["clip"], a["start"]) == (b["clip"], b["start"]) == (-1, number)
        assert a["frames"].std() > 0.05 and not torch.equal(a["frames"][0], a["frames"][2])


def test_a_cached_set_is_a_clip_of_one_shot_per_world(scenes, tmp_path):
    clip = cached(scenes, tmp_path, "validate", quiet)
    assert clip.split == "validate" and clip.shots() == [range(0, 3), range(3, 6), range(6, 9)]
    assert sorted(path.name for path in clip.folder.iterdir()) == ["frames.npy", "manifest.json", POSES]
    assert len(ClipWindows([clip], 3)) == 3
    before = {path.name: path.stat().st_mtime_ns for path in clip.folder.iterdir()}
    cached(scenes, tmp_path, progress=pytest.fail)
    assert {path.name: path.stat().st_mtime_ns for path in clip.folder.iterdir()} == before


def test_a_world_does_not_depend_on_how_many_there_are(scenes):
    more = replace(scenes, count=50)
    for number in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(scenes.draw(number), more.draw(number), strict=True))
    assert not torch.equal(scenes.draw(0)[0], replace(scenes, seed=1).draw(0)[0])


def test_the_middle_frame_and_its_pose_are_those_of_the_middle_time(scenes, textures):
    world = generate([0], STATIC, textures)
    view = render(world, world.camera(0.5, 32), 0.5)
    assert (scenes.draw(0)[0][1] - view.image[0]).abs().max() < 0.51 / 255


def test_other_worlds_have_another_folder(scenes, tmp_path):
    sets = [scenes, replace(scenes, seed=1), replace(scenes, count=2), replace(scenes, clip_length=2), replace(scenes, size=48)]
    sets += [replace(scenes, options=replace(STATIC, camera_motion=(4, 9)))]
    sets += [replace(scenes, textures=replace(scenes.textures, atlas=scenes.textures.atlas * 0.9))]
    names = {cached(one, tmp_path, progress=quiet).folder.name for one in sets}
    assert len(names) == len(sets) and all(name.startswith("scenes-") for name in names)
    with pytest.raises(ClipError, match="does not hold the worlds that were asked for"):
        SceneWindows(scenes, cached(sets[1], tmp_path))


# ---- mixed with videos


@pytest.mark.parametrize(("worlds", "share", "length"), [(3, 0.5, 6), (3, 1.0, 3), (3, 0.25, 12), (2, 0.7, 3), (3, 0.99, 3)])
def test_an_epoch_shows_every_world_once_and_the_right_share(scenes, worlds, share, length):
    mixed = MixedWindows(SceneWindows(replace(scenes, count=worlds)), ClipWindows([video(5)], 3), share)
    items = list(mixed)  # ends by itself
    assert len(items) == len(mixed) == length
    assert sorted(item["start"] for item in items if item["clip"] == -1) == list(range(worlds))
    assert {tuple(item["poses"].shape) for item in items} == {(3, 3, 6)}
    for item in items:
        assert item["poses"].isnan().all() if item["clip"] == 0 else item["poses"].isfinite().all()
    assert [item["start"] for item in items if item["clip"] == 0] == [i % 3 for i in range(length - worlds)]  # three windows, in turn


def test_many_windows_of_videos_are_shown_evenly(scenes):
    """Were they taken from the first on, a data set's last videos would never be trained on."""
    mixed = MixedWindows(SceneWindows(replace(scenes, count=2)), ClipWindows([video(102)], 3), 1 / 3)
    assert [item["start"] for item in mixed if item["clip"] == 0] == [0, 25, 50, 75]


def test_windows_of_both_kinds_make_a_batch(scenes):
    mixed = MixedWindows(SceneWindows(replace(scenes, count=1)), ClipWindows([video(5)], 3), 0.5)
    batch = next(iter(torch.utils.data.DataLoader(mixed, batch_size=2)))
    assert batch["frames"].shape == (2, 3, 3, 32, 32) and batch["poses"].isnan().all((1, 2, 3)).sum() == 1


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_out_of_range(scenes, share):
    with pytest.raises(ConfigError, match=f"scene_share is {share}: give"):
        MixedWindows(SceneWindows(scenes), ClipWindows([video(5)], 3), share)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_world_beyond_the_last(scenes, index):
    with pytest.raises(IndexError):
        SceneWindows(scenes)[index]
    with pytest.raises(IndexError):
        MixedWindows(SceneWindows(scenes), ClipWindows([video(5)], 3), 1.0)[index]


@pytest.mark.parametrize(("name", "value"), [("count", 0), ("count", clips.SEEDS + 1), ("clip_length", 1), ("size", 8), ("seed", -1)])
def test_a_set_out_of_range(scenes, name, value):
    with pytest.raises(ConfigError, match=f"{name} of a set of scenes is {value}: give"):
        replace(scenes, **{name: value})


# ---- nothing half-written


def test_a_full_disk_leaves_no_folder(scenes, tmp_path, small_disk, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # drawn in this process: the limit holds for shared memory too
    with small_disk(20_000), pytest.raises(StorageError, match=r"scenes-[0-9a-f]{8}-32 .*choose a folder"):
        cached(scenes, tmp_path, progress=quiet)
    assert not list(tmp_path.iterdir())
    assert len(cached(scenes, tmp_path, progress=quiet)) == 9


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_or_failing_draw_leaves_no_folder(scenes, tmp_path, error):
    def stop(line: str) -> None:
        raise error

    with pytest.raises(error):
        cached(scenes, tmp_path, progress=stop)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_leaves_is_replaced(scenes, tmp_path):
    code = f"""
import os, signal
from vae4d.scenes import WorldOptions, load_textures
from vae4d.scenes.clips import SceneSet, cached
os.cpu_count = lambda: 1  # loaders of a killed process live on for seconds and hold its lock
options = WorldOptions(objects=(2, 3), camera_motion=(4, 8), still_cameras=0.0, still_worlds=1.0)
scenes = SceneSet(3, 3, 32, options, load_textures(split="test", size=64))
cached(scenes, {str(tmp_path)!r}, progress=lambda line: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    assert not (folder / "manifest.json").exists()
    clip = cached(scenes, tmp_path, progress=quiet)
    assert clip.folder == folder.absolute() and len(list(folder.iterdir())) == 3
    assert torch.equal(clip.tensor(slice(0, 3)), scenes.draw(0)[0])


def test_two_processes_do_not_draw_one_set_at_once(scenes, tmp_path):
    def second(line: str) -> None:
        with pytest.raises(ClipError, match="is being written by another process: wait"):
            cached(scenes, tmp_path, progress=quiet)

    assert len(cached(scenes, tmp_path, progress=second)) == 9


def test_a_root_that_cannot_be_written(scenes, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="Cannot write"):
        cached(scenes, tmp_path / "cache", progress=quiet)


@pytest.mark.parametrize("name", ["frames.npy", POSES])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_cache_is_named(scenes, tmp_path, name, damage):
    clip = cached(scenes, tmp_path, progress=quiet)
    path = clip.folder / name
    content = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ClipError, match=r"scenes-.* damaged.*delete the folder"):
        SceneWindows(scenes, cached(scenes, tmp_path, progress=quiet))


def test_the_manifest_says_what_was_drawn(scenes, tmp_path):
    manifest = json.loads((cached(scenes, tmp_path, progress=quiet).folder / "manifest.json").read_text())
    assert manifest["scenes"]["options"]["camera_motion"] == [4, 8] and manifest["scenes"]["textures"] == scenes.textures.sha256


# ---- poses


def moved_camera(world, velocity=(0.0, 0.0, 0.0), spin=(0.0, 0.0, 0.0)):
    """The world with a camera that moves evenly; vectors in the axes of the camera at t = 0."""
    start = world.camera_path.pose(0.0)
    velocity, spin = (start[:, :, :3] @ torch.tensor([v], dtype=torch.float64)[..., None] for v in (velocity, spin))
    nothing = torch.zeros_like(start[:, :, 3])
    return replace(world, camera_path=Trajectory(start[:, :, 3], velocity[..., 0], nothing, start[:, :, :3], spin[..., 0], nothing[:, 0]))


def drawn_with(monkeypatch, scenes, **camera):
    """World, views at both ends and poses of a set's first world with the camera of `moved_camera`."""
    world = moved_camera(generate([0], STATIC, scenes.textures), **camera)
    monkeypatch.setattr(clips, "generate", lambda *_: world)
    ends = [render(world, world.camera(t, scenes.size), t) for t in (0.0, 1.0)]
    return world, ends, replace(scenes, clip_length=2).draw(0)[1]


def test_a_translation_is_its_length_over_the_depth(scenes, monkeypatch):
    """To the right by v at the depth d: pixels move by -v f / d, the cube of 2 units by -2 v f / (d S); no rotation."""
    _, (first, second), poses = drawn_with(monkeypatch, scenes, velocity=(0.2, 0.0, 0.0))
    focal = float(first.camera.intrinsics[0, 0, 0])
    for (i, j), view, sign in (((0, 1), first, 1), ((1, 0), second, -1)):
        expected = sign * 2 * 0.2 * focal / (32 * float(view.depth.median()))
        torch.testing.assert_close(poses[i, j], torch.tensor([0, 0, 0, expected, 0, 0]), rtol=1e-5, atol=1e-7)
    assert poses[0, 0].abs().max() < 1e-7 and poses[1, 1].abs().max() < 1e-7


def test_a_rotation_is_about_the_camera_and_not_about_the_cube(scenes, monkeypatch):
    """By 0.05 rad to the right (about y): R = Ry(0.05), and the cube's centre, c = 2 f / S in front, goes to c (sin, 0, cos - 1)."""
    _, (first, _), poses = drawn_with(monkeypatch, scenes, spin=(0.0, 0.05, 0.0))
    centre = 2 * float(first.camera.intrinsics[0, 0, 0]) / 32
    angle = torch.tensor(0.05, dtype=torch.float64)
    expected = torch.stack([angle, 0 * angle, 0 * angle, centre * angle.sin(), 0 * angle, centre * (angle.cos() - 1)]).float()
    torch.testing.assert_close(poses[0, 1], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("camera", [{"velocity": (0.1, -0.06, 0.0)}, {"spin": (0.01, -0.02, 0.03)}])
def test_a_pose_moves_what_lies_at_the_median_depth_as_the_true_flow(scenes, monkeypatch, camera):
    """theta maps the second camera's cube to the first's; a point at the median depth is in the cube's middle plane, z = 0."""
    world, (first, second), poses = drawn_with(monkeypatch, scenes, **camera)
    found = motion(world, second, first)  # from the picture that a model draws to the one that it samples
    near = ((second.depth / first.depth.median() - 1).abs() < 0.02) & found.visible
    assert near.sum() > 10
    y, x = (near[0].nonzero().T + 0.5) * (2 / 32) - 1
    points = torch.stack([x, y, torch.zeros_like(x), torch.ones_like(x)])
    moved = euler_to_theta(poses[0, 1][None])[0] @ points
    focal = 2 * float(first.camera.intrinsics[0, 0, 0]) / 32
    there = moved[:2] * focal / (focal + moved[2])  # central projection from `focal` in front of the middle plane
    flow = (there - points[:2]) * 16
    true = found.flow[0, :, near[0]]
    assert true.norm(dim=0).mean() > 0.3
    assert (flow - true).norm(dim=0).max() < 0.03 * true.norm(dim=0).mean() + 0.01
