"""What an estimator says of two frames: flow, depth, and the camera's motion. And which views it can make of them.

Conventions:
    flow    (2, H, W) px, x right and y down, from the first frame to the second, on the first frame's grid.
    depth   (H, W) > 0 of the first frame, up to one factor.
    pose    (3, 4) = [R | t] maps the second camera's points to the first camera's (axes: x right, y down, z forward); t up to one
            positive factor. A still camera is [I | 0].
What an estimator cannot say is None.

How the faithful model (the 4D Video Autoencoder) is read. Its cube has no camera, so a place for one is a convention of ours: the cube
spans the picture, and its centre lies `CENTRE` = 2 half-depths in front of the camera, as for a lens whose focal length is the picture's
width. A point x of the cube is X = x + (0, 0, 2) for the camera, so a voxel's depth is z + 2, and a theta that maps the second view's
cube to the first's, x0 = R x1 + t, is the pose X0 = R X1 + t + c - R c with c = (0, 0, 2).

Flow of a voxel. On the grid of view 0 the start is S = V0, the end E = V1 warped by pose(1, 0), and F = encoder_flow(S, E) means that
S(p + F(p)) resembles E(p): what was at p + F(p) is now at p, so, F being smooth, what was at p is now near p - F(p). The end's own
camera shows a point x of this grid at theta^-1 x, as warping by theta = pose(0, 1) shows at x1 what was at theta x1. Together a voxel
moves by u(p) = theta^-1 (p - F(p)) - p. A pixel's flow is the mean of u's x and y over the voxels behind it, weighted by how much the
picture hangs on them (the sum over channels of |importance_mask * code|, see `losses`), times half the picture's size in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MethodError
from ..geometry import CENTRE, camera_of_cube, euler_to_theta, invert, offset_in_cube, theta_to_euler
from ..losses import importance_mask
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

    def __call__(self, first: Tensor, second: Tensor) -> Estimate:
        """What two frames (3, H, W) in [0, 1] say."""


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

    def __call__(self, first: Tensor, second: Tensor) -> Estimate:
        return Estimate(torch.zeros(2, *first.shape[1:]), torch.ones(first.shape[1:]), torch.eye(3, 4))


class FlowEstimator:
    """A flow function of `optical_flow`, which says nothing about depth and pose."""

    def __init__(self, function: Flow, **settings: str | int | float):
        self.function, self.settings = function, settings

    def __call__(self, first: Tensor, second: Tensor) -> Estimate:
        return Estimate(flow=torch.from_numpy(self.function(first, second).copy()))


class ModelEstimator:
    """The faithful model; how its volume is read stands in the module's docstring.

    Args:
        method: the model as a method.
    """

    def __init__(self, method: ModelMethod):
        self.method = method
        self.settings: Settings = {**method.settings, "cube_centre": CENTRE}

    def __call__(self, first: Tensor, second: Tensor) -> Estimate:
        model, (first, second) = self.method.model, (x[None].to(self.method.device) for x in (first, second))
        with torch.no_grad():  # not inference_mode: the importance mask is a gradient
            start = model.encode(first).code
            end = model.warp(model.encode(second).code, model.pose(second, first))
            theta = euler_to_theta(model.pose(first, second))
            use_flow = model.flow_trained if self.method.how["use_flow"] is None else self.method.how["use_flow"]
            offset = model.encoder_flow(start, end) if use_flow else start.new_zeros(1, *start.shape[2:], 3)
            weight = (importance_mask(model, start) * start).abs().sum(1)
            flow, depth = project_volume(offset, theta, weight)
        return Estimate(flow[0].cpu(), depth[0].cpu(), camera_of_cube(theta)[0].cpu())

    def novel_view(self, first: Tensor, second: Tensor, offset: Tensor, focal: float, depth: float) -> Tensor:
        """See `ViewEstimator`: the model's synthesis at t = 0 with the offset in the cube's units."""
        model, (first, second) = self.method.model, (x[None].to(self.method.device) for x in (first, second))
        theta = offset_in_cube(offset[None].float(), focal, depth, first.shape[-1])
        with torch.inference_mode():
            return model.synthesise(first, second, 0.0, theta_to_euler(theta), **self.method.how).image[0].cpu()

    def transfer(self, frames: Sequence[Tensor], picture: Tensor) -> Tensor:
        """See `ViewEstimator`: the path as the published system accumulates it, in cube units, which are taken to mean the same in both."""
        path = trajectory(self.method.model, frames)
        return torch.stack(list(follow_trajectory(self.method.model, picture, path)))[1:].cpu()


def project_volume(offset: Tensor, theta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What a voxel flow and a pose look like in the picture; see the module's docstring.

    Args:
        offset: (B, D, h, w, 3) voxel flow F in cube units.
        theta: (B, 3, 4) second view's cube to the first's.
        weight: (B, D, h, w) >= 0; a column without any weight counts evenly.
    Returns:
        flow (B, 2, 4h, 4w) in pixels and depth (B, 4h, 4w) in cube units from the camera.
    """
    batch, slices, rows, columns = weight.shape
    identity = torch.eye(3, 4, dtype=theta.dtype, device=theta.device).expand(batch, 3, 4)
    grid = F.affine_grid(identity, [batch, 1, slices, rows, columns], align_corners=False)
    back = invert(theta)
    moved = torch.einsum("bij,bdhwj->bdhwi", back[:, :, :3], grid - offset) + back[:, None, None, None, :, 3]
    total = weight.sum(dim=1, keepdim=True)
    share = torch.where(total > 0, weight / total.clamp_min(torch.finfo(weight.dtype).tiny), 1 / slices)[..., None]
    mean = (share * torch.cat([(moved - grid)[..., :2], grid[..., 2:] + CENTRE], dim=-1)).sum(dim=1).movedim(-1, 1)
    mean = F.interpolate(mean, scale_factor=4, mode="bilinear", align_corners=False)
    half = torch.tensor([2.0 * columns, 2.0 * rows], dtype=mean.dtype, device=mean.device)  # of 4 w by 4 h pixels
    return mean[:, :2] * half[:, None, None], mean[:, 2]


ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "nothing moves": NothingMoves,
    "Farneback": lambda: FlowEstimator(farneback_flow, flow="Farneback", opencv=opencv_version(), **FARNEBACK),
    "DIS": lambda: FlowEstimator(dis_flow, flow="DIS PRESET_MEDIUM", opencv=opencv_version()),
}


def estimators(models: Iterable[tuple[str, ModelMethod]] = ()) -> dict[str, Estimator]:
    """The reference, both optical flows, and the given models, by name."""
    return {name: build() for name, build in ESTIMATORS.items()} | {name: ModelEstimator(method) for name, method in models}


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
