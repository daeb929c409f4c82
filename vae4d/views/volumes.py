"""Views of voxel codes and voxel flow.

Conventions:
    A code is (C, D, h, w): channels, depth slices, rows (down), columns (right); its energy is the norm over channels.
    A voxel flow is (D, h, w, 3), an offset (x, y, z) in normalised units, in which the volume spans [-1, 1] along each
    axis. Views show it in voxels: one voxel is 2/w, 2/h, 2/D units. Its sign is the model's (`interface.Synthesis`): an
    arrow points to where a voxel's content comes from, or, where `forward` is set, to where it goes.
    Front is seen along depth, top along rows, side along columns. Slice 0 is near, as `evaluation.faithful_estimates` places the faithful
    model's cube; the sharp model's planes go from far to near, and are turned before they come here (`showcase.visible_flow`).
"""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import ConfigError
from .figures import AMOUNT, AMOUNT_ON_WHITE, THROUGH, WIDTH, as_array, picture, plain, side_label, spread, view

# per projection: name, axis seen along (of D, h, w), labels of columns and rows, flow components of columns and rows
DEPTH = "z (0: near)"
PROJECTIONS = (
    ("front (along depth)", 0, "x (columns)", "y (rows)", 0, 1),
    ("top (along rows)", 1, "x (columns)", DEPTH, 0, 2),
    ("side (along columns)", 2, DEPTH, "y (rows)", 2, 1),
)

REACH = 1.4  # the longest arrow spans so many times the arrows' spacing


def energy(code: np.ndarray) -> np.ndarray:
    """Norm over channels: (C, D, h, w) -> (D, h, w)."""
    return np.linalg.norm(code.astype(np.float64), axis=0)


def principal_colours(code: np.ndarray) -> tuple[np.ndarray, float]:
    """The three strongest principal components over voxels as red, green, blue in [0, 1], (D, h, w, 3).

    Each component is stretched from its 2nd to its 98th percentile; signs are fixed so that equal codes give equal
    colours. The second value is the share of the variance that the three hold. With fewer than three channels or
    where nothing varies the missing colours stay at 0.5.
    """
    voxels = code.reshape(len(code), -1).T.astype(np.float64)
    voxels = voxels - voxels.mean(0)
    values, vectors = np.linalg.eigh(voxels.T @ voxels)
    vectors = vectors[:, ::-1][:, :3]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    parts = voxels @ vectors
    low, high = np.percentile(parts, [2, 98], axis=0)
    colours = np.full((len(voxels), 3), 0.5)
    spread = np.where(high > low, high - low, np.inf)
    colours[:, : parts.shape[1]] = np.where(high > low, (parts - low) / spread, 0.5).clip(0, 1)
    share = values[::-1][:3].sum() / values.sum() if values.sum() > 0 else 1.0
    return colours.reshape(*code.shape[1:], 3), float(share)


@view
def code_slices(code: Any, count: int = 8, limit: float | None = None) -> Figure:
    """Depth slices of a voxel code: above its energy, below its three principal components as colours.

    Equal colours mean similar channel values; the colours themselves mean nothing, and differ between codes.

    Args:
        code: (C, D, h, w).
        count: how many slices, the middles of so many equal parts of the depth.
        limit: end of the energy scale; default the code's largest energy. Give one number to compare codes.

    Raises:
        ConfigError: another shape, or count below 1.
    """
    code = as_array(code, "code", "(C, D, h, w)")
    strength, (colours, share) = energy(code), principal_colours(code)
    limit = limit or float(strength.max()) or 1.0
    slices = spread(code.shape[1], count)
    side = min(2.2, (WIDTH - 2.6) / len(slices))
    fig = picture(2 * side * code.shape[2] / code.shape[3] + 0.5, side * len(slices) + 2.6, images=True)
    axes = fig.subplots(2, len(slices), squeeze=False)
    for c, z in enumerate(slices):
        shown = plain(axes[0, c]).imshow(strength[z], cmap=AMOUNT, vmin=0, vmax=limit)
        axes[0, c].set_title(str(z) if c else f"{DEPTH}\n{z}")
        plain(axes[1, c]).imshow(colours[z], vmin=0, vmax=1)
    side_label(axes[0, 0], "energy")
    side_label(axes[1, 0], f"3 principal\ncomponents\n({share:.0%} of\nvariance)")
    fig.colorbar(shown, ax=list(axes[0]), label="norm", fraction=0.03)
    return fig


@view
def code_projections(code: Any, limit: float | None = None) -> Figure:
    """Three maximum projections of a code's energy: front, top, side, on one scale.

    Args:
        code: (C, D, h, w).
        limit: end of the scale; default the code's largest energy.

    Raises:
        ConfigError: another shape.
    """
    strength = energy(as_array(code, "code", "(C, D, h, w)"))
    limit = limit or float(strength.max()) or 1.0
    fig, axes = projection_axes(strength.shape)
    for ax, (_, axis, *_) in zip(axes, PROJECTIONS, strict=True):
        shown = ax.imshow(upright(strength.max(axis), axis), cmap=AMOUNT, vmin=0, vmax=limit)
    fig.colorbar(shown, ax=list(axes), label="largest channel norm", fraction=0.03)
    return fig


