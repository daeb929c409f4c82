"""The original's data sets in their real layouts: splits, tags, cameras, what is broken, and from a tree to windows."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from make_clips import encode, pictures, save_images
from make_datasets import STEP, URL, camera_file, hmdb51, pairs, realestate10k, save_at, walks, write
from PIL import Image

from vae4d.__main__ import main
from vae4d.clips.cache import prepare
from vae4d.clips.check import known_data_sets
from vae4d.clips.datasets import ClipWindows, find_sources, open_dataset, prepare_dataset
from vae4d.clips.layouts import LAYOUTS
from vae4d.clips.layouts.frame_layouts import scenes
from vae4d.clips.layouts.hmdb51 import clip_tags
from vae4d.clips.layouts.layout import held_out
from vae4d.clips.layouts.realestate10k import CameraFrames, CameraVideo, nearest
from vae4d.clips.sources import search
from vae4d.clips.video import Frame
from vae4d.errors import ClipError, ConfigError, MissingInputError, VideoError

MAKERS = {"HMDB51": hmdb51, "RealEstate10K": realestate10k, "Matterport3D": pairs, "Replica": pairs, "Matterport3D-walks": walks}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all five; tests that change a tree copy it first."""
    root = tmp_path_factory.mktemp("data")
    for name, make in MAKERS.items():
        make(root / name)
    return root


def copied(shared: Path, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared / name, tmp_path / "data" / name)).parent


@pytest.mark.parametrize("name", list(MAKERS))
def test_from_tree_to_windows(shared: Path, tmp_path: Path, name: str) -> None:
    """Each layout is checked, prepared, opened elsewhere by the same name, and cut into windows."""
    assert main(["check", name, "--data-root", str(shared)]) == 0
    made = prepare_dataset(name, 32, shared, None)
    assert not made.skipped and all(made.split(split) for split in ("train", "validate", "test"))
    shutil.copytree(shared / "cache", tmp_path / "cache")
    opened = open_dataset(name, 32, tmp_path)
    assert [(c.name, c.split, c.tags) for c in opened.clips] == [(c.name, c.split, c.tags) for c in made.clips]
    length = 2 if name in ("Matterport3D", "Replica") else 3
    for split in ("train", "validate", "test"):
        windows = ClipWindows(opened.split(split), length)
        assert len(windows) >= len(opened.split(split)) and windows[0]["frames"].shape == (length, 3, 32, 32)


# HMDB51


@pytest.mark.parametrize("clips, lists", [("", "splits"), ("hmdb51_org", "testTrainMulti_7030_splits"), ("a/b", "")])
def test_hmdb51_folders_by_pattern(shared: Path, tmp_path: Path, clips: str, lists: str) -> None:
    """Class folders and split files are found wherever one unpacks them."""
    (tmp_path / "HMDB51" / lists).mkdir(parents=True)
    shutil.copytree(shared / "HMDB51" / "videos", tmp_path / "HMDB51" / clips, dirs_exist_ok=True)
    for path in (shared / "HMDB51").glob("*/*.txt"):
        shutil.copy(path, tmp_path / "HMDB51" / lists)
    wanted = [(entry.path.name, entry.split) for entry in find_sources("HMDB51", shared)]
    assert [(entry.path.name, entry.split) for entry in find_sources("HMDB51", tmp_path)] == wanted


def test_hmdb51_splits(shared: Path) -> None:
    """The official parts; validation is whole films of train; three splits; entries by class and name."""
    entries = find_sources("HMDB51", shared)
    assert Counter(entry.split for entry in entries) == {"train": 8, "validate": 4, "test": 2}
    split = {entry.path.name: entry.split for entry in entries}
    assert len(split) == 14 and [name for name, part in split.items() if part == "test"] == [
        "Film_03_brush_hair_u_nm_np1_ba_goo_0.avi", "Film_03_kick_u_nm_np1_ba_goo_0.avi"
    ]
    films = {part: {entry.tags["film"] for entry in entries if entry.split == part} for part in ("train", "validate", "test")}
    assert films["validate"] and not films["validate"] & films["train"]
    second = {entry.path.name: entry.split for entry in find_sources(f"HMDB51+split2:{shared / 'HMDB51'}", "elsewhere")}
    assert [name for name, part in second.items() if part == "test"] == [
        "Film_03_brush_hair_u_cm_np1_ba_goo_1.avi", "Film_03_kick_u_cm_np1_ba_goo_1.avi"
    ]


