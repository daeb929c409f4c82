"""Decodes a video once into a folder of memory-mapped frames.

`<root>/<name>-<8 hex digits of the source's SHA-256>-<size>/` holds `frames.npy`, uint8 (N, S, S, 3) RGB, and
`manifest.json`. The manifest is written last: a folder without one is unfinished and is taken up where it stopped.
Frames are cropped centrally to a square as displayed (pixels that are not square are accounted for, nothing is
squashed) and shrunk by exact area averaging, the usual filter of video benchmarks, or enlarged by a bicubic one. With
`square_pixels` (folder `...-<size>-square`) every pixel is taken as square, whatever the file says; with `squash`
(`...-<size>-squash`) the whole picture is squashed to the square instead, as the published system did.
Where the cameras of the frames are known, `cameras.npz` holds them (`vae4d.cameras`), relative to the prepared picture.
Seconds count from the first frame.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ClipError, ConfigError, StorageError, Vae4dError
from ..files import STORAGE_ERRNOS, atomic_path, storage_error, write_json
from .clip import CAMERAS, FORMAT, SPLITS, Clip
from .entries import Source
from .pictures import constant_rate, crop_box, square
from .shots import find_shots
from .video import Frame, FrameFolder, open_source

VERIFIED = 16  # frames decoded again and compared before an unfinished folder is continued
FLUSHED = 32  # frames between two flushes to the files

Progress = Callable[[int, int | None], None]


def prepare(
    source: Source | str | Path,
    root: str | Path,
    size: int,
    split: str,
    fps: Fraction | int | None = None,
    progress: Progress | None = None,
    digest: str | None = None,
    square_pixels: bool = False,
    squash: bool = False,
    tags: dict[str, str] | None = None,
) -> Clip:
    """Decode a video or a folder of frames into the cache under `root`, or open what is there already.

    Memory is constant, whatever the length. An interrupted call (even a killed one) is continued by the next one
    and ends in the same bytes. A call that fails leaves no folder behind; only where space is short from the start,
    what an earlier call left is kept.

    Args:
        size: side of the square frames, a multiple of 16.
        split: "train", "validate" or "test".
        fps: rate of a folder of frames given by its path (25 when not given).
        progress: called with (frames done, frames in all or None).
        digest: SHA-256 of the source, where it is known already.
        square_pixels: take pixels as square whatever the file says; files often state a wrong shape.
        squash: squash the whole picture to the square; the shape of pixels does not matter then.
        tags: what the data set says of the clip.

    Raises:
        ConfigError, VideoError, ClipError (another process is at it), StorageError (disk full, or `root` cannot be written).
    """
    if size < 16 or size % 16:
        raise ConfigError(f"size = {size} is not possible: give a multiple of 16, such as 128 or 256.")
    if split not in SPLITS:
        raise ConfigError(f"split = {split!r} is unknown: give one of {', '.join(SPLITS)}.")
    source = open_source(source, fps) if isinstance(source, str | Path) else source
    info, digest = source.info, digest or source.sha256()
    folder = Path(root) / f"{_safe(source.name)}-{digest[:8]}-{size}{kind_of(square_pixels, squash)}"
    manifest = {"format": FORMAT, "source": str(source.path), "name": source.name, "sha256": digest, "split": split}
    manifest |= {"tags": tags} if tags else {}
    if (clip := _prepared(folder, manifest, source)) is not None:
        return clip

    _check_space(folder, (info.frames or 0) * size * size * 3, source.path)
    with locked(folder):
        if (clip := _prepared(folder, manifest, source)) is None:  # else another process has finished it meanwhile
            if (folder / "manifest.json").exists():  # damaged; a new file, as truncating the old one would kill who has mapped it
                (folder / "manifest.json").unlink()
                (folder / "frames.npy").unlink(missing_ok=True)
            try:
                write_json(folder / "manifest.json", manifest | _make(source, folder, size, progress, square_pixels, squash))
            except Vae4dError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            except OSError as error:
                if error.errno not in STORAGE_ERRNOS:
                    raise
                shutil.rmtree(folder, ignore_errors=True)
                raise storage_error(folder / "frames.npy", error) from error
        _pts_path(folder).unlink()
    return clip or Clip.open(folder)


def kind_of(square_pixels: bool, squash: bool) -> str:
    """What the names of folders and indices end in."""
    return "-squash" if squash else "-square" if square_pixels else ""


def _make(source: Source, folder: Path, size: int, progress: Progress | None, square_pixels: bool, squash: bool) -> dict[str, Any]:
    """Write the frames, and the cameras where they are known; returns what the manifest says of them."""
    info = replace(source.info, pixel_aspect=Fraction(1)) if square_pixels else source.info
    crop = (0, 0, info.width, info.height) if squash else crop_box(info)
    count = _decode(source, folder, crop, size, progress)
    ticks = np.fromfile(_pts_path(folder), dtype="<i8")
    fps, variable = constant_rate(ticks, info)
    times = {"times": [float((int(t) - int(ticks[0])) * info.time_base) for t in ticks]} if variable else {}
    cuts, duplicates = find_shots(_chunks(folder / "frames.npy", count, size))
    cuts = [] if source.one_shot else cuts
    if source.cameras is not None:
        shown = max(1, round(info.width * info.pixel_aspect)), info.height  # pixels as square as they are displayed
        cameras = source.cameras if squash else source.cameras.cropped(*shown)
        with atomic_path(folder / CAMERAS) as partial:
            np.savez(partial, **cameras.to_dict())
    manifest = {"width": info.width, "height": info.height, "rotation": info.rotation, "codec": info.codec}
    manifest |= {"pixel_aspect": str(info.pixel_aspect), "crop": list(crop), "size": size, "frames": count}
    return manifest | {"fps": str(fps), "variable_rate": variable, "cuts": cuts, "duplicates": duplicates, **times}


def _prepared(folder: Path, manifest: dict[str, Any], source: Source) -> Clip | None:
    """The clip, when it is there; its manifest is brought up to date where only what was said of it changed."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        Clip.open(folder)
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["sha256"] != manifest["sha256"]:
            raise ClipError(f"{folder} belongs to another video.")
    except ClipError:
        return None
    fps = {"fps": str(source.fps)} if isinstance(source, FrameFolder) else {}
    if old != (new := {**old, **manifest, **fps}):
        write_json(path, new)
    return Clip.open(folder)


