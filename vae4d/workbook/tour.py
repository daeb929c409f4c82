"""What notebook 07 looks at: two frames of a clip, a procedural world of which everything is true, and what the sharp model says of both.

Conventions: pictures (3, H, W) in [0, 1]; motion (2, H, W) in pixels from the first frame to the second, x right and y down; depth (H, W)
of the first frame, up to one factor. What is said of a pair is said at t = 0, in the first frame's pixels, as the truth is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clips.clip import Clip
from ..clips.datasets import ready_dataset
from ..config import choice
from ..errors import ConfigError
from ..evaluation.scene_cases import SceneCase, scene_case
from ..scenes import load_textures, motion, render
from ..sharp.camera import displacement, rays, twist_matrix
from ..sharp.model import SharpAutoencoder4D, SharpSynthesis
from ..sharp.volume import STRIDE, plane_depths
from ..synthesis import on_device
from ..views.space import save_space, voxel_space
from .notebook import Workbook, display
from .settings import at_least, check_size
from .showcase import distinct, longest_shot, own_first, shot_of, telling, usable

TRIED = 20  # worlds that are drawn at most, until one is found whose objects move in sight
LIVELY = 0.05  # of its picture must move by itself, by half a pixel of 128
SEVERAL = "depth on several planes"


@dataclass(frozen=True)
class TourSettings:
    """Options of notebook 07_flow_and_depth."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    input_size: int = 128
    resume: str = "sharp"  # a sharp checkpoint
    clip: str = ""  # name of a clip; empty takes the first test clip
    start: int = -1  # frame number of the first of two frames; -1 takes the clip's telling one, or the middle of the longest shot
    gap: int = 4  # frames from the first to the second
    pixel: tuple[float, ...] = (0.5, 0.5)  # row and column of the pixel that is asked about, as shares of the picture
    world: int = 0  # number of the first procedural world that is tried
    motion: tuple[float, ...] = (4.0, 8.0)  # least and most by which the world's camera and objects move, px of a picture 128 px wide
    textures: str = ""  # folder of photographs for it; empty takes scikit-image's
    interactive: bool = True  # False: no widgets, what they would show is saved
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, start=-1, gap=2, world=0, seed=0)
        check_size(self.input_size)
        choice("device", self.device, ("auto", "cpu"))
        for name in ("pixel", "motion"):
            if len(getattr(self, name)) != 2:
                raise ConfigError(f"{name} is {list(getattr(self, name))}: give two numbers, such as {list(getattr(TourSettings, name))}.")
        if not 0 < self.motion[0] <= self.motion[1]:
            raise ConfigError(f"motion is {list(self.motion)}: give the least and the most in px, above 0, such as [4, 8].")
        if not all(0 <= part < 1 for part in self.pixel):
            raise ConfigError(f"pixel is {list(self.pixel)}: give row and column as shares of the picture, from 0 to below 1.")

    @property
    def place(self) -> tuple[int, int]:
        """The pixel, (row, column)."""
        return int(self.pixel[0] * self.input_size), int(self.pixel[1] * self.input_size)


def clip_of(settings: TourSettings) -> Clip:
    """The clip of that name; without one the first test clip that has three frames in a row, one's own before the samples (any clip, where
    no split is test). What is not prepared is prepared.

    Raises:
        ConfigError: no clip of that name. ClipError: none long enough. Others: see `ready_dataset`.
    """
    data = ready_dataset(settings.dataset, settings.input_size)
    clips = {clip.name: clip for clip in own_first(distinct(data.clips))}
    if settings.clip:
        return usable([clips[choice("clip", settings.clip, clips)]])[0]
    return usable([clip for clip in clips.values() if clip.split == "test"] or list(clips.values()))[0]


