"""The options of a training run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..clips.datasets import Dataset, open_dataset
from ..config import choice
from ..errors import ConfigError
from ..family import presets
from ..parallel import processes
from .model import VideoAutoencoder4D
from .repairs import Repairs
from .stages import BaseStage, FlowStage


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run, with the original's names where it has the option."""

    stage: str = "base"  # base, then flow
    savepath: str = "outputs/train/base"  # folder of this run
    resume: str = ""  # checkpoint to start from (a path, or the name of shipped weights: small); the flow stage needs one
    dataset: str = "samples"  # as notebook 01_data prepared it; empty for procedural scenes alone
    data_root: str = "data"
    preset: str = "small"
    input_size: int = 128  # pixels, the size the data was prepared at
    semantics: str = "repaired"  # repaired, published, or one of them with rows of the defect table changed: published+1+5, repaired-4
    padding_mode: str = ""  # what a warp reads outside the volume: zeros or border; empty takes the checkpoint's, or zeros
    scale_rotate: float = 0.0  # radians per unit of the pose encoder's output; 0 takes the checkpoint's, or 0.01
    scale_translate: float = 0.0  # normalised-cube units per unit of it; 0 takes the checkpoint's, or 0.01
    interval: int = 1  # distance between the frames of a clip, in source frames
    clip_length: int = 0  # frames a clip; 0 takes the stage's own: 6 base, 4 flow
    epochs: int = 2
    max_steps: int = 0  # stop after so many batches; 0 for no limit
    max_minutes: float = 0.0  # stop this call, ready to go on, after so many minutes; 0 for no limit
    bsize: int = 0  # clips a batch, of all processes together; 0 takes the stage's own: 4 base, 1 flow
    augment: bool = False  # mirror clips and change their colours; the published system does not
    scenes: int = 0  # procedural worlds an epoch, beside the videos' windows; 0 for none
    scene_share: float = 0.5  # of an epoch's windows that are procedural, where there are videos
    scene_cache: bool = False  # draw the worlds once into data_root/cache, instead of whenever one is needed
    camera_motion: float = 8.0  # pixels of a 128 px picture that a world's camera moves the picture by at most
    object_motion: float = 0.0  # the same for its objects; the base stage learns from worlds that stand still
    textures: str = ""  # folder of photographs for the worlds; empty takes scikit-image's
    clean_limit: float = 0.0  # leave out videos that the model of `resume` rebuilds with a larger error (50 as published); 0 keeps all
    lr: float = 2e-4  # halved after 80, 120, 160 and 200 thousand steps
    d_lr: float = 4e-4  # base stage: the same for the discriminator
    lr_adj: float = 1.0  # factor on the numbers of steps after which the learning rates are halved
    beta1: float = -1.0  # Adam's memory of gradients; -1 takes the published system's: 0 in the base stage, 0.9 in the flow stage
    lambda_l1: float = 10.0  # base stage
    lambda_perc: float = 0.1  # base stage
    lambda_gan: float = 0.01  # base stage; 0 for no discriminator
    lambda_voxel: float = 1.0  # base stage
    lambda_pose: float = 0.0  # base stage: of the cameras that procedural worlds know; the published system does not
    perceptual_size: int = 224  # VGG sees images resized to this; 0 takes them as they are
    targets: int = 0  # base stage: frames rebuilt per clip, drawn at random; 0 for all
    pairs: int = 0  # flow stage: reconstruction pairs per clip; 0 for all clip_length squared
    triplets: int = 0  # flow stage: interpolation triplets per clip; 0 for all
    reconstruction_substeps: int = 5  # flow stage: optimiser steps per batch
    interpolation_substeps: int = 3  # flow stage: the same, forward and again reversed
    chunk: int = 2  # flow stage: samples computed at once, which bounds the memory; 0 for all
    clip_grad: float = 0.0  # largest gradient norm; 0 for no clipping, as in the published system
    mixed_precision: str = "no"  # no, fp16, bf16
    device: str = "auto"  # auto, cpu
    workers: int = 1  # processes that load data; 0 loads in the training process
    valid_freq: int = 100  # batches between validations (and at the end)
    valid_clips: int = 20  # validation windows, spread over the validation split
    frame_limit: int = 30  # base stage: frames of a validation window, synthesised from its first one
    reinit_k: int = 12  # base stage: frames after which validation takes the scene's code anew, from its own last prediction
    save_freq: int = 50  # batches between checkpoints (and at the end, and on interruption)
    seed: int = 0
    restart: bool = False  # put a run with other options aside and start anew, instead of refusing

    # These change how long a run goes on or where it runs, not what it computes.
    free = ("savepath", "dataset", "data_root", "epochs", "max_steps", "max_minutes", "valid_freq", "save_freq")
    free += ("device", "workers", "restart", "scene_cache", "chunk")

    def __post_init__(self) -> None:
        Repairs.parse(self.semantics)
        choice("stage", self.stage, ("base", "flow"))
        choice("preset", self.preset, presets(VideoAutoencoder4D))
        choice("mixed_precision", self.mixed_precision, ("no", "fp16", "bf16"))
        choice("device", self.device, ("auto", "cpu"))
        lowest = {"interval": 1, "epochs": 1, "valid_freq": 1, "valid_clips": 1, "save_freq": 1}
        lowest |= {"reconstruction_substeps": 1, "interpolation_substeps": 1, "beta1": -1, "frame_limit": 2, "reinit_k": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not (lowest.get(field.name, 0) <= value < math.inf):
                raise ConfigError(f"{field.name} is {value}: use a finite number of at least {lowest.get(field.name, 0)}.")
        if self.input_size < 32 or self.input_size % 16:
            raise ConfigError(f"input_size is {self.input_size}: use a multiple of 16 of at least 32.")
        if not self.dataset and not self.scenes:
            raise ConfigError("There is nothing to train on: set dataset, or scenes to a number of procedural worlds.")
        if self.stage == "base" and not any(value for name, value in self.weights.items() if name != "gan"):
            raise ConfigError("All weights of the base stage's losses are 0: set one, such as lambda_l1.")
        if self.lambda_pose and not self.scenes:
            raise ConfigError("lambda_pose needs cameras that are known: set scenes to a number of procedural worlds, or lambda_pose to 0.")
        if self.beta1 != -1 and not 0 <= self.beta1 < 1:
            raise ConfigError(f"beta1 is {self.beta1}: use a number from 0 to below 1, or -1 for the published one.")
        for name, published in (("lr", 2e-4), ("d_lr", 4e-4), ("lr_adj", 1)):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: use a positive number ({published} in the published system).")
        if self.clean_limit and not self.resume:
            raise ConfigError("clean_limit needs a trained base model that rebuilds the videos: set resume, or clean_limit to 0.")
        if self.batch % processes():
            raise ConfigError(f"bsize is {self.batch}, for {processes()} processes: use a multiple of their number.")
        shortest = {"base": 2, "flow": 3}[self.stage]
        if self.clip_length and self.clip_length < shortest:
            raise ConfigError(f"clip_length is {self.clip_length}: the {self.stage} stage needs clips of at least {shortest} frames.")

    @property
    def batch(self) -> int:
        """`bsize`, the stage's own default resolved."""
        return self.bsize or {"base": 4, "flow": 1}[self.stage]

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the base stage's losses by their names."""
        names = {"l1": self.lambda_l1, "perceptual": self.lambda_perc, "consistency": self.lambda_voxel}
        return names | {"gan": self.lambda_gan, "pose": self.lambda_pose}

    @property
    def adam_beta1(self) -> float:
        """`beta1`, the published one resolved."""
        return {"base": 0.0, "flow": 0.9}[self.stage] if self.beta1 == -1 else self.beta1

    @property
    def changes(self) -> dict:
        """Fields of the model's config that are asked for in the place of the checkpoint's or the preset's."""
        asked = {name: getattr(self, name) for name in ("padding_mode", "scale_rotate", "scale_translate")}
        return {name: value for name, value in asked.items() if value}

    def open_data(self) -> Dataset | None:
        """The prepared data set, under the run's semantics (rows 8 and 10); None where worlds alone are trained on."""
        how = Repairs.parse(self.semantics).preparation
        return open_dataset(self.dataset, self.input_size, self.data_root, **how) if self.dataset else None

    @property
    def frames(self) -> int:
        """Frames a clip, the stage's own default resolved."""
        return self.clip_length or {"base": BaseStage, "flow": FlowStage}[self.stage].clip_length
