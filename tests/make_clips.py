"""Makes the videos that the tests read: known pictures, known times, known faults."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image


def pictures(count: int, width: int = 64, height: int = 48, seed: int = 0) -> list[np.ndarray]:
    """uint8 (H, W, 3) of a smooth texture that moves 3 pixels to the right a frame."""
    field = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, (width + 3 * count) // 8 + 2, 3), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(field).resize((width + 3 * count, height), Image.Resampling.BICUBIC))
    return [np.ascontiguousarray(wide[:, 3 * (count - i) : 3 * (count - i) + width]) for i in range(count)]


def encode(
    path: Path,
    images: list[np.ndarray],
    fps: Fraction | int = 25,
    ticks: list[int] | None = None,
    codec: str = "libx264",
    rotate: float | None = None,
    mirror: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """A video of `images`; `ticks` are display times in thousandths of a second instead of a constant rate."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or ({"crf": "12", "preset": "veryfast"} if codec == "libx264" else {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        if codec not in ("libx264", "png"):
            stream.bit_rate = 2_000_000
        if ticks:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotate is not None:
            stream.set_display_rotation(rotate, hflip=mirror)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if ticks:
                frame.pts, frame.time_base = ticks[index], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def encode_audio(path: Path) -> Path:
    """A file that holds half a second of silence and no picture."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        for start in range(0, 8000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def save_images(folder: Path, images: list[np.ndarray], suffix: str = ".png", start: int = 0) -> Path:
    """A folder of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images, start):
        Image.fromarray(image).save(folder / f"{index:05d}{suffix}")
    return folder
