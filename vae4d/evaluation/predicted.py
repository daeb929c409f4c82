"""Predicted and true videos on disk, paired: what a job of `vae4d.jobs` wrote, or any other program.

A folder is read by what lies in it, sorted by name; each sample has a name that is unique in it:

- `<name>/` of a job: `pred/` and `true/` with PNG frames, and `<name>_pred.mp4` with `<name>_true.mp4`; clip.json says which frames of
  the videos were given and not synthesised;
- `<name>/` of a pair: `output.png` and `target.png` (the published pair test; an `input.png` is not looked at);
- `<name>_pred.<any suffix>` beside `<name>_true.<any suffix>`: videos, or folders of frames.

Or two folders hold videos or folders of frames by the same names, suffixes aside. Hidden entries are not looked at. Frames are uint8
(H, W, 3), upright, streamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest
from pathlib import Path

import numpy as np

from ..clips.frame_folder import IMAGE_SUFFIXES, image_files, read_image
from ..clips.sources import VIDEO_SUFFIXES
from ..clips.video import open_source
from ..errors import ClipError, ConfigError, MissingInputError, VideoError

SIDES = ("_pred", "_true")
PAIR = ("output.png", "target.png")


@dataclass(frozen=True)
class Sample:
    """A predicted video and the true one: video files, folders of frames, or single images."""

    name: str
    predicted: Path
    true: Path
    given_ends: bool = False  # the first and the last frame were given, not synthesised, and are not to be scored

    @property
    def lossy(self) -> bool:
        """Whether the prediction is a video file, which mostly keeps frames approximately."""
        return self.predicted.is_file() and not _is_image(self.predicted)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Predicted and true frames, two by two.

        Raises:
            VideoError: one cannot be read, or they differ in the number of frames or in size.
        """
        predicted, true = _images(self.predicted), _images(self.true)
        for number, (made, wanted) in enumerate(zip_longest(predicted, true)):
            if made is None or wanted is None:
                shorter, longer = (self.predicted, self.true) if made is None else (self.true, self.predicted)
                raise VideoError(f"{shorter} has {number} frames and {longer} has more: make both again with the same frames.")
            if made.shape != wanted.shape:
                sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (made, wanted)]
                raise VideoError(f"{self.predicted} is {sizes[0]} and {self.true} is {sizes[1]}: make them of one size.")
            yield made, wanted


    def scored(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`frames` without given ones."""
        frames = self.frames()
        return (pair for pair, _ in islice(pairwise(frames), 1, None)) if self.given_ends else frames

    def check(self) -> None:
        """Find what can be found without decoding every frame.

        Raises:
            VideoError: see `frames`.
        """
        infos = [None if _is_image(path) else open_source(path).info for path in (self.predicted, self.true)]
        if None in infos:
            return
        made, wanted = infos
        if None not in (made.frames, wanted.frames) and made.frames != wanted.frames:
            what = f"{self.predicted} has {made.frames} frames and {self.true} has {wanted.frames}"
            raise VideoError(f"{what}: make both again with the same frames.")
        if (made.width, made.height) != (wanted.width, wanted.height):
            what = f"{self.predicted} is {made.width}x{made.height} and {self.true} is {wanted.width}x{wanted.height}"
            raise VideoError(f"{what}: make them of one size.")


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES


def _images(path: Path) -> Iterator[np.ndarray]:
    if _is_image(path):
        return iter([read_image(path)])
    return (frame.image for frame in open_source(path).frames())


def samples_in(folder: str | Path, videos: bool = False, given_ends: bool = False) -> list[Sample]:
    """The samples of one folder (layouts: see the module).

    Args:
        videos: take what a job wrote from its mp4, as published, with the given frames in; else from its PNGs, and from the mp4 without
            the given frames where there is no PNG.
        given_ends: of videos side by side, leave out the first and the last frame.
    Raises:
        MissingInputError: no such folder, or nothing in it to score. VideoError: half of a sample is missing.
        ConfigError: the job predicted another moment than that of the true frames.
    """
    folder = _folder(folder)
    _check_moment(folder)
    entries = [entry for entry in _entries(folder) if entry.is_dir()]
    found = [sample for entry in entries if (sample := _job_sample(entry, videos) or _pair_sample(entry))]
    found += _side_by_side(folder, given_ends)
    if not found:
        what = "a job's folder (python -m vae4d synthesise), folders with output.png and target.png, or NAME_pred.mp4 beside NAME_true.mp4"
        raise MissingInputError(f"There is nothing to score in {folder}: give {what}.")
    found.sort(key=lambda sample: sample.name)
    for one, other in pairwise(found):
        if one.name == other.name:
            raise ConfigError(f"{folder} holds two predictions called {one.name!r} ({one.predicted}, {other.predicted}): rename one.")
    return found


def samples_of(predicted: str | Path, true: str | Path, given_ends: bool = False) -> list[Sample]:
    """The samples of two folders with equal names, videos or folders of frames; or of two videos.

    Args:
        given_ends: leave out the first and the last frame of each.
    Raises:
        MissingInputError: no such folder, or nothing in it. ConfigError: a name that the other does not have, or has twice.
    """
    if Path(predicted).is_file() and Path(true).is_file():
        return [Sample(Path(predicted).stem, Path(predicted), Path(true), given_ends)]
    sides = [_by_name(_folder(side)) for side in (predicted, true)]
    for side, other, where in ((*sides, true), (*sides[::-1], predicted)):
        if lonely := sorted(side.keys() - other.keys()):
            raise ConfigError(f"{side[lonely[0]]} has no counterpart {lonely[0]!r} in {where}: give both the same names.")
    return [Sample(name, sides[0][name], sides[1][name], given_ends) for name in sorted(sides[0])]


def _folder(path: str | Path) -> Path:
    if not Path(path).is_dir():
        raise MissingInputError(f"There is no folder {path}: correct the path, or make the predictions with python -m vae4d synthesise.")
    return Path(path)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _media(folder: Path) -> Iterator[tuple[str, Path]]:
    """The videos and folders of frames in a folder, by name without suffix."""
    for entry in _entries(folder):
        if entry.is_dir() and image_files(entry):
            yield entry.name, entry
        elif entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES:
            yield entry.stem, entry


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in _media(folder):
        if name in found:
            raise ConfigError(f"{found[name]} and {path} have one name: rename one of them.")
        found[name] = path
    if not found:
        raise MissingInputError(f"There is no video and no folder of frames in {folder}: correct the path.")
    return found


def _job_sample(folder: Path, videos: bool) -> Sample | None:
    """The sample of a clip's folder of a job; None where it is none."""
    films = [folder / f"{folder.name}{side}.mp4" for side in SIDES]
    images = [folder / side[1:] for side in SIDES]
    if not any(path.exists() for path in films + images):
        return None
    if videos or not any(path.is_dir() for path in images):
        _both(films, "the job writes them where PyAV is installed (pip install av), make the clip again")
        return Sample(folder.name, *films, not videos and _given_ends(folder))
    _both(images, "make the clip again")
    return Sample(folder.name, *images)


def _given_ends(folder: Path) -> bool:
    """What clip.json of a job says."""
    path = folder / "clip.json"
    if not path.exists():
        return False
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["given"]) > 0
    except (ValueError, KeyError, TypeError) as error:
        raise ClipError(f"{path} is damaged ({error}): delete {folder} and run the job again.") from error


