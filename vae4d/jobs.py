"""The published system's jobs over the test clips of a prepared data set: interpolate, reconstruct, views, pairs, trajectory.

Of each clip every `interval`-th frame is taken, from its first on, `frame_limit` frames in all (specification section 3). A clip is
one folder, `<savepath>/<mode>/<clip id>/`, which appears whole:

- interpolate (frame i + 1 from i and i + 2), reconstruct (frames 1, 2, ... from a kept scene code) and views (the same by camera alone,
  fed with its own predictions): `pred/` and `true/` hold the synthesised frames alone as PNG, numbered as taken; `<clip id>_pred.mp4` and
  `<clip id>_true.mp4` are for people and for scores as published. The videos of interpolate begin and end with the given frames.
- pairs: `input.png`, `output.png`, `target.png`, frames 0, 1 predicted, 1.
- trajectory: `trajectory.txt`, 12 numbers a line (3x4 row-major); `cameras.json` where the clip has true cameras.

A sharp checkpoint does interpolate and trajectory, whose path is then the camera's own; it has no codes to draw the others from. It is told
the lens where the clip's cameras are known.

`clip.json` says what was taken and is written last; `options.json` beside the clips says how. A second call does what is missing. Cuts are
not looked at, as in the published system. Processes that `accelerate launch` starts share the clips.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import cameras, synthesis
from .checkpoint import load_model, locate
from .clips.cleaning import clean
from .clips.clip import Clip
from .clips.datasets import open_dataset
from .clips.video_writer import import_av
from .config import choice
from .errors import CheckpointError, ClipError, ConfigError, VideoError
from .family import Model
from .files import sha256, write_json
from .geometry import camera_of_cube
from .job_folders import clip_ids, is_done, whole_folder, write_films, write_pair
from .parallel import processes, rank, share, wait
from .repairs import Repairs
from .sharp.model import NOMINAL_FOCAL, SharpAutoencoder4D

Say = Callable[[str], None]
LEAST = {"interpolate": 3, "reconstruct": 2, "views": 2, "pairs": 2, "trajectory": 2}  # frames that a mode needs, by mode
SHARP_MODES = ("interpolate", "trajectory")  # of a sharp model


@dataclass(frozen=True)
class JobOptions:
    """Options of a job, by the original's names where it has them."""

    mode: str = "interpolate"  # interpolate, reconstruct, views, pairs or trajectory
    savepath: str = "log/test"  # folder of the results
    resume: str = "small"  # checkpoint of ours or of the original
    dataset: str = "samples"  # name or path, as it was prepared
    data_root: str = "data"  # folder of the cache
    input_size: int = 128  # pixels, side of the square frames
    interval: int = 1  # every interval-th frame is taken
    video_limit: int | None = None  # clips; 0 for all; None: 100, for pairs 3000
    frame_limit: int | None = None  # frames of a clip; 0 for all; None: 30, for pairs 2
    fraction: float = 0.5  # interpolate: the moment between the two given frames
    reinit_k: int = 12  # reconstruct, views: frames for which a scene code is kept
    use_flow: bool | None = None  # interpolate, reconstruct; None: where it was trained
    use_correction: bool | None = None  # None: on where flow is in reconstruct, as semantics says in interpolate
    clean_limit: float = 0.0  # leave out test clips that the model rebuilds with a larger error (50 as published, row 8); 0 keeps all
    semantics: str = "repaired"  # or "published", "published+1+5", "repaired-4"; a sharp model takes only rows 8 and 10 from it
    padding_mode: str = ""  # zeros or border; empty: the checkpoint's
    scale_rotate: float | None = None  # radians per unit of the pose network's output; None: the checkpoint's
    scale_translate: float | None = None  # normalised-cube units per unit of it; None: the checkpoint's
    device: str = "auto"  # auto, cpu or cuda

    def __post_init__(self) -> None:
        choice("mode", self.mode, LEAST)
        choice("device", self.device, ("auto", "cpu", "cuda"))
        Repairs.parse(self.semantics)
        synthesis.check_reinit(self.reinit_k)
        if not 0 <= self.fraction <= 1:
            raise ConfigError(f"fraction is {self.fraction!r}: give a number in [0, 1], 0.5 is halfway.")
        if self.interval < 1:
            raise ConfigError(f"interval is {self.interval}: give a whole number of at least 1, every interval-th frame is taken.")
        if self.video_limit is not None and self.video_limit < 0:
            raise ConfigError(f"video_limit is {self.video_limit}: give a number of clips, 0 for all.")
        if self.frame_limit not in (None, 0) and self.frame_limit < LEAST[self.mode]:
            raise ConfigError(f"frame_limit is {self.frame_limit}: {self.mode} needs {LEAST[self.mode]} frames, give more, or 0 for all.")
        if self.use_correction and self.use_flow is False:
            raise ConfigError("use_correction is on and use_flow is off: the correction needs the flow, change one of them.")
        if not (math.isfinite(self.clean_limit) and self.clean_limit >= 0):
            raise ConfigError(f"clean_limit is {self.clean_limit}: give a clip's largest error (50 in the published system), 0 keeps all.")
        if self.clean_limit and self.preparation["own_splits"]:
            what = f"clean_limit is {self.clean_limit:g}, but by semantics {self.semantics!r} cleaning never touches test clips"
            raise ConfigError(f"{what}: set it to 0, or take 'repaired-8'.")
        if not self.resume:
            raise ConfigError("resume is empty: give the checkpoint to work with.")

    @property
    def videos(self) -> int | None:
        """At most so many clips; None for all."""
        return (3000 if self.mode == "pairs" else 100) if self.video_limit is None else self.video_limit or None

    @property
    def frames(self) -> int | None:
        """At most so many frames of a clip; None for all."""
        return (2 if self.mode == "pairs" else 30) if self.frame_limit is None else self.frame_limit or None

    @property
    def preparation(self) -> dict[str, bool]:
        """How frames become square and which clips are test (rows 10 and 8), for `open_dataset` and `prepare_dataset`."""
        return Repairs.parse(self.semantics).preparation

    @property
    def changes(self) -> dict[str, Any]:
        """What is asked of the model's config in the place of the checkpoint's, for `load_model`."""
        asked = {name: getattr(self, name) for name in ("padding_mode", "scale_rotate", "scale_translate")}
        return {name: value for name, value in asked.items() if value not in ("", None)}

    def model(self) -> Model:
        """The checkpoint's model with the changes asked for, on this process's device.

        Raises:
            CheckpointError: flow is asked for and was not trained. Others: see `checkpoint.load_model`. ConfigError: no GPU, or a sharp
                checkpoint and what only a faithful one can do.
        """
        model = load_model(self.resume, **self.changes)
        if isinstance(model, SharpAutoencoder4D):
            self._check_sharp()
        if self.use_flow and not model.flow_trained:
            raise CheckpointError(f"{self.resume} is of the base stage, its flow is not trained: choose another, or leave use_flow out.")
        return model.to(device_of(self.device))

    def _check_sharp(self) -> None:
        """Raise ConfigError for what a sharp model cannot do."""
        asked = {
            f"mode {self.mode}": self.mode not in SHARP_MODES,
            f"use_correction {self.use_correction}": self.use_correction is not None,
            f"clean_limit {self.clean_limit:g}": self.clean_limit,
        }
        for what in (what for what, wrong in asked.items() if wrong):
            raise ConfigError(f"{what} needs codes to draw from, and {self.resume} is a sharp model: change it, or take a faithful one.")

    def record(self) -> dict[str, Any]:
        """What decides the result, for options.json; the checkpoint counts by its content."""
        values = dataclasses.asdict(self) | {"frame_limit": self.frames, "semantics": str(Repairs.parse(self.semantics))}
        for name in ("savepath", "data_root", "video_limit", "device", "resume"):
            del values[name]
        return values | {"checkpoint": sha256(locate(self.resume))}


