"""Options of the jobs over a data set (`run`), by the original's names where it has them, and the model that they ask for."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from .. import synthesis
from ..checkpoint import load_model, locate
from ..config import choice
from ..errors import CheckpointError, ConfigError
from ..faithful.repairs import Repairs
from ..family import Model
from ..files import sha256
from ..sharp.model import SharpAutoencoder4D

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
