"""Views of estimates beside the truth of procedural worlds: flow and depth, camera motion, pictures from other cameras.

Conventions:
    Flow (2, S, S) in pixels, x right and y down. Depth (S, S), an estimate up to one factor: it is shown after alignment by the median
    ratio, as it is scored, and as inverse depth. Pose (3, 4) = [R | t], second camera to first, axes x right, y down, z forward, t up to
    a positive factor. What a method does not say is None. A row is one world, and within it truth and estimates share one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ConfigError
from .figures import AMOUNT, WIDTH, as_array, as_images, label_width, picture, plain, side_label, view
from .frames import flow_colours
from .scores import styles

HATCHES = ("", "//", "..", "xx")


@view
def flow_and_depth(
    frames: Any,
    flows: Mapping[str, Sequence[Any]],
    depths: Mapping[str, Sequence[Any]],
    rows: Sequence[str],
    notes: Mapping[str, Sequence[str]],
) -> Figure:
    """Per world: the two given frames, flow and depth by name.

    Args:
        frames: (N, 2, 3, S, S), the given frames of N worlds.
        flows, depths: name -> N arrays; the first name of each is the truth and sets the scales of its row: flow's full colour is the
            99th percentile of the true lengths, inverse depth goes from the 2nd to the 98th percentile of the true one.
        rows: N names.
        notes: "flow NAME" or "depth NAME" -> N texts below the pictures.

    Raises:
        ConfigError: shapes or lengths that differ, or no truth.
    """
    given = [as_images(pair, "frames") for pair in frames]
    if not flows or not depths or any(len(part) != len(given) for part in [*flows.values(), *depths.values(), rows]):
        raise ConfigError(f"flow_and_depth needs the truth first, and {len(given)} arrays and names, one per world, of each method.")
    columns = ["first frame", "second frame", *(f"flow\n{name}" for name in flows), *(f"depth\n{name}" for name in depths)]
    margin = label_width(rows)
    side = min(2.2, (WIDTH - margin) / len(columns))
    fig = picture((side + 0.3) * len(given) + 0.7 + 1.5, side * len(columns) + margin)
    upper, lower = fig.subfigures(2, 1, height_ratios=((side + 0.3) * len(given) + 0.7, 1.5))
    axes = upper.subplots(len(given), len(columns), squeeze=False)
    for i, (line, pair) in enumerate(zip(axes, given, strict=True)):
        side_label(line[0], rows[i])
        for ax, image in zip(line, pair, strict=False):
            plain(ax).imshow(image, vmin=0, vmax=1)
        true_flow = as_array(next(iter(flows.values()))[i], "flow", "(2, S, S)")
        limit = max(1e-3, float(np.percentile(np.linalg.norm(true_flow, axis=0), 99)))
        for ax, (name, values) in zip(line[2:], flows.items(), strict=False):
            plain(ax).imshow(flow_colours(as_array(values[i], "flow", "(2, S, S)")[None], limit)[0])
            ax.spines[:].set_visible(True)  # no flow is white
            ax.set_xlabel(notes.get(f"flow {name}", [""] * len(rows))[i] or f"full colour {limit:.2g} px", fontsize=10)
        true_depth = as_array(next(iter(depths.values()))[i], "depth", "(S, S)")
        low, high = np.percentile(1 / true_depth, [2, 98])
        for ax, (name, values) in zip(line[2 + len(flows) :], depths.items(), strict=True):
            depth = as_array(values[i], "depth", "(S, S)")
            plain(ax).imshow(1 / (depth * np.median(true_depth / depth)), cmap=AMOUNT, vmin=low, vmax=max(high, low * 1.01))
            ax.set_xlabel(notes.get(f"depth {name}", [""] * len(rows))[i], fontsize=10)
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=12)
    legends(lower)
    return fig


def legends(fig: Any) -> None:
    """The colour wheel of flow and the bar of depth."""
    _, wheel_ax, bar_ax, _ = fig.subplots(1, 4, width_ratios=(1, 1.2, 3, 1))
    for ax in fig.axes:
        plain(ax)
    wheel = np.stack(np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101)))
    colours = flow_colours(wheel[None], 1.0)[0]
    colours[np.linalg.norm(wheel, axis=0) > 1] = 255
    wheel_ax.imshow(colours, extent=(-1, 1, 1, -1))
    wheel_ax.set(xticks=[0], yticks=[0], xticklabels=["down"], yticklabels=["left"])
    wheel_ax.set_title("up", fontsize=12)
    wheel_ax.text(1.15, 0, "right", va="center", fontsize=12)
    wheel_ax.tick_params(length=0)
    mappable = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), AMOUNT)
    bar = fig.colorbar(mappable, ax=bar_ax, orientation="horizontal", location="top", ticks=[0, 1], fraction=0.3, aspect=18)
    bar.ax.set_xticklabels(["far", "near"])
    bar.set_label("inverse depth, up to scale")


@view
def pose_comparison(
    truth: Sequence[Any], poses: Mapping[str, Sequence[Any]], titles: Sequence[str], methods: Sequence[str] | None = None
) -> Figure:
    """Camera motion between two frames, one column per world: above the direction of the translation seen from above, below rotations.

    Args:
        truth: N poses (3, 4).
        poses: method -> N poses; translations count by direction alone, one shorter than a millionth is a dot.
        titles: N texts.
        methods: all methods of the report, in order, for their colours; by default those of `poses`.

    Raises:
        ConfigError: shapes or lengths that differ.
    """
    named = {"truth": truth, **poses}
    if not titles or any(len(part) != len(titles) for part in named.values()):
        raise ConfigError(f"pose_comparison needs {len(titles)} poses of each method, one per title, and at least one.")
    looks = styles(methods or list(poses))
    headed = 0.25 * max(title.count("\n") for title in titles)
    fig = picture(6.6 + headed, max(7.0, 3.3 * len(titles)))
    axes = fig.subplots(2, len(titles), squeeze=False, height_ratios=(1.3, 1))
    for i, title in enumerate(titles):
        top, bars = axes[:, i]
        for k, (name, values) in enumerate(named.items()):
            pose = as_array(values[i], name, "(3, 4)").astype(np.float64)
            colour, _, line = ("black", "", "-") if k == 0 else looks[name]
            draw_direction(top, pose[:, 3], colour, line, name)
            width = 0.8 / len(named)
            at = np.arange(3) + (k - (len(named) - 1) / 2) * width
            style = {"color": colour, "hatch": HATCHES[k % len(HATCHES)], "edgecolor": "white"}
            bars.bar(at, rotation_vector(pose[:, :3]), width, label=name, **style)
        top.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[], xlabel="x (right)", title=title)
        top.set_ylabel("z (forward)" if i == 0 else "")
        top.spines[:].set_visible(True)
        bars.axhline(0, color="black", linewidth=1)
        bars.set_xticks(range(3), ["x", "y", "z"])
        bars.set(xlabel="rotation about", ylabel="degrees" if i == 0 else "")
        bars.grid(axis="y", alpha=0.3)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(named), frameon=False)
    return fig


def draw_direction(ax: Axes, translation: np.ndarray, colour: str, line: str, name: str) -> None:
    """An arrow from the middle along (x, z) of the unit vector; what is missing to length 1 goes up or down."""
    length = np.linalg.norm(translation)
    if length < 1e-6:
        ax.plot(0, 0, "o", color=colour, markersize=10, markerfacecolor="none", label=name)
        return
    x, _, z = translation / length
    arrow = {"arrowstyle": "-|>", "color": colour, "linestyle": line, "linewidth": 2.2, "mutation_scale": 18}
    ax.annotate("", (x, z), (0, 0), arrowprops=arrow)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) to axis times angle in degrees, for angles below 180 degrees."""
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]) / 2
    return np.degrees(skew * (angle / np.sin(angle) if angle > 1e-6 else 1.0))


