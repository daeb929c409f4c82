"""Videos and moments of a prepared clip, shot by shot: what the workbook shows of a trained model.

Nothing is synthesised across a cut, as there is no world between two shots. Frames stream; no clip is ever held in memory.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import load_model, read_checkpoint
from ..clips.clip import SPLITS, Clip
from ..clips.datasets import SAMPLES, Dataset
from ..clips.video import open_source
from ..clips.video_writer import write_video
from ..errors import CheckpointError, ClipError, VideoError
from ..faithful.model import VideoAutoencoder4D
from ..family import Model
from ..interface import Synthesis
from ..sharp.model import SharpSynthesis
from ..synthesis import interpolate, on_device, options_of, reconstruct
from ..views.figures import pick
from ..views.frames import frame_strip
from .notebook import Workbook

TELLING = {"bikes": 222 / 25}  # s; of sample clips, a moment chosen by eye: near things before far ones, and a camera that moves


def distinct(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, those that share a name told apart by the first digits of their hashes: names become file names and rows."""
    shared = Counter(clip.name for clip in clips)
    return [dataclasses.replace(clip, name=f"{clip.name}-{clip.sha256[:6]}") if shared[clip.name] > 1 else clip for clip in clips]


def is_sample(clip: Clip) -> bool:
    """Whether it is one of the clips that come with the project."""
    return clip.path.parent.name == "samples" and clip.path.name in SAMPLES.values()


def own_first(clips: Iterable[Clip]) -> list[Clip]:
    """The clips in order, but the sample clips last: what is cut off is not the user's own."""
    return sorted(clips, key=is_sample)


def telling(clip: Clip) -> int | None:
    """The frame of a sample clip from which on there is most to see, see `TELLING`; None where nobody has chosen one."""
    if not is_sample(clip) or clip.name not in TELLING:
        return None
    return int(np.searchsorted(clip.times, TELLING[clip.name] - 1e-6))


def shot_of(clip: Clip, number: int) -> range:
    """The shot that a frame lies in; an empty one where the clip has no such frame."""
    return next((shot for shot in clip.shots() if number in shot), range(0))


def named(clips: Sequence[Clip], count: int = 8) -> str:
    """Names of at most `count` clips, and how many there are more."""
    more = f" and {len(clips) - count} more" if len(clips) > count else ""
    return ", ".join(clip.name for clip in clips[:count]) + more


def some_of_each(data: Dataset, count: int = 8) -> list[Clip]:
    """At most `count` clips of every split, their names told apart; what is left out is printed."""
    clips, shown = own_first(distinct(data.clips)), []
    for split in SPLITS:
        part = [clip for clip in clips if clip.split == split]
        shown += part[:count]
        if len(part) > count:
            print(f"{split}: {count} clips are shown, {len(part) - count} more are not")
    return shown


def usable(clips: Sequence[Clip], limit: int = 0, least: int = 3) -> list[Clip]:
    """The clips that have a shot of `least` frames within their first `limit` frames (0 for all); the others are printed.

    Raises:
        ClipError: none has.
    """
    longest = {clip: max(map(len, shots(clip, limit))) for clip in clips}
    kept = [clip for clip, length in longest.items() if length >= least]
    if dropped := [clip for clip, length in longest.items() if length < least]:
        what = f"a shot of {least} frames{f' within the first {limit}' if limit else ''}"
        if not kept:
            remedy = "raise frame_limit or give a longer clip" if limit else "give a longer clip"
            raise ClipError(f"No clip has {what} ({named(dropped)}): {remedy}.")
        print(f"left out, without {what}: {named(dropped)}")
    return kept


def chosen(data: Dataset, shown: int = 0, frame_limit: int = 0, interval: int = 1) -> list[Clip]:
    """The test clips to show: every `interval`-th frame of usable ones, names told apart, one's own first, at most `shown` (0 for all).

    With a limit they are those of `excerpt`. What is left out is printed.

    Raises:
        ClipError: see `usable`.
    """
    clips = [thinned(clip, interval) for clip in own_first(distinct(data.split("test")))]
    clips = usable([excerpt(clip, frame_limit) if frame_limit else clip for clip in clips], frame_limit)
    kept = clips[: shown or None]
    if rest := clips[len(kept) :]:
        print(f"left out, as shown is {shown}: {named(rest)}")
    return kept


