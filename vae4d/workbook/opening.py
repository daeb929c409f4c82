"""The pictures at the top of the README: a strip and a short animation of one pair of frames, made by the sharp model.

The strip shows the two frames, the moments between them, depth, motion, and the moment halfway from a camera moved to either side and by
linear blend. In the animation time runs from frame 0 to frame 1 and half the way back, the camera swings there, and time runs back to
frame 0; beside it the linear blend of the same moments, which knows no camera and stands still meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..checkpoint import load_model
from ..clips.clip import Clip
from ..clips.datasets import ready_dataset
from ..config import choice
from ..errors import ConfigError
from ..evaluation.methods import blend
from ..family import Model
from ..files import atomic_path
from ..metrics import to_uint8
from ..sharp.model import SharpAutoencoder4D
from ..synthesis import on_device, orbit
from ..views.figures import save
from .moments import strip

STRIP, ANIMATION = "strip.png", "animation.webp"
LARGEST = 1_000_000  # bytes of the animation
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # of WebP, the first that is small enough is taken
STEPS = 12  # moments from frame 0 to frame 1, of an even number
VIEWS = 24  # of the camera's swing
RATE = 12  # pictures a second
HEADER, GAP = 26, 6  # px, above and between the two panels
INK, PAPER, MARK = (0, 0, 0), (255, 255, 255), (0, 114, 178)


@dataclass(frozen=True)
class ShowcaseOptions:
    """Options of the README's pictures."""

    output: str = "docs"  # folder that they are written to
    checkpoint: str = "sharp"  # a sharp checkpoint, or the name of one that comes with the package
    dataset: str = "samples"  # name or path; it is prepared where it is not yet
    clip: str = "bikes"  # its name in the data set
    start: int = 222  # number of frame 0
    gap: int = 8  # frame 1 is so many frames later
    input_size: int = 256  # pixels, side of the square frames
    turn: float = 0.03  # radians by which the camera swings to either side
    data_root: str = "data"  # folder of samples and cache

    def __post_init__(self) -> None:
        if self.start < 0 or self.gap < 1:
            raise ConfigError(f"start is {self.start} and gap {self.gap}: give a frame number of at least 0 and a distance of at least 1.")
        if not 0 < self.turn <= 0.5:
            raise ConfigError(f"turn is {self.turn}: give radians above 0 and up to 0.5.")


def showcase(options: ShowcaseOptions) -> tuple[Path, Path]:
    """Write the strip and the animation; returns their paths.

    Raises:
        ConfigError: no such clip, the frames are not within one shot of it, or the checkpoint is not a sharp one.
        MissingInputError, CheckpointError, ClipError: see `load_model` and `prepare_dataset`. StorageError: they cannot be written.
    """
    model = load_model(options.checkpoint)
    if not isinstance(model, SharpAutoencoder4D):
        raise ConfigError(f"{options.checkpoint} is of preset {model.config.preset!r}, which has no depth: take a sharp checkpoint.")
    clip = clip_of(options)
    first, second = clip.tensor(options.start), clip.tensor(options.start + options.gap)
    folder = Path(options.output)
    paths = save(strip(model, first, second, options.turn), folder / STRIP), folder / ANIMATION
    write_animation(paths[1], list(animation(model, first, second, options.turn)))
    return paths


def clip_of(options: ShowcaseOptions) -> Clip:
    """The clip, checked to show both frames in one shot."""
    data = ready_dataset(options.dataset, options.input_size, options.data_root, None)
    clips = {clip.name: clip for clip in data.clips}
    clip = clips[choice("clip", options.clip, clips)]
    if not any(options.start in shot and options.start + options.gap in shot for shot in clip.shots()):
        shots = ", ".join(f"{shot.start} to {shot.stop - 1}" for shot in clip.shots())
        what = f"Frames {options.start} and {options.start + options.gap} of {clip.name} are not within one shot"
        raise ConfigError(f"{what}: its shots are {shots}, choose start and gap within one.")
    return clip


@torch.inference_mode()
def animation(model: Model, first: Tensor, second: Tensor, turn: float) -> Iterator[Image.Image]:
    """The pictures of the animation; the last one goes on to the first."""
    ends = [model.encode(on_device(model, frame)) for frame in (first, second)]

    def at(t: float, offset: Tensor | None = None) -> Image.Image:
        made = model.synthesise(*ends, t, offset).image.cpu()
        beside = blend(first.cpu(), second.cpu(), (t,))
        return panels(made, beside, t, None if offset is None else float(offset[0]) / turn)

    half = STEPS // 2
    for step in (*range(STEPS + 1), *range(STEPS - 1, half, -1)):
        yield at(step / STEPS)
    for offset in orbit(VIEWS, turn):
        yield at(0.5, offset)
    for step in range(half, 0, -1):
        yield at(step / STEPS)


def panels(made: Tensor, beside: Tensor, t: float, swing: float | None) -> Image.Image:
    """Both pictures (1, 3, H, W) side by side below their names, and below them where time and camera are.

    Args:
        swing: of the camera, from -1 (right) to 1 (left); None where it stands still.
    """
    height, width = made.shape[-2:]
    canvas = Image.new("RGB", (2 * width + GAP, height + 2 * HEADER), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(max(8, min(15, width // 14)))
    middle = HEADER // 2
    for left, picture, name in ((0, made, "vae4d sharp"), (width + GAP, beside, "linear blend")):
        canvas.paste(Image.fromarray(np.ascontiguousarray(to_uint8(picture)[0])), (left, HEADER))
        draw.text((left + width // 2, middle), name, fill=INK, font=font, anchor="mm")
        low = HEADER + height + middle
        moving = swing is not None and left == 0
        draw.text((left + 4, low), "camera" if moving else f"t = {t:.2f}", fill=INK, font=font, anchor="lm")
        begin, end = left + width * 3 // 10, left + width - 8
        place = begin + (end - begin) * (0.5 - swing / 2 if moving else t)
        draw.line((begin, low, end, low), fill=INK, width=1)
        draw.ellipse((place - 5, low - 5, place + 5, low + 5), fill=MARK)
    return canvas


def write_animation(path: Path, pictures: list[Image.Image]) -> None:
    """An animated WebP that loops for ever, in the best quality that is small enough; whole or absent.

    Raises:
        ConfigError: it is too large in any quality.
    """
    with atomic_path(path) as partial:
        for quality in QUALITIES:
            more = {"save_all": True, "append_images": pictures[1:], "duration": math.floor(1000 / RATE), "loop": 0}
            pictures[0].save(partial, "WEBP", quality=quality, method=4, **more)
            if Path(partial).stat().st_size < LARGEST:
                return
        raise ConfigError(f"{path} would be larger than {LARGEST} bytes: choose a smaller input_size.")
