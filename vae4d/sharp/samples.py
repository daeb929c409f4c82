"""What the sharp model is trained on: triplets with truth, drawn in whole batches on the training device, or kept from drawn worlds.

Two sources: collages (`scenes.collage`, photographs on planes, new ones in every batch) and worlds (`scenes`, ray-cast rooms with solid
objects; dearer, so they are drawn once and kept in memory and in a file). A batch depends on (seed, step) alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..clips.cache import locked
from ..clips.clip import Clip
from ..errors import ClipError
from ..files import atomic_path
from ..geometry import compose, invert
from ..progress import Line, Say
from ..scenes import WorldOptions, generate, motion, render
from ..scenes.clips import SEEDS
from ..scenes.collage import Sample, draw
from ..scenes.collage_options import CollageOptions
from ..scenes.textures import Textures

MOMENTS = 2  # targets drawn of a world
AT_ONCE = 16  # worlds drawn together
MARGIN = 0.12  # of the time at both ends, where nothing is asked
CAMERA_MOTION, OBJECT_MOTION = (0.5, 20.0), (1.0, 28.0)  # px at 128, of collages in the end
POOL_VERSION = 1  # raise it when the same seeds give other samples: pools are drawn anew
MOVED = 1e-4  # world units; what goes less far by itself stands still
PICTURES, FIELDS = ("first", "target", "second"), ("flow0", "flow1", "depth")


def draw_worlds(seeds: list[int], size: int, options: WorldOptions, textures: Textures, device: str | torch.device = "cpu") -> Sample:
    """`MOMENTS` samples of each world, first all of the first moment; the moments of worlds drawn together are the same."""
    world = generate(seeds, options, textures, device)
    rng = torch.Generator().manual_seed(seeds[0])
    ends = [render(world, world.camera(t, size), t) for t in (0.0, 1.0)]
    pose = compose(invert(ends[0].camera.pose), ends[1].camera.pose).float()
    found = []
    for t in (torch.rand(MOMENTS, generator=rng) * (1 - 2 * MARGIN) + MARGIN).tolist():
        view = render(world, world.camera(t, size), t)
        near, far = (motion(world, view, end) for end in ends)
        own = (far.scene_flow - near.scene_flow).square().sum(1).sqrt() > MOVED
        time, focal = torch.full((len(seeds),), t, device=pose.device), view.camera.intrinsics[:, 0, 0] / size
        pictures, seen = (ends[0].image, view.image, ends[1].image), (near.visible, far.visible)
        found.append(Sample(*pictures, time, focal, near.flow, far.flow, *seen, view.depth, pose, own))
    return joined(found)


def joined(samples: list[Sample]) -> Sample:
    """One batch of several."""
    return Sample(**{f.name: torch.cat([getattr(s, f.name) for s in samples]) for f in dataclasses.fields(Sample)})


class WorldPool:
    """Samples of many worlds, kept in half the memory: pictures as bytes, fields as 16-bit floats."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors["t"])

    def take(self, index: Tensor, device: torch.device) -> Sample:
        """The samples of these numbers."""
        parts = {}
        for name, kept in self.tensors.items():
            value = kept[index.to(kept.device)].to(device)
            parts[name] = value.float() / 255 if name in PICTURES else value.float() if name in FIELDS else value
        return Sample(**parts)

    @staticmethod
    def packed(sample: Sample) -> dict[str, Tensor]:
        """A sample as it is kept."""
        values = {f.name: getattr(sample, f.name).cpu() for f in dataclasses.fields(Sample)}
        values |= {name: (values[name].clamp(0, 1) * 255).round().byte() for name in PICTURES}
        return values | {name: values[name].half() for name in FIELDS}


