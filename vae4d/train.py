"""Training of both stages, on Hugging Face Accelerate: the same code on CPU and GPU, in one process or many.

A run lives in one folder (`runlog`). Everything random in step s comes from a generator seeded by (seed, s), so that an
interrupted run, started again by the same call, goes on with the same losses as if it had never stopped. `bsize` counts the clips of
all processes together (`parallel`), so a run may go on with another number of them.
"""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from .assets import fetch_resnet50
from .checkpoint import build_model, load_model, locate, read_checkpoint
from .clips.cleaning import clean
from .clips.datasets import Dataset as VideoDataset
from .clips.datasets import open_dataset
from .clips.windows import Batches, ClipWindows
from .config import PRESETS, choice
from .discriminator import Discriminator
from .errors import AssetError, ConfigError, MissingInputError
from .files import sha256, write_text
from .loop import Loop, TrainResult
from .model import VideoAutoencoder4D
from .parallel import processes, rank, synchronise_batch_norm
from .perceptual import PerceptualLoss
from .repairs import Repairs
from .runlog import NEWEST, RunLog, restore
from .scenes.clips import MixedWindows, SceneSet, SceneWindows, cached
from .scenes.generate import WorldOptions
from .scenes.textures import load_textures
from .stages import BaseStage, FlowStage, Stage

LEAST_MOTION = 0.25  # pixels, the smallest motion of a camera or object that moves


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
    bsize: int = 1  # clips a batch, of all processes together
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
        choice("preset", self.preset, PRESETS)
        choice("mixed_precision", self.mixed_precision, ("no", "fp16", "bf16"))
        choice("device", self.device, ("auto", "cpu"))
        lowest = {"interval": 1, "epochs": 1, "bsize": 1, "valid_freq": 1, "valid_clips": 1, "save_freq": 1}
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
        if self.bsize % processes():
            raise ConfigError(f"bsize is {self.bsize}, for {processes()} processes: use a multiple of their number.")
        shortest = {"base": 2, "flow": 3}[self.stage]
        if self.clip_length and self.clip_length < shortest:
            raise ConfigError(f"clip_length is {self.clip_length}: the {self.stage} stage needs clips of at least {shortest} frames.")

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

    def open_data(self) -> VideoDataset | None:
        """The prepared data set, under the run's semantics (rows 8 and 10); None where worlds alone are trained on."""
        repairs = Repairs.parse(self.semantics)
        how = {"squash": not repairs.centre_crop, "own_splits": repairs.own_splits}
        return open_dataset(self.dataset, self.input_size, self.data_root, **how) if self.dataset else None

    @property
    def frames(self) -> int:
        """Frames a clip, the stage's own default resolved."""
        return self.clip_length or {"base": BaseStage, "flow": FlowStage}[self.stage].clip_length


