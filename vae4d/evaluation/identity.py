"""Identity tests: what any interpolation must give where the answer is known without a truth (docs/evaluation.md, rule 8).

Of any method: t = 0 and t = 1 give back the given frames, equal frames give back that frame, and swapping the given frames mirrors t.
Of a model also: equal frames give no pose and no flow; a scene in which only the camera moves gives at most half the flow of one in
which only objects move, and the other way round for the pose. What equal frames may give is always allowed: half of next to nothing
would judge noise.

Units: PSNR in dB of uint8 frames, the worst of all frame pairs given. Flow in pixels, the mean length over the volume of its part in
the picture plane, by each voxel's share in the picture where the model tells it (the sharp one does; its flow leaves out the camera's
share); rotation in degrees, translation in normalised-cube units, means over the frame pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import ConfigError
from ..family import Model
from ..geometry import euler_to_theta
from ..metrics import psnr
from ..sharp.model import SharpSynthesis
from .methods import Method, Pair, checked
from .scoring import one_thread

FramePair = tuple[Tensor, Tensor]
"""Two frames (3, S, S) in [0, 1]."""

REBUILT = 40.0  # dB; above it a picture counts as given back
NO_FLOW, NO_ROTATION, NO_TRANSLATION = 0.1, 0.1, 0.005  # px, degrees, normalised-cube units (0.005 moves a 128 px picture by 0.3 px)
LITTLE = 0.5  # of what the opposite scenes give; where that is next to nothing, the limits above hold
COLUMNS = ["method", "test", "value", "unit", "limit", "verdict"]


def identity_tests(
    name: str,
    method: Method,
    pairs: Sequence[FramePair],
    model: Model | None = None,
    camera_only: Sequence[FramePair] = (),
    objects_only: Sequence[FramePair] = (),
) -> pd.DataFrame:
    """One row a test: method, test, value, unit, limit, verdict ("passes", "fails", or "no flow" where a model has none).

    Args:
        method: one that takes any moment, 0 and 1 included; those that read a sequence at a fixed rate or a folder do not.
        pairs: of moving scenes; at least one.
        model: the method's model, for its pose and flow.
        camera_only, objects_only: frame pairs of scenes in which only the camera, or only objects move; both or neither.
    Raises:
        ConfigError: no pairs, or one kind of scenes without the other.
        MethodError: see `methods.checked`.
    """
    if not pairs:
        raise ConfigError("Identity tests need at least one pair of frames: give some of a moving scene.")
    if bool(camera_only) != bool(objects_only):
        raise ConfigError("Camera-only and objects-only scenes are compared with each other: give both, or neither.")
    ends, mirrored, still = [], [], []
    for first, second in pairs:
        forth = _frames(name, method, first, second, (0.0, 0.25, 0.5, 0.75, 1.0))
        back = _frames(name, method, second, first, (0.0, 0.25, 0.5, 0.75, 1.0)).flip(0)
        ends.append(psnr(forth[[0, -1]], torch.stack([first, second])))
        mirrored.append(psnr(forth[1:-1], back[1:-1]))
        still.append(psnr(_frames(name, method, first, first, (0.5,)), first[None]))
    at_start, at_end = np.min(ends, axis=0)
    rows = [
        ("t = 0 gives back the first frame", at_start, "dB", ">=", REBUILT),
        ("t = 1 gives back the second frame", at_end, "dB", ">=", REBUILT),
        ("equal frames give back the frame", np.min(still), "dB", ">=", REBUILT),
        ("swapped frames mirror t", np.min(mirrored), "dB", ">=", REBUILT),
    ]
    if model is not None:
        flow, rotation, translation = believed_motion(model, [(first, first) for first, _ in pairs])
        rows += [
            ("equal frames give no flow", flow, "px", "<=", NO_FLOW),
            ("equal frames give no rotation", rotation, "degrees", "<=", NO_ROTATION),
            ("equal frames give no translation", translation, "cube units", "<=", NO_TRANSLATION),
        ]
        if camera_only:
            camera, objects = believed_motion(model, camera_only), believed_motion(model, objects_only)
            rows += [
                ("camera-only scenes give little flow", camera[0], "px", "<=", max(NO_FLOW, LITTLE * objects[0])),
                ("objects-only scenes give little rotation", objects[1], "degrees", "<=", max(NO_ROTATION, LITTLE * camera[1])),
                ("objects-only scenes give little translation", objects[2], "cube units", "<=", max(NO_TRANSLATION, LITTLE * camera[2])),
            ]
    table = [(name, test, float(value), unit, f"{sign} {limit:.3g}", _verdict(value, sign, limit))
             for test, value, unit, sign, limit in rows]
    return pd.DataFrame(table, columns=COLUMNS)


def _verdict(value: float, sign: str, limit: float) -> str:
    if np.isnan(value):
        return "no flow"
    return "passes" if (value >= limit if sign == ">=" else value <= limit) else "fails"


@torch.inference_mode()
def believed_motion(model: Model, pairs: Sequence[FramePair]) -> tuple[float, float, float]:
    """Flow (px), rotation (degrees) and translation (cube units) that a model sees between two frames, means over the pairs.

    A model whose flow stage was not trained has no flow: NaN.
    """
    device = next(model.parameters()).device
    seen = []
    for first, second in pairs:
        made = model.synthesise(first[None].to(device), second[None].to(device), 0.5)
        flow = float("nan")
        if made.voxel_flow is not None:
            height, width = first.shape[-2:]  # the cube's sides of length 2 span the picture
            length = torch.hypot(made.voxel_flow[..., 0] * (width / 2), made.voxel_flow[..., 1] * (height / 2))
            flow = float((length * made.density).sum(dim=1).mean() if isinstance(made, SharpSynthesis) else length.mean())
        theta = euler_to_theta(made.pose)[0].double()
        rotation, twist = theta[:, :3], theta[:, :3] - theta[:, :3].T
        sine = torch.stack([twist[2, 1], twist[0, 2], twist[1, 0]]).norm() / 2
        angle = torch.atan2(sine, (rotation.diagonal().sum() - 1) / 2)  # exact near 0, where the arc cosine is not
        seen.append((flow, float(torch.rad2deg(angle)), float(theta[:, 3].norm())))
    return tuple(float(value) for value in np.mean(seen, axis=0))


def _frames(name: str, method: Method, first: Tensor, second: Tensor, times: tuple[float, ...]) -> Tensor:
    """The method's frames (K, 3, S, S) of one pair that belongs to no clip."""
    pair = Pair("identity test", first.shape[-1], len(times) + 1, 0, first, second, tuple(range(1, len(times) + 1)), times)
    with one_thread():
        return checked(name, next(iter(method([pair]))), pair)
