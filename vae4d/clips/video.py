"""Reads video files and folders of frames, writes videos.

Conventions: an image is uint8 (H, W, 3) RGB, upright (rotation and mirror tags applied), in the pixels of the
source: nothing here crops or resizes. Time stamps are integers in ticks of `VideoInfo.time_base`, and
`Frame.seconds` counts from the first frame. Rates are exact fractions (30000/1001, never 29.97).

PyAV is imported when a video file is opened, not before: machines that only train do not need it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VideoError
from ..files import sha256
from .frame_folder import FOLDER_FPS, Frame, FrameFolder, VideoInfo
from .video_writer import VideoWriter, import_av, write_video

__all__ = ["FOLDER_FPS", "Frame", "FrameFolder", "VideoFile", "VideoInfo", "VideoWriter", "open_source", "write_video"]

INDEXED = ("mov", "matroska")  # containers whose seeking lands on the keyframe asked for


class VideoFile:
    """A video file of any container and codec that FFmpeg decodes.

    Raises:
        VideoError: on the first use of `info` or `frames`, when the file is missing, empty, not a video, without
            video frames, of an unknown codec, or shorter than its own header says.
    """

    cameras, one_shot = None, False

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.name = self.path.stem

    def __repr__(self) -> str:
        return f"VideoFile({str(self.path)!r})"

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def sha256(self) -> str:
        """Hex SHA-256 of the file."""
        return sha256(self.path)

    @cached_property
    def info(self) -> VideoInfo:
        """Size, rate and orientation; decodes the first frame, as some tags are only known then."""
        with self._open() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise VideoError(f"{self.path} holds no video frame that can be decoded: copy it again from its source, or remove it.")
            transposed = _orientation(first)[0]
            width, height = (first.height, first.width) if transposed else (first.width, first.height)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            aspect = aspect if Fraction(1, 4) <= aspect <= 4 else Fraction(1)  # beyond that the tag is an error
            fps = stream.average_rate or stream.guessed_rate or FOLDER_FPS
            time_base = stream.time_base or 1 / fps
            format_name = container.format.name
            if format_name.endswith("_pipe") or format_name == "image2":
                raise VideoError(f"{self.path} is a single image: give a video, or a folder with the frames as images.")
            self._check_index(container, stream)
            return VideoInfo(
                width=width,
                height=height,
                fps=Fraction(fps),
                frames=stream.frames or None,
                rotation=_rotation(first),
                codec=stream.codec_context.name,
                time_base=Fraction(time_base),
                pixel_aspect=1 / aspect if transposed else aspect,
                start=0 if _untimed(container) else first.pts or 0,
                seekable=first.pts is not None and format_name.startswith(INDEXED),
            )

    def frames(self, after_pts: int | None = None) -> Iterator[Frame]:
        """All frames in the order of display.

        With `after_pts` the frames from the last keyframe at or before that time stamp on, where the container
        can seek (`info.seekable`); else all. The caller skips the frames that it does not want.

        Raises:
            VideoError: damaged data, a change of picture size, or fewer frames than the header claims.
        """
        from av.video.reformatter import VideoReformatter

        info, converter = self.info, VideoReformatter()
        step, previous, end = 1 / (info.fps * info.time_base), None, info.start
        with self._open() as (container, stream):
            seek = after_pts is not None and info.seekable
            if seek:
                container.seek(after_pts, stream=stream)
            for count, decoded in enumerate(self._decode(container, stream, complete=not seek)):
                pts = decoded.pts
                if _untimed(container):
                    pts = info.start + round(count * step)
                elif pts is None:
                    pts = info.start if previous is None else previous + max(1, round(step))
                if previous is not None and pts <= previous:  # time must go on, whatever the file says
                    pts = previous + 1
                image = _upright(_rgb(decoded, converter), decoded)
                seconds = float((pts - info.start) * info.time_base)
                if image.shape[:2] != (info.height, info.width):
                    raise VideoError(
                        f"{self.path} changes its picture size at {seconds:.2f} s ({info.width}x{info.height} to "
                        f"{image.shape[1]}x{image.shape[0]}): cut it there, or encode it again at one size."
                    )
                yield Frame(image, pts, seconds)
                previous, end = pts, pts + (decoded.duration or step)  # the last frame may be shown for long
            if previous is not None:
                self._check_duration(container, stream, float(end * info.time_base), info)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        av = import_av(self.path)
        if not self.path.is_file():
            raise VideoError(f"{self.path} does not exist: check the path.")
        if self.path.stat().st_size == 0:
            raise VideoError(f"{self.path} is empty (0 bytes): copy it again from its source, or remove it.")
        with ExitStack() as stack:
            try:
                container = stack.enter_context(av.open(f"file:{self.path}", metadata_errors="replace"))
            except (av.FFmpegError, OSError) as error:
                raise VideoError(
                    f"{self.path} cannot be opened as a video ({error.strerror or error}): "
                    "it is truncated, damaged or not a video; copy it again."
                ) from error
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]  # a song's cover is no video
            if not streams:
                raise VideoError(f"{self.path} has no video stream (sound only, or zero frames): give a file with pictures.")
            known = [s for s in streams if s.codec_context is not None]
            if not known:
                raise VideoError(f"{self.path} uses a codec that this FFmpeg does not know, or is damaged: convert it to H.264.")
            yield container, max(known, key=lambda s: ((s.width or 0) * (s.height or 0), -s.index))

    def _decode(self, container: Any, stream: Any, complete: bool = False) -> Iterator[Any]:
        """PyAV frames of one stream; `complete` compares the number of packets with the header's claim."""
        import av

        stream.thread_type = "AUTO"
        packets, seconds, started = 0, 0.0, False
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is not None:  # an empty chunk of AVI means "repeat"; to the decoder it would mean "end"
                    packets += 1
                    continue
                packets += packet.size > 0
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    if started:
                        raise
                    continue  # a recording that starts between two keyframes
                for frame in decoded:
                    started, seconds = True, frame.time or seconds
                    yield frame
        except av.FFmpegError as error:
            raise VideoError(
                f"{self.path} is damaged near {seconds:.2f} s ({error.strerror}): copy it again, or encode the good part again."
            ) from error
        claimed = stream.frames if not container.format.name.startswith(INDEXED) else 0
        if complete and packets < claimed:
            raise self._truncated(packets, claimed)

    def _check_index(self, container: Any, stream: Any) -> None:
        """MP4 and MOV list where each picture lies: none may lie beyond the end of the file."""
        if not container.format.name.startswith("mov"):
            return
        length, entries = self.path.stat().st_size, stream.index_entries
        inside = sum(entry.pos + entry.size <= length for entry in entries)
        if inside < len(entries):
            raise self._truncated(inside, stream.frames or f"at least {len(entries)}")  # fragments count as they come

    def _check_duration(self, container: Any, stream: Any, end: float, info: VideoInfo) -> None:
        """Matroska and WebM count no frames, but state how long the stream is; a few frames less may be rounding."""
        tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
        if not container.format.name.startswith("matroska") or not tag:
            return
        claimed = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
        if end < claimed - max(0.2, 3 / info.fps):
            raise VideoError(f"{self.path} is truncated: it ends at {end:.2f} s of {claimed:.2f} s; {_COPY_AGAIN}")

    def _truncated(self, found: int, claimed: int | str) -> VideoError:
        return VideoError(f"{self.path} is truncated: it holds {found} of {claimed} frames; {_COPY_AGAIN}")


