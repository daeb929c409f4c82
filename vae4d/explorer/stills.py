"""The panel where somebody moves it, its pictures where nobody does; and how long a picture takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from ..clips.clip import Clip
from ..errors import ConfigError, MethodError
from ..evaluation.units import safe_name
from ..progress import Say
from ..workbook.moments import QUARTERS, SIDES, sideways
from ..workbook.notebook import Workbook, display
from .beliefs import beliefs
from .canvas import as_png, side_by_side
from .core import Explorer
from .modes import ERROR, SPLIT, View, caption, draw
from .settings import ExploreSettings, clips_of

if TYPE_CHECKING:
    from .panel import Panel

AT_FIRST = "the panel as it opens"
OPEN: list[Panel] = []  # the panel that is shown


def explore(explorer: Explorer, book: Workbook, clips: dict[str, Clip], settings: ExploreSettings, interactive: bool) -> None:
    """Show the panel; not interactive, its pictures, outside of any widget, so that they stay in the file and errors end the run.

    What is saved in the panel goes to `explorer/` in the run's folder. Whatever the data set, it looks for new clips in `data/videos`.
    """
    if interactive:
        from .panel import Panel

        def refresh(say: Say) -> dict[str, Clip]:
            return clips_of(replace(settings, dataset="samples"), fresh=True, say=say)

        while OPEN:  # of a cell that is run again: its widgets would live on, and so would the models that they hold
            OPEN.pop().close()
        OPEN.append(Panel(explorer, clips, book.folder / "explorer", settings.t, settings.orbit_angle, refresh))
        display(OPEN[-1].controls.panel)
        return
    for name, image, text in stills(explorer, settings.t, settings.orbit_angle):
        book.show(image, name, text)


def stills(explorer: Explorer, t: float = 0.5, angle: float = 0.05) -> Iterator[tuple[str, Image.Image, str]]:
    """What the panel would show, by name and with what it shows in words: time running, the camera moved, all methods at one moment, two
    of them split, errors."""
    first, whole = explorer.names[0], View(tuple(explorer.names), t)
    moments = {f"{first}, t = {moment:g}": explorer.picture(first, moment) for moment in QUARTERS}
    yield "time", side_by_side(moments), "; ".join(moments)
    turns = {f"{first}, {name}": explorer.picture(first, t, sideways(side * angle).tolist()) for name, side in SIDES.items()}
    yield "camera", side_by_side(turns), "; ".join(turns)
    split = replace(whole, methods=whole.methods[:2], mode=SPLIT)
    for name, view in {"side_by_side": whole, "split": split, "error": replace(whole, mode=ERROR)}.items():
        yield name, draw(explorer, view), caption(explorer, view)


def show_beliefs(explorer: Explorer, book: Workbook, name: str, t: float = 0.5) -> list[str]:
    """Every view of what a method believes, below the cell; why it lacks others is printed. Returns the names of those shown."""
    shown, missing = [], {}
    for view, figure in beliefs().items():
        try:
            book.show(figure(explorer, name, t), safe_name(f"{view}_{name}"), f"{view} of {name} at t = {t:.2f}")
            shown.append(view)
        except (ConfigError, MethodError) as error:
            missing.setdefault(str(error), []).append(view)
    for reason, views in missing.items():
        print(f"No {', '.join(views)}: {reason}")
    return shown


def latency(explorer: Explorer, moves: int = 20) -> dict[str, float]:
    """Milliseconds from a slider's move to the bytes of the picture: the median of `moves` moves of time and camera.

    Of `AT_FIRST`, what the panel shows when it opens, and of every method by itself.
    """
    found = {}
    for name, methods in {AT_FIRST: View.at_first(explorer).methods, **{name: (name,) for name in explorer.names}}.items():
        seconds = []
        for move in range(moves + 1):
            began = time.perf_counter()
            as_png(draw(explorer, View(methods, move / moves, tuple(sideways(0.001 * (move + 1)).tolist()))))
            seconds.append(time.perf_counter() - began)
        found[name] = 1000 * statistics.median(seconds[1:])  # the first one encodes
    return found
