"""Preparation: crop and resize, resuming to the same bytes, times, cuts and repeats, damage."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from make_clips import encode, pictures, save_images

from vae4d.clips import cache
from vae4d.clips.cache import prepare
from vae4d.clips.clip import MAPPED, Clip
from vae4d.clips.pictures import constant_rate, crop_box, square
from vae4d.clips.shots import find_shots
from vae4d.clips.video import Frame, FrameFolder, VideoFile, VideoInfo
from vae4d.errors import ClipError, ConfigError, StorageError, VideoError


def info(width: int, height: int, aspect: Fraction | int = 1) -> VideoInfo:
    return VideoInfo(width, height, Fraction(25), None, 0, "h264", Fraction(1, 25), Fraction(aspect))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def _target(number: str) -> str:
    """What an open file of this process is; one that is closed already is nothing."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""


def test_crop_box() -> None:
    """The central square as displayed; pixels twice as wide need half as many columns."""
    assert crop_box(info(640, 272)) == (184, 0, 272, 272)
    assert crop_box(info(48, 64)) == (0, 8, 48, 48)
    assert crop_box(info(100, 100, 2)) == (25, 0, 50, 100)
    assert crop_box(info(100, 200, Fraction(1, 2))) == (0, 75, 100, 50)


def test_square() -> None:
    """An equal size is a copy, means stay, and a pattern finer than the result becomes grey instead of aliasing."""
    image = pictures(1, 96, 64)[0]
    assert np.array_equal(square(image, (16, 0, 64, 64), 64), image[:, 16:80])
    checks = np.kron(np.indices((100, 100)).sum(0) % 2, np.ones((1, 1)))[..., None].repeat(3, 2).astype(np.uint8) * 255
    assert abs(int(square(checks, (0, 0, 100, 100), 32)[8:24, 8:24].astype(int).mean()) - 127) <= 2
    assert square(checks, (0, 0, 100, 100), 32)[8:24, 8:24].std() < 12
    assert (square(np.full((20, 20, 3), 77, np.uint8), (0, 0, 20, 20), 64) == 77).all()


def test_prepare(tmp_path: Path) -> None:
    images = pictures(40, 96, 64)
    seen: list[tuple[int, int | None]] = []
    folder = save_images(tmp_path / "walk", images)
    clip = prepare(folder, tmp_path / "cache", 64, "train", Fraction(30000, 1001), progress=lambda done, total: seen.append((done, total)))
    assert isinstance(clip.frames, np.memmap) and clip.frames.shape == (40, 64, 64, 3) and len(clip) == 40 and clip.size == 64
    assert all(np.array_equal(a, b[:, 16:80]) for a, b in zip(clip.frames, images, strict=True))
    assert clip.fps == Fraction(30000, 1001) and not clip.variable_rate and clip.times[30] == pytest.approx(1.001)
    assert (clip.name, clip.path, clip.split, clip.cuts, clip.duplicates) == ("walk", folder, "train", (), ())
    assert seen == [(32, 40), (40, 40)]
    assert clip.folder.name == f"walk-{clip.sha256[:8]}-64" and sorted(contents(clip.folder)) == ["frames.npy", "manifest.json"]
    manifest = json.loads((clip.folder / "manifest.json").read_text())
    assert manifest["crop"] == [16, 0, 64, 64] and manifest["fps"] == "30000/1001" and manifest["width"] == 96


def test_square_pixels(tmp_path: Path) -> None:
    """A file's word on the shape of its pixels can be ignored; both kinds stay side by side."""
    lossless = {"qp": "0", "preset": "veryfast"}  # a lossy encoder may write other pictures the next time
    film = encode(tmp_path / "wide.mp4", pictures(4, 96, 64), aspect=Fraction(2, 1), options=lossless)
    stated = prepare(film, tmp_path / "cache", 32, "test")
    square = prepare(film, tmp_path / "cache", 32, "test", square_pixels=True)
    plain = prepare(encode(tmp_path / "plain.mp4", pictures(4, 96, 64), options=lossless), tmp_path / "cache", 32, "test")
    assert square.folder.name == f"{stated.folder.name}-square" and np.array_equal(square.frames, plain.frames)
    crops = [json.loads((clip.folder / "manifest.json").read_text())["crop"] for clip in (stated, square)]
    assert crops == [[32, 0, 32, 64], [16, 0, 64, 64]]