def test_hmdb51_tags(shared: Path) -> None:
    tags = clip_tags("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair")
    assert tags == {"action": "brush_hair", "film": "April_09", "body": "u", "camera_motion": "nm", "people": "1",
                    "viewpoint": "ba", "quality": "goo"}
    assert clip_tags("#20_Rhythm_clap_h_CM_np12_fr_bad_13.avi", "clap")["camera_motion"] == "cm"
    assert clip_tags("holiday.avi", "clap") == {"action": "clap", "film": "holiday"}
    dataset = prepare_dataset("HMDB51", 32, shared, None)
    assert {c.tags["camera_motion"] for c in dataset.clips} == {"cm", "nm"} and dataset.counts("camera_motion")["test"] == {"nm": 2}
    assert pickle.loads(pickle.dumps(dataset.clips[0])).tags == dataset.clips[0].tags
    moving, still = (find_sources(f"HMDB51+{motion}", shared) for motion in ("cm", "nm"))
    assert {entry.path for entry in moving} | {entry.path for entry in still} == {clip.path for clip in dataset.clips}
    splits = {clip.path: clip.split for clip in dataset.clips}
    assert moving and all("_cm_" in entry.path.name and entry.split == splits[entry.path] for entry in moving)


def test_hmdb51_options(shared: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown option \+split4: give of \+split1, \+split2"):
        find_sources("HMDB51+split4", shared)
    with pytest.raises(ConfigError, match=r"exclude each other \(\+split1, \+split2\)"):
        find_sources("HMDB51+split1+split2", shared)
    with pytest.raises(ConfigError, match=r"unknown option \+split1: it has none"):
        find_sources("Replica+split1", shared)


def broken_hmdb51(case: str, root: Path) -> str:
    """Break a tree; returns what the error must say."""
    lists, clips = root / "testTrainMulti_7030_splits", root / "videos"
    first = lists / "brush_hair_test_split1.txt"
    if case == "absent videos":
        for path in sorted((clips / "kick").iterdir())[:5]:
            path.unlink()
        return r"name 5 videos that are not there \(kick/Film_00_kick_u_nm_np1_ba_goo_0\.avi, .* and 2 more\): unpack the official archives"
    if case == "absent class":
        shutil.rmtree(clips / "kick")
        return r"name 8 videos that are not there \(kick/"
    if case == "no split files":
        shutil.rmtree(lists)
        return r"holds no split file such as brush_hair_test_split1\.txt: unpack HMDB51's archive of splits"
    if case == "one missing":
        first.unlink()
        return r"1 classes have no file <class>_test_split1\.txt \(brush_hair\)"
    if case == "no class folders":
        shutil.rmtree(clips)
        return r"holds no class folder of \.avi files: unpack every archive"
    if case == "twice":
        shutil.copytree(clips, root / "stabilised")
        return r"The class brush_hair is there twice \(.*stabilised.*videos.*: keep one copy"
    text = {"wrong part": "a.avi 3", "one column": "a.avi", "path": "../a.avi 1", "twice named": "a.avi 1\na.avi 2", "empty": " "}[case]
    first.write_text(text)
    said = {"twice named": r"split1\.txt, line 2: a\.avi is named twice", "empty": r"split1\.txt names no clip"}
    return said.get(case, r"split1\.txt, line 1: '.*a\.avi.*' is not a clip's name and 0, 1 or 2")


@pytest.mark.parametrize("case", ["absent videos", "absent class", "no split files", "one missing", "no class folders", "twice",
                                  "wrong part", "one column", "path", "twice named", "empty"])
def test_hmdb51_broken(shared: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture) -> None:
    root = copied(shared, "HMDB51", tmp_path)
    said = broken_hmdb51(case, root / "HMDB51")
    with pytest.raises(ClipError, match=said):
        prepare_dataset("HMDB51", 32, root, None)
    assert main(["check", "HMDB51", "--data-root", str(root)]) == 2 and not (root / "cache").exists()
    assert "Found: nothing that can be used, only" in capsys.readouterr().out


def test_hmdb51_extra_clips_are_named(shared: Path, tmp_path: Path) -> None:
    root = copied(shared, "HMDB51", tmp_path)
    shutil.copy(next((root / "HMDB51" / "videos" / "kick").iterdir()), root / "HMDB51" / "videos" / "kick" / "mine.avi")
    assert search("HMDB51", root).notes == ["Not used, as no split file names them: kick/mine.avi."]


def test_same_clip_in_two_official_splits(shared: Path, tmp_path: Path) -> None:
    """The official lists are not ours to put right: the copy that would train is left out, and said."""
    root = copied(shared, "HMDB51", tmp_path)
    clips = root / "HMDB51" / "videos" / "kick"
    shutil.copy(clips / "Film_03_kick_u_nm_np1_ba_goo_0.avi", clips / "Film_00_kick_u_nm_np1_ba_goo_0.avi")
    dataset = prepare_dataset("HMDB51", 32, root, None)
    assert len(dataset.clips) == 13 and dataset.skipped[0][0].name == "Film_00_kick_u_nm_np1_ba_goo_0.avi"
    assert "is the same video as" in dataset.skipped[0][1] and "Film_03_kick_u_nm_np1_ba_goo_0.avi (test)" in dataset.skipped[0][1]


def test_published_splits(shared: Path) -> None:
    """Every clip trains and tests; the 10th to 19th by name (from 0) validate; the files are the same."""
    own = prepare_dataset("HMDB51", 32, shared, None)
    both = open_dataset("HMDB51", 32, shared, own_splits=False)
    names = sorted(clip.name for clip in own.clips)
    assert [c.name for c in both.split("train")] == [c.name for c in both.split("test")] == names and len(names) == 14
    assert [c.name for c in both.split("validate")] == names[10:20]
    assert {c.folder for c in both.clips} == {c.folder for c in own.clips}
    again = prepare_dataset("HMDB51", 32, shared, None, own_splits=False)
    assert [(c.name, c.split) for c in again.clips] == [(c.name, c.split) for c in both.clips]
    assert pickle.loads(pickle.dumps(both.split("test")[0])).split == "test"
    assert [c.split for c in open_dataset("HMDB51", 32, shared).clips] == [c.split for c in own.clips]


# RealEstate10K


def test_realestate10k(shared: Path) -> None:
    """Every third frame trains, every frame tests; cameras come back with the clip, cut to its square; times are the timestamps'."""
    dataset = prepare_dataset("RealEstate10K", 32, shared, None)
    clips = {clip.name: clip for clip in dataset.clips}
    assert {name: len(clip) for name, clip in clips.items()} == {"a0": 3, "a1": 3, "b0": 3, "v0": 3, "c0": 9}
    test, train, video = clips["c0"], clips["a0"], clips["v0"]
    assert np.allclose(test.times, np.arange(9) * STEP / 1e6, atol=1e-6) and np.allclose(train.times, [0, 3 * STEP / 1e6, 6 * STEP / 1e6])
    assert test.cameras.timestamps.tolist() == [1_000_000 + STEP * i for i in range(9)]
    assert train.cameras.timestamps.tolist() == test.cameras.timestamps[::3].tolist()
    # 96 x 64 cut to the 64 in its centre: fx 0.5 of 96 px is 48 px of 64; fy is relative to the height, which stays
    assert np.allclose(test.cameras.intrinsics, [0.75, 0.75, 0.5, 0.5])
    assert np.allclose(test.cameras.world_to_camera[2, :, 3], [-0.2, 0, 0]) and np.allclose(train.cameras.world_to_camera[1, 0, 3], -0.3)
    assert video.cameras.timestamps.tolist() == [400_000, 520_000, 640_000]
    assert pickle.loads(pickle.dumps(test)).cameras.timestamps.tolist() == test.cameras.timestamps.tolist()
    assert not any(clip.cuts for clip in dataset.clips)
    wide = prepare_dataset("RealEstate10K", 32, shared, None, squash=True)
    assert np.allclose(wide.clips[0].cameras.intrinsics, [0.5, 0.75, 0.5, 0.5])


def test_realestate10k_video_frames(shared: Path) -> None:
    """The frames are those that the video shows at the timestamps: 0.4 s is frame 10 at 25 a second."""
    clip = next(c for c in prepare_dataset("RealEstate10K", 64, shared, None).clips if c.name == "v0")
    images = pictures(30, 96, 64, seed=9)
    for frame, number in zip(clip.frames, (10, 13, 16), strict=True):
        errors = [np.abs(frame.astype(int) - image[:, 16:80]).mean() for image in images]
        assert np.argmin(errors) == number
    half = CameraVideo(camera_file(shared / "half.txt", [419_999, 700_000]), 1, shared / "RealEstate10K" / "train" / "v0.mp4")
    assert [frame.pts for frame in half.frames()] == [419_999, 700_000] and half.info.fps == pytest.approx(1 / 0.280001, rel=1e-3)
    assert [frame.pts for frame in half.frames(after_pts=700_000)] == [700_000]


def test_nearest() -> None:
    frames = [Frame(np.zeros(0), i, i / 10) for i in range(4)]
    assert [frame.pts for frame in nearest(iter(frames), [0.0, 0.04, 0.06, 0.06, 0.21, 9.0])] == [0, 0, 1, 1, 2, 3]
    assert list(nearest(iter([]), [0.5])) == [None]
    left = iter(frames)
    assert [frame.pts for frame in nearest(left, [0.0, 0.1])] == [0, 1] and [frame.pts for frame in left] == [2, 3]


def test_realestate10k_validation_by_video(shared: Path, tmp_path: Path) -> None:
    """Clips of one video stay together; a folder validate is taken as it is."""
    for split in ("train", "test"):
        for number in range(40 if split == "train" else 1):
            camera_file(tmp_path / split / f"{number:02d}.txt", [0, STEP], f"https://video/{number // 4}")
            save_at(tmp_path / split / f"{number:02d}", pictures(2, seed=number), [0, STEP])
    entries = find_sources(f"RealEstate10K:{tmp_path}")
    held = [int(entry.path.stem) for entry in entries if entry.split == "validate"]
    assert len(held) == 4 and len({number // 4 for number in held}) == 1
    shutil.copytree(tmp_path / "test", tmp_path / "validate")
    assert Counter(entry.split for entry in find_sources(f"RealEstate10K:{tmp_path}")) == {"train": 40, "validate": 1, "test": 1}


def test_realestate10k_every_third_frame_on_disk(shared: Path, tmp_path: Path) -> None:
    """A train folder that was thinned out already is as good as a whole one; any other gap is not."""
    root = copied(shared, "RealEstate10K", tmp_path)
    frames = sorted((root / "RealEstate10K" / "train" / "a0").iterdir(), key=lambda p: int(p.stem))
    for number, path in enumerate(frames):
        if number % 3:
            path.unlink()
    thin = CameraFrames(root / "RealEstate10K" / "train" / "a0.txt", 3)
    assert [frame.pts for frame in thin.frames()] == [int(path.stem) for path in frames[::3]]
    with pytest.raises(VideoError, match=r"a0 has no frame for 6 of the 9 timestamps in a0\.txt \(1033367, 1066734, 1133468 and 3 more\)"):
        _ = CameraFrames(root / "RealEstate10K" / "train" / "a0.txt", 1).info


def broken_realestate10k(case: str, train: Path) -> str:
    """Break the clip a0 or v0; returns what the reason must say."""
    frame = train / "a0" / f"{1_000_000 + STEP}.jpg"
    if case == "timestamp without frame":
        frame.unlink()
        return r"a0 has no frame for 1 of the 9 timestamps in a0\.txt \(1033367\): extract these frames too, or remove the lines"
    if case == "frame without timestamp":
        frame.rename(frame.with_name("77.jpg"))
        return r"a0 holds 1 frames that a0\.txt does not name \(77\.jpg\): remove them"
    if case == "no number":
        frame.rename(frame.with_name("cover.jpg"))
        return r"does not name \(cover\.jpg\)"
    if case == "beyond the video":
        camera_file(train / "v0.txt", [400_000, 1_180_001 + 20_000])  # the last of 30 frames is shown at 1.16 s
        return r"v0\.mp4 has no frame at the timestamp 1200001 of v0\.txt: give the whole video"
    if case == "far beyond":
        camera_file(train / "v0.txt", [900_000_000, 900_040_000])
        return r"v0\.mp4 has no frame at the timestamp 900000000 of v0\.txt"
    if case == "columns":
        write(train / "a0.txt", [URL.format("A"), "0 1 1 0.5 0.5 0 0 1 0 0 0"])
        return r"a0\.txt, line 2: 11 columns instead of 19"
    write(train / "a0.txt", [URL.format("A"), "0 1 1 0.5 0.5 0 0 2 0 0 0 0 1 0 0 0 0 1 0"])
    return r"a0\.txt, line 2: .* not orthonormal"


@pytest.mark.parametrize("case", ["timestamp without frame", "frame without timestamp", "no number", "beyond the video", "far beyond",
                                  "columns", "matrix"])
def test_realestate10k_broken_clip(shared: Path, tmp_path: Path, case: str) -> None:
    """The broken clip is left out with its reason, the others are used, and nothing half-made stays."""
    root = copied(shared, "RealEstate10K", tmp_path)
    said = broken_realestate10k(case, root / "RealEstate10K" / "train")
    every_frame = root / "RealEstate10K" / "train"
    shutil.move(every_frame / "v0.txt", root / "RealEstate10K" / "test" / "v0.txt")  # test takes every line
    shutil.move(every_frame / "v0.mp4", root / "RealEstate10K" / "test" / "v0.mp4")
    dataset = prepare_dataset("RealEstate10K", 32, root, None)
    assert len(dataset.clips) == 4 and len(dataset.skipped) == 1
    with pytest.raises(VideoError, match=said):
        raise VideoError(dataset.skipped[0][1])
    assert sum(path.is_dir() for path in (root / "cache").iterdir()) == 4


def test_realestate10k_absent_material(shared: Path, tmp_path: Path) -> None:
    root = copied(shared, "RealEstate10K", tmp_path)
    train = root / "RealEstate10K" / "train"
    shutil.rmtree(train / "a0")
    (train / "b0.txt").unlink()
    entries, notes = search("RealEstate10K", root)
    assert [entry.path.stem for entry in entries] == ["a1", "v0", "c0"] and notes == [
        "1 camera files have neither frames nor a video and are left out: train/a0.txt.",
        "1 folders or videos have no camera file and are left out: train/b0.",
    ]
    shutil.rmtree(train)
    shutil.rmtree(root / "RealEstate10K" / "test" / "c0")
    with pytest.raises(ClipError, match=r"holds no camera file <id>\.txt with a folder <id> of frames or a video"):
        search("RealEstate10K", root)
    shutil.rmtree(root / "RealEstate10K" / "test")
    with pytest.raises(ClipError, match=r"has neither a folder train nor a folder test: .*`python -m vae4d check RealEstate10K`"):
        search("RealEstate10K", root)
    (root / "RealEstate10K").rmdir()
    for call in (search, functools.partial(open_dataset, size=32)):
        with pytest.raises(MissingInputError, match=r"RealEstate10K is not in .*RealEstate10K: put it there \(`python -m vae4d check"):
            call("RealEstate10K", data_root=root)


def test_layout_that_cannot_be_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(ClipError, match=r"RealEstate10K/train cannot be read \(Permission denied\): allow yourself"):
        find_sources("RealEstate10K", shared)


def test_damaged_cameras(shared: Path, tmp_path: Path) -> None:
    clip = prepare_dataset("RealEstate10K", 32, copied(shared, "RealEstate10K", tmp_path), None).split("test")[0]
    (clip.folder / "cameras.npz").write_bytes(b"torn")
    opened = pickle.loads(pickle.dumps(clip))
    with pytest.raises(ClipError, match=r"cameras of the prepared clip .* are damaged .*delete the folder and prepare again"):
        _ = opened.cameras


# Pairs and walks


def test_pairs(shared: Path) -> None:
    """Two frames of one shot, however much they differ (a white and a black one: a cut, were it a video); validation by scene."""
    folder = shared / "pairs" / "test" / "pair"
    for index, image in enumerate((np.full((32, 32, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8))):
        save_images(folder, [image], start=index)
        (folder / f"0000{index}.png").rename(folder / f"im{index}.png")
    assert prepare_dataset(f"Replica:{shared / 'pairs'}", 32, shared, None, require=()).clips[0].cuts == ()
    assert len(prepare(folder, shared / "films", 32, "test").cuts) == 1
    dataset = prepare_dataset("Replica", 32, shared, None)
    assert all(len(clip) == 2 and not clip.cuts and clip.cameras is None for clip in dataset.clips)
    held = {clip.name for clip in dataset.split("validate")}
    assert len(held) == 2 and len({name.split("_")[0] for name in held}) == 1
    assert [clip.name for clip in dataset.split("test")] == ["other_0", "other_1"]


@pytest.mark.parametrize("case", ["one image", "third image", "two of one"])
def test_broken_pair(shared: Path, tmp_path: Path, case: str) -> None:
    root = copied(shared, "Replica", tmp_path)
    folder = root / "Replica" / "test" / "other_0"
    if case == "one image":
        (folder / "im1.png").unlink()
        said = "other_0 is no pair, as im1 is missing: put im0.png and im1.png there."
    elif case == "two of one":
        shutil.copy(folder / "im1.png", folder / "im1.jpg")
        said = "other_0 is no pair, as im1 is there 2 times"
    else:
        Image.fromarray(pictures(1)[0]).save(folder / "depth.png")
        said = ""
    dataset = prepare_dataset("Replica", 32, root, None)
    assert len(dataset.split("test")) == 1 + (not said) and bool(dataset.skipped) is bool(said)
    assert not said or said in dataset.skipped[0][1]


def test_no_pair_at_all(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = copied(shared, "Replica", tmp_path)
    for path in (root / "Replica").rglob("im0.png"):
        path.unlink()
    with pytest.raises(ClipError, match=r"'Replica' has no usable clip to train with: .*im0 is missing.* And 5 more were left out"):
        prepare_dataset("Replica", 32, root, None)
    assert main(["check", "Replica", "--data-root", str(root)]) == 2
    printed = capsys.readouterr()
    assert printed.out.count("Broken: ") == 10 and "no clip that was opened can be read" in printed.err
    shutil.rmtree(root / "Replica")
    (root / "Replica" / "test" / "empty").mkdir(parents=True)
    with pytest.raises(ClipError, match=r"test of .*Replica hold no folder of images"):
        prepare_dataset("Replica", 32, root, None)


def test_validation_is_held_out_of_what_can_be_read(tmp_path: Path) -> None:
    """Where nothing that was held out can be read, another scene is held out; the others keep their places."""
    pairs(tmp_path / "Replica", scenes=4, each=1)
    first = {entry.path: entry.split for entry in find_sources("Replica", tmp_path)}
    held = next(path for path, split in first.items() if split == "validate")
    (held / "im1.png").unlink()
    dataset = prepare_dataset("Replica", 32, tmp_path, None)
    assert [path for path, _ in dataset.skipped] == [held] and len(dataset.split("validate")) == 1 and len(dataset.split("train")) == 2
    assert open_dataset("Replica", 32, tmp_path).split("validate")[0].path in first


def test_scenes(tmp_path: Path) -> None:
    def found(*names: str) -> list[str]:
        return scenes([tmp_path / name for name in names], tmp_path)

    assert found("room_0_12", "room_0_13", "room_1-2", "0012", "0013") == ["room_0", "room_0", "room_1", "0012", "0013"]
    assert found("a/1", "a/2", "b/1") == ["a", "a", "b"]
    assert found("pair_1", "pair_2") == ["pair_1", "pair_2"]  # else all were one scene, and nothing could be held out


def test_held_out() -> None:
    """A tenth by whole groups, at least one group, none where there is one group alone; the order of the items does not matter."""
    items, groups = list(range(200)), [f"film {i // 5}" for i in range(200)]
    held = held_out(items, groups)
    assert len(held) == 20 and {i // 5 for i in held} == {i // 5 for i in held if i % 5 == 4}
    assert held_out(items[::-1], groups[::-1]) == held
    assert held_out([1, 2, 3], ["a", "a", "b"]) == {3} and held_out([1, 2], ["a", "a"]) == set() and held_out([], []) == set()


def test_walks_in_folders_of_scenes(tmp_path: Path) -> None:
    for scene in "ab":
        save_images(tmp_path / "train" / scene / "walk", pictures(3, seed=ord(scene)))
    save_images(tmp_path / "test" / "last", pictures(3))
    (tmp_path / "train" / "nothing").mkdir()
    entries, notes = search(f"Matterport3D-walks:{tmp_path}", "nowhere")
    assert Counter(entry.split for entry in entries) == {"train": 1, "validate": 1, "test": 1}
    assert notes == ["1 folders hold no image: train/nothing."]


# What a user reads


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_check_says_what_is_expected(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", name, "--data-root", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert f"Expected in {tmp_path / name}:\n{name}/" in printed.out and "https://" in printed.out
    assert f"The data set {name} is not in {tmp_path / name}" in printed.err


def test_check_of_a_good_set(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "Matterport3D-walks", "--data-root", str(shared)]) == 0
    out = capsys.readouterr().out
    assert "Found: 3 clips to train, 1 clips to validate, 1 clips to test" in out
    assert "5 of the 5 clips that were opened can be read." in out
    assert f"python -m vae4d prepare Matterport3D-walks --size 128 --data-root {shared}" in out
    root = copied(shared, "Matterport3D-walks", tmp_path)
    shutil.rmtree(root / "Matterport3D-walks" / "test")
    assert main(["check", "Matterport3D-walks", "--data-root", str(root)]) == 2
    assert "it has no clip to test" in capsys.readouterr().err
    encode(tmp_path / "set" / "train" / "a.mp4", pictures(2))
    assert main(["check", str(tmp_path / "set")]) == 2 and "no clip to validate, test" in capsys.readouterr().err


def test_check_foretells_prepare(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split whose clips are all broken cannot be used; validation is held out anew where it can be."""
    root = copied(shared, "Replica", tmp_path)
    commands = (["check", "Replica", "--data-root", str(root)], ["prepare", "Replica", "--size", "32", "--data-root", str(root)])
    held = [entry.path for entry in find_sources("Replica", root) if entry.split == "validate"]
    broken = [path / "im1.png" for path in held]
    for path in broken:
        path.rename(path.with_name("depth.png"))
    assert [main(words) for words in commands] == [0, 0] and "It can be prepared" in capsys.readouterr().out
    for path in (root / "Replica" / "test").glob("*/im1.png"):
        path.unlink()
    assert [main(words) for words in commands] == [2, 2]
    printed = capsys.readouterr()
    assert "It can be prepared" not in printed.out
    assert "The data set Replica cannot be used, as no clip to test can be read: put them right as said above." in printed.err
    monkeypatch.setattr("vae4d.clips.check.OPENED", 3)
    main(commands[0])
    assert f"(`python -m vae4d check Replica --all --data-root {root}` opens all 10)" in capsys.readouterr().out


def test_known_data_sets(shared: Path, tmp_path: Path) -> None:
    copied(shared, "HMDB51", tmp_path)
    rows = {row["data set"]: row for row in known_data_sets(tmp_path / "data")}
    assert list(rows) == list(LAYOUTS) and "is not in" in rows["Replica"]["notes"] and rows["Replica"]["train"] == 0
    moving = sum("_cm_" in entry.path.name for entry in find_sources("HMDB51", shared))
    wanted = {"data set": "HMDB51", "train": 8, "validate": 4, "test": 2, "camera moves": moving, "notes": ""}
    assert rows["HMDB51"] == wanted and 0 < moving < 14


def test_prepare_command(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = copied(shared, "HMDB51", tmp_path)
    assert main(["prepare", "HMDB51", "--size", "32", "--data_root", str(root), "--squash", "--video_limit=1"]) == 0
    assert "3 of 14 clips are used, as video_limit is 1." in capsys.readouterr().out
    assert {clip.split for clip in open_dataset("HMDB51", 32, root, squash=True).clips} == {"train", "validate", "test"}
    assert main(["prepare", "HMDB51+split2+cm", "--size", "32", "--data-root", str(root)]) == 0
    assert main(["prepare", "HMDB51+cm", "--size", "32", "--data-root", str(root)]) == 2  # the one test clip of split 1 is tagged nm
    asked = f"python -m vae4d check HMDB51+cm --data-root {root}"
    assert f"no usable clip to test with: see what `{asked}` says." in capsys.readouterr().err
    assert main(asked.replace("--data-root", "--data_root").split()[3:]) == 2


def test_index_of_a_layout_is_plain(shared: Path) -> None:
    prepare_dataset("Matterport3D-walks", 32, shared, None)
    path = next((shared / "cache").glob("Matterport3D-walks-*-32.json"))
    assert json.loads(path.read_text())["size"] == 32
