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

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from .. import cameras, synthesis
from ..clips.cleaning import clean
from ..clips.clip import Clip
from ..clips.datasets import open_dataset
from ..clips.video_writer import import_av
from ..errors import ClipError, ConfigError, VideoError
from ..family import Model
from ..files import write_json
from ..geometry import camera_of_cube
from ..parallel import processes, rank, share, wait
from ..progress import Line, Say
from ..sharp.model import NOMINAL_FOCAL, SharpAutoencoder4D
from .folders import clip_ids, is_done, whole_folder, write_films, write_pair
from .options import LEAST, JobOptions


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
        say(Line(f"{who}[{count}/{len(mine)}] {name}: {len(taken[name][1])} frames in {now - start:.1f} s{left}", count / len(mine)))
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