def world_pool(
    count: int, size: int, seed: int, options: WorldOptions, textures: Textures, root: Path, device: torch.device,
    progress: Say,
) -> WorldPool:  # fmt: skip
    """A pool of `count` worlds, drawn on the first call into one file below `root`, from there afterwards.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
        ClipError: another process is drawing the same pool.
    """
    identity: dict = {"count": count, "size": size, "seed": seed, "options": dataclasses.asdict(options)}
    identity |= {"textures": textures.sha256, "version": POOL_VERSION}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    path = root / f"worlds-{digest}-{size}" / "samples.safetensors"
    if not path.is_file():
        with locked(path.parent):
            groups = [list(range(seed + i, seed + min(i + AT_ONCE, count))) for i in range(0, count, AT_ONCE)]
            drawn = []
            for number, sample in enumerate(drawn_groups(groups, size, options, textures, device), 1):
                drawn.append(sample)
                if number % max(1, len(groups) // 5) == 0:
                    progress(Line(f"worlds: {min(number * AT_ONCE, count)} of {count} are drawn", number / len(groups)))
            with atomic_path(path) as partial:
                save_file({name: torch.cat([d[name] for d in drawn]) for name in drawn[0]}, partial)
    with safe_open(path, framework="pt") as stream:
        return WorldPool({name: stream.get_tensor(name) for name in stream.keys()})  # noqa: SIM118 - it is no dict


class Groups(torch.utils.data.Dataset):
    """Groups of worlds, drawn when they are asked for."""

    def __init__(self, groups: list[list[int]], size: int, options: WorldOptions, textures: Textures):
        self.groups, self.how = groups, (size, options, textures)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return WorldPool.packed(draw_worlds(self.groups[index], *self.how))


def drawn_groups(groups: list[list[int]], size: int, options: WorldOptions, textures: Textures, device: torch.device):
    """Packed samples of one group after the other: on a GPU there, else by a process a core."""
    if device.type == "cuda":
        on_device = textures.to(device)
        yield from (WorldPool.packed(draw_worlds(group, size, options, on_device, device)) for group in groups)
    else:
        workers = os.cpu_count() or 1
        drawn = Groups(groups, size, options, textures)
        yield from torch.utils.data.DataLoader(drawn, batch_size=None, num_workers=workers if workers > 1 else 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Batches of samples: drawn for step s from (seed, s) alone."""

    size: int
    textures: Textures  # on the device
    pool: WorldPool | None
    share: float  # of a batch that comes from the pool
    device: torch.device
    seed: int

    def batch(self, count: int, step: int, reach: float = 1.0) -> Sample:
        """`count` samples, the nearer frame first; `reach` in (0, 1] scales the largest motions of collages."""
        rng = torch.Generator().manual_seed(self.seed * SEEDS + step)
        parts = []
        worlds = round(count * self.share) if self.pool else 0
        if worlds:
            index = torch.randint(len(self.pool), (worlds,), generator=rng)
            parts.append(varied(self.pool.take(index, self.device), rng))
        if count > worlds:
            motion = {"camera_motion": scaled(CAMERA_MOTION, reach), "object_motion": scaled(OBJECT_MOTION, reach)}
            options = CollageOptions(sprites=(2, 7), still=0.1, still_worlds=0.15, **motion)
            parts.append(draw(count - worlds, self.size, self.textures, rng, options, device=self.device))
        sample = joined(parts)
        return nearer_first(mirrored(sample) if float(torch.rand(1, generator=rng)) < 0.5 else sample)


def scaled(limits: tuple[float, float], reach: float) -> tuple[float, float]:
    """Limits of motion with the upper one times `reach`."""
    return limits[0], max(limits[0], limits[1] * reach)


def varied(sample: Sample, rng: torch.Generator) -> Sample:
    """Worlds as a camera may show them: gains, gamma, sharpening, and noise on half of the samples, all alike for the three pictures."""
    count, device = len(sample.t), sample.t.device

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return (torch.rand(count, channels, 1, 1, generator=rng) * (high - low) + low).to(device)

    gain, gamma, sharpness = uniform(0.7, 1.2, 3), uniform(0.7, 1.4), uniform(0, 1.0)
    noise = uniform(0, 0.02) * (uniform(0, 1) < 0.5)
    changed = {}
    for name in PICTURES:
        picture = getattr(sample, name).clamp(0, 1)
        padded = torch.nn.functional.pad(picture, (1, 1, 1, 1), mode="replicate")
        picture = picture + sharpness * (picture - torch.nn.functional.avg_pool2d(padded, 3, 1))
        picture = picture.clamp(0, 1) ** gamma * gain
        picture = picture + noise * torch.randn(picture.shape, generator=rng).to(device)
        changed[name] = (picture.clamp(0, 1) * 255).round() / 255
    return dataclasses.replace(sample, **changed)


def mirrored(sample: Sample) -> Sample:
    """Left and right exchanged."""
    values = {f.name: getattr(sample, f.name) for f in dataclasses.fields(Sample)}
    flipped = {name: value if value.ndim == 1 or name == "pose" else value.flip(-1) for name, value in values.items()}
    sign = sample.pose.new_tensor([-1.0, 1.0, 1.0])
    flipped["pose"] = torch.cat([sign[:, None] * sample.pose[:, :, :3] * sign, sign[:, None] * sample.pose[:, :, 3:]], dim=2)
    for name in ("flow0", "flow1"):
        flipped[name] = flipped[name] * sign[:2, None, None]
    return Sample(**flipped)


def nearer_first(sample: Sample) -> Sample:
    """The frame that is nearer in time first, as the model takes them."""
    swap = sample.t > 0.5

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(swap.view(-1, *(1,) * (a.ndim - 1)), b, a)

    changed = {"t": pick(sample.t, 1 - sample.t), "pose": pick(sample.pose, invert(sample.pose))}
    for one, two in (("first", "second"), ("flow0", "flow1"), ("visible0", "visible1")):
        a, b = getattr(sample, one), getattr(sample, two)
        changed |= {one: pick(a, b), two: pick(b, a)}
    return dataclasses.replace(sample, **changed)


class Videos:
    """Triplets of real video: two frames 2 to 8 apart within a shot, and one between them."""

    widest = 8

    def __init__(self, clips: Sequence[Clip], device: torch.device):
        self.device = device
        self.shots = [(clip, shot) for clip in clips for shot in clip.shots() if len(shot) >= 3]
        if not self.shots:
            raise ClipError("No clip to train on has a shot of three frames: give a longer video.")
        self.lengths = torch.tensor([float(len(shot)) for _, shot in self.shots])

    def batch(self, count: int, seed: int, step: int) -> Sample:
        """Samples whose truth is not known: its fields hold nothing, the camera a nominal lens."""
        rng = torch.Generator().manual_seed(seed * SEEDS + step)
        pictures, times = [], []
        for index in torch.multinomial(self.lengths, count, replacement=True, generator=rng).tolist():
            clip, shot = self.shots[index]
            gap = int(torch.randint(2, min(self.widest, len(shot) - 1) + 1, (1,), generator=rng))
            start = shot.start + int(torch.randint(len(shot) - gap, (1,), generator=rng))
            middle = start + int(torch.randint(1, gap, (1,), generator=rng))
            numbers = (start, middle, start + gap)
            pictures.append(torch.cat([clip.tensor(slice(n, n + 1)) for n in numbers]))
            first, at, last = (float(clip.times[n]) for n in numbers)
            times.append((at - first) / (last - first))
        first, target, second = (torch.stack(p).to(self.device) for p in zip(*pictures, strict=True))
        size = (count, *first.shape[-2:])
        flow, seen = first.new_zeros(count, 2, *size[1:]), torch.ones(size, dtype=torch.bool, device=self.device)
        pose = torch.eye(3, 4, device=self.device).repeat(count, 1, 1)
        t, one = torch.tensor(times, device=self.device), torch.ones(size, device=self.device)
        sample = Sample(first, target, second, t, one[:, 0, 0], flow, flow, seen, seen, one, pose, ~seen)
        return nearer_first(mirrored(sample) if float(torch.rand(1, generator=rng)) < 0.5 else sample)
