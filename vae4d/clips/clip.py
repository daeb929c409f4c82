"""A prepared clip: frames mapped into memory, with their times, cuts and repeats.

`cache.py` writes what is opened here; neither PyAV nor the source video is needed to open it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ClipError

FORMAT = 2  # of a clip's folder; an older one is prepared again
SPLITS = ("train", "validate", "test")


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
            frames = np.load(folder / "frames.npy", mmap_mode="r")
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
                frames=frames,
                times=times,
                cuts=tuple(m["cuts"]),
                duplicates=tuple(m["duplicates"]),
                sha256=m["sha256"],
                folder=folder.absolute(),
                variable_rate=m["variable_rate"],
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            remedy = "delete the folder and prepare again"
            raise ClipError(f"The prepared clip {folder} is damaged or unfinished ({error}): {remedy}.") from error