_COPY_AGAIN = "copy it again from its source, or encode the part that is left into a new file."


def _untimed(container: Any) -> bool:
    """Containers that store no time of display: AVI (only an order of decoding) and raw streams."""
    no_timestamps = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS
    return container.format.name == "avi" or bool(int(container.format.flags) & no_timestamps)


def open_source(path: str | Path, fps: Fraction | int | None = None) -> VideoFile | FrameFolder:
    """Open a video file or a folder of frames, and check what can be checked without decoding all of it.

    `fps` is the rate of a folder of frames (25 when not given); a video file knows its own.

    Raises:
        VideoError: missing, empty, sound only, no frame, truncated, unknown codec, no image in the folder, unreadable
            image, mixed sizes, no permission to read.
    """
    try:
        source = FrameFolder(path, fps or FOLDER_FPS) if Path(path).is_dir() else VideoFile(path)
        _ = source.info
    except PermissionError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror}): allow yourself to read it.") from error
    return source


def _rgb(frame: Any, converter: Any) -> np.ndarray:
    """RGB pixels of a PyAV frame; untagged video is BT.709 from 720p on and BT.601 below, as players have it."""
    from av.video.reformatter import Colorspace, Interpolation

    untagged = int(frame.colorspace) in (2, 5) and min(frame.width, frame.height) > 576
    quality = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    colorspace = Colorspace.ITU709 if untagged else None
    return converter.reformat(frame, format="rgb24", src_colorspace=colorspace, interpolation=quality).to_ndarray()


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: a stored pixel (x, y), y down, is shown at (a x + c y, b x + d y)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack("<5i", bytes(data)[:20])
    return a, b, c, d


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """(transposed, mirrored in x, mirrored in y), applied in this order; the nearest quarter turn."""
    a, b, c, d = _display_matrix(frame)
    return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def _rotation(frame: Any) -> int:
    """Degrees clockwise: 0, 90, 180 or 270."""
    a, b, _, _ = _display_matrix(frame)
    return round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360


def _upright(image: np.ndarray, frame: Any) -> np.ndarray:
    transposed, mirror_x, mirror_y = _orientation(frame)
    if transposed:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])
