"""Views of frames, clips and image flow. Conventions as in figures.py; what is to be compared shares one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torchvision.utils import flow_to_image

from ..errors import ConfigError
from .figures import PALETTE, SIGNED, WIDTH, as_array, as_images, label_width, pick, picture, plain, side_label, view

WRAP = 10  # images in a line; a single longer row is broken into lines


@view
def frame_strip(frames: Any, titles: Sequence[str] | None = None, rows: Sequence[str] | None = None) -> Figure:
    """One or more rows of images.

    Args:
        frames: one row (N, 3, H, W), or a sequence of rows, or a dict of rows by name. A row given as a list may
            hold None where it has no image. One row of more than 10 images is broken into lines.
        titles: N texts above the columns (above every image where a row is broken).
        rows: one name per row.

    Raises:
        ConfigError: wrong shapes, rows of different length, or not as many titles or names as there are images or rows.
    """
    lines, rows = rows_of(frames, rows)
    count = len(lines[0])
    if any(len(line) != count for line in lines):
        raise ConfigError(f"All rows of frames must hold the same number of images, not {[len(line) for line in lines]}.")
    if titles is not None and len(titles) != count:
        raise ConfigError(f"titles must hold {count} texts, one per image of a row, not {len(titles)}.")
    if rows is not None and len(rows) != len(lines):
        raise ConfigError(f"rows must hold {len(lines)} names, one per row of frames, not {len(rows)}.")
    broken = len(lines) == 1 and count > WRAP
    columns = -(-count // -(-count // WRAP)) if broken else count
    if broken:
        lines = [lines[0][i : i + columns] for i in range(0, count, columns)]
    height, width = next(image.shape[:2] for line in lines for image in line if image is not None)
    margin = label_width(rows) if rows else 0
    side = min(2.4, (WIDTH - margin) / columns)
    headed = (len(lines) if broken else 1) if titles else 0
    fig = picture(side * height / width * len(lines) + 0.1 + 0.3 * headed, side * columns + margin, images=True)
    axes = fig.subplots(len(lines), columns, squeeze=False)
    for r, line in enumerate(lines):
        for c, ax in enumerate(axes[r]):
            plain(ax).set_aspect("equal")
            if c < len(line) and line[c] is not None:
                ax.imshow(line[c], vmin=0, vmax=1)
            if titles is not None and (broken or r == 0) and c < len(line):
                ax.set_title(titles[r * columns + c])
        if rows is not None and not (broken and r):
            side_label(axes[r, 0], rows[r])
    return fig


def rows_of(frames: Any, names: Sequence[str] | None) -> tuple[list[list[np.ndarray | None]], Sequence[str] | None]:
    """`frames` as rows of (H, W, 3) images or None, and the rows' names (a dict's keys where none are given)."""
    if isinstance(frames, Mapping):
        names, frames = names or list(frames), list(frames.values())
    elif isinstance(frames, (list, tuple)):
        first = next((part for part in frames if part is not None), None)
        frames = [frames] if np.ndim(first) == 3 and not isinstance(first, (list, tuple)) else list(frames)
    else:
        frames = list(frames) if np.ndim(frames) == 5 else [frames]
    rows = []
    for row in frames:
        given = [part is not None for part in row] if isinstance(row, (list, tuple)) else [True] * (np.shape(row)[0] if np.ndim(row) else 0)
        images = iter(as_images([part for part in row if part is not None] if isinstance(row, (list, tuple)) else row))
        rows.append([next(images) if there else None for there in given])
    if not rows:
        raise ConfigError("frames must have the shape (N, 3, H, W) or be rows of that shape, but there are none.")
    return rows, names


@view
def comparison_strip(
    truth: Any, predictions: Mapping[str, Any], t: float | Sequence[float], limit: float | None = None, titles: Sequence[str] | None = None
) -> Figure:
    """Truth, what each method made of it, and each method's error (prediction minus truth, mean over RGB) per frame.

    All error maps share one diverging scale in grey levels, centred at 0. Under each map stands the mean absolute
    error over pixels and colours, in grey levels.

    Args:
        truth: (N, 3, H, W) in [0, 1].
        predictions: method name -> (N, 3, H, W) in [0, 1].
        t: N times (or one for all) written above the columns.
        limit: end of the error scale in grey levels; default the 99th percentile of all |errors|, at least 1.
        titles: N texts to stand above the times.

    Raises:
        ConfigError: shapes that differ from the truth's, no predictions, or not as many times or titles as frames.
    """
    true = as_images(truth, "truth")
    made = {name: as_images(frames, f"predictions[{name!r}]") for name, frames in predictions.items()}
    for name, images in made.items():
        if images.shape != true.shape:
            raise ConfigError(f"predictions[{name!r}] must have the truth's shape (N, H, W, 3) = {true.shape}, not {images.shape}.")
    times = np.broadcast_to(np.asarray(t, dtype=float), len(true)) if np.ndim(t) == 0 else np.asarray(t, dtype=float)
    if not made or times.shape != (len(true),):
        raise ConfigError(f"comparison_strip needs at least one method and {len(true)} times, not {len(made)} and {times.size}.")
    if titles is not None and len(titles) != len(true):
        raise ConfigError(f"titles must hold {len(true)} texts, one per frame, not {len(titles)}.")
    errors = {name: 255 * (images - true) for name, images in made.items()}
    maps = {name: error.mean(-1) for name, error in errors.items()}
    limit = limit or max(1.0, float(np.percentile(np.abs(np.stack(list(maps.values()))), 99)))
    margin = label_width([*made, "minus truth"]) + 1.6
    side = min(2.4, (WIDTH - margin) / len(true))
    total = 1 + 2 * len(made)
    headed = 0.25 * (1 + max(title.count("\n") for title in titles)) if titles else 0
    fig = picture(side * true.shape[1] / true.shape[2] * total + 0.35 + headed + 0.3 * len(made), side * len(true) + margin, images=True)
    axes = fig.subplots(total, len(true), squeeze=False)
    for row, (name, images) in zip(axes, {"truth": true, **made}.items(), strict=False):
        side_label(row[0], name)
        for ax, image in zip(row, images, strict=True):
            plain(ax).imshow(image, vmin=0, vmax=1)
    for row, name in zip(axes[1 + len(made) :], made, strict=True):
        side_label(row[0], f"{name}\nminus truth")
        for ax, image, error in zip(row, maps[name], errors[name], strict=True):
            shown = plain(ax).imshow(image, cmap=SIGNED, vmin=-limit, vmax=limit)
            ax.set_xlabel(f"mean |e| {np.abs(error).mean():.1f}")
    for ax, time, title in zip(axes[0], times, titles or [""] * len(true), strict=True):
        ax.set_title(f"{title}\nt = {time:.2f}".strip())
    # beside all rows, so that the columns stay in line, but only as high as the error maps
    bar = {"shrink": 0.9 * len(made) / total, "anchor": (0.0, 0.03), "aspect": 11 * len(made), "fraction": 0.05}
    fig.colorbar(shown, ax=list(axes.flat), extend="both", label="error in grey levels\n(below 0: too dark)", **bar)
    return fig


def frame_differences(frames: Any, chunk: int = 256) -> np.ndarray:
    """Mean absolute difference of consecutive frames in grey levels, (N-1,), in constant memory.

    Every second pixel of every second row is looked at.

    Args:
        frames: uint8 (N, H, W, 3), may be memory-mapped.
    """
    if np.ndim(frames) != 4 or np.shape(frames)[-1] != 3 or getattr(frames, "dtype", None) != np.uint8 or len(frames) < 2:
        raise ConfigError(f"frames must be at least 2 uint8 frames of the shape (N, H, W, 3), not {np.shape(frames)}.")
    parts = []
    for start in range(0, len(frames) - 1, chunk):
        part = np.asarray(frames[start : start + chunk + 1, ::2, ::2]).astype(np.int16)
        parts.append(np.abs(np.diff(part, axis=0)).mean(axis=(1, 2, 3)))
    return np.concatenate(parts)


@view
def shot_timeline(clip: Any, cuts: Sequence[int] | None = None, duplicates: Sequence[int] | None = None, shots: int = 8) -> Figure:
    """How much each frame differs from the one before, with cuts (dashed, numbered) and repeated frames (crosses).

    Args:
        clip: a prepared Clip, whose cuts and duplicates are used and whose shots' first frames (at most `shots` of
            them) stand above the curve; or the differences alone, (N-1,) in grey levels, entry i-1 for frame i.
        cuts: frames that begin a new shot. duplicates: frames that repeat the frame before.

    Raises:
        ConfigError: differences of another shape, or a cut or duplicate outside 1..N-1.
    """
    frames = getattr(clip, "frames", None)
    differences = as_array(clip if frames is None else frame_differences(frames), "differences", "(N-1,)")
    cuts = np.asarray(getattr(clip, "cuts", ()) if cuts is None else cuts, dtype=int)
    repeats = np.asarray(getattr(clip, "duplicates", ()) if duplicates is None else duplicates, dtype=int)
    for name, marks in (("cuts", cuts), ("duplicates", repeats)):
        if marks.size and not 1 <= marks.min() <= marks.max() <= len(differences):
            raise ConfigError(f"{name} must be frame numbers from 1 to {len(differences)}, not {marks.tolist()}.")
    fig = picture(3.2 if frames is None else 4.8)
    lower = fig
    if frames is not None:
        upper, lower = fig.subfigures(2, 1, height_ratios=(1.6, 3.2))
        starts = np.concatenate([[0], cuts])[pick(len(cuts) + 1, shots)]
        for ax, start in zip(upper.subplots(1, shots), [*starts, *[None] * (shots - len(starts))], strict=True):
            if plain(ax) and start is not None:
                ax.imshow(frames[start])
                ax.set_title(f"frame {start}")
    ax = lower.subplots()
    ax.plot(np.arange(1, len(differences) + 1), differences, color=PALETTE[0], label="difference to the frame before")
    top = max(1.0, 1.18 * float(differences.max()))
    for i, cut in enumerate(cuts):
        ax.axvline(cut, color=PALETTE[1], linestyle="--", linewidth=1.5, label="cut" if i == 0 else None)
        if len(cuts) <= 15:  # more numbers would cover each other
            ax.annotate(str(cut), (cut, top), xytext=(3, -12), textcoords="offset points", color=PALETTE[1])
    if repeats.size:
        ax.plot(repeats, differences[repeats - 1], "kx", markersize=8, clip_on=False, zorder=5, label="repeated frame")
    ax.set(xlim=(0, len(differences) + 1), ylim=(0, top), xlabel="frame", ylabel="grey levels")
    ax.set_title(f"{getattr(clip, 'name', 'clip')}: {len(differences) + 1} frames, {len(cuts)} cuts, {repeats.size} repeated", loc="left")
    lower.legend(loc="outside lower center", ncols=3, frameon=False)
    return fig


@view
def image_flow(flow: Any, titles: Sequence[str] | None = None, limit: float | None = None, arrows: int = 12) -> Figure:
    """Optical flow as colour (direction) and arrows, with a colour wheel in pixels.

    Args:
        flow: (2, H, W) or (N, 2, H, W) in pixels, x to the right and y down; all N share one scale.
        titles: N texts.
        limit: length in pixels of full colour; default the longest vector (1 where nothing moves). Longer ones are drawn as `limit`.
        arrows: arrows along the longer side of an image; their heads keep their true direction, the longest spans one spacing.

    Raises:
        ConfigError: another shape, not N titles, or a limit that is not positive.
    """
    flows = as_array(flow, "flow", "(2, H, W)")[None] if np.ndim(flow) == 3 else as_array(flow, "flow", "(N, 2, H, W)")
    count, _, height, width = flows.shape
    if titles is not None and len(titles) != count:
        raise ConfigError(f"titles must hold {count} texts, one per flow, not {len(titles)}.")
    if limit is not None and limit <= 0:
        raise ConfigError(f"limit must be a length above 0 pixels, not {limit}.")
    limit = limit or float(np.linalg.norm(flows, axis=1).max()) or 1.0
    side = min(4.2, (WIDTH - 2.6) / count)
    fig = picture(max(2.6, side * height / width + (0.4 if titles else 0.1)), side * count + 2.6)
    axes = fig.subplots(1, count + 1, squeeze=False, width_ratios=[side] * count + [2.4])[0]
    step = max(1, round(max(height, width) / arrows))
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    for i, (ax, one, colours) in enumerate(zip(axes[:-1], flows, flow_colours(flows, limit), strict=True)):
        plain(ax).imshow(colours)
        scale = {"angles": "xy", "scale_units": "xy", "scale": limit / step, "width": 0.005, "minlength": 0}
        ax.quiver(x, y, one[0, y, x], one[1, y, x], color="black", **scale)
        ax.set_title(titles[i] if titles else "")
    wheel = np.stack(np.meshgrid(np.linspace(-limit, limit, 201), np.linspace(-limit, limit, 201)))
    colours = flow_colours(wheel[None], limit)[0]
    colours[np.linalg.norm(wheel, axis=0) > limit] = 255
    axes[-1].imshow(colours, extent=(-limit, limit, limit, -limit))
    ticks = [f"{-limit:.3g}", "0", f"{limit:.3g}"]
    axes[-1].set(xticks=[-limit, 0, limit], yticks=[-limit, 0, limit], xlabel="pixels right", ylabel="pixels down")
    axes[-1].set(xticklabels=ticks, yticklabels=ticks)
    return fig


def flow_colours(flows: np.ndarray, limit: float) -> np.ndarray:
    """(N, 2, H, W) pixels -> uint8 (N, H, W, 3), full colour at `limit`; longer vectors are shortened to it.

    flow_to_image scales by the longest vector of its batch, so a plane of length `limit` goes with the batch.
    """
    norm = np.linalg.norm(flows, axis=1, keepdims=True)
    shortened = flows * np.minimum(1, limit / np.maximum(norm, 1e-12))
    reference = np.zeros_like(shortened[:1])
    reference[:, 0] = limit
    batch = torch.from_numpy(np.concatenate([shortened, reference]).astype(np.float32))
    return flow_to_image(batch)[:-1].permute(0, 2, 3, 1).numpy()
