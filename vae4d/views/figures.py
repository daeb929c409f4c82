"""What every view shares: the figure, its style and colours, checks of the input, and saving.

Conventions:
    Images are RGB, shown as (N, H, W, 3) float in [0, 1]; input may be (N, 3, H, W) or uint8, numpy or torch.
    A grey level is 1/255 of the colour range. Colours are safe for colour-blind readers (Okabe and Ito's set,
    cividis, red-blue and orange-purple diverging maps), and nothing is told by colour alone.
    Figures are made without pyplot: no global state, no window, nothing to close.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..errors import ConfigError
from ..files import atomic_path

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
AMOUNT = "cividis"  # from nothing to much
AMOUNT_ON_WHITE = "cividis_r"  # for thin strokes on a white ground: much is dark
SIGNED = "RdBu_r"  # error maps: blue too dark, white right, red too bright
THROUGH = "PuOr"  # signed, not to be mistaken for an error map
WIDTH = 12.0  # inches; with 13 point type a figure stays legible on a projector
STYLE = {
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 2.0,
    "text.parse_math": False,  # names of files stand in titles, and may hold dollar signs
    "text.usetex": False,
}


LARGE = 250_000  # bytes of a PNG
QUALITY = 92  # of a JPEG without chroma subsampling, about 44 dB


class Picture(Figure):
    """A Figure that Jupyter shows without pyplot, and that keeps its style whenever it is drawn."""

    def draw(self, renderer) -> None:
        with matplotlib.rc_context(STYLE):  # ticks are made while drawing and take their size from here
            super().draw(renderer)

    def savefig(self, *args, **kwargs) -> None:
        with matplotlib.rc_context(STYLE):  # the layout may make ticks before anything is drawn
            super().savefig(*args, **kwargs)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, bytes]:
        """PNG, or JPEG where that is large, as of photographs: a notebook keeps every picture, and so it is a third of the size."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        if len(buffer.getvalue()) <= LARGE:
            return {"image/png": buffer.getvalue()}
        smaller = io.BytesIO()
        Image.open(buffer).convert("RGB").save(smaller, "JPEG", quality=QUALITY, subsampling=0)
        return {"image/jpeg": smaller.getvalue()}


def picture(height: float, width: float = WIDTH, images: bool = False) -> Picture:
    """An empty figure of `width` x `height` inches that lays itself out, for grids of images without gaps."""
    return Picture(figsize=(width, height), dpi=100, layout="compressed" if images else "constrained")


def view(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of every view: draws in the shared style, whatever the caller's matplotlib settings are."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def save(fig: Figure, path: str | os.PathLike) -> Path:
    """Write `fig` as a PNG, whole or not at all; equal figures give equal bytes.

    Raises:
        ConfigError: `path` does not end in .png.
        StorageError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"Figures are saved as PNG, not as {path.name}: give a path that ends in .png.")
    with atomic_path(path) as partial:
        fig.savefig(partial, format="png", metadata={"Software": None})
    return path


def as_array(value: Any, name: str, expected: str) -> np.ndarray:
    """`value` (numpy, torch, lists) as a finite numpy array of the shape `expected`, e.g. "(D, h, w, 3)".

    Numbers in `expected` must be met exactly, names stand for any size of at least 1.

    Raises:
        ConfigError: another shape, or values that are not finite; the sentence names `expected`.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()  # numpy knows no bfloat16
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ConfigError(f"{name} must be an array of shape {expected}, but its parts differ in shape.") from error
    sizes = expected.strip("()").replace(" ", "").rstrip(",").split(",")
    fits = array.ndim == len(sizes) and array.size > 0
    if not fits or any(size.isdigit() and int(size) != n for size, n in zip(sizes, array.shape, strict=True)):
        raise ConfigError(f"{name} must have the shape {expected}, not {array.shape}.")
    if not np.issubdtype(array.dtype, np.number):
        raise ConfigError(f"{name} must hold numbers in the shape {expected}, not {array.dtype}.")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} of shape {expected} holds values that are not finite: look for the step that made them.")
    return array


def as_images(frames: Any, name: str = "frames") -> np.ndarray:
    """`frames` as float32 (N, H, W, 3) in [0, 1], values outside clipped.

    Args:
        frames: (N, 3, H, W) or (N, H, W, 3), or a list of such images; uint8, or float in [0, 1].

    Raises:
        ConfigError: another shape, or float values that look like grey levels (above 10).
    """
    if isinstance(frames, (list, tuple)):
        parts = [as_array(frame, f"{name}[{i}]", "(3, H, W)" if first_is_colour(frame) else "(H, W, 3)") for i, frame in enumerate(frames)]
        if len({part.shape for part in parts}) != 1:
            raise ConfigError(f"{name} must have the shape (N, 3, H, W), but its images have {sorted({part.shape for part in parts})}.")
        frames = np.stack(parts)
    colour_first = np.ndim(frames) == 4 and np.shape(frames)[1] == 3
    array = as_array(frames, name, "(N, 3, H, W)" if colour_first or np.ndim(frames) != 4 else "(N, H, W, 3)")
    array = np.moveaxis(array, 1, -1) if colour_first else array
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.max() > 10:
        raise ConfigError(f"{name} of float values must lie in [0, 1], but reach {array.max():.0f}: divide by 255 or give uint8.")
    return array.astype(np.float32).clip(0, 1)


def first_is_colour(frame: Any) -> bool:
    """Whether one image has its three colours in the first axis."""
    return np.ndim(frame) == 3 and np.shape(frame)[0] == 3


def plain(ax: Axes) -> Axes:
    """Take ticks and frame off an axes that shows an image; its title and labels stay."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def side_label(ax: Axes, text: str) -> None:
    """Write `text` upright to the left of an image."""
    ax.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8)


def label_width(names: Iterable[str]) -> float:
    """Inches that `side_label` needs for the longest line of `names`."""
    return 0.2 + 0.115 * max((len(line) for name in names for line in name.split("\n")), default=0)


def pick(length: int, count: int) -> np.ndarray:
    """At most `count` of the indices 0..length-1, evenly spread, first and last included."""
    if count < 1:
        raise ConfigError(f"count must be at least 1, not {count}.")
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))


def spread(length: int, count: int) -> np.ndarray:
    """The middles of `count` equal parts of the indices 0..length-1; every index where there are not more."""
    if count < 1:
        raise ConfigError(f"count must be at least 1, not {count}.")
    count = min(count, length)
    return ((np.arange(count) + 0.5) * length / count).astype(int)
