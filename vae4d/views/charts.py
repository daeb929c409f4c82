"""Views of numbers over time: losses and camera paths.

Conventions:
    A trajectory is (T, 3, 4), [R | t] per frame: the camera stands at t, and the columns of R are its x (right),
    y (down) and z (forward) axes. Lengths are in units of the normalised cube and known up to scale.
    Angles follow R = Rx(x) Ry(y) Rz(z) and are shown in degrees.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter

from ..errors import ConfigError, MissingInputError
from .figures import LINES, MARKERS, PALETTE, WIDTH, as_array, pick, picture, view

UNITS = {"psnr": "dB"}  # of columns that have one
SPARSE = 40  # curves of fewer points (validation) get markers and are not smoothed


def smoothed(values: np.ndarray, factor: float) -> np.ndarray:
    """Exponential moving average, s <- factor s + (1 - factor) v, without the pull of the zero it starts from."""
    result, state = np.empty(len(values)), 0.0
    for i, value in enumerate(values):
        state = factor * state + (1 - factor) * value
        result[i] = state / (1 - factor ** (i + 1))
    return result


@view
def loss_curves(
    sources: Any,
    columns: Sequence[str | Sequence[str]],
    labels: Sequence[str] | None = None,
    smoothing: float = 0.9,
    x: str = "step",
    log: bool = False,
) -> Figure:
    """Losses over training, one panel per entry of `columns`, one curve per source and column.

    Rows in which a column is empty are left out. Raw values are drawn pale, their moving average strong; a curve of
    fewer than 40 points (validation) is drawn as it is, with markers.

    Args:
        sources: a CSV path or a DataFrame, or several, also by name (see `training_tables`).
        columns: column names; a group of names shares a panel.
        labels: one name per source, for the legend; default those of `sources`.
        smoothing: weight of the past in the moving average, in [0, 1).
        x: column for the horizontal axis; the row number where a source lacks it.
        log: logarithmic losses.

    Raises:
        MissingInputError: a CSV that does not exist. ConfigError: unreadable CSV, unknown column, wrong labels or smoothing.
    """
    if isinstance(sources, Mapping):
        labels, sources = labels or list(sources), list(sources.values())
    sources = [sources] if isinstance(sources, (str, os.PathLike, pd.DataFrame)) else list(sources)
    tables = [source if isinstance(source, pd.DataFrame) else read_losses(source) for source in sources]
    if not 0 <= smoothing < 1:
        raise ConfigError(f"smoothing must be at least 0 and below 1, not {smoothing}.")
    if labels is not None and len(labels) != len(tables):
        raise ConfigError(f"labels must hold {len(tables)} names, one per source, not {len(labels)}.")
    groups = [[column] if isinstance(column, str) else list(column) for column in columns]
    known = sorted({str(name) for table in tables for name in table.columns})
    for name in [name for group in groups for name in group]:
        if name not in known:
            raise ConfigError(f"There is no loss column {name!r}: choose from {', '.join(known)}.")
    if not groups or not tables:
        raise ConfigError("loss_curves needs at least one source and one column.")
    lines = -(-len(groups) // 3)
    across = -(-len(groups) // lines)
    fig = picture(3.6 * lines, max(6.5, WIDTH / 3 * across))
    axes = fig.subplots(lines, across, squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, group in zip(axes.flat, groups, strict=False):
        for style, (name, (i, table)) in enumerate(product(group, enumerate(tables))):
            if name in table and table[name].notna().any():
                label = " ".join([*(labels[i : i + 1] if labels else []), *([name] if len(group) > 1 else [])])
                draw_losses(ax, table, x, name, style, label, smoothing)
        ax.set(title=", ".join(group), xlabel=x, ylabel=UNITS.get(group[0], ""), yscale="log" if log else "linear")
        if log:
            ax.yaxis.set_major_formatter(LogFormatter())  # the default ones write mathtext, which the style turns off
            ax.yaxis.set_minor_formatter(LogFormatter())
        ax.grid(alpha=0.3)
        if any(text for text in ax.get_legend_handles_labels()[1]):
            ax.legend(frameon=False)
    return fig


def training_tables(folder: str | os.PathLike) -> dict[str, pd.DataFrame]:
    """What the training in a folder has written so far, "training" and "validation", for `loss_curves`.

    The loss of a validation is left out: it weighs its terms in another way than that of the training, so one panel would compare them.
    """
    paths = {"training": Path(folder) / "losses.csv", "validation": Path(folder) / "validation.csv"}
    tables = {name: read_losses(path) for name, path in paths.items() if path.is_file()}
    if "validation" in tables:
        tables["validation"] = tables["validation"].drop(columns="loss", errors="ignore")
    return tables


def read_losses(path: str | os.PathLike) -> pd.DataFrame:
    """A CSV of losses, with errors that say what to do."""
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"There is no loss file {path}: run the training first.")
    try:
        return pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a readable CSV of losses ({error}): give the file that training wrote.") from error


def draw_losses(ax: Axes, table: pd.DataFrame, x: str, name: str, style: int, label: str, smoothing: float) -> None:
    """One curve of `loss_curves`; colour, line and marker all change with `style`."""
    rows = table[table[name].notna()]
    across = (rows[x] if x in rows else rows.index.to_series()).to_numpy(float)
    values = rows[name].to_numpy(float)
    colour, line, marker = PALETTE[style % len(PALETTE)], LINES[style % len(LINES)], MARKERS[style % len(MARKERS)]
    if len(values) < SPARSE:
        ax.plot(across, values, color=colour, linestyle=line, marker=marker, label=label)
        return
    if smoothing:
        ax.plot(across, values, color=colour, alpha=0.25, linewidth=1)
    ax.plot(across, smoothed(values, smoothing), color=colour, linestyle=line, label=label)


def angles(rotations: np.ndarray) -> np.ndarray:
    """(T, 3, 3) with R = Rx(x) Ry(y) Rz(z) -> (T, 3) degrees (x, y, z), without jumps of 360 degrees."""
    x = np.arctan2(-rotations[:, 1, 2], rotations[:, 2, 2])
    y = np.arcsin(rotations[:, 0, 2].clip(-1, 1))
    z = np.arctan2(-rotations[:, 0, 1], rotations[:, 0, 0])
    return np.degrees(np.unwrap(np.stack([x, y, z], axis=1), axis=0))


@view
def camera_path(trajectory: Any, cameras: int = 8, unit: str = "cube units") -> Figure:
    """A camera's path: frusta in space, the view from above, and translation and angles over frames.

    Args:
        trajectory: (T, 3, 4), [R | t] per frame.
        cameras: at most so many frusta, evenly spread over the path.
        unit: of the translations.

    Raises:
        ConfigError: another shape, or `cameras` below 1.
    """
    poses = as_array(trajectory, "trajectory", "(T, 3, 4)").astype(np.float64)
    rotation, place = poses[:, :, :3], poses[:, :, 3]
    extent = float(np.ptp(place, axis=0).max()) or 1.0
    fig = picture(5.4, 13.0)
    grid = fig.add_gridspec(2, 3, width_ratios=(1.35, 1, 1))
    chosen = pick(len(poses), cameras)
    draw_frusta(fig.add_subplot(grid[:, 0], projection="3d"), rotation[chosen], place, place[chosen], extent)
    top = fig.add_subplot(grid[:, 1])
    top.plot(place[:, 0], place[:, 2], color=PALETTE[0])
    ahead = rotation[chosen][:, :, 2]
    scale = {"angles": "xy", "scale_units": "xy", "scale": 6 / extent, "width": 0.008}
    top.quiver(*place[chosen][:, [0, 2]].T, ahead[:, 0], ahead[:, 2], color="black", **scale)
    for marker, i, name in (("o", 0, "first frame"), ("s", -1, "last frame")):
        top.plot(*place[i, [0, 2]], marker, color=PALETTE[1], markersize=9, label=name)
    middle = (place.max(0) + place.min(0))[[0, 2]] / 2
    reach = 0.75 * extent
    top.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach), aspect="equal")
    top.set(title="from above (arrows: forward)", xlabel="x (right)", ylabel="z (forward)")
    top.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    for row, values, title in ((0, place, f"translation ({unit})"), (1, angles(rotation), "rotation about (degrees)")):
        ax = fig.add_subplot(grid[row, 2])
        for k, name in enumerate("xyz"):
            ax.plot(values[:, k], color=PALETTE[k], linestyle=LINES[k], label=name)
        ax.set(xlabel="frame" if row else "")
        ax.set_title(title, loc="right")  # the power of ten stands on the left
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.ticklabel_format(axis="y", scilimits=(-2, 4))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    top.ticklabel_format(scilimits=(-2, 4))
    top.locator_params(nbins=4)
    return fig


def draw_frusta(ax: Axes, rotations: np.ndarray, path: np.ndarray, places: np.ndarray, extent: float) -> None:
    """Pyramids at `places` looking along their z axes, joined by `path`; the first is drawn in another colour."""
    near = 0.2 * extent
    corners = near * np.array([[-0.7, -0.5, 1], [0.7, -0.5, 1], [0.7, 0.5, 1], [-0.7, 0.5, 1]])
    order = np.array([0, 1, 2, 3, 0])
    # matplotlib's third axis points up: it shows y, turned over; forward goes away from the reader
    ax.plot(path[:, 0], path[:, 2], path[:, 1], color=PALETTE[0])
    for i, (rotation, place) in enumerate(zip(rotations, places, strict=True)):
        rim = corners @ rotation.T + place
        style = {"color": PALETTE[1] if i == 0 else "black", "linewidth": 2.2 if i == 0 else 1.1}
        ax.plot(rim[order, 0], rim[order, 2], rim[order, 1], **style)
        for corner in rim:
            ax.plot(*zip(place[[0, 2, 1]], corner[[0, 2, 1]], strict=True), **style)
    middle, reach = (path.max(0) + path.min(0)) / 2, 0.7 * extent
    low, high = middle - reach, middle + reach
    ax.set(xlim=(low[0], high[0]), ylim=(low[2], high[2]), zlim=(high[1], low[1]))
    ax.set(xlabel="x (right)", ylabel="z (forward)", zlabel="y (down)")
    ax.set_box_aspect((1, 1, 1), zoom=0.88)
    ax.set(title="cameras (first one thick)")
    ax.view_init(elev=22, azim=-70)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(NullFormatter())  # the other panels give the numbers; here they would collide
