"""The voxels of the sharp model in space, to be turned with the mouse: an optional view that needs the package k3d.

Conventions: the camera of the picture stands at the origin and looks along the second axis; the first points right, the third up. Lengths
in units of the scene's median depth. In JupyterLab the plot is a widget. A stored notebook keeps no picture of it, so headless it is saved
as one HTML file that holds all it needs (`save_space`).
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from ..files import write_text
from .figures import as_array, as_images

if TYPE_CHECKING:
    from k3d.plot import Plot

ARROW = 0.12  # of its depth: the length of the longest arrow
OVERLAP = 1.3  # of discs that make a whole pixel
SPECK = 0.02  # of the longest arrow: shorter ones are left out


def k3d_package() -> ModuleType:
    """The package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import k3d
    except ImportError as error:
        remedy = "install it with `pip install k3d`, or read the flat views, which show the same"
        raise ConfigError(f"The view in space needs the package k3d, which is not installed here: {remedy}.") from error
    return k3d


def voxel_space(
    image: Any, density: Any, inverse_depths: Any, flow: Any = None, focal: float = 1.0, least: float = 0.1, count: int = 256
) -> Plot:
    """Every voxel that makes at least `least` of a pixel as a disc of the picture's colour, and the strongest flow as arrows.

    Args:
        image: (3, H, W) in [0, 1], H and W at most 4 h and 4 w, as density is padded to the right and below.
        density: (D, h, w), shares that add up to 1 over D.
        inverse_depths: (D,) of the planes.
        flow: (D, h, w, 3) normalised offsets, such as the residual flow; None for no arrows. All arrows are lengthened alike.
        focal: widths of the picture.
        least: share from which a voxel is drawn, in (0, 1].
        count: at most so many arrows.

    Raises:
        ConfigError: k3d is missing, another shape, or a share or focal length out of range.
    """
    k3d = k3d_package()
    density = as_array(density, "density", "(D, h, w)").astype(np.float64)
    planes = as_array(inverse_depths, "inverse_depths", f"({len(density)},)").astype(np.float64)
    (picture,) = as_images([image], "image")
    if not 0 < least <= 1 or not focal > 0 or planes.min() <= 0:
        raise ConfigError(f"voxel_space needs planes and a focal length above 0 and a least share in (0, 1], not {focal} and {least}.")
    rows, columns = -(-picture.shape[0] // 4), -(-picture.shape[1] // 4)
    if rows > density.shape[1] or columns > density.shape[2]:
        raise ConfigError(f"density must cover the picture of {picture.shape[:2]} px with cells of 4 px, not be {density.shape[1:]}.")
    places = cell_places(planes, rows, columns, focal, picture.shape[1])
    share = density[:, :rows, :columns]
    seen = share >= least
    cell = 4 / picture.shape[1] / focal / planes[:, None, None]
    sizes = (OVERLAP * cell * np.sqrt(share))[seen]
    plot = k3d.plot(grid_visible=False, camera_auto_fit=False, background_color=0xFFFFFF, name="vae4d voxels", camera_fov=45)
    colours = np.broadcast_to(packed(cell_colours(picture, rows, columns)), share.shape)[seen]
    plot += k3d.points(places[seen].astype(np.float32), colors=colours.tolist(), point_sizes=sizes.astype(np.float32), shader="flat",
                       name=f"voxels of at least {least:.0%} of a pixel")  # fmt: skip
    if flow is not None:
        voxels = as_array(flow, "flow", f"({', '.join(map(str, density.shape))}, 3)")[:, :rows, :columns].astype(np.float64)
        cover = np.array(density.shape[1:]) * 4 / picture.shape[1]
        add_arrows(k3d, plot, places, voxels, share, planes, cover / focal, count)
    middle = float(np.median(places[..., 1][seen])) if seen.any() else 1.0
    plot.camera = [0.5 * middle, -0.8 * middle, 0.4 * middle, 0.0, middle, 0.0, 0.0, 0.0, 1.0]
    return plot


def cell_places(planes: np.ndarray, rows: int, columns: int, focal: float, width: int) -> np.ndarray:
    """(D, h, w, 3): where voxels lie, for cells of 4 px of a picture `width` px wide, whose middle the camera looks at."""
    across = (np.arange(columns) * 4 + 2 - width / 2) / width / focal
    down = (np.arange(rows) * 4 + 2 - rows * 2) / width / focal
    depth = 1 / planes[:, None, None]
    x, z, y = np.broadcast_arrays(across[None, None] * depth, -down[None, :, None] * depth, depth)
    return np.stack([x, y, z], axis=-1)


def cell_colours(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(h, w, 3): mean colours of cells of 4 x 4 px."""
    full = np.pad(picture, ((0, rows * 4 - picture.shape[0]), (0, columns * 4 - picture.shape[1]), (0, 0)), mode="edge")
    return full.reshape(rows, 4, columns, 4, 3).mean((1, 3))


def packed(colours: np.ndarray) -> np.ndarray:
    """Colours (..., 3) in [0, 1] as 0xRRGGBB."""
    grey = (colours * 255).round().astype(np.int64)
    return (grey[..., 0] << 16) + (grey[..., 1] << 8) + grey[..., 2]


def add_arrows(
    k3d: ModuleType, plot: Plot, places: np.ndarray, voxels: np.ndarray, share: np.ndarray, planes: np.ndarray, cover: np.ndarray,
    count: int,
) -> None:  # fmt: skip
    """The flow of the `count` voxels in which most of it is seen: length times share; `cover` (rows, columns) of all cells at depth 1."""
    depth = np.broadcast_to(1 / planes[:, None, None], share.shape)
    vectors = np.stack([voxels[..., 0] * cover[1], np.zeros_like(share), -voxels[..., 1] * cover[0]], axis=-1)
    vectors = vectors * (depth / 2)[..., None]  # two units span all cells
    length = np.linalg.norm(vectors, axis=-1)
    strength = (length * share).ravel()
    chosen = np.argsort(-strength)[:count]
    chosen = chosen[length.ravel()[chosen] > SPECK * (length.ravel()[chosen].max(initial=0) or 1.0)]
    if not len(chosen):
        return
    longest = float((length / depth).ravel()[chosen].max())
    drawn = (vectors.reshape(-1, 3)[chosen] * (ARROW / longest)).astype(np.float32)
    plot += k3d.vectors(places.reshape(-1, 3)[chosen].astype(np.float32), drawn, color=0xD55E00, head_size=0.25, line_width=0.006,
                        name=f"flow, drawn {ARROW / longest:.3g} times as long")  # fmt: skip


def save_space(plot: Plot, path: str | os.PathLike) -> Path:
    """Write the plot as one HTML page that needs no network, whole or not at all.

    Raises:
        ConfigError: `path` does not end in .html. StorageError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise ConfigError(f"A view in space is saved as HTML, not as {path.name}: give a path that ends in .html.")
    write_text(path, plot.get_snapshot())
    return path
