"""Frames made by any other program, scored as a method; and the given frames exported, so that the program can be run.

Layout, the same both ways: `<folder>/<clip>/<size>px/gap<gap>/<frame number, 6 digits>.png`, 8-bit RGB; for example
`given/bikes/128px/gap4/000008.png`. Numbers are those of the frames in the clip. Beside the given frames `wanted.csv` lists, one line a
wanted frame, its number, its t and the numbers of the two given frames around it. The program may write into a copy of the folder or
into an empty one: given frames among the results are ignored, they are never scored.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..clips.clip import Clip
from ..errors import MethodError, MissingInputError
from ..files import atomic_path, sha256, write_text
from .methods import Pair
from .pairs import pairs_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB = 2  # colour type of a PNG


def frames_folder(folder: Path, clip: str, size: int, gap: int) -> Path:
    """Where the frames of one clip at one size and gap lie."""
    return folder / clip / f"{size}px" / f"gap{gap}"


def frame_path(folder: Path, number: int) -> Path:
    """The file of one frame."""
    return folder / f"{number:06d}.png"


def export_given(clip: Clip, gap: int, folder: str | Path, label: str | None = None) -> Path:
    """Write the given frames of a clip at one gap, then `wanted.csv`: where that is there, the frames are whole. Returns their folder.

    Args:
        label: what the clip is called in the benchmark, where its name is not unique.
    Raises:
        ConfigError, ClipError: see `pairs.pairs_of`. StorageError: the disk is full or the folder cannot be written.
    """
    target = frames_folder(Path(folder), label or clip.name, clip.size, gap)
    lines = ["frame,t,first,second"]
    for pair in pairs_of(clip, gap):
        for number in (pair.start, pair.start + gap) if pair.start == 0 else (pair.start + gap,):
            with atomic_path(frame_path(target, number)) as partial:
                Image.fromarray(np.asarray(clip.frames[number])).save(partial)
        lines += [f"{number},{t:.9g},{pair.start},{pair.start + gap}" for number, t in zip(pair.numbers, pair.times, strict=True)]
    write_text(target / "wanted.csv", "\n".join(lines) + "\n")
    return target


class FrameFolderMethod:
    """A folder of predicted frames as a method; its settings hold the number of frames and a hash over all of them.

    Raises:
        MissingInputError: no such folder, or no png in it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        files = sorted(self.folder.rglob("*.png"), key=lambda path: path.relative_to(self.folder).as_posix())
        if not files:
            where = frame_path(frames_folder(self.folder, "<clip>", 128, 4), 1)
            raise MissingInputError(f"There is no png image in {folder}: correct the path, frames are looked for as {where}.")
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(self.folder).as_posix()}\0{sha256(file)}\n".encode())
        self.settings = {"frames": len(files), "sha256": digest.hexdigest()}

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Tensor]:
        """The predicted frames of each pair.

        Raises:
            MethodError: a frame is missing, is no 8-bit RGB png of the pair's size, or lies beyond the last given frame.
        """
        pair = None
        for pair in pairs:
            folder = frames_folder(self.folder, pair.clip, pair.size, pair.gap)
            if not folder.is_dir():
                raise MethodError(f"There is no folder {folder} with the frames of {pair}: make them, or correct its name.")
            yield torch.stack([read_frame(frame_path(folder, number), pair) for number in pair.numbers])
        if pair is not None:
            end = frame_path(folder, pair.start + pair.gap)
            beyond = sorted(path for path in folder.glob("*.png") if path.name > end.name)
            if beyond:
                what = f"{folder} holds {beyond[0].name}, and the last frame given of {pair.clip} is {end.name}"
                remedy = "number the frames as in the clip, from 000000.png on, remove what is beyond, and score without a limit on pairs"
                raise MethodError(f"{what}: {remedy}.")


def read_frame(path: Path, pair: Pair) -> Tensor:
    """One predicted frame, (3, S, S) in [0, 1].

    Raises:
        MethodError: see `FrameFolderMethod`.
    """
    if not path.is_file():
        raise MethodError(f"{path} is missing, a frame of {pair}: make all frames that wanted.csv lists, with these names.")
    try:
        with path.open("rb") as stream:
            header = stream.read(26)
        if header[:8] != SIGNATURE:
            raise ValueError("no png")
        width, height, depth, colour = struct.unpack(">IIBB", header[16:26])  # Pillow reads 16-bit RGB as if it were 8-bit
        if (width, height) != (pair.size, pair.size):
            raise MethodError(f"{path} is {width}x{height}, a frame of {pair}: make it as large as the frames that were given.")
        if (depth, colour) != (8, RGB):
            kind = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}.get(colour, "unknown")
            raise MethodError(f"{path} is {depth}-bit {kind}, a frame of {pair}: save it as 8-bit RGB.")
        with Image.open(path, formats=["PNG"]) as image:
            return torch.from_numpy(np.array(image)).movedim(-1, 0).float().div_(255)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise MethodError(f"{path} cannot be read as a png image, a frame of {pair}: write it again.") from error
