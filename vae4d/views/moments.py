"""Views of what the sharp model says of a moment between two frames: depth, motion, whose pixels, which planes, and the moment as a strip.

Conventions as in figures.py; motion as in `frames.image_flow`. Depth (H, W) in units of the scene's median, known up to scale, is shown as
inverse depth: bright is near. Shares are in [0, 1]. All maps of one kind in a figure share one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ConfigError
from .figures import AMOUNT, WIDTH, as_array, as_images, label_width, picture, plain, side_label, spread, view
from .frames import flow_colours

NEARER = "inverse depth, up to scale (bright: near)"


def depth_limits(depth: np.ndarray) -> tuple[float, float]:
    """Ends of a scale of inverse depth: the 2nd and the 98th percentile, at least a tenth apart, so that a wall stays flat."""
    low, high = np.percentile(1 / depth, [2, 98])
    middle, half = (low + high) / 2, max(high - low, 0.1 * (low + high) / 2) / 2
    return float(middle - half), float(middle + half)


def full_colour(motion: np.ndarray) -> float:
    """Length in pixels of full colour: the 99th percentile of the lengths over axis -3, at least 0.1 px."""
    return max(0.1, float(np.percentile(np.linalg.norm(motion, axis=-3), 99)))


@view
def inverse_depths(depths: Any, titles: Sequence[str], limits: tuple[float, float] | None = None) -> Figure:
    """Depths as inverse depth, side by side, on one scale with a bar.

    Args:
        depths: (N, H, W) > 0.
        titles: N texts.
        limits: ends of the scale; default those of the first one, the truth where there is one.

    Raises:
        ConfigError: another shape, depths that are not positive, or not N titles.
    """
    depths = as_array(depths, "depths", "(N, H, W)").astype(np.float64)
    if depths.min() <= 0 or len(titles) != len(depths):
        what = f"not a depth of {depths.min():g} and {len(titles)} titles"
        raise ConfigError(f"inverse_depths needs depths above 0 and a title for each of {len(depths)}, {what}.")
    low, high = limits or depth_limits(depths[0])
    side = min(3.6, (WIDTH - 1.6) / len(depths))
    fig = picture(max(2.4, side * depths.shape[1] / depths.shape[2] + 0.4), side * len(depths) + 1.6, images=True)
    axes = fig.subplots(1, len(depths), squeeze=False)[0]
    for ax, depth, title in zip(axes, depths, titles, strict=True):
        shown = plain(ax).imshow(1 / depth, cmap=AMOUNT, vmin=low, vmax=high)
        ax.set_title(title)
    fig.colorbar(shown, ax=list(axes), extend="both", label=NEARER.replace(" (", "\n("), fraction=0.04)
    return fig


@view
def share_maps(image: Any, shares: Mapping[str, Any]) -> Figure:
    """A picture, and beside it maps of shares on one scale from 0 to 1: who made a pixel, how much of its motion is its own.

    Below each map stands its mean.

    Args:
        image: (3, H, W) in [0, 1].
        shares: name -> (H, W) in [0, 1].

    Raises:
        ConfigError: no map, another size than the picture's, or values outside [0, 1].
    """
    (shown,) = as_images([image], "image")
    maps = {name: as_array(values, f"shares[{name!r}]", "(H, W)") for name, values in shares.items()}
    for name, values in maps.items():
        if values.shape != shown.shape[:2] or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            what = f"{values.shape} from {values.min():.3g} to {values.max():.3g}"
            raise ConfigError(f"shares[{name!r}] must be {shown.shape[:2]}, the picture's size, and lie in [0, 1], not {what}.")
    if not maps:
        raise ConfigError("share_maps needs at least one map: give shares by name.")
    side = min(2.6, (WIDTH - 1.2) / (1 + len(maps)))
    fig = picture(side * shown.shape[0] / shown.shape[1] + 0.8, side * (1 + len(maps)) + 1.2, images=True)
    axes = fig.subplots(1, 1 + len(maps))
    plain(axes[0]).imshow(shown, vmin=0, vmax=1)
    axes[0].set_title("picture")
    for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
        drawn = plain(ax).imshow(values, cmap=AMOUNT, vmin=0, vmax=1)
        ax.set_title(name)
        ax.set_xlabel(f"mean {values.mean():.1%}")
    fig.colorbar(drawn, ax=list(axes), label="share", fraction=0.03)
    return fig


@view
def density_planes(density: Any, inverse_depths: Any, count: int = 8) -> Figure:
    """Slices of a depth volume from near to far: how much of every pixel each plane of inverse depth is.

    Args:
        density: (D, h, w), shares that add up to 1 over D.
        inverse_depths: (D,) of the planes, from far to near, in units of the inverse of the scene's median depth.
        count: how many planes, the middles of so many equal parts.

    Raises:
        ConfigError: another shape, or not D inverse depths.
    """
    density = as_array(density, "density", "(D, h, w)")
    places = as_array(inverse_depths, "inverse_depths", f"({len(density)},)")
    slices = spread(len(density), count)[::-1]
    columns = min(4, len(slices))
    lines = -(-len(slices) // columns)
    side = min(2.8, (WIDTH - 1.4) / columns)
    fig = picture(lines * (side * density.shape[1] / density.shape[2] + 0.4), side * columns + 1.4, images=True)
    axes = fig.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(slices) :]:
        ax.set_axis_off()
    for ax, plane in zip(axes.flat, slices, strict=False):
        shown = plain(ax).imshow(density[plane], cmap=AMOUNT, vmin=0, vmax=1)
        end = {slices[0]: ", near", slices[-1]: ", far"}.get(plane, "") if len(slices) > 1 else ""
        ax.set_title(f"depth {1 / places[plane]:.2g}{end} ({density[plane].mean():.0%})")
    fig.colorbar(shown, ax=list(axes.flat), label="share of a pixel that lies on the plane", fraction=0.03)
    return fig


@view
def density_projections(volumes: Mapping[str, Any], inverse_depths: Any, limit: float | None = None) -> Figure:
    """Depth volumes from the front, from above and from the side, one row each, such as the truth's and a model's.

    From the front: the largest share that one plane has of a pixel; 1 where the depth is sure. From above and from the side: a histogram,
    which share of a column (a row) of pixels lies how deep; the camera stands below (on the left). Planes are evenly spaced in the
    logarithm of depth.

    Args:
        volumes: name -> (D, h, w), shares that add up to 1 over D; all of one shape.
        inverse_depths: (D,) of the planes, from far to near.
        limit: end of the histograms' scale; default the largest share of all volumes.

    Raises:
        ConfigError: no volume, shapes that differ, or not D inverse depths.
    """
    shares = {name: as_array(values, f"volumes[{name!r}]", "(D, h, w)").astype(np.float64) for name, values in volumes.items()}
    if len({values.shape for values in shares.values()}) != 1:
        raise ConfigError(f"density_projections needs volumes (D, h, w) of one shape, not {[values.shape for values in shares.values()]}.")
    depth, height, width = next(iter(shares.values())).shape
    places = as_array(inverse_depths, "inverse_depths", f"({depth},)")
    limit = limit or max(float(values.mean(axis).max()) for values in shares.values() for axis in (1, 2))
    margin = label_width(shares)
    line = (WIDTH - margin - 2.4) / 3 * height / width + 0.75
    fig = picture(line * len(shares) + 0.2, WIDTH)
    axes = fig.subplots(len(shares), 3, squeeze=False)
    ticks = np.arange(0, depth, -(-depth // 4))
    far = [f"{1 / places[tick]:.2g}" for tick in ticks]
    for (front, top, side), (name, values) in zip(axes, shares.items(), strict=True):
        sure = plain(front).imshow(values.max(0), cmap=AMOUNT, vmin=0, vmax=1)
        side_label(front, name)
        top.imshow(values.mean(1), cmap=AMOUNT, vmin=0, vmax=limit, aspect="auto", interpolation="nearest")
        shown = side.imshow(values.mean(2)[::-1].T, cmap=AMOUNT, vmin=0, vmax=limit, aspect="auto", interpolation="nearest")
        top.set_yticks(ticks, far)
        side.set_xticks(depth - 1 - ticks, far)
        top.set(ylabel="depth (below: near)", xlabel="columns", xticks=[])
        side.set(xlabel="depth (left: near)", ylabel="rows", yticks=[])
    for ax, title in zip(axes[0], ("front: how sure", "from above", "from the side"), strict=True):
        ax.set_title(title)
    fig.colorbar(sure, ax=list(axes[:, 0]), label="largest share of a plane", location="left", fraction=0.06)
    fig.colorbar(shown, ax=list(axes[:, 2]), label="share of a column or row", fraction=0.06)
    return fig


@view
def moment_strip(
    images: Any, titles: Sequence[str], depth: Any, motion: Any, more: Mapping[str, Any], limit: float | None = None
) -> Figure:
    """Two frames with the moments between them; below, depth and motion halfway, and more pictures of that moment.

    Args:
        images: (N, 3, H, W) in [0, 1], frame 0 first, frame 1 last, N at least 3.
        titles: N texts.
        depth: (H, W) > 0.
        motion: (2, H, W) in pixels, from frame 0 to frame 1.
        more: name -> (3, H, W), such as pictures from moved cameras; at most N - 2.
        limit: length in pixels of full colour; default the 99th percentile of the lengths.

    Raises:
        ConfigError: shapes that differ, not N titles, or too many pictures.
    """
    shown = as_images(images, "images")
    size = shown.shape[1:3]
    below = {name: image for name, image in zip(more, as_images(list(more.values()), "more"), strict=True)} if more else {}
    if len(shown) < 3 or len(titles) != len(shown) or len(below) > len(shown) - 2:
        what = f"{len(shown)} images, {len(titles)} titles and {len(below)}"
        raise ConfigError(f"moment_strip needs 3 images or more, a title for each, and at most 2 more pictures fewer, not {what}.")
    depth, motion = as_array(depth, "depth", f"({size[0]}, {size[1]})"), as_array(motion, "motion", f"(2, {size[0]}, {size[1]})")
    if any(image.shape[:2] != size for image in below.values()) or depth.min() <= 0:
        raise ConfigError(f"moment_strip needs pictures of {size[0]} x {size[1]}, the size of the images, and depths above 0.")
    limit = limit or full_colour(motion)
    side = (WIDTH - 0.2) / len(shown)
    fig = picture(2 * (side * size[0] / size[1] + 0.42), WIDTH, images=True)
    axes = fig.subplots(2, len(shown))
    for ax, image, title in zip(axes[0], shown, titles, strict=True):
        plain(ax).imshow(image, vmin=0, vmax=1)
        ax.set_title(title)
    low, high = depth_limits(depth)
    plain(axes[1, 0]).imshow(1 / depth, cmap=AMOUNT, vmin=low, vmax=high)
    axes[1, 0].set_title("depth (bright: near)")
    plain(axes[1, 1]).imshow(flow_colours(motion[None], limit)[0])
    axes[1, 1].set_title("motion")
    wheel(axes[1, 1], limit)
    for ax, (name, image) in zip(axes[1, 2:], below.items(), strict=False):
        plain(ax).imshow(image, vmin=0, vmax=1)
        ax.set_title(name)
    for ax in axes[1, 2 + len(below) :]:
        ax.set_axis_off()
    return fig


def wheel(ax: Axes, limit: float) -> None:
    """The colours of motion in a corner of a map: the rim is `limit` pixels long, and a vector points from the middle."""
    small = ax.inset_axes((0.7, 0.02, 0.28, 0.28))
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101)))
    colours = np.dstack([flow_colours(grid[None], 1.0)[0], np.where(np.linalg.norm(grid, axis=0) <= 1, 255, 0).astype(np.uint8)])
    plain(small).imshow(colours, extent=(-1, 1, 1, -1))
    small.set_facecolor("none")
    small.add_patch(matplotlib.patches.Circle((0, 0), 1, fill=False, color="black", linewidth=1))
    outline = [matplotlib.patheffects.withStroke(linewidth=3, foreground="white")]
    ax.text(0.69, 0.05, f"{limit:.2g} px", transform=ax.transAxes, ha="right", fontsize=12, path_effects=outline)
