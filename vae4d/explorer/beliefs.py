"""What a method believes of a moment, as figures by name.

`BELIEFS` maps a view's name to a function (explorer, method, t, offset) -> Figure; `beliefs` adds those that a user registered. What a
method does not have raises ConfigError with one sentence that says what is missing, so that the other views can be shown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from .. import register
from ..errors import ConfigError
from ..evaluation.optical_flow import FlowWarp
from ..sharp.model import SharpSynthesis
from ..sharp.volume import plane_depths
from ..views.charts import camera_path
from ..views.frames import image_flow
from ..views.moments import density_planes, full_colour, inverse_depths, share_maps
from ..views.volumes import code_projections, voxel_flow_arrows, voxel_flow_projections
from ..workbook.moments import whole_motion
from ..workbook.showcase import visible_flow
from .core import STILL, Explorer

Belief = Callable[[Explorer, str, float, Sequence[float]], Figure]


def sharp(explorer: Explorer, name: str, t: float, offset: Sequence[float]) -> SharpSynthesis:
    """What a sharp model says of a moment.

    Raises:
        ConfigError: it is another method.
    """
    made = explorer.synthesis(name, t, offset)
    if not isinstance(made, SharpSynthesis):
        raise ConfigError(f"{name} paints its picture from voxels and says nothing of single pixels: choose a sharp model for this view.")
    return made


def depth(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """How near everything is."""
    return inverse_depths(sharp(explorer, name, t, offset).depth, [f"{name}\nt = {t:.2f}"])


def occupancy(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Where in the volume things are: the planes of a sharp model, the energy of a faithful one's code."""
    made = explorer.synthesis(name, t, offset)
    if isinstance(made, SharpSynthesis):
        return density_planes(made.density[0], plane_depths(made.density.shape[1]))
    return code_projections(made.codes[2][0])


def motion(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Where every pixel moves from the first frame to the second; also of optical flow."""
    method = explorer.methods.get(name)
    if isinstance(method, FlowWarp):
        flow = method.flow(explorer.first, explorer.second)
    else:
        flow = whole_motion(sharp(explorer, name, t, offset)).cpu().numpy()
    return image_flow(flow, [f"{name}\nfirst frame to second"], full_colour(flow))


def shares(explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """Who made a pixel, what is hidden in a frame, and how much of the motion is not the camera's: where the model is unsure."""
    made = sharp(explorer, name, t, offset)
    parts = dict(zip(("from frame 0", "from frame 1", "invented"), made.weights[0].clamp(0, 1), strict=True))
    return share_maps(made.image[0], parts | {"moves by itself": made.own[0].clamp(0, 1)})


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
    made = explorer.synthesis(name, t, offset)
    if made.voxel_flow is None:
        raise ConfigError(f"{name} has no voxel flow, as its flow stage is not trained: run 03_train_flow, or choose another model.")
    return visible_flow(made)


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
    return BELIEFS | {name: functools.partial(registered, view) for name, view in register.views.items()}


def registered(view: Callable[..., Figure], explorer: Explorer, name: str, t: float, offset: Sequence[float] = STILL) -> Figure:
    """A user's view of what a model says of a moment.

    Raises:
        MethodError: the view fails.
    """
    return view(explorer.synthesis(name, t, offset), explorer.first, explorer.second)