def leave_interrupts_to_the_loop(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: a loader that died of it would break the step that is being finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def new_model(config: TrainConfig, progress: Callable[[str], None]) -> VideoAutoencoder4D:
    """A fresh model; a ResNet-50 trunk starts from its ImageNet weights where they can be had, and it is said where not."""
    model = build_model(config.preset, config.seed, **config.changes)
    begins = not (Path(config.savepath) / NEWEST).is_file()  # a run that goes on has its own weights
    if begins and (model.config.resnet_layers, model.config.resnet_width) == ((3, 4, 6, 3), 64):
        try:
            model.encoder_3d.load_imagenet(fetch_resnet50(progress))
        except AssetError as error:
            progress(f"encoder_3d starts from random weights. {error}")
    return model


def new_critic(config: TrainConfig) -> Discriminator:
    """The discriminator of a run; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Discriminator(config.input_size, config.preset)


def build_stage(config: TrainConfig, progress: Callable[[str], None]) -> Stage:
    """The model (new, or from `resume`), its losses and the stage around them, all on the CPU.

    Raises:
        MissingInputError: the flow stage without a base checkpoint, or no such checkpoint.
        CheckpointError: a checkpoint of another preset.
        AssetError: no VGG-16 weights.
    """
    if config.resume:
        model = load_model(config.resume, config.preset, **config.changes)
    elif config.stage == "flow":
        raise MissingInputError("The flow stage starts from a trained base model: run 02_train_autoencoder, or set resume to a checkpoint.")
    else:
        model = new_model(config, progress)
    perceptual = PerceptualLoss(Path(config.data_root) / "weights", config.perceptual_size or None)
    if config.stage == "base":
        # Without pictures there is nothing that a critic could judge.
        pictures = config.lambda_gan and (config.lambda_l1 or config.lambda_perc or config.lambda_voxel)
        critic = new_critic(config) if pictures else None
        weights = config.weights if pictures else config.weights | {"gan": 0.0}
        stage: Stage = BaseStage(model, perceptual, critic, weights, config.targets or None, config.reinit_k)
    else:
        substeps = (config.reconstruction_substeps, config.interpolation_substeps)
        limits = (config.pairs or None, config.triplets or None)
        stage = FlowStage(model, perceptual, *limits, Repairs.parse(config.semantics), *substeps, chunk=config.chunk or None)
    model.requires_grad_(False)
    for name in stage.modules_trained:
        model.get_submodule(name).requires_grad_(True)
    return stage


def scene_set(config: TrainConfig, count: int, split: str, seed: int) -> SceneSet:
    """Procedural worlds with the photographs of a split; what they show depends on `seed`."""
    options: dict = {}
    for name, still in (("camera_motion", "still_cameras"), ("object_motion", "still_worlds")):
        most = getattr(config, name)
        options |= {name: (min(LEAST_MOTION, most), most)} if most else {still: 1.0}
    return SceneSet(count, config.frames, config.input_size, WorldOptions(**options), load_textures(config.textures or None, split), seed)


def cleaned(config: TrainConfig, dataset: VideoDataset, progress: Callable[[str], None]) -> tuple[VideoDataset, str]:
    """The data set without the videos that the model of `resume` rebuilds badly, and the errors of all as CSV."""
    model = load_model(config.resume, config.preset, **config.changes)
    model.to("cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu")
    found = clean(model, dataset.clips, config.clean_limit, Repairs.parse(config.semantics).own_splits)
    names = ", ".join(sorted({clip.name for clip in found.removed})[:5])
    progress(f"cleaning: {len(found.removed)} of {len(dataset.clips)} clips left out{': ' if names else ''}{names}")
    return dataclasses.replace(dataset, clips=found.kept), found.table.to_csv(index=False, lineterminator="\n")


def training_windows(config: TrainConfig, dataset: VideoDataset | None, progress: Callable[[str], None]) -> Dataset:
    """Windows of the videos to train on, of procedural worlds, or both mixed."""
    from_video = ClipWindows(dataset.split("train"), config.frames, config.interval) if dataset else None
    if not config.scenes:
        return from_video
    scenes = scene_set(config, config.scenes, "train", 2 * config.seed)
    cache = cached(scenes, Path(config.data_root) / "cache", progress=progress) if config.scene_cache else None
    worlds = SceneWindows(scenes, cache)
    return worlds if from_video is None else MixedWindows(worlds, from_video, config.scene_share)


def validation_windows(config: TrainConfig, dataset: VideoDataset | None) -> list[dict]:
    """`valid_clips` windows of the videos to validate with, and as many worlds of other photographs and seeds than those trained on.

    In the base stage a window of video has `frame_limit` frames, or as many as the longest shot of the clips.
    """
    found: list[dict] = []
    if videos := dataset.split("validate") if dataset else []:
        longest = max((len(shot) - 1) // config.interval + 1 for clip in videos for shot in clip.shots())
        length = max(config.frames, min(config.frame_limit, longest)) if config.stage == "base" else config.frames
        found += list(ClipWindows(videos, length, config.interval, limit=config.valid_clips))
    if config.scenes:
        found += list(SceneWindows(scene_set(config, config.valid_clips, "test", 2 * config.seed + 1)))
    return found


def train(config: TrainConfig, progress: Callable[[str], None] = print) -> TrainResult:
    """Train one stage, or go on with the run in `config.savepath`; a finished run returns at once.

    Raises:
        ConfigError, MissingInputError, CheckpointError, ClipError: an input is wrong; nothing is written then.
        TrainingError: a loss or gradient that is not finite; the batch is saved and the last good checkpoint intact.
        KeyboardInterrupt: interrupted; the finished steps are saved and the same call goes on from there.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.mixed_precision == "fp16" and on_cpu:
        raise ConfigError("mixed_precision is 'fp16', which needs a GPU: use 'bf16' or 'no' on a CPU.")
    dataset, table = config.open_data(), ""
    if config.clean_limit and dataset:
        dataset, table = cleaned(config, dataset, progress)
    windows, held_out = training_windows(config, dataset, progress), validation_windows(config, dataset)
    stage = build_stage(config, progress)
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may train twice with different precision
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=config.mixed_precision)

    identity = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.free}
    before = read_checkpoint(config.resume)[0]["extra"].get("data", []) if config.resume else []
    seen = {clip.sha256 for split in ("train", "validate") for clip in (dataset.split(split) if dataset else [])}
    identity["data"] = sorted(seen | set(before))  # all that the weights have seen
    identity["textures"] = load_textures(config.textures or None).sha256 if config.scenes else ""
    identity["resume"] = sha256(locate(config.resume)) if config.resume else ""  # the weights, wherever the file lies
    log = RunLog(Path(config.savepath), identity, config.restart)
    if table and not rank():
        write_text(log.folder / "cleaning.csv", table)
    adams = {"model": torch.optim.Adam(trained(stage.model), lr=config.lr, betas=(config.adam_beta1, 0.999))}
    if stage.critic is not None:
        adams["critic"] = torch.optim.Adam(stage.critic.parameters(), lr=config.d_lr, betas=(0.0, 0.999))
    restore(stage, adams, log.tensors)
    synchronise_batch_norm(stage)
    stage.to(accelerator.device)
    adams["model"] = accelerator.prepare(adams["model"])  # which knows the scaler of fp16
    if accelerator.scaler is not None and "scaler" in log.state:
        accelerator.scaler.load_state_dict(log.state["scaler"])
    each = Batches.per_epoch(len(windows), config.bsize)
    total = min(config.epochs * each, config.max_steps or config.epochs * each)
    loader = DataLoader(
        windows,
        batch_sampler=Batches(len(windows), config.bsize, config.seed, log.step, max(total, log.step)),
        num_workers=config.workers,
        pin_memory=accelerator.device.type == "cuda",
        worker_init_fn=leave_interrupts_to_the_loop,
    )
    torch.set_flush_denormal(True)  # importance masks make denormal gradients, which a CPU computes six times slower
    try:
        return Loop(config, stage, adams, accelerator, log, total, progress).run(loader, held_out)
    finally:
        torch.set_flush_denormal(False)
        log.close()


def trained(model: VideoAutoencoder4D) -> list[torch.nn.Parameter]:
    """The parameters that the stage changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
