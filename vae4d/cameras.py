"""Cameras of recorded videos, and camera paths as text files.

Conventions:
    world-to-camera   (N, 3, 4) = [R | t]: a point of the world goes to R X + t in the camera's axes (x right, y down, z forward).
    pose              (N, 3, 4), camera-to-world = [R^T | -R^T t]: its last column is where the camera stands. A path is made of poses.
    intrinsics        (N, 4) = fx, fy, cx, cy, relative to the picture: fx and cx in widths, fy and cy in heights, the upper left
                      corner of the picture being (0, 0). A picture that is squashed to a square keeps them.
    Timestamps are whole microseconds. World units are those of the data set (RealEstate10K: each video has a scale of its own).

A camera file is a text in RealEstate10K's format (Zhou et al. 2018, arXiv 1805.09817): the video's URL in the first line, then a line per
frame of 19 columns: timestamp, fx, fy, cx, cy, two lens coefficients, and the 12 numbers of the world-to-camera matrix, row by row.
A trajectory file has the 12 numbers of a pose in each line, row by row, and a line per frame.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import ClipError, MissingInputError
from .files import write_text

CAMERA_COLUMNS = 19
POSE_COLUMNS = 12
TOLERANCE = 1e-3  # of R R^T against the identity; files have 9 digits, a path of float32 poses drifts by less
LONGEST_LINE = 4096  # characters; 19 numbers take some 300
SOUND = ", or take the file from its source again"


@dataclass(frozen=True, eq=False)
class Cameras:
    """The cameras of a video's frames, checked when they are made.

    Args:
        timestamps: int64 (N,), microseconds, increasing.
        intrinsics: float64 (N, 4), relative, see the module's docstring.
        world_to_camera: float64 (N, 3, 4).

    Raises:
        ClipError: other shapes, no frame, values that are not finite, focal lengths that are not positive, a matrix that is no
            rotation, or timestamps that do not increase.
    """

    timestamps: np.ndarray
    intrinsics: np.ndarray
    world_to_camera: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "timestamps", np.asarray(self.timestamps, np.int64))
        object.__setattr__(self, "intrinsics", np.asarray(self.intrinsics, np.float64))
        object.__setattr__(self, "world_to_camera", np.asarray(self.world_to_camera, np.float64))
        count = self.timestamps.size
        shapes = self.timestamps.shape, self.intrinsics.shape, self.world_to_camera.shape
        if not count or shapes != ((count,), (count, 4), (count, 3, 4)):
            raise ClipError(f"Cameras of the shapes {shapes} do not fit together: give (N,), (N, 4) and (N, 3, 4) for N >= 1 frames.")
        if fault := camera_fault(self.timestamps, self.intrinsics, self.world_to_camera):
            raise ClipError(f"Camera {fault[0]} {fault[1]}.")

    def __len__(self) -> int:
        return len(self.timestamps)

    def poses(self, inverted: bool = True) -> np.ndarray:
        """Camera-to-world matrices (N, 3, 4) = [R^T | -R^T t].

        With `inverted=False` the world-to-camera matrices as they are, which the published system took for poses (row 11 of the
        table of defects).
        """
        if not inverted:
            return self.world_to_camera.copy()
        rotation = self.world_to_camera[:, :, :3].transpose(0, 2, 1)
        return np.concatenate([rotation, -rotation @ self.world_to_camera[:, :, 3:]], axis=2)

    def take(self, indices: slice | list[int] | np.ndarray) -> Cameras:
        """The cameras of some frames, in increasing order of time; `take(slice(None, None, 3))` keeps every third."""
        return Cameras(self.timestamps[indices], self.intrinsics[indices], self.world_to_camera[indices])

    def cropped(self, width: int, height: int) -> Cameras:
        """The cameras of the centre square of pictures of `width` x `height` pixels, its border at whole pixels.

        The square's side s is the shorter one and its corner (left, top) = ((width - s) // 2, (height - s) // 2):
        fx' = fx width / s, cx' = (cx width - left) / s, and so for y. A later change of size changes nothing.

        Raises:
            ClipError: width or height below 1.
        """
        if min(width, height) < 1:
            raise ClipError(f"A picture of {width} x {height} pixels cannot be cropped: give its width and height in pixels.")
        side = min(width, height)
        focal, centre = self.intrinsics[:, :2], self.intrinsics[:, 2:]
        size, corner = np.array([width, height]), np.array([(width - side) // 2, (height - side) // 2])
        intrinsics = np.concatenate([focal * size / side, (centre * size - corner) / side], axis=1)
        return Cameras(self.timestamps, intrinsics, self.world_to_camera)

    def to_dict(self) -> dict[str, list]:
        """Plain lists by name, for JSON (which keeps every digit) or `numpy.savez`."""
        names = ("timestamps", "intrinsics", "world_to_camera")
        return {name: getattr(self, name).tolist() for name in names}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Cameras:
        """The cameras that `to_dict` wrote, from lists or arrays.

        Raises:
            ClipError: a name is missing, or the values cannot be cameras.
        """
        try:
            return cls(saved["timestamps"], saved["intrinsics"], saved["world_to_camera"])
        except (KeyError, TypeError, ValueError, OverflowError, ClipError) as error:
            raise ClipError(f"Saved cameras are damaged ({type(error).__name__}: {error}): prepare the clip again.") from error


def camera_fault(timestamps: np.ndarray, intrinsics: np.ndarray, world_to_camera: np.ndarray) -> tuple[int, str] | None:
    """The first frame that cannot be right, and what to say of it; None where all can."""
    later = np.diff(timestamps, prepend=timestamps[:1]) > 0
    later[:1] = True
    said = f"has no finite, positive focal lengths: give fx, fy, cx, cy relative to the picture{SOUND}"
    wrong = [
        (~np.isfinite(intrinsics).all(axis=1) | ~(intrinsics[:, :2] > 0).all(axis=1), said),
        (~later, "has a timestamp that is not later than the one before: sort the frames by time and remove repeated ones"),
    ]
    faults = [(int(np.argmax(mask)), sentence) for mask, sentence in wrong if mask.any()]
    if fault := rotation_fault(world_to_camera):
        faults.append(fault)
    return min(faults, default=None)


def rotation_fault(matrices: np.ndarray) -> tuple[int, str] | None:
    """The first of the matrices (N, 3, 4) that is no rigid motion, and what to say of it; None where all are."""
    finite = np.isfinite(matrices).all(axis=(1, 2))
    rotation = np.where(finite[:, None, None], matrices[:, :, :3], np.eye(3))
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        mirrored = np.linalg.det(rotation) < 0
    bad = ~finite | ~(off <= TOLERANCE) | mirrored
    if not bad.any():
        return None
    first = int(np.argmax(bad))
    if not finite[first]:
        return first, f"has a matrix with values that are not finite: write finite numbers{SOUND}"
    if not off[first] <= TOLERANCE:
        return first, f"has rows that are not orthonormal (off by {off[first]:.3g}): give a rotation without scale or shear{SOUND}"
    return first, f"has a mirrored rotation (determinant -1): give a right-handed one{SOUND}"


def read_camera_file(path: str | os.PathLike) -> tuple[str, Cameras]:
    """The URL and the cameras of a RealEstate10K camera file. The two lens coefficients (0 in that data set) are not kept.

    Raises:
        MissingInputError: there is no such file.
        ClipError: it is no camera file; the sentence names the file and the line.
    """
    path = Path(path)
    lines = text_lines(path)
    _, url = next(lines, (1, ""))
    if not url or len(url.split()) == CAMERA_COLUMNS:
        raise ClipError(f"{path}, line 1: the video's URL is missing: begin the file with a line for it, cameras follow from line 2.")
    numbers, rows, timestamps = [], [], []
    for number, line in lines:
        columns = line.split()
        rows.append(parsed(path, number, columns, CAMERA_COLUMNS, "timestamp fx fy cx cy k1 k2 and the 12 numbers of a matrix"))
        if not re.fullmatch(r"\d{1,18}", columns[0]):
            raise ClipError(f"{path}, line {number}: the timestamp {columns[0]!r} is no whole number of microseconds: write digits.")
        numbers.append(number)
        timestamps.append(int(columns[0]))
    if not rows:
        raise ClipError(f"{path} holds a URL but no frames: add a line of {CAMERA_COLUMNS} columns per frame, or delete the file.")
    times, table = np.array(timestamps, np.int64), np.array(rows)
    intrinsics, matrices = table[:, 1:5], table[:, 7:].reshape(-1, 3, 4)
    if fault := camera_fault(times, intrinsics, matrices):
        raise ClipError(f"{path}, line {numbers[fault[0]]}: the frame {fault[1]}.")
    return url, Cameras(times, intrinsics, matrices)


def write_trajectory(path: str | os.PathLike, poses: Tensor | np.ndarray) -> None:
    """Write a camera path as text, whole or not at all: 12 numbers a line, with digits enough to read the same float32 (or float64) again.

    Args:
        poses: (T, 3, 4), T >= 1.

    Raises:
        ClipError: another shape, or a matrix that is no rigid motion.
        StorageError: the disk is full, or the folder cannot be written.
    """
    array = checked_trajectory(poses, "The trajectory")
    digits = 17 if array.dtype == np.float64 else 9
    lines = [" ".join(f"{value:.{digits}g}" for value in row) for row in array.reshape(-1, POSE_COLUMNS).tolist()]
    write_text(path, "\n".join(lines) + "\n")


def read_trajectory(path: str | os.PathLike) -> Tensor:
    """The camera path (T, 3, 4) of a trajectory file, float32, as `synthesis.trajectory` makes it.

    Raises:
        MissingInputError: there is no such file.
        ClipError: it is no trajectory; the sentence names the file and the line.
    """
    path = Path(path)
    numbers, rows = [], []
    for number, line in text_lines(path):
        rows.append(parsed(path, number, line.split(), POSE_COLUMNS, "the 12 numbers of a 3x4 matrix, row by row"))
        numbers.append(number)
    if not rows:
        raise ClipError(f"{path} holds no poses: write one with write_trajectory, {POSE_COLUMNS} numbers a line.")
    matrices = np.array(rows).reshape(-1, 3, 4)
    if fault := rotation_fault(matrices):
        raise ClipError(f"{path}, line {numbers[fault[0]]}: the frame {fault[1]}.")
    return torch.from_numpy(matrices).float()


def checked_trajectory(poses: Any, name: str) -> np.ndarray:
    """`poses` (T, 3, 4) as a numpy array of rigid motions; float64 stays, other precisions become float32.

    Raises:
        ClipError: another shape, or a matrix that is no rigid motion.
    """
    if isinstance(poses, Tensor):
        poses = poses.detach().cpu()
        poses = (poses if poses.dtype == torch.float64 else poses.float()).numpy()  # numpy knows no bfloat16
    array = np.asarray(poses)
    if array.ndim != 3 or array.shape[1:] != (3, 4) or not len(array):
        raise ClipError(f"{name} has the shape {array.shape}, not (T, 3, 4) with T >= 1: give one 3x4 pose per frame.")
    array = array if array.dtype == np.float64 else array.astype(np.float32)
    if fault := rotation_fault(array.astype(np.float64)):
        raise ClipError(f"{name}: pose {fault[0]} {fault[1]}.")
    return array


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1.

    Raises:
        MissingInputError: there is no such file.
        ClipError: it cannot be read, is no text, or has a line longer than LONGEST_LINE.
    """
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: check the path.")
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE or b"\0" in line:
                    raise ClipError(f"{path}, line {number}: not text, or longer than {LONGEST_LINE} characters: give a text file.")
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path} cannot be read as text ({error}): give a text file.") from error


def parsed(path: Path, number: int, columns: list[str], expected: int, what: str) -> list[float]:
    """The columns of a line as finite numbers.

    Raises:
        ClipError: another count, or a column that is no finite number.
    """
    if len(columns) != expected:
        raise ClipError(f"{path}, line {number}: {len(columns)} columns instead of {expected}: write {what}.")
    values = []
    for column in columns:
        try:
            values.append(float(column if column.isascii() and "_" not in column else ""))  # Python's own forms are no file's
        except ValueError as error:
            raise ClipError(f"{path}, line {number}: {column[:40]!r} is not a number: write {what}.") from error
        if not math.isfinite(values[-1]):
            raise ClipError(f"{path}, line {number}: {column[:40]!r} is not finite: write finite numbers{SOUND}.")
    return values