def _pair_sample(folder: Path) -> Sample | None:
    files = [folder / name for name in PAIR]
    if not any(path.exists() for path in files):
        return None
    _both(files, "a pair needs the prediction and the truth, make it again or remove the folder")
    return Sample(folder.name, *files)


def _side_by_side(folder: Path, given_ends: bool) -> list[Sample]:
    """`<name>_pred` beside `<name>_true`."""
    found = dict(_media(folder))
    samples = []
    for name in dict.fromkeys(name.removesuffix(side) for name in found for side in SIDES if name.endswith(side)):
        for side, other in (SIDES, SIDES[::-1]):
            if name + side in found and name + other not in found:
                raise VideoError(f"{found[name + side]} has no {name}{other} beside it: put it there, or remove the file.")
        samples.append(Sample(name or "video", found[name + SIDES[0]], found[name + SIDES[1]], given_ends))
    return samples


def _both(paths: list[Path], remedy: str) -> None:
    if missing := [path for path in paths if not path.exists()]:
        raise VideoError(f"{missing[0]} is missing: {remedy}.")


def _check_moment(folder: Path) -> None:
    """Refuse a job whose predictions are of no moment that has a true frame."""
    path = folder / "options.json"
    if not path.exists():
        return
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        mode, fraction = options["mode"], options["fraction"]
    except (ValueError, KeyError, TypeError) as error:
        raise ClipError(f"{path} is damaged ({error}): delete {folder} and run the job again.") from error
    if mode == "interpolate" and fraction != 0.5:
        raise ConfigError(f"{folder} was made with fraction {fraction}, and the true frames are halfway: score a job with fraction 0.5.")
