"""What is shown, as files: PNG of the picture, MP4 and GIF of a sweep over time or of an orbit, npz of the data. Whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..clips.video_writer import write_video
from ..config import choice
from ..errors import ConfigError, StorageError
from ..files import atomic_path
from ..synthesis import orbit
from .canvas import as_png
from .core import STILL, TRUTH, Explorer
from .modes import ERROR, View, draw

RATE = 12  # pictures a second of a film
MOMENTS, VIEWS = 24, 36  # pictures from the first frame to the second, and of an orbit
GIF_WIDTH = 640  # px, at most


def sweep(explorer: Explorer, view: View, angle: float = 0.0) -> Iterator[Image.Image]:
    """The view from t = 0 to t = 1, at its camera; a flickering one flickers."""
    return (draw(explorer, replace(view, t=step / MOMENTS, second=flickers(step))) for step in range(MOMENTS + 1))


def orbiting(explorer: Explorer, view: View, angle: float) -> Iterator[Image.Image]:
    """The view at its moment while the camera swings once around, by `angle` radians to either side; the film loops.

    Raises:
        ConfigError: the view is of errors.
    """
    if view.mode == ERROR:
        raise ConfigError("A moved camera has no truth, so that an orbit of errors would stand still: choose another mode than 'error'.")
    offsets = enumerate(orbit(VIEWS, angle).tolist())
    return (draw(explorer, replace(view, offset=tuple(offset), second=flickers(step))) for step, offset in offsets)


def flickers(step: int) -> bool:
    """Whether a flickering film shows the second method: every other half second."""
    return step // (RATE // 2) % 2 == 1


def save_picture(path: Path, image: Image.Image) -> None:
    """A PNG."""
    with atomic_path(path) as partial:
        partial.write_bytes(as_png(image))


def save_film(path: Path, images: Iterator[Image.Image]) -> None:
    """An MP4, or a GIF that loops for ever and is no wider than GIF_WIDTH, by the suffix."""
    if path.suffix == ".mp4":
        write_video(path, (np.asarray(image) for image in images), RATE)
        return
    small = []
    for image in images:
        share = min(1.0, GIF_WIDTH / image.width)
        small.append(image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS))
    with atomic_path(path) as partial:
        small[0].save(partial, "GIF", save_all=True, append_images=small[1:], duration=round(1000 / RATE), loop=0)


def save_data(path: Path, explorer: Explorer, name: str, view: View) -> None:
    """An npz of the pictures of a view, and of what a method says of the moment; arrays as in `SharpSynthesis`, without the batch axis.

    images (N, 3, H, W) of the methods (N,) that are shown, image (3, H, W) of `method`, t, offset (6,), frames (2,) and clip are always
    there; a view of errors is one of a true frame's moment and camera, and shows that frame too. Models add, where they have them, pose
    (6,), voxel_flow (D, h, w, 3), depth (H, W), motion (2, 2, H, W), weights (3, H, W), own (H, W) and density (D, h, w).
    """
    methods = view.methods
    if view.mode == ERROR:
        view, methods = replace(view, t=explorer.truth(view.t).t, offset=STILL), tuple(dict.fromkeys([*methods, TRUTH]))
    images = torch.stack([explorer.picture(shown, view.t, view.offset) for shown in methods])
    data = {"images": images, "methods": methods, "image": explorer.picture(name, view.t, view.offset), "method": name, "t": view.t}
    data |= {"offset": view.offset, "clip": explorer.clip.name, "frames": (explorer.start, explorer.start + explorer.gap)}
    if name in explorer.models:
        made = explorer.synthesis(name, view.t, view.offset)
        known = {field: getattr(made, field, None) for field in ("pose", "voxel_flow", "depth", "weights", "own", "density")}
        data |= {field: value[0].cpu() for field, value in known.items() if value is not None}
        if getattr(made, "motion", None) is not None:
            data["motion"] = np.stack([part[0].cpu() for part in made.motion])
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **{key: np.asarray(value) for key, value in data.items()})


def _film(frames: Callable[..., Iterator[Image.Image]]):
    return lambda path, explorer, name, view, angle: save_film(path, frames(explorer, view, angle))


EXPORTS: dict[str, tuple[str, Callable[[Path, Explorer, str, View, float], None]]] = {
    "this picture (PNG)": (".png", lambda path, explorer, name, view, angle: save_picture(path, draw(explorer, view))),
    "its data (npz)": (".npz", lambda path, explorer, name, view, angle: save_data(path, explorer, name, view)),
    "sweep over time (MP4)": ("_time.mp4", _film(sweep)),
    "sweep over time (GIF)": ("_time.gif", _film(sweep)),
    "orbit of the camera (MP4)": ("_orbit.mp4", _film(orbiting)),
    "orbit of the camera (GIF)": ("_orbit.gif", _film(orbiting)),
}


def export(kind: str, folder: Path, explorer: Explorer, name: str, view: View, angle: float) -> Path:
    """Write one of EXPORTS into `folder`, named after clip, frames and number; returns its path. Nothing is overwritten.

    Args:
        name: method whose data is written. angle: radians by which the orbit swings.
    Raises:
        ConfigError: an unknown kind. StorageError: the folder cannot be written. Others: what drawing raises.
    """
    ending, write = EXPORTS[choice("export", kind, EXPORTS)]
    stem = f"{explorer.clip.name}_{explorer.start}-{explorer.start + explorer.gap}"
    for number in range(1, 10_000):
        path = folder / f"{stem}_{number}{ending}"
        if not path.exists():
            write(path, explorer, name, view, angle)
            return path
    raise StorageError(f"{folder} is full of exports of {stem}: move some away.")
