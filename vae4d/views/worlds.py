"""Views of what is true of procedural worlds.

Conventions: ids (S, S), 0 the room; depth (S, S) along the optical axis and scene flow (3, S, S), both in the world's own units. Depth is
shown as inverse depth: bright is near. A row is one world, and has scales of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..errors import ConfigError
from .figures import AMOUNT, PALETTE, WIDTH, as_array, as_images, label_width, picture, plain, side_label, view


@view
def world_truth(images: Any, ids: Any, depth: Any, scene_flow: Any, rows: Sequence[str]) -> Figure:
    """Per world: picture, objects by number, inverse depth, and the length of the motion in space.

    Args:
        images: (N, 3, S, S) in [0, 1]. ids: (N, S, S) whole numbers. depth: (N, S, S). scene_flow: (N, 3, S, S). rows: N names.

    Raises:
        ConfigError: shapes or lengths that differ.
    """
    shown, numbers = as_images(images, "images"), as_array(ids, "ids", "(N, S, S)").astype(int)
    maps = [as_array(depth, "depth", "(N, S, S)"), np.linalg.norm(as_array(scene_flow, "scene_flow", "(N, 3, S, S)"), axis=1)]
    if any(part.shape != shown.shape[:3] for part in (numbers, *maps)) or len(rows) != len(shown):
        raise ConfigError(f"world_truth needs {len(rows)} pictures and maps of their size, one per row, not {shown.shape[:3]}.")
    margin = label_width(rows)
    side = min(2.3, (WIDTH - margin) / 5)
    fig = picture((side + 0.15) * len(rows) + 0.5, 5 * side + margin, images=True)
    axes = fig.subplots(len(rows), 4, squeeze=False)
    colours = id_colours(int(numbers.max()) + 1)
    for r, line in enumerate(axes):
        side_label(plain(line[0]), rows[r])
        line[0].imshow(shown[r], vmin=0, vmax=1)
        plain(line[1]).imshow(colours[numbers[r]])
        moved = maps[1][r]
        for ax, values, limits, unit in (
            (line[2], 1 / maps[0][r], (None, None), "1 / world units"),
            (line[3], moved, (0, float(moved.max()) or 1.0), "world units"),
        ):
            mappable = plain(ax).imshow(values, cmap=AMOUNT, vmin=limits[0], vmax=limits[1])
            fig.colorbar(mappable, ax=ax, fraction=0.046, pad=0.04, label=unit).locator.set_params(nbins=4)
    for ax, title in zip(axes[0], ("picture", "object", "inverse depth\n(bright: near)", "motion in space"), strict=True):
        ax.set_title(title)
    return fig


def id_colours(count: int) -> np.ndarray:
    """(count, 3): white for the room, then the palette, darker with every round."""
    rounds = [np.array(to_rgb(colour)) * 0.7**n for n in range(count // (len(PALETTE) - 1) + 1) for colour in PALETTE[:-1]]
    return np.stack([np.ones(3), *rounds])[:count]