def device_of(name: str) -> torch.device:
    """"auto" (a GPU where there is one), "cpu" or "cuda"; of several processes on a host each has its own GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, and there is no GPU that torch can use: take cpu, or install torch with CUDA.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def run_job(options: JobOptions, progress: Say | None = print, replace: bool = False) -> Path:
    """Do a job over the test clips, this process's share of them; returns its folder, `<savepath>/<mode>`, when all have finished.

    Args:
        replace: delete results of other options that are in the folder, where they would be an error.
    Raises:
        MissingInputError: no such checkpoint, or the data set is not prepared. CheckpointError: see `JobOptions.model`.
        ConfigError: the folder holds results of other options. ClipError: no clip is long enough, or clean. StorageError: the disk is full.
    """
    say, folder = progress or (lambda line: None), Path(options.savepath) / options.mode
    model = options.model()
    clips = open_dataset(options.dataset, options.input_size, options.data_root, **options.preparation).split("test")
    if options.clean_limit:
        found = clean(model, clips, options.clean_limit, own_splits=False)
        clips, removed = found.kept, ", ".join(clip.name for clip in found.removed[:8])
        if rank() == 0:
            say(f"cleaning: {len(found.removed)} of {len(found.table)} test clips left out{': ' if removed else ''}{removed}")
    taken = {name: (clip, range(0, len(clip), options.interval)[: options.frames]) for name, clip in clip_ids(clips).items()}
    short = [name for name, (_, numbers) in taken.items() if len(numbers) < LEAST[options.mode]]
    names = [name for name in taken if name not in short][: options.videos]
    if not names:
        what = f"No test clip of {options.dataset!r} has the {LEAST[options.mode]} frames that {options.mode} needs"
        raise ClipError(f"{what} ({', '.join(short[:8]) or 'there is none'}): give longer clips or a smaller interval.")
    if short and rank() == 0:
        say(f"Left out, as {options.mode} needs {LEAST[options.mode]} frames: {', '.join(short)}")
    about = {name: _about(*taken[name], options) for name in names}
    _same_options(folder, options.record(), replace)
    there = [name for name in names if is_done(folder / name, about[name])]
    wait()  # until all have looked
    if there and rank() == 0:
        say(f"{len(there)} of {len(names)} clips are there already")
    films = options.mode in ("interpolate", "reconstruct", "views") and _can_write_videos(say)
    began, mine = time.monotonic(), share([name for name in names if name not in there])
    who = f"process {rank() + 1} of {processes()} " if processes() > 1 else ""
    for count, name in enumerate(mine, 1):
        start = time.monotonic()
        with whole_folder(folder / name) as partial:
            _make(model, *taken[name], options, partial, name, films)
            write_json(partial / "clip.json", about[name])
        now = time.monotonic()
        minutes = (now - began) / count * (len(mine) - count) / 60
        left = f", about {minutes:.0f} min left" if minutes >= 0.5 else ""
        say(f"{who}[{count}/{len(mine)}] {name}: {len(taken[name][1])} frames in {now - start:.1f} s{left}")
    wait()
    return folder


def focal_of(clip: Clip) -> float:
    """A clip's focal length in widths of the picture: the median of its cameras', the sharp model's nominal one where they are unknown."""
    return NOMINAL_FOCAL if clip.cameras is None else statistics.median(clip.cameras.intrinsics[:, 0].tolist())