def frames_of(clip: Clip, start: int, gap: int) -> tuple[int, int, int]:
    """Numbers of the first frame, of the one halfway, and of the second, within one shot; an odd gap is made even, and a short shot
    makes it smaller. A negative `start` takes the clip's telling frame, or the middle of its longest shot.

    Raises:
        ConfigError: `start` is not a frame that has two more frames of its shot behind it. ClipError: no shot of three frames.
    """
    number = telling(clip) if start < 0 else start
    shot = longest_shot(clip) if number is None else shot_of(clip, number)
    gap = min(gap, (len(shot) if number is None else shot.stop - number) - 1) // 2 * 2
    if gap < 2:
        raise ConfigError(f"start is {start}, and {clip.name} has no two more frames of the same shot there: choose another, or -1.")
    first = shot[(len(shot) - gap) // 2] if number is None else number
    return first, first + gap // 2, first + gap


@dataclass(frozen=True, eq=False)
class Parts:
    """A motion (2, H, W), and what it is made of."""

    whole: Tensor
    camera: Tensor  # what the camera's motion alone would do

    @property
    def own(self) -> Tensor:
        """The rest: what moves by itself."""
        return self.whole - self.camera

    @property
    def share(self) -> float:
        """The camera's share: its mean length over the sum of its and the rest's; NaN where nothing moves."""
        camera, own = (float(part.double().norm(dim=0).mean()) for part in (self.camera, self.own))
        return camera / (camera + own) if camera + own > 1e-6 else math.nan

    def all(self) -> Tensor:
        """(3, 2, H, W): whole, camera, own."""
        return torch.stack([self.whole, self.camera, self.own])


@torch.inference_mode()
def said(model: SharpAutoencoder4D, first: Tensor, second: Tensor, t: float = 0.0, focal: float | None = None) -> SharpSynthesis:
    """What the model says of two frames (3, H, W) at `t`; focal in widths of the picture, None where nobody knows it."""
    return model.synthesise(on_device(model, first), on_device(model, second), t, focal=focal)


@torch.inference_mode()
def model_parts(model: SharpAutoencoder4D, first: Tensor, second: Tensor, focal: float | None = None) -> Parts:
    """The motion that the model sees; the camera's part is what its own camera does to its own depth."""
    ends = [model.encode(on_device(model, frame)) for frame in (first, second)]
    made = model.synthesise(*ends, 0.0, focal=focal)
    height, width = ends[0].padded.shape[-2:]
    inside = made.focal * (first.shape[-1] / width)  # widths of the padded picture, as `twist` and `rays` take it
    to_second = twist_matrix(-model.twist(*ends, inside))
    inverse = F.pad(1 / made.depth[:, None], (0, width - first.shape[-1], 0, height - first.shape[-2]), mode="replicate")[:, 0]
    camera = displacement(to_second, rays(height, width, inside), inverse) * (inside * width)
    return Parts(made.motion[1][0].cpu(), camera[0, :, : first.shape[-2], : first.shape[-1]].cpu())


def true_parts(case: SceneCase) -> Parts:
    """The true motion between a world's first and last view; the camera's part is what it would be if time stood still."""
    elsewhere = render(case.world, case.world.camera(1.0, case.size), 0.0)
    return Parts(case.flow.flow[0], motion(case.world, case.views[0], elsewhere).flow[0])


def worlds(settings: TourSettings) -> dict[str, SceneCase]:
    """One held-out world three times: "both", "camera" (its objects stand still), "objects" (its camera does).

    It is the first from number `world` on whose objects move in sight, or the liveliest of those tried.

    Raises:
        ConfigError, MissingInputError: see `load_textures` and `scene_case`.
    """
    textures = load_textures(settings.textures or None, "test")

    def case(number: int, kind: str) -> SceneCase:
        return scene_case(settings.motion, number, settings.input_size, settings.seed, textures, kind)

    found = {}
    for number in range(settings.world, settings.world + TRIED):
        moving = case(number, "objects").flow.flow[0].norm(dim=0) > 0.5 * settings.input_size / 128
        found[number] = float(moving.double().mean())
        if found[number] >= LIVELY:
            break
    number = max(found, key=found.__getitem__)
    return {kind: case(number, kind) for kind in ("both", "camera", "objects")}


def widths(case: SceneCase) -> float:
    """A world's focal length in widths of the picture."""
    return case.focal / case.size


def aligned(depth: Tensor, truth: Tensor) -> Tensor:
    """A depth brought to the unit of the true one, by the median ratio."""
    return depth * (truth / depth).median()


def occupancy(depth: Tensor, planes: int) -> Tensor:
    """A depth (H, W), in the model's unit, as a volume (D, h, w) like the model's: each pixel's one nearest plane, as shares of cells."""
    log = plane_depths(planes).log()
    nearest = (log[:, None, None] + depth.log()[None]).abs().argmin(dim=0)
    return F.avg_pool2d(F.one_hot(nearest, planes).movedim(2, 0).float()[None], STRIDE, ceil_mode=True)[0]


def doubt(density: Tensor) -> Tensor:
    """Standard deviation (h, w) of log depth under the shares (D, h, w): 0.7 is a factor of two."""
    log = plane_depths(len(density), density.device).log()[:, None, None]
    mean = (density * log).sum(0)
    return (density * (log - mean).square()).sum(0).clamp_min(0).sqrt()


def hints(made: SharpSynthesis) -> dict[str, Tensor]:
    """Where the model itself says that it is unsure of a picture, maps (H, W) in [0, 1] by name."""
    size = made.image.shape[-2:]
    unsure = F.interpolate(1 - made.density.amax(1, keepdim=True), scale_factor=STRIDE, mode="bilinear", align_corners=False)
    hidden = 1 - made.visible[0]
    maps = {"hidden in frame 0": hidden[0], "hidden in frame 1": hidden[1], "invented": made.weights[0, 2]}
    return {name: part.cpu() for name, part in maps.items()} | {SEVERAL: unsure[0, 0, : size[0], : size[1]].cpu()}


def doubted(made: SharpSynthesis) -> Tensor:
    """One map (H, W) of `hints`: what is hidden in either frame, or invented, whichever is more."""
    return torch.stack([part for name, part in hints(made).items() if name != SEVERAL]).amax(0)


def show_space(book: Workbook, made: SharpSynthesis, name: str, interactive: bool) -> Path | None:
    """The voxels of a synthesis in space: saved as one HTML page in `figures/` and linked; live also as a widget. Returns the page's path.

    Without the package k3d a sentence is printed instead, and None returned.
    """
    planes = plane_depths(made.density.shape[1])
    try:
        plot = voxel_space(made.image[0], made.density[0], planes, made.voxel_flow[0], float(made.focal))
    except ConfigError as error:
        print(error)
        return None
    page = save_space(plot, book.folder / "figures" / f"{book.name[:2]}_{name}.html")
    if interactive:
        display(plot)
    book.link(page, "voxels in space, to be turned with the mouse (one page, needs no network)")
    return page
