"""Which videos make up a data set, their split, and the windows that training draws from them.

A data set is "samples" (the three sample clips plus whatever lies in `data/videos`), or the path of a video or of a
folder. Splits are by source video, never by window. What lies loose in `data/videos` is test: nothing trains on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cache import prepare
from .clip import SPLITS, Clip
from .errors import ClipError, ConfigError, MissingInputError, VideoError
from .files import write_json
from .frame_folder import image_files
from .video import open_source
from .windows import ClipWindows

__all__ = ["SPLITS", "ClipWindows", "Dataset", "SourceEntry", "find_sources", "open_dataset", "prepare_dataset"]

SAMPLES = {"train": "bigbuckbunny.mp4", "validate": "carphone_pristine.mp4", "test": "bikes.mp4"}
VIDEO_SUFFIXES = frozenset(  # what counts as a video when a folder is searched; a path given by itself may end in anything
    """.264 .265 .3g2 .3gp .asf .avi .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg
    .mpg .mts .mxf .nut .ogg .ogv .qt .rm .ts .vob .webm .wmv .y4m""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class SourceEntry:
    """A video file or folder of frames, and the split it belongs to."""

    path: Path
    split: str


@dataclass(frozen=True)
class Dataset:
    """Prepared clips, and the sources that were left out with the reason."""

    name: str
    clips: list[Clip]
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def split(self, name: str) -> list[Clip]:
        """The clips of "train", "validate" or "test"."""
        if name not in SPLITS:
            raise ConfigError(f"split = {name!r} is unknown: give one of {', '.join(SPLITS)}.")
        return [clip for clip in self.clips if clip.split == name]