@view
def masked_views(columns: Mapping[str, Any], mask: Any, rows: Sequence[str], notes: Mapping[str, Sequence[str]]) -> Figure:
    """Pictures by name, one world per row; what is not scored is washed out, but not in the first column, the given picture.

    Args:
        columns: name -> (N, 3, S, S) in [0, 1].
        mask: (N, S, S) bool, where a picture is scored.
        rows: N names.
        notes: name -> N texts below the pictures.

    Raises:
        ConfigError: shapes or lengths that differ.
    """
    made = {name: as_images(images, name) for name, images in columns.items()}
    inside = np.asarray(mask, dtype=bool)
    if any(images.shape[:3] != inside.shape for images in made.values()) or len(rows) != len(inside):
        raise ConfigError(f"masked_views needs {len(rows)} pictures of each name and masks of their size, one per row.")
    margin = label_width(rows)
    side = min(2.4, (WIDTH - margin) / len(made))
    fig = picture((side + 0.3) * len(rows) + 0.4, side * len(made) + margin, images=True)
    axes = fig.subplots(len(rows), len(made), squeeze=False)
    for c, (name, images) in enumerate(made.items()):
        for r, image in enumerate(images):
            seen = image if c == 0 else np.where(inside[r][..., None], image, 0.75 + 0.25 * image.mean(-1, keepdims=True))
            plain(axes[r, c]).imshow(seen, vmin=0, vmax=1)
            axes[r, c].set_xlabel(notes.get(name, [""] * len(rows))[r])
        axes[0, c].set_title(name.replace(" at ", "\nat "))
    for r, name in enumerate(rows):
        side_label(axes[r, 0], name)
    return fig
