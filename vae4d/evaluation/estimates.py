"""What an estimator says of two frames: flow, depth, and the camera's motion. And which views it can make of them.

Conventions:
    flow    (2, H, W) px, x right and y down, from the first frame to the second, on the first frame's grid.
    depth   (H, W) > 0 of the first frame, up to one factor.
    pose    (3, 4) = [R | t] maps the second camera's points to the first camera's (axes: x right, y down, z forward); t up to one
            positive factor. A still camera is [I | 0].
What an estimator cannot say is None.

How a model is read as an estimate stands in `faithful_estimates` and `sharp_estimates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import MethodError
from ..synthesis import follow_trajectory, trajectory
from .methods import ModelMethod, Settings
from .optical_flow import FARNEBACK, Flow, dis_flow, farneback_flow, opencv_version


@dataclass(frozen=True, eq=False)
class Estimate:
    """See the module's conventions."""

    flow: Tensor | None = None  # (2, H, W) px
    depth: Tensor | None = None  # (H, W), up to one factor
    pose: Tensor | None = None  # (3, 4) second camera to first, t up to one factor


class Estimator(Protocol):
    """What can be scored beside the truth."""

    settings: Settings  # what defines it, see `methods.Method`

    def __call__(self, first: Tensor, second: Tensor, focal: float | None = None) -> Estimate:
        """What two frames (3, H, W) in [0, 1] say; `focal` is the focal length in pixels where it is known."""


@runtime_checkable
class ViewEstimator(Protocol):
    """An estimator that also makes pictures of cameras that never were."""

    def novel_view(self, first: Tensor, second: Tensor, offset: Tensor, focal: float, depth: float) -> Tensor:
        """The first frame from a moved camera, (3, H, W) in [0, 1].

        Args:
            offset: (3, 4) maps the moved camera's points to the first camera's, in world units.
            focal: focal length in pixels.
            depth: median depth of the first frame in world units: tells how large the offset is beside the scene.
        """

    def transfer(self, frames: Sequence[Tensor], picture: Tensor) -> Tensor:
        """`picture` (3, H, W) along the camera's path in other `frames`, (len(frames) - 1, 3, H, W) in [0, 1], one for each later frame."""


class NothingMoves:
    """The reference that every figure needs: no flow, a still camera, a wall at one depth."""

    def __init__(self) -> None:
        self.settings: Settings = {"estimate": "no flow, still camera, constant depth"}

    def __call__(self, first: Tensor, second: Tensor, focal: float | None = None) -> Estimate:
        return Estimate(torch.zeros(2, *first.shape[1:]), torch.ones(first.shape[1:]), torch.eye(3, 4))


class FlowEstimator:
    """A flow function of `optical_flow`, which says nothing about depth and pose."""

    def __init__(self, function: Flow, **settings: str | int | float):
        self.function, self.settings = function, settings

    def __call__(self, first: Tensor, second: Tensor, focal: float | None = None) -> Estimate:
        return Estimate(flow=torch.from_numpy(self.function(first, second).copy()))


class ModelEstimator:
    """What both families of models share as estimators.

    Args:
        method: the model as a method.
    """

    constants: ClassVar[Settings]  # by which it is read

    def __init__(self, method: ModelMethod):
        self.method = method
        self.settings: Settings = {**method.settings, **self.constants}

    def transfer(self, frames: Sequence[Tensor], picture: Tensor) -> Tensor:
        """See `ViewEstimator`."""
        path = trajectory(self.method.model, frames)
        return torch.stack(list(follow_trajectory(self.method.model, picture, path)))[1:].cpu()


ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "nothing moves": NothingMoves,
    "Farneback": lambda: FlowEstimator(farneback_flow, flow="Farneback", opencv=opencv_version(), **FARNEBACK),
    "DIS": lambda: FlowEstimator(dis_flow, flow="DIS PRESET_MEDIUM", opencv=opencv_version()),
}


def estimators(models: Iterable[tuple[str, ModelMethod]] = ()) -> dict[str, Estimator]:
    """The reference, both optical flows, and the given models, by name."""
    return {name: build() for name, build in ESTIMATORS.items()} | {name: model_estimator(method) for name, method in models}


def model_estimator(method: ModelMethod) -> Estimator:
    """The estimator of a model's family."""
    from .faithful_estimates import FaithfulEstimator  # both make estimates, so they import this module
    from .sharp_estimates import SharpEstimator

    return SharpEstimator(method) if method.sharp else FaithfulEstimator(method)


def checked_estimate(name: str, estimate: Estimate, size: int) -> Estimate:
    """An estimate as float32 on the CPU.

    Raises:
        MethodError: it is no Estimate, or a part has a wrong shape or values that are not finite.
    """
    if not isinstance(estimate, Estimate):
        raise MethodError(f"Estimator {name!r} returned {type(estimate).__name__}: return an Estimate(flow, depth, pose).")
    parts = {}
    for part, shape in (("flow", (2, size, size)), ("depth", (size, size)), ("pose", (3, 4))):
        value = getattr(estimate, part)
        if value is not None:
            if not isinstance(value, Tensor) or tuple(value.shape) != shape:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise MethodError(f"Estimator {name!r} returned a {part} of shape {got}, not {shape}: return such a tensor, or None.")
            value = value.detach().to("cpu", torch.float32)
            if not bool(value.isfinite().all()):
                raise MethodError(f"Estimator {name!r} returned a {part} with NaN or infinite values: look for a division by zero in it.")
        parts[part] = value
    return Estimate(**parts)


def checked_views(name: str, views: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Pictures that a `ViewEstimator` made as float32 on the CPU, clamped to [0, 1].

    Raises:
        MethodError: not a float tensor of that shape, or with values that are not finite.
    """
    if not isinstance(views, Tensor) or not views.is_floating_point() or tuple(views.shape) != shape:
        got = f"{views.dtype} {tuple(views.shape)}" if isinstance(views, Tensor) else type(views).__name__
        raise MethodError(f"Estimator {name!r} returned views {got}, not floats {shape}: return RGB pictures in [0, 1] of the given size.")
    if not bool(views.isfinite().all()):
        raise MethodError(f"Estimator {name!r} returned views with NaN or infinite values: look for a division by zero in it.")
    return views.detach().to("cpu", torch.float32).clamp(0, 1)
