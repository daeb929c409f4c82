"""What a pixel hangs on, drawn: the pixels of both frames, and the voxels of both codes.

Conventions: pixels and cells as (row, column). Importance is a gradient's size (`vae4d.attention`), at least 0. What frame 0 and frame 1
say shares one scale: that of the given pixels in one row, that of the voxels in the other. Ink grows with the square root of the
importance, as few voxels hold most of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import ConfigError
from .figures import AMOUNT_ON_WHITE, PALETTE, WIDTH, as_images, picture, plain, view
from .volumes import DEPTH

if TYPE_CHECKING:
    from ..attention import Attention

INK = "#D00000"
HALO = {"markeredgecolor": "black", "markeredgewidth": 3.2}


@view
def pixel_attention(found: Attention, first: Any, second: Any) -> Figure:
    """A pixel, and what made it. Above: the picture with the pixel marked, both frames in pale grey with ink on what the pixel hangs on,
    and the shares in numbers. Below: the voxels of both codes from the front and from above (sums over depth and over rows), and planes.

    Crosses mark where the sharp model took the pixel from.

    Args:
        found: of `vae4d.attention.attention`.
        first, second: (3, H, W) in [0, 1], the frames it was found with.

    Raises:
        ConfigError: frames of another size than the attention's picture.
    """
    if not tuple(found.pixels[0].shape) == tuple(first.shape[-2:]) == tuple(second.shape[-2:]):
        raise ConfigError(f"pixel_attention needs the frames that it was found with, of {tuple(found.pixels[0].shape)} pixels.")
    shown = as_images([found.image, first, second], "frames")
    given = [part.double().numpy() for part in found.pixels]
    near_first = slice(None, None, 1 if found.planes is None else -1)  # the sharp model's planes go from far to near
    voxels = [part.double().numpy()[near_first] for part in found.voxels]
    fig = picture(7.4, WIDTH)
    upper, lower = fig.subfigures(2, 1, height_ratios=(1, 1))
    axes = upper.subplots(1, 4)
    row, column = found.pixel
    plain(axes[0]).imshow(shown[0], vmin=0, vmax=1)
    cross(axes[0], row, column, "o")
    axes[0].set_title(f"the picture, pixel ({row}, {column})")
    # a few pixels often hold most of it: full ink from the most important half percent on
    top = float(np.percentile(np.stack(given), 99.5)) or float(np.stack(given).max()) or 1.0
    for i, (ax, image, part) in enumerate(zip(axes[1:3], shown[1:], given, strict=True)):
        ink = np.sqrt((part / top).clip(max=1))[..., None]
        pale = 0.35 + 0.65 * image.mean(-1, keepdims=True)
        plain(ax).imshow(pale * (1 - ink) + np.array(to_rgb(INK)) * ink, vmin=0, vmax=1)
        if found.sources is not None:
            cross(ax, *found.sources[i].tolist(), "x")
        ax.set_title(f"frame {i}: ink where it counts")
        ax.set_xlabel(f"{part.sum() / (sum(p.sum() for p in given) or 1.0):.0%} of all importance")
    shares(axes[3], found)
    maps = lower.subplots(1, 5)
    limits = [np.sqrt(max(part.sum(axis).max() for part in voxels) or 1.0) for axis in (0, 1)]
    for i, part in enumerate(voxels):
        for ax, axis, limit, name in zip(maps[2 * i : 2 * i + 2], (0, 1), limits, ("front", "from above"), strict=True):
            ax.imshow(np.sqrt(part.sum(axis)), cmap=AMOUNT_ON_WHITE, vmin=0, vmax=limit, aspect="auto", interpolation="nearest")
            ax.set(title=f"code {i}, {name}", xlabel="column", ylabel=DEPTH if axis else "row")
            ax.spines[:].set_visible(True)
            ax.locator_params(nbins=4)
    slices(maps[4], voxels, None if found.planes is None else found.planes.numpy()[near_first])
    lower.supxlabel("voxels: dark is important; front and above each share one scale between the codes", fontsize=12)
    return fig


def cross(ax: Axes, row: float, column: float, marker: str) -> None:
    """A marker that is seen on any ground."""
    ax.plot(column, row, marker, markersize=13, markerfacecolor="none", clip_on=False, **HALO)
    ax.plot(column, row, marker, markersize=13, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.4, clip_on=False)


def shares(ax: Axes, found: Attention) -> None:
    """Who gave the pixel, as bars; a sentence where the model does not say."""
    if found.weights is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "drawn from voxels alone:\nno frame's pixels\nare moved", ha="center", va="center")
        return
    names = ("frame 0", "frame 1", "invented")
    bars = ax.barh(names, found.weights.tolist(), color=(PALETTE[0], PALETTE[1], PALETTE[6]))
    ax.bar_label(bars, [f"{share:.0%}" for share in found.weights.tolist()], padding=3)
    ax.set(xlim=(0, 1.25), xticks=[0, 0.5, 1], title="who gave the colour", xlabel="share")
    ax.invert_yaxis()


def slices(ax: Axes, voxels: list[np.ndarray], planes: np.ndarray | None) -> None:
    """Importance by slice of both codes, and beside it the share of each plane in the pixel, from near to far."""
    total = sum(part.sum() for part in voxels) or 1.0
    for i, part in enumerate(voxels):
        ax.plot(part.sum((1, 2)) / total, np.arange(len(part)), color=PALETTE[i], linestyle=("-", "--")[i], label=f"code {i}")
    if planes is not None:
        ax.barh(np.arange(len(planes)), planes, color="lightgrey", label="plane's share")
    ax.set(title="by slice", xlabel="share", ylabel=DEPTH)
    ax.invert_yaxis()
    ax.locator_params(axis="x", nbins=3)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.legend(frameon=False, fontsize=10)