def find_sources(dataset: str | Path, data_root: str | Path = "data") -> list[SourceEntry]:
    """The sources of a data set with their splits.

    - "samples": the sample clips (one each to train, validate, test), and `data_root/videos`: what lies in its
      folders train, validate and test goes there, what lies loose is test.
    - a video, or a folder that holds images: this one is test, the samples' train and validate clips go with it.
    - a folder with folders train, validate, test: these are the splits.
    - any other folder: split by source in the order of their hashes, a tenth (at least one) each to test and
      validate; with fewer than three sources all are test, and the samples' train and validate clips go with them.

    Folders are searched at any depth; a folder that holds images is one clip.

    Raises:
        ConfigError: no such data set. MissingInputError: the sample clips were not fetched. ClipError: an empty folder.
    """
    root, path = Path(data_root), Path(dataset)
    if str(dataset) == "samples":
        videos = root / "videos"
        loose = [SourceEntry(p, "test") for p in _search(videos, leave_out=SPLITS)] if videos.is_dir() else []
        return _samples(root, SPLITS) + _by_folder(videos) + loose
    if path.is_file() or (path.is_dir() and image_files(path)):
        return [*_samples(root, SPLITS[:2]), SourceEntry(path, "test")]
    if not path.is_dir():
        raise ConfigError(f"dataset = {str(dataset)!r} is neither 'samples' nor a video nor a folder that exists: check the spelling.")
    if any((path / split).is_dir() for split in SPLITS):
        return _by_folder(path)
    sources = list(_search(path))
    if not sources:
        raise ClipError(f"The data set {path} holds no video and no folder of frames: put some there.")
    if len(sources) < 3:
        return _samples(root, SPLITS[:2]) + [SourceEntry(p, "test") for p in sources]
    held = max(1, len(sources) // 10)
    split = {p: "test" if i < held else "validate" if i < 2 * held else "train" for i, p in enumerate(sorted(sources, key=_digest))}
    return [SourceEntry(p, split[p]) for p in sources]


def prepare_dataset(
    dataset: str | Path,
    size: int,
    data_root: str | Path = "data",
    progress: Callable[[str], None] | None = print,
    require: Sequence[str] = SPLITS,
) -> Dataset:
    """Decode every source of a data set into `data_root/cache` (what is there is kept) and open it.

    A source that cannot be read is reported through `progress` and left out. `progress` gets plain lines.

    Raises:
        ConfigError, MissingInputError: see `find_sources`. StorageError: disk full.
        ClipError: no usable clip in a split of `require`, or the same content in two splits.
        VideoError: the data set is one video, and that cannot be read.
    """
    say, root = progress or (lambda line: None), Path(data_root)
    entries = find_sources(dataset, root)
    clips: list[Clip] = []
    skipped: list[tuple[Path, str]] = []
    seen: dict[str, SourceEntry] = {}
    for number, entry in enumerate(entries, 1):
        label = f"[{number}/{len(entries)}] {entry.path.name} ({entry.split})"
        try:
            source = open_source(entry.path)
            digest = source.sha256()
            twin = seen.setdefault(digest, entry)
            if twin.split != entry.split:
                raise _LeakError(f"{twin.path} ({twin.split}) and {entry.path} ({entry.split}) are the same video: keep it in one split.")
            if twin is not entry:
                raise VideoError(f"{entry.path} is the same video as {twin.path}.")
            clip = prepare(source, root / "cache", size, entry.split, progress=_reporter(label, say), digest=digest)
        except (VideoError, PermissionError) as error:
            if entry.path == Path(dataset):  # the one video that was asked for
                raise
            skipped.append((entry.path, str(error)))
            say(f"{label}: left out. {error}")
            continue
        clips.append(clip)
        rate = f"{float(clip.fps):.5g} frames a second{' (variable)' if clip.variable_rate else ''}"
        say(f"{label}: {len(clip)} frames, {rate}, {len(clip.cuts)} cuts, {len(clip.duplicates)} repeated frames")
    reasons = "".join(f" {reason}" for _, reason in skipped)
    for split in require:
        if not any(clip.split == split for clip in clips):
            remedy = "put a video that can be read there"
            raise ClipError(f"The data set {str(dataset)!r} has no usable clip to {split} with: {remedy}.{reasons}")
    index = {"size": size, "clips": [[c.folder.name, c.split] for c in clips], "skipped": [[str(p), reason] for p, reason in skipped]}
    write_json(_index_path(dataset, size, root), index)
    return Dataset(str(dataset), clips, skipped)


def open_dataset(dataset: str | Path, size: int, data_root: str | Path = "data") -> Dataset:
    """Open what `prepare_dataset` prepared for the same data set and size; the videos are not needed.

    `data_root/cache` can be carried to another machine: name the data set there as it was named when prepared.

    Raises:
        MissingInputError: not prepared yet. ClipError: a prepared clip is damaged. ConfigError: no such data set.
    """
    path = _index_path(dataset, size, Path(data_root))
    if not path.exists():
        if str(dataset) != "samples" and not Path(dataset).exists():
            find_sources(dataset, data_root)  # says what is wrong with the name
        state = f"The data set {str(dataset)!r} at {size} px was not prepared ({path} is missing)"
        raise MissingInputError(f"{state}: run notebook 01_data first.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        # the split is the data set's: another data set may use the same clip for something else
        folders = [(path.parent / folder, split) for folder, split in index["clips"]]
        skipped = [(Path(p), reason) for p, reason in index["skipped"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipError(f"{path} is damaged ({error}): delete it and run notebook 01_data again.") from error
    return Dataset(str(dataset), [Clip.open(folder, split) for folder, split in folders], skipped)


class _LeakError(ClipError):
    pass


def _samples(root: Path, splits: Sequence[str]) -> list[SourceEntry]:
    entries = [SourceEntry(root / "samples" / SAMPLES[split], split) for split in splits]
    for entry in entries:
        if not entry.path.exists():
            raise MissingInputError(f"The sample clip {entry.path} is missing: run `make setup` (or `python -m vae4d assets`) to fetch it.")
    return entries


def _by_folder(folder: Path) -> list[SourceEntry]:
    return [SourceEntry(p, split) for split in SPLITS if (folder / split).is_dir() for p in _search(folder / split)]


def _search(folder: Path, leave_out: Sequence[str] = ()) -> Iterator[Path]:
    """Videos and folders of frames in `folder`, by name; a folder with neither is given too, so that it gets reported."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in leave_out:
            continue
        if path.is_dir():
            inside = [path] if image_files(path) else list(_search(path))
            yield from inside or [path]
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield path


def _digest(path: Path) -> str:
    """Hash of the content, so that the split does not hang on names; of the name where nothing can be read."""
    try:
        return open_source(path).sha256()
    except VideoError:
        return hashlib.sha256(path.name.encode()).hexdigest()


def _index_path(dataset: str | Path, size: int, root: Path) -> Path:
    name = str(dataset)
    if name != "samples":
        text = Path(os.path.normpath(name)).as_posix()
        name = f"{Path(text).stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return root / "cache" / f"{name}-{size}.json"


def _reporter(label: str, say: Callable[[str], None], interval: float = 5.0) -> Callable[[int, int | None], None]:
    """Progress as a plain line every few seconds."""
    last = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= interval:
            last = time.monotonic()
            say(f"{label}: {done} of {total or '?'} frames decoded")

    return report
