"""The panel: the controls joined to the core. The picture follows the hand; the other views are drawn when it rests.

Whatever goes wrong becomes one sentence in the status line or in the view, and what was shown before stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..clips.clip import Clip
from ..progress import Say
from ..synthesis import orbit
from . import modes, uploads
from .canvas import as_png
from .controls import MAIN, Controls, offset_of, slot, values_of
from .core import Explorer
from .exports import VIEWS, export
from .modes import FLICKER, SPLIT, View
from .replies import Pause, download, said, sentence

STEPS = 48  # of the slider of t, about: a whole number of them falls on every frame
LONGEST = 24  # frames between the two of a pair, on the slider


class Panel:
    """An explorer and its controls; `controls.panel` is the widget to show.

    Args:
        clips: by name, the explorer's own among them.
        folder: that exports go to.
        angle: radians by which the orbit swings.
        refresh: looks for clips that came later, and says in lines what it left out.
        data_root: folder whose `videos` uploads go to.
    """

    def __init__(self, explorer: Explorer, clips: dict[str, Clip], folder: Path, t: float = 0.5, angle: float = 0.05,
                 refresh: Callable[[Say], dict[str, Clip]] = lambda say: {}, data_root: str | Path = "data"):  # fmt: skip
        self.explorer, self.clips, self.folder, self.angle = explorer, dict(clips), folder, angle
        self.refresh, self.data_root = refresh, data_root
        self.controls = Controls(explorer, list(clips), t)
        self._held = False
        self._believed: tuple | None = None  # what the view below was drawn of last
        self._rested = Pause(self.draw_belief)
        self._join()
        self._fit()
        self.draw()

    def _join(self) -> None:
        c = self.controls

        def on(widget: Any, act: Callable[[], None], trait: str = "value") -> None:
            widget.observe(lambda change: None if self._held else self._guarded(act), trait)

        for widget in (*c.camera, c.fraction, c.second, c.mode, *c.ticks.values()):
            on(widget, self.draw)
        on(c.t, self._set_time)
        on(c.clip, lambda: self._choose(self.clips[c.clip.value], None))
        for widget in (c.start, c.gap):
            on(widget, lambda: self._choose(self.explorer.clip, min(c.start.value, len(self.explorer.clip) - 1 - c.gap.value)))
        c.upload.on_msg(lambda button, said, buffers: self._guarded(lambda: self._take_upload(said, buffers)))
        on(c.play, lambda: self._move([(c.t, c.play.value / c.play.max)]))
        on(c.orbit, lambda: self._move(zip(c.camera, values_of(orbit(VIEWS, self.angle)[c.orbit.value].tolist()), strict=True)))
        on(c.flicker, lambda: self._move([(c.second, bool(c.flicker.value))]))
        on(c.believer, self.draw_belief)
        on(c.tabs, self.draw_belief, "selected_index")
        c.rest.on_click(lambda button: self._guarded(lambda: self._move((slider, 0.0) for slider in c.camera)))
        c.look.on_click(lambda button: self._guarded(self._look_again))
        c.save.on_click(lambda button: self._guarded(self._export))

    @property
    def view(self) -> View:
        """What the controls say.

        Raises:
            ConfigError: no method is ticked.
        """
        c = self.controls
        chosen = tuple(name for name, box in c.ticks.items() if box.value)
        return View(chosen, c.t.value, self.offset, c.mode.value, c.fraction.value, c.second.value)

    @property
    def offset(self) -> tuple[float, ...]:
        """The camera's, see `core`."""
        return offset_of([slider.value for slider in self.controls.camera])

    def draw(self) -> None:
        """The picture anew, at once; the view below it when the hand rests."""
        c = self.controls
        c.fraction.layout.display = "" if c.mode.value == SPLIT else "none"
        c.flicker.layout.display = c.second.layout.display = "" if c.mode.value == FLICKER else "none"
        self._guarded(self._draw)
        self._rested()

    def _draw(self) -> None:
        view = self.view
        self.controls.image.value = as_png(modes.draw(self.explorer, view))
        self.controls.describe(MAIN, modes.caption(self.explorer, view))
        self.controls.status.value = sentence(" ".join(modes.sentences(self.explorer, view)))

    def draw_belief(self) -> None:
        """The view whose tab is open, or the sentence that says why there is none; nothing where neither it nor the moment is another."""
        c, e = self.controls, self.explorer
        place = c.tabs.selected_index or 0
        if (now := (place, c.believer.value, c.t.value, self.offset, e.clip.folder, e.start, e.gap)) == self._believed:
            return
        self._believed = now
        (name, draw), text, image = list(c.views.items())[place], c.texts[place], c.figures[place]
        try:
            buffer = io.BytesIO()
            draw(e, c.believer.value, c.t.value, self.offset).savefig(buffer, format="png")
            image.value, text.value, image.layout.display = buffer.getvalue(), "", ""
            c.describe(slot(place), f"{name} of {c.believer.value} at t = {c.t.value:.2f}")
        except Exception as error:
            image.layout.display, text.value = "none", sentence(said(error))

    @contextmanager
    def _hold(self):
        """Within the block, controls that are set do nothing."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _move(self, values: Iterable[tuple[Any, Any]]) -> None:
        """Several controls at once, and one picture."""
        with self._hold():
            for widget, value in values:
                widget.value = value
        self.draw()

    def _set_time(self) -> None:
        """The hand moved t: what plays goes on from there."""
        with self._hold():
            self.controls.play.value = round(self.controls.t.value * self.controls.play.max)
        self.draw()

    def _choose(self, clip: Clip, start: int | None) -> None:
        try:
            self.explorer.choose(clip, start, self.controls.gap.value)
        finally:
            self._fit()  # to the new pair, or back to the old one
        self.draw()

    def _fit(self) -> None:
        """The controls to the explorer's pair."""
        c, clip, gap = self.controls, self.explorer.clip, self.explorer.gap
        steps = gap * max(1, round(STEPS / gap))
        with self._hold():
            c.gap.max = max(gap, min(LONGEST, len(clip) - 1))
            c.gap.value = gap
            c.start.max = len(clip) - 1 - gap
            c.start.value = self.explorer.start
            c.t.step, c.play.max = 1 / steps, steps
            c.play.value = round(c.t.value * steps)
            c.clip.options = list(self.clips)
            c.clip.value = clip.name

    def _take_upload(self, said: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        """A file that `page.upload` sent, or told of, where it is too large."""
        name = said["name"]
        uploads.require_small(name, said["size"], self.data_root)
        self.controls.status.value = sentence(f"Reading {name} \u2026")
        content = bytes(buffers[0])
        digest = hashlib.sha256(content).hexdigest()
        known = next((clip for clip in self.clips.values() if clip.sha256 == digest), None)
        self._choose(known or self._add(uploads.take(name, content, self.explorer.clip.size, self.data_root)), None)

    def _add(self, clip: Clip) -> Clip:
        """A clip before the others, under a name that none of them has."""
        if clip.name in self.clips:
            clip = dataclasses.replace(clip, name=f"{clip.name}-{clip.sha256[:6]}")
        self.clips = {clip.name: clip} | self.clips
        return clip

    def _look_again(self) -> None:
        lines: list[str] = []
        self.controls.status.value = sentence("Looking for videos and reading those that are new \u2026")
        known = {clip.sha256 for clip in self.clips.values()}
        new = [clip for clip in self.refresh(lines.append).values() if clip.sha256 not in known]
        for clip in new:
            self._add(clip)
        self._fit()
        count, faults = len(new), [line for line in lines if "left out" in line]
        self.controls.status.value = sentence(" ".join([f"{count or 'No'} new clip{'' if count == 1 else 's'} found.", *faults]))

    def _export(self) -> None:
        c = self.controls
        c.link.value = sentence(f"Writing: {c.kind.value} \u2026")
        path = None
        try:
            path = export(c.kind.value, self.folder, self.explorer, c.believer.value, self.view, self.angle)
        finally:
            c.link.value = download(path) if path else ""

    def close(self) -> None:
        """End all widgets, in the page and in the kernel."""
        self._rested.cancel()
        for widget in every(self.controls.panel):
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.controls.status.value = sentence(said(error), wrong=True)


def every(widget: Any) -> Iterator[Any]:
    """A widget and all within it."""
    yield widget
    for part in getattr(widget, "children", ()):
        yield from every(part)