def test_tensor(tmp_path: Path) -> None:
    clip = prepare(save_images(tmp_path / "walk", pictures(6)), tmp_path / "cache", 48, "test")
    one, some = clip.tensor(2), clip.tensor(slice(0, 6, 2))
    assert one.shape == (3, 48, 48) and one.dtype == torch.float32 and one.is_contiguous()
    assert some.shape == (3, 3, 48, 48) and torch.equal(some[1], one) and torch.equal(clip.tensor([2])[0], one)
    assert one[1, 5, 7].item() == pytest.approx(int(clip.frames[2, 5, 7, 1]) / 255) and some.is_contiguous()


def test_more_clips_than_a_process_may_open_files(tmp_path: Path) -> None:
    """However many clips are open, a bounded number of files is; frames in hand stay as they are, copies keep theirs."""
    source = save_images(tmp_path / "walk", pictures(3))
    first = prepare(source, tmp_path / "cache", 32, "test")
    shown, again = first.frames, replace(first, split="train")
    expected = np.array(shown)
    clips = [Clip.open(shutil.copytree(first.folder, tmp_path / f"{i}")) for i in range(MAPPED + 40)]
    opened = [link for number in os.listdir("/proc/self/fd") if (link := _target(number)).startswith(str(tmp_path))]
    assert len(opened) <= MAPPED + 1 and len(clips[0]) == 3
    assert all(np.array_equal(frames, expected) for frames in (shown, clips[0].frames, clips[-1].frames, again.frames))
    assert np.array_equal(replace(first, frames=255 - first.frames).frames, 255 - expected)


def test_second_call_only_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", pictures(10))
    first = prepare(path, tmp_path / "cache", 32, "train")
    monkeypatch.setattr(VideoFile, "frames", None)  # decoding again would fail
    before = contents(first.folder)
    assert prepare(path, tmp_path / "cache", 32, "train").sha256 == first.sha256 and contents(first.folder) == before
    assert prepare(path, tmp_path / "cache", 32, "test").split == "test"
    after = contents(first.folder)
    assert after["frames.npy"] == before["frames.npy"] and json.loads(after["manifest.json"])["split"] == "test"
    assert Clip.open(first.folder, split="validate").split == "validate"


def test_damaged_cache_is_made_again(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pictures(10))
    clip = prepare(path, tmp_path / "cache", 32, "train")
    before = contents(clip.folder)
    os.truncate(clip.folder / "frames.npy", 5000)
    with pytest.raises(ClipError, match=r"damaged or unfinished .*: delete the folder and prepare again"):
        Clip.open(clip.folder)
    prepare(path, tmp_path / "cache", 32, "train")
    assert contents(clip.folder) == before
    for damage in ("", "{}", "[1]", '{"format": 0}'):
        (clip.folder / "manifest.json").write_text(damage)
        with pytest.raises(ClipError, match="damaged or unfinished"):
            Clip.open(clip.folder)
    (clip.folder / "frames.npy").write_bytes(b"")
    with pytest.raises(ClipError):
        Clip.open(clip.folder)


def test_pickle_is_small(tmp_path: Path) -> None:
    clip = prepare(save_images(tmp_path / "walk", pictures(6)), tmp_path / "cache", 48, "test")
    data = pickle.dumps(clip)
    assert len(data) < 1000 and np.array_equal(pickle.loads(data).frames, clip.frames)