def thinned(clip: Clip, interval: int) -> Clip:
    """A clip of every `interval`-th frame, at as much less a rate. A frame repeats the one before where all between them do.

    For pictures alone: its `cameras` stay those of the folder, which do not fit.
    """
    if interval == 1:
        return clip
    repeated = set(clip.duplicates)
    places = range(interval, len(clip), interval)
    same = tuple(place // interval for place in places if repeated.issuperset(range(place - interval + 1, place + 1)))
    cuts = sorted({-(-cut // interval) for cut in clip.cuts if cut <= (len(clip) - 1) // interval * interval})
    return dataclasses.replace(clip, frames=clip.frames[::interval], times=clip.times[::interval], fps=clip.fps / interval,
                               cuts=tuple(cuts), duplicates=same)


def excerpt(clip: Clip, limit: int) -> Clip:
    """A clip from a frame on such that its telling one is in the middle of `limit` frames, or else from its longest shot on; printed
    where that is not its start. `cameras` as in `thinned`.
    """
    number = telling(clip)
    begin = max(clip.shots(), key=len).start if number is None else max(shot_of(clip, number).start, number - limit // 2)
    if not begin:
        return clip
    print(f"{clip.name}: shown from frame {begin} on, which is frame 0 below")
    cuts, same = ([number - begin for number in numbers if number > begin] for numbers in (clip.cuts, clip.duplicates))
    return dataclasses.replace(clip, frames=clip.frames[begin:], times=clip.times[begin:], cuts=tuple(cuts), duplicates=tuple(same))


def is_sharp(checkpoint: str | Path) -> bool:
    """Whether a checkpoint, or the name of one that comes with the package, is of the sharp family."""
    return read_checkpoint(checkpoint)[0]["stage"] == "sharp"


def flow_model(checkpoint: str | Path, device: torch.device | str = "cpu", kind: type[Model] | None = None, **changes) -> Model:
    """The model of a checkpoint whose flow is trained; `changes` as in `load_model`.

    Args:
        kind: the family that it must be of; None takes both.
    Raises:
        CheckpointError: its flow is not trained, it is of the other family, or it cannot be read.
    """
    model = load_model(checkpoint, **changes)
    if kind is not None and not isinstance(model, kind):
        raise CheckpointError(f"{checkpoint} is of preset {model.config.preset!r}, of the wrong family here: correct the parameter.")
    if not model.flow_trained:
        raise CheckpointError(f"{checkpoint} is of the base stage, its flow is not trained: run 03_train_flow, or correct resume.")
    return model.to(device)


def shots(clip: Clip, limit: int = 0) -> list[range]:
    """Frame numbers of every shot within the first `limit` frames (0 for all)."""
    stop = min(limit or len(clip), len(clip))
    return [range(shot.start, min(shot.stop, stop)) for shot in clip.shots() if shot.start < stop]


def longest_shot(clip: Clip, limit: int = 0, least: int = 3) -> range:
    """The longest of `shots`, the first where several are equal.

    Raises:
        ClipError: it has fewer than `least` frames.
    """
    longest = max(shots(clip, limit), key=len)
    if len(longest) < least:
        remedy = "raise frame_limit or give a longer clip" if limit else "give a longer clip"
        raise ClipError(f"The longest shot of {clip.name} has {len(longest)} frames, {least} are needed: {remedy}.")
    return longest


def middle_of(clip: Clip, limit: int = 0) -> int:
    """The telling frame, or one in the middle of the longest shot, that has a neighbour on either side."""
    number, shot = telling(clip), longest_shot(clip, limit)
    if number is not None and number in shot[1:-1]:
        return number
    return shot[len(shot) // 2] if len(shot) > 3 else shot[1]


def inner_frames(clip: Clip, count: int, limit: int = 0) -> list[int]:
    """At most `count` frames of the longest shot, evenly spread, each with a neighbour on either side."""
    inner = longest_shot(clip, limit)[1:-1]
    return [inner[i] for i in pick(len(inner), count)]


def stream(clip: Clip, numbers: Sequence[int]) -> Iterator[Tensor]:
    """Frames (3, S, S) in [0, 1], one after the other."""
    return (clip.tensor(number) for number in numbers)


@torch.inference_mode()
def interpolate_clip(model: Model, clip: Clip, factor: int, limit: int = 0, **how) -> Iterator[Tensor]:
    """The first `limit` frames at `factor` times their rate: N frames become (N - 1) * factor + 1.

    Between the last frame of a shot and the first of the next the last one is held.
    """
    last = None
    for shot in shots(clip, limit):
        if last is not None:
            yield from [last] * (factor - 1)
        for last in interpolate(model, stream(clip, shot), factor, **how) if len(shot) > 1 else stream(clip, shot):
            yield last


@torch.inference_mode()
def reconstruct_clip(model: VideoAutoencoder4D, clip: Clip, reinit_k: int, limit: int = 0, **how) -> Iterator[Tensor]:
    """The first `limit` frames rebuilt from kept scene codes; the first frame of a shot is given as it is. N frames stay N."""
    for shot in shots(clip, limit):
        yield clip.tensor(shot.start)
        if len(shot) > 1:
            yield from reconstruct(model, stream(clip, shot), reinit_k, **how)


@torch.inference_mode()
def flow_between(model: Model, first: Tensor, second: Tensor, semantics: str = "repaired") -> dict[str, Any]:
    """The voxel flow between two frames (3, H, W), see `visible_flow`."""
    ends = (on_device(model, frame) for frame in (first, second))
    return visible_flow(model.synthesise(*ends, **options_of(model, semantics, use_flow=True)))


def visible_flow(made: Synthesis) -> dict[str, Any]:
    """What the views of voxel flow take: `flow` (D, h, w, 3) on the CPU from near to far, and `forward`, whether it says where voxels go.

    A voxel of the sharp model counts by its share of the pixel: what lies on a plane that nobody sees is not trained, and may be long.
    """
    if isinstance(made, SharpSynthesis):
        return {"flow": (made.voxel_flow[0] * made.density[0][..., None]).flip(0).cpu(), "forward": True}
    return {"flow": made.voxel_flow[0].cpu(), "forward": False}


@dataclass(frozen=True)
class ReadBack:
    """What a written video holds, found by decoding it."""

    fps: Fraction
    frames: int
    numbers: list[int]  # of the sampled frames
    images: list[np.ndarray]  # the sampled frames, uint8 (H, W, 3)

    def __str__(self) -> str:
        return f"{self.frames} frames at {self.fps} a second"


def read_back(path: str | Path, samples: int | Iterable[int] = 8) -> ReadBack:
    """Decode a video: its rate, the number of frames that are really there, and some of them.

    Args:
        samples: how many frames to keep, evenly spread, or their numbers.
    """
    source = open_source(path)
    wanted = set(pick(source.info.frames or 1, samples).tolist() if isinstance(samples, int) else samples)
    numbers, images, count = [], [], 0
    for count, frame in enumerate(source.frames(), 1):
        if count - 1 in wanted:
            numbers.append(count - 1)
            images.append(frame.image)
    return ReadBack(source.info.fps, count, numbers, images)


def film(book: Workbook, name: str, frames: Iterable[Tensor], fps: Fraction | int, truth: np.ndarray | None = None,
         samples: int | Iterable[int] = 8, given: int = 0, what: str = "") -> ReadBack:
    """Write `videos/<name>.mp4`, read it back, link to it, and show samples as figure `<name>`.

    Args:
        truth: uint8 (N, H, W, 3), may be memory-mapped: frames of the same numbers stand above the samples.
        samples: see `read_back`.
        given: every `given`-th frame is titled as one that was given; 0 for none.
        what: a sentence for the link.
    Raises:
        VideoError: the file holds another rate or number of frames than was written.
    """
    path = book.folder / "videos" / f"{name}.mp4"
    written, back = write_video(path, frames, fps), read_back(path, samples)
    if (back.frames, back.fps) != (written, fps):
        raise VideoError(f"{path} holds {back}, but {written} at {fps} were written: free space on the disk and run again.")
    book.link(path, f"{what}{', ' if what else ''}{back}")
    rows = {"made": back.images} if truth is None else {"truth": truth[back.numbers], "made": back.images}
    titles = [f"{n}{' (given)' if given and n % given == 0 else ''}" for n in back.numbers]
    book.show(frame_strip(list(rows.values()), titles, list(rows) if len(rows) > 1 else None), name)
    return back
