"""Many sources: on worker processes, shared out under a launch, limited, squashed; always the same bytes and the same data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from make_clips import encode, pictures, save_images
from make_datasets import camera_file, walks
from test_cache import watched
from test_parallel import run_on_two

from vae4d.clips import decoding
from vae4d.clips.cache import prepare
from vae4d.clips.datasets import SourceEntry, limited, open_dataset, prepare_dataset
from vae4d.clips.layouts.realestate10k import CameraVideo
from vae4d.clips.sources import content_digest
from vae4d.clips.video import FrameFolder, VideoFile
from vae4d.errors import ConfigError, MissingInputError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Walk-throughs with one that cannot be read and one that is there twice."""
    root = walks(tmp_path / "data" / "Matterport3D-walks", count=5).parent
    (save_images(root / "Matterport3D-walks" / "train" / "torn", pictures(2)) / "00001.png").write_bytes(b"torn")
    save_images(root / "Matterport3D-walks" / "train" / "twin", pictures(4, seed=0))
    return root


def contents(cache: Path) -> dict[str, bytes]:
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def move(cache: Path, name: str) -> dict[str, bytes]:
    """The cache's files; the next call starts from nothing."""
    found = contents(cache)
    cache.rename(cache.with_name(name))
    return found


def test_workers_make_the_same_bytes(tree: Path) -> None:
    lines: list[str] = []
    alone = prepare_dataset("Matterport3D-walks", 32, tree, lines.append)
    before = move(tree / "cache", "alone")
    several: list[str] = []
    both = prepare_dataset("Matterport3D-walks", 32, tree, several.append, workers=2)
    assert contents(tree / "cache") == before and sorted(several) == sorted(lines)
    assert both.skipped == alone.skipped and [path.name for path, _ in alone.skipped] == ["torn", "walk0"]
    assert [(c.folder, c.split) for c in both.clips] == [(c.folder, c.split) for c in alone.clips]


