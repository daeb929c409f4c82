"""Synthesis over a whole clip: in time, in space, and both (specification section 3).

Every function takes frames as an iterable of (3, H, W) in [0, 1], streams, and encodes a frame once. Pictures come back
clamped, (3, H, W). The model must be in eval mode; frames are moved to its device.

Both families do all of it but `reconstruct` and `view_synthesis`, which redraw kept codes of the faithful model: the sharp one moves pixels
of the frames that it is given. Camera paths are thetas of the cube in both (`geometry`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .errors import ClipError, ConfigError
from .faithful import model as faithful
from .faithful.model import VideoAutoencoder4D
from .family import Model
from .geometry import accumulate, compose, euler_to_theta, invert, relative_pose, theta_to_euler
from .sharp import model as sharp
from .sharp.model import SharpAutoencoder4D

Encoded = faithful.Encoded | sharp.Encoded


def on_device(model: Model, frame: Tensor) -> Tensor:
    """A frame (3, H, W) as a batch of one on the model's device."""
    return frame.to(next(model.parameters(), frame).device)[None]


def options_of(model: Model, semantics: str, **how) -> dict:
    """Options for `model.synthesise`: `how`, and `semantics` for the faithful model; no other knows defects to choose from."""
    return {"semantics": semantics, **how} if isinstance(model, VideoAutoencoder4D) else how


def faithful_only(model: Model, what: str) -> None:
    """Raise ConfigError for a sharp model, which has no code to draw a picture from."""
    if isinstance(model, SharpAutoencoder4D):
        name = model.config.preset
        raise ConfigError(f"{what} draws pictures from a kept code, and model {name!r} moves pixels: take a faithful one, such as 'small'.")


@torch.inference_mode()
def interpolate(model: Model, frames: Iterable[Tensor], factor: int = 2, **how) -> Iterator[Tensor]:
    """Frames at `factor` times the rate: the given frames as they are, and factor - 1 synthesised ones in every gap.

    N frames become (N - 1) * factor + 1. `how` goes to `model.synthesise` (offset, use_flow; semantics and use_correction
    of the faithful model, focal of the sharp one).

    Raises:
        ConfigError: factor below 1.
        ClipError: fewer than two frames.
    """
    if not isinstance(factor, int) or factor < 1:
        raise ConfigError(f"factor is {factor!r}: give a whole number of at least 1 (2 doubles the frame rate).")
    last = None
    count = 0
    for frame in frames:
        new = model.encode(on_device(model, frame))
        if last is not None:
            for step in range(1, factor):
                yield model.synthesise(last, new, step / factor, **how).image[0]
        yield new.frame[0]
        last, count = new, count + 1
    if count < 2:
        raise ClipError(f"Interpolation needs two frames, the clip has {count}: choose a longer clip.")


@torch.inference_mode()
def between(model: Model, first: Tensor, second: Tensor, times: Iterable[float], **how) -> Tensor:
    """The moments `times` in [0, 1] between two frames (3, H, W), each encoded once: (K, 3, H, W) on the CPU."""
    start, end = (model.encode(on_device(model, frame)) for frame in (first, second))
    return torch.cat([model.synthesise(start, end, t, **how).image for t in times]).cpu()


@torch.inference_mode()
def middle_frames(model: Model, frames: Iterable[Tensor], t: float = 0.5, **how) -> Iterator[Tensor]:
    """Frame i + 1 from frames i and i + 2, for every i: the interpolation that can be scored against the truth.

    N frames give N - 2 predictions, each at fraction `t` of the way.
    """
    window: list[Encoded] = []
    for frame in frames:
        window.append(model.encode(on_device(model, frame)))
        if len(window) == 3:
            yield model.synthesise(window.pop(0), window[-1], t, **how).image[0]


@torch.inference_mode()
def reconstruct(
    model: VideoAutoencoder4D,
    frames: Iterable[Tensor],
    reinit_k: int = 12,
    use_flow: bool | None = None,
    use_correction: bool | None = None,
) -> Iterator[Tensor]:
    """Frames 1, 2, ... from a kept scene code that becomes the true frame again every `reinit_k` frames.

    The static baseline is `use_flow=False`. N frames give N - 1.

    Raises:
        ConfigError: a sharp model, or reinit_k below 1. ClipError: fewer than two frames.
    """
    faithful_only(model, "Reconstruction")
    use_flow = model.flow_trained if use_flow is None else use_flow
    use_correction = use_flow and use_correction is not False
    scene, count = None, 0
    for index, frame in enumerate(frames):
        new = model.encode(on_device(model, frame))
        if scene is not None:
            start = model.warp(scene.code, model.pose(scene.frame, new.frame))
            code = start
            if use_flow:
                end = model.warp(new.code, model.pose(new.frame, new.frame))
                code, offset = model.flow_code(start, end)
                code = model.flow_correction(code, offset) if use_correction else code
            yield model.decode(code).clamp(0, 1)[0]
        if index % check_reinit(reinit_k) == 0:
            scene = new
        count += 1
    if count < 2:
        raise ClipError(f"Reconstruction needs two frames, the clip has {count}: choose a longer clip.")


