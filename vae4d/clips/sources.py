"""Which videos and folders of frames make up a data set, and the split of each."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import ClipError, ConfigError, MissingInputError, VideoError
from .clip import SPLITS
from .entries import VIDEO_SUFFIXES, Source, SourceEntry, is_video
from .frame_folder import image_files
from .layouts import LAYOUTS, Found, named
from .layouts.layout import some, with_validation

__all__ = ["SAMPLES", "VIDEO_SUFFIXES", "Digests", "SourceEntry", "content_digest", "find_sources", "search"]

SAMPLES = {"train": "bigbuckbunny.mp4", "validate": "carphone_pristine.mp4", "test": "bikes.mp4"}
OWN: dict[str, Callable[[], Iterable[str | Path] | Mapping[str, Iterable[str | Path]]]] = {}  # by name, from `register.dataset`
Digests = dict[str, list]  # absolute path of a source: [bytes, time of the last change in ns, SHA-256]


def find_sources(dataset: str | Path, data_root: str | Path = "data", digests: Digests | None = None) -> list[SourceEntry]:
    """The sources of a data set with their splits.

    - a data set of a known layout, by its name: see `layouts`; a registered one, by its name: see `register.dataset`.
    - "samples": the sample clips (one each to train, validate, test), and `data_root/videos`: what lies in its
      folders train, validate and test goes there, what lies loose is test.
    - a video, or a folder that holds images: this one is test, the samples' train and validate clips go with it.
    - a folder with folders train, validate, test: these are the splits. Without validate a tenth of train (at least one) is held out,
      by the names in it.
    - any other folder: split by source in the order of their hashes, a tenth (at least one) each to test and
      validate; with fewer than three that can be opened all are test, and the samples' train and validate clips go with them.

    Folders are searched at any depth; a folder that holds images, and no video at any depth, is one clip. `digests` is
    what `content_digest` remembers.

    Raises:
        ConfigError: no such data set. MissingInputError: the sample clips were not fetched, or a named data set is not there.
        ClipError: an empty folder, or a named data set that is not in its layout.
    """
    if (call := named(dataset, data_root)) is not None:
        return call.find().entries
    root, path = Path(data_root), Path(dataset)
    if str(dataset) in OWN:
        return _registered(str(dataset), root, digests)
    if str(dataset) == "samples":
        videos = root / "videos"
        loose = [SourceEntry(p, "test") for p in _search(videos, leave_out=SPLITS)] if os.path.isdir(videos) else []
        return _samples(root, SPLITS) + _by_folder(videos) + loose
    if any(os.path.isdir(path / split) for split in SPLITS):  # unlike Path.is_dir it says no where access is denied
        return with_validation(_by_folder(path, hold_out=not os.path.isdir(path / "validate")))
    if os.path.isfile(path) or (os.path.isdir(path) and _holds_frames(path)):
        return [*_samples(root, SPLITS[:2]), SourceEntry(path, "test")]
    if not os.path.isdir(path):
        said = f"dataset = {str(dataset)!r} is neither 'samples' nor a video nor a folder that exists"
        raise ConfigError(f"{said} nor one of {', '.join([*LAYOUTS, *OWN])}: check the spelling.")
    sources = list(_search(path))
    if not sources:
        raise ClipError(f"The data set {path} holds no video and no folder of frames: put some there.")
    return _by_content(sources, root, digests)


def _by_content(sources: Sequence[Path], root: Path, digests: Digests | None) -> list[SourceEntry]:
    """Split by source in the order of hashes, see `find_sources`."""
    digest = {p: _readable_digest(p, digests) for p in sources}  # by content, so that the split does not hang on names
    order = sorted((p for p in sources if digest[p]), key=lambda p: digest[p])
    if len(order) < 3:
        return _samples(root, SPLITS[:2]) + [SourceEntry(p, "test") for p in sources]
    held = max(1, len(order) // 10)
    split = {p: "test" if i < held else "validate" if i < 2 * held else "train" for i, p in enumerate(order)}
    return [SourceEntry(p, split.get(p, "test")) for p in sources]  # what cannot be read takes no place in a split; it gets reported


def _registered(name: str, root: Path, digests: Digests | None) -> list[SourceEntry]:
    """The sources of a registered data set.

    Raises:
        ConfigError: its function returned something else than paths that exist, or a split that there is not. ClipError: no path.
    """
    given = OWN[name]()
    parts = given if isinstance(given, Mapping) else {"": given}
    found: dict[str, list[Path]] = {}
    for split, paths in parts.items():
        if split and split not in SPLITS:
            raise ConfigError(f"The data set {name!r} returned a split {split!r}: name them {', '.join(SPLITS)}.")
        try:
            listed = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
        except TypeError as error:
            remedy = "return paths, or {'train': paths, 'test': paths}"
            raise ConfigError(f"The data set {name!r} returned {type(paths).__name__}: {remedy}.") from error
        if missing := [p for p in listed if not os.path.exists(p)]:
            raise ConfigError(f"The data set {name!r} returned {some(missing)}, which does not exist: return paths of videos or folders.")
        found[split] = [p for path in listed for p in ([path] if os.path.isfile(path) or _holds_frames(path) else _search(path))]
    if not any(found.values()):
        raise ClipError(f"The data set {name!r} returned no video and no folder of frames: return paths of some.")
    if "" in found:
        return _by_content(found[""], root, digests)
    held = "train" if "validate" not in found else ""
    return with_validation([SourceEntry(p, split, group=p.as_posix() if split == held else "") for split in found for p in found[split]])


def search(dataset: str | Path, data_root: str | Path = "data", digests: Digests | None = None) -> Found:
    """What `find_sources` finds, with sentences on what is absent or not used.

    Raises:
        ConfigError, MissingInputError, ClipError: see `find_sources`.
    """
    if (call := named(dataset, data_root)) is not None:
        return call.find()
    entries = find_sources(dataset, data_root, digests)
    if str(dataset) in OWN:
        return Found(entries, [])
    folder = Path(data_root) / "videos" if str(dataset) == "samples" else Path(dataset)
    used = {entry.path for entry in entries}
    unused = [path for path in _files(folder) if path not in used and path.parent not in used]  # loose images, unknown suffixes
    reason = "neither a video nor in a folder of frames, or outside train, validate and test"
    return Found(entries, [f"Not used ({reason}): {some(unused, 5)}"] if unused else [])


def content_digest(source: Source, digests: Digests | None = None) -> str:
    """SHA-256 of a source. It is kept in `digests`, and taken from there while sizes, times and names of its files stay the same."""
    if digests is None:
        return source.sha256()
    states, path = [file.stat() for file in source.files], str(source.path.absolute())
    length = sum(state.st_size for state in states if not stat.S_ISDIR(state.st_mode))
    stamp = [length, max(state.st_mtime_ns for state in states)]  # a folder's time changes with the names in it
    if digests.get(path, [])[:2] != stamp:
        digests[path] = [*stamp, source.sha256()]
    return digests[path][2]


def _samples(root: Path, splits: Sequence[str]) -> list[SourceEntry]:
    entries = [SourceEntry(root / "samples" / SAMPLES[split], split) for split in splits]
    for entry in entries:
        if not entry.path.exists():
            raise MissingInputError(f"The sample clip {entry.path} is missing: run `make setup` (or `python -m vae4d assets`) to fetch it.")
    return entries


def _by_folder(folder: Path, hold_out: bool = False) -> list[SourceEntry]:
    """What lies in the folders train, validate and test; with `hold_out` validation can be held out of train, every source by itself."""
    found = [(p, split) for split in SPLITS if os.path.isdir(folder / split) for p in _search(folder / split)]
    return [SourceEntry(p, split, group=p.relative_to(folder).as_posix() if hold_out and split == "train" else "") for p, split in found]


def _search(folder: Path, leave_out: Sequence[str] = ()) -> Iterator[Path]:
    """Videos and folders of frames in `folder`, by name; a folder with neither, or that cannot be read, is given too: it gets reported."""
    try:
        inside = sorted(folder.iterdir())
    except PermissionError:
        yield folder
        return
    for path in inside:
        if path.name.startswith(".") or path.name in leave_out:
            continue
        if os.path.isdir(path):
            yield from [path] if _holds_frames(path) else list(_search(path)) or [path]
        elif is_video(path):
            yield path


def _holds_frames(folder: Path) -> bool:
    """Whether a folder is one clip: images are in it, and no video at any depth (holiday/ with films and a cover picture is none)."""
    try:
        return bool(image_files(folder)) and not any(map(is_video, _files(folder)))
    except PermissionError:
        return False


def _readable_digest(path: Path, digests: Digests | None) -> str:
    """Hash of the content; empty where it cannot be opened."""
    try:
        return content_digest(SourceEntry(path, "").open(), digests)
    except VideoError:
        return ""


def _files(folder: Path) -> Iterator[Path]:
    """The files at any depth of `folder`, without what is hidden."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        yield from (Path(top, n) for n in sorted(names) if not n.startswith("."))
