"""Errors of camera paths, as published (absolute position error by evo) and in rotation.

Conventions: a path is (T, 3, 4) = [R | t], camera-to-world, axes x right, y down, z forward: `synthesis.trajectory` makes one and
`Cameras.poses` gives the true one. Position errors are in units of the true path, rotation errors in degrees; both are summed up by
rmse, mean and max over the frames.

A path is known up to a similarity, so that the estimated one is aligned first: for positions by the similarity (rotation, shift and scale)
that brings all of them closest to the true ones (Umeyama 1991), for rotations by laying the first cameras on each other.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ..cameras import checked_trajectory
from ..errors import ClipError, MissingInputError
from .scene_metrics import rotation_error as angle

LEAST = 3  # poses; a similarity lays any two positions on any other two
STILL = 1e-9  # of the largest coordinate: a path that leaves its mean by less does not move


def ape(estimated: Any, true: Any) -> dict[str, float]:
    """Absolute position error after alignment with scale: rmse, mean and max over the frames, by evo (APE, translation part).

    All three are NaN where one of the paths does not move, as no scale can then be told. A straight path may be turned about itself without
    a change of the error; evo refuses to align most of these, and is then given a path aligned by the same formula.

    Args:
        estimated, true: (T, 3, 4), T >= 3, numpy or torch.

    Raises:
        ClipError: paths of different lengths or shapes, fewer than three poses, or a matrix that is no rigid motion.
        MissingInputError: evo is not installed.
    """
    estimated, true = paired(estimated, true)
    geometry, metrics, trajectory = evo_modules()
    if still(estimated) or still(true):
        return dict.fromkeys(("rmse", "mean", "max"), math.nan)
    path, reference = (trajectory.PosePath3D(poses_se3=homogeneous(poses)) for poses in (estimated, true))
    try:
        path.align(reference, correct_scale=True)
    except geometry.GeometryException:
        path.transform(similarity(path.positions_xyz, reference.positions_xyz))
    measure = metrics.APE(metrics.PoseRelation.translation_part)
    measure.process_data((reference, path))
    found = measure.get_all_statistics()
    return {name: float(found[name]) for name in ("rmse", "mean", "max")}


def rotation_error(estimated: Any, true: Any) -> dict[str, float]:
    """Angle in degrees between the cameras' rotations since the first frame: rmse, mean and max over frames 1 to T - 1.

    The first cameras are laid on each other (R_0^T R_i); the rotation that aligns the positions is not used, as it is uncertain for a path
    that is short or straight and would put its error into every frame. Frame 0 is exact by this and is not counted.

    Args:
        estimated, true: (T, 3, 4), T >= 3, numpy or torch.

    Raises:
        ClipError: as in `ape`.
    """
    estimated, true = paired(estimated, true)
    turned, expected = (rotations[:1].mT @ rotations[1:] for rotations in map(torch.from_numpy, (estimated[:, :, :3], true[:, :, :3])))
    error = np.array([angle(a, b) for a, b in zip(turned, expected, strict=True)])
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mean": float(error.mean()), "max": float(error.max())}


def paired(estimated: Any, true: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both paths as float64, checked to be of one length."""
    estimated = checked_trajectory(estimated, "The estimated path").astype(np.float64)
    true = checked_trajectory(true, "The true path").astype(np.float64)
    if len(estimated) != len(true):
        raise ClipError(f"The estimated path has {len(estimated)} poses, the true one {len(true)}: give the same frames of both.")
    if len(true) < LEAST:
        raise ClipError(f"A path of {len(true)} poses cannot be aligned and scored: give at least {LEAST}.")
    return estimated, true


def still(poses: np.ndarray) -> bool:
    """Whether a path does not move, up to rounding."""
    positions = poses[:, :, 3]
    return bool(np.abs(positions - positions.mean(axis=0)).max() <= STILL * np.abs(positions).max())


def homogeneous(poses: np.ndarray) -> list[np.ndarray]:
    """(T, 3, 4) as the list of 4x4 matrices that evo takes."""
    return list(np.concatenate([poses, np.tile([0.0, 0.0, 0.0, 1.0], (len(poses), 1, 1))], axis=1))


def similarity(positions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 4x4 similarity that brings `positions` (T, 3) closest to `target` (Umeyama 1991, eq. 38 to 43); one of them where many do."""
    mean, target_mean = positions.mean(axis=0), target.mean(axis=0)
    u, d, v = np.linalg.svd((target - target_mean).T @ (positions - mean) / len(target))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    scale = (d * sign).sum() / ((positions - mean) ** 2).sum(axis=1).mean()
    matrix = np.eye(4)
    matrix[:3, :3] = scale * (u * sign) @ v
    matrix[:3, 3] = target_mean - matrix[:3, :3] @ mean
    return matrix


def evo_modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    """evo's geometry, metrics and trajectory.

    Raises:
        MissingInputError: evo is not installed.
    """
    try:
        from evo.core import geometry, metrics, trajectory
    except ImportError as error:
        raise MissingInputError("The error of camera paths needs the package evo, which is not installed: pip install evo.") from error
    return geometry, metrics, trajectory