def upright(projected: np.ndarray, axis: int) -> np.ndarray:
    """A projection along `axis` with rows and columns as PROJECTIONS says: the side view comes as (z, y) and is turned."""
    return projected.swapaxes(0, 1) if axis == 2 else projected


def projection_axes(shape: tuple[int, int, int]) -> tuple[Figure, np.ndarray]:
    """A figure with the three labelled axes of a (D, h, w) volume, all in voxels of equal size."""
    depth, height, width = shape
    fig = picture(0.9 + 9.6 * max(depth, height) / (2 * width + depth), WIDTH)
    axes = fig.subplots(1, 3, width_ratios=(width, width, depth))
    for ax, (name, _, across, down, *_) in zip(axes, PROJECTIONS, strict=True):
        ax.set(title=name, xlabel=across, ylabel=down)
        ax.spines[:].set_visible(True)
    return fig, axes


def in_voxels(flow: Any) -> np.ndarray:
    """A voxel flow (D, h, w, 3) of normalised offsets (x, y, z) as float64 offsets in voxels."""
    flow = as_array(flow, "flow", "(D, h, w, 3)").astype(np.float64)
    depth, height, width, _ = flow.shape
    return flow * np.array([width / 2, height / 2, depth / 2])


def arrows(ax: Axes, across: np.ndarray, down: np.ndarray, longest: float, step: int, colour: str, edge: str) -> None:
    """Arrows at every `step`-th pixel of an image; one of `longest` voxels is drawn REACH * `step` pixels long.

    Arrows below a fiftieth of the longest are left out: they would be specks.
    """
    y, x = (part.ravel() for part in np.mgrid[step // 2 : across.shape[0] : step, step // 2 : across.shape[1] : step])
    seen = np.hypot(across[y, x], down[y, x]) > 0.02 * longest
    y, x = y[seen], x[seen]
    shape = {"units": "xy", "width": 0.13 * step, "headwidth": 3.2, "headlength": 3.2, "headaxislength": 2.9, "minlength": 0}
    scale = {"angles": "xy", "scale_units": "xy", "scale": longest / (REACH * step)}
    ax.quiver(x, y, across[y, x], down[y, x], color=colour, edgecolor=edge, linewidth=0.5, **shape, **scale)


def footnote(fig: Figure, voxels: np.ndarray, longest: float, step: float, forward: bool) -> None:
    """Say how long the arrows are and what they mean, or that there are none."""
    if not longest:
        fig.supxlabel("no flow along these slices" if voxels.any() else "no flow anywhere", fontsize=12)
        return
    scale = f"longest arrow: {longest:.3g} voxels, drawn {REACH * step / longest:.3g} times as long"
    fig.supxlabel(f"{scale}; an arrow points to where a voxel {'goes' if forward else 'is sampled from'}", fontsize=12)


@view
def voxel_flow_slices(flow: Any, count: int = 6, limit: float | None = None, forward: bool = False) -> Figure:
    """Depth slices of a voxel flow: arrows in the slice, colour for the part through it, all on one scale.

    Args:
        flow: (D, h, w, 3) normalised offsets (x, y, z).
        count: how many slices, the middles of so many equal parts of the depth.
        limit: end of the colour scale in voxels; default the largest |z part|.
        forward: whether the flow says where a voxel goes, not where it is sampled from.

    Raises:
        ConfigError: another shape, or count below 1.
    """
    voxels = in_voxels(flow)
    slices = spread(len(voxels), count)
    limit = limit or float(np.abs(voxels[..., 2]).max()) or 1.0
    longest = float(np.linalg.norm(voxels[slices][..., :2], axis=-1).max())
    columns = min(3, len(slices))
    lines = -(-len(slices) // columns)
    side = min(4.0, (WIDTH - 1.6) / columns)
    step = max(1, max(voxels.shape[1:3]) // 14)
    fig = picture(lines * (side * voxels.shape[1] / voxels.shape[2] + 0.35) + 0.4, side * columns + 1.6, images=True)
    axes = fig.subplots(lines, columns, squeeze=False)
    for ax in axes.flat[len(slices) :]:
        ax.set_axis_off()
    for ax, z in zip(axes.flat, slices, strict=False):
        shown = plain(ax).imshow(voxels[z, ..., 2], cmap=THROUGH, vmin=-limit, vmax=limit)
        arrows(ax, voxels[z, ..., 0], voxels[z, ..., 1], longest or 1.0, step, "black", "white")
        ax.set_title(f"z = {z}" if z != slices[0] else f"z = {z} (0: near)")
    fig.colorbar(shown, ax=list(axes.flat), label="z part, through the slice (voxels)", fraction=0.04)
    footnote(fig, voxels, longest, step, forward)
    return fig


@view
def voxel_flow_projections(flow: Any, limit: float | None = None, forward: bool = False) -> Figure:
    """Three maximum projections of a voxel flow's length, with the in-plane arrow of the voxel that is seen.

    Args:
        flow: (D, h, w, 3) normalised offsets (x, y, z).
        limit: end of the colour scale in voxels; default the longest vector.
        forward: whether the flow says where a voxel goes, not where it is sampled from.

    Raises:
        ConfigError: another shape.
    """
    voxels = in_voxels(flow)
    length = np.linalg.norm(voxels, axis=-1)
    limit = limit or float(length.max()) or 1.0
    step = max(1, max(voxels.shape[:3]) // 16)
    fig, axes = projection_axes(length.shape)
    fig.set_figheight(fig.get_figheight() + 0.35)
    for ax, (_, axis, _, _, across, down) in zip(axes, PROJECTIONS, strict=True):
        seen = np.expand_dims(length.argmax(axis), axis)
        vectors = upright(np.take_along_axis(voxels, seen[..., None], axis).squeeze(axis), axis)
        shown = ax.imshow(upright(length.max(axis), axis), cmap=AMOUNT_ON_WHITE, vmin=0, vmax=limit)
        arrows(ax, vectors[..., across], vectors[..., down], limit, step, "black", "white")
    fig.colorbar(shown, ax=list(axes), label="length (voxels)", fraction=0.03)
    footnote(fig, voxels, limit if voxels.any() else 0.0, step, forward)
    return fig


@view
def voxel_flow_arrows(flow: Any, count: int = 512, limit: float | None = None, forward: bool = False) -> Figure:
    """A voxel flow as at most `count` arrows in space: the longest vector of each block of voxels.

    Args:
        flow: (D, h, w, 3) normalised offsets (x, y, z).
        count: at most so many arrows; the volume is cut into blocks, equally many along each axis.
        limit: end of the colour scale in voxels; default the longest vector.
        forward: whether the flow says where a voxel goes, not where it is sampled from.

    Raises:
        ConfigError: another shape, or count below 1.
    """
    if count < 1:
        raise ConfigError(f"count must be at least 1, not {count}.")
    voxels = in_voxels(flow)
    limit = limit or float(np.linalg.norm(voxels, axis=-1).max()) or 1.0
    places = strongest(voxels, count)
    z, y, x = places.T
    vectors = voxels[z, y, x]
    size = np.linalg.norm(vectors, axis=1)
    keep = size > 0.02 * limit  # dots of no length hide the others
    (z, y, x), vectors, size = (part[keep] for part in (z, y, x)), vectors[keep], size[keep]
    step = max(voxels.shape[:3]) / max(1, int(round(count ** (1 / 3), 6)))
    drawn = vectors * REACH * step / limit
    fig = picture(6.4, 10.0)
    ax = fig.add_subplot(projection="3d")
    norm = matplotlib.colors.Normalize(0, limit)
    paint = matplotlib.colormaps[AMOUNT_ON_WHITE](norm(size))
    # matplotlib's third axis points up: it shows the rows, turned over; depth goes away from the reader
    if len(size):
        paint = np.tile(paint, (3, 1))  # matplotlib draws all shafts, then each half of all heads
        ax.quiver(x, z, y, drawn[:, 0], drawn[:, 2], drawn[:, 1], colors=paint, arrow_length_ratio=0.4, linewidth=1.6)
    depth, height, width = voxels.shape[:3]
    ax.set(xlim=(0, width), ylim=(0, depth), zlim=(height, 0), xlabel="x (columns)", ylabel=DEPTH, zlabel="y (rows)")
    ax.set_box_aspect((width, depth, height), zoom=0.93)
    ax.view_init(elev=18, azim=-65)
    for axis, length in ((ax.xaxis, width), (ax.yaxis, depth), (ax.zaxis, height)):
        room = max(2, round(5 * length / max(depth, height, width)))  # a short axis holds few numbers
        axis.set_major_locator(MaxNLocator(room, steps=(1, 2, 5, 10), integer=True))
    label = f"length (voxels), {len(size)} arrows"
    fig.colorbar(matplotlib.cm.ScalarMappable(norm, AMOUNT_ON_WHITE), ax=ax, label=label, shrink=0.7, pad=0.08)
    footnote(fig, voxels, limit if voxels.any() else 0.0, step, forward)
    return fig


def strongest(voxels: np.ndarray, count: int) -> np.ndarray:
    """Indices (K, 3) of (D, h, w), K <= count: in each of n x n x n blocks the voxel with the longest vector."""
    per_axis = max(1, int(round(count ** (1 / 3), 6)))
    length = np.linalg.norm(voxels, axis=-1)
    edges = [np.linspace(0, n, min(per_axis, n) + 1).round().astype(int) for n in length.shape]
    found = []
    for a0, a1 in zip(edges[0][:-1], edges[0][1:], strict=True):
        for b0, b1 in zip(edges[1][:-1], edges[1][1:], strict=True):
            for c0, c1 in zip(edges[2][:-1], edges[2][1:], strict=True):
                block = length[a0:a1, b0:b1, c0:c1]
                found.append(np.add(np.unravel_index(block.argmax(), block.shape), (a0, b0, c0)))
    return np.stack(found)
