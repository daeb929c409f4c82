"""What a method believes of a moment, as figures by name.

`BELIEFS` maps a view's name to a function (explorer, method, t, offset) -> Figure; `beliefs` adds those that a user registered. What a
method does not have raises ConfigError with one sentence that says what is missing, so that the other views can be shown; a view of one's
own that fails, and a model of one's own that says something else than `Synthesis` has, raises MethodError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from .. import register
from ..errors import ConfigError, MethodError, Vae4dError
from ..evaluation.optical_flow import FlowWarp
from ..family import Model
from ..views.charts import camera_path
from ..views.frames import image_flow
from ..views.moments import full_colour, inverse_depths
from ..views.volumes import code_projections, voxel_flow_arrows, voxel_flow_projections
from ..workbook import moments
from ..workbook.showcase import visible_flow
from .core import STILL, Explorer

Belief = Callable[[Explorer, str, float, Sequence[float]], Figure]
WORDS = {"weights": "whose pixels it takes", "own": "what moves by itself", "voxel_flow": "voxel flow"}  # for fields of `SharpSynthesis`


def said(explorer: Explorer, name: str, t: float, offset: Sequence[float], *fields: str) -> Any:
    """What a model says of a moment, with all of these fields of `SharpSynthesis`.

    Raises:
        ConfigError: it lacks one, as the faithful model does that paints its picture from voxels, or the method is no model.
    """
    made = explorer.synthesis(name, t, offset)
    if lacks := [field for field in fields if getattr(made, field, None) is None]:
        what = " and ".join(WORDS.get(field, field) for field in lacks)
        raise ConfigError(f"{name} says nothing of {what}: choose another model for this view.")
    return made


def depth(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """How near everything is."""
    return inverse_depths(said(explorer, name, t, offset, "depth").depth, [f"{name}\nt = {t:.2f}"])


def occupancy(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Where in the volume things are: the planes of a sharp model, the energy of a faithful one's code."""
    made = explorer.synthesis(name, t, offset)
    if getattr(made, "density", None) is not None:
        return moments.planes(made)
    return code_projections(said(explorer, name, t, offset, "codes").codes[2][0])


def motion(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Where every pixel moves from the first frame to the second; also of optical flow."""
    method = explorer.methods.get(name)
    if isinstance(method, FlowWarp):
        flow = method.flow(explorer.first, explorer.second)
    else:
        flow = moments.whole_motion(said(explorer, name, t, offset, "motion")).cpu().numpy()
    return image_flow(flow, [f"{name}\nfirst frame to second"], full_colour(flow))


def shares(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Who made a pixel, what is hidden in a frame, and how much of the motion is not the camera's: where the model is unsure."""
    return moments.shares(said(explorer, name, t, offset, "weights", "own"))


def voxel_flow(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """What moves by itself in the volume, seen from three sides."""
    return voxel_flow_projections(**flow_of(explorer, name, t, offset))


def flow_in_space(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """The same as arrows in space."""
    return voxel_flow_arrows(**flow_of(explorer, name, t, offset))


def flow_of(explorer: Explorer, name: str, t: float, offset: Sequence[float]) -> dict[str, Any]:
    """The voxel flow of a model, see `showcase.visible_flow`.

    Raises:
        ConfigError: its flow is not trained.
    """
    if getattr(explorer.model(name), "flow_trained", True) is False:
        raise ConfigError(f"{name} has no voxel flow, as its flow stage is not trained: run 03_train_flow, or choose another model.")
    return visible_flow(said(explorer, name, t, offset, "voxel_flow"))


def path(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """How the model says that the camera moved, over the frames of the pair and between."""
    return camera_path(explorer.path(name))


BELIEFS: dict[str, Belief] = {
    "depth": depth,
    "occupancy": occupancy,
    "motion": motion,
    "shares": shares,
    "voxel flow": voxel_flow,
    "flow in space": flow_in_space,
    "camera path": path,
}


def beliefs() -> dict[str, Belief]:
    """`BELIEFS`, and the views that a user registered (`register.view`)."""
    own = {name: functools.partial(registered, view) for name, view in register.views.items()}
    return {name: functools.partial(drawn, draw) for name, draw in (BELIEFS | own).items()}


def drawn(draw: Belief, explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """A view, as `draw` has it.

    Raises:
        MethodError: a user's model says something else than the view takes. Others: see `draw`.
    """
    try:
        return draw(explorer, name, t, offset)
    except Exception as error:
        if isinstance(error, Vae4dError) or isinstance(explorer.methods.get(name), Model):
            raise
        what = f"{name} says something that this view cannot show ({type(error).__name__}: {error})"
        raise MethodError(f"{what}: return a vae4d.Synthesis, with None for what it lacks.") from error


def registered(view: Callable[..., Figure], explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """A user's view of what a model says of a moment.

    Raises:
        MethodError: the view fails.
    """
    return view(explorer.synthesis(name, t, offset), explorer.first, explorer.second)
