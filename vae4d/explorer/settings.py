"""Options of notebook 00_explore, and the clips and methods that they name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import checkpoint, register
from ..clips.clip import Clip
from ..clips.datasets import prepare_dataset, ready_dataset
from ..config import choice
from ..errors import ClipError, ConfigError
from ..evaluation.methods import blend
from ..evaluation.optical_flow import FlowWarp, dis_flow
from ..progress import Say
from ..workbook.settings import at_least, check_size
from ..workbook.showcase import distinct, own_first
from .controls import SWING
from .core import Explorer, Way


@dataclass(frozen=True)
class ExploreSettings:
    """Options of notebook 00_explore."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    input_size: int = 128
    models: tuple[str, ...] = ("sharp", "small")  # checkpoints, names of those that come with the package, or registered names
    video_limit: int = 8  # clips of each split that are prepared where none is yet; 0, and of the samples, all
    clip: str = ""  # its name; empty takes the first test clip, one's own before the samples
    start: int = -1  # number of frame 0; -1 takes the clip's telling one, or one in the middle of the longest shot
    gap: int = 4  # frame 1 is so many frames later
    t: float = 0.5  # the moment that is shown first
    orbit_angle: float = 0.05  # radians by which the orbit swings to either side
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, video_limit=0, start=-1, gap=1, t=0, orbit_angle=0, seed=0)
        if self.t > 1:
            raise ConfigError(f"t is {self.t}: a moment between the two frames lies in [0, 1].")
        if self.orbit_angle > math.radians(SWING):
            most = f"{math.radians(SWING):.4f} radians ({SWING} degrees)"
            raise ConfigError(f"orbit_angle is {self.orbit_angle}: the panel's camera swings by at most {most}, give less.")
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"models is {list(self.models)}: give different checkpoints, such as ['sharp', 'small'].")
        check_size(self.input_size)
        choice("device", self.device, ("auto", "cpu"))


def clips_of(
    settings: ExploreSettings, data_root: str | Path = "data", fresh: bool = False, say: Say = print
) -> dict[str, Clip]:
    """The clips of the data set by name: test clips first, one's own before the samples. Where none is prepared yet, some are.

    Args:
        fresh: look for videos that came later, and prepare all.
        say: gets lines on what is prepared and what is left out.
    Raises:
        ClipError: no clip has two frames. ConfigError, MissingInputError, VideoError: see `prepare_dataset`.
    """
    if fresh:
        data = prepare_dataset(settings.dataset, settings.input_size, data_root, say, require=())
    else:
        limit = 0 if settings.dataset == "samples" else settings.video_limit
        data = ready_dataset(settings.dataset, settings.input_size, data_root, say, video_limit=limit)
    order = {"test": 0, "validate": 1, "train": 2}
    clips = {clip.name: clip for clip in sorted(own_first(distinct(data.clips)), key=lambda clip: order[clip.split]) if len(clip) > 1}
    if not clips:
        raise ClipError(f"The data set {settings.dataset!r} has no clip of two frames or more: put a video into {data_root}/videos.")
    return clips


def methods_of(models: Sequence[str], device: torch.device | str = "cpu") -> dict[str, Way]:
    """The models of these checkpoints by name, the registered ones, then the baselines: linear blend and DIS warp.

    Args:
        models: paths or names of checkpoints, or names of registered models, which come first then.
    Raises:
        MissingInputError, CheckpointError: see `load_model`.
    """
    own: dict[str, Way] = register.functions | {name: model.to(device) for name, model in checkpoint.OWN.items()}
    found: dict[str, Way] = {}
    for named in models:
        if named in own:
            found[named] = own[named]
            continue
        model, path = checkpoint.load_model(named).to(device), Path(named)
        label = named if named in checkpoint.shipped() else f"{model.config.preset} ({path.parent.name}/{path.stem})"
        found[label if label not in found else f"{model.config.preset} ({path.with_suffix('').as_posix()})"] = model
    return {**found, **own, "linear blend": blend, "DIS warp": FlowWarp(dis_flow)}


def explorer_of(settings: ExploreSettings, clips: dict[str, Clip], methods: Mapping[str, Way]) -> Explorer:
    """The explorer of these methods on the clip and the pair that the settings name.

    Raises:
        ConfigError: no such clip, or a pair that does not lie in it.
    """
    clip = clips[choice("clip", settings.clip, clips)] if settings.clip else next(iter(clips.values()))
    start = None if settings.start < 0 else settings.start
    return Explorer(methods, clip, start, settings.gap)
