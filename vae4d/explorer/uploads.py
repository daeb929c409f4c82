"""A video that was handed to the panel becomes a clip: it is kept in `data/videos`, where nothing trains on it."""

from __future__ import annotations

from pathlib import Path

from ..clips.cache import prepare
from ..clips.clip import Clip
from ..clips.entries import VIDEO_SUFFIXES
from ..clips.video import open_source
from ..errors import ClipError, VideoError
from ..files import atomic_path

LARGEST = 7_000_000  # bytes; a server drops the connection at a message of 10 MiB


def take(name: str, content: bytes | memoryview, size: int, data_root: str | Path = "data") -> Clip:
    """Keep a video as `data_root/videos/<name>` and prepare it; what is no video leaves no file behind.

    What lies in `data_root` already is prepared from there: a second copy would be test and train at once, which a data set refuses.

    Args:
        name: of the file, as the browser gives it; folders in it are ignored.
        size: side of the prepared frames in pixels.
    Raises:
        VideoError: too large, not named as a video, a name that is taken, or it cannot be read. ClipError: it has one frame.
        StorageError: the disk is full, or the folder cannot be written.
    """
    root = Path(data_root)
    path = place(name, root)
    require_small(name, len(content), root)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise VideoError(f"{path.name} is not named as a video: give a file that ends in .mp4, .mov, .webm, .avi or the like.")
    if (twin := copy_of(content, root)) is not None:
        return checked(twin, prepare(open_source(twin), root / "cache", size, "test"))
    if path.exists():
        raise VideoError(f"{path} is there already and is another video: give yours another name.")
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    try:
        return checked(path, prepare(open_source(path), root / "cache", size, "test"))
    except BaseException:  # an interrupt too
        path.unlink(missing_ok=True)
        raise


def place(name: str, data_root: str | Path) -> Path:
    """Where a file of this name is kept."""
    return Path(data_root) / "videos" / Path(name.replace("\\", "/")).name


def require_small(name: str, length: int, data_root: str | Path = "data") -> None:
    """Raise VideoError where a file of `length` bytes is not sent through the browser; the sentence says what to do."""
    if length > LARGEST:
        path, most = place(name, data_root), f"{LARGEST / 1e6:.0f} MB"
        remedy = f"drop the file into {path.parent.as_posix()}/ and press 'Look again'"
        raise VideoError(f"{path.name} is {length / 1e6:.1f} MB, too large to send through the browser ({most}): {remedy}.")


def copy_of(content: bytes | memoryview, root: Path) -> Path | None:
    """The file of this content among the samples and one's own videos."""
    files = (path for folder in ("samples", "videos") for path in sorted((root / folder).rglob("*")) if path.is_file())
    return next((path for path in files if path.stat().st_size == len(content) and path.read_bytes() == content), None)


def checked(path: Path, clip: Clip) -> Clip:
    """A clip of two frames or more."""
    if len(clip) < 2:
        raise ClipError(f"{path.name} has one frame, and nothing lies between one frame and itself: give a video of two or more.")
    return clip
