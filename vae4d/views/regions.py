"""Pictures with named boxes on them. Conventions as in figures.py; a box is (top, left, height, width) in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..errors import ConfigError
from .figures import WIDTH, as_images, picture, plain, view

Box = tuple[int, int, int, int]


@view
def regions(images: Any, boxes: Sequence[Mapping[str, Box]], titles: Sequence[str]) -> Figure:
    """Pictures side by side, each with its boxes and their names.

    Args:
        images: (N, 3, H, W) in [0, 1].
        boxes: N times boxes by name.
        titles: N texts.

    Raises:
        ConfigError: not N boxes and titles, or a box that is not within its picture.
    """
    shown = as_images(images, "images")
    if not len(shown) == len(boxes) == len(titles):
        raise ConfigError(f"regions needs boxes and a title for each of {len(shown)} pictures, not {len(boxes)} and {len(titles)}.")
    height, width = shown.shape[1:3]
    side = min(4.2, WIDTH / len(shown))
    fig = picture(side * height / width + 0.5, side * len(shown) + 0.2, images=True)
    outline = [matplotlib.patheffects.withStroke(linewidth=4, foreground="black")]
    for ax, image, named, title in zip(fig.subplots(1, len(shown), squeeze=False)[0], shown, boxes, titles, strict=True):
        plain(ax).imshow(image, vmin=0, vmax=1)
        ax.set_title(title)
        for name, (top, left, tall, wide) in named.items():
            if top < 0 or left < 0 or min(tall, wide) < 1 or top + tall > height or left + wide > width:
                where = f"within {height} x {width} px"
                raise ConfigError(f"Box {name!r} is {(top, left, tall, wide)}: give (top, left, height, width) {where}.")
            ax.add_patch(Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, edgecolor="white", linewidth=1.6, path_effects=outline))
            ax.text(left + wide / 2, top + tall / 2, name, color="white", ha="center", va="center", path_effects=outline)
    return fig