@torch.inference_mode()
def view_synthesis(model: VideoAutoencoder4D, frames: Iterable[Tensor], reinit_k: int = 12) -> Iterator[Tensor]:
    """Frames 1, 2, ... by camera motion alone, from a scene code refreshed every `reinit_k` frames from the own prediction.

    The base model's test (RealEstate10K protocol): only frame 0 gives pixels, the later true frames give poses.

    Raises:
        ConfigError: a sharp model, or reinit_k below 1. ClipError: fewer than two frames.
    """
    faithful_only(model, "View synthesis")
    scene, code, prediction = None, None, None
    for index, frame in enumerate(frames):
        frame = on_device(model, frame)
        if scene is not None:
            prediction = model.decode(model.warp(code, model.pose(scene, frame))).clamp(0, 1)
            yield prediction[0]
        if index % check_reinit(reinit_k) == 0:
            scene = frame
            code = model.encode(frame if prediction is None else prediction).code
    if prediction is None:
        raise ClipError("View synthesis needs two frames: choose a longer clip.")


def check_reinit(reinit_k: int) -> int:
    """`reinit_k`, checked to be a whole number of at least 1."""
    if not isinstance(reinit_k, int) or reinit_k < 1:
        raise ConfigError(f"reinit_k is {reinit_k!r}: give a whole number of at least 1 (12 in the published system).")
    return reinit_k


@torch.inference_mode()
def novel_views(model: Model, first: Tensor, second: Tensor, offsets: Tensor, t: float = 0.5, **how) -> Iterator[Tensor]:
    """The moment `t` between two frames, seen from each camera offset in turn.

    Args:
        first, second: (3, H, W).
        offsets: (K, 6), see `VideoAutoencoder4D.synthesise`; `orbit` makes one.
    """
    first, second = (model.encode(on_device(model, frame)) for frame in (first, second))
    for offset in offsets:
        yield model.synthesise(first, second, t, offset, **how).image[0]


def orbit(count: int, angle: float = 0.1, depth: float = 0.0) -> Tensor:
    """Camera offsets (count, 6) of a closed loop around a point in the scene.

    The camera swings by +-`angle` radians sideways and +-`angle` / 2 up and down, turned so that it keeps looking at the
    point (0, 0, `depth`) of the normalised cube, whose z runs from -1 (first slice) to 1. The first and the last differ by one step,
    so that the video loops.
    """
    if count < 1:
        raise ConfigError(f"An orbit has at least one view, got {count}.")
    phase = torch.arange(count) * (2 * math.pi / count)
    pose = torch.zeros(count, 6)
    pose[:, 0], pose[:, 1] = angle * phase.sin(), angle / 2 * (1 - phase.cos())
    centre = torch.tensor([0.0, 0.0, depth])
    rotation = euler_to_theta(pose)[:, :, :3]
    pose[:, 3:] = centre - rotation @ centre  # the point is fixed: R c + t = c
    return pose


@torch.inference_mode()
def trajectory(model: Model, frames: Iterable[Tensor], **how) -> Tensor:
    """Camera path (T, 3, 4) of a clip, accumulated from frame to frame.

    The faithful model's begins with the self-pose of frame 0 and is chained as in the published system. The sharp model's begins with the
    identity, each entry carries that frame's points to frame 0, and a pair's own median depth is the unit of its translation. `how` goes to
    the sharp model's `synthesise` (focal).

    Raises:
        ClipError: no frame.
    """
    path = _sharp_path(model, frames, **how) if isinstance(model, SharpAutoencoder4D) else _faithful_path(model, frames)
    if path is None:
        raise ClipError("A trajectory needs at least one frame: choose another clip.")
    return path


def _sharp_path(model: SharpAutoencoder4D, frames: Iterable[Tensor], **how) -> Tensor | None:
    path, last = [], None
    for frame in frames:
        new = model.encode(on_device(model, frame))
        step = torch.eye(3, 4, device=new.frame.device) if last is None else euler_to_theta(model.synthesise(last, new, 0.0, **how).pose)[0]
        path.append(compose(path[-1], step) if path else step)
        last = new
    return torch.stack(path) if path else None


def _faithful_path(model: VideoAutoencoder4D, frames: Iterable[Tensor]) -> Tensor | None:
    steps, last, start = [], None, None
    for frame in frames:
        frame = on_device(model, frame)
        own = euler_to_theta(model.pose(frame, frame))[0]
        if last is None:
            start = own
        else:
            previous, previous_own = last
            steps.append(relative_pose(previous_own, euler_to_theta(model.pose(previous, frame))[0]))
        last = (frame, own)
    if start is None:
        return None
    return accumulate(start, torch.stack(steps) if steps else start.new_zeros(0, 3, 4))


@torch.inference_mode()
def follow_trajectory(model: Model, frame: Tensor, path: Tensor) -> Iterator[Tensor]:
    """One frame seen along the camera path (T, 3, 4) of another clip; the path is taken relative to its first entry.

    The sharp model takes the depth that it sees in the one frame, and fills what lies outside it from its border: the path should be short
    beside the scene.

    Raises:
        ConfigError: a path of another shape.
    """
    if path.ndim != 3 or path.shape[1:] != (3, 4):
        raise ConfigError(f"A trajectory has shape (T, 3, 4), got {tuple(path.shape)}: make one with `trajectory`.")
    scene = model.encode(on_device(model, frame))
    path = path.to(scene.code.device)
    start = invert(path[0])
    for pose in path:
        theta = compose(start, pose)[None]
        if isinstance(model, SharpAutoencoder4D):
            yield model.synthesise(scene, scene, 0.0, theta_to_euler(theta)).image[0]
        else:
            yield model.decode(model.warp(scene.code, theta)).clamp(0, 1)[0]
