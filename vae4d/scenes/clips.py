"""Procedural scenes as training data: drawn when they are asked for, or drawn once and kept like a prepared video.

A window is one world at `clip_length` equally spaced times from 0 to 1, seen by its own moving camera. World i of a set depends on the
set's seed and on i alone, so that drawn and cached windows hold the same frames.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..clips.clip import FORMAT, Clip
from ..clips.windows import ClipWindows
from ..errors import ConfigError, StorageError
from ..files import storage_error, write_json
from ..geometry import compose, invert, offset_in_cube, theta_to_euler
from ..metrics import to_uint8
from .generate import WorldOptions, generate
from .render import render
from .textures import Textures

POSES = "poses.npy"  # float32 (worlds, T, T, 6), beside the frames of a cached set
PICTURE_VERSION = 1  # raise it when the same seed gives other pictures: caches are drawn anew


@dataclasses.dataclass(frozen=True)
class SceneSet:
    """A reproducible set of worlds: world i has seed `seed * 1_000_003 + i`."""

    count: int
    clip_length: int  # frames a world
    size: int  # pixels, side of a frame
    options: WorldOptions
    textures: Textures
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("clip_length", 2), ("size", 16)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} of a set of scenes is {getattr(self, name)}: give {least} or more.")

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Frames (T, 3, S, S) in [0, 1] of a world, and poses (T, T, 6): at [i, j] that of frame j's camera seen from frame i's.

        Poses are the model's six-vectors, by the convention of `geometry.offset_in_cube`.
        """
        world = generate([self.seed * 1_000_003 + number], self.options, self.textures)
        views = [render(world, world.camera(t, self.size), t) for t in torch.linspace(0, 1, self.clip_length).tolist()]
        poses = []
        for view in views:
            to_view = invert(view.camera.pose)
            offsets = torch.cat([compose(to_view, other.camera.pose) for other in views])
            focal, depth = float(view.camera.intrinsics[0, 0, 0]), float(view.depth.median())
            poses.append(theta_to_euler(offset_in_cube(offsets, focal, depth, self.size)))
        return torch.cat([view.image for view in views]), torch.stack(poses).float()

    def identity(self) -> dict:
        """What the pictures depend on, as JSON values."""
        fields = {name: getattr(self, name) for name in ("count", "clip_length", "size", "seed")}
        versions = {"version": PICTURE_VERSION, "format": FORMAT}
        return fields | {"options": dataclasses.asdict(self.options), "textures": self.textures.sha256} | versions


class SceneWindows(torch.utils.data.Dataset):
    """Windows of a set of worlds. Items are those of `ClipWindows`, with clip -1 and the world as start, and `poses` of `SceneSet.draw`.

    Args:
        cache: from `cached`; without it a world is drawn whenever it is asked for.
    """

    def __init__(self, scenes: SceneSet, cache: Clip | None = None):
        self.scenes, self.cache = scenes, cache
        self.poses = None if cache is None else torch.from_numpy(np.load(cache.folder / POSES))

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
    """Windows of procedural worlds and of videos: an epoch shows every world once, and videos' windows for the rest, in turn.

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
        item = self.videos[(index - before) % len(self.videos)]
        count = len(item["frames"])
        return item | {"poses": torch.full((count, count, 6), torch.nan)}  # nobody knows the camera of a video


def cached(scenes: SceneSet, root: str | Path, split: str = "train", progress: Callable[[str], None] = print) -> Clip:
    """The set as one prepared clip in which every world is a shot, drawn on the first call: `<root>/scenes-<8 digits>-<size>/`.

    An interrupted call leaves an unfinished folder, which the next one replaces.

    Raises:
        StorageError: the disk is full or `root` cannot be written; nothing is left behind.
    """
    identity = scenes.identity()
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = Path(root) / f"scenes-{digest[:8]}-{scenes.size}"
    if (folder / "manifest.json").is_file():
        return Clip.open(folder, split)
    count = scenes.count * scenes.clip_length
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        with (folder / "frames.npy").open("wb") as stream:  # not a memory map: on a full disk that kills the process
            shape = (count, scenes.size, scenes.size, 3)
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            poses = []
            for frames, known in drawn(scenes, progress):
                stream.write(frames.data)
                poses.append(known)
        np.save(folder / POSES, np.stack(poses))
        manifest = {"format": FORMAT, "source": "procedural", "name": "scenes", "sha256": digest, "split": split, "size": scenes.size}
        manifest |= {"frames": count, "fps": "25", "variable_rate": False, "duplicates": [], "scenes": identity}
        write_json(folder / "manifest.json", manifest | {"cuts": list(range(scenes.clip_length, count, scenes.clip_length))})
    except (OSError, StorageError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise error if isinstance(error, StorageError) else storage_error(folder, error) from error
    return Clip.open(folder, split)


def drawn(scenes: SceneSet, progress: Callable[[str], None]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames uint8 (T, S, S, 3) and poses (T, T, 6) of one world after the other."""
    # A process a core with one thread each: threads that share the small steps of ray casting mostly wait for each other.
    workers = min(os.cpu_count() or 1, scenes.count)
    loader = torch.utils.data.DataLoader(SceneWindows(scenes), batch_size=None, num_workers=workers)
    for done, window in enumerate(loader, 1):
        yield np.ascontiguousarray(to_uint8(window["frames"])), window["poses"].numpy()
        if 10 * done // scenes.count > 10 * (done - 1) // scenes.count:
            progress(f"drew {done} of {scenes.count} procedural scenes")
