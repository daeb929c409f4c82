"""One source of a data set: where it lies, which split it belongs to, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..cameras import Cameras
from ..errors import VideoError
from .video import Frame, VideoInfo, open_source

VIDEO_SUFFIXES = frozenset(  # what counts as a video when a folder is searched; a path given by itself may end in anything
    """.264 .265 .3g2 .3gp .asf .avi .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg
    .mpg .mts .mxf .nut .ogg .ogv .qt .rm .ts .vob .webm .wmv .y4m""".split()  # noqa: SIM905
)


class Source(Protocol):
    """What can be prepared: a video, a folder of frames, or a reader of a data set's own layout."""

    path: Path
    name: str  # of the clip that is made of it
    cameras: Cameras | None  # one a frame, where the data set knows them
    one_shot: bool  # no cut can lie in it, whatever its frames look like

    @property
    def info(self) -> VideoInfo: ...

    @property
    def files(self) -> list[Path]:
        """All that its content is read from."""
        ...

    def frames(self, after_pts: int | None = None) -> Iterator[Frame]: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True)
class SourceEntry:
    """A source, its split, and what its data set says of it (`tags`)."""

    path: Path
    split: str
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    reader: Callable[[Path], Source] = open_source  # can be pickled, as worker processes use it
    group: str = ""  # what is kept together (a film, a scene) where validation is held out of the data set's train part

    def open(self) -> Source:
        """The source, its `info` read.

        Raises:
            VideoError: it cannot be read.
        """
        try:
            source = self.reader(self.path)
            _ = source.info
        except PermissionError as error:
            raise VideoError(f"{self.path} cannot be read ({error.strerror}): allow yourself to read it.") from error
        return source


def is_video(path: Path) -> bool:
    """Whether a file's name ends as that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES
