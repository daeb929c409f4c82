"""The widgets of the panel: each with a name in words, a unit where it has one, and a sentence that a pointer or a screen reader finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .beliefs import beliefs
from .core import Explorer
from .exports import EXPORTS, VIEWS
from .modes import MODES, View
from .page import names, upload
from .uploads import LARGEST

SCOPE = "vae4d-explorer"
MAIN = "vae4d-picture"  # CSS class of the picture that follows the hand
CSS = f"""<style>
.{SCOPE} .widget-label, .{SCOPE} .widget-readout, .{SCOPE} select, .{SCOPE} button, .{SCOPE} .widget-html-content,
.{SCOPE} .widget-label-basic {{ font-size: 16px; }}
.{SCOPE} :focus-visible {{ outline: 3px solid #0072B2; outline-offset: 1px; }}
.{SCOPE} .widget-html-content {{ line-height: 1.35; white-space: normal; }}
.{SCOPE} h3 {{ font-size: 16px; font-weight: bold; margin: 0; }}
.{SCOPE} a {{ color: #0072B2; text-decoration: underline; }}
.{SCOPE} .lm-TabBar-tabLabel {{ font-size: 16px; }}
.{SCOPE} .lm-TabBar-tab {{ flex: 0 1 auto !important; min-width: 5em !important; }}
.{SCOPE} .jupyter-button {{ height: auto; min-height: 2.1em; }}
</style>"""
DEGREE = math.pi / 180


@dataclass(frozen=True)
class Axis:
    """One of the six numbers of a camera's offset, as a slider shows it."""

    name: str
    unit: str
    reach: float  # of the slider to either side, in the unit
    factor: float  # the unit, with its sign, to the number in `geometry`
    help: str


SWING = 8  # degrees to either side, at most
# In the order of the six numbers. A pose leads from the moved camera to the one at t; signs as `workbook.moments.sideways` has them.
AXES = (
    Axis("swing right", "\u00b0", SWING, -DEGREE, "The camera swings to the right around the middle of the scene, in degrees."),
    Axis("swing up", "\u00b0", SWING, -DEGREE, "The camera swings upwards around the middle of the scene, in degrees."),
    Axis("roll", "\u00b0", 15, DEGREE, "The camera turns clockwise about its line of sight, in degrees."),
    Axis("move right", "%", 15, 0.02, "The camera moves right, in hundredths of the picture's width at the scene's median depth."),
    Axis("move up", "%", 15, -0.02, "The camera moves up, in hundredths of the picture's width at the scene's median depth."),
    Axis("move forward", "%", 15, 0.02, "The camera moves forward, in hundredths of the picture's width at the scene's median depth."),
)


def offset_of(values: Sequence[float]) -> tuple[float, ...]:
    """Six sliders' values as a camera's offset; what a browser rounds to almost zero is zero, without a sign."""
    return tuple(round(value * axis.factor, 9) or 0.0 for axis, value in zip(AXES, values, strict=True))


def values_of(offset: Sequence[float]) -> list[float]:
    """The inverse of `offset_of`."""
    return [round(number / axis.factor, 6) or 0.0 for axis, number in zip(AXES, offset, strict=True)]


def slot(place: int) -> str:
    """CSS class of the image in a tab."""
    return f"vae4d-view-{place}"


def labelled(kind: Callable, description: str, help: str, width: str = "560px", **options: Any) -> Any:
    """A widget of `kind` with its description and tooltip, at most `width` wide; narrow ones keep no room for a label."""
    import ipywidgets as widgets

    style = {"description_width": "9.5em"} if width == "560px" else {}
    return kind(description=description, tooltip=help, layout=widgets.Layout(width="100%", max_width=width), style=style, **options)


class Controls:
    """All widgets, laid out in `panel`; none of them does anything yet.

    Args:
        clips: names to choose from. t: the moment at first.
    """

    def __init__(self, explorer: Explorer, clips: Sequence[str], t: float):
        import ipywidgets as w

        clip = explorer.clip.name
        self.clip = labelled(w.Dropdown, "clip", "The clip that the two frames are taken from.", options=list(clips), value=clip)
        larger = "A larger one: drop the file into data/videos/ and press Look again."
        self.upload = upload("Upload a video (up to 7 MB)", larger, "video/*", LARGEST)
        self.look = labelled(w.Button, "Look again", "Look for videos that came into data/videos/ since.", "130px")
        self.start = labelled(w.IntSlider, "first frame", "Number of the first of the two frames.", continuous_update=False)
        self.gap = labelled(w.IntSlider, "gap (frames)", "The second frame is so many frames later.", min=1, continuous_update=False)

        unit = {"min": 0.0, "max": 1.0, "step": 0.01}
        between = "The moment between the two frames: 0 is the first, 1 the second."
        self.t = labelled(w.FloatSlider, "t (0 to 1)", between, value=t, readout_format=".2f", **unit)
        self.play = labelled(w.Play, "time", "Let time run from the first frame to the second.", "220px", interval=120)
        self.camera = [
            labelled(w.FloatSlider, f"{axis.name} ({axis.unit})", axis.help, min=-axis.reach, max=axis.reach, step=axis.reach / 150,
                     readout_format="+.1f") for axis in AXES
        ]  # fmt: skip
        self.orbit = labelled(w.Play, "orbit", "Let the camera swing around the middle of the scene.", "220px", max=VIEWS - 1, interval=120)
        self.rest = labelled(w.Button, "Camera back", "All six camera offsets become 0.", "150px")

        ticked = View.at_first(explorer).methods
        self.ticks = {
            name: labelled(w.Checkbox, name, f"Show {name}.", "400px", indent=False, value=name in ticked) for name in explorer.names
        }
        self.mode = labelled(w.ToggleButtons, "compare", "How the ticked methods are compared.", "none", options=MODES)
        self.mode.style.button_width = "auto"
        share = "Share of the width that shows the first method."
        self.fraction = labelled(w.FloatSlider, "split at", share, value=0.5, readout_format=".0%", **unit)
        self.second = labelled(w.Checkbox, "show B, the second method", "Show the second of the two methods.", "260px", indent=False)
        self.flicker = labelled(w.Play, "flicker", "Show the two methods in turn.", "220px", max=1, interval=600)
        self.play.repeat = self.orbit.repeat = self.flicker.repeat = True

        self.names = names(SCOPE, {})
        self.image = self._picture(w, MAIN)
        self.status = w.HTML(layout=w.Layout(min_height="3.2em"))
        whose = "The method whose depth, motion and so on are shown below."
        self.believer = labelled(w.Dropdown, "views of", whose, options=list(explorer.methods))
        self.views = beliefs()
        self.texts = [w.HTML() for _ in self.views]
        self.figures = [self._picture(w, slot(place)) for place in range(len(self.views))]
        pages = zip(self.texts, self.figures, strict=True)
        self.tabs = w.Tab([w.VBox(page, layout=w.Layout(height="560px", overflow="auto")) for page in pages], titles=list(self.views))
        self.kind = labelled(w.Dropdown, "save", "What is written into the run's folder.", options=list(EXPORTS))
        self.save = labelled(w.Button, "Save", "Write the file, and show a link that downloads it.", "110px")
        self.link = w.HTML()
        self.panel = self._laid_out(w)

    def _picture(self, w: Any, name: str) -> Any:
        """An image without a tooltip, on which the browser's side of Image fails; `describe` gives it its words."""
        image = w.Image(format="png", layout=w.Layout(max_width="100%", align_self="flex-start"))
        image.add_class(name)
        return image

    def describe(self, name: str, text: str) -> None:
        """What the image of this class shows, in words."""
        self.names.images = self.names.images | {name: text}

    def _laid_out(self, w: Any) -> Any:
        def row(*widgets: Any) -> Any:
            return w.HBox(widgets, layout=w.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 12px"))

        def heading(text: str) -> Any:
            return w.HTML(f"<h3>{text}</h3>")

        time = [heading("Time"), self.t, row(w.Label("play time"), self.play)]
        camera = [heading("Camera, beside that of the moment"), *self.camera, row(w.Label("play an orbit"), self.orbit), self.rest]
        methods = [heading("Methods"), *self.ticks.values()]
        hand = w.VBox([*time, *camera, *methods], layout=w.Layout(flex="1 1 400px", min_width="0", max_width="460px"))
        eye = w.VBox([row(self.mode), row(self.fraction, self.second, self.flicker), self.image, self.status],
                     layout=w.Layout(flex="2 1 560px", min_width="0"))  # fmt: skip
        panel = w.VBox([
            w.HTML(CSS), heading("Two frames of a clip"), row(self.clip, self.upload, self.look), row(self.start, self.gap),
            w.HBox([hand, eye], layout=w.Layout(flex_flow="row wrap", align_items="flex-start", grid_gap="16px")),
            row(self.kind, self.save), self.link, heading("What a method believes"), self.believer, self.tabs, self.names,
        ])  # fmt: skip
        panel.add_class(SCOPE)
        return panel
