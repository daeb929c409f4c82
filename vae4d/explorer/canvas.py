"""Pictures for the eye: side by side, split, or as error maps, enlarged and captioned.

Conventions: input is float (3, H, W) in [0, 1], all of one size; output is a PIL image in RGB. Errors are prediction minus truth, mean over
RGB, in grey levels (1/255): blue too dark, white right, red too bright, on one scale with its bar for all that stand together.
No matplotlib figure is drawn: a picture is to follow a hand.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import ConfigError
from ..metrics import psnr, to_uint8
from ..views.figures import SIGNED

WIDTH = 1056  # px of the canvas, at most, where a side of TILE allows it
TILE = (192, 448)  # px, least and most of an enlarged picture's width
GAP, LINE = 8, 30  # px between pictures, and of a line of text
COLUMNS = 3
INK, PAPER = (0, 0, 0), (255, 255, 255)
LIMITS = (5, 10, 20, 40, 80, 160, 255)  # grey levels at the end of an error scale, so that it is steady while a slider moves


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface; it has few signs beyond ASCII."""
    return ImageFont.load_default(size)


def as_png(image: Image.Image) -> bytes:
    """The bytes of a PNG, compressed little but fast."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def tile_width(count: int, width: int) -> int:
    """The width in px to which `count` pictures of `width` px are enlarged; never less than their own."""
    columns = min(count, COLUMNS)
    return max(width, TILE[0], min(TILE[1], (WIDTH + GAP) // columns - GAP))


def enlarged(image: Tensor, width: int) -> Image.Image:
    """A picture (3, H, W) enlarged to `width` px."""
    small = Image.fromarray(np.ascontiguousarray(to_uint8(image[None])[0]))
    return small.resize((width, round(width * small.height / small.width)), Image.Resampling.BICUBIC)


def side_by_side(pictures: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> Image.Image:
    """Pictures in a grid of up to three columns, each below its name and a note in smaller type.

    Raises:
        ConfigError: no picture, or sizes that differ.
    """
    if not pictures or len({tuple(image.shape) for image in pictures.values()}) > 1:
        sizes = [tuple(image.shape) for image in pictures.values()]
        raise ConfigError(f"Pictures to compare have one size, and there is at least one, not {sizes}: choose a method.")
    width = tile_width(len(pictures), next(iter(pictures.values())).shape[-1])
    return grid({name: enlarged(image, width) for name, image in pictures.items()}, notes or {})


def grid(tiles: Mapping[str, Image.Image], notes: Mapping[str, str], footer: int = 0) -> Image.Image:
    """Tiles of one size below their names and notes, with `footer` px of white below all."""
    width, height = next(iter(tiles.values())).size
    columns = min(len(tiles), COLUMNS)
    rows = -(-len(tiles) // columns)
    head = 2 * LINE  # whether there is a note or not: a picture that follows a hand, or a film, does not jump
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + head + GAP) - GAP + footer), PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (name, tile) in enumerate(tiles.items()):
        left, top = place % columns * (width + GAP), place // columns * (height + head + GAP)
        text(draw, (left + width // 2, top + LINE // 2), name, 24, width)
        text(draw, (left + width // 2, top + LINE + LINE // 2), notes.get(name, ""), 19, width)
        canvas.paste(tile, (left, top + head))
    return canvas


def text(draw: ImageDraw.ImageDraw, middle: tuple[int, int], words: str, size: int, width: int) -> None:
    """Words centred at `middle`, in smaller type (to 12 px) where they would be wider than `width`."""
    while size > 12 and font(size).getlength(words) > width:
        size -= 1
    draw.text(middle, words, fill=INK, font=font(size), anchor="mm")


def split(pictures: Mapping[str, Tensor], fraction: float) -> Image.Image:
    """The left part of the first picture and the right part of the second, with a line between them and their names above.

    Args:
        pictures: two by name. fraction: in [0, 1], of the width that the first one takes.
    Raises:
        ConfigError: not two pictures of one size, or a fraction outside [0, 1].
    """
    if len(pictures) != 2 or len({tuple(image.shape) for image in pictures.values()}) > 1:
        raise ConfigError(f"A split view takes two pictures of one size, not {list(pictures)}: choose two methods.")
    if not 0 <= fraction <= 1:
        raise ConfigError(f"The line of a split view lies at a fraction in [0, 1] of the width, not at {fraction}.")
    (left, first), (right, second) = pictures.items()
    width = max(first.shape[-1], 640)
    whole, other = enlarged(first, width), enlarged(second, width)
    line = round(fraction * width)
    whole.paste(other.crop((line, 0, width, other.height)), (line, 0))
    canvas = Image.new("RGB", (width, whole.height + LINE), PAPER)
    canvas.paste(whole, (0, LINE))
    draw = ImageDraw.Draw(canvas)
    draw.text((2, LINE // 2), f"left: {left}", fill=INK, font=font(24), anchor="lm")
    draw.text((width - 2, LINE // 2), f"right: {right}", fill=INK, font=font(24), anchor="rm")
    place = min(max(line, 1), width - 2)
    draw.line((place, LINE, place, canvas.height), fill=PAPER, width=5)
    draw.line((place, LINE, place, canvas.height), fill=INK, width=1)
    return canvas


@functools.cache
def colours() -> np.ndarray:
    """uint8 (256, 3) from too dark to too bright."""
    return (matplotlib.colormaps[SIGNED](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def error_maps(pictures: Mapping[str, Tensor], truth: Tensor, name: str) -> Image.Image:
    """The truth, and for each picture the map of its error with `error_note`; below all the scale.

    Args:
        pictures: (3, H, W) by name. truth: (3, H, W). name: of the truth.
    Raises:
        ConfigError: no picture, or another size than the truth's.
    """
    if not pictures or any(image.shape != truth.shape for image in pictures.values()):
        raise ConfigError(f"Errors are shown of pictures of the truth's size {tuple(truth.shape)}, and of at least one: choose a method.")
    errors = {who: (image - truth).mean(0).numpy() * 255 for who, image in pictures.items()}
    highest = max(np.percentile(np.abs(error), 99) for error in errors.values())
    limit = next(level for level in LIMITS if level >= min(highest, LIMITS[-1]))
    width = tile_width(1 + len(errors), truth.shape[-1])
    tiles, notes = {name: enlarged(truth, width)}, {name: ""}
    for who, error in errors.items():
        levels = ((error / limit).clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8)
        shown = Image.fromarray(colours()[levels])
        tiles[who] = shown.resize(tiles[name].size, Image.Resampling.NEAREST)
        notes[who] = error_note(pictures[who], truth)
    canvas = grid(tiles, notes, footer=3 * LINE)
    scale(canvas, limit)
    return canvas


def error_note(image: Tensor, truth: Tensor) -> str:
    """PSNR, mean absolute and mean signed error in grey levels, the sign in words: not by colour alone."""
    level = float(psnr(image[None], truth[None])[0])
    if not np.isfinite(level):
        return "equal to the true frame"
    error = (image - truth) * 255
    mean, bias = float(error.abs().mean()), float(error.mean())
    sign = "as bright on average" if abs(bias) < 0.05 else f"{bias:+.1f}, too {'bright' if bias > 0 else 'dark'}"
    return f"{level:.1f} dB, |error| {mean:.1f}; {sign}"


def scale(canvas: Image.Image, limit: float) -> None:
    """The scale of error maps in the lowest three lines of a canvas."""
    width = min(canvas.width - 4, 480)
    left, top = (canvas.width - width) // 2, canvas.height - 3 * LINE + 10
    canvas.paste(Image.fromarray(colours()[None]).resize((width, LINE - 8)), (left, top))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((left, top, left + width, top + LINE - 8), outline=INK)
    low = top + LINE + 4
    draw.text((left, low), f"-{limit:g} too dark", fill=INK, font=font(19), anchor="lm")
    draw.text((left + width // 2, low), "0", fill=INK, font=font(19), anchor="mm")
    draw.text((left + width, low), f"too bright +{limit:g}", fill=INK, font=font(19), anchor="rm")
    draw.text((left + width // 2, low + LINE - 6), "error in grey levels", fill=INK, font=font(19), anchor="mm")