def watched(decode: Callable[..., Iterator[Frame]], decoded: list[int], stop: int | None = None) -> Callable[..., Iterator[Frame]]:
    """A reader's `frames` that notes the time of each in `decoded`, and is interrupted at frame `stop`."""

    def frames(self: VideoFile | FrameFolder, after_pts: int | None = None) -> Iterator[Frame]:
        for index, frame in enumerate(decode(self, after_pts)):
            if index == stop:
                raise KeyboardInterrupt
            decoded.append(frame.pts)
            yield frame

    return frames


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "folder"])
@pytest.mark.parametrize("stop", [10, 70, 119])
def test_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: int) -> None:
    """Interrupted after any frame, the next call ends in the same bytes; from where it stopped, if the container can seek."""
    images = pictures(120)
    path = save_images(tmp_path / name, images) if name == "folder" else encode(tmp_path / name, images, options={"g": "12", "bf": "2"})
    whole = contents(prepare(path, tmp_path / "whole", 48, "train").folder)
    kind, decoded = FrameFolder if name == "folder" else VideoFile, []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "frames", watched(kind.frames, [], stop))
        prepare(path, tmp_path / "cache", 48, "train")
    folder = next((tmp_path / "cache").iterdir())
    assert not (folder / "manifest.json").exists()
    with pytest.raises(ClipError, match="unfinished"):
        Clip.open(folder)
    monkeypatch.setattr(kind, "frames", watched(kind.frames, decoded))
    prepare(path, tmp_path / "cache", 48, "train")
    assert contents(folder) == whole
    if name != "a.avi" and stop > cache.VERIFIED:
        assert len(decoded) <= 120 - stop + cache.VERIFIED + 12


def test_resume_after_kill(tmp_path: Path) -> None:
    """SIGKILL in the middle, then bytes torn off and overwritten: still the same in the end."""
    path = encode(tmp_path / "a.mp4", pictures(100), options={"g": "10"})
    whole = contents(prepare(path, tmp_path / "whole", 48, "train").folder)
    code = (
        "import os, signal, sys; from vae4d.clips.cache import prepare\n"
        "prepare(sys.argv[1], sys.argv[2], 48, 'train', progress=lambda done, total: done >= 64 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    root = Path(__file__).resolve().parent.parent
    ended = subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "cache")], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    folder = next((tmp_path / "cache").iterdir())
    stamps = next(folder.glob("*.pts"))
    assert not (folder / "manifest.json").exists() and stamps.stat().st_size == 64 * 8
    os.truncate(folder / "frames.npy", (folder / "frames.npy").stat().st_size - 1000)  # a torn last frame
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn / folder.name)
    prepare(path, tmp_path / "cache", 48, "train")
    assert contents(folder) == whole
    with (torn / folder.name / "frames.npy").open("r+b") as stream:
        stream.seek(-3 * 48 * 48 * 3, 2)
        stream.write(bytes(1000))  # lost by the disk: what is there is not trusted, but compared
    prepare(path, torn, 48, "train")
    assert contents(torn / folder.name) == whole


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pictures(40))

    def again(done: int, total: int | None) -> None:
        with pytest.raises(ClipError, match="another process"):
            prepare(path, tmp_path / "cache", 32, "train")

    assert len(prepare(path, tmp_path / "cache", 32, "train", progress=again)) == 40


def test_finished_by_another_process_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the lock another process finishes the clip: it is opened, not written under that one's map."""
    path, locked, first = encode(tmp_path / "a.mp4", pictures(40)), cache.locked, []

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(cache, "locked", locked)
        first.append(prepare(path, tmp_path / "cache", 32, "train"))
        monkeypatch.setattr(VideoFile, "frames", None)  # decoding again would fail
        with locked(folder):
            yield

    monkeypatch.setattr(cache, "locked", late)
    second = prepare(path, tmp_path / "cache", 32, "test")
    assert second.split == "test" and np.array_equal(first[0].frames, second.frames)
    assert sorted(contents(second.folder)) == ["frames.npy", "manifest.json"]


