"""Procedural scenes as training data: drawn when they are asked for, or drawn once and kept like a prepared video.

A window is one world at `clip_length` equally spaced times from 0 to 1, seen by its own moving camera. World i of a set depends on the
set's seed and on i, not on the number of worlds. Frames have 256 levels, as those of a video, so that drawn and cached windows are equal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..clips.cache import locked
from ..clips.clip import FORMAT, Clip
from ..clips.windows import ClipWindows
from ..errors import ClipError, ConfigError
from ..files import STORAGE_ERRNOS, storage_error, write_json
from ..geometry import compose, invert, offset_in_cube, theta_to_euler
from ..metrics import to_uint8
from ..progress import Line, Say
from .generate import generate
from .options import WorldOptions
from .render import render
from .textures import Textures

POSES = "poses.npy"  # float32 (worlds, T, T, 6), beside the frames of a cached set
SEEDS = 1_000_003  # from a set's seed to the next: sets of different seeds share no world
PICTURE_VERSION = 1  # raise it when the same seed gives other pictures: caches are drawn anew


@dataclasses.dataclass(frozen=True)
class SceneSet:
    """A reproducible set of worlds: world i has seed `SEEDS * seed + i`.

    Raises:
        ConfigError: count, clip_length, size or seed out of range.
    """

    count: int
    clip_length: int  # frames a world
    size: int  # pixels, side of a frame
    options: WorldOptions
    textures: Textures
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("count", 1, SEEDS), ("clip_length", 2, 10_000), ("size", 16, 10_000), ("seed", 0, 10**12)):
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} of a set of scenes is {getattr(self, name)}: give a number from {least} to {most}.")

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Frames (T, 3, S, S) in [0, 1] of a world, and poses (T, T, 6): at [i, j] that of frame j's camera seen from frame i's.

        Poses are the model's six-vectors, by the convention of `geometry.offset_in_cube` at frame i's median depth.
        """
        world = generate([self.seed * SEEDS + number], self.options, self.textures)
        views = [render(world, world.camera(t, self.size), t) for t in torch.linspace(0, 1, self.clip_length).tolist()]
        poses = []
        for view in views:
            to_view = invert(view.camera.pose)
            offsets = torch.cat([compose(to_view, other.camera.pose) for other in views])
            focal, depth = float(view.camera.intrinsics[0, 0, 0]), float(view.depth.median())
            poses.append(theta_to_euler(offset_in_cube(offsets, focal, depth, self.size)))
        frames = torch.cat([view.image for view in views]).clamp(0, 1)
        return frames.mul(255).round().div(255), torch.stack(poses).float()

    def identity(self) -> dict:
        """What the pictures depend on, as JSON values."""
        fields = {name: getattr(self, name) for name in ("count", "clip_length", "size", "seed")}
        versions = {"version": PICTURE_VERSION, "format": FORMAT}
        return fields | {"options": dataclasses.asdict(self.options), "textures": self.textures.sha256} | versions


class SceneWindows(torch.utils.data.Dataset):
    """Windows of a set of worlds. Items are those of `ClipWindows`, with clip -1 and the world as start, and `poses` of `SceneSet.draw`.

    Args:
        cache: from `cached`; without it a world is drawn whenever it is asked for.
    Raises:
        ClipError: the cache is damaged, or that of another set.
    """

    def __init__(self, scenes: SceneSet, cache: Clip | None = None):
        self.scenes, self.cache = scenes, cache
        self.poses = None if cache is None else read_poses(scenes, cache)

    def __len__(self) -> int:
        return self.scenes.count

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{index} of {len(self)} worlds")  # what ends a loop over the windows
        if self.cache is None:
            frames, poses = self.scenes.draw(index)
        else:
            first = index * self.scenes.clip_length
            frames, poses = self.cache.tensor(slice(first, first + self.scenes.clip_length)), self.poses[index]
        return {"frames": frames, "times": torch.linspace(0, 1, len(frames)), "clip": -1, "start": index, "poses": poses}


