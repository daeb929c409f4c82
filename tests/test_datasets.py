"""Which video goes where, bad ones among good ones, and the windows that are drawn."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from make_clips import encode, encode_audio, pictures, save_images

from vae4d.clips.cache import prepare
from vae4d.clips.clip import Clip
from vae4d.clips.datasets import SAMPLES, ClipWindows, find_sources, open_dataset, prepare_dataset
from vae4d.clips.video import VideoFile
from vae4d.errors import ClipError, ConfigError, MissingInputError, VideoError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with stand-ins for the three sample clips."""
    for seed, name in enumerate(SAMPLES.values(), 100):
        encode(tmp_path / "data" / "samples" / name, pictures(8, seed=seed))
    return tmp_path / "data"


def splits(entries: list) -> dict[str, str]:
    return {entry.path.name: entry.split for entry in entries}


SAMPLE_SPLITS = {"bigbuckbunny.mp4": "train", "carphone_pristine.mp4": "validate", "bikes.mp4": "test"}


def test_samples_and_dropped_videos(root: Path) -> None:
    assert splits(find_sources("samples", root)) == SAMPLE_SPLITS
    encode(root / "videos" / "loose.mov", pictures(3))
    save_images(root / "videos" / "frames", pictures(3))
    encode(root / "videos" / "train" / "sports" / "run.avi", pictures(3), codec="mpeg4")  # at any depth
    save_images(root / "videos" / "validate" / "walk", pictures(3))
    (root / "videos" / "test").mkdir()
    (root / "videos" / "README.txt").write_text("no video")
    (root / "videos" / "._loose.mov").write_text("hidden")
    found = splits(find_sources("samples", root))
    assert found == {**SAMPLE_SPLITS, "loose.mov": "test", "frames": "test", "run.avi": "train", "walk": "validate"}


def test_own_video_is_test(root: Path, tmp_path: Path) -> None:
    path = encode(tmp_path / "my.anything.mp4", pictures(3))
    expected = {"bigbuckbunny.mp4": "train", "carphone_pristine.mp4": "validate", "my.anything.mp4": "test"}
    assert splits(find_sources(path, root)) == expected
    frames = save_images(tmp_path / "walk", pictures(3))
    assert splits(find_sources(str(frames), root))["walk"] == "test"