def test_repair_leaves_mapped_frames_alone(tmp_path: Path) -> None:
    """A damaged manifest is made again beside the frames that another process has mapped."""
    path = encode(tmp_path / "a.mp4", pictures(10))
    mapped = prepare(path, tmp_path / "cache", 32, "train")
    before, file = mapped.frames.copy(), (mapped.folder / "frames.npy").stat().st_ino
    keeps_it = (mapped.folder / "frames.npy").open("rb")
    (mapped.folder / "manifest.json").write_text("{")
    again = prepare(path, tmp_path / "cache", 32, "train")
    assert (again.folder / "frames.npy").stat().st_ino != file and np.array_equal(mapped.frames, before)
    keeps_it.close()


def test_lock_of_a_removed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the lock fails and removes the folder: who waited with the old file in hand does not go on in nothing."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda stream, flags: shutil.rmtree(tmp_path / "cache"))
    with pytest.raises(ClipError, match="another process"):
        prepare(encode(tmp_path / "a.mp4", pictures(10)), tmp_path / "cache", 32, "train")


def test_truncated_video_leaves_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "half.avi", pictures(200), codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"half\.avi is (truncated|damaged)"):
        prepare(path, tmp_path / "cache", 32, "train")
    assert not list((tmp_path / "cache").iterdir())


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", pictures(40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"frames\.npy"):
            prepare(path, tmp_path / "cache", 64, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(StorageError, match=r"needs 0 MB .* 0 MB are free"):
        prepare(path, tmp_path / "cache", 64, "train")
    assert not list((tmp_path / "cache").iterdir())


def test_short_of_space_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of an interrupted call is not thrown away because the rest does not fit."""
    path = encode(tmp_path / "a.mp4", pictures(120))

    def stop(done: int, total: int | None) -> None:
        if done == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(path, tmp_path / "cache", 64, "train", progress=stop)
    folder = next((tmp_path / "cache").iterdir())
    before = contents(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(StorageError, match=r"0 MB are free"):
        prepare(path, tmp_path / "cache", 64, "train")
    assert contents(folder) == before and len(before["frames.npy"]) > 64 * 64 * 64 * 3


@pytest.mark.parametrize("blocked", ["cache", "clip"])
def test_cache_cannot_be_made(tmp_path: Path, blocked: str) -> None:
    """A file lies where the folder should be."""
    path, root = encode(tmp_path / "a.mp4", pictures(3)), tmp_path / "cache"
    place = root if blocked == "cache" else root / f"a-{VideoFile(path).sha256()[:8]}-32"
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file")
    with pytest.raises(StorageError, match=r"Cannot write .*a-\w{8}-32 \((Not a directory|File exists)\): choose a folder"):
        prepare(path, root, 32, "train")
    assert place.read_text() == "a file"


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size = 100"):
        prepare(tmp_path / "a.mp4", tmp_path, 100, "train")
    with pytest.raises(ConfigError, match="split = 'dev'"):
        prepare(tmp_path / "a.mp4", tmp_path, 64, "dev")
    with pytest.raises(VideoError, match="does not exist"):
        prepare(tmp_path / "a.mp4", tmp_path, 64, "train")


@pytest.mark.parametrize("name", ["ntsc.mp4", "ntsc.mkv", "ntsc.ts"])
def test_constant_rate_is_exact(tmp_path: Path, name: str) -> None:
    """Matroska rounds time to milliseconds: 30000/1001 is recognised all the same."""
    clip = prepare(encode(tmp_path / name, pictures(90), Fraction(30000, 1001)), tmp_path / "cache", 32, "test")
    assert clip.fps == Fraction(30000, 1001) and not clip.variable_rate
    assert np.allclose(clip.times, np.arange(90) * 1001 / 30000, atol=1e-12)


def test_variable_rate(tmp_path: Path) -> None:
    """One frame that is missing in the middle counts as variable: what lies between two frames is time, not a number."""
    ticks = [40 * i for i in range(30) if i != 17]
    clip = prepare(encode(tmp_path / "vfr.mkv", pictures(29), ticks=ticks), tmp_path / "cache", 32, "test")
    assert clip.variable_rate and np.allclose(clip.times * 1000, ticks) and clip.fps == Fraction(28, 1) / Fraction(29 * 40, 1000)
    assert np.allclose(Clip.open(clip.folder).times, clip.times)


@pytest.mark.parametrize("ticks_a_frame, lost", [(1, None), (1, 17), (2, 1), (3600, 17), (3600, None)])
def test_dropped_frame_with_coarse_ticks(ticks_a_frame: int, lost: int | None) -> None:
    """A tick as long as a frame is no excuse: 25 frames a second of which one is missing are not 24.2 a second."""
    ticks = np.array([i * ticks_a_frame for i in range(32) if i != lost])
    rate, found = constant_rate(ticks, replace(info(64, 48), time_base=Fraction(1, 25 * ticks_a_frame)))
    assert found is (lost is not None) and (rate == 25) is not found


@pytest.mark.parametrize("fps", [24, Fraction(24000, 1001), 60, Fraction(60000, 1001), 100, 240])
def test_rate_rounded_to_milliseconds(fps: Fraction | int) -> None:
    ticks = np.array([round(Fraction(1000 * i) / fps) for i in range(500)])
    assert constant_rate(ticks, replace(info(64, 48), fps=Fraction(fps), time_base=Fraction(1, 1000))) == (fps, False)


def test_rotated_and_wide_pixels(tmp_path: Path) -> None:
    """The crop is central in the upright picture: the left half of a lying video is the bottom of the standing one."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 255
    clip = prepare(encode(tmp_path / "phone.mp4", [image] * 3, rotate=90), tmp_path / "cache", 48, "test")
    assert clip.frames[0, :16].mean() < 10 and clip.frames[0, 32:].mean() > 245


def test_cuts(tmp_path: Path) -> None:
    """Two cuts between moving pictures; a flash of one frame and the fast motion itself are none."""
    images = np.stack([*pictures(20, seed=1), *pictures(15, seed=2), *pictures(25, seed=3)])[:, :, :48]
    cuts, repeats = find_shots([images])
    assert cuts == [20, 35] and repeats == []
    flashed = images.copy()
    flashed[10] = 255 - flashed[10] // 4
    assert find_shots([flashed])[0] == [20, 35]
    assert find_shots([images[:7], images[7:8], images[8:]]) == (cuts, repeats)  # however it is read
    assert find_shots([images[:1]]) == ([], [])
    clip = prepare(save_images(tmp_path / "cuts", list(images)), tmp_path / "cache", 48, "test")
    assert clip.shots() == [range(0, 20), range(20, 35), range(35, 60)]


def test_repeats() -> None:
    """Exact repeats, and repeats with encoder noise in moving pictures; a still shot with sensor noise repeats nothing."""
    noise = np.random.default_rng(0)
    images = np.stack(pictures(24))[:, :, :48].astype(int)
    twice = np.repeat(images, np.where(np.arange(24) % 8 == 3, 2, 1), axis=0)  # the 4th, 12th and 20th are shown twice
    noisy = (twice + (noise.random(twice.shape) < 0.02)).clip(0, 255)
    assert find_shots([twice.astype(np.uint8)])[1] == find_shots([noisy.astype(np.uint8)])[1] == [4, 13, 22]
    halved = np.repeat(images, 2, axis=0)
    assert find_shots([halved.astype(np.uint8)])[1] == list(range(1, 48, 2))
    still = (images[:1] + noise.normal(0, 0.4, (30, 48, 48, 3))).round().clip(0, 255)
    assert find_shots([still.astype(np.uint8)]) == ([], [])