def _about(clip: Clip, numbers: range, options: JobOptions) -> dict[str, Any]:
    """What clip.json says of a clip; `given` are numbers of frames of its videos that were not synthesised."""
    given = [0, len(numbers) - 1] if options.mode == "interpolate" else []
    return {"name": clip.name, "sha256": clip.sha256, "split": clip.split, "frames": list(numbers), "given": given}


def _same_options(folder: Path, record: dict[str, Any], replace: bool) -> None:
    """Write options.json, or compare with the one that is there; every process has compared before one changes anything."""
    path, what = folder / "options.json", ""
    if path.exists():
        try:
            old = dict(json.loads(path.read_text(encoding="utf-8")))
            what = ", ".join(f"{name} {old.get(name)!r}, now {value!r}" for name, value in record.items() if old.get(name) != value)
        except (ValueError, TypeError) as error:
            what = f"options.json is damaged: {error}"
        if what and not replace:
            raise ConfigError(f"{folder} holds results of other options ({what}): choose another savepath, or delete the folder.")
    wait()
    if rank() == 0:
        if what:
            shutil.rmtree(folder)
        if not path.exists():
            write_json(path, record)
    wait()


def _can_write_videos(say: Say) -> bool:
    try:
        import_av(Path("mp4"))
    except VideoError:
        if rank() == 0:
            say("PyAV is not installed (pip install av): frames are written as PNG alone, which scores as published cannot use.")
        return False
    return True


def _make(model: Model, clip: Clip, numbers: range, options: JobOptions, folder: Path, name: str, films: bool) -> None:
    """Write the files of one clip into `folder`."""
    frames = (clip.tensor(number) for number in numbers)
    lens = {"focal": focal_of(clip)} if isinstance(model, SharpAutoencoder4D) else {}
    how = {"use_flow": options.use_flow} | (lens or {"use_correction": options.use_correction})
    if options.mode == "trajectory":
        path = synthesis.trajectory(model, frames, **lens).cpu()
        cameras.write_trajectory(folder / "trajectory.txt", camera_of_cube(path, 2 * lens["focal"]) if lens else path)
        if clip.cameras is not None:
            write_json(folder / "cameras.json", clip.cameras.take(list(numbers)).to_dict())
        return
    if options.mode == "interpolate":
        made = synthesis.middle_frames(model, frames, options.fraction, **synthesis.options_of(model, options.semantics, **how))
    elif options.mode == "reconstruct":
        made = synthesis.reconstruct(model, frames, options.reinit_k, **how)
    else:
        made = synthesis.view_synthesis(model, frames, options.reinit_k)
    if options.mode == "pairs":
        write_pair(folder, clip, numbers, next(made))
    else:
        write_films(folder, name, clip, numbers, made, options.mode == "interpolate", clip.fps / options.interval if films else None)