class MixedWindows(torch.utils.data.Dataset):
    """Windows of procedural worlds and of videos: an epoch shows every world once, and videos' windows for the rest.

    Where the videos have more windows than that, those shown are spread evenly over all; where they have fewer, they are shown in turn.

    Args:
        share: of the windows that are worlds, above 0 and at most 1.
    Raises:
        ConfigError: share out of range.
    """

    def __init__(self, worlds: torch.utils.data.Dataset, videos: ClipWindows, share: float):
        if not 0 < share <= 1:
            raise ConfigError(f"scene_share is {share}: give the share of procedural windows, above 0 and at most 1.")
        self.worlds, self.videos, self.share = worlds, videos, share

    def __len__(self) -> int:
        return round(len(self.worlds) / self.share)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{index} of {len(self)} windows")
        before, after = (i * len(self.worlds) // len(self) for i in (index, index + 1))  # worlds shown before this window, and after it
        if after > before:
            return self.worlds[before]
        place, places = index - before, len(self) - len(self.worlds)
        item = self.videos[place * len(self.videos) // places if places < len(self.videos) else place % len(self.videos)]
        count = len(item["frames"])
        return item | {"poses": torch.full((count, count, 6), torch.nan)}  # nobody knows the camera of a video


def cached(scenes: SceneSet, root: str | Path, split: str = "train", progress: Say = print) -> Clip:
    """The set as one prepared clip in which every world is a shot, drawn on the first call: `<root>/scenes-<8 digits>-<size>/`.

    A call that fails or is interrupted leaves no folder; what a killed one leaves, the next one replaces.

    Raises:
        StorageError: the disk is full or `root` cannot be written.
        ClipError: another process is drawing the same set, or what it drew is damaged.
    """
    identity = scenes.identity()
    digest = digest_of(identity)
    folder = Path(root) / f"scenes-{digest[:8]}-{scenes.size}"
    manifest = {"format": FORMAT, "source": "procedural", "name": "scenes", "sha256": digest, "split": split, "size": scenes.size}
    if not (folder / "manifest.json").is_file():
        with locked(folder) as lock:
            try:
                if not (folder / "manifest.json").is_file():  # else another process has finished it meanwhile
                    write_json(folder / "manifest.json", manifest | write_worlds(folder, scenes, progress) | {"scenes": identity})
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
                    raise storage_error(folder, error) from error
                raise
            lock.unlink()
    return Clip.open(folder, split)


def digest_of(identity: dict) -> str:
    """SHA-256 of what `SceneSet.identity` says."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def write_worlds(folder: Path, scenes: SceneSet, progress: Say) -> dict:
    """Draw all worlds into `frames.npy` and `poses.npy`; returns what the manifest says of them."""
    length, count = scenes.clip_length, scenes.count * scenes.clip_length
    # not memory maps: on a full disk those kill the process
    with (folder / "frames.npy").open("wb") as pixels, (folder / POSES).open("wb") as cameras:
        write_header(pixels, "|u1", (count, scenes.size, scenes.size, 3))
        write_header(cameras, "<f4", (scenes.count, length, length, 6))
        for frames, poses in drawn(scenes, progress):
            pixels.write(frames.data)
            cameras.write(poses.astype("<f4").data)
    times = {"fps": "25", "variable_rate": False}
    return times | {"frames": count, "duplicates": [], "cuts": list(range(length, count, length))}


def write_header(stream: BinaryIO, descr: str, shape: tuple[int, ...]) -> None:
    """The head of an .npy file."""
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})


def read_poses(scenes: SceneSet, cache: Clip) -> Tensor:
    """Poses (count, T, T, 6) of a cached set."""
    remedy = "delete the folder and train again, it is drawn anew"
    if cache.sha256 != digest_of(scenes.identity()):
        raise ClipError(f"{cache.folder} does not hold the worlds that were asked for: {remedy}.")
    shape = (scenes.count, scenes.clip_length, scenes.clip_length, 6)
    try:
        poses = np.load(cache.folder / POSES)
        if poses.shape != shape:
            raise ValueError(f"poses are {poses.shape}, not {shape}")
    except (OSError, EOFError, ValueError) as error:
        raise ClipError(f"The prepared scenes {cache.folder} are damaged ({error}): {remedy}.") from error
    return torch.from_numpy(poses)


def drawn(scenes: SceneSet, progress: Say) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames uint8 (T, S, S, 3) and poses (T, T, 6) of one world after the other."""
    # A process a core with one thread each: threads that share the small steps of ray casting mostly wait for each other.
    workers = min(os.cpu_count() or 1, scenes.count)
    loader = torch.utils.data.DataLoader(SceneWindows(scenes), batch_size=None, num_workers=workers if workers > 1 else 0)
    for done, window in enumerate(loader, 1):
        yield np.ascontiguousarray(to_uint8(window["frames"])), window["poses"].numpy()
        if 10 * done // scenes.count > 10 * (done - 1) // scenes.count:
            progress(Line(f"drew {done} of {scenes.count} procedural scenes", done / scenes.count))