def test_folder_with_splits(root: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        encode(tmp_path / "set" / split / f"{split}.mp4", pictures(3))
    assert splits(find_sources(tmp_path / "set", root)) == {"train.mp4": "train", "test.mp4": "test"}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The original's plain root: folders of frames in train and test, and no validate."""
    for seed in range(12):
        save_images(tmp_path / "set" / "train" / f"walk{seed}", pictures(2, seed=seed))
    return save_images(tmp_path / "set" / "test" / "last", pictures(2, seed=99)).parents[1]


def test_validation_is_held_out_of_train(plain: Path, root: Path) -> None:
    """A tenth, by name, and at least one; prepared in both ways; a folder validate is taken as it is."""
    found = splits(find_sources(plain, root))
    assert sorted(found.values()) == ["test"] + ["train"] * 11 + ["validate"] and found["last"] == "test"
    held = next(name for name, split in found.items() if split == "validate")
    own = prepare_dataset(plain, 32, root, None)
    assert {clip.name: clip.split for clip in own.clips} == found
    published = prepare_dataset(plain, 32, root, None, own_splits=False)
    names = sorted(found)
    assert [clip.name for clip in published.split("train")] == [clip.name for clip in published.split("test")] == names
    assert [clip.name for clip in published.split("validate")] == names[10:]
    (plain / "train" / held / "00001.png").write_bytes(b"torn")
    (plain / "train" / held / "00000.png").write_bytes(b"torn")
    again = prepare_dataset(plain, 32, root, None)
    assert len(again.split("validate")) == 1 and len(again.split("train")) == 10 and [path.name for path, _ in again.skipped] == [held]
    save_images(plain / "validate" / "mine", pictures(2, seed=77))
    assert sorted(splits(find_sources(plain, root)).values()) == ["test"] + ["train"] * 12 + ["validate"]
    shutil.rmtree(plain / "validate")
    for seed in range(2, 12):
        shutil.rmtree(plain / "train" / f"walk{seed}")
    assert sorted(splits(find_sources(plain, root)).values()) == ["test", "train", "validate"]


def test_a_copy_of_what_was_held_out_does_not_train(plain: Path, root: Path) -> None:
    """It lies in train by no fault of the user, whereas a clip of train in test is one."""
    held = next(entry.path for entry in find_sources(plain, root) if entry.split == "validate")
    shutil.copytree(held, plain / "train" / "copy")
    dataset = prepare_dataset(plain, 32, root, None)
    assert [clip.name for clip in dataset.split("validate")] == [held.name] and [path.name for path, _ in dataset.skipped] == ["copy"]
    shutil.copytree(held, plain / "test" / "leak")
    with pytest.raises(ClipError, match=r"leak \(test\) and .* are the same video: keep it in one split"):
        prepare_dataset(plain, 32, root, None)


def test_folder_with_videos_and_images(root: Path, tmp_path: Path) -> None:
    """A cover picture beside a film, a camera's folder, videos below images: the videos count; only images alone are frames."""
    holiday = tmp_path / "holiday"
    encode(holiday / "movie.mp4", pictures(3))
    save_images(holiday, pictures(1))
    assert splits(find_sources(holiday, root))["movie.mp4"] == "test" and "holiday" not in splits(find_sources(holiday, root))
    shutil.copytree(holiday, root / "videos" / "trip" / "day")
    save_images(root / "videos" / "trip", pictures(1, 32, 32))  # another size, above
    save_images(root / "videos" / "walk" / "masks", pictures(2))
    save_images(root / "videos" / "walk", pictures(3))
    assert splits(find_sources("samples", root)) == {**SAMPLE_SPLITS, "movie.mp4": "test", "walk": "test"}
    assert splits(find_sources(root / "videos" / "walk", root))["walk"] == "test"


def test_unused_files_are_named_once(root: Path, tmp_path: Path) -> None:
    videos = root / "videos"
    encode(videos / "trip" / "movie.mp4", pictures(3))
    save_images(save_images(save_images(videos / "trip", pictures(1)) / ".." / "train", pictures(1)).parent, pictures(1))
    save_images(videos / "walk", pictures(2))
    (videos / "walk" / "notes.txt").touch()
    (videos / "clip.divx").touch()
    (videos / ".gitkeep").touch()
    lines: list[str] = []
    prepare_dataset("samples", 32, root, lines.append)
    unused = [line for line in lines if line.startswith("Not used")]
    assert len(unused) == 1 and unused[0].split("): ")[1].split(", ") == [
        str(videos / name) for name in ("00000.png", "clip.divx", "train/00000.png", "trip/00000.png")
    ]
    for number in range(4):
        (videos / f"{number}.divx").touch()
    prepare_dataset("samples", 32, root, lines.append)
    assert lines[-6].startswith("Not used") and lines[-6].endswith(" and 3 more")
    (tmp_path / "set" / "train").mkdir(parents=True)
    loose = encode(tmp_path / "set" / "loose.mp4", pictures(3))
    encode(tmp_path / "set" / "train" / "a.mp4", pictures(3, seed=1))
    prepare_dataset(tmp_path / "set", 32, root, lines.append, require=("train",))
    assert any(line.startswith("Not used") and line.endswith(f": {loose}") for line in lines)


def test_folders_that_cannot_be_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one bad source among good ones; alone it is an error with a name."""
    save_images(root / "videos" / "private", pictures(2))
    save_images(root / "videos" / "train" / "locked", pictures(2))
    listed = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self.name in ("private", "locked"):
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    dataset = prepare_dataset("samples", 32, root, None)
    assert len(dataset.clips) == 3 and [path.name for path, _ in dataset.skipped] == ["locked", "private"]
    assert all("cannot be read (Permission denied)" in reason for _, reason in dataset.skipped)
    with pytest.raises(VideoError, match=r"private cannot be read \(Permission denied\)"):
        prepare_dataset(root / "videos" / "private", 32, root, None)
    for seed in range(3):
        encode(tmp_path / "set" / f"{seed}.mp4", pictures(2, seed=seed))
    save_images(tmp_path / "set" / "locked", pictures(1))
    assert len(find_sources(tmp_path / "set", root)) == 4


def test_split_by_source(root: Path, tmp_path: Path) -> None:
    """At least one each from three on, a tenth each of many; names do not matter, contents do."""
    folder = tmp_path / "set"
    for seed in range(2):
        encode(folder / f"{seed}.mp4", pictures(2, seed=seed))
    assert sorted(splits(find_sources(folder, root)).values()) == ["test", "test", "train", "validate"]
    for seed in range(2, 22):
        encode(folder / f"{seed}.mp4", pictures(2, seed=seed))
    first = splits(find_sources(folder, root))
    assert sorted(first.values()) == ["test"] * 2 + ["train"] * 18 + ["validate"] * 2
    held = next(name for name, split in first.items() if split == "test")
    (folder / held).rename(folder / "renamed.mp4")
    second = splits(find_sources(folder, root))
    assert second.pop("renamed.mp4") == "test" and second == {k: v for k, v in first.items() if k != held}


def test_what_cannot_be_opened_takes_no_place_in_a_split(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for seed in range(3):
        encode(folder / f"{seed}.mp4", pictures(4, seed=seed))
    for number in range(4):
        (folder / f"bad{number}.mp4").write_text("no video")
    dataset = prepare_dataset(folder, 32, root, None)
    assert sorted(clip.split for clip in dataset.clips) == ["test", "train", "validate"] and len(dataset.skipped) == 4
    (folder / "0.mp4").unlink()
    assert sorted(clip.split for clip in prepare_dataset(folder, 32, root, None).clips) == ["test", "test", "train", "validate"]


def test_no_such_data_set(root: Path, tmp_path: Path) -> None:
    for call in (lambda: find_sources("sample", root), lambda: open_dataset("sample", 32, root)):
        with pytest.raises(ConfigError, match="dataset = 'sample' is neither 'samples' nor a video nor a folder"):
            call()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match="empty holds no video"):
        find_sources(tmp_path / "empty", root)
    (root / "samples" / "bikes.mp4").unlink()
    with pytest.raises(MissingInputError, match=r"bikes\.mp4 is missing: run `make setup`"):
        find_sources("samples", root)


def test_prepare_and_open(root: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    dataset = prepare_dataset("samples", 32, root, lines.append)
    assert [clip.name for clip in dataset.split("test")] == ["bikes"] and len(dataset.clips) == 3 and not dataset.skipped
    assert lines[0] == "[1/3] bigbuckbunny.mp4 (train): 8 frames, 25 frames a second, 0 cuts, 0 repeated frames"
    shutil.copytree(root / "cache", tmp_path / "elsewhere" / "cache")  # another machine, without the videos
    shutil.rmtree(root)
    opened = open_dataset("samples", 32, tmp_path / "elsewhere")
    assert [(c.name, c.split, c.sha256) for c in opened.clips] == [(c.name, c.split, c.sha256) for c in dataset.clips]
    command = rf"`python -m vae4d prepare samples --size 64 --data-root {tmp_path}/elsewhere`"
    with pytest.raises(MissingInputError, match=rf"at 64 px was not prepared .* run notebook 01_data first, or {command}"):
        open_dataset("samples", 64, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="split = 'dev'"):
        opened.split("dev")
    (tmp_path / "elsewhere" / "cache" / "samples-32.json").write_text("{")
    with pytest.raises(ClipError, match="damaged"):
        open_dataset("samples", 32, tmp_path / "elsewhere")


def test_square_pixels_lie_beside_the_others(root: Path) -> None:
    encode(root / "videos" / "wide.mp4", pictures(4, 96, 64), aspect=Fraction(2, 1))
    made = {kind: prepare_dataset("samples", 32, root, None, square_pixels=kind) for kind in (False, True)}
    for kind, dataset in made.items():
        assert [c.folder for c in open_dataset("samples", 32, root, kind).clips] == [c.folder for c in dataset.clips]
    wide = [next(clip for clip in dataset.clips if clip.name == "wide") for dataset in made.values()]
    assert not np.array_equal(wide[0].frames, wide[1].frames)
    with pytest.raises(MissingInputError, match="--size 64 --square-pixels"):
        open_dataset("samples", 64, root, square_pixels=True)


def test_bad_videos_among_good_ones(root: Path) -> None:
    """Each bad source is named with its reason, and the rest is used."""
    videos = root / "videos"
    good = encode(videos / "good.mp4", pictures(6))
    (videos / "empty.mp4").touch()
    encode_audio(videos / "sound.mp4")
    encode(videos / "cut.mp4", pictures(50)).write_bytes((videos / "cut.mp4").read_bytes()[:3000])
    (videos / "nothing").mkdir()
    save_images(save_images(videos / "mixed", pictures(1)), pictures(1, 32, 32), start=1)
    (save_images(videos / "torn", pictures(3)) / "00001.png").write_bytes(b"torn")
    shutil.copy(good, videos / "twin.mp4")
    lines: list[str] = []
    dataset = prepare_dataset("samples", 32, root, lines.append)
    assert {c.name for c in dataset.split("test")} == {"bikes", "good"}
    reasons = {path.name: reason for path, reason in dataset.skipped}
    words = {"empty.mp4": "empty", "sound.mp4": "no video stream", "cut.mp4": "cannot be opened", "nothing": "no png or jpg image"}
    words |= {"mixed": "mixes image sizes", "torn": "00001.png cannot be read", "twin.mp4": "is the same video as"}
    assert set(reasons) == set(words) and all(words[name] in reasons[name] and name in reasons[name] for name in words)
    assert sum("left out" in line for line in lines) == 7
    assert len(list((root / "cache").glob("*/manifest.json"))) == 4 == sum(p.is_dir() for p in (root / "cache").iterdir())
    assert open_dataset("samples", 32, root).skipped == dataset.skipped


def test_unknown_codec_among_good_ones(root: Path) -> None:
    path = encode(root / "videos" / "new.mp4", pictures(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    dataset = prepare_dataset("samples", 32, root, None)
    assert len(dataset.clips) == 3 and "codec" in dict(dataset.skipped)[path]


def test_videos_are_hashed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is new or has changed in size or time is read again; a damaged memory is forgotten."""
    own, hashed, real = encode(root / "videos" / "own.mp4", pictures(5)), [], VideoFile.sha256

    def counted(self: VideoFile) -> str:
        hashed.append(self.name)
        return real(self)

    monkeypatch.setattr(VideoFile, "sha256", counted)
    first = prepare_dataset(root / "samples", 32, root, None)  # split by content
    assert sorted(hashed) == sorted(Path(name).stem for name in SAMPLES.values())
    prepare_dataset("samples", 32, root, None)
    assert hashed[3:] == ["own"]
    encode(own, pictures(6, seed=9))
    changed = prepare_dataset("samples", 32, root, None)
    assert hashed[3:] == ["own", "own"] and len(next(c for c in changed.clips if c.name == "own")) == 6
    for damage in ("{", "[]", f'{{"{own.absolute()}": [1]}}', f'{{"{own.absolute()}": 1}}'):
        (root / "cache" / "digests.json").write_text(damage)
        assert {c.sha256 for c in prepare_dataset(root / "samples", 32, root, None).clips} == {c.sha256 for c in first.clips}


def test_nothing_left(root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    with pytest.raises(VideoError, match=r"bad\.mp4 cannot be opened"):
        prepare_dataset(bad, 32, root, None)
    for split in ("train", "validate"):
        encode(tmp_path / "set" / split / f"{split}.mp4", pictures(3, seed=len(split)))
    (tmp_path / "set" / "test").mkdir()
    (tmp_path / "set" / "test" / "gone.mp4").touch()
    with pytest.raises(ClipError, match=r"no usable clip to test with: .*gone\.mp4 is empty"):
        prepare_dataset(tmp_path / "set", 32, root, None)
    assert len(prepare_dataset(tmp_path / "set", 32, root, None, require=("train",)).clips) == 2


def test_leak_between_splits(root: Path) -> None:
    """The same bytes under another name in another split: refused, whatever it is called."""
    (root / "videos" / "train").mkdir(parents=True)
    shutil.copy(root / "samples" / "bikes.mp4", root / "videos" / "train" / "holiday.mp4")
    with pytest.raises(ClipError, match=r"bikes\.mp4 \(test\) and .*holiday\.mp4 \(train\) are the same video"):
        prepare_dataset("samples", 32, root, None)


def test_split_belongs_to_the_data_set(root: Path) -> None:
    """A clip that trains in one data set and tests in another keeps both."""
    path = encode(root / "videos" / "train" / "mine.mp4", pictures(6))
    prepare_dataset("samples", 32, root, None)
    prepare_dataset(path, 32, root, None)
    assert {c.name for c in open_dataset("samples", 32, root).split("train")} == {"bigbuckbunny", "mine"}
    assert [c.name for c in open_dataset(path, 32, root).split("test")] == ["mine"]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """30 frames; cut at 12; frame 20 repeats 19; times irregular after frame 25."""
    clip = prepare(save_images(tmp_path / "walk", pictures(30)), tmp_path / "cache", 32, "train")
    path = clip.folder / "manifest.json"
    times = [0.04 * i + (0.1 if i > 25 else 0) for i in range(30)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cuts": [12], "duplicates": [20], "variable_rate": True, "times": times}))
    return Clip.open(clip.folder)


def test_windows(clip: Clip) -> None:
    """Never across the cut, never with a repeat; one that starts on it is fine."""
    windows = ClipWindows([clip], clip_length=4)
    assert windows.windows[:, 1].tolist() == [*range(0, 9), *range(12, 17), *range(20, 27)]
    wide = ClipWindows([clip], clip_length=3, interval=4)  # spans 9 frames
    assert wide.windows[:, 1].tolist() == [0, 1, 2, 3, 13, 14, 15, 17, 18, 19, 20, 21]
    published = [ClipWindows([clip], clip_length, interval, published=True) for clip_length, interval in ((4, 1), (3, 4))]
    assert [found.windows[:, 1].tolist() for found in published] == [[*range(27)], [0, 4, 8, 12, 16, 20]]
    few = ClipWindows([clip], clip_length=4, limit=3)
    assert few.windows[:, 1].tolist() == [0, 13, 26] and len(ClipWindows([clip], 4, limit=99)) == 21


def test_item(clip: Clip) -> None:
    item = ClipWindows([clip], clip_length=3, interval=2)[-1]
    assert item["start"] == 25 and item["clip"] == 0
    assert torch.equal(item["frames"], clip.tensor([25, 27, 29])) and item["frames"].dtype == torch.float32
    assert np.allclose(item["times"], [0, 0.18 / 0.26, 1], atol=1e-6) and item["times"].dtype == torch.float32  # 1.0, 1.18, 1.26 s
    batch = next(iter(torch.utils.data.DataLoader(ClipWindows([clip], 4), batch_size=2, num_workers=1, multiprocessing_context="spawn")))
    assert batch["frames"].shape == (2, 4, 3, 32, 32) and batch["start"].tolist() == [0, 1]
    assert len(pickle.dumps(ClipWindows([clip], 4))) < 5000


def test_short_clips(clip: Clip, tmp_path: Path) -> None:
    short = prepare(save_images(tmp_path / "short", pictures(3, seed=5)), tmp_path / "cache", 32, "train")
    windows = ClipWindows([short, clip], clip_length=4)
    assert windows.skipped == [("short", "it has 3 frames, 4 are needed")] and windows[0]["clip"] == 1
    with pytest.raises(ClipError, match=r"No window of 4 frames at interval 1 .*short: it has 3 frames, 4 are needed.*: lower clip_length"):
        ClipWindows([short], clip_length=4)
    with pytest.raises(ClipError, match=r"walk: it has 18 frames in its longest shot \(30 in all\), 20 are needed"):
        ClipWindows([clip], clip_length=20)
    with pytest.raises(ClipError, match=r"there is no clip\): give a video\."):
        ClipWindows([], clip_length=4)


def test_every_second_frame_repeated(tmp_path: Path) -> None:
    images = [image for image in pictures(12) for _ in range(2)]
    clip = prepare(save_images(tmp_path / "doubled", images), tmp_path / "cache", 32, "train", Fraction(50))
    with pytest.raises(ClipError, match=r"each of its 22 windows holds a repeated frame\): raise interval") as caught:
        ClipWindows([clip], clip_length=3)
    assert "lower" not in str(caught.value)
    short = prepare(save_images(tmp_path / "short", pictures(2)), tmp_path / "cache", 32, "train")
    with pytest.raises(ClipError, match=r"lower clip_length or interval, .*; or raise interval"):
        ClipWindows([clip, short], clip_length=3)
    assert ClipWindows([clip], clip_length=3, interval=2).windows[:, 1].tolist() == list(range(0, 20, 2))


@pytest.mark.parametrize("wrong", [{"clip_length": 1}, {"clip_length": 4, "interval": 0}, {"clip_length": 4, "limit": 0}])
def test_out_of_range(clip: Clip, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="is out of range"):
        ClipWindows([clip], **wrong)
