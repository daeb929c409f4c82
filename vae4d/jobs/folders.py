"""The folder of one clip of a job: its name, its files, whole or absent (layout: `run`).

PNGs are 8-bit RGB, numbered as the frames were taken; predictions are rounded as they are for scoring (`metrics.to_uint8`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..clips.clip import Clip
from ..clips.video_writer import VideoWriter
from ..errors import CheckpointError, ConfigError
from ..files import STORAGE_ERRNOS, os_error_number, storage_error
from ..metrics import to_uint8

LONGEST_NAME = 100  # bytes; file systems take 255, and names grow by a suffix or two


def clip_ids(clips: Sequence[Clip]) -> dict[str, Clip]:
    """The clips by names that are unique (in any case of letters) and safe as names of files.

    A clip's own name is kept where it is one; else characters give way to _, and digits of the clip's hash are
    appended, and a number to further clips of one video.
    """
    names = ["".join(c if c.isalnum() or c in "._-" else "_" for c in clip.name).strip(".") or "clip" for clip in clips]
    names = [name.encode()[:LONGEST_NAME].decode(errors="ignore") for name in names]
    folded = [name.casefold() for name in names]
    plain = [name == clip.name and folded.count(name.casefold()) == 1 for name, clip in zip(names, clips, strict=True)]
    ids: dict[str, Clip] = {}
    for name, own, clip in zip(names, plain, clips, strict=True):
        name = name if own else f"{name}-{clip.sha256[:12]}"
        same = sum(other.sha256 == clip.sha256 for other in ids.values())  # clips cut out of one video share its hash
        ids[f"{name}-{same + 1}" if name in ids else name] = clip
    return ids


def is_done(folder: Path, about: dict[str, Any]) -> bool:
    """Whether a clip's folder is there, made of the same frames."""
    try:
        return json.loads((folder / "clip.json").read_text(encoding="utf-8")) == about
    except (OSError, ValueError):
        return False


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block succeeds, and is removed when it raises.

    Raises:
        ConfigError: something is there already that no job made. StorageError: the disk is full, or the folder cannot be written.
    """
    if folder.exists() and not (folder / "clip.json").exists():
        raise ConfigError(f"{folder} is there and was not made by a job: choose another savepath, or move it away.")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if (number := os_error_number(error)) in STORAGE_ERRNOS:
            raise storage_error(folder, OSError(number, os.strerror(number))) from error
        raise


def write_films(
    folder: Path, name: str, clip: Clip, numbers: Sequence[int], made: Iterator[Tensor], between: bool, fps: Fraction | None
) -> None:
    """Write predictions and true frames as PNG, and as videos at `fps` where it is not None.

    Args:
        numbers: the frames of the clip that were taken.
        made: predictions (3, S, S) of all but the first of them.
        between: the last has no prediction either; the videos begin and end with the given frames then.
    Raises:
        CheckpointError: see `pixels`.
    """
    given = (0, len(numbers) - 1) if between else ()
    for side in ("pred", "true"):
        (folder / side).mkdir()
    with ExitStack() as stack:
        paths = [folder / f"{name}_{side}.mp4" for side in ("pred", "true")] if fps else []
        films = [stack.enter_context(VideoWriter(path, fps)) for path in paths]
        for position in range(0 if between else 1, len(numbers)):
            shown = true = np.asarray(clip.frames[numbers[position]])
            if position not in given:
                shown = pixels(next(made), f"frame {position} of {name}")
                for side, image in (("pred", shown), ("true", true)):
                    Image.fromarray(image).save(folder / side / f"{position:06d}.png")
            for film, image in zip(films, (shown, true), strict=False):
                film.write(image)


def write_pair(folder: Path, clip: Clip, numbers: Sequence[int], made: Tensor) -> None:
    """Write input.png, output.png and target.png: the first frame, the prediction (3, S, S) of the second, and the second."""
    first, second = (np.asarray(clip.frames[number]) for number in numbers[:2])
    for file, image in (("input", first), ("output", pixels(made, f"the second frame of {clip.name}")), ("target", second)):
        Image.fromarray(image).save(folder / f"{file}.png")


def pixels(frame: Tensor, what: str) -> np.ndarray:
    """A prediction (3, H, W) in [0, 1] as uint8 (H, W, 3).

    Raises:
        CheckpointError: it holds values that are not finite.
    """
    if not bool(frame.isfinite().all()):
        raise CheckpointError(f"The model draws {what} with values that are not finite: choose another checkpoint.")
    return to_uint8(frame[None])[0]
