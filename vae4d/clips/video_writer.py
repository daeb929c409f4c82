"""Writes videos that browsers play, with the exact rational rate and the exact number of frames."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import VideoError
from ..files import atomic_path


def import_av(path: Path) -> Any:
    """The PyAV module, or the sentence that says how to do without it."""
    try:
        import av
    except ImportError as error:
        remedy = "install it (pip install av), or prepare the clips elsewhere and bring data/cache along"
        raise VideoError(f"{path} needs PyAV, which is not installed: {remedy}.") from error
    return av


class VideoWriter:
    """Writes an H.264 MP4 (yuv420p, BT.709) that browsers play; the file is whole or absent.

    `with VideoWriter("out.mp4", Fraction(30000, 1001)) as video: video.write(image)`. An image is uint8 (H, W, 3) or a
    float tensor or array (3, H, W), clamped to [0, 1]. `fps` is kept exactly, and so is the number of frames. H.264
    wants even sizes: an odd width or height is padded by repeating the last column or row.

    Raises:
        VideoError: no frame was written, sizes differ, or the values are of another type.
        StorageError: full disk or a folder that cannot be written.
    """

    def __init__(self, path: str | Path, fps: Fraction | int, size: tuple[int, int] | None = None):
        self.path, self.fps, self.size = Path(path), Fraction(fps), size  # size: (width, height), else of the first frame
        if self.fps <= 0:
            raise VideoError(f"{self.path} cannot be written at {self.fps} frames per second: give a rate above 0.")
        self.count = 0

    def __enter__(self) -> Self:
        av = import_av(self.path)
        self._stack = ExitStack()
        partial = self._stack.enter_context(atomic_path(self.path))
        try:
            self._container = av.open(f"file:{partial}", "w", format="mp4", options={"movflags": "+faststart"})
        except BaseException:
            self._stack.close()
            raise
        self._stream = None
        return self

    def write(self, image: Any) -> None:
        """Append one frame."""
        import av

        pixels = _as_uint8(image, self.path)
        height, width = pixels.shape[:2]
        self.size = self.size or (width, height)
        if (width, height) != tuple(self.size):
            raise VideoError(
                f"{self.path}: frame {self.count} is {width}x{height}, the video is {self.size[0]}x{self.size[1]}: give frames of one size."
            )
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._add_stream(pixels.shape[1], pixels.shape[0])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="AREA")
        frame.pts, frame.time_base = self.count, 1 / self.fps
        self._mux(self._stream.encode(frame))
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:  # renames the file, or removes it when anything is raised here
            if error is None and self._stream is not None:
                self._mux(self._stream.encode(None))
                self._container.close()
                return
            with suppress(Exception):  # the file goes away, and so may what its end could not hold
                self._container.close()
            raise error or VideoError(f"{self.path} was not written: there was no frame to write.")

    def _add_stream(self, width: int, height: int) -> Any:
        stream = self._container.add_stream("libx264", rate=self.fps, options={"crf": "15", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / self.fps
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, limited range
        return stream

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = 1  # in ticks of 1 / fps; without it the last frame has no length and the rate is off
            self._container.mux(packet)


def write_video(path: str | Path, frames: Iterable[Any], fps: Fraction | int) -> int:
    """Write all `frames` (see `VideoWriter`); returns their number."""
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.write(frame)
    return video.count


def _as_uint8(image: Any, path: Path) -> np.ndarray:
    """uint8 (H, W, 3) of a uint8 (H, W, 3) or a float (3, H, W) in [0, 1], array or tensor."""
    pixels = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    if np.issubdtype(pixels.dtype, np.floating) and pixels.ndim == 3 and pixels.shape[0] == 3:
        if not np.isfinite(pixels).all():
            raise VideoError(f"{path}: a frame holds values that are not finite, which have no colour.")
        return (pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    raise VideoError(f"{path}: a frame is {pixels.dtype} {pixels.shape}; give uint8 (H, W, 3) or float (3, H, W) in [0, 1].")