def _decode(source: Source, folder: Path, crop: tuple[int, int, int, int], size: int, progress: Progress | None) -> int:
    """Append the frames that are missing; returns the number of frames."""
    frame_bytes = size * size * 3
    (folder / "frames.npy").touch()
    with (folder / "frames.npy").open("r+b") as pixels, _pts_path(folder).open("r+b") as stamps:
        header = _write_header(pixels, 0, size)
        kept = min((pixels.seek(0, 2) - header) // frame_bytes, stamps.seek(0, 2) // 8)
        frames = _continued(source, folder, crop, size, kept, header) if kept > VERIFIED else None
        if frames is None:
            frames, kept = source.frames(), 0
        pixels.truncate(header + kept * frame_bytes)
        stamps.truncate(kept * 8)
        pixels.seek(0, 2), stamps.seek(0, 2)
        count = kept
        for frame in frames:
            pixels.write(square(frame.image, crop, size).data)
            stamps.write(frame.pts.to_bytes(8, "little", signed=True))
            count += 1
            if count % FLUSHED == 0:
                pixels.flush(), stamps.flush()
                if progress:
                    progress(count, source.info.frames)
        _write_header(pixels, count, size)
    if progress:
        progress(count, count)
    return count


def _continued(
    source: Source, folder: Path, crop: tuple[int, int, int, int], size: int, kept: int, header: int
) -> Iterator[Frame] | None:
    """Frames after the first `kept`, when the last ones on disk are met again in time stamp and pixels; else None."""
    ticks = np.fromfile(_pts_path(folder), dtype="<i8", count=kept)[-VERIFIED:]
    offset = header + (kept - VERIFIED) * size * size * 3
    stored = np.fromfile(folder / "frames.npy", np.uint8, VERIFIED * size * size * 3, offset=offset).reshape(-1, size, size, 3)
    frames, seen = source.frames(after_pts=int(ticks[0])), 0
    for frame in frames:
        if frame.pts < ticks[0]:
            continue
        if frame.pts != ticks[seen] or not np.array_equal(square(frame.image, crop, size), stored[seen]):
            return None
        seen += 1
        if seen == VERIFIED:
            return frames
    return None


def _chunks(path: Path, count: int, size: int, length: int = 64) -> Iterator[np.ndarray]:
    """uint8 (n, S, S, 3) read in turn: unlike mapped pages they never add up in memory."""
    with path.open("rb") as stream:
        stream.seek(-count * size * size * 3, 2)
        for start in range(0, count, length):
            n = min(length, count - start)
            yield np.fromfile(stream, np.uint8, n * size * size * 3).reshape(n, size, size, 3)


def _write_header(stream: BinaryIO, count: int, size: int) -> int:
    """Write the .npy header for `count` frames in place and return its length, which is the same for every count."""
    stream.seek(0)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)})
    return stream.tell()


def _pts_path(folder: Path) -> Path:
    return folder / f"unfinished-{FORMAT}.pts"  # int64 time stamps of the frames written so far


def _check_space(folder: Path, needed: int, source: Path) -> None:
    pixels = folder / "frames.npy"
    present = pixels.stat().st_size if pixels.exists() else 0
    free = shutil.disk_usage(next(parent for parent in pixels.absolute().parents if parent.exists())).free
    if free < needed - present:
        need = f"{source} needs {needed / 1e6:.0f} MB under {folder.parent}, {free / 1e6:.0f} MB are free"
        raise StorageError(f"{need}: free some space or choose a smaller size.")


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Make the folder and hold it: one process at a time; the system frees the lock of a process that was killed.

    Yields the file that is locked, to be removed once the folder is finished.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = _pts_path(folder).open("ab")
    except OSError as error:
        raise storage_error(folder, error) from error
    with stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(stream.fileno()), _pts_path(folder).stat()):
                raise BlockingIOError  # who held it before has removed it, and the next one holds a new file
        except ImportError:  # Windows
            pass
        except (BlockingIOError, FileNotFoundError) as error:
            raise ClipError(f"{folder} is being written by another process: wait until it has finished.") from error
        yield _pts_path(folder)


def _safe(name: str) -> str:
    """A file name of bounded length that every system takes."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name)[:60].strip(". ") or "clip"
