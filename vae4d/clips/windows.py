"""Windows of consecutive frames, and the order in which training draws them from prepared clips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..errors import ClipError, ConfigError
from ..parallel import processes, rank
from .clip import Clip


class ClipWindows(torch.utils.data.Dataset):
    """All windows of `clip_length` frames, every `interval`-th frame, at stride 1.

    No window spans a cut, and none holds a frame that repeats the one before, as time stands still there. With `published`
    windows are those of the published system instead: of frames 0, interval, 2 interval, ..., across cuts and with repeats. With
    `limit` that many windows are taken, spread evenly over all. An item is a dict:
    frames float32 (T, 3, S, S) in [0, 1]; times float32 (T,), by the real time stamps, 0 for the first and 1 for the
    last frame; clip and start, int, the number of the clip in `clips` and of the first frame in it.

    `skipped` lists (clip name, reason) for the clips that give no window.

    Raises:
        ConfigError: clip_length below 2, interval or limit below 1.
        ClipError: no clip gives a window.
    """

    def __init__(self, clips: Sequence[Clip], clip_length: int, interval: int = 1, published: bool = False, limit: int | None = None):
        for name, value, least in (("clip_length", clip_length, 2), ("interval", interval, 1), ("limit", 1 if limit is None else limit, 1)):
            if value < least:
                raise ConfigError(f"{name} = {value} is out of range: give {least} or more.")
        self.clips, self.clip_length, self.interval = list(clips), clip_length, interval
        self.skipped: list[tuple[str, str]] = []
        windows, remedies = [np.empty((0, 2), np.int64)], set()
        for number, clip in enumerate(self.clips):
            starts, reason, remedy = self._starts(clip, published)
            if reason:
                self.skipped.append((clip.name, reason))
                remedies.add(remedy)
            windows.append(np.stack([np.full(len(starts), number), starts], axis=1))
        self.windows = np.concatenate(windows)  # (n, 2): clip, start
        if not len(self.windows):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped) or "there is no clip"
            remedy = "; or ".join(sorted(remedies)) or "give a video"
            raise ClipError(f"No window of {clip_length} frames at interval {interval} can be cut ({reasons}): {remedy}.")
        if limit is not None and limit < len(self.windows):
            self.windows = self.windows[np.linspace(0, len(self.windows) - 1, limit).round().astype(int)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        number, start = (int(value) for value in self.windows[index])
        clip, which = self.clips[number], slice(start, start + self._span, self.interval)
        seconds = clip.times[which]
        length = seconds[-1] - seconds[0]
        times = (seconds - seconds[0]) / length if length > 0 else np.linspace(0, 1, len(seconds))
        return {"frames": clip.tensor(which), "times": torch.from_numpy(times).float(), "clip": number, "start": start}

    @property
    def _span(self) -> int:
        """Source frames from the first to the last frame of a window, both counted."""
        return (self.clip_length - 1) * self.interval + 1

    def _starts(self, clip: Clip, published: bool) -> tuple[np.ndarray, str, str]:
        """First frames of the clip's windows; where there is none, the reason and the remedy."""
        shots, step = ([range(len(clip))], self.interval) if published else (clip.shots(), 1)
        starts = np.array([s for shot in shots for s in range(shot.start, shot.stop - self._span + 1, step)], dtype=np.int64)
        if not len(starts):
            longest = max(len(shot) for shot in shots)
            where = "" if len(shots) == 1 else f" in its longest shot ({len(clip)} in all)"
            return starts, f"it has {longest} frames{where}, {self._span} are needed", _TOO_SHORT
        if published:
            return starts, "", ""
        repeated = np.zeros(len(clip), dtype=bool)
        repeated[list(clip.duplicates)] = True
        kept = starts
        for step in range(1, self.clip_length):  # not 0: the first frame may repeat one outside the window
            kept = kept[~repeated[kept + step * self.interval]]
        if len(kept):
            return kept, "", ""
        return kept, f"each of its {len(starts)} windows holds a repeated frame", _REPEATS


_TOO_SHORT = "lower clip_length or interval, or give a longer video"
_REPEATS = "raise interval to step over the repeats (2 where every second frame is one), or give a video without them"


MIRRORED = (-1.0, 1.0, -1.0, -1.0, 1.0, 1.0)  # what a mirror, left for right, does to a pose (r about y, x, z; t along x, y, z)


def augment(batch: dict[str, torch.Tensor], rng: torch.Generator, bsize: int) -> dict[str, torch.Tensor]:
    """Each clip of a batch mirrored or not, and each of its colours brighter or darker by up to 40 %: one change for all its frames.

    A handful of clips has few colours and few directions of motion, and a model trained on them alone draws nothing else.

    Args:
        batch: frames (B, T, 3, H, W) in [0, 1], so are the new ones; poses (B, ..., 6), where there are any, are mirrored with them.
        bsize: clips in the batch of all processes, of which this is one's part; numbers are drawn for all.
    """
    changed, mirrored = [], torch.zeros(len(batch["frames"]), dtype=torch.bool)
    draws = torch.rand(bsize, 4, generator=rng)[rank() * len(mirrored) :]
    for index, (clip, draw) in enumerate(zip(batch["frames"], draws, strict=False)):
        mirror, *gains = draw.tolist()
        clip = clip * (0.6 + 0.8 * clip.new_tensor(gains))[:, None, None]
        mirrored[index] = mirror < 0.5
        changed.append(clip.flip(-1) if mirrored[index] else clip)
    batch = batch | {"frames": torch.stack(changed).clamp(0, 1)}
    if "poses" in batch:
        poses = batch["poses"].clone()
        poses[mirrored] *= poses.new_tensor(MIRRORED)
        batch["poses"] = poses
    return batch


class Batches:
    """Batch sampler whose order depends on the seed and the epoch alone, and which can start at any step.

    The last batch of an epoch is filled up from the epoch's beginning. Of several processes each gets its part of every batch.
    """

    def __init__(self, count: int, size: int, seed: int, start: int, stop: int):
        self.count, self.size, self.seed, self.start, self.stop = count, size, seed, start, stop

    @staticmethod
    def per_epoch(count: int, size: int) -> int:
        """Batches in an epoch."""
        return math.ceil(count / size)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        each, mine = self.per_epoch(self.count, self.size), self.size // processes()
        for step in range(self.start, self.stop):
            order = torch.randperm(self.count, generator=step_generator(self.seed, step // each, "epoch"))
            first = step % each * self.size + rank() * mine
            yield order[torch.arange(first, first + mine) % self.count].tolist()


def step_generator(seed: int, index: int, purpose: str) -> torch.Generator:
    """A generator for one step or epoch; purposes do not share their numbers."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index * 2 + (purpose == "epoch"))
