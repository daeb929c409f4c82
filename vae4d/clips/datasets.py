"""Prepares the clips of a data set, and opens what was prepared.

A data set is "samples" (the three sample clips plus whatever lies in `data/videos`), the path of a video or of a folder, or the
name of one of the original's data sets (`layouts`). Splits are by source video, never by window. What lies loose in `data/videos`
is test: nothing trains on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import parallel
from ..errors import ClipError, ConfigError, MissingInputError, VideoError
from ..files import write_json
from ..progress import Say
from .cache import kind_of
from .clip import SPLITS, Clip
from .decoding import Examined, Form, decode, examine
from .layouts import named
from .layouts.layout import command, validated
from .sources import OWN, SAMPLES, Digests, SourceEntry, find_sources, search
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

    def counts(self, tag: str) -> dict[str, dict[str, int]]:
        """How many clips of each split have each value of a tag ("" where a clip lacks it): {split: {value: number}}."""
        found = {split: Counter(clip.tags.get(tag, "") for clip in self.split(split)) for split in SPLITS}
        return {split: dict(sorted(values.items())) for split, values in found.items()}

    def published(self) -> Dataset:
        """The published use of the clips: every one trains and tests, and the 10th to 19th by name (from 0) validate too.

        A clip is listed once for each use. With 10 clips or fewer all validate.
        """
        clips = sorted(self.clips, key=lambda clip: (clip.name, clip.sha256))
        uses = {"train": clips, "validate": clips[10:20] or clips, "test": clips}
        return replace(self, clips=[replace(clip, split=split) for split in SPLITS for clip in uses[split]])


def prepare_dataset(
    dataset: str | Path,
    size: int,
    data_root: str | Path = "data",
    progress: Say | None = print,
    require: Sequence[str] = SPLITS,
    square_pixels: bool = False,
    squash: bool = False,
    own_splits: bool = True,
    video_limit: int = 0,
    workers: int = 1,
    index: bool = True,
) -> Dataset:
    """Decode every source of a data set into `data_root/cache` (what is there is kept) and open it.

    A source that cannot be read is reported through `progress` and left out, and so are files that are no source.
    `progress` gets plain lines. The hashes of sources that did not change are remembered in `cache/digests.json`.
    Processes of a launch (`parallel`) share the work, and each gets the whole data set.

    Args:
        require: splits that must not be empty.
        square_pixels: ignore the shape of pixels that a file states; both kinds exist side by side.
        squash: squash pictures to a square instead of cropping them, as published; both kinds exist side by side.
        own_splits: False gives every clip to train and to test, as published (`Dataset.published`); what is written is the same.
        video_limit: clips of each split, spread evenly over its list; 0 for all. The data set then is these alone until prepared again.
        workers: processes that decode.
        index: False decodes clips and leaves the data set as it is known to `open_dataset`, or unknown.

    Raises:
        ConfigError, MissingInputError: see `find_sources`. StorageError: disk full.
        ClipError: no usable clip in a split of `require`, or the same content in two splits.
        VideoError: the data set is one video, and that cannot be read.
    """
    for name, value, least in (("video_limit", video_limit, 0), ("workers", workers, 1)):
        if value < least:
            raise ConfigError(f"{name} = {value} is out of range: give {least} or more.")
    say, root = progress or (lambda line: None), Path(data_root)
    once = say if parallel.rank() == 0 else (lambda line: None)
    digests = _read_digests(root)
    entries, notes = search(dataset, root, digests)
    for note in notes:
        once(note)
    chosen = limited(entries, video_limit)
    if len(chosen) < len(entries):
        once(f"{len(chosen):,} of {len(entries):,} clips are used, as video_limit is {video_limit}.")
    examined = examine(chosen, digests, workers, say)
    readable = iter(validated([entry for entry, found in zip(chosen, examined, strict=True) if not found.fault]))
    chosen = [entry if found.fault else next(readable) for entry, found in zip(chosen, examined, strict=True)]
    kept, faults = _distinct(dataset, chosen, examined, root)
    labels = {label: entry for label, entry, _ in kept}
    for label, (_, fault) in faults.items():
        once(f"{label}: left out. {fault}")
    folders: dict[str, Path] = {}
    for label, result in decode(kept, Form(root / "cache", size, square_pixels, squash), workers, say):
        if isinstance(result, str):
            faults[label] = (labels[label], result)
        else:
            folders[label] = result
    for entry, fault in faults.values():
        if entry.path == Path(dataset):  # the one video that was asked for
            raise VideoError(fault)
    clips = [Clip.open(folders[label], entry.split) for label, entry, _ in kept if label in folders]
    skipped = [(faults[label][0].path, faults[label][1]) for label in sorted(faults, key=_number)]
    reasons = "".join(f" {reason}" for _, reason in skipped[:REASONS])
    reasons += f" And {len(skipped) - REASONS:,} more were left out." if len(skipped) > REASONS else ""
    for split in require:
        if not any(clip.split == split for clip in clips):
            asked = f"see what `{command('check', dataset, data_root=root)}` says"
            remedy = asked if named(dataset, root) is not None else "put a video that can be read there"
            raise ClipError(f"The data set {str(dataset)!r} has no usable clip to {split} with: {remedy}.{reasons}")
    if parallel.rank() == 0:
        if index:
            found = {"clips": [[c.folder.name, c.split] for c in clips], "skipped": [[str(p), reason] for p, reason in skipped]}
            write_json(_index_path(dataset, size, root, square_pixels, squash), {"size": size} | found)
        write_json(root / "cache" / DIGESTS, digests)
    parallel.wait()
    prepared = Dataset(str(dataset), clips, skipped)
    return prepared if own_splits else prepared.published()


def open_dataset(
    dataset: str | Path,
    size: int,
    data_root: str | Path = "data",
    square_pixels: bool = False,
    squash: bool = False,
    own_splits: bool = True,
) -> Dataset:
    """Open what `prepare_dataset` prepared for the same data set, size and form of pictures; the videos are not needed.

    `data_root/cache` can be carried to another machine: name the data set there as it was named when prepared.

    Raises:
        MissingInputError: not prepared yet. ClipError: a prepared clip is damaged. ConfigError: no such data set.
    """
    path = _index_path(dataset, size, Path(data_root), square_pixels, squash)
    if not path.exists():
        if (call := named(dataset, data_root)) is not None:
            call.require()
        elif str(dataset) != "samples" and not Path(dataset).exists():
            find_sources(dataset, data_root)  # says what is wrong with the name
        state = f"The data set {str(dataset)!r} at {size} px was not prepared ({path} is missing)"
        if str(dataset) in OWN:  # which a shell's command does not know
            raise MissingInputError(f"{state}: call prepare_dataset({str(dataset)!r}, {size}) first.")
        options = ["--squash"] * squash + ["--square-pixels"] * square_pixels
        remedy = command("prepare", dataset, "--size", str(size), *options, data_root=data_root)
        raise MissingInputError(f"{state}: run notebook 01_data first, or `{remedy}`.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        # the split is the data set's: another data set may use the same clip for something else
        folders = [(path.parent / folder, split) for folder, split in index["clips"]]
        skipped = [(Path(p), reason) for p, reason in index["skipped"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClipError(f"{path} is damaged ({error}): delete it and run notebook 01_data again.") from error
    prepared = Dataset(str(dataset), [Clip.open(folder, split) for folder, split in folders], skipped)
    return prepared if own_splits else prepared.published()


def ready_dataset(dataset: str | Path, size: int, data_root: str | Path = "data", progress: Say | None = print,
                  require: Sequence[str] = (), video_limit: int = 0, **form: bool) -> Dataset:  # fmt: skip
    """Open a data set, or prepare it where that was not done yet; arguments and errors as `open_dataset` and `prepare_dataset`.

    Args:
        video_limit: of what is prepared now; where it is not 0 no index is left, as later steps want the whole data set.
    """
    try:
        return open_dataset(dataset, size, data_root, **form)
    except MissingInputError:
        return prepare_dataset(dataset, size, data_root, progress, require, video_limit=video_limit, index=not video_limit, **form)


def limited(entries: Sequence[SourceEntry], video_limit: int) -> list[SourceEntry]:
    """At most `video_limit` entries of each split (0: all), spread evenly over its list, in their order."""
    kept: set[int] = set()
    for split in SPLITS:
        places = np.array([number for number, entry in enumerate(entries) if entry.split == split], dtype=int)
        count = min(video_limit or len(places), len(places))
        kept |= set(places[np.linspace(0, len(places) - 1, count).round().astype(int)].tolist()) if count else set()
    return [entry for number, entry in enumerate(entries) if number in kept]


def _distinct(
    dataset: str | Path, entries: Sequence[SourceEntry], examined: Sequence[Examined], root: Path
) -> tuple[list[tuple[str, SourceEntry, str]], dict[str, tuple[SourceEntry, str]]]:
    """(label, entry, digest) of the entries to decode, and {label: (entry, reason)} of the others. Every content is decoded once.

    Where a named data set has the same content in two splits, train gives way to validate, and both to test; and so it does where
    validation was held out of a folder train.

    Raises:
        ClipError: the same content in two splits of a data set whose splits one makes oneself.
    """
    official = named(dataset, root) is not None
    labels = [f"[{number}/{len(entries)}] {entry.path.name} ({entry.split})" for number, entry in enumerate(entries, 1)]
    order = sorted(range(len(entries)), key=lambda i: -SPLITS.index(entries[i].split))
    first: dict[str, SourceEntry] = {}
    faults: dict[str, tuple[SourceEntry, str]] = {}
    for i in order:
        entry, (digest, fault) = entries[i], examined[i]
        twin = entry if fault else first.setdefault(digest, entry)
        if twin.split != entry.split and not official and not (twin.group and entry.group):
            raise ClipError(f"{twin.path} ({twin.split}) and {entry.path} ({entry.split}) are the same video: keep it in one split.")
        if fault or twin is not entry:
            faults[labels[i]] = (entry, fault or f"{entry.path} is the same video as {twin.path} ({twin.split}).")
    kept = [(label, entry, found.digest) for label, entry, found in zip(labels, entries, examined, strict=True) if label not in faults]
    return kept, faults


def _number(label: str) -> int:
    return int(label[1 : label.index("/")])


REASONS = 5  # that an error repeats
DIGESTS = "digests.json"


def _read_digests(root: Path) -> Digests:
    """The remembered hashes that are whole; what is not gets computed again."""
    try:
        known = json.loads((root / "cache" / DIGESTS).read_text(encoding="utf-8"))
        return {path: entry for path, entry in known.items() if [type(part) for part in entry] == [int, int, str]}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _index_path(dataset: str | Path, size: int, root: Path, square_pixels: bool, squash: bool) -> Path:
    name = str(dataset)
    if name != "samples":
        text = Path(os.path.normpath(name)).as_posix()
        name = f"{Path(text).stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return root / "cache" / f"{name}-{size}{kind_of(square_pixels, squash)}.json"
