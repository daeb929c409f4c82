"""The panel where somebody moves it, its pictures where nobody does; and how long a picture takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..clips.clip import Clip
from ..errors import ConfigError
from ..workbook.moments import QUARTERS, SIDES, sideways
from ..workbook.notebook import Workbook, display
from .beliefs import beliefs
from .canvas import as_png, side_by_side
from .core import Explorer
from .exports import save_picture
from .modes import ERROR, SPLIT, View, draw
from .settings import ExploreSettings, clips_of


def explore(explorer: Explorer, book: Workbook, clips: dict[str, Clip], settings: ExploreSettings, interactive: bool) -> None:
    """Show the panel; not interactive, its pictures, outside of any widget, so that they stay in the file and errors end the run.

    What is saved in the panel goes to `explorer/` in the run's folder. It looks for new clips in `data/videos` alone.
    """
    if interactive:
        from .panel import Panel

        refresh = (lambda say: clips_of(settings, fresh=True, say=say)) if settings.dataset == "samples" else None
        display(Panel(explorer, clips, book.folder / "explorer", settings.t, settings.orbit_angle, refresh).controls.panel)
        return
    for name, image in stills(explorer, settings.t, settings.orbit_angle):
        path = book.folder / "figures" / f"{book.name[:2]}_{name}.png"
        save_picture(path, image)
        show(path)


def show(path: Path) -> None:
    """A PNG below the cell; without IPython nothing happens."""
    try:
        from IPython.display import Image as Shown
    except ImportError:
        return
    display(Shown(filename=str(path), embed=True))


def stills(explorer: Explorer, t: float = 0.5, angle: float = 0.05) -> Iterator[tuple[str, Image.Image]]:
    """What the panel would show, by name: time running, the camera moved, all methods at one moment, two of them split, errors."""
    first, whole = explorer.names[0], View(tuple(explorer.names), t)
    yield "time", side_by_side({f"{first}, t = {moment:g}": explorer.picture(first, moment) for moment in QUARTERS})
    turns = {name: sideways(side * angle).tolist() for name, side in SIDES.items()}
    yield "camera", side_by_side({f"{first}, {name}": explorer.picture(first, t, turn) for name, turn in turns.items()})
    yield "side_by_side", draw(explorer, whole)
    yield "split", draw(explorer, replace(whole, methods=whole.methods[:2], mode=SPLIT))
    yield "error", draw(explorer, replace(whole, mode=ERROR))


def show_beliefs(explorer: Explorer, book: Workbook, name: str, t: float = 0.5) -> list[str]:
    """Every view of what a method believes, below the cell; why it lacks others is printed. Returns the names of those shown."""
    shown, missing = [], {}
    for view, figure in beliefs().items():
        try:
            book.show(figure(explorer, name, t), f"{view.replace(' ', '_')}_{slug(name)}")
            shown.append(view)
        except ConfigError as error:
            missing.setdefault(str(error), []).append(view)
    for reason, views in missing.items():
        print(f"No {', '.join(views)}: {reason}")
    return shown


def slug(name: str) -> str:
    """A name as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")


def latency(explorer: Explorer, names: Sequence[str], moves: int = 20) -> dict[str, float]:
    """Milliseconds from a slider's move to the bytes of the picture, by method: the median of `moves` moves of time and camera."""
    found = {}
    for name in names:
        seconds = []
        for move in range(moves + 1):
            began = time.perf_counter()
            as_png(draw(explorer, View((name,), move / moves, tuple(sideways(0.001 * (move + 1)).tolist()))))
            seconds.append(time.perf_counter() - began)
        found[name] = 1000 * statistics.median(seconds[1:])  # the first one encodes
    return found
