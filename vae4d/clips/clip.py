"""A prepared clip: frames mapped into memory, with their times, cuts and repeats.

`cache.py` writes what is opened here; neither PyAV nor the source video is needed to open it. At most `MAPPED` clips are mapped at a
time, as a process may open far fewer files than a data set has clips; the others are mapped again when their frames are asked for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from ..cameras import Cameras
from ..errors import ClipError

CAMERAS = "cameras.npz"  # in a clip's folder, where its data set knows the cameras
FORMAT = 2  # of a clip's folder; an older one is prepared again
SPLITS = ("train", "validate", "test")
MAPPED = 256


@functools.lru_cache(maxsize=MAPPED)
def _map(path: Path, state: tuple[int, int]) -> np.ndarray:
    """The array of a file in its present state (its inode and time of change)."""
    return np.load(path, mmap_mode="r")


class _Frames:
    """The attribute `Clip.frames`: an array, or where a function was given, what it returns, each time anew."""

    def __get__(self, clip: Clip, owner: type | None = None) -> np.ndarray:
        held = clip.__dict__["frames"]
        return held() if callable(held) else held

    def __set__(self, clip: Clip, value: np.ndarray | Callable[[], np.ndarray]) -> None:
        clip.__dict__["frames"] = value


@dataclass(frozen=True, eq=False)
class Clip:
    """One prepared clip: frames uint8 (N, S, S, 3) memory-mapped, times float64 (N,) in seconds."""

    name: str
    path: Path  # the source, as it was given
    split: str
    fps: Fraction  # exact; the mean rate where `times` are irregular
    frames: np.ndarray = field(repr=False)
    times: np.ndarray = field(repr=False)
    cuts: tuple[int, ...]  # frame i begins a new shot
    duplicates: tuple[int, ...]  # frame i shows frame i - 1 again
    sha256: str
    folder: Path
    variable_rate: bool = False
    tags: dict[str, str] = field(default_factory=dict)  # what its data set says of it, such as camera_motion

    def __len__(self) -> int:
        return len(self.frames)

    def __reduce__(self) -> tuple[Any, ...]:
        return Clip.open, (self.folder, self.split)  # a worker process maps the file itself; pickling would copy every frame

    @property
    def size(self) -> int:
        """Side of a frame in pixels."""
        return self.frames.shape[1]

    def tensor(self, index: int | slice | list[int] | np.ndarray) -> torch.Tensor:
        """float32 (3, S, S) for a number, (n, 3, S, S) for a slice or list; values in [0, 1]."""
        frames = torch.from_numpy(np.array(self.frames[index]))
        return frames.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def shots(self) -> list[range]:
        """The frame numbers of every shot, in order."""
        edges = [0, *self.cuts, len(self)]
        return [range(a, b) for a, b in pairwise(edges)]

    @functools.cached_property
    def cameras(self) -> Cameras | None:
        """The cameras of the frames, intrinsics relative to the prepared picture; None where the data set does not know them.

        Raises:
            ClipError: the file is damaged.
        """
        path = self.folder / CAMERAS
        if not path.exists():
            return None
        try:
            with np.load(path) as saved:
                cameras = Cameras.from_dict(saved)
            if len(cameras) != len(self):
                raise ValueError(f"{len(cameras)} cameras for {len(self)} frames")
            return cameras
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, ClipError) as error:
            raise ClipError(f"The cameras of the prepared clip {self.folder} are damaged ({error}): {_AGAIN}.") from error

    @classmethod
    def open(cls, folder: str | Path, split: str | None = None) -> Clip:
        """Open a prepared folder; the source video is not needed. `split` overrules the one in the manifest.

        Raises:
            ClipError: the folder is unfinished, damaged or of another format.
        """
        folder = Path(folder)
        try:
            m = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if m["format"] != FORMAT:
                raise ValueError(f"format {m['format']}, not {FORMAT}")
            state = (folder / "frames.npy").stat()
            mapped = functools.partial(_map, folder.absolute() / "frames.npy", (state.st_ino, state.st_mtime_ns))
            frames = mapped()
            if frames.shape != (m["frames"], m["size"], m["size"], 3) or frames.dtype != np.uint8:
                raise ValueError(f"frames are {frames.dtype} {frames.shape}")
            fps = Fraction(m["fps"])
            times = np.array(m["times"]) if m["variable_rate"] else np.arange(len(frames)) * fps.denominator / fps.numerator
            if times.shape != (len(frames),):
                raise ValueError(f"{len(times)} times")
            return cls(
                name=m["name"],
                path=Path(m["source"]),
                split=split or m["split"],
                fps=fps,
                frames=mapped,
                times=times,
                cuts=tuple(m["cuts"]),
                duplicates=tuple(m["duplicates"]),
                sha256=m["sha256"],
                folder=folder.absolute(),
                variable_rate=m["variable_rate"],
                tags=m.get("tags", {}),
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise ClipError(f"The prepared clip {folder} is damaged or unfinished ({error}): {_AGAIN}.") from error


Clip.frames = _Frames()  # after the class is made, as a dataclass would take it for the field's default
_AGAIN = "delete the folder and prepare again"