def test_a_worker_that_dies_costs_its_source(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both when a source is examined and when it is decoded."""
    real, deadly = decoding.spread, ["walk1"]

    def crashing(tasks: list, work: Callable, workers: int, portable: Callable, crashed: Callable) -> Iterator[tuple]:
        lost = [task for task in tasks if task[1].path.name in deadly]
        yield from ((task, crashed(task)) for task in lost)
        yield from real([task for task in tasks if task not in lost], work, workers, portable, crashed)

    monkeypatch.setattr(decoding, "spread", crashing)
    entries = [SourceEntry(tree / "Matterport3D-walks" / "train" / f"walk{i}", "train") for i in range(3)]
    found = decoding.examine(entries, {}, 1, print)
    assert [bool(result.digest) for result in found] == [True, False, True] and "walk1 ended the process that read it" in found[1].fault
    form = decoding.Form(tree / "cache", 32, False, False)
    tasks = [(entry.path.name, entry, "0" * 64) for entry in entries]
    results = dict(decoding.decode(tasks, form, 1, print))
    assert "walk1 ended the process that read it" in results["walk1"] and results["walk2"].is_dir()


def test_processes_of_a_launch(tree: Path) -> None:
    """Two processes share the sources; both end with the data set that one process makes, and so do the files."""
    alone = prepare_dataset("Matterport3D-walks", 32, tree, None)
    before = move(tree / "cache", "alone")
    code = (
        "import json, sys; from vae4d.clips.datasets import prepare_dataset\n"
        "lines = []; data = prepare_dataset('Matterport3D-walks', 32, sys.argv[1], lines.append)\n"
        "print(json.dumps([[[c.folder.name, c.split] for c in data.clips], [[str(p), r] for p, r in data.skipped], lines]))"
    )
    results = [json.loads(printed.splitlines()[-1]) for printed in run_on_two(code, str(tree))]
    assert contents(tree / "cache") == before
    clips, skipped = [[c.folder.name, c.split] for c in alone.clips], [[str(path), reason] for path, reason in alone.skipped]
    assert all(result[:2] == [clips, skipped] for result in results)
    made = [{line.split()[1] for line in lines if "frames a second" in line} for _, _, lines in results]
    assert made[0] and made[1] and not made[0] & made[1], "each process decodes its own share"


def test_video_limit(tmp_path: Path) -> None:
    counts = {"train": 10, "validate": 1, "test": 5}
    entries = [SourceEntry(Path(f"{split}{i}"), split) for split, count in counts.items() for i in range(count)]
    assert [e.path.name for e in limited(entries, 3)] == ["train0", "train4", "train9", "validate0", "test0", "test2", "test4"]
    assert limited(entries, 0) == entries
    walks(tmp_path / "Matterport3D-walks", count=8)
    lines: list[str] = []
    assert len(prepare_dataset("Matterport3D-walks", 32, tmp_path, lines.append, video_limit=2).clips) == 4
    assert lines[0] == "4 of 9 clips are used, as video_limit is 2." and len(open_dataset("Matterport3D-walks", 32, tmp_path).clips) == 4
    assert len(prepare_dataset("Matterport3D-walks", 32, tmp_path, None).clips) == 9
    for wrong in ({"video_limit": -1}, {"workers": 0}):
        with pytest.raises(ConfigError, match="is out of range"):
            prepare_dataset("Matterport3D-walks", 32, tmp_path, None, **wrong)


def test_squash(tmp_path: Path) -> None:
    """The whole picture by area means: a left half of white is a left half of white; a folder and an index of its own."""
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, :48] = 255
    source = save_images(tmp_path / "half", [image] * 2)
    squashed = prepare(source, tmp_path / "cache", 32, "test", squash=True)
    assert squashed.folder.name.endswith("-32-squash")
    assert (squashed.frames[0, :, :16] == 255).all() and (squashed.frames[0, :, 16:] == 0).all()
    assert json.loads((squashed.folder / "manifest.json").read_text())["crop"] == [0, 0, 96, 48]
    film = encode(tmp_path / "wide.mp4", pictures(3, 96, 64))
    for seed, split in enumerate(("train", "validate", "test")):
        save_images(tmp_path / "set" / split / "walk", pictures(3, 96, 64, seed=seed))
    cropped, whole = (prepare_dataset(tmp_path / "set", 32, tmp_path, None, squash=kind) for kind in (False, True))
    for dataset, kind in ((cropped, False), (whole, True)):
        assert [c.folder for c in open_dataset(tmp_path / "set", 32, tmp_path, squash=kind).clips] == [c.folder for c in dataset.clips]
    assert not np.array_equal(cropped.clips[0].frames, whole.clips[0].frames)
    with pytest.raises(MissingInputError, match="--size 64 --squash"):
        open_dataset(tmp_path / "set", 64, tmp_path, squash=True)
    assert prepare(film, tmp_path / "cache", 32, "test", squash=True, square_pixels=True).folder.name.endswith("-32-squash")


def test_digests_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of frames is hashed once; another image, another name, or one image less is noticed."""
    folder, digests, hashed, real = save_images(tmp_path / "walk", pictures(3)), {}, [], FrameFolder.sha256

    def counted(self: FrameFolder) -> str:
        hashed.append(self.name)
        return real(self)

    monkeypatch.setattr(FrameFolder, "sha256", counted)
    first = content_digest(FrameFolder(folder), digests)
    assert content_digest(FrameFolder(folder), digests) == first == real(FrameFolder(folder)) and len(hashed) == 1
    changes = [lambda: save_images(folder, pictures(1, seed=5)), lambda: (folder / "00002.png").rename(folder / "00007.png"),
               lambda: (folder / "00007.png").unlink()]
    image = folder / "00001.png"
    image.write_bytes(image.read_bytes()[:-1] + b"!")  # neither the names nor the size change
    os.utime(image, ns=(4 * 10**18, 4 * 10**18))
    assert content_digest(FrameFolder(folder), digests) != first and hashed.pop()
    seen = {first}
    for count, change in enumerate(changes, 2):
        change()
        os.utime(folder, ns=(4 * 10**18 + count, 4 * 10**18 + count)) if count > 2 else None  # whatever the clock's resolution is
        seen.add(content_digest(FrameFolder(folder), digests))
        assert len(hashed) == count == len(seen)


def test_resume_of_a_video_with_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken up where it stopped, by the timestamps of the camera file."""
    film = encode(tmp_path / "a.mp4", pictures(60), options={"g": "12", "bf": "2"})
    path = camera_file(tmp_path / "a.txt", [200_000 + 40_000 * i for i in range(50)])
    whole = prepare(CameraVideo(path, 1, film), tmp_path / "whole", 48, "test")
    decoded: list[int] = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VideoFile, "frames", watched(VideoFile.frames, [], stop=45))
        prepare(CameraVideo(path, 1, film), tmp_path / "cache", 48, "test")
    monkeypatch.setattr(VideoFile, "frames", watched(VideoFile.frames, decoded))
    resumed = prepare(CameraVideo(path, 1, film), tmp_path / "cache", 48, "test")
    assert contents(resumed.folder) == contents(whole.folder) and "cameras.npz" in contents(whole.folder) and len(decoded) < 50
