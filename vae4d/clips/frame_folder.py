"""Folders of frames, and what every source of frames has in common.

Conventions: an image is uint8 (H, W, 3) RGB, upright (EXIF orientation applied), in the pixels of the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import VideoError
from ..files import sha256

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
FOLDER_FPS = Fraction(25)
ORIENTATION = 0x0112  # the EXIF tag, and what brings a picture upright for each of its values
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Frame(NamedTuple):
    """One decoded picture: image uint8 (H, W, 3) RGB, time stamp in ticks, seconds since the first frame."""

    image: np.ndarray
    pts: int
    seconds: float


@dataclass(frozen=True)
class VideoInfo:
    """What a source says about itself. Width and height are those of the upright image."""

    width: int
    height: int
    fps: Fraction
    frames: int | None  # the container's claim; None where it makes none
    rotation: int  # degrees clockwise by which the stored pictures were turned
    codec: str
    time_base: Fraction  # seconds a tick
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel / its height, as the picture is to be shown
    start: int = 0  # time stamp of the first frame
    seekable: bool = False


class FrameFolder:
    """A folder of png, jpg or jpeg images, one a frame, sorted by name (numbers in names compare as numbers).

    Raises:
        VideoError: on the first use, when there is no image, one cannot be read, or sizes differ.
    """

    cameras, one_shot = None, False

    def __init__(self, path: str | Path, fps: Fraction | int = FOLDER_FPS):
        self.path = Path(path)
        self.name = self.path.resolve().name
        self.fps = Fraction(fps)

    def __repr__(self) -> str:
        return f"FrameFolder({str(self.path)!r}, fps={self.fps})"

    @cached_property
    def images(self) -> list[Path]:
        """The image files in their order."""
        if not self.path.is_dir():
            raise VideoError(f"{self.path} does not exist: check the path.")
        images = sorted(image_files(self.path), key=natural_order)
        if not images:
            raise VideoError(f"{self.path} holds no png or jpg image and is no video: give a video file or a folder of frames.")
        return images

    @property
    def files(self) -> list[Path]:
        """The folder and the images in it."""
        return [self.path, *self.images]

    def sha256(self) -> str:
        """Hex SHA-256 over the names and contents of all images."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.name}\0{sha256(image)}\n".encode())
        return digest.hexdigest()

    @cached_property
    def info(self) -> VideoInfo:
        """Size and rate; reads every image's header, so that mixed sizes are found before any work is done."""
        width, height = image_size(self.images[0])
        for image in self.images[1:]:
            if (size := image_size(image)) != (width, height):
                raise VideoError(
                    f"{self.path} mixes image sizes ({self.images[0].name} is {width}x{height}, {image.name} is {size[0]}x{size[1]}): "
                    "keep the frames of one video in one folder."
                )
        codec = self.images[0].suffix.lower().strip(".")
        return VideoInfo(width, height, self.fps, len(self.images), 0, codec, 1 / self.fps, seekable=True)

    def frames(self, after_pts: int | None = None) -> Iterator[Frame]:
        """All frames, or those from number `after_pts` on."""
        for index in range(after_pts or 0, self.info.frames):
            yield Frame(read_image(self.images[index]), index, float(index / self.fps))


def image_files(folder: Path) -> list[Path]:
    """The images directly in `folder`, hidden files left out."""
    return [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sorting key by name, in which frame_10 comes after frame_9."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", path.name)]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) upright, from the header alone."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)  # these swap the sides; a damaged tag is no number
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3); 16-bit images are scaled, transparency is dropped."""
    try:
        with Image.open(path) as image:
            if (turn := TURNS.get(image.getexif().get(ORIENTATION))) is not None:  # exif_transpose fails on damage in any other tag
                image = image.transpose(turn)
            if image.mode.startswith("I"):
                return np.repeat((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> VideoError:
    return VideoError(f"{path} cannot be read as an image: copy it again, or remove it from the folder.")
