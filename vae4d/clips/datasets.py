"""Prepares the clips of a data set, and opens what was prepared.

A data set is "samples" (the three sample clips plus whatever lies in `data/videos`), or the path of a video or of a
folder. Splits are by source video, never by window. What lies loose in `data/videos` is test: nothing trains on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ClipError, ConfigError, MissingInputError, VideoError
from ..files import write_json
from .cache import prepare
from .clip import SPLITS, Clip
from .sources import SAMPLES, SourceEntry, content_digest, find_sources, unused_files
from .video import open_source
from .windows import ClipWindows

__all__ = ["SAMPLES", "SPLITS", "ClipWindows", "Dataset", "SourceEntry", "find_sources", "open_dataset", "prepare_dataset"]


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


def prepare_dataset(
    dataset: str | Path,
    size: int,
    data_root: str | Path = "data",
    progress: Callable[[str], None] | None = print,
    require: Sequence[str] = SPLITS,
    square_pixels: bool = False,
) -> Dataset:
    """Decode every source of a data set into `data_root/cache` (what is there is kept) and open it.

    A source that cannot be read is reported through `progress` and left out, and so are files that are no source.
    `progress` gets plain lines. The hashes of videos that did not change are remembered in `cache/digests.json`.
    With `square_pixels` the shape of pixels that a file states is ignored; both kinds exist side by side.

    Raises:
        ConfigError, MissingInputError: see `find_sources`. StorageError: disk full.
        ClipError: no usable clip in a split of `require`, or the same content in two splits.
        VideoError: the data set is one video, and that cannot be read.
    """
    say, root = progress or (lambda line: None), Path(data_root)
    digests = _read_digests(root)
    entries = find_sources(dataset, root, digests)
    if unused := unused_files(dataset, root, entries):
        names = ", ".join(map(str, unused[:5])) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        say(f"Not used (neither a video nor in a folder of frames, or outside train, validate and test): {names}")
    clips: list[Clip] = []
    skipped: list[tuple[Path, str]] = []
    seen: dict[str, SourceEntry] = {}
    for number, entry in enumerate(entries, 1):
        label = f"[{number}/{len(entries)}] {entry.path.name} ({entry.split})"
        try:
            source = open_source(entry.path)
            digest = content_digest(source, digests)
            twin = seen.setdefault(digest, entry)
            if twin.split != entry.split:
                raise _LeakError(f"{twin.path} ({twin.split}) and {entry.path} ({entry.split}) are the same video: keep it in one split.")
            if twin is not entry:
                raise VideoError(f"{entry.path} is the same video as {twin.path}.")
            reporter = _reporter(label, say)
            clip = prepare(source, root / "cache", size, entry.split, progress=reporter, digest=digest, square_pixels=square_pixels)
        except VideoError as error:
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
    write_json(_index_path(dataset, size, root, square_pixels), index)
    write_json(root / "cache" / DIGESTS, digests)
    return Dataset(str(dataset), clips, skipped)


def open_dataset(dataset: str | Path, size: int, data_root: str | Path = "data", square_pixels: bool = False) -> Dataset:
    """Open what `prepare_dataset` prepared for the same data set, size and pixels; the videos are not needed.

    `data_root/cache` can be carried to another machine: name the data set there as it was named when prepared.

    Raises:
        MissingInputError: not prepared yet. ClipError: a prepared clip is damaged. ConfigError: no such data set.
    """
    path = _index_path(dataset, size, Path(data_root), square_pixels)
    if not path.exists():
        if str(dataset) != "samples" and not Path(dataset).exists():
            find_sources(dataset, data_root)  # says what is wrong with the name
        state = f"The data set {str(dataset)!r} at {size} px was not prepared ({path} is missing)"
        command = f"python -m vae4d prepare {shlex.quote(str(dataset))} --size {size}{' --square-pixels' if square_pixels else ''}"
        command += "" if Path(data_root) == Path("data") else f" --data-root {shlex.quote(str(data_root))}"
        raise MissingInputError(f"{state}: run notebook 01_data first, or `{command}`.")
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


DIGESTS = "digests.json"


def _read_digests(root: Path) -> dict[str, list]:
    """The remembered hashes that are whole; what is not gets computed again."""
    try:
        known = json.loads((root / "cache" / DIGESTS).read_text(encoding="utf-8"))
        return {path: entry for path, entry in known.items() if [type(part) for part in entry] == [int, int, str]}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _index_path(dataset: str | Path, size: int, root: Path, square_pixels: bool) -> Path:
    name = str(dataset)
    if name != "samples":
        text = Path(os.path.normpath(name)).as_posix()
        name = f"{Path(text).stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return root / "cache" / f"{name}-{size}{'-square' if square_pixels else ''}.json"


def _reporter(label: str, say: Callable[[str], None], interval: float = 5.0) -> Callable[[int, int | None], None]:
    """Progress as a plain line every few seconds."""
    last = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= interval:
            last = time.monotonic()
            say(f"{label}: {done} of {total or '?'} frames decoded")

    return report
