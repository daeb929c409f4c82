"""What is to be shown of a pair, and the picture that shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..config import choice
from ..errors import ConfigError
from ..metrics import psnr
from . import canvas
from .core import STILL, TRUTH, Explorer

SIDE, SPLIT, FLICKER, ERROR = MODES = ("side by side", "split", "flicker", "error")


@dataclass(frozen=True)
class View:
    """Methods, a moment, a camera and the way to compare."""

    methods: tuple[str, ...]
    t: float = 0.5
    offset: tuple[float, ...] = STILL  # see `core`
    mode: str = SIDE
    fraction: float = 0.5  # of a split view's width that the first method takes
    second: bool = False  # whether a flickering view shows the second method just now

    def __post_init__(self) -> None:
        choice("mode", self.mode, MODES)
        if not self.methods:
            raise ConfigError("No method is chosen: tick at least one.")

    @classmethod
    def at_first(cls, explorer: Explorer) -> View:
        """What the panel shows when it opens: the first method, and the linear blend where it is there."""
        first = explorer.names[0]
        return cls(tuple(name for name in explorer.names if name in (first, "linear blend")))

    @property
    def moved(self) -> bool:
        """Whether the camera is not where it was at t."""
        return any(self.offset)


def draw(explorer: Explorer, view: View) -> Image.Image:
    """The picture of a view.

    Raises:
        ConfigError: an unknown method, fewer than two for a split or flickering view, t or offset out of range.
    """
    if view.mode == ERROR:
        truth = explorer.truth(view.t)
        made = {name: explorer.picture(name, truth.t) for name in view.methods if name != TRUTH}
        return canvas.error_maps(made, truth.image, f"true frame {truth.number}")
    if view.mode == SIDE:
        pictures = {name: explorer.picture(name, view.t, view.offset) for name in view.methods}
        return canvas.side_by_side(pictures, {name: note(explorer, view, name, image) for name, image in pictures.items()})
    pair = two(view)
    if view.mode == SPLIT:
        return canvas.split({name: explorer.picture(name, view.t, view.offset) for name in pair}, view.fraction)
    name = pair[view.second]
    image = explorer.picture(name, view.t, view.offset)
    return canvas.side_by_side({f"{'B' if view.second else 'A'}: {name}": image})


def two(view: View) -> tuple[str, ...]:
    """The two methods that a split or flickering view compares.

    Raises:
        ConfigError: there is one.
    """
    if len(view.methods) < 2:
        raise ConfigError(f"The mode {view.mode!r} compares two methods, and only {view.methods[0]} is chosen: tick a second one.")
    return view.methods[:2]


def note(explorer: Explorer, view: View, name: str, image: Tensor) -> str:
    """What stands below a method's name: PSNR where there is a true frame; which frame is shown; that the camera is not known."""
    truth = explorer.truth(view.t)
    if name == TRUTH:
        return f"frame {truth.number}" + ("" if truth.exact else f", of t = {truth.t:.2f}") + (", camera unmoved" if view.moved else "")
    if view.moved:
        return "" if explorer.moves(name) else "knows no camera"
    if not truth.exact:
        return ""
    level = float(psnr(image[None], truth.image[None])[0])
    return f"{level:.1f} dB" if np.isfinite(level) else "equal to the true frame"


def caption(explorer: Explorer, view: View) -> str:
    """What the picture of a view shows, for those who do not see it."""
    if view.mode == ERROR:
        truth = explorer.truth(view.t)
        errors = {name: canvas.error_note(explorer.picture(name, truth.t), truth.image) for name in view.methods if name != TRUTH}
        return f"error: {', '.join(f'{name} ({told})' for name, told in errors.items())}; t = {truth.t:.2f}"
    names = two(view) if view.mode in (SPLIT, FLICKER) else view.methods
    shown = {name: note(explorer, view, name, explorer.picture(name, view.t, view.offset)) for name in names}
    methods = ", ".join(f"{name} ({told})" if told else name for name, told in shown.items())
    return f"{view.mode}: {methods}; t = {view.t:.2f}{', camera moved' if view.moved else ''}"


def sentences(explorer: Explorer, view: View) -> list[str]:
    """What one should know when looking at a view."""
    truth, said = explorer.truth(view.t), []
    if (cut := explorer.cut()) is not None:
        said.append(f"Between the two frames lies a cut (frame {cut} begins a new shot): there is no world between two shots.")
    if view.mode == ERROR:
        at = f"The error is that of frame {truth.number} (t = {truth.t:.2f})"
        why = ["the clip has no frame nearer"] * (not truth.exact) + ["a moved camera has no truth"] * view.moved
        said.append(f"{at}{', as ' + ' and '.join(why) if why else ''}.")
    elif TRUTH in view.methods and not truth.exact:
        said.append(f"No frame of the clip falls on t = {view.t:.2f}: the nearest one, frame {truth.number}, is shown.")
    fixed = [name for name in view.methods if not explorer.moves(name) and name != TRUTH]
    if view.moved and fixed and view.mode != ERROR:
        know, them = ("knows", "it") if len(fixed) == 1 else ("know", "them")
        said.append(f"{' and '.join(fixed)} {know} no camera: time moves {them}, the camera does not.")
    if view.mode in (SPLIT, FLICKER) and len(view.methods) > 2:
        said.append(f"Shown are the first two, {' and '.join(view.methods[:2])}.")
    return said
